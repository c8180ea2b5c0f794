//! A block taken apart, and what its bytes are read with.

use super::half::f16_to_f32;

/// A block of `N` weights, `scale x code - minimum` each. Runs of `N / PARTS` weights share scale and minimum.
pub(super) struct Unpacked<const N: usize, const PARTS: usize> {
    pub(super) codes: [i8; N],
    pub(super) scales: [f32; PARTS],
    /// Zero in formats without any.
    pub(super) minima: [f32; PARTS],
}

#[inline(always)]
pub(super) fn half(bytes: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// `f` of each of 32 codes of four bits in 16 bytes; a byte holds values `j` and `j + 16`.
#[inline(always)]
pub(super) fn nibbles(bytes: &[u8], codes: &mut [i8], f: impl Fn(usize, u8) -> i8) {
    let (low, high) = codes.split_at_mut(16);
    for (j, ((low, high), &byte)) in low.iter_mut().zip(high).zip(bytes).enumerate() {
        *low = f(j, byte & 15);
        *high = f(j + 16, byte >> 4);
    }
}

#[inline(always)]
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Two bits of weights `16 * j..16 * j + 16` as `pairs_128` packs them.
#[inline(always)]
pub(super) fn pairs(bytes: &[u8], j: usize) -> [u8; 16] {
    let at = j / 8 * 32 + j % 2 * 16;
    let shift = j % 8 / 2 * 2;
    std::array::from_fn(|k| bytes[at + k] >> shift & 3)
}
