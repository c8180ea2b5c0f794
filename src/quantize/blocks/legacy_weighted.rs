//! The 32-weight formats with importance: finite values and their importance in, ggml's bytes out.
//!
//! Eight blocks are searched at once, one a lane; within a lane arithmetic and order are those of
//! `make_qx_quants` and `make_qkx3_quants` of `ggml-quants.c`, so the bytes are the same.

use super::half::{F16_OVERFLOW, f32_to_f16};
use super::lanes::{LANES, Lanes, transpose};
use super::legacy::{BLOCK, fifth_bits, nibbles};

type Block = [Lanes; BLOCK];

/// Blocks whose largest magnitude is below this become zeros, as in ggml.
const NOTHING: f32 = 1e-15;

/// The mean square of a row, summed in order as ggml does.
#[inline(always)]
pub(super) fn mean_square(row: &[f32]) -> f32 {
    row.iter().fold(0.0f32, |sum, &v| sum + v * v) / row.len() as f32
}

#[inline(always)]
fn weights(x: &Block, importance: &[f32], mean_square: f32) -> Block {
    let mut w: Block = transpose(importance);
    for (w, &x) in w.iter_mut().zip(x) {
        *w = *w * (Lanes::splat(mean_square) + x * x).sqrt();
    }
    w
}

#[inline(always)]
fn round_to(value: Lanes, low: f32, high: f32) -> Lanes {
    value.round().min(Lanes::splat(high)).max(Lanes::splat(low))
}

/// Scale and codes of `nmax * 2` levels around 0.
#[inline(always)]
fn symmetric(x: &Block, w: &Block, nmax: f32) -> (Lanes, Block) {
    let (mut magnitude, mut extreme) = (Lanes::ZERO, Lanes::ZERO);
    for &x in x {
        extreme = magnitude.below(x.abs(), x, extreme);
        magnitude = magnitude.max(x.abs());
    }
    let sums = |slope: Lanes| {
        let (mut lx, mut l2) = (Lanes::ZERO, Lanes::ZERO);
        for (&x, &w) in x.iter().zip(w) {
            let l = round_to(slope * x, -nmax, nmax - 1.0);
            lx = lx + w * x * l;
            l2 = l2 + w * l * l;
        }
        (lx, l2)
    };
    let mut slope = Lanes::splat(-nmax) / extreme;
    let (lx, l2) = sums(slope);
    let mut scale = Lanes::ZERO.below(l2, lx / l2, Lanes::ZERO);
    let mut best = scale * lx;
    for step in (-9..=9).filter(|&step| step != 0) {
        let tried = -Lanes::splat(nmax + 0.1 * step as f32) / extreme;
        let (lx, l2) = sums(tried);
        // Without weight there is nothing to win: 0 < 0 is false.
        let won = (best * l2).below(lx * lx, l2, Lanes::ZERO);
        slope = Lanes::ZERO.below(won, tried, slope);
        scale = Lanes::ZERO.below(won, lx / l2, scale);
        best = Lanes::ZERO.below(won, lx / l2 * lx, best);
    }
    let nothing = Lanes::splat(NOTHING);
    let codes = x.map(|x| {
        let code = round_to(slope * x, -nmax, nmax - 1.0) + Lanes::splat(nmax);
        magnitude.below(nothing, Lanes::ZERO, code)
    });
    (magnitude.below(nothing, Lanes::ZERO, scale), codes)
}

/// Scale, minimum (not above 0) and codes from 0 to `top`.
#[inline(always)]
fn affine(x: &Block, w: &Block, top: f32) -> (Lanes, Lanes, Block) {
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (w[0], w[0] * x[0]);
    for (&x, &w) in x.iter().zip(w).skip(1) {
        low = x.min(low);
        high = x.max(high);
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    low = low.min(Lanes::ZERO);
    let flat = low.below(high, Lanes::ZERO, Lanes::splat(1.0));
    let code = |slope: Lanes, base: Lanes, x: Lanes| round_to(slope * (x - base), 0.0, top);
    let error = |slope: Lanes, base: Lanes, scale: Lanes, min: Lanes| {
        let mut sum = Lanes::ZERO;
        for (&x, &w) in x.iter().zip(w) {
            let e = scale * code(slope, base, x) + min - x;
            sum = sum + w * (e * e);
        }
        sum
    };
    let mut slope = Lanes::splat(top) / (high - low);
    let mut scale = Lanes::splat(1.0) / slope;
    // The codes are those of `slope` and `base`; `low` is the minimum that suits them best, and
    // the next roundings start from it.
    let mut base = low;
    let mut best = error(slope, base, scale, low);
    for step in 0..=36 {
        let tried = Lanes::splat(-0.9 + 0.05 * step as f32 + top) / (high - low);
        let (mut l1, mut l2, mut lx) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
        for (&x, &w) in x.iter().zip(w) {
            let l = code(tried, low, x);
            l1 = l1 + w * l;
            l2 = l2 + w * l * l;
            lx = lx + w * l * x;
        }
        let det = sum_w * l2 - l1 * l1;
        let free_scale = (sum_w * lx - sum_x * l1) / det;
        let free_min = (l2 * sum_x - l1 * lx) / det;
        let this_scale = Lanes::ZERO.below(free_min, lx / l2, free_scale);
        let this_min = Lanes::ZERO.below(free_min, Lanes::ZERO, free_min);
        let e = error(tried, low, this_scale, this_min);
        let won = Lanes::ZERO.below(
            det,
            e.below(best, Lanes::splat(1.0), Lanes::ZERO),
            Lanes::ZERO,
        );
        (slope, base) = (
            Lanes::ZERO.below(won, tried, slope),
            Lanes::ZERO.below(won, low, base),
        );
        scale = Lanes::ZERO.below(won, this_scale, scale);
        low = Lanes::ZERO.below(won, this_min, low);
        best = Lanes::ZERO.below(won, e, best);
    }
    let flat = |yes, no| Lanes::ZERO.below(flat, yes, no);
    let codes = x.map(|x| flat(Lanes::ZERO, code(slope, base, x)));
    (flat(Lanes::ZERO, scale), low, codes)
}

/// The half nearest `value`, kept finite; 0 for NaN.
#[inline(always)]
fn half(value: f32) -> [u8; 2] {
    let value = if value.is_nan() { 0.0 } else { value };
    let limit = F16_OVERFLOW.next_down();
    f32_to_f16(value.clamp(-limit, limit)).to_le_bytes()
}

/// The codes of the block in `lane`.
#[inline(always)]
fn lane_codes(codes: &Block, lane: usize) -> [u8; BLOCK] {
    std::array::from_fn(|k| codes[k].0[lane] as i32 as u8)
}

/// `Q4_0` of up to eight blocks.
#[inline(always)]
pub(super) fn q4_0(x: &[f32], importance: &[f32], mean_square: f32, out: &mut [u8]) {
    let x: Block = transpose(x);
    let (d, codes) = symmetric(&x, &weights(&x, importance, mean_square), 8.0);
    for (lane, out) in out
        .as_chunks_mut::<18>()
        .0
        .iter_mut()
        .take(LANES)
        .enumerate()
    {
        out[..2].copy_from_slice(&half(d.0[lane]));
        out[2..].copy_from_slice(&nibbles(&lane_codes(&codes, lane)));
    }
}

/// `Q5_0` of up to eight blocks.
#[inline(always)]
pub(super) fn q5_0(x: &[f32], importance: &[f32], mean_square: f32, out: &mut [u8]) {
    let x: Block = transpose(x);
    let (d, codes) = symmetric(&x, &weights(&x, importance, mean_square), 16.0);
    for (lane, out) in out
        .as_chunks_mut::<22>()
        .0
        .iter_mut()
        .take(LANES)
        .enumerate()
    {
        let codes = lane_codes(&codes, lane);
        out[..2].copy_from_slice(&half(d.0[lane]));
        out[2..6].copy_from_slice(&fifth_bits(&codes));
        out[6..].copy_from_slice(&nibbles(&codes));
    }
}

/// `Q4_1` of up to eight blocks.
#[inline(always)]
pub(super) fn q4_1(x: &[f32], importance: &[f32], mean_square: f32, out: &mut [u8]) {
    let x: Block = transpose(x);
    let (d, m, codes) = affine(&x, &weights(&x, importance, mean_square), 15.0);
    for (lane, out) in out
        .as_chunks_mut::<20>()
        .0
        .iter_mut()
        .take(LANES)
        .enumerate()
    {
        out[..2].copy_from_slice(&half(d.0[lane]));
        out[2..4].copy_from_slice(&half(m.0[lane]));
        out[4..].copy_from_slice(&nibbles(&lane_codes(&codes, lane)));
    }
}

/// `Q5_1` of up to eight blocks.
#[inline(always)]
pub(super) fn q5_1(x: &[f32], importance: &[f32], mean_square: f32, out: &mut [u8]) {
    let x: Block = transpose(x);
    let (d, m, codes) = affine(&x, &weights(&x, importance, mean_square), 31.0);
    for (lane, out) in out
        .as_chunks_mut::<24>()
        .0
        .iter_mut()
        .take(LANES)
        .enumerate()
    {
        let codes = lane_codes(&codes, lane);
        out[..2].copy_from_slice(&half(d.0[lane]));
        out[2..4].copy_from_slice(&half(m.0[lane]));
        out[4..8].copy_from_slice(&fifth_bits(&codes));
        out[8..].copy_from_slice(&nibbles(&codes));
    }
}
