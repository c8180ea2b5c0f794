//! `Q2_K`, `Q4_K`, `Q5_K`: values and weights of 256 in, the scales, minima and codes of least
//! weighted square error out. A weight is `d * scale * code - dmin * min`.
//!
//! Three steps, for all sub-blocks at once, one a lane. First each sub-block for itself, in real
//! numbers: a few roundings of it are tried, and for each the scale and minimum that suit it best
//! follow in closed form (weighted least squares). Then the integers: around the rounded scale of
//! each sub-block, those of least true error. Last `d` and `dmin`, least squares over all 256 for
//! the codes that came out; and again from the integers, as long as the error falls.

use super::half::{f16_to_f32, f32_to_f16};
use super::lanes::{LANES, Lanes};

/// What tells these formats apart.
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
pub(super) struct AffineBlock<const G: usize, const LEN: usize> {
    /// Half-precision bits of `d` and `dmin`.
    pub(super) d: u16,
    pub(super) dmin: u16,
    /// Integer scales and minima.
    pub(super) scales: [Lanes; G],
    pub(super) mins: [Lanes; G],
    /// Codes.
    pub(super) codes: [[Lanes; LEN]; G],
}

/// Scale and minimum (not above 0) of a sub-block: a weight is `scale * code + min`.
#[derive(Clone, Copy)]
struct Line {
    scale: Lanes,
    min: Lanes,
    /// By how much the square error is below that of zeros.
    gain: Lanes,
}

/// Sums over a sub-block that do not depend on its codes.
#[derive(Clone, Copy)]
struct Sums {
    w: Lanes,
    wx: Lanes,
}

/// The best line for codes `round(x * slope + shift)`.
#[inline(always)]
fn fit<const LEN: usize>(
    x: &[Lanes; LEN],
    w: &[Lanes; LEN],
    sums: Sums,
    top: f32,
    slope: Lanes,
    shift: Lanes,
) -> Line {
    let (mut q1, mut q2, mut qx) = (Lanes::ZERO, Lanes::ZERO, Lanes::ZERO);
    for (&x, &w) in x.iter().zip(w) {
        let q = (x * slope + shift)
            .max(Lanes::ZERO)
            .min(Lanes::splat(top))
            .round();
        let wq = w * q;
        q1 = q1 + wq;
        q2 = q2 + wq * q;
        qx = qx + wq * x;
    }
    let inverse = (sums.w * q2 - q1 * q1).inverse_or_zero();
    let scale = (sums.w * qx - sums.wx * q1) * inverse;
    let min = (q2 * sums.wx - q1 * qx) * inverse;
    // A minimum is subtracted: where it would have to be added, the line goes through 0.
    let through_zero = qx * q2.inverse_or_zero();
    let scale = Lanes::ZERO.below(min, through_zero, scale);
    let min = min.min(Lanes::ZERO);
    Line {
        scale,
        min,
        gain: scale * qx + min * sums.wx,
    }
}

#[inline(always)]
fn better(a: Line, b: Line) -> Line {
    Line {
        scale: a.gain.below(b.gain, b.scale, a.scale),
        min: a.gain.below(b.gain, b.min, a.min),
        gain: a.gain.max(b.gain),
    }
}

/// The first step: scale and minimum of each lane, in real numbers.
#[inline(always)]
fn search<const LEN: usize>(x: &[Lanes; LEN], w: &[Lanes; LEN], format: Affine) -> Line {
    let (mut low, mut high) = (Lanes::ZERO, x[0]);
    let mut sums = Sums {
        w: Lanes::ZERO,
        wx: Lanes::ZERO,
    };
    for (&x, &w) in x.iter().zip(w) {
        low = x.min(low);
        high = x.max(high);
        sums.w = sums.w + w;
        sums.wx = sums.wx + w * x;
    }
    let per_range = (high - low).inverse_or_zero();
    // Where all values are the same and not above 0 the minimum alone is exact.
    let mut best = Line {
        scale: Lanes::ZERO,
        min: low,
        gain: low * sums.wx,
    };
    for &extra in format.grid {
        let slope = Lanes::splat(format.top + extra) * per_range;
        best = better(best, fit(x, w, sums, format.top, slope, -low * slope));
    }
    for _ in 0..2 {
        let slope = best.scale.inverse_or_zero();
        best = better(best, fit(x, w, sums, format.top, slope, -best.min * slope));
    }
    best
}

/// The weighted square error of a lane with the scale and minimum as stored, codes rounded anew.
#[inline(always)]
fn error<const LEN: usize>(
    x: &[Lanes; LEN],
    w: &[Lanes; LEN],
    top: f32,
    scale: Lanes,
    min: Lanes,
) -> Lanes {
    let slope = scale.inverse_or_zero();
    let mut sum = Lanes::ZERO;
    for (&x, &w) in x.iter().zip(w) {
        let y = x + min;
        let q = (y * slope).max(Lanes::ZERO).min(Lanes::splat(top)).round();
        let e = q * scale - y;
        sum = sum + w * (e * e);
    }
    sum
}

/// The second step for one lane group: the integers near `scale` and `min` of least true error.
#[inline(always)]
fn integers<const LEN: usize>(
    x: &[Lanes; LEN],
    w: &[Lanes; LEN],
    format: Affine,
    d: f32,
    dmin: f32,
    scale: Lanes,
    min: Lanes,
) -> (Lanes, Lanes, Lanes) {
    let (d, dmin, top) = (
        Lanes::splat(d),
        Lanes::splat(dmin),
        Lanes::splat(format.top_scale),
    );
    let mut best = (scale, min, Lanes::splat(f32::INFINITY));
    for ds in [0.0, -1.0, 1.0] {
        let s = (scale + Lanes::splat(ds)).max(Lanes::ZERO).min(top);
        for dm in [0.0, -1.0, 1.0] {
            let m = (min + Lanes::splat(dm)).max(Lanes::ZERO).min(top);
            let e = error(x, w, format.top, d * s, dmin * m);
            best = (
                e.below(best.2, s, best.0),
                e.below(best.2, m, best.1),
                e.min(best.2),
            );
        }
    }
    best
}

/// The half nearest `value >= 0`, as a number; at least the smallest one unless `value` is 0.
#[inline(always)]
fn to_half(value: f32, unit: f32) -> (u16, f32) {
    let half = f32_to_f16((value * unit).min(65504.0));
    let half = if half == 0 && value > 0.0 { 1 } else { half };
    (half, f16_to_f32(half) / unit)
}

/// Encodes one block. `x` is scaled so that its largest magnitude lies in `[1, 2)`; `unit`, a
/// power of two, is what `x` was divided by. Weights are of the order of 1.
#[inline(always)]
pub(super) fn encode<const G: usize, const LEN: usize>(
    x: &[[Lanes; LEN]; G],
    w: &[[Lanes; LEN]; G],
    unit: f32,
    format: Affine,
) -> AffineBlock<G, LEN> {
    let mut lines = [Line {
        scale: Lanes::ZERO,
        min: Lanes::ZERO,
        gain: Lanes::ZERO,
    }; G];
    let (mut scale_max, mut min_max) = (0.0f32, 0.0f32);
    for g in 0..G {
        lines[g] = search(&x[g], &w[g], format);
        scale_max = scale_max.max(lines[g].scale.largest());
        min_max = min_max.max((-lines[g].min).largest());
    }
    let (mut d, mut dv) = to_half(scale_max / format.top_scale, unit);
    let (mut dmin, mut dminv) = to_half(min_max / format.top_scale, unit);
    let per_d = Lanes::splat(if dv > 0.0 { 1.0 / dv } else { 0.0 });
    let per_dmin = Lanes::splat(if dminv > 0.0 { 1.0 / dminv } else { 0.0 });
    let mut scales = [Lanes::ZERO; G];
    let mut mins = [Lanes::ZERO; G];
    let mut total = 0.0;
    let top = Lanes::splat(format.top_scale);
    for g in 0..G {
        let scale = (lines[g].scale * per_d).min(top).round();
        let min = (-lines[g].min * per_dmin).min(top).round();
        let (s, m, e) = integers(&x[g], &w[g], format, dv, dminv, scale, min);
        (scales[g], mins[g]) = (s, m);
        total += e.sum();
    }
    for _ in 0..3 {
        let (new_d, new_dmin) = refit(x, w, format, dv, dminv, &scales, &mins);
        let (new_d, new_dv) = to_half(new_d, unit);
        let (new_dmin, new_dminv) = to_half(new_dmin, unit);
        if (new_d, new_dmin) == (d, dmin) {
            break;
        }
        let (mut new_scales, mut new_mins, mut new_total) = (scales, mins, 0.0);
        for g in 0..G {
            let (s, m, e) = integers(&x[g], &w[g], format, new_dv, new_dminv, scales[g], mins[g]);
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
    let mut codes = [[Lanes::ZERO; LEN]; G];
    for g in 0..G {
        let slope = (Lanes::splat(dv) * scales[g]).inverse_or_zero();
        let min = Lanes::splat(dminv) * mins[g];
        for (code, &x) in codes[g].iter_mut().zip(&x[g]) {
            *code = ((x + min) * slope)
                .max(Lanes::ZERO)
                .min(Lanes::splat(format.top))
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

/// The third step: the real `d` and `dmin` of least square error for the codes that these give.
#[inline(always)]
fn refit<const G: usize, const LEN: usize>(
    x: &[[Lanes; LEN]; G],
    w: &[[Lanes; LEN]; G],
    format: Affine,
    d: f32,
    dmin: f32,
    scales: &[Lanes; G],
    mins: &[Lanes; G],
) -> (f32, f32) {
    // Normal equations of x = d * (scale * code) - dmin * min.
    let (mut aa, mut ab, mut bb, mut ax, mut bx) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for g in 0..G {
        let slope = (Lanes::splat(d) * scales[g]).inverse_or_zero();
        let min = Lanes::splat(dmin) * mins[g];
        let z = Lanes::ZERO;
        let (mut q1, mut q2, mut qx, mut w1, mut wx) = (z, z, z, z, z);
        for (&x, &w) in x[g].iter().zip(&w[g]) {
            let q = ((x + min) * slope)
                .max(z)
                .min(Lanes::splat(format.top))
                .round();
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

/// The order of sub-blocks undone: code `k` of sub-block `j` at `j * LEN + k`.
#[inline(always)]
pub(super) fn in_order<const G: usize, const LEN: usize>(codes: &[[Lanes; LEN]; G]) -> [u8; 256] {
    let mut out = [0; 256];
    for (g, group) in codes.iter().enumerate() {
        for (k, code) in group.iter().enumerate() {
            for (lane, &code) in code.0.iter().enumerate() {
                out[(g * LANES + lane) * LEN + k] = code as i32 as u8;
            }
        }
    }
    out
}
