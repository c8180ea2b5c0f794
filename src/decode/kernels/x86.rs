//! The kernels with AVX2, FMA and F16C; the only unsafe code of the decoder.
//!
//! Safety: every function that is compiled for these instructions is called from the functions at
//! the top alone, which ask the processor first ([`available`]). Memory is read through [`load`]
//! and its like, from references to arrays of exactly the size that is read.
//!
//! The layout of blocks is ggml's (`ggml-common.h`); each kernel says what it sums.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use half::f16;

use super::{Block32, Block256, GROUP, Input, Stored};
use crate::dtype::Dtype;

/// Whether the processor has what the kernels need.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

/// See [`super::products`]; false where there is no kernel.
pub(super) fn products(rows: Stored<'_>, input: &Input<'_>, out: &mut [f32]) -> bool {
    if !available() {
        return false;
    }
    let tokens = input.tokens();
    let whole = tokens - tokens % GROUP;
    let groups = (0..whole).step_by(GROUP).all(|first| {
        // SAFETY: the processor has the instructions.
        unsafe { group::<GROUP>(rows, input, first, out) }
    });
    groups
        && (whole..tokens).all(|token| {
            // SAFETY: the processor has the instructions.
            unsafe { group::<1>(rows, input, token, out) }
        })
}

/// See [`super::dots`].
pub(super) fn dots(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { dots_avx2(x, rows, factor, out) };
        return true;
    }
    false
}

/// See [`super::add_rows`].
pub(super) fn add_rows(out: &mut [f32], factors: &[f32], rows: &[f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { add_rows_avx2(out, factors, rows) };
        return true;
    }
    false
}

/// See [`super::widen`].
pub(super) fn widen(halves: &[f16], out: &mut [f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { widen_avx2(halves, out) };
        return true;
    }
    false
}

/// See [`super::exponentials`].
pub(super) fn exponentials(x: &mut [f32], shift: f32) -> Option<f32> {
    // SAFETY: the processor has the instructions.
    available().then(|| unsafe { exponentials_avx2(x, shift) })
}

/// See [`super::round`].
pub(super) fn round(values: &[f32], factor: f32, out: &mut [i8]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { round_avx2(values, factor, out) };
        return true;
    }
    false
}

/// Four rows at a time, so that `x` is read once for them.
#[target_feature(enable = "avx2,fma,f16c")]
fn dots_avx2(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) {
    let width = x.len().max(1);
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (four_rows, rest_rows) = rows.split_at((4 * width * fours.len()).min(rows.len()));
    for (out, rows) in fours.iter_mut().zip(four_rows.chunks_exact(4 * width)) {
        let (first, second) = rows.split_at(2 * width);
        let ((a, b), (c, d)) = (first.split_at(width), second.split_at(width));
        *out = against_rows(x, [a, b, c, d]).map(|sum| sum * factor);
    }
    for (out, row) in rest.iter_mut().zip(rest_rows.chunks_exact(width)) {
        let [sum] = against_rows(x, [row]);
        *out = sum * factor;
    }
}

/// The products of `x` with rows as long.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn against_rows<const N: usize>(x: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let (pairs, rest) = x.as_chunks::<16>();
    let parts = rows.map(|row| row.as_chunks::<16>());
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for (index, x) in pairs.iter().enumerate() {
        let x = [load_floats(at(x, 0)), load_floats(at(x, 8))];
        for (sums, (pairs, _)) in sums.iter_mut().zip(&parts) {
            let y: &[f32; 16] = &pairs[index];
            sums[0] = _mm256_fmadd_ps(x[0], load_floats(at(y, 0)), sums[0]);
            sums[1] = _mm256_fmadd_ps(x[1], load_floats(at(y, 8)), sums[1]);
        }
    }
    std::array::from_fn(|n| {
        let rest: f32 = rest.iter().zip(parts[n].1).map(|(x, y)| x * y).sum();
        total(_mm256_add_ps(sums[n][0], sums[n][1])) + rest
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
fn add_rows_avx2(out: &mut [f32], factors: &[f32], rows: &[f32]) {
    super::add_rows_lanes(out, factors, rows, f32::mul_add);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn widen_avx2(halves: &[f16], out: &mut [f32]) {
    let (eights, rest) = halves.as_chunks::<8>();
    let (wide, wide_rest) = out.as_chunks_mut::<8>();
    for (halves, out) in eights.iter().zip(wide) {
        // SAFETY: 16 bytes are read from a reference to 8 halves.
        let halves = unsafe { _mm_loadu_si128(halves.as_ptr().cast()) };
        // SAFETY: 32 bytes are written to a reference to 8 floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves)) };
    }
    for (half, out) in rest.iter().zip(wide_rest) {
        *out = half.to_f32();
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn exponentials_avx2(x: &mut [f32], shift: f32) -> f32 {
    super::exponentials_lanes(x, shift)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn round_avx2(values: &[f32], factor: f32, out: &mut [i8]) {
    super::round_lanes(values, factor, out);
}

/// The products of all rows with the `T` tokens from `first` on.
#[target_feature(enable = "avx2,fma,f16c")]
fn group<const T: usize>(
    rows: Stored<'_>,
    input: &Input<'_>,
    first: usize,
    out: &mut [f32],
) -> bool {
    let tokens: [usize; T] = std::array::from_fn(|index| first + index);
    let by256 = || tokens.map(|token| input.blocks256(token));
    let by32 = || tokens.map(|token| input.blocks32(token));
    let floats = || tokens.map(|token| input.token(token));
    let place = (first, input.tokens());
    match rows.dtype {
        Dtype::Q4_K => each(rows, place, by256(), out, |row, y| q4_k::<T>(row, y)),
        Dtype::Q5_K => each(rows, place, by256(), out, |row, y| q5_k::<T>(row, y)),
        Dtype::Q6_K => each(rows, place, by256(), out, |row, y| q6_k::<T>(row, y)),
        Dtype::Q4_0 => each(rows, place, by32(), out, |row, y| q4_0::<T>(row, y)),
        Dtype::Q5_0 => each(rows, place, by32(), out, |row, y| q5_0::<T>(row, y)),
        Dtype::Q8_0 => each(rows, place, by32(), out, |row, y| q8_0::<T>(row, y)),
        Dtype::F32 => each(rows, place, floats(), out, |row, y| f32s::<T>(row, y)),
        Dtype::F16 => each(rows, place, floats(), out, |row, y| f16s::<T>(row, y)),
        Dtype::BF16 => each(rows, place, floats(), out, |row, y| bf16s::<T>(row, y)),
        _ => return false,
    }
    true
}
/// `out[row][first..first + T] = product(row, y)`, where `out` has `tokens` a row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn each<Y: Copy, const T: usize>(
    rows: Stored<'_>,
    (first, tokens): (usize, usize),
    y: Y,
    out: &mut [f32],
    product: impl Fn(&[u8], Y) -> [f32; T],
) {
    for (row, out) in rows.rows().zip(out.chunks_exact_mut(tokens)) {
        if let Some(out) = out.get_mut(first..first + T) {
            out.copy_from_slice(&product(row, y));
        }
    }
}

// --- reading and adding up ------------------------------------------------------------------------

#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_words(words: &[i16; 16]) -> __m256i {
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_eight_words(words: &[i16; 8]) -> __m128i {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_floats(floats: &[f32; 8]) -> __m256 {
    // SAFETY: 32 bytes are read from a reference to 32.
    unsafe { _mm256_loadu_ps(floats.as_ptr()) }
}

/// How far ahead of the weights at hand memory is asked for those of the rows to come. The processor's
/// own reading ahead ends with each page.
const AHEAD: usize = 2048;

/// Asks for what lies [`AHEAD`] of `block`.
#[inline]
#[target_feature(enable = "avx2")]
#[allow(unused_unsafe)] // Older compilers call the instruction unsafe.
fn prefetch(block: &[u8]) {
    for line in (0..block.len()).step_by(64) {
        let address = block.as_ptr().wrapping_add(AHEAD + line);
        // SAFETY: a prefetch reads nothing that the program sees, and any address may be asked for.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
}

/// The array of `N` bytes at `at`; its bounds are constants, so the check goes away.
#[inline(always)]
fn at<const N: usize, T>(bytes: &[T], at: usize) -> &[T; N] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(array) => array,
        None => unreachable!("a block is as long as its format says"),
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*self::at(bytes, at));
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

#[inline]
#[target_feature(enable = "avx2")]
fn total(sums: __m256) -> f32 {
    total_half(_mm_add_ps(
        _mm256_castps256_ps128(sums),
        _mm256_extractf128_ps::<1>(sums),
    ))
}

#[inline]
#[target_feature(enable = "avx2")]
fn total_half(sums: __m128) -> f32 {
    let pairs = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)))
}

/// Sums of four products each of unsigned and signed bytes. The pairs must not pass 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn fours(unsigned: __m256i, signed: __m256i) -> __m256i {
    _mm256_madd_epi16(_mm256_set1_epi16(1), _mm256_maddubs_epi16(unsigned, signed))
}

/// 32 weights of four bits, the low ones first.
#[inline]
#[target_feature(enable = "avx2")]
fn nibbles(bytes: &[u8; 16]) -> __m256i {
    let low = load_half(bytes);
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(low), low);
    _mm256_and_si256(both, _mm256_set1_epi8(15))
}

/// Eight scales and eight minima of six bits, a byte each.
#[inline(always)]
fn scales_and_minima(packed: &[u8; 12]) -> (u64, u64) {
    let [a, b, c] = [0, 4, 8].map(|i| u32::from_le_bytes(*at(packed, i)));
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let top = |x: u32| (x >> 6 & 0x0303_0303) << 4;
    (
        join(a & 0x3f3f_3f3f, c & 0x0f0f_0f0f | top(a)),
        join(b & 0x3f3f_3f3f, c >> 4 & 0x0f0f_0f0f | top(b)),
    )
}

// --- blocks of 256 --------------------------------------------------------------------------------

/// `sum of d x scale x q x y - dmin x min x y`, four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q4_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    affine::<T, 144>(row, y, |_, _| {
        (_mm256_setzero_si256(), _mm256_setzero_si256())
    })
}

/// The same with a fifth bit.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q5_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    affine::<T, 176>(row, y, |block, j| {
        let high = load(at::<32, u8>(block, 16));
        let bit = |n: usize| {
            let moved = _mm256_srl_epi16(high, _mm_cvtsi64_si128(n as i64));
            _mm256_slli_epi16::<4>(_mm256_and_si256(moved, _mm256_set1_epi8(1)))
        };
        (bit(2 * j), bit(2 * j + 1))
    })
}

/// `Q4_K` and `Q5_K`, whose blocks end in 128 bytes of low bits. `high` gives the bits above them.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn affine<const T: usize, const BYTES: usize>(
    row: &[u8],
    y: [&[Block256]; T],
    high: impl Fn(&[u8; BYTES], usize) -> (__m256i, __m256i),
) -> [f32; T] {
    let mut sums = [_mm256_setzero_ps(); T];
    let mut below = [_mm_setzero_ps(); T];
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        if T == 1 {
            prefetch(block);
        }
        let (scales, minima) = scales_and_minima(at(block, 4));
        let minima = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(minima as i64));
        let mut whole = [_mm256_setzero_si256(); T];
        for j in 0..4 {
            let low = load(at::<32, u8>(block, BYTES - 128 + 32 * j));
            let (high_first, high_second) = high(block, j);
            let mask = _mm256_set1_epi8(15);
            let first = _mm256_or_si256(_mm256_and_si256(low, mask), high_first);
            let second = _mm256_and_si256(_mm256_srli_epi16::<4>(low), mask);
            let second = _mm256_or_si256(second, high_second);
            let scale = |n: usize| _mm256_set1_epi16((scales >> (8 * n) & 0xff) as i16);
            let (scale_first, scale_second) = (scale(2 * j), scale(2 * j + 1));
            for t in 0..T {
                let quants = &y[t][index].quants;
                let a = _mm256_maddubs_epi16(first, load(at::<32, i8>(quants, 64 * j)));
                let b = _mm256_maddubs_epi16(second, load(at::<32, i8>(quants, 64 * j + 32)));
                let a = _mm256_madd_epi16(scale_first, a);
                let b = _mm256_madd_epi16(scale_second, b);
                whole[t] = _mm256_add_epi32(whole[t], _mm256_add_epi32(a, b));
            }
        }
        let (d, dmin) = (half(block, 0), half(block, 2));
        for t in 0..T {
            let y = &y[t][index];
            let factor = _mm256_set1_ps(d * y.scale);
            sums[t] = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(whole[t]), sums[t]);
            let minus = _mm_madd_epi16(minima, load_eight_words(&y.sums32));
            let factor = _mm_set1_ps(dmin * y.scale);
            below[t] = _mm_fnmadd_ps(factor, _mm_cvtepi32_ps(minus), below[t]);
        }
    }
    std::array::from_fn(|t| total(sums[t]) + total_half(below[t]))
}

/// `sum of d x scale x (q - 32) x y`, six bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q6_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    let mut sums = [_mm256_setzero_ps(); T];
    let (low_mask, high_mask) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    for (index, block) in row.as_chunks::<210>().0.iter().enumerate() {
        if T == 1 {
            prefetch(block);
        }
        let scales = load_half(at(block, 192));
        let mut whole = [_mm256_setzero_si256(); T];
        for j in 0..2 {
            let low = [0, 32].map(|n| load(at::<32, u8>(block, 64 * j + n)));
            let high = load(at::<32, u8>(block, 128 + 32 * j));
            let join = |low: __m256i, high: __m256i| {
                let low = _mm256_and_si256(low, low_mask);
                _mm256_or_si256(low, _mm256_and_si256(high, high_mask))
            };
            let weights = [
                join(low[0], _mm256_slli_epi16::<4>(high)),
                join(low[1], _mm256_slli_epi16::<2>(high)),
                join(_mm256_srli_epi16::<4>(low[0]), high),
                join(_mm256_srli_epi16::<4>(low[1]), _mm256_srli_epi16::<2>(high)),
            ];
            for (n, weights) in weights.into_iter().enumerate() {
                // Scale `2n` for the first 16 weights, the next one for the others.
                let pair = (8 * j + 2 * n) as i8;
                let pick = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
                let pick = _mm_add_epi8(_mm_set1_epi8(pair), pick);
                let scale = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, pick));
                for t in 0..T {
                    let quants = load(at::<32, i8>(&y[t][index].quants, 128 * j + 32 * n));
                    let products = _mm256_maddubs_epi16(weights, quants);
                    whole[t] = _mm256_add_epi32(whole[t], _mm256_madd_epi16(scale, products));
                }
            }
        }
        let d = half(block, 208);
        let scales = _mm256_cvtepi8_epi16(scales);
        for t in 0..T {
            let y = &y[t][index];
            let offset = _mm256_madd_epi16(scales, load_words(&y.sums16));
            let whole = _mm256_sub_epi32(whole[t], _mm256_slli_epi32::<5>(offset));
            let factor = _mm256_set1_ps(d * y.scale);
            sums[t] = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(whole), sums[t]);
        }
    }
    sums.map(|sums| total(sums))
}

// --- blocks of 32 ---------------------------------------------------------------------------------

/// `sum of d x (q - 8) x y`, four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q4_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    shifted::<T, 18>(row, y, 8.0, |block| nibbles(at(block, 2)))
}

/// `sum of d x (q - 16) x y`, five bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q5_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    shifted::<T, 22>(row, y, 16.0, |block| {
        let bits = _mm256_set1_epi32(i32::from_le_bytes(*at(block, 2)));
        // Byte `n` of the 32 gets the byte of `bits` that holds its bit.
        let spread = _mm256_set_epi64x(
            0x0303_0303_0303_0303,
            0x0202_0202_0202_0202,
            0x0101_0101_0101_0101,
            0,
        );
        let own = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
        let held = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), own);
        let set = _mm256_cmpeq_epi8(held, own);
        let high = _mm256_and_si256(set, _mm256_set1_epi8(16));
        _mm256_or_si256(nibbles(at(block, 6)), high)
    })
}

/// Formats of a scale and unsigned weights with `offset` too much.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn shifted<const T: usize, const BYTES: usize>(
    row: &[u8],
    y: [&[Block32]; T],
    offset: f32,
    weights: impl Fn(&[u8; BYTES]) -> __m256i,
) -> [f32; T] {
    let mut sums = [_mm256_setzero_ps(); T];
    let mut above = [0.0f32; T];
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        if T == 1 {
            prefetch(block);
        }
        let (d, weights) = (half(block, 0), weights(block));
        for t in 0..T {
            let y = &y[t][index];
            let products = _mm256_cvtepi32_ps(fours(weights, load(&y.quants)));
            sums[t] = _mm256_fmadd_ps(_mm256_set1_ps(d * y.scale), products, sums[t]);
            above[t] = d.mul_add(y.sum, above[t]);
        }
    }
    std::array::from_fn(|t| total(sums[t]) - offset * above[t])
}

/// `sum of d x q x y`, eight bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn q8_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    let mut sums = [_mm256_setzero_ps(); T];
    for (index, block) in row.as_chunks::<34>().0.iter().enumerate() {
        if T == 1 {
            prefetch(block);
        }
        let (d, weights) = (half(block, 0), load(at::<32, u8>(block, 2)));
        let magnitudes = _mm256_sign_epi8(weights, weights);
        for t in 0..T {
            let y = &y[t][index];
            let turned = _mm256_sign_epi8(load(&y.quants), weights);
            let products = _mm256_cvtepi32_ps(fours(magnitudes, turned));
            sums[t] = _mm256_fmadd_ps(_mm256_set1_ps(d * y.scale), products, sums[t]);
        }
    }
    sums.map(|sums| total(sums))
}

// --- floats ---------------------------------------------------------------------------------------

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn f32s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 32, y, |bytes| {
        _mm256_castsi256_ps(load(at::<32, u8>(bytes, 0)))
    })
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn f16s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 16, y, |bytes| _mm256_cvtph_ps(load_half(at(bytes, 0))))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn bf16s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 16, y, |bytes| {
        let wide = _mm256_cvtepu16_epi32(load_half(at(bytes, 0)));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    })
}

/// `sum of q x y`, eight weights in `step` bytes. What is left of a row is filled up with zeros.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn floats<const T: usize>(
    row: &[u8],
    step: usize,
    y: [&[f32]; T],
    weights: impl Fn(&[u8]) -> __m256,
) -> [f32; T] {
    // Four sums, so that one need not wait for the others.
    let mut sums = [[_mm256_setzero_ps(); 4]; T];
    let whole = row.chunks_exact(4 * step);
    let rest = whole.remainder();
    for (index, bytes) in whole.enumerate() {
        if T == 1 {
            prefetch(bytes);
        }
        for n in 0..4 {
            let weights = weights(&bytes[n * step..(n + 1) * step]);
            for t in 0..T {
                let y = load_floats(at(y[t], 32 * index + 8 * n));
                sums[t][n] = _mm256_fmadd_ps(weights, y, sums[t][n]);
            }
        }
    }
    for (index, bytes) in rest.chunks(step).enumerate() {
        let mut padded = [0; 32];
        padded[..bytes.len()].copy_from_slice(bytes);
        let weights = weights(&padded);
        for t in 0..T {
            let y = y[t].as_chunks::<32>().1;
            let y = &y[8 * index..(8 * index + 8).min(y.len())];
            let mut padded = [0.0; 8];
            padded[..y.len()].copy_from_slice(y);
            sums[t][0] = _mm256_fmadd_ps(weights, load_floats(&padded), sums[t][0]);
        }
    }
    sums.map(|[a, b, c, d]| total(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d))))
}
