//! The products of one row with `T` tokens, format by format. The layout of blocks is ggml's
//! (`ggml-common.h`); each function says what it sums. Weights are signed bytes, so that what a format
//! counts too much is taken off before the product.

use std::arch::aarch64::*;

use super::super::blocks::{at, scales_and_minima};
use super::super::input::{Block32, Block256};
use super::load::*;

/// 32 weights.
type Weights = [int8x16_t; 2];

// --- blocks of 256 --------------------------------------------------------------------------------

/// `sum of d x scale x q x y - dmin x min x y`, four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q4_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    affine::<T, 144>(row, y, |_, _| [vdupq_n_u8(0); 2])
}

/// The same with a fifth bit.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q5_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    affine::<T, 176>(row, y, |block, group| {
        let bit = vdupq_n_u8(1 << group);
        [16, 32].map(|n| vandq_u8(vtstq_u8(load(at(block, n)), bit), vdupq_n_u8(16)))
    })
}

/// `Q4_K` and `Q5_K`, whose blocks end in 128 bytes of low bits. `high` gives the bits above them for one
/// of eight groups of 32.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn affine<const T: usize, const BYTES: usize>(
    row: &[u8],
    y: [&[Block256]; T],
    high: impl Fn(&[u8; BYTES], usize) -> [uint8x16_t; 2],
) -> [f32; T] {
    let mut sums = [vdupq_n_f32(0.0); T];
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (scales, minima) = scales_and_minima(at(block, 4));
        let minima = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(minima)));
        let mut whole = [vdupq_n_s32(0); T];
        for j in 0..4 {
            let low = [0, 16].map(|n| load(at(block, BYTES - 128 + 32 * j + n)));
            let nibbles = [
                low.map(|low| vandq_u8(low, vdupq_n_u8(15))),
                low.map(|low| vshrq_n_u8::<4>(low)),
            ];
            for (n, nibbles) in nibbles.into_iter().enumerate() {
                let group = 2 * j + n;
                let high = high(block, group);
                let weights: Weights =
                    [0, 1].map(|i| vreinterpretq_s8_u8(vorrq_u8(nibbles[i], high[i])));
                let scale = (scales >> (8 * group) & 0xff) as i32;
                for t in 0..T {
                    let products = against(weights, &y[t][index].quants, 32 * group);
                    whole[t] = vmlaq_n_s32(whole[t], products, scale);
                }
            }
        }
        let (d, dmin) = (half(block, 0), half(block, 2));
        for t in 0..T {
            let y = &y[t][index];
            let sums32 = load_words(&y.sums32);
            let minus = vmull_s16(vget_low_s16(minima), vget_low_s16(sums32));
            let minus = vmlal_high_s16(minus, minima, sums32);
            sums[t] = vfmaq_n_f32(sums[t], vcvtq_f32_s32(whole[t]), d * y.scale);
            sums[t] = vfmaq_n_f32(sums[t], vcvtq_f32_s32(minus), -dmin * y.scale);
        }
    }
    sums.map(|sums| vaddvq_f32(sums))
}

/// `sum of d x scale x (q - 32) x y`, six bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q6_k<const T: usize>(row: &[u8], y: [&[Block256]; T]) -> [f32; T] {
    let mut sums = [vdupq_n_f32(0.0); T];
    for (index, block) in row.as_chunks::<210>().0.iter().enumerate() {
        let scales: &[u8; 16] = at(block, 192);
        let mut whole = [vdupq_n_s32(0); T];
        for j in 0..2 {
            // Sixteen weights at a time have a scale: those with the low bits at `n`.
            for n in 0..2 {
                let low = [0, 32].map(|half| load(at(block, 64 * j + half + 16 * n)));
                let high = load(at(block, 128 + 32 * j + 16 * n));
                let (four, two) = (vdupq_n_u8(15), vdupq_n_u8(0x30));
                let quants = [
                    vorrq_u8(vandq_u8(low[0], four), vandq_u8(vshlq_n_u8::<4>(high), two)),
                    vorrq_u8(vandq_u8(low[1], four), vandq_u8(vshlq_n_u8::<2>(high), two)),
                    vorrq_u8(vshrq_n_u8::<4>(low[0]), vandq_u8(high, two)),
                    vorrq_u8(
                        vshrq_n_u8::<4>(low[1]),
                        vandq_u8(vshrq_n_u8::<2>(high), two),
                    ),
                ];
                for (quarter, quants) in quants.into_iter().enumerate() {
                    let weights = vsubq_s8(vreinterpretq_s8_u8(quants), vdupq_n_s8(32));
                    let group = 8 * j + 2 * quarter + n;
                    let scale = i32::from(scales[group] as i8);
                    for t in 0..T {
                        let y = load_signed(at(&y[t][index].quants, 16 * group));
                        let products = dot4(vdupq_n_s32(0), weights, y);
                        whole[t] = vmlaq_n_s32(whole[t], products, scale);
                    }
                }
            }
        }
        let d = half(block, 208);
        for t in 0..T {
            let factor = d * y[t][index].scale;
            sums[t] = vfmaq_n_f32(sums[t], vcvtq_f32_s32(whole[t]), factor);
        }
    }
    sums.map(|sums| vaddvq_f32(sums))
}

// --- blocks of 32 ---------------------------------------------------------------------------------

/// `sum of d x (q - 8) x y`, four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q4_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    scaled::<T, 18>(row, y, |block| {
        nibbles(at(block, 2)).map(|q| vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(8)))
    })
}

/// `sum of d x (q - 16) x y`, five bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q5_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    scaled::<T, 22>(row, y, |block| {
        let low = nibbles(at(block, 6));
        let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
        [0, 1].map(|i| {
            // Each byte gets the byte that holds its bit.
            let [first, second]: [u8; 2] = *at(block, 2 + 2 * i);
            let held = vcombine_u8(vdup_n_u8(first), vdup_n_u8(second));
            let high = vandq_u8(vtstq_u8(held, own), vdupq_n_u8(16));
            vsubq_s8(vreinterpretq_s8_u8(vorrq_u8(low[i], high)), vdupq_n_s8(16))
        })
    })
}

/// `sum of d x q x y`, eight bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q8_0<const T: usize>(row: &[u8], y: [&[Block32]; T]) -> [f32; T] {
    scaled::<T, 34>(row, y, |block| {
        [2, 18].map(|n| vreinterpretq_s8_u8(load(at(block, n))))
    })
}

/// Formats of a scale and signed weights.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn scaled<const T: usize, const BYTES: usize>(
    row: &[u8],
    y: [&[Block32]; T],
    weights: impl Fn(&[u8; BYTES]) -> Weights,
) -> [f32; T] {
    let mut sums = [vdupq_n_f32(0.0); T];
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (d, weights) = (half(block, 0), weights(block));
        for t in 0..T {
            let y = &y[t][index];
            let products = vcvtq_f32_s32(against(weights, &y.quants, 0));
            sums[t] = vfmaq_n_f32(sums[t], products, d * y.scale);
        }
    }
    sums.map(|sums| vaddvq_f32(sums))
}

/// 32 weights of four bits, the low ones first.
#[inline]
#[target_feature(enable = "neon")]
fn nibbles(bytes: &[u8; 16]) -> [uint8x16_t; 2] {
    let both = load(bytes);
    [vandq_u8(both, vdupq_n_u8(15)), vshrq_n_u8::<4>(both)]
}

/// The products of 32 weights with the quants from `from` on.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn against(weights: Weights, quants: &[i8], from: usize) -> int32x4_t {
    let first = dot4(vdupq_n_s32(0), weights[0], load_signed(at(quants, from)));
    dot4(first, weights[1], load_signed(at(quants, from + 16)))
}

// --- floats ---------------------------------------------------------------------------------------

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn f32s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 32, y, |bytes| {
        [0, 16].map(|n| vreinterpretq_f32_u8(load(at(bytes, n))))
    })
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn f16s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 16, y, |bytes| eight_halves(at(bytes, 0)))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn bf16s<const T: usize>(row: &[u8], y: [&[f32]; T]) -> [f32; T] {
    floats(row, 16, y, |bytes| {
        let halves = vreinterpretq_u16_u8(load(at(bytes, 0)));
        [vget_low_u16(halves), vget_high_u16(halves)]
            .map(|half| vreinterpretq_f32_u32(vshll_n_u16::<16>(half)))
    })
}

/// `sum of q x y`, eight weights in `step` bytes. What is left of a row is filled up with zeros.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn floats<const T: usize>(
    row: &[u8],
    step: usize,
    y: [&[f32]; T],
    weights: impl Fn(&[u8]) -> [float32x4_t; 2],
) -> [f32; T] {
    // Four sums, so that one need not wait for the others.
    let mut sums = [[vdupq_n_f32(0.0); 4]; T];
    let whole = row.chunks_exact(2 * step);
    let rest = whole.remainder();
    for (index, bytes) in whole.enumerate() {
        for n in 0..2 {
            let weights = weights(&bytes[n * step..(n + 1) * step]);
            for t in 0..T {
                let y: &[f32; 8] = at(y[t], 16 * index + 8 * n);
                for i in 0..2 {
                    let y = load_floats(at(y, 4 * i));
                    sums[t][2 * n + i] = vfmaq_f32(sums[t][2 * n + i], weights[i], y);
                }
            }
        }
    }
    for (index, bytes) in rest.chunks(step).enumerate() {
        let mut padded = [0; 32];
        padded[..bytes.len()].copy_from_slice(bytes);
        let weights = weights(&padded);
        for t in 0..T {
            let y = y[t].as_chunks::<16>().1;
            let y = &y[8 * index..(8 * index + 8).min(y.len())];
            let mut padded = [0.0; 8];
            padded[..y.len()].copy_from_slice(y);
            for i in 0..2 {
                sums[t][i] = vfmaq_f32(sums[t][i], weights[i], load_floats(at(&padded, 4 * i)));
            }
        }
    }
    sums.map(|[a, b, c, d]| vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d))))
}
