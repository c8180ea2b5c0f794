//! Codes of 1 to 8 bits packed into one stream of 32-bit words, lowest bits first, crossing word boundaries: the order
//! of GPTQ, MLX and compressed-tensors.

/// The code at `index` in a stream of codes of `bits` bits (1 to 8). Bits beyond the end of the stream are 0.
#[inline(always)]
pub(super) fn code(words: &[u32], index: usize, bits: u32) -> u32 {
    let position = index * bits as usize;
    in_words(
        words.get(position / 32).copied().unwrap_or(0),
        || words.get(position / 32 + 1).copied().unwrap_or(0),
        (position % 32) as u32,
        bits,
    )
}

/// The code of `bits` bits that starts at bit `shift` of `low` and may continue in `high`.
#[inline(always)]
pub(super) fn in_words(low: u32, high: impl FnOnce() -> u32, shift: u32, bits: u32) -> u32 {
    let mask = (1u32 << bits) - 1;
    if shift + bits <= 32 {
        (low >> shift) & mask
    } else {
        ((low >> shift) | (high() << (32 - shift))) & mask
    }
}

/// The values of E2M1, the four-bit float of MXFP4 and NVFP4 (OCP microscaling specification).
pub(super) const E2M1: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Three bits: codes 10 and 21 lie across words. 7 at index 10 is bits 30, 31 and 32.
    #[test]
    fn codes_cross_words() {
        let words = [3 << 30, 1 | 1 << 31, 2];
        assert_eq!(code(&words, 10, 3), 7);
        assert_eq!(code(&words, 21, 3), 0b101);
        assert_eq!(code(&words, 0, 3), 0);
        assert_eq!(code(&words, 40, 3), 0);
    }
}
