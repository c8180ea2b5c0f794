//! Encoders of the 32-weight formats with importance, byte for byte as ggml's, for finite values.
//!
//! Eight blocks are searched at once, one per lane; within a lane arithmetic and order are those of
//! `make_qx_quants` and `make_qkx3_quants` of `ggml-quants.c`.

use super::half::{F16_OVERFLOW, f32_to_f16};
use super::lanes::{LANES, Lanes, transpose};
use super::legacy::{self, BLOCK, fifth_bits, nibbles};
use super::rows;

/// The largest finite half.
const LARGEST_HALF: f32 = 65504.0;

type Block<V> = [V; BLOCK];

/// Blocks whose largest magnitude is below this become zeros, as in ggml.
const NOTHING: f32 = 1e-15;

/// The mean square of a row, summed in order as ggml does.
#[cfg_attr(not(debug_assertions), inline(always))]
fn mean_square(row: &[f32]) -> f32 {
    row.iter().fold(0.0f32, |sum, &v| sum + v * v) / row.len() as f32
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn weights<V: Lanes>(x: &Block<V>, importance: &[f32], mean_square: f32) -> Block<V> {
    let mut w: Block<V> = transpose(importance);
    for (w, &x) in w.iter_mut().zip(x) {
        *w = *w * (V::splat(mean_square) + x * x).sqrt();
    }
    w
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn round_to<V: Lanes>(value: V, low: f32, high: f32) -> V {
    value.round().min(V::splat(high)).max(V::splat(low))
}

/// Sums of weight x code x value and weight x code squared.
#[cfg_attr(not(debug_assertions), inline(always))]
fn symmetric_sums<V: Lanes>(x: &Block<V>, w: &Block<V>, nmax: f32, slope: V) -> (V, V) {
    let (mut lx, mut l2) = (V::zero(), V::zero());
    for (&x, &w) in x.iter().zip(w) {
        let l = round_to(slope * x, -nmax, nmax - 1.0);
        lx = lx + w * x * l;
        l2 = l2 + w * l * l;
    }
    (lx, l2)
}

/// Scale and codes of `nmax * 2` levels around 0.
#[cfg_attr(not(debug_assertions), inline(always))]
fn symmetric<V: Lanes>(x: &Block<V>, w: &Block<V>, nmax: f32) -> (V, Block<V>) {
    let (mut magnitude, mut extreme) = (V::zero(), V::zero());
    for &x in x {
        extreme = magnitude.select_lt(x.abs(), x, extreme);
        magnitude = magnitude.max(x.abs());
    }
    let mut slope = V::splat(-nmax) / extreme;
    let (lx, l2) = symmetric_sums(x, w, nmax, slope);
    let mut scale = V::zero().select_lt(l2, lx / l2, V::zero());
    let mut best = scale * lx;
    for step in (-9..=9).filter(|&step| step != 0) {
        let tried = -V::splat(nmax + 0.1 * step as f32) / extreme;
        let (lx, l2) = symmetric_sums(x, w, nmax, tried);
        // With all weights 0 nothing is selected, since 0 < 0 is false.
        let won = (best * l2).select_lt(lx * lx, l2, V::zero());
        slope = V::zero().select_lt(won, tried, slope);
        scale = V::zero().select_lt(won, lx / l2, scale);
        best = V::zero().select_lt(won, lx / l2 * lx, best);
    }
    let nothing = V::splat(NOTHING);
    let codes = x.map(|x| {
        let code = round_to(slope * x, -nmax, nmax - 1.0) + V::splat(nmax);
        magnitude.select_lt(nothing, V::zero(), code)
    });
    (magnitude.select_lt(nothing, V::zero(), scale), codes)
}

/// The square error of a scale and minimum for the codes of a slope and base.
#[cfg_attr(not(debug_assertions), inline(always))]
fn affine_error<V: Lanes>(
    x: &Block<V>,
    w: &Block<V>,
    top: f32,
    (slope, base): (V, V),
    (scale, min): (V, V),
) -> V {
    let mut sum = V::zero();
    for (&x, &w) in x.iter().zip(w) {
        let e = scale * round_to(slope * (x - base), 0.0, top) + min - x;
        sum = sum + w * (e * e);
    }
    sum
}

/// Scale, minimum (not above 0) and codes from 0 to `top`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn affine<V: Lanes>(x: &Block<V>, w: &Block<V>, top: f32) -> (V, V, Block<V>) {
    let (mut low, mut high) = (x[0], x[0]);
    let (mut sum_w, mut sum_x) = (w[0], w[0] * x[0]);
    for (&x, &w) in x.iter().zip(w).skip(1) {
        low = x.min(low);
        high = x.max(high);
        sum_w = sum_w + w;
        sum_x = sum_x + w * x;
    }
    low = low.min(V::zero());
    let flat = low.select_lt(high, V::zero(), V::splat(1.0));
    let mut slope = V::splat(top) / (high - low);
    let mut scale = V::splat(1.0) / slope;
    // The codes are those of `slope` and `base`; `low` is the best minimum for them, from which the next roundings
    // start.
    let mut base = low;
    let mut best = affine_error(x, w, top, (slope, base), (scale, low));
    for step in 0..=36 {
        let tried = V::splat(-0.9 + 0.05 * step as f32 + top) / (high - low);
        let (mut l1, mut l2, mut lx) = (V::zero(), V::zero(), V::zero());
        for (&x, &w) in x.iter().zip(w) {
            let l = round_to(tried * (x - low), 0.0, top);
            l1 = l1 + w * l;
            l2 = l2 + w * l * l;
            lx = lx + w * l * x;
        }
        let det = sum_w * l2 - l1 * l1;
        let free_scale = (sum_w * lx - sum_x * l1) / det;
        let free_min = (l2 * sum_x - l1 * lx) / det;
        let this_scale = V::zero().select_lt(free_min, lx / l2, free_scale);
        let this_min = V::zero().select_lt(free_min, V::zero(), free_min);
        let e = affine_error(x, w, top, (tried, low), (this_scale, this_min));
        let won = V::zero().select_lt(det, e.select_lt(best, V::splat(1.0), V::zero()), V::zero());
        (slope, base) = (
            V::zero().select_lt(won, tried, slope),
            V::zero().select_lt(won, low, base),
        );
        scale = V::zero().select_lt(won, this_scale, scale);
        low = V::zero().select_lt(won, this_min, low);
        best = V::zero().select_lt(won, e, best);
    }
    let flat = |yes, no| V::zero().select_lt(flat, yes, no);
    let codes = x.map(|x| flat(V::zero(), round_to(slope * (x - base), 0.0, top)));
    (flat(V::zero(), scale), low, codes)
}

/// The half nearest `value`, kept finite; 0 for NaN.
#[cfg_attr(not(debug_assertions), inline(always))]
fn half(value: f32) -> [u8; 2] {
    let value = if value.is_nan() { 0.0 } else { value };
    let limit = F16_OVERFLOW.next_down();
    f32_to_f16(value.clamp(-limit, limit)).to_le_bytes()
}

/// The codes of the block in `lane`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn lane_codes<V: Lanes>(codes: &Block<V>, lane: usize) -> [u8; BLOCK] {
    std::array::from_fn(|k| codes[k].to_bytes()[lane])
}

/// Encodes groups of up to eight blocks of a row. A row with values beyond the largest half is encoded without
/// importance, since the search could find scales or minima that cannot be stored.
macro_rules! encoder {
    ($name:ident, $bytes:literal, |$x:ident, $w:ident| $search:expr, |$found:ident, $lane:ident, $to:ident| $write:block) => {
        #[cfg_attr(not(debug_assertions), inline(always))]
        pub(super) fn $name<V: Lanes>(values: &[f32], row: usize, importance: &[f32], out: &mut [u8]) {
            for (values, out) in rows::rows(values, row, out) {
                if values.iter().any(|v| v.abs() > LARGEST_HALF) {
                    legacy::$name(values, out);
                    continue;
                }
                let mean_square = mean_square(values);
                for (x, importance, out) in rows::groups::<$bytes>(values, Some(importance), out) {
                    let $x: &Block<V> = &transpose(x);
                    let $w = &weights($x, importance.unwrap_or_default(), mean_square);
                    let $found = $search;
                    for ($lane, $to) in out.iter_mut().enumerate().take(LANES) $write
                }
            }
        }
    };
}

encoder!(q4_0, 18, |x, w| symmetric(x, w, 8.0), |found, lane, out| {
    let (d, codes) = (found.0.to_array()[lane], lane_codes(&found.1, lane));
    out[..2].copy_from_slice(&half(d));
    out[2..].copy_from_slice(&nibbles(&codes));
});

encoder!(
    q5_0,
    22,
    |x, w| symmetric(x, w, 16.0),
    |found, lane, out| {
        let (d, codes) = (found.0.to_array()[lane], lane_codes(&found.1, lane));
        out[..2].copy_from_slice(&half(d));
        out[2..6].copy_from_slice(&fifth_bits(&codes));
        out[6..].copy_from_slice(&nibbles(&codes));
    }
);

encoder!(q4_1, 20, |x, w| affine(x, w, 15.0), |found, lane, out| {
    let (d, m, codes) = (
        found.0.to_array()[lane],
        found.1.to_array()[lane],
        lane_codes(&found.2, lane),
    );
    out[..2].copy_from_slice(&half(d));
    out[2..4].copy_from_slice(&half(m));
    out[4..].copy_from_slice(&nibbles(&codes));
});

encoder!(q5_1, 24, |x, w| affine(x, w, 31.0), |found, lane, out| {
    let (d, m, codes) = (
        found.0.to_array()[lane],
        found.1.to_array()[lane],
        lane_codes(&found.2, lane),
    );
    out[..2].copy_from_slice(&half(d));
    out[2..4].copy_from_slice(&half(m));
    out[4..8].copy_from_slice(&fifth_bits(&codes));
    out[8..].copy_from_slice(&nibbles(&codes));
});
