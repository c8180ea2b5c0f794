//! The search for a block: real scales of its sub-blocks, a step `d` for all of them, the integer scales with the least
//! error over every vector, and `d` again for the vectors that were found.

use super::super::lanes::{LANES, Lanes};
use super::super::scaling::{Scaled, to_half};
use super::nearest::{Choice, Octet, Tables};
use super::{Codebook, CodebookBlock};

/// The scales that are tried first: the largest magnitude becomes the largest level times each of these.
const GRID: [f32; 6] = [0.68, 0.8, 0.92, 1.04, 1.16, 1.28];

/// The largest multiple of `d`, that of the integer scale 15.
const TOP: f32 = 31.0;

/// A gain counts as larger only by this factor: among scales that are as good the lowest level decides.
const CLEARLY: f32 = 1.000_002;

/// Steps that are tried, from that for which the largest scale is the largest multiple.
const STEPS: usize = 16;

/// Eights of weights in a sub-block of 32.
const OCTETS: usize = 4;

/// What was found for the sub-blocks of a block.
#[derive(Clone, Copy)]
struct Found<V, const G: usize> {
    d: u16,
    /// `d` in the unit of the block.
    step: f32,
    /// Integer scales.
    scales: [V; G],
    choices: [[Choice<V>; OCTETS]; G],
    error: f64,
}

/// Encodes one block of `G * 8` sub-blocks.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn encode<V: Lanes, B: Codebook, const G: usize, const LEN: usize>(
    scaled: &Scaled<V, G, LEN>,
) -> CodebookBlock {
    let Scaled { x, w, unit } = scaled;
    let mut tables = Tables::new();
    let mut octets = [[Octet::zero(); OCTETS]; G];
    let (mut real, mut stiff) = ([V::zero(); G], [V::zero(); G]);
    for g in 0..G {
        let eights = x[g].as_chunks().0.iter().zip(w[g].as_chunks().0);
        for (octet, (x, w)) in octets[g].iter_mut().zip(eights) {
            *octet = Octet::new(x, w);
        }
        (real[g], stiff[g]) = real_scale::<V, B, LEN>(&x[g], &w[g]);
    }
    let (d, step) = step_for(&real, &stiff, *unit);
    let near = real.map(|real| integer(real, step, -1.0));
    let mut best = integers::<V, B, G, LEN>(&octets, &near, (d, step), &mut tables);
    let (d, step) = to_half(refit::<V, B, G, LEN>(&octets, &best), *unit);
    if B::AGAIN && d != best.d {
        let next = integers::<V, B, G, LEN>(&octets, &best.scales, (d, step), &mut tables);
        if next.error < best.error {
            best = next;
        }
    } else {
        best.d = d;
    }
    store::<V, B, G, LEN>(x, &best)
}

/// The scale of each lane if a weight could have any level: it, and the factor by which the square error grows with the
/// square of a change of it.
#[cfg_attr(not(debug_assertions), inline(always))]
fn real_scale<V: Lanes, B: Codebook, const LEN: usize>(x: &[V; LEN], w: &[V; LEN]) -> (V, V) {
    V::outlined(
        #[inline(always)]
        || {
            let mut largest = V::zero();
            for &x in x {
                largest = x.abs().max(largest);
            }
            let [.., top] = *B::LEVELS else {
                return (V::zero(), V::zero());
            };
            let (mut scale, mut gain, mut stiff) = (V::zero(), V::zero(), V::zero());
            // Weights that are alike are the lowest level of all, which is a vector of every codebook.
            let first = [B::LEVELS[0] / top];
            for times in first.into_iter().chain(GRID) {
                let slope = V::splat(top * times) * largest.inverse_or_zero();
                let (mut qx, mut qq) = (V::zero(), V::zero());
                for (&x, &w) in x.iter().zip(w) {
                    let x = x.abs();
                    let y = x * slope;
                    let mut level = V::splat(B::LEVELS[0]);
                    for pair in B::LEVELS.windows(2) {
                        let middle = V::splat((pair[0] + pair[1]) / 2.0);
                        level = y.select_lt(middle, level, V::splat(pair[1]));
                    }
                    let wq = w * level;
                    qx = qx + wq * x;
                    qq = qq + wq * level;
                }
                let this = qx * qq.inverse_or_zero();
                let gained = this * qx;
                let least = gain * V::splat(CLEARLY);
                scale = least.select_lt(gained, this, scale);
                stiff = least.select_lt(gained, qq, stiff);
                gain = least.select_lt(gained, gained, gain);
            }
            (scale, stiff)
        },
    )
}

/// The integer scale for a real one that is larger by `more` multiples.
#[cfg_attr(not(debug_assertions), inline(always))]
fn integer<V: Lanes>(real: V, step: f32, more: f32) -> V {
    let multiple = real * V::splat(step).inverse_or_zero();
    ((multiple + V::splat(more - 1.0)) * V::splat(0.5))
        .max(V::zero())
        .min(V::splat(15.0))
        .round()
}

/// The multiple of `d` that an integer scale stands for.
#[cfg_attr(not(debug_assertions), inline(always))]
fn multiple<V: Lanes>(scale: V) -> V {
    scale + scale + V::splat(1.0)
}

/// The half-precision step whose odd multiples are closest to the real scales, with square errors weighted by `stiff`:
/// its bits, and its value in units of `unit`.
#[cfg_attr(not(debug_assertions), inline(always))]
fn step_for<V: Lanes, const G: usize>(real: &[V; G], stiff: &[V; G], unit: f32) -> (u16, f32) {
    let largest = real.iter().fold(0.0f32, |a, v| a.max(v.largest()));
    let (mut best, mut least) = ((0, 0.0), f64::INFINITY);
    for attempt in 0..STEPS {
        let tried = to_half(largest / (TOP - 0.5 * attempt as f32), unit);
        let mut sum = V::zero();
        for (&real, &stiff) in real.iter().zip(stiff) {
            let stored = multiple(integer(real, tried.1, 0.0)) * V::splat(tried.1);
            sum = sum + stiff * ((stored - real) * (stored - real));
        }
        let sum = sum.sum();
        if sum < least {
            (best, least) = (tried, sum);
        }
    }
    best
}

/// The integer scales around `near` with the least error over all vectors, and these vectors.
#[cfg_attr(not(debug_assertions), inline(always))]
fn integers<V: Lanes, B: Codebook, const G: usize, const LEN: usize>(
    octets: &[[Octet<V>; OCTETS]; G],
    near: &[V; G],
    (d, step): (u16, f32),
    tables: &mut Tables<V>,
) -> Found<V, G> {
    let mut found = Found {
        d,
        step,
        scales: [V::zero(); G],
        choices: [[Choice::none(); OCTETS]; G],
        error: 0.0,
    };
    for g in 0..G {
        let octets = octets[g].get(..LEN / 8).unwrap_or_default();
        let mut best = (V::zero(), V::splat(f32::INFINITY));
        for &change in B::CHANGES {
            let scale = (near[g] + V::splat(change))
                .max(V::zero())
                .min(V::splat(15.0));
            let error = error::<V, B>(octets, multiple(scale) * V::splat(step), tables);
            best = (error.select_lt(best.1, scale, best.0), error.min(best.1));
        }
        found.scales[g] = best.0;
        found.error += best.1.sum();
        let scale = multiple(best.0) * V::splat(step);
        for (choice, octet) in found.choices[g].iter_mut().zip(octets) {
            *choice = choice_of::<V, B>(octet, scale, tables);
        }
    }
    found
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn error<V: Lanes, B: Codebook>(octets: &[Octet<V>], scale: V, tables: &mut Tables<V>) -> V {
    V::outlined(
        #[inline(always)]
        || {
            let mut sum = V::zero();
            for octet in octets {
                sum = sum + octet.error::<B>(scale, tables);
            }
            sum
        },
    )
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn choice_of<V: Lanes, B: Codebook>(
    octet: &Octet<V>,
    scale: V,
    tables: &mut Tables<V>,
) -> Choice<V> {
    V::outlined(
        #[inline(always)]
        || octet.choice::<B>(scale, tables),
    )
}

/// The real `d` with the least square error for these integer scales and vectors.
#[cfg_attr(not(debug_assertions), inline(always))]
fn refit<V: Lanes, B: Codebook, const G: usize, const LEN: usize>(
    octets: &[[Octet<V>; OCTETS]; G],
    found: &Found<V, G>,
) -> f32 {
    let (mut aa, mut ax) = (0.0, 0.0);
    let groups = octets.iter().zip(&found.choices).zip(found.scales);
    for ((octets, choices), scale) in groups {
        let (mut qx, mut qq) = (V::zero(), V::zero());
        let chosen = octets.iter().zip(choices).take(LEN / 8);
        for (octet, choice) in chosen {
            let x = octet.changed(choice.changed);
            let vectors = choice.vectors.map(V::to_array);
            for (coordinate, (&x, &w)) in x.iter().zip(&octet.w).enumerate() {
                let vector = &vectors[coordinate / B::COORDINATES];
                let level = vector.map(|v| B::level(v as u16, coordinate % B::COORDINATES));
                let level = V::from_array(level);
                qx = qx + w * level * x;
                qq = qq + w * level * level;
            }
        }
        let multiple = multiple(scale);
        aa += (multiple * multiple * qq).sum();
        ax += (multiple * qx).sum();
    }
    if aa > 0.0 {
        (ax / aa) as f32
    } else {
        found.step
    }
}

/// The block in the order of its weights.
#[cfg_attr(not(debug_assertions), inline(always))]
fn store<V: Lanes, B: Codebook, const G: usize, const LEN: usize>(
    x: &[[V; LEN]; G],
    found: &Found<V, G>,
) -> CodebookBlock {
    let mut block = CodebookBlock {
        d: found.d,
        ..CodebookBlock::ZERO
    };
    let vectors_each = 8 / B::COORDINATES;
    for g in 0..G {
        let scales = found.scales[g].to_bytes();
        block.scales[g * LANES..][..LANES].copy_from_slice(&scales);
        for (index, choice) in found.choices[g].iter().enumerate().take(LEN / 8) {
            let mut signs = [0u8; LANES];
            for (bit, x) in x[g][8 * index..].iter().enumerate().take(8) {
                for (signs, x) in signs.iter_mut().zip(x.to_array()) {
                    *signs |= u8::from(x < 0.0) << bit;
                }
            }
            let changed = choice.changed.to_array();
            for (lane, signs) in signs.into_iter().enumerate() {
                let octet = ((g * LANES + lane) * LEN) / 8 + index;
                // The ninth bit is cut off.
                block.signs[octet] = signs ^ (1u16 << changed[lane] as u16) as u8;
                for (part, vector) in choice.vectors.iter().enumerate().take(vectors_each) {
                    block.vectors[octet * vectors_each + part] = vector.to_array()[lane] as u16;
                }
            }
        }
    }
    block
}
