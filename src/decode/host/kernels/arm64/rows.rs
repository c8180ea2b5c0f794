//! The products of one row with a token, format by format. The layout of blocks is ggml's
//! (`ggml-common.h`); each function says what it sums. Weights are signed bytes, so that what a format
//! counts too much is taken off before the product.

use std::arch::aarch64::*;

use super::super::blocks::{at, iq4_levels, scales_and_minima, sixteen_scales};
use super::super::input::{Block32, Block256};
use super::load::*;

/// 32 weights.
type Weights = [int8x16_t; 2];

// --- blocks of 256 --------------------------------------------------------------------------------

/// `sum of d x scale x q x y - dmin x min x y`, four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q4_k(row: &[u8], y: &[Block256]) -> f32 {
    affine::<144>(row, y, |_, _| [vdupq_n_u8(0); 2])
}

/// The same with a fifth bit.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q5_k(row: &[u8], y: &[Block256]) -> f32 {
    affine::<176>(row, y, |block, group| {
        let bit = vdupq_n_u8(1 << group);
        [16, 32].map(|n| vandq_u8(vtstq_u8(load(at(block, n)), bit), vdupq_n_u8(16)))
    })
}

/// `Q4_K` and `Q5_K`, whose blocks end in 128 bytes of low bits. `high` gives the bits above them for one
/// of eight groups of 32.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn affine<const BYTES: usize>(
    row: &[u8],
    y: &[Block256],
    high: impl Fn(&[u8; BYTES], usize) -> [uint8x16_t; 2],
) -> f32 {
    let mut sums = vdupq_n_f32(0.0);
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (scales, minima) = scales_and_minima(at(block, 4));
        let minima = vreinterpretq_s16_u16(vmovl_u8(vcreate_u8(minima)));
        let mut whole = vdupq_n_s32(0);
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

                let products = against(weights, &y[index].quants, 32 * group);
                whole = vmlaq_n_s32(whole, products, scale);
            }
        }
        let (d, dmin) = (half(block, 0), half(block, 2));

        let y = &y[index];
        let sums32 = load_words(&y.sums32);
        let minus = vmull_s16(vget_low_s16(minima), vget_low_s16(sums32));
        let minus = vmlal_high_s16(minus, minima, sums32);
        sums = vfmaq_n_f32(sums, vcvtq_f32_s32(whole), d * y.scale);
        sums = vfmaq_n_f32(sums, vcvtq_f32_s32(minus), -dmin * y.scale);
    }
    vaddvq_f32(sums)
}

/// `sum of d x scale x (q - 32) x y`, six bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q6_k(row: &[u8], y: &[Block256]) -> f32 {
    let scales = |block: &[u8; 210]| (half(block, 208), at::<16, u8>(block, 192).map(|s| s as i8));
    sixteens::<210>(
        row,
        y,
        scales,
        |_, _| vdupq_n_f32(0.0),
        |block, j, n| {
            let low = [0, 32].map(|half| load(at(block, 64 * j + half + 16 * n)));
            let high = load(at(block, 128 + 32 * j + 16 * n));
            let (four, two) = (vdupq_n_u8(15), vdupq_n_u8(0x30));
            let codes = [
                vorrq_u8(vandq_u8(low[0], four), vandq_u8(vshlq_n_u8::<4>(high), two)),
                vorrq_u8(vandq_u8(low[1], four), vandq_u8(vshlq_n_u8::<2>(high), two)),
                vorrq_u8(vshrq_n_u8::<4>(low[0]), vandq_u8(high, two)),
                vorrq_u8(
                    vshrq_n_u8::<4>(low[1]),
                    vandq_u8(vshrq_n_u8::<2>(high), two),
                ),
            ];
            codes.map(|codes| vsubq_s8(vreinterpretq_s8_u8(codes), vdupq_n_s8(32)))
        },
    )
}

/// `sum of d x scale x (q - 4) x y`, three bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q3_k(row: &[u8], y: &[Block256]) -> f32 {
    let scales = |block: &[u8; 110]| {
        let [first, second] = sixteen_scales(at(block, 96)).map(u64::to_le_bytes);
        let scale = |n: usize| if n < 8 { first[n] } else { second[n - 8] };
        (
            half(block, 108),
            std::array::from_fn(|n| scale(n) as i8 - 32),
        )
    };
    sixteens::<110>(
        row,
        y,
        scales,
        |_, _| vdupq_n_f32(0.0),
        |block, j, n| {
            let codes = pairs(at(block, 32 + 32 * j + 16 * n));
            let third = load(at(block, 16 * n));
            std::array::from_fn(|quarter| {
                let own = vdupq_n_u8(1 << (4 * j + quarter));
                let set = vandq_u8(vtstq_u8(third, own), vdupq_n_u8(4));
                let code = vreinterpretq_s8_u8(vorrq_u8(codes[quarter], set));
                vsubq_s8(code, vdupq_n_s8(4))
            })
        },
    )
}

/// `sum of d x scale x q x y - dmin x min x y`, two bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q2_k(row: &[u8], y: &[Block256]) -> f32 {
    let scales = |block: &[u8; 84]| {
        let packed = at::<16, u8>(block, 0);
        (half(block, 80), packed.map(|both| (both & 15) as i8))
    };
    let minima = |block: &[u8; 84], y: &Block256| {
        let minima = vshrq_n_u8::<4>(load(at(block, 0)));
        let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(minima)));
        let high = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(minima)));
        let (first, second) = (load_words(at(&y.sums16, 0)), load_words(at(&y.sums16, 8)));
        let minus = vmull_s16(vget_low_s16(low), vget_low_s16(first));
        let minus = vmlal_high_s16(minus, low, first);
        let minus = vmlal_s16(minus, vget_low_s16(high), vget_low_s16(second));
        let minus = vcvtq_f32_s32(vmlal_high_s16(minus, high, second));
        vmulq_n_f32(minus, half(block, 82))
    };
    sixteens::<84>(row, y, scales, minima, |block, j, n| {
        pairs(at(block, 16 + 32 * j + 16 * n)).map(|codes| vreinterpretq_s8_u8(codes))
    })
}

/// 64 weights of two bits, those of each shift sixteen.
#[inline]
#[target_feature(enable = "neon")]
fn pairs(bytes: &[u8; 16]) -> [uint8x16_t; 4] {
    let (packed, mask) = (load(bytes), vdupq_n_u8(3));
    [
        vandq_u8(packed, mask),
        vandq_u8(vshrq_n_u8::<2>(packed), mask),
        vandq_u8(vshrq_n_u8::<4>(packed), mask),
        vshrq_n_u8::<6>(packed),
    ]
}

/// `sum of scale x scales x q x y - minima`, sixteen weights with a scale. `weights` gives those of one half of the
/// block whose bits are in the same sixteen bytes: of groups `n`, `n + 2`, `n + 4`, `n + 6`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sixteens<const BYTES: usize>(
    row: &[u8],
    y: &[Block256],
    scales: impl Fn(&[u8; BYTES]) -> (f32, [i8; 16]),
    minima: impl Fn(&[u8; BYTES], &Block256) -> float32x4_t,
    weights: impl Fn(&[u8; BYTES], usize, usize) -> [int8x16_t; 4],
) -> f32 {
    let mut sums = vdupq_n_f32(0.0);
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (d, scales) = scales(block);
        let mut whole = vdupq_n_s32(0);
        for j in 0..2 {
            for n in 0..2 {
                for (quarter, weights) in weights(block, j, n).into_iter().enumerate() {
                    let group = 8 * j + 2 * quarter + n;
                    let scale = i32::from(scales[group]);

                    let y = load_signed(at(&y[index].quants, 16 * group));
                    let products = dot4(vdupq_n_s32(0), weights, y);
                    whole = vmlaq_n_s32(whole, products, scale);
                }
            }
        }

        let y = &y[index];
        sums = vfmaq_n_f32(sums, vcvtq_f32_s32(whole), d * y.scale);
        sums = vfmsq_n_f32(sums, minima(block, y), y.scale);
    }
    vaddvq_f32(sums)
}

/// `sum of d x scale x level x y`, levels of four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn iq4_xs(row: &[u8], y: &[Block256]) -> f32 {
    let mut sums = vdupq_n_f32(0.0);
    for (index, block) in row.as_chunks::<136>().0.iter().enumerate() {
        let high = i32::from(u16::from_le_bytes(*at(block, 2)));
        let low = u32::from_le_bytes(*at(block, 4));
        let mut whole = vdupq_n_s32(0);
        for j in 0..8 {
            let low = (low >> (4 * j) & 15) as i32;
            let scale = (low | (high >> (2 * j) & 3) << 4) - 32;
            let weights = levels(at(block, 8 + 16 * j));

            let products = against(weights, &y[index].quants, 32 * j);
            whole = vmlaq_n_s32(whole, products, scale);
        }
        let d = half(block, 0);

        let factor = d * y[index].scale;
        sums = vfmaq_n_f32(sums, vcvtq_f32_s32(whole), factor);
    }
    vaddvq_f32(sums)
}

// --- blocks of 32 ---------------------------------------------------------------------------------

/// `sum of d x (q - 8) x y`, four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q4_0(row: &[u8], y: &[Block32]) -> f32 {
    scaled::<18>(
        row,
        y,
        |_, _| 0.0,
        |block| nibbles(at(block, 2)).map(|q| vsubq_s8(vreinterpretq_s8_u8(q), vdupq_n_s8(8))),
    )
}

/// `sum of (d x q + m) x y`, four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q4_1(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 20], y: &Block32| half(block, 2) * y.half_sum;
    scaled::<20>(row, y, rest, |block| {
        nibbles(at(block, 4)).map(|q| vreinterpretq_s8_u8(q))
    })
}

/// `sum of d x (q - 16) x y`, five bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q5_0(row: &[u8], y: &[Block32]) -> f32 {
    scaled::<22>(
        row,
        y,
        |_, _| 0.0,
        |block| fives(at(block, 2)).map(|q| vsubq_s8(q, vdupq_n_s8(16))),
    )
}

/// `sum of (d x q + m) x y`, five bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q5_1(row: &[u8], y: &[Block32]) -> f32 {
    let rest = |block: &[u8; 24], y: &Block32| half(block, 2) * y.half_sum;
    scaled::<24>(row, y, rest, |block| fives(at(block, 4)))
}

/// 32 weights of five bits: the high ones first, then the low ones.
#[inline]
#[target_feature(enable = "neon")]
fn fives(bytes: &[u8; 20]) -> Weights {
    let low = nibbles(at(bytes, 4));
    let own = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    [0, 1].map(|i| {
        // Each byte gets the byte that holds its bit.
        let [first, second]: [u8; 2] = *at(bytes, 2 * i);
        let held = vcombine_u8(vdup_n_u8(first), vdup_n_u8(second));
        let high = vandq_u8(vtstq_u8(held, own), vdupq_n_u8(16));
        vreinterpretq_s8_u8(vorrq_u8(low[i], high))
    })
}

/// `sum of d x q x y`, eight bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn q8_0(row: &[u8], y: &[Block32]) -> f32 {
    scaled::<34>(
        row,
        y,
        |_, _| 0.0,
        |block| [2, 18].map(|n| vreinterpretq_s8_u8(load(at(block, n)))),
    )
}

/// `sum of d x level x y`, levels of four bits.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn iq4_nl(row: &[u8], y: &[Block32]) -> f32 {
    scaled::<18>(row, y, |_, _| 0.0, |block| levels(at(block, 2)))
}

/// Formats of a scale and signed weights. `rest` gives what else a block adds.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn scaled<const BYTES: usize>(
    row: &[u8],
    y: &[Block32],
    rest: impl Fn(&[u8; BYTES], &Block32) -> f32,
    weights: impl Fn(&[u8; BYTES]) -> Weights,
) -> f32 {
    let mut sums = vdupq_n_f32(0.0);
    let mut rests = 0.0f32;
    for (index, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (d, weights) = (half(block, 0), weights(block));

        let y = &y[index];
        let products = vcvtq_f32_s32(against(weights, &y.quants, 0));
        sums = vfmaq_n_f32(sums, products, d * y.scale);
        rests += rest(block, y);
    }
    vaddvq_f32(sums) + rests
}

/// 32 levels of `IQ4_NL`, the low ones first.
#[inline]
#[target_feature(enable = "neon")]
fn levels(bytes: &[u8; 16]) -> Weights {
    const BYTES: [u8; 16] = iq4_levels();
    nibbles(bytes).map(|codes| vreinterpretq_s8_u8(vqtbl1q_u8(load(&BYTES), codes)))
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
pub(super) fn f32s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 32, y, |bytes| {
        [0, 16].map(|n| vreinterpretq_f32_u8(load(at(bytes, n))))
    })
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn f16s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 16, y, |bytes| eight_halves(at(bytes, 0)))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn bf16s(row: &[u8], y: &[f32]) -> f32 {
    floats(row, 16, y, |bytes| {
        let halves = vreinterpretq_u16_u8(load(at(bytes, 0)));
        [vget_low_u16(halves), vget_high_u16(halves)]
            .map(|half| vreinterpretq_f32_u32(vshll_n_u16::<16>(half)))
    })
}

/// `sum of q x y`, eight weights in `step` bytes. What is left of a row is filled up with zeros.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn floats(row: &[u8], step: usize, y: &[f32], weights: impl Fn(&[u8]) -> [float32x4_t; 2]) -> f32 {
    // Four sums, so that one need not wait for the others.
    let mut sums = [vdupq_n_f32(0.0); 4];
    let whole = row.chunks_exact(2 * step);
    let rest = whole.remainder();
    for (index, bytes) in whole.enumerate() {
        for n in 0..2 {
            let weights = weights(&bytes[n * step..(n + 1) * step]);

            let y: &[f32; 8] = at(y, 16 * index + 8 * n);
            for i in 0..2 {
                let y = load_floats(at(y, 4 * i));
                sums[2 * n + i] = vfmaq_f32(sums[2 * n + i], weights[i], y);
            }
        }
    }
    for (index, bytes) in rest.chunks(step).enumerate() {
        let mut padded = [0; 32];
        padded[..bytes.len()].copy_from_slice(bytes);
        let weights = weights(&padded);

        let y = y.as_chunks::<16>().1;
        let y = &y[8 * index..(8 * index + 8).min(y.len())];
        let mut padded = [0.0; 8];
        padded[..y.len()].copy_from_slice(y);
        for i in 0..2 {
            sums[i] = vfmaq_f32(sums[i], weights[i], load_floats(at(&padded, 4 * i)));
        }
    }
    let [a, b, c, d] = sums;
    vaddvq_f32(vaddq_f32(vaddq_f32(a, b), vaddq_f32(c, d)))
}
