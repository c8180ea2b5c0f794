//! Reading memory into registers, and adding up what is in them.
//!
//! Safety: memory is read from references to arrays of exactly the size that is read.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::blocks;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load<T>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_words(words: &[i16; 16]) -> __m256i {
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_eight_words(words: &[i16; 8]) -> __m128i {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load_floats(floats: &[f32; 8]) -> __m256 {
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// How far ahead of the weights at hand memory is asked for those of the rows to come. The processor's
/// own reading ahead ends with each page.
const AHEAD: usize = 4096;

/// Asks for what lies [`AHEAD`] of `block`.
#[inline]
#[target_feature(enable = "avx2")]
#[allow(unused_unsafe)] // Older compilers call the instruction unsafe.
pub(super) fn prefetch(block: &[u8]) {
    for line in (0..block.len()).step_by(64) {
        let address = block.as_ptr().wrapping_add(AHEAD + line);
        // SAFETY: a prefetch reads nothing that the program sees, and any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*blocks::at(bytes, at));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn total(sums: __m256) -> f32 {
    total_half(_mm_add_ps(
        _mm256_castps256_ps128(sums),
        _mm256_extractf128_ps::<1>(sums),
    ))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn total_half(sums: __m128) -> f32 {
    let pairs = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// Sums of four products each of unsigned and signed bytes. The pairs must not pass 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn dot4(unsigned: __m256i, signed: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_maddubs_epi16(unsigned, signed))
}

/// 32 weights of four bits, the low ones first.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let low = load_half(bytes);
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// 32 levels of `IQ4_NL`, the low ones first.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn levels(bytes: &[u8; 16]) -> __m256i {
    const BYTES: [u8; 16] = blocks::iq4_levels();
    let table = _mm256_broadcastsi128_si256(load_half(&BYTES));
    _mm256_shuffle_epi8(table, nibbles(bytes))
}
