//! Scales the values of a block to magnitudes around 1 and computes the weights of their errors, transposed so that each
//! lane holds a sub-block.

use super::half::{f16_to_f32, f32_to_f16};
use super::lanes::{LANES, Lanes, transpose};

/// A block whose values are all below this is encoded as zeros: the smallest positive number that any of
/// the formats can store is 2^-24.
const NOTHING: f32 = 1.0 / (1u32 << 26) as f32;

/// The weight of a value's square error as a function of its magnitude.
#[derive(Clone, Copy)]
pub(super) enum BySize {
    /// Equal for all values; used only with importance.
    Alike,
    /// `|x|`, or `sqrt(x^2 + mean square of the block)` with importance.
    Magnitude,
    /// `|x|` plus the root mean square of the sub-block, or `sqrt(x^2 + 2 mean square)`.
    RaisedMagnitude,
    /// `x^2`, or `sqrt(x^2 + 2 mean square)`.
    Square,
}

/// The weights of square errors. The functions of the magnitude are those of ggml's search; a share of their mean over
/// the sub-block is added to each, so that the unweighted error becomes smaller too.
#[derive(Clone, Copy)]
pub(super) struct Weighing {
    /// The weight without importance.
    pub(super) without: BySize,
    /// The factor on the importance of the column.
    pub(super) with: BySize,
    /// The share of the mean that is added, without importance and with it.
    pub(super) even: (f32, f32),
}

/// A block of `G * 8` sub-blocks: lane `j % 8` of group `j / 8` is sub-block `j`.
pub(super) struct Scaled<V, const G: usize, const LEN: usize> {
    /// Values divided by `unit`, a power of two, so that the largest magnitude lies in `[1, 2)`.
    pub(super) x: [[V; LEN]; G],
    /// The weights of their square errors; the largest is around 1.
    pub(super) w: [[V; LEN]; G],
    pub(super) unit: f32,
}

/// The power of two by which `largest` is divided to lie in `[1, 2)`; infinite if the block is encoded as zeros.
#[cfg_attr(not(debug_assertions), inline(always))]
fn unit_of(largest: f32) -> f32 {
    if largest < NOTHING {
        f32::INFINITY
    } else {
        f32::from_bits(largest.to_bits() & 0x7f80_0000)
    }
}

/// Scales a block with one unit for all. `None` if it would be encoded as zeros.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn block<V: Lanes, const G: usize, const LEN: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    weighing: Weighing,
) -> Option<Scaled<V, G, LEN>> {
    let largest = largest::<V>(values);
    if largest < NOTHING {
        return None;
    }
    let unit = unit_of(largest);
    let per_unit = V::splat(1.0 / unit);
    let mut x = [[V::zero(); LEN]; G];
    let mut w = [[V::zero(); LEN]; G];
    let mut squares = V::zero();
    for (x, values) in x.iter_mut().zip(values.chunks(LEN * LANES)) {
        *x = transpose(values);
        for x in x.iter_mut() {
            *x = *x * per_unit;
            squares = squares + *x * *x;
        }
    }
    match importance {
        None => {
            for (x, w) in x.iter().zip(&mut w) {
                *w = by_size(x, weighing);
            }
        }
        Some(importance) => {
            let mean = V::splat((squares.sum() / (G * LEN * LANES) as f64) as f32);
            let most = V::splat(self::largest::<V>(importance));
            for ((x, w), part) in x.iter().zip(&mut w).zip(importance.chunks(LEN * LANES)) {
                *w = by_importance(x, &transpose(part), most, mean, weighing);
            }
        }
    }
    even(
        &mut w,
        if importance.is_some() {
            weighing.even.1
        } else {
            weighing.even.0
        },
    );
    Some(Scaled { x, w, unit })
}

/// Scales up to eight blocks, one per lane, each with its own unit (infinite if it would be encoded as zeros).
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn lanes<V: Lanes, const LEN: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    weighing: Weighing,
) -> ([V; LEN], [V; LEN], V) {
    let mut x: [V; LEN] = transpose(values);
    let unit = V::from_array(most(&x).to_array().map(unit_of));
    let per_unit = V::splat(1.0) / unit;
    let mut squares = V::zero();
    for x in &mut x {
        *x = *x * per_unit;
        squares = squares + *x * *x;
    }
    let mut w = match importance {
        None => by_size(&x, weighing),
        Some(importance) => {
            let importance = transpose(importance);
            let mean = squares * V::splat(1.0 / LEN as f32);
            by_importance(&x, &importance, most(&importance), mean, weighing)
        }
    };
    // Each lane is a block of its own, with a mean of its own.
    let share = if importance.is_some() {
        weighing.even.1
    } else {
        weighing.even.0
    };
    let mut sum = V::zero();
    for &w in &w {
        sum = sum + w.sqrt();
    }
    let root = sum * V::splat(1.0 / LEN as f32);
    let more = root * root * V::splat(share);
    for w in &mut w {
        *w = *w + more;
    }
    (x, w, unit)
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn largest<V: Lanes>(values: &[f32]) -> f32 {
    let mut largest = V::zero();
    for eight in values.as_chunks::<LANES>().0 {
        largest = V::from_array(*eight).abs().max(largest);
    }
    largest.largest()
}

/// The largest magnitude in each lane.
#[cfg_attr(not(debug_assertions), inline(always))]
fn most<V: Lanes, const LEN: usize>(values: &[V; LEN]) -> V {
    let mut largest = V::zero();
    for value in values {
        largest = value.abs().max(largest);
    }
    largest
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn by_size<V: Lanes, const LEN: usize>(x: &[V; LEN], weighing: Weighing) -> [V; LEN] {
    let mut w = [V::splat(1.0); LEN];
    match weighing.without {
        BySize::Alike => {}
        BySize::Magnitude => {
            for (w, x) in w.iter_mut().zip(x) {
                *w = x.abs();
            }
        }
        BySize::Square => {
            for (w, &x) in w.iter_mut().zip(x) {
                *w = x * x;
            }
        }
        BySize::RaisedMagnitude => {
            let mut squares = V::zero();
            for &x in x {
                squares = squares + x * x;
            }
            let typical = (squares * V::splat(1.0 / LEN as f32)).sqrt();
            for (w, x) in w.iter_mut().zip(x) {
                *w = typical + x.abs();
            }
        }
    }
    w
}

/// `most` is the largest importance of the block, `mean` the mean square of its values.
#[cfg_attr(not(debug_assertions), inline(always))]
fn by_importance<V: Lanes, const LEN: usize>(
    x: &[V; LEN],
    importance: &[V; LEN],
    most: V,
    mean: V,
    weighing: Weighing,
) -> [V; LEN] {
    // A column with importance 0 keeps a small weight, so that it decides between choices that are equal otherwise.
    // If no column has importance, or too little to divide by, all weights are equal.
    let per_most = most.inverse_or_zero();
    let floor = V::zero().select_lt(per_most, V::splat(1e-6), V::splat(1.0));
    let mut w = [V::zero(); LEN];
    for ((w, &importance), &x) in w.iter_mut().zip(importance).zip(x) {
        let importance = (importance * per_most).max(floor);
        *w = match weighing.with {
            BySize::Alike => importance,
            BySize::Magnitude => importance * (mean + x * x).sqrt(),
            BySize::RaisedMagnitude | BySize::Square => importance * (mean + mean + x * x).sqrt(),
        };
    }
    w
}

/// Adds `share` of a typical weight to each weight: the square of the mean of square roots, which a few very large
/// weights change less than the mean.
#[cfg_attr(not(debug_assertions), inline(always))]
fn even<V: Lanes, const LEN: usize>(groups: &mut [[V; LEN]], share: f32) {
    let mut sum = V::zero();
    for &w in groups.iter().flatten() {
        sum = sum + w.sqrt();
    }
    let root = (sum.sum() / (groups.len() * LEN * LANES) as f64) as f32;
    let more = V::splat(share * root * root);
    for w in groups.iter_mut().flatten() {
        *w = *w + more;
    }
}

/// The half-precision number nearest `value * unit`: its bits, and its value in units of `unit`. It is finite, and 0 only
/// if `value` is.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn to_half(value: f32, unit: f32) -> (u16, f32) {
    let half = f32_to_f16((value * unit).clamp(-65504.0, 65504.0));
    let half = if half & 0x7fff == 0 && value != 0.0 {
        half | 1
    } else {
        half
    };
    (half, f16_to_f32(half) / unit)
}
