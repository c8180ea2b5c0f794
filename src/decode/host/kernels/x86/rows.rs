//! The products of one row with a token, format by format. The layout of blocks is ggml's
//! (`ggml-common.h`); each function says what it sums.

use std::arch::x86_64::*;

use super::super::blocks::{at, scales_and_minima, sixteen_scales};
use super::super::input::{Block32, Block256};
use super::load::*;

// --- blocks of 256 --------------------------------------------------------------------------------

/// `sum of d x scale x q x y - dmin x min x y`, four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_k(row: &[u8], y: &[Block256]) -> f32 {
    affine::<144>(row, y, |_, _| {
        (_mm256_setzero_si256(), _mm256_setzero_si256())
    })
}

/// The same with a fifth bit.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_k(row: &[u8], y: &[Block256]) -> f32 {
    affine::<176>(row, y, |block, j| {
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
fn affine<const BYTES: usize>(
    row: &[u8],
    y: &[Block256],
    high: impl Fn(&[u8; BYTES], usize) -> (__m256i, __m256i),
) -> f32 {
    let mut sums = _mm256_setzero_ps();
    let mut below = _mm_setzero_ps();
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        prefetch(block);
        let (scales, minima) = scales_and_minima(at(block, 4));
        let minima = _mm_cvtepu8_epi16(_mm_cvtsi64_si128(minima as i64));
        let mut whole = _mm256_setzero_si256();
        for j in 0..4 {
            let low = load(at::<32, u8>(block, BYTES - 128 + 32 * j));
            let (high_first, high_second) = high(block, j);
            let mask = _mm256_set1_epi8(15);
            let first = _mm256_or_si256(_mm256_and_si256(low, mask), high_first);
            let second = _mm256_and_si256(_mm256_srli_epi16::<4>(low), mask);
            let second = _mm256_or_si256(second, high_second);
            let scale = |n: usize| _mm256_set1_epi16((scales >> (8 * n) & 0xff) as i16);
            let (scale_first, scale_second) = (scale(2 * j), scale(2 * j + 1));

            let quants = &y[index].quants;
            let a = _mm256_maddubs_epi16(first, load(at::<32, i8>(quants, 64 * j)));
            let b = _mm256_maddubs_epi16(second, load(at::<32, i8>(quants, 64 * j + 32)));
            let a = _mm256_madd_epi16(scale_first, a);
            let b = _mm256_madd_epi16(scale_second, b);
            whole = _mm256_add_epi32(whole, _mm256_add_epi32(a, b));
        }
        let (d, dmin) = (half(block, 0), half(block, 2));

        let y = &y[index];
        let factor = _mm256_set1_ps(d * y.scale);
        sums = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(whole), sums);
        let minus = _mm_madd_epi16(minima, load_eight_words(&y.sums32));
        let factor = _mm_set1_ps(dmin * y.scale);
        below = _mm_fnmadd_ps(factor, _mm_cvtepi32_ps(minus), below);
    }
    total(sums) + total_half(below)
}

/// `sum of d x scale x (q - 32) x y`, six bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q6_k(row: &[u8], y: &[Block256]) -> f32 {
    let (low_mask, high_mask) = (_mm256_set1_epi8(15), _mm256_set1_epi8(0x30));
    sixteens::<210>(
        row,
        y,
        |block| Sixteens {
            scale: half(block, 208),
            scales: load_half(at(block, 192)),
            minimum: 32.0 * half(block, 208),
            minima: load_half(at(block, 192)),
        },
        |block, j| {
            let low = [0, 32].map(|n| load(at::<32, u8>(block, 64 * j + n)));
            let high = load(at::<32, u8>(block, 128 + 32 * j));
            let join = |low: __m256i, high: __m256i| {
                let low = _mm256_and_si256(low, low_mask);
                _mm256_or_si256(low, _mm256_and_si256(high, high_mask))
            };
            [
                join(low[0], _mm256_slli_epi16::<4>(high)),
                join(low[1], _mm256_slli_epi16::<2>(high)),
                join(_mm256_srli_epi16::<4>(low[0]), high),
                join(_mm256_srli_epi16::<4>(low[1]), _mm256_srli_epi16::<2>(high)),
            ]
        },
    )
}

/// `sum of d x scale x (q - 4) x y`, three bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q3_k(row: &[u8], y: &[Block256]) -> f32 {
    sixteens::<110>(
        row,
        y,
        |block| {
            let [first, second] = sixteen_scales(at(block, 96));
            let scales = _mm_set_epi64x(second as i64, first as i64);
            let scales = _mm_sub_epi8(scales, _mm_set1_epi8(32));
            Sixteens {
                scale: half(block, 108),
                scales,
                minimum: 4.0 * half(block, 108),
                minima: scales,
            }
        },
        |block, j| {
            let third = load(at::<32, u8>(block, 0));
            let third = _mm256_srl_epi16(third, _mm_cvtsi64_si128(4 * j as i64));
            let bit = _mm256_set1_epi8(4);
            let third = [
                _mm256_slli_epi16::<2>(third),
                _mm256_slli_epi16::<1>(third),
                third,
                _mm256_srli_epi16::<1>(third),
            ];
            let codes = pairs(at(block, 32 + 32 * j));
            [0, 1, 2, 3].map(|n| _mm256_or_si256(codes[n], _mm256_and_si256(third[n], bit)))
        },
    )
}

/// `sum of d x scale x q x y - dmin x min x y`, two bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q2_k(row: &[u8], y: &[Block256]) -> f32 {
    let mask = _mm_set1_epi8(15);
    sixteens::<84>(
        row,
        y,
        |block| {
            let packed = load_half(at(block, 0));
            Sixteens {
                scale: half(block, 80),
                scales: _mm_and_si128(packed, mask),
                minimum: half(block, 82),
                minima: _mm_and_si128(_mm_srli_epi16::<4>(packed), mask),
            }
        },
        |block, j| pairs(at(block, 16 + 32 * j)),
    )
}

/// 128 weights of two bits.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(bytes: &[u8; 32]) -> [__m256i; 4] {
    let (packed, mask) = (load(bytes), _mm256_set1_epi8(3));
    [
        _mm256_and_si256(packed, mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(packed), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(packed), mask),
        _mm256_and_si256(_mm256_srli_epi16::<6>(packed), mask),
    ]
}

/// What sixteen weights each of a block share: a scale and a minimum of eight bits, with a factor each.
struct Sixteens {
    scale: f32,
    scales: __m128i,
    minimum: f32,
    minima: __m128i,
}

/// `sum of scale x scales x q x y - minimum x minima x y`; `weights` gives half of a block's, unsigned.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sixteens<const BYTES: usize>(
    row: &[u8],
    y: &[Block256],
    shared: impl Fn(&[u8; BYTES]) -> Sixteens,
    weights: impl Fn(&[u8; BYTES], usize) -> [__m256i; 4],
) -> f32 {
    let mut sums = _mm256_setzero_ps();
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        prefetch(block);
        let shared = shared(block);
        let mut whole = _mm256_setzero_si256();
        for j in 0..2 {
            for (n, weights) in weights(block, j).into_iter().enumerate() {
                // Scale `2n` for the first 16 weights, the next one for the others.
                let pair = (8 * j + 2 * n) as i8;
                let pick = _mm_set_epi64x(0x0101_0101_0101_0101, 0);
                let pick = _mm_add_epi8(_mm_set1_epi8(pair), pick);
                let scale = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(shared.scales, pick));

                let quants = load(at::<32, i8>(&y[index].quants, 128 * j + 32 * n));
                let products = _mm256_maddubs_epi16(weights, quants);
                whole = _mm256_add_epi32(whole, _mm256_madd_epi16(scale, products));
            }
        }
        let minima = _mm256_cvtepi8_epi16(shared.minima);

        let y = &y[index];
        let minus = _mm256_cvtepi32_ps(_mm256_madd_epi16(minima, load_words(&y.sums16)));
        let factor = _mm256_set1_ps(shared.scale * y.scale);
        sums = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(whole), sums);
        let factor = _mm256_set1_ps(shared.minimum * y.scale);
        sums = _mm256_fnmadd_ps(factor, minus, sums);
    }
    total(sums)
}

/// `sum of d x scale x level x y`, levels of four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq4_xs(row: &[u8], y: &[Block256]) -> f32 {
    let mut sums = _mm256_setzero_ps();
    for (index, block) in row.as_chunks::<136>().0.iter().enumerate() {
        prefetch(block);
        let high = u32::from(u16::from_le_bytes(*at(block, 2)));
        let low = u32::from_le_bytes(*at(block, 4));
        let mut whole = _mm256_setzero_si256();
        for j in 0..8 {
            let scale = (low >> (4 * j) & 15 | (high >> (2 * j) & 3) << 4) as i16 - 32;
            let scale = _mm256_set1_epi16(scale);
            let weights = levels(at(block, 8 + 16 * j));
            let magnitudes = _mm256_sign_epi8(weights, weights);

            let quants = load(at::<32, i8>(&y[index].quants, 32 * j));
            let turned = _mm256_sign_epi8(quants, weights);
            let products = _mm256_maddubs_epi16(magnitudes, turned);
            whole = _mm256_add_epi32(whole, _mm256_madd_epi16(scale, products));
        }
        let d = half(block, 0);

        let factor = _mm256_set1_ps(d * y[index].scale);
        sums = _mm256_fmadd_ps(factor, _mm256_cvtepi32_ps(whole), sums);
    }
    total(sums)
}

// --- blocks of 32 ---------------------------------------------------------------------------------

/// `sum of d x (q - 8) x y`, four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_0(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 18], y: &Block32| -8.0 * half(block, 0) * y.sum;
    unsigned::<18>(row, y, rest, |block| nibbles(at(block, 2)))
}

/// `sum of (d x q + m) x y`, four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q4_1(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 20], y: &Block32| half(block, 2) * y.half_sum;
    unsigned::<20>(row, y, rest, |block| nibbles(at(block, 4)))
}

/// `sum of d x (q - 16) x y`, five bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_0(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 22], y: &Block32| -16.0 * half(block, 0) * y.sum;
    unsigned::<22>(row, y, rest, |block| fives(at(block, 2)))
}

/// `sum of (d x q + m) x y`, five bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q5_1(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 24], y: &Block32| half(block, 2) * y.half_sum;
    unsigned::<24>(row, y, rest, |block| fives(at(block, 4)))
}

/// 32 weights of five bits: the high ones first, then the low ones.
#[inline]
#[target_feature(enable = "avx2")]
fn fives(bytes: &[u8; 20]) -> __m256i {
    let bits = _mm256_set1_epi32(i32::from_le_bytes(*at(bytes, 0)));
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
    _mm256_or_si256(nibbles(at(bytes, 4)), high)
}

/// Formats of a scale and unsigned weights. `rest` gives what else a block adds.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned<const BYTES: usize>(
    row: &[u8],
    y: &[Block32],
    rest: impl Fn(&[u8; BYTES], &Block32) -> f32,
    weights: impl Fn(&[u8; BYTES]) -> __m256i,
) -> f32 {
    let mut sums = _mm256_setzero_ps();
    let mut rests = 0.0f32;
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        prefetch(block);
        let (d, weights) = (half(block, 0), weights(block));

        let y = &y[index];
        let products = _mm256_cvtepi32_ps(dot4(weights, load(&y.quants)));
        sums = _mm256_fmadd_ps(_mm256_set1_ps(d * y.scale), products, sums);
        rests += rest(block, y);
    }
    total(sums) + rests
}

/// `sum of d x q x y`, eight bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn q8_0(row: &[u8], y: &[Block32]) -> f32 {
    signed::<34>(row, y, |block| load(at::<32, u8>(block, 2)))
}

/// `sum of d x level x y`, levels of four bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn iq4_nl(row: &[u8], y: &[Block32]) -> f32 {
    signed::<18>(row, y, |block| levels(at(block, 2)))
}

/// Formats of a scale and signed weights.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed<const BYTES: usize>(
    row: &[u8],
    y: &[Block32],
    weights: impl Fn(&[u8; BYTES]) -> __m256i,
) -> f32 {
    let mut sums = _mm256_setzero_ps();
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        prefetch(block);
        let (d, weights) = (half(block, 0), weights(block));
        let magnitudes = _mm256_sign_epi8(weights, weights);

        let y = &y[index];
        let turned = _mm256_sign_epi8(load(&y.quants), weights);
        let products = _mm256_cvtepi32_ps(dot4(magnitudes, turned));
        sums = _mm256_fmadd_ps(_mm256_set1_ps(d * y.scale), products, sums);
    }
    total(sums)
}

// --- floats ---------------------------------------------------------------------------------------

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn f32s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 32, y, |bytes| {
        _mm256_castsi256_ps(load(at::<32, u8>(bytes, 0)))
    })
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn f16s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 16, y, |bytes| _mm256_cvtph_ps(load_half(at(bytes, 0))))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn bf16s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 16, y, |bytes| {
        let wide = _mm256_cvtepu16_epi32(load_half(at(bytes, 0)));
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
    })
}

/// `sum of q x y`, eight weights in `step` bytes. What is left of a row is filled up with zeros.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn floats(row: &[u8], step: usize, y: &[f32], weights: impl Fn(&[u8]) -> __m256) -> f32 {
    // Four sums, so that one need not wait for the others.
    let mut sums = [_mm256_setzero_ps(); 4];
    let whole = row.chunks_exact(4 * step);
    let rest = whole.remainder();
    for (index, bytes) in whole.enumerate() {
        prefetch(bytes);
        for n in 0..4 {
            let weights = weights(&bytes[n * step..(n + 1) * step]);

            let y = load_floats(at(y, 32 * index + 8 * n));
            sums[n] = _mm256_fmadd_ps(weights, y, sums[n]);
        }
    }
    for (index, bytes) in rest.chunks(step).enumerate() {
        let mut padded = [0; 32];
        padded[..bytes.len()].copy_from_slice(bytes);
        let weights = weights(&padded);

        let y = y.as_chunks::<32>().1;
        let y = &y[8 * index..(8 * index + 8).min(y.len())];
        let mut padded = [0.0; 8];
        padded[..y.len()].copy_from_slice(y);
        sums[0] = _mm256_fmadd_ps(weights, load_floats(&padded), sums[0]);
    }
    let [a, b, c, d] = sums;
    total(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)))
}
