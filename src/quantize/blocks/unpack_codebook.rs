//! Takes blocks of `IQ1_*`, `IQ2_*` and `IQ3_*` apart, as `super::unpack` does those of other formats.

use super::codebook::grids;
use super::half::f16_to_f32;
use super::unpacked::{Unpacked, half, word};

/// Eight signs from the seven that are stored: their number is even.
#[inline(always)]
fn even(seven: u32) -> u8 {
    let seven = seven as u8 & 127;
    seven | (seven.count_ones() as u8 & 1) << 7
}

/// Levels with signs.
#[inline(always)]
fn signed(out: &mut [i8], levels: &[i8], signs: u8) {
    for (bit, (out, &level)) in out.iter_mut().zip(levels).enumerate() {
        *out = if signs >> bit & 1 == 1 { -level } else { level };
    }
}

/// The number that two scales share a byte of, as `IQ2_*` and `IQ3_XXS` have it: half more than it is.
#[inline(always)]
fn raised(d: f32, scale: u8, unit: f32) -> f32 {
    d * (0.5 + f32::from(scale & 15)) * unit
}

#[inline(always)]
pub(super) fn iq2_xxs(b: &[u8; 66], out: &mut Unpacked<256, 8>) {
    let d = half(b, 0);
    for (j, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let at = 2 + 8 * j;
        let signs = word(b, at + 4);
        out.scales[j] = raised(d, (signs >> 28) as u8, 0.25);
        for (l, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let vector = &grids::IQ2_XXS.vectors[usize::from(b[at + l])];
            signed(codes, vector, even(signs >> (7 * l)));
        }
    }
}

/// The sixteen scales of blocks of `IQ2_XS` and `IQ2_S`.
#[inline(always)]
fn sixteen(d: f32, packed: &[u8], scales: &mut [f32; 16]) {
    for (pair, &byte) in scales.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
        *pair = [raised(d, byte, 0.25), raised(d, byte >> 4, 0.25)];
    }
}

#[inline(always)]
pub(super) fn iq2_xs(b: &[u8; 74], out: &mut Unpacked<256, 16>) {
    sixteen(half(b, 0), &b[66..], &mut out.scales);
    let words = b[2..66].as_chunks::<2>().0;
    for (codes, word) in out.codes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        let word = u16::from_le_bytes(*word);
        let vector = &grids::IQ2_XS.vectors[usize::from(word & 511)];
        signed(codes, vector, even(u32::from(word >> 9)));
    }
}

#[inline(always)]
pub(super) fn iq2_s(b: &[u8; 82], out: &mut Unpacked<256, 16>) {
    sixteen(half(b, 0), &b[74..], &mut out.scales);
    for (l, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(b[66 + l / 4] >> (2 * (l % 4)) & 3);
        let vector = &grids::IQ2_S.vectors[usize::from(b[2 + l]) | high << 8];
        signed(codes, vector, b[34 + l]);
    }
}

#[inline(always)]
pub(super) fn iq3_xxs(b: &[u8; 98], out: &mut Unpacked<256, 8>) {
    let d = half(b, 0);
    for (j, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let signs = word(b, 66 + 4 * j);
        out.scales[j] = raised(d, (signs >> 28) as u8, 0.5);
        for (l, codes) in codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            let vector = &grids::IQ3_XXS.vectors[usize::from(b[2 + 8 * j + l])];
            signed(codes, vector, even(signs >> (7 * (l / 2))) >> (4 * (l % 2)));
        }
    }
}

#[inline(always)]
pub(super) fn iq3_s(b: &[u8; 110], out: &mut Unpacked<256, 8>) {
    let d = half(b, 0);
    for (j, scale) in out.scales.iter_mut().enumerate() {
        let stored = b[106 + j / 2] >> (4 * (j % 2)) & 15;
        *scale = d * f32::from(1 + 2 * stored);
    }
    for (l, codes) in out.codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let high = usize::from(b[66 + l / 8] >> (l % 8) & 1);
        let vector = &grids::IQ3_S.vectors[usize::from(b[2 + l]) | high << 8];
        signed(codes, vector, b[74 + l / 2] >> (4 * (l % 2)));
    }
}

/// Vectors of -1, 0 and 1, shifted by an eighth up or down: in eighths.
#[inline(always)]
fn shifted(codes: &mut [i8], vector: usize, down: bool) {
    let shift = if down { -1 } else { 1 };
    for (code, &level) in codes.iter_mut().zip(&grids::IQ1.vectors[vector]) {
        *code = 8 * level + shift;
    }
}

#[inline(always)]
pub(super) fn iq1_s(b: &[u8; 50], out: &mut Unpacked<256, 8>) {
    let d = half(b, 0);
    for (j, codes) in out.codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let high = u16::from_le_bytes([b[34 + 2 * j], b[35 + 2 * j]]);
        out.scales[j] = d * f32::from(2 * (high >> 12 & 7) + 1) * 0.125;
        for (l, codes) in codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let vector = usize::from(b[2 + 4 * j + l]) | usize::from(high >> (3 * l) & 7) << 8;
            shifted(codes, vector, high >> 15 == 1);
        }
    }
}

#[inline(always)]
pub(super) fn iq1_m(b: &[u8; 56], out: &mut Unpacked<256, 16>) {
    let scales: [u16; 4] =
        std::array::from_fn(|j| u16::from_le_bytes([b[48 + 2 * j], b[49 + 2 * j]]));
    // The upper four bits of each are the scale of them all.
    let bits = (0..4).fold(0, |bits, j| bits | scales[j] >> 12 << (4 * j));
    let d = f16_to_f32(bits);
    for (j, scale) in out.scales.iter_mut().enumerate() {
        let stored = scales[j / 4] >> (3 * (j % 4)) & 7;
        *scale = d * f32::from(2 * stored + 1) * 0.125;
    }
    for (l, codes) in out.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = b[32 + l / 2] >> (4 * (l % 2)) & 15;
        let vector = usize::from(b[l]) | usize::from(high & 7) << 8;
        shifted(codes, vector, high & 8 != 0);
    }
}
