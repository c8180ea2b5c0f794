//! Encoders of the 32-weight formats without importance, byte for byte as ggml's, for finite values.
//!
//! Arithmetic and order follow `quantize_row_*_ref` of `ggml-quants.c`. Where ggml would write an
//! infinite scale (which llama.cpp refuses to load), the scale is the largest finite half instead.

use super::half::{F16_OVERFLOW, f32_to_f16};

/// The largest `f32` that still rounds to a finite half.
const LARGEST_SCALE: f32 = F16_OVERFLOW.next_down();

/// Weights in a block.
pub(super) const BLOCK: usize = 32;

/// The scale limited to finite halves, and its inverse: 0 if the scale is 0 or too small to invert.
#[cfg_attr(not(debug_assertions), inline(always))]
fn scale(d: f32) -> (f32, f32) {
    let d = d.clamp(-LARGEST_SCALE, LARGEST_SCALE);
    let inverse = 1.0 / d;
    (d, if inverse.is_finite() { inverse } else { 0.0 })
}

/// Lanes that the compiler turns into vectors.
const LANES: usize = 8;

/// `f` over all values, lane by lane: only for what does not depend on the order.
#[cfg_attr(not(debug_assertions), inline(always))]
fn reduced(x: &[f32; BLOCK], first: f32, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [first; LANES];
    for eight in x.as_chunks::<LANES>().0 {
        for (lane, &value) in lanes.iter_mut().zip(eight) {
            *lane = f(*lane, value);
        }
    }
    lanes.into_iter().fold(first, f)
}

/// The value of largest magnitude, with its sign; the first of equals.
#[cfg_attr(not(debug_assertions), inline(always))]
fn extreme(x: &[f32; BLOCK]) -> f32 {
    let magnitude = reduced(x, 0.0, |a, v| if a < v.abs() { v.abs() } else { a });
    x.iter()
        .copied()
        .find(|v| v.abs() == magnitude)
        .unwrap_or(0.0)
}

/// The smallest and the largest value; a smallest of zero has the sign of the first zero.
#[cfg_attr(not(debug_assertions), inline(always))]
fn bounds(x: &[f32; BLOCK]) -> (f32, f32) {
    let low = reduced(x, f32::MAX, |a, v| if v < a { v } else { a });
    let high = reduced(x, -f32::MAX, |a, v| if v > a { v } else { a });
    match x.iter().find(|&&v| v == 0.0) {
        Some(&zero) if low == 0.0 => (zero, high),
        _ => (low, high),
    }
}

/// Codes of `nmax * 2` levels around 0, whose lowest stands for the extreme value: `Q4_0`, `Q5_0`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn symmetric(x: &[f32; BLOCK], nmax: f32) -> (u16, [u8; BLOCK]) {
    let (d, inverse) = scale(extreme(x) / -nmax);
    let top = (2.0 * nmax) as i32 - 1;
    let codes = x.map(|v| ((v * inverse + (nmax + 0.5)) as i32).clamp(0, top) as u8);
    (f32_to_f16(d), codes)
}

/// Codes from 0 to `top` between the smallest and the largest value: `Q4_1`, `Q5_1`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn affine(x: &[f32; BLOCK], top: f32) -> (u16, u16, [u8; BLOCK]) {
    let (low, high) = bounds(x);
    let low = low.clamp(-LARGEST_SCALE, LARGEST_SCALE);
    let (d, inverse) = scale((high - low) / top);
    let codes = x.map(|v| (((v - low) * inverse + 0.5) as i32).clamp(0, top as i32) as u8);
    (f32_to_f16(d), f32_to_f16(low), codes)
}

/// The low four bits of the codes; a byte holds values `j` and `j + 16`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn nibbles(codes: &[u8; BLOCK]) -> [u8; 16] {
    std::array::from_fn(|j| (codes[j] & 15) | (codes[j + 16] << 4))
}

/// The fifth bits of the codes, value `j` in bit `j`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn fifth_bits(codes: &[u8; BLOCK]) -> [u8; 4] {
    let mut bits = [0; 4];
    for (bits, codes) in bits.iter_mut().zip(codes.as_chunks::<8>().0) {
        // The product moves the lowest bit of byte `j` to bit `56 + j`.
        let fifths = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
        *bits = (fifths.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
    }
    bits
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn blocks<'a, const B: usize>(
    values: &'a [f32],
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; BLOCK], &'a mut [u8; B])> {
    values.as_chunks().0.iter().zip(out.as_chunks_mut().0)
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn q4_0(values: &[f32], out: &mut [u8]) {
    for (x, out) in blocks::<18>(values, out) {
        let (d, codes) = symmetric(x, 8.0);
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..].copy_from_slice(&nibbles(&codes));
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn q5_0(values: &[f32], out: &mut [u8]) {
    for (x, out) in blocks::<22>(values, out) {
        let (d, codes) = symmetric(x, 16.0);
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..6].copy_from_slice(&fifth_bits(&codes));
        out[6..].copy_from_slice(&nibbles(&codes));
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn q4_1(values: &[f32], out: &mut [u8]) {
    for (x, out) in blocks::<20>(values, out) {
        let (d, m, codes) = affine(x, 15.0);
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..4].copy_from_slice(&m.to_le_bytes());
        out[4..].copy_from_slice(&nibbles(&codes));
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn q5_1(values: &[f32], out: &mut [u8]) {
    for (x, out) in blocks::<24>(values, out) {
        let (d, m, codes) = affine(x, 31.0);
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..4].copy_from_slice(&m.to_le_bytes());
        out[4..8].copy_from_slice(&fifth_bits(&codes));
        out[8..].copy_from_slice(&nibbles(&codes));
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn q8_0(values: &[f32], out: &mut [u8]) {
    for (x, out) in blocks::<34>(values, out) {
        let (d, inverse) = scale(extreme(x).abs() / 127.0);
        out[..2].copy_from_slice(&f32_to_f16(d).to_le_bytes());
        for (byte, v) in out[2..].iter_mut().zip(x) {
            // Rounds ties away from zero, as C's `roundf`: the largest number below one half is added, the fraction cut.
            let v = v * inverse;
            *byte = (v + 0.5f32.next_down().copysign(v)) as i8 as u8;
        }
    }
}
