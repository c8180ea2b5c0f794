//! Decodes blocks: one function per format, plain loops with the products and sums of `dequantize_row_*` in
//! `ggml-quants.c`, in the same order.

use super::half::{bf16_to_f32, f16_to_f32};
use super::symmetric::IQ4_LEVELS;
use crate::dtype::Dtype;

#[inline(always)]
fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// `f` of each of 32 codes of four bits in 16 bytes; a byte holds values `j` and `j + 16`.
#[inline(always)]
fn nibbles(bytes: &[u8], out: &mut [f32], f: impl Fn(usize, u8) -> f32) {
    let (low, high) = out.split_at_mut(16);
    for (j, ((low, high), &byte)) in low.iter_mut().zip(high).zip(bytes).enumerate() {
        *low = f(j, byte & 15);
        *high = f(j + 16, byte >> 4);
    }
}

/// The fifth bit of value `j`, at its place in the code.
#[inline(always)]
fn fifth(bits: u32, j: usize) -> u8 {
    ((bits >> j & 1) << 4) as u8
}

#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[inline(always)]
fn q4_0(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    nibbles(&b[2..], out, |_, code| f32::from(code as i8 - 8) * d);
}

#[inline(always)]
fn q4_1(b: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    nibbles(&b[4..], out, |_, code| f32::from(code) * d + m);
}

#[inline(always)]
fn q5_0(b: &[u8; 22], out: &mut [f32; 32]) {
    let (d, bits) = (half(b, 0), word(b, 2));
    nibbles(&b[6..], out, |j, code| {
        f32::from((code | fifth(bits, j)) as i8 - 16) * d
    });
}

#[inline(always)]
fn q5_1(b: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m, bits) = (half(b, 0), half(b, 2), word(b, 4));
    nibbles(&b[8..], out, |j, code| {
        f32::from(code | fifth(bits, j)) * d + m
    });
}

#[inline(always)]
fn q8_0(b: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (out, &code) in out.iter_mut().zip(&b[2..]) {
        *out = f32::from(code as i8) * d;
    }
}

#[inline(always)]
fn level(code: u8) -> f32 {
    f32::from(IQ4_LEVELS[usize::from(code & 15)])
}

#[inline(always)]
fn iq4_nl(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    nibbles(&b[2..], out, |_, code| d * level(code));
}

#[inline(always)]
fn iq4_xs(b: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(b, 0);
    let high = u16::from_le_bytes([b[2], b[3]]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32;
        let dl = d * f32::from(scale);
        nibbles(&b[8 + 16 * j..], out, |_, code| dl * level(code));
    }
}

/// Two bits of weights `16 * j..16 * j + 16` as `pairs_128` packs them.
#[inline(always)]
fn pairs(bytes: &[u8], j: usize) -> [u8; 16] {
    let at = j / 8 * 32 + j % 2 * 16;
    let shift = j % 8 / 2 * 2;
    std::array::from_fn(|k| bytes[at + k] >> shift & 3)
}

#[inline(always)]
fn q2_k(b: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half(b, 80), half(b, 82));
    for (j, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (dl, ml) = (d * f32::from(b[j] & 15), dmin * f32::from(b[j] >> 4));
        for (out, code) in out.iter_mut().zip(pairs(&b[16..80], j)) {
            *out = dl * f32::from(code) - ml;
        }
    }
}

#[inline(always)]
fn q3_k(b: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(b, 108);
    for (j, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = b[96 + j % 8] >> (j / 8 * 4) & 15;
        let high = b[104 + j % 4] >> (j / 4 * 2) & 3;
        let dl = d * f32::from((low | high << 4) as i8 - 32);
        let third = &b[j % 2 * 16..];
        let codes = pairs(&b[32..96], j).into_iter().zip(third);
        for (out, (code, third)) in out.iter_mut().zip(codes) {
            *out = dl * f32::from((code | (third >> (j / 2) & 1) << 2) as i8 - 4);
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

/// The scale of sub-block `j`, and its minimum, which is subtracted.
#[inline(always)]
fn line(b: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = scale_min(&b[4..16], j);
    (half(b, 0) * scale, half(b, 2) * min)
}

#[inline(always)]
fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    for (j, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((dl, ml), (dh, mh)) = (line(b, 2 * j), line(b, 2 * j + 1));
        let codes = &b[16 + 32 * j..];
        for ((low, high), &code) in low.iter_mut().zip(high).zip(codes) {
            *low = dl * f32::from(code & 15) - ml;
            *high = dh * f32::from(code >> 4) - mh;
        }
    }
}

#[inline(always)]
fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    for (j, out) in out.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let (low, high) = out.split_at_mut(32);
        let ((dl, ml), (dh, mh)) = (line(b, 2 * j), line(b, 2 * j + 1));
        let codes = b[48 + 32 * j..].iter().zip(&b[16..48]);
        for ((low, high), (&code, &fifth)) in low.iter_mut().zip(high).zip(codes) {
            let fifth = fifth >> (2 * j);
            *low = dl * f32::from((code & 15) | (fifth & 1) << 4) - ml;
            *high = dh * f32::from((code >> 4) | (fifth >> 1 & 1) << 4) - mh;
        }
    }
}

#[inline(always)]
fn q6_k(b: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(b, 208);
    for (n, out) in out.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        let (low, high) = (&b[64 * n..][..64], &b[128 + 32 * n..][..32]);
        let scale = |j: usize| d * f32::from(b[192 + 8 * n + j] as i8);
        let value =
            |dl: f32, low: u8, high: u8| dl * f32::from((low & 15 | (high & 3) << 4) as i8 - 32);
        for j in 0..2 {
            let scales = [scale(j), scale(j + 2), scale(j + 4), scale(j + 6)];
            for l in 16 * j..16 * j + 16 {
                out[l] = value(scales[0], low[l], high[l]);
                out[l + 32] = value(scales[1], low[l + 32], high[l] >> 2);
                out[l + 64] = value(scales[2], low[l] >> 4, high[l] >> 4);
                out[l + 96] = value(scales[3], low[l + 32] >> 4, high[l] >> 6);
            }
        }
    }
}

/// Decodes checked rows. Inlined into functions that are compiled for different instructions; the operations used here
/// round the same with all of them.
#[inline(always)]
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => blocks(bytes, out, |b, out: &mut [f32; 1]| {
            out[0] = f32::from_le_bytes(*b)
        }),
        Dtype::F16 => blocks(bytes, out, |b, out: &mut [f32; 1]| {
            out[0] = f16_to_f32(u16::from_le_bytes(*b));
        }),
        Dtype::BF16 => blocks(bytes, out, |b, out: &mut [f32; 1]| {
            out[0] = bf16_to_f32(u16::from_le_bytes(*b));
        }),
        Dtype::Q4_0 => blocks(bytes, out, q4_0),
        Dtype::Q4_1 => blocks(bytes, out, q4_1),
        Dtype::Q5_0 => blocks(bytes, out, q5_0),
        Dtype::Q5_1 => blocks(bytes, out, q5_1),
        Dtype::Q8_0 => blocks(bytes, out, q8_0),
        Dtype::Q2_K => blocks(bytes, out, q2_k),
        Dtype::Q3_K => blocks(bytes, out, q3_k),
        Dtype::Q4_K => blocks(bytes, out, q4_k),
        Dtype::Q5_K => blocks(bytes, out, q5_k),
        Dtype::Q6_K => blocks(bytes, out, q6_k),
        Dtype::IQ4_NL => blocks(bytes, out, iq4_nl),
        Dtype::IQ4_XS => blocks(bytes, out, iq4_xs),
        // `check` lets no other format through.
        _ => {}
    }
}

#[inline(always)]
fn blocks<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}
