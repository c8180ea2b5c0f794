//! Takes blocks apart into small integers with scales and minima: one function per format, plain loops after
//! `dequantize_row_*` in `ggml-quants.c`.

use super::symmetric::IQ4_LEVELS;
use super::unpacked::{Unpacked, half, nibbles, pairs, word};
use super::{unpack_codebook, unpack_few};
use crate::dtype::Dtype;

/// Calls `each` with the codes, scales and minima of every block of `bytes`. Floats and formats without a decoder have
/// none.
///
/// Inlined into functions that are compiled for different instructions; the operations used here round the same with
/// all of them.
#[inline(always)]
pub(crate) fn unpack(dtype: Dtype, bytes: &[u8], each: impl FnMut(&[i8], &[f32], &[f32])) {
    match dtype {
        Dtype::Q4_0 => blocks(bytes, q4_0, each),
        Dtype::Q4_1 => blocks(bytes, q4_1, each),
        Dtype::Q5_0 => blocks(bytes, q5_0, each),
        Dtype::Q5_1 => blocks(bytes, q5_1, each),
        Dtype::Q8_0 => blocks(bytes, q8_0, each),
        Dtype::Q2_K => blocks(bytes, q2_k, each),
        Dtype::Q3_K => blocks(bytes, q3_k, each),
        Dtype::Q4_K => blocks(bytes, q4_k, each),
        Dtype::Q5_K => blocks(bytes, q5_k, each),
        Dtype::Q6_K => blocks(bytes, q6_k, each),
        Dtype::IQ4_NL => blocks(bytes, iq4_nl, each),
        Dtype::IQ4_XS => blocks(bytes, iq4_xs, each),
        Dtype::IQ2_XXS => blocks(bytes, unpack_codebook::iq2_xxs, each),
        Dtype::IQ2_XS => blocks(bytes, unpack_codebook::iq2_xs, each),
        Dtype::IQ2_S => blocks(bytes, unpack_codebook::iq2_s, each),
        Dtype::IQ3_XXS => blocks(bytes, unpack_codebook::iq3_xxs, each),
        Dtype::IQ3_S => blocks(bytes, unpack_codebook::iq3_s, each),
        Dtype::IQ1_S => blocks(bytes, unpack_codebook::iq1_s, each),
        Dtype::IQ1_M => blocks(bytes, unpack_codebook::iq1_m, each),
        Dtype::MXFP4 => blocks(bytes, unpack_few::mxfp4, each),
        Dtype::NVFP4 => blocks(bytes, unpack_few::nvfp4, each),
        Dtype::TQ1_0 => blocks(bytes, unpack_few::tq1_0, each),
        Dtype::TQ2_0 => blocks(bytes, unpack_few::tq2_0, each),
        Dtype::Q1_0 => blocks(bytes, unpack_few::q1_0, each),
        Dtype::Q2_0 => blocks(bytes, unpack_few::q2_0, each),
        _ => {}
    }
}

#[inline(always)]
fn blocks<const B: usize, const N: usize, const PARTS: usize>(
    bytes: &[u8],
    unpack: impl Fn(&[u8; B], &mut Unpacked<N, PARTS>),
    mut each: impl FnMut(&[i8], &[f32], &[f32]),
) {
    let mut unpacked = Unpacked {
        codes: [0; N],
        scales: [0.0; PARTS],
        minima: [0.0; PARTS],
    };
    for block in bytes.as_chunks().0 {
        unpack(block, &mut unpacked);
        each(&unpacked.codes, &unpacked.scales, &unpacked.minima);
    }
}

/// The fifth bit of value `j`, at its place in the code.
#[inline(always)]
fn fifth(bits: u32, j: usize) -> u8 {
    ((bits >> j & 1) << 4) as u8
}

#[inline(always)]
fn q4_0(b: &[u8; 18], out: &mut Unpacked<32, 1>) {
    out.scales[0] = half(b, 0);
    nibbles(&b[2..], &mut out.codes, |_, code| code as i8 - 8);
}

#[inline(always)]
fn q4_1(b: &[u8; 20], out: &mut Unpacked<32, 1>) {
    (out.scales[0], out.minima[0]) = (half(b, 0), -half(b, 2));
    nibbles(&b[4..], &mut out.codes, |_, code| code as i8);
}

#[inline(always)]
fn q5_0(b: &[u8; 22], out: &mut Unpacked<32, 1>) {
    let bits = word(b, 2);
    out.scales[0] = half(b, 0);
    nibbles(&b[6..], &mut out.codes, |j, code| {
        (code | fifth(bits, j)) as i8 - 16
    });
}

#[inline(always)]
fn q5_1(b: &[u8; 24], out: &mut Unpacked<32, 1>) {
    let bits = word(b, 4);
    (out.scales[0], out.minima[0]) = (half(b, 0), -half(b, 2));
    nibbles(&b[8..], &mut out.codes, |j, code| {
        (code | fifth(bits, j)) as i8
    });
}

#[inline(always)]
fn q8_0(b: &[u8; 34], out: &mut Unpacked<32, 1>) {
    out.scales[0] = half(b, 0);
    for (out, &code) in out.codes.iter_mut().zip(&b[2..]) {
        *out = code as i8;
    }
}

#[inline(always)]
fn level(code: u8) -> i8 {
    IQ4_LEVELS[usize::from(code & 15)]
}

#[inline(always)]
fn iq4_nl(b: &[u8; 18], out: &mut Unpacked<32, 1>) {
    out.scales[0] = half(b, 0);
    nibbles(&b[2..], &mut out.codes, |_, code| level(code));
}

#[inline(always)]
fn iq4_xs(b: &[u8; 136], out: &mut Unpacked<256, 8>) {
    let d = half(b, 0);
    let high = u16::from_le_bytes([b[2], b[3]]);
    for (j, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32;
        out.scales[j] = d * f32::from(scale);
        nibbles(&b[8 + 16 * j..], codes, |_, code| level(code));
    }
}

#[inline(always)]
fn q2_k(b: &[u8; 84], out: &mut Unpacked<256, 16>) {
    let (d, dmin) = (half(b, 80), half(b, 82));
    for (j, codes) in out.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        out.scales[j] = d * f32::from(b[j] & 15);
        out.minima[j] = dmin * f32::from(b[j] >> 4);
        *codes = pairs(&b[16..80], j).map(|code| code as i8);
    }
}

#[inline(always)]
fn q3_k(b: &[u8; 110], out: &mut Unpacked<256, 16>) {
    let d = half(b, 108);
    for (j, codes) in out.codes.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = b[96 + j % 8] >> (j / 8 * 4) & 15;
        let high = b[104 + j % 4] >> (j / 4 * 2) & 3;
        out.scales[j] = d * f32::from((low | high << 4) as i8 - 32);
        let third = &b[j % 2 * 16..];
        let pairs = pairs(&b[32..96], j).into_iter().zip(third);
        for (out, (code, third)) in codes.iter_mut().zip(pairs) {
            *out = (code | (third >> (j / 2) & 1) << 2) as i8 - 4;
        }
    }
}

/// Scale and minimum of sub-block `j` from 12 bytes.
#[inline(always)]
fn scale_min(b: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (b[j] & 63, b[j + 4] & 63)
    } else {
        (
            (b[j + 4] & 15) | b[j - 4] >> 6 << 4,
            (b[j + 4] >> 4) | b[j] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(min))
}

/// The scales and minima of `Q4_K` and `Q5_K`.
#[inline(always)]
fn lines(b: &[u8], out: &mut Unpacked<256, 8>) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for j in 0..8 {
        let (scale, min) = scale_min(&b[4..16], j);
        (out.scales[j], out.minima[j]) = (d * scale, dmin * min);
    }
}

#[inline(always)]
fn q4_k(b: &[u8; 144], out: &mut Unpacked<256, 8>) {
    lines(b, out);
    for (j, codes) in out.codes.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let (low, high) = codes.split_at_mut(32);
        for ((low, high), &code) in low.iter_mut().zip(high).zip(&b[16 + 32 * j..]) {
            *low = (code & 15) as i8;
            *high = (code >> 4) as i8;
        }
    }
}

#[inline(always)]
fn q5_k(b: &[u8; 176], out: &mut Unpacked<256, 8>) {
    lines(b, out);
    for (j, codes) in out.codes.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let (low, high) = codes.split_at_mut(32);
        let bytes = b[48 + 32 * j..].iter().zip(&b[16..48]);
        for ((low, high), (&code, &fifth)) in low.iter_mut().zip(high).zip(bytes) {
            let fifth = fifth >> (2 * j);
            *low = ((code & 15) | (fifth & 1) << 4) as i8;
            *high = ((code >> 4) | (fifth >> 1 & 1) << 4) as i8;
        }
    }
}

#[inline(always)]
fn q6_k(b: &[u8; 210], out: &mut Unpacked<256, 16>) {
    let d = half(b, 208);
    for (scale, &stored) in out.scales.iter_mut().zip(&b[192..208]) {
        *scale = d * f32::from(stored as i8);
    }
    let code = |low: u8, high: u8| (low & 15 | (high & 3) << 4) as i8 - 32;
    for (n, codes) in out.codes.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&b[64 * n..][..64], &b[128 + 32 * n..][..32]);
        for l in 0..32 {
            codes[l] = code(low[l], high[l]);
            codes[l + 32] = code(low[l + 32], high[l] >> 2);
            codes[l + 64] = code(low[l] >> 4, high[l] >> 4);
            codes[l + 96] = code(low[l + 32] >> 4, high[l] >> 6);
        }
    }
}
