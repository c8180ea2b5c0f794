//! Encoded bytes in, values out: one function a format, plain loops, as `dequantize_row_*` of
//! `ggml-quants.c` computes them (the same products and sums in the same order).

use super::half::{bf16_to_f32, f16_to_f32};
use super::symmetric::IQ4_LEVELS;
use super::{BlockError, check};
use crate::dtype::Dtype;

fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The codes of 32 weights from 16 bytes: value `j` beside value `j + 16`.
fn nibble(bytes: &[u8], j: usize) -> u8 {
    if j < 16 {
        bytes[j] & 15
    } else {
        bytes[j - 16] >> 4
    }
}

fn fifth_bit(bytes: &[u8], j: usize) -> u8 {
    (bytes[j / 8] >> (j % 8) & 1) << 4
}

pub(super) fn q4_0(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (j, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&b[2..], j) as i8 - 8) * d;
    }
}

pub(super) fn q4_1(b: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (j, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&b[4..], j)) * d + m;
    }
}

pub(super) fn q5_0(b: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (j, out) in out.iter_mut().enumerate() {
        *out = f32::from((nibble(&b[6..], j) | fifth_bit(&b[2..6], j)) as i8 - 16) * d;
    }
}

pub(super) fn q5_1(b: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (j, out) in out.iter_mut().enumerate() {
        *out = f32::from(nibble(&b[8..], j) | fifth_bit(&b[4..8], j)) * d + m;
    }
}

pub(super) fn q8_0(b: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (out, &code) in out.iter_mut().zip(&b[2..]) {
        *out = f32::from(code as i8) * d;
    }
}

pub(super) fn iq4_nl(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (j, out) in out.iter_mut().enumerate() {
        *out = d * level(nibble(&b[2..], j));
    }
}

fn level(code: u8) -> f32 {
    f32::from(IQ4_LEVELS[usize::from(code & 15)])
}

pub(super) fn iq4_xs(b: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(b, 0);
    let high = u16::from_le_bytes([b[2], b[3]]);
    for (j, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let low = b[4 + j / 2] >> (4 * (j % 2)) & 15;
        let scale = (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32;
        let dl = d * f32::from(scale);
        for (k, out) in out.iter_mut().enumerate() {
            *out = dl * level(nibble(&b[8 + 16 * j..], k));
        }
    }
}

/// Two bits of weight `i` as `pairs_128` packs them.
fn pair(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// Low four bits of weight `i`, 64 weights in 32 bytes.
fn nibble_64(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15
}

pub(super) fn q2_k(b: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half(b, 80), half(b, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let scale = b[i / 16];
        let (dl, ml) = (d * f32::from(scale & 15), dmin * f32::from(scale >> 4));
        *out = dl * f32::from(pair(&b[16..80], i)) - ml;
    }
}

pub(super) fn q3_k(b: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(b, 108);
    for (i, out) in out.iter_mut().enumerate() {
        let j = i / 16;
        let low = b[96 + j % 8] >> (j / 8 * 4) & 15;
        let high = b[104 + j % 4] >> (j / 4 * 2) & 3;
        let scale = (low | high << 4) as i8 - 32;
        let code = pair(&b[32..96], i) | (b[i % 32] >> (i / 32) & 1) << 2;
        *out = d * f32::from(scale) * f32::from(code as i8 - 4);
    }
}

/// Scale and minimum of sub-block `j` from 12 bytes.
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

pub(super) fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_min(&b[4..16], i / 32);
        *out = d * scale * f32::from(nibble_64(&b[16..], i)) - dmin * min;
    }
}

pub(super) fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half(b, 0), half(b, 2));
    for (i, out) in out.iter_mut().enumerate() {
        let (scale, min) = scale_min(&b[4..16], i / 32);
        let code = nibble_64(&b[48..], i) | (b[16 + i % 32] >> (i / 32) & 1) << 4;
        *out = d * scale * f32::from(code) - dmin * min;
    }
}

pub(super) fn q6_k(b: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(b, 208);
    for (i, out) in out.iter_mut().enumerate() {
        let low = b[i / 128 * 64 + i % 64] >> (i % 128 / 64 * 4) & 15;
        let code = (low | pair(&b[128..192], i) << 4) as i8 - 32;
        *out = d * f32::from(b[192 + i / 16] as i8) * f32::from(code);
    }
}

/// Decodes rows of `row` values each, stored as `dtype` in `bytes`, into `out`.
///
/// # Errors
/// [`BlockError`] if there is no decoder for `dtype` or `bytes`, `row` and `out` do not fit together.
pub fn decode_rows(
    dtype: Dtype,
    bytes: &[u8],
    row: usize,
    out: &mut [f32],
) -> Result<(), BlockError> {
    check(dtype, out.len(), row, bytes.len())?;
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
        _ => return Err(BlockError::Unsupported(dtype)),
    }
    Ok(())
}

fn blocks<const B: usize, const N: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; N]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        decode(block, out);
    }
}
