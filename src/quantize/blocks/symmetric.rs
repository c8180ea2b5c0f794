//! `Q3_K`, `Q6_K`, `IQ4_XS`, `IQ4_NL`: finds the scales and codes of a block with the least
//! weighted square error. A weight is `d * scale * level`, and scales have a sign.
//!
//! The steps are those of [`super::affine`] without the minimum. The formats differ in their [`Levels`].

use super::affine::{CLEARLY, step_for};
use super::lanes::Lanes;
use super::scaling::{Scaled, to_half};

/// The values that codes stand for.
pub(super) trait Levels {
    /// The level of largest magnitude, which is negative.
    const EXTREME: f32;
    /// Integer scales reach from minus this to this minus 1.
    const SCALES: f32;
    /// The scales that are tried: the extreme value is mapped to `EXTREME` minus each of these.
    const GRID: &'static [f32];
    /// Whether the opposite signs are tried too: with few levels the additional one on the negative side matters.
    const BOTH_SIGNS: bool;
    /// The level nearest to each lane. NaN gives some level.
    fn snap<V: Lanes>(value: V) -> V;
}

/// Whole numbers from `-N` to `N - 1`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn snap_whole<V: Lanes>(value: V, n: f32) -> V {
    value.max(V::splat(-n)).min(V::splat(n - 1.0)).round()
}

pub(super) struct Q3;
impl Levels for Q3 {
    const EXTREME: f32 = -4.0;
    const SCALES: f32 = 32.0;
    const GRID: &'static [f32] = &[-0.9, -0.6, -0.3, 0.0, 0.3, 0.6, 0.9];
    const BOTH_SIGNS: bool = true;
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn snap<V: Lanes>(value: V) -> V {
        snap_whole(value, 4.0)
    }
}

pub(super) struct Q6;
impl Levels for Q6 {
    const EXTREME: f32 = -32.0;
    const SCALES: f32 = 128.0;
    const GRID: &'static [f32] = &[-0.8, -0.4, 0.0, 0.4, 0.8];
    const BOTH_SIGNS: bool = false;
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn snap<V: Lanes>(value: V) -> V {
        snap_whole(value, 32.0)
    }
}

/// The levels of `IQ4_NL` and `IQ4_XS`, `kvalues_iq4nl` of `ggml-common.h`.
pub(crate) const IQ4_LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

pub(super) struct Iq4;
impl Levels for Iq4 {
    const EXTREME: f32 = -127.0;
    const SCALES: f32 = 32.0;
    const GRID: &'static [f32] = &[-7.0, -4.5, -2.0, 0.0, 2.0, 4.5, 7.0];
    const BOTH_SIGNS: bool = true;
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn snap<V: Lanes>(value: V) -> V {
        let mut level = V::splat(f32::from(IQ4_LEVELS[0]));
        for pair in IQ4_LEVELS.windows(2) {
            let (low, high) = (f32::from(pair[0]), f32::from(pair[1]));
            let middle = V::splat((low + high) / 2.0);
            level = value.select_lt(middle, level, V::splat(high));
        }
        level
    }
}

/// A block of `G * 8` sub-blocks as it will be stored.
pub(super) struct SymmetricBlock<V, const G: usize, const LEN: usize> {
    /// Half-precision bits of `d`.
    pub(super) d: u16,
    /// Integer scales, signed.
    pub(super) scales: [V; G],
    /// Levels, not codes.
    pub(super) levels: [[V; LEN]; G],
}

/// The first step: the scale of each lane, in real numbers.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn search<V: Lanes, L: Levels, const LEN: usize>(
    x: &[V; LEN],
    w: &[V; LEN],
) -> ScaleFit<V> {
    V::outlined(
        #[inline(always)]
        || {
            let (mut magnitude, mut extreme) = (V::zero(), V::zero());
            for &x in x {
                extreme = magnitude.select_lt(x.abs(), x, extreme);
                magnitude = magnitude.max(x.abs());
            }
            let per_extreme = extreme.inverse_or_zero();
            let mut best = ScaleFit {
                scale: V::zero(),
                gain: V::zero(),
                stiff: V::zero(),
            };
            for &extra in L::GRID {
                best = better(
                    best,
                    fit::<V, L, LEN>(x, w, V::splat(L::EXTREME - extra) * per_extreme),
                );
                if L::BOTH_SIGNS {
                    best = better(
                        best,
                        fit::<V, L, LEN>(x, w, V::splat(extra - L::EXTREME) * per_extreme),
                    );
                }
            }
            better(best, fit::<V, L, LEN>(x, w, best.scale.inverse_or_zero()))
        },
    )
}

/// The scale of a lane, and by how much the square error is below that of zeros.
#[derive(Clone, Copy)]
pub(super) struct ScaleFit<V> {
    pub(super) scale: V,
    gain: V,
    /// The factor by which the square error grows with the square of a change of the scale.
    stiff: V,
}

/// The best scale for the levels nearest `x * slope`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn fit<V: Lanes, L: Levels, const LEN: usize>(x: &[V; LEN], w: &[V; LEN], slope: V) -> ScaleFit<V> {
    let (mut qx, mut qq) = (V::zero(), V::zero());
    for (&x, &w) in x.iter().zip(w) {
        let q = L::snap(x * slope);
        let wq = w * q;
        qx = qx + wq * x;
        qq = qq + wq * q;
    }
    let scale = qx * qq.inverse_or_zero();
    ScaleFit {
        scale,
        gain: scale * qx,
        stiff: qq,
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn better<V: Lanes>(a: ScaleFit<V>, b: ScaleFit<V>) -> ScaleFit<V> {
    let least = a.gain * V::splat(CLEARLY);
    ScaleFit {
        scale: least.select_lt(b.gain, b.scale, a.scale),
        gain: least.select_lt(b.gain, b.gain, a.gain),
        stiff: least.select_lt(b.gain, b.stiff, a.stiff),
    }
}

/// The weighted square error of a lane with the stored scale, and levels chosen for it.
#[cfg_attr(not(debug_assertions), inline(always))]
fn error<V: Lanes, L: Levels, const LEN: usize>(x: &[V; LEN], w: &[V; LEN], scale: V) -> V {
    let slope = scale.inverse_or_zero();
    let mut sum = V::zero();
    for (&x, &w) in x.iter().zip(w) {
        let e = L::snap(x * slope) * scale - x;
        sum = sum + w * (e * e);
    }
    sum
}

/// The second step for one lane group: the integer near `scale` with the least error.
#[cfg_attr(not(debug_assertions), inline(always))]
fn integers<V: Lanes, L: Levels, const LEN: usize>(
    x: &[V; LEN],
    w: &[V; LEN],
    d: f32,
    scale: V,
) -> (V, V) {
    V::outlined(
        #[inline(always)]
        || {
            let mut best = (scale, V::splat(f32::INFINITY));
            for step in [0.0, -1.0, 1.0] {
                let s = (scale + V::splat(step))
                    .max(V::splat(-L::SCALES))
                    .min(V::splat(L::SCALES - 1.0));
                let e = error::<V, L, LEN>(x, w, V::splat(d) * s);
                best = (e.select_lt(best.1, s, best.0), e.min(best.1));
            }
            best
        },
    )
}

/// Encodes one block.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn encode<V: Lanes, L: Levels, const G: usize, const LEN: usize>(
    scaled: &Scaled<V, G, LEN>,
) -> SymmetricBlock<V, G, LEN> {
    let Scaled { x, w, unit } = scaled;
    let unit = *unit;
    let (mut real, mut stiff) = ([V::zero(); G], [V::zero(); G]);
    let mut largest = 0.0f32;
    for g in 0..G {
        let found = search::<V, L, LEN>(&x[g], &w[g]);
        (real[g], stiff[g]) = (found.scale, found.stiff);
        for s in real[g].to_array() {
            largest = if largest.abs() < s.abs() { s } else { largest };
        }
    }
    // The largest scale becomes a negative integer, since there is one more of those.
    let sign = V::splat(if largest < 0.0 { 1.0 } else { -1.0 });
    let (mut d, mut dv) = step_for(&real.map(|s| -s * sign), &stiff, L::SCALES, unit);
    if largest > 0.0 {
        (d, dv) = (d | 0x8000, -dv);
    }
    let per_d = V::splat(dv).inverse_or_zero();
    let mut scales = [V::zero(); G];
    let mut total = 0.0;
    for g in 0..G {
        let scale = snap_whole(real[g] * per_d, L::SCALES);
        let (s, e) = integers::<V, L, LEN>(&x[g], &w[g], dv, scale);
        scales[g] = s;
        total += e.sum();
    }
    for _ in 0..2 {
        let (new_d, new_dv) = to_half(refit::<V, L, G, LEN>(x, w, dv, &scales), unit);
        if new_d == d {
            break;
        }
        let (mut new_scales, mut new_total) = (scales, 0.0);
        for g in 0..G {
            let (s, e) = integers::<V, L, LEN>(&x[g], &w[g], new_dv, scales[g]);
            new_scales[g] = s;
            new_total += e.sum();
        }
        if new_total >= total {
            break;
        }
        (d, dv, scales, total) = (new_d, new_dv, new_scales, new_total);
    }
    let mut levels = [[V::zero(); LEN]; G];
    for g in 0..G {
        let slope = (V::splat(dv) * scales[g]).inverse_or_zero();
        for (level, &x) in levels[g].iter_mut().zip(&x[g]) {
            *level = L::snap(x * slope);
        }
    }
    SymmetricBlock { d, scales, levels }
}

/// The third step: the real `d` with the least square error for these scales and levels.
#[cfg_attr(not(debug_assertions), inline(always))]
fn refit<V: Lanes, L: Levels, const G: usize, const LEN: usize>(
    x: &[[V; LEN]; G],
    w: &[[V; LEN]; G],
    d: f32,
    scales: &[V; G],
) -> f32 {
    let (mut aa, mut ax) = (0.0, 0.0);
    for g in 0..G {
        let slope = (V::splat(d) * scales[g]).inverse_or_zero();
        let (mut qx, mut qq) = (V::zero(), V::zero());
        for (&x, &w) in x[g].iter().zip(&w[g]) {
            let q = L::snap(x * slope);
            let wq = w * q;
            qx = qx + wq * x;
            qq = qq + wq * q;
        }
        aa += (scales[g] * scales[g] * qq).sum();
        ax += (scales[g] * qx).sum();
    }
    if aa > 0.0 { (ax / aa) as f32 } else { d }
}
