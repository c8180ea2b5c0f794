//! `Q2_K`, `Q4_K`, `Q5_K`: finds the scales, minima and codes of a block with the least weighted square error. A weight
//! is `d * scale * code - dmin * min`.
//!
//! Three steps, for all sub-blocks at once with one sub-block per lane:
//! 1. For each sub-block a real scale and minimum: several roundings to codes are tried, and for each the best scale and
//!    minimum follow in closed form (weighted least squares).
//! 2. For each sub-block the integer scale and minimum near these with the least error.
//! 3. `d` and `dmin` by least squares over all 256 weights for the codes of step 2. Steps 2 and 3 are repeated while the
//!    error falls.

use super::lanes::Lanes;
use super::scaling::{Scaled, to_half};

/// The parameters in which the three formats differ.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    /// The largest code.
    pub(super) top: f32,
    /// The largest integer scale and minimum.
    pub(super) top_scale: f32,
    /// Roundings to try: the range of a sub-block is divided into `top` plus each of these.
    pub(super) grid: &'static [f32],
}

/// A block of `G * 8` sub-blocks as it will be stored; lane `j % 8` of group `j / 8` is sub-block `j`.
pub(super) struct AffineBlock<V, const G: usize, const LEN: usize> {
    /// Half-precision bits of `d` and `dmin`.
    pub(super) d: u16,
    pub(super) dmin: u16,
    /// Integer scales and minima.
    pub(super) scales: [V; G],
    pub(super) mins: [V; G],
    /// Codes.
    pub(super) codes: [[V; LEN]; G],
}

/// Scale and minimum (not above 0) of a sub-block: a weight is `scale * code + min`.
#[derive(Clone, Copy)]
struct AffineFit<V> {
    scale: V,
    min: V,
    /// By how much the square error is smaller than that of encoding zeros.
    gain: V,
    /// How the square error grows with a change of scale and minimum: by `q2 * ds^2 + 2 * q1 * ds * dm + w * dm^2`.
    q1: V,
    q2: V,
}

/// Sums over a sub-block that do not depend on its codes.
#[derive(Clone, Copy)]
struct Sums<V> {
    w: V,
    wx: V,
}

/// The best line for codes `round(x * slope + shift)`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn fit<V: Lanes, const LEN: usize>(
    x: &[V; LEN],
    w: &[V; LEN],
    sums: Sums<V>,
    top: f32,
    slope: V,
    shift: V,
) -> AffineFit<V> {
    let (mut q1, mut q2, mut qx) = (V::zero(), V::zero(), V::zero());
    for (&x, &w) in x.iter().zip(w) {
        let q = (x * slope + shift)
            .max(V::zero())
            .min(V::splat(top))
            .round();
        let wq = w * q;
        q1 = q1 + wq;
        q2 = q2 + wq * q;
        qx = qx + wq * x;
    }
    // If nearly all codes are equal, their variance is only rounding noise and does not determine a scale.
    let (square, variance) = (sums.w * q2, sums.w * q2 - q1 * q1);
    let flat = variance.select_lt(square * V::splat(1e-5), V::splat(1.0), V::zero());
    let inverse = variance.inverse_or_zero();
    let scale = (sums.w * qx - sums.wx * q1) * inverse;
    let min = (q2 * sums.wx - q1 * qx) * inverse;
    // The format can only subtract a minimum; if it would have to be added, the line goes through 0.
    let through_zero = qx * q2.inverse_or_zero();
    let min = V::zero().select_lt(flat, V::zero(), min);
    let scale = min.select_lt(V::zero(), scale, through_zero);
    let min = min.min(V::zero());
    AffineFit {
        scale,
        min,
        gain: scale * qx + min * sums.wx,
        q1,
        q2,
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn better<V: Lanes>(a: AffineFit<V>, b: AffineFit<V>) -> AffineFit<V> {
    let least = a.gain * V::splat(CLEARLY);
    AffineFit {
        scale: least.select_lt(b.gain, b.scale, a.scale),
        min: least.select_lt(b.gain, b.min, a.min),
        gain: least.select_lt(b.gain, b.gain, a.gain),
        q1: least.select_lt(b.gain, b.q1, a.q1),
        q2: least.select_lt(b.gain, b.q2, a.q2),
    }
}

/// A gain counts as larger only by this factor. With few distinct values several roundings are exact; if rounding noise
/// decided between them, similar sub-blocks would get scales without a common divisor.
pub(super) const CLEARLY: f32 = 1.0 + 2.4e-7;

/// The first step: scale and minimum of each lane, in real numbers.
#[cfg_attr(not(debug_assertions), inline(always))]
fn search<V: Lanes, const LEN: usize>(
    x: &[V; LEN],
    w: &[V; LEN],
    format: Affine,
) -> (AffineFit<V>, V) {
    V::outlined(
        #[inline(always)]
        || {
            let (mut low, mut high) = (V::zero(), x[0]);
            let mut sums = Sums {
                w: V::zero(),
                wx: V::zero(),
            };
            for (&x, &w) in x.iter().zip(w) {
                low = x.min(low);
                high = x.max(high);
                sums.w = sums.w + w;
                sums.wx = sums.wx + w * x;
            }
            let per_range = (high - low).inverse_or_zero();
            // If all values are equal and not above 0, the minimum alone is exact.
            let gain = low * (sums.wx + sums.wx - low * sums.w);
            let zero = V::zero();
            let mut best = AffineFit {
                scale: zero,
                min: low,
                gain,
                q1: zero,
                q2: zero,
            };
            for &extra in format.grid {
                let slope = V::splat(format.top + extra) * per_range;
                best = better(best, fit(x, w, sums, format.top, slope, -low * slope));
            }
            for _ in 0..2 {
                let slope = best.scale.inverse_or_zero();
                best = better(best, fit(x, w, sums, format.top, slope, -best.min * slope));
            }
            (best, sums.w)
        },
    )
}

/// The weighted square error of a lane with the stored scale and minimum, and codes rounded for them.
#[cfg_attr(not(debug_assertions), inline(always))]
fn error<V: Lanes, const LEN: usize>(x: &[V; LEN], w: &[V; LEN], top: f32, scale: V, min: V) -> V {
    let slope = scale.inverse_or_zero();
    let mut sum = V::zero();
    for (&x, &w) in x.iter().zip(w) {
        let y = x + min;
        let q = (y * slope).max(V::zero()).min(V::splat(top)).round();
        let e = q * scale - y;
        sum = sum + w * (e * e);
    }
    sum
}

/// The second step for one lane group: the integers near `scale` and `min` with the least error.
#[cfg_attr(not(debug_assertions), inline(always))]
fn integers<V: Lanes, const LEN: usize>(
    x: &[V; LEN],
    w: &[V; LEN],
    format: Affine,
    d: f32,
    dmin: f32,
    (scale, min, lean): (V, V, V),
) -> (V, V, V) {
    V::outlined(
        #[inline(always)]
        || {
            // The change of the minimum that goes with a step of the scale.
            let (d, dmin, top) = (V::splat(d), V::splat(dmin), V::splat(format.top_scale));
            let lean = (lean * d * dmin.inverse_or_zero()).min(top);
            let mut best = (scale, min, V::splat(f32::INFINITY));
            for ds in [0.0, -1.0, 1.0] {
                let s = (scale + V::splat(ds)).max(V::zero()).min(top);
                let follow = (lean * (s - scale)).round();
                for dm in [0.0, -1.0, 1.0] {
                    let m = (min + follow + V::splat(dm)).max(V::zero()).min(top);
                    let e = error(x, w, format.top, d * s, dmin * m);
                    best = (
                        e.select_lt(best.2, s, best.0),
                        e.select_lt(best.2, m, best.1),
                        e.min(best.2),
                    );
                }
            }
            best
        },
    )
}

/// The half-precision step whose integer multiples (from `1 - top` to `top`) are closest to `values`, with square errors
/// weighted by `stiff`: its bits, and its value in units of `unit`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn step_for<V: Lanes, const G: usize>(
    values: &[V; G],
    stiff: &[V; G],
    top: f32,
    unit: f32,
) -> (u16, f32) {
    let largest = values.iter().fold(0.0f32, |a, v| a.max(v.largest()));
    let (mut best, mut least) = ((0, 0.0), f64::INFINITY);
    for attempt in 0..STEPS {
        let tried = to_half(largest / (top - top / 128.0 * attempt as f32), unit);
        let step = V::splat(tried.1);
        let per_step = step.inverse_or_zero();
        let mut sum = V::zero();
        for (&value, &stiff) in values.iter().zip(stiff) {
            let whole = (value * per_step)
                .min(V::splat(top))
                .max(V::splat(1.0 - top));
            let missing = whole.round() * step - value;
            sum = sum + stiff * (missing * missing);
        }
        let sum = sum.sum();
        if sum < least {
            (best, least) = (tried, sum);
        }
    }
    best
}

/// The number of steps that are tried.
const STEPS: usize = 16;

/// Encodes one block.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn encode<V: Lanes, const G: usize, const LEN: usize>(
    scaled: &Scaled<V, G, LEN>,
    format: Affine,
) -> AffineBlock<V, G, LEN> {
    let Scaled { x, w, unit } = scaled;
    let unit = *unit;
    let (mut scale, mut min) = ([V::zero(); G], [V::zero(); G]);
    let (mut stiff, mut lean, mut weight) = (scale, scale, scale);
    for g in 0..G {
        let (line, w) = search(&x[g], &w[g], format);
        (scale[g], min[g], weight[g]) = (line.scale, -line.min, w);
        // If the minimum may change with the scale, the error grows less.
        lean[g] = V::zero().select_lt(min[g], line.q1 * w.inverse_or_zero(), V::zero());
        stiff[g] = line.q2 - lean[g] * line.q1;
    }
    let (mut d, mut dv) = step_for(&scale, &stiff, format.top_scale, unit);
    let top = V::splat(format.top_scale);
    let mut scales = [V::zero(); G];
    let per_d = V::splat(dv).inverse_or_zero();
    for g in 0..G {
        scales[g] = (scale[g] * per_d).min(top).round();
        min[g] = (min[g] + lean[g] * (V::splat(dv) * scales[g] - scale[g])).max(V::zero());
    }
    let (mut dmin, mut dminv) = step_for(&min, &weight, format.top_scale, unit);
    let per_dmin = V::splat(dminv).inverse_or_zero();
    let mut mins = [V::zero(); G];
    let mut total = 0.0;
    for g in 0..G {
        let m = (min[g] * per_dmin).min(top).round();
        let (s, m, e) = integers(&x[g], &w[g], format, dv, dminv, (scales[g], m, lean[g]));
        (scales[g], mins[g]) = (s, m);
        total += e.sum();
    }
    for _ in 0..2 {
        let (new_d, new_dmin) = refit(x, w, format, dv, dminv, &scales, &mins);
        let (new_d, new_dv) = to_half(new_d, unit);
        let (new_dmin, new_dminv) = to_half(new_dmin, unit);
        if (new_d, new_dmin) == (d, dmin) {
            break;
        }
        let (mut new_scales, mut new_mins, mut new_total) = (scales, mins, 0.0);
        for g in 0..G {
            let (s, m, e) = integers(
                &x[g],
                &w[g],
                format,
                new_dv,
                new_dminv,
                (scales[g], mins[g], lean[g]),
            );
            (new_scales[g], new_mins[g]) = (s, m);
            new_total += e.sum();
        }
        if new_total >= total {
            break;
        }
        (d, dv, dmin, dminv, scales, mins, total) = (
            new_d, new_dv, new_dmin, new_dminv, new_scales, new_mins, new_total,
        );
    }
    let mut codes = [[V::zero(); LEN]; G];
    for g in 0..G {
        let slope = (V::splat(dv) * scales[g]).inverse_or_zero();
        let min = V::splat(dminv) * mins[g];
        for (code, &x) in codes[g].iter_mut().zip(&x[g]) {
            *code = ((x + min) * slope)
                .max(V::zero())
                .min(V::splat(format.top))
                .round();
        }
    }
    AffineBlock {
        d,
        dmin,
        scales,
        mins,
        codes,
    }
}

/// The third step: the real `d` and `dmin` with the least square error for these scales, minima and codes.
#[cfg_attr(not(debug_assertions), inline(always))]
fn refit<V: Lanes, const G: usize, const LEN: usize>(
    x: &[[V; LEN]; G],
    w: &[[V; LEN]; G],
    format: Affine,
    d: f32,
    dmin: f32,
    scales: &[V; G],
    mins: &[V; G],
) -> (f32, f32) {
    // Normal equations of x = d * (scale * code) - dmin * min.
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for g in 0..G {
        let slope = (V::splat(d) * scales[g]).inverse_or_zero();
        let min = V::splat(dmin) * mins[g];
        let z = V::zero();
        let (mut q1, mut q2, mut qx, mut w1, mut wx) = (z, z, z, z, z);
        for (&x, &w) in x[g].iter().zip(&w[g]) {
            let q = ((x + min) * slope).max(z).min(V::splat(format.top)).round();
            let wq = w * q;
            q1 = q1 + wq;
            q2 = q2 + wq * q;
            qx = qx + wq * x;
            w1 = w1 + w;
            wx = wx + w * x;
        }
        let (s, m) = (scales[g], mins[g]);
        aa += (s * s * q2).sum();
        ab += (s * m * q1).sum();
        bb += (m * m * w1).sum();
        ax += (s * qx).sum();
        bx += (m * wx).sum();
    }
    let det = aa * bb - ab * ab;
    if det > 1e-9 * aa * bb {
        let d = (ax * bb - ab * bx) / det;
        let dmin = (ab * ax - aa * bx) / det;
        if d >= 0.0 && dmin >= 0.0 {
            return (d as f32, dmin as f32);
        }
    }
    let only_d = if aa > 0.0 {
        (ax + f64::from(dmin) * ab) / aa
    } else {
        f64::from(d)
    };
    (only_d.max(0.0) as f32, dmin)
}
