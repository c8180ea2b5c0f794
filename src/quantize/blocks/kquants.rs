//! Blocks of 256 (and `IQ4_NL`'s of 32): finite values and their importance in, encoded bytes out.
//!
//! Brings values to the range that the searches want, decides what each error weighs, and packs
//! what they find.

use super::affine::{self, Affine};
use super::half::{f16_to_f32, f32_to_f16};
use super::lanes::{LANES, Lanes, transpose};
use super::legacy::{self, BLOCK};
use super::pack;
use super::symmetric::{self, IQ4_LEVELS, Iq4, Levels, Q3, Q6};

/// Weights in a block.
pub(super) const SUPER: usize = 256;

const Q2_K: Affine = Affine {
    top: 3.0,
    top_scale: 15.0,
    grid: &[-0.5, -0.2, 0.1, 0.4, 0.7, 1.0],
};
const Q4_K: Affine = Affine {
    top: 15.0,
    top_scale: 63.0,
    grid: &[-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8],
};
const Q5_K: Affine = Affine {
    top: 31.0,
    top_scale: 63.0,
    grid: &[-0.5, -0.2, 0.1, 0.4, 0.7],
};

/// Where no value of a block reaches this, none survives: the smallest number that any of the
/// formats can hold beside 0 is 2^-24.
const NOTHING: f32 = 1.490_116_1e-8; // 2^-26

/// How much the square error of a value counts when nothing is known of its importance: the same
/// weights that ggml minimises.
#[derive(Clone, Copy)]
enum Weighing {
    /// |x|
    Magnitude,
    /// |x| plus the root mean square of the sub-block
    RaisedMagnitude,
    /// x^2
    Square,
}

/// And when it is known.
#[derive(Clone, Copy)]
enum Weighed {
    /// importance x sqrt(x^2 + factor x mean square of the block)
    ByValue(f32),
    /// importance
    Alone,
}

/// Values of a block divided by `unit`, a power of two, and what their errors weigh.
struct Scaled<const G: usize, const LEN: usize> {
    x: [[Lanes; LEN]; G],
    w: [[Lanes; LEN]; G],
    unit: f32,
}

/// `None` if all would be encoded as 0.
#[inline(always)]
fn scaled<const G: usize, const LEN: usize>(
    values: &[f32],
    importance: Option<&[f32]>,
    without: Weighing,
    with: Weighed,
) -> Option<Scaled<G, LEN>> {
    let largest = values
        .iter()
        .fold(0.0f32, |a, v| if a < v.abs() { v.abs() } else { a });
    if largest < NOTHING {
        return None;
    }
    let unit = f32::from_bits(largest.to_bits() & 0x7f80_0000);
    let per_unit = Lanes::splat(1.0 / unit);
    let mut x = [[Lanes::ZERO; LEN]; G];
    let mut w = [[Lanes::ZERO; LEN]; G];
    for (x, values) in x.iter_mut().zip(values.chunks(LEN * LANES)) {
        *x = transpose::<LEN>(values).map(|x| x * per_unit);
    }
    match importance {
        None => {
            for (x, w) in x.iter().zip(&mut w) {
                weigh(x, w, without);
            }
        }
        Some(importance) => {
            let most = importance
                .iter()
                .fold(0.0f32, |a, &v| if a < v { v } else { a });
            // Columns of no importance still get the best of what costs the others nothing.
            let (factor, floor) = if most > 0.0 {
                (1.0 / most, 1e-6)
            } else {
                (0.0, 1.0)
            };
            let factor = if factor.is_finite() {
                factor
            } else {
                1.0 / f32::MIN_POSITIVE
            };
            let sum = x
                .iter()
                .flatten()
                .fold(Lanes::ZERO, |sum, &x| sum + x * x)
                .sum();
            let mean = (sum / values.len().max(1) as f64) as f32;
            for ((x, w), importance) in x.iter().zip(&mut w).zip(importance.chunks(LEN * LANES)) {
                let importance = transpose::<LEN>(importance);
                for ((&x, w), importance) in x.iter().zip(w).zip(importance) {
                    let importance = (importance * Lanes::splat(factor)).max(Lanes::splat(floor));
                    *w = match with {
                        Weighed::ByValue(share) => {
                            importance * (Lanes::splat(share * mean) + x * x).sqrt()
                        }
                        Weighed::Alone => importance,
                    };
                }
            }
        }
    }
    Some(Scaled { x, w, unit })
}

#[inline(always)]
fn weigh<const LEN: usize>(x: &[Lanes; LEN], w: &mut [Lanes; LEN], weighing: Weighing) {
    match weighing {
        Weighing::Magnitude => *w = x.map(Lanes::abs),
        Weighing::Square => *w = x.map(|x| x * x),
        Weighing::RaisedMagnitude => {
            let sum = x.iter().fold(Lanes::ZERO, |sum, &x| sum + x * x);
            let typical = (sum * Lanes::splat(1.0 / LEN as f32)).sqrt();
            *w = x.map(|x| typical + x.abs());
        }
    }
}

/// Integers of all lanes plus `offset`, as bytes.
#[inline(always)]
fn bytes<const G: usize, const N: usize>(lanes: &[Lanes; G], offset: i32) -> [u8; N] {
    std::array::from_fn(|j| (lanes[j / LANES].0[j % LANES] as i32 + offset) as u8)
}

#[inline(always)]
pub(super) fn q2_k(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 84]) {
    match scaled::<2, 16>(x, importance, Weighing::Magnitude, Weighed::ByValue(1.0)) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = affine::encode(&x, &w, unit, Q2_K);
            let codes = affine::in_order(&block.codes);
            let (scales, mins) = (bytes(&block.scales, 0), bytes(&block.mins, 0));
            pack::q2_k(block.d, block.dmin, &scales, &mins, &codes, out);
        }
    }
}

#[inline(always)]
pub(super) fn q4_k(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 144]) {
    match scaled::<1, 32>(
        x,
        importance,
        Weighing::RaisedMagnitude,
        Weighed::ByValue(2.0),
    ) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = affine::encode(&x, &w, unit, Q4_K);
            let codes = affine::in_order(&block.codes);
            let (scales, mins) = (bytes(&block.scales, 0), bytes(&block.mins, 0));
            pack::q4_k(block.d, block.dmin, &scales, &mins, &codes, out);
        }
    }
}

#[inline(always)]
pub(super) fn q5_k(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 176]) {
    match scaled::<1, 32>(
        x,
        importance,
        Weighing::RaisedMagnitude,
        Weighed::ByValue(2.0),
    ) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = affine::encode(&x, &w, unit, Q5_K);
            let codes = affine::in_order(&block.codes);
            let (scales, mins) = (bytes(&block.scales, 0), bytes(&block.mins, 0));
            pack::q5_k(block.d, block.dmin, &scales, &mins, &codes, out);
        }
    }
}

#[inline(always)]
pub(super) fn q3_k(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 110]) {
    match scaled::<2, 16>(x, importance, Weighing::Square, Weighed::ByValue(2.0)) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = symmetric::encode::<Q3, 2, 16>(&x, &w, unit);
            let codes = affine::in_order(&block.levels).map(|level| level.wrapping_add(4));
            pack::q3_k(block.d, &bytes(&block.scales, 32), &codes, out);
        }
    }
}

#[inline(always)]
pub(super) fn q6_k(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 210]) {
    match scaled::<2, 16>(x, importance, Weighing::Square, Weighed::Alone) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = symmetric::encode::<Q6, 2, 16>(&x, &w, unit);
            let codes = affine::in_order(&block.levels).map(|level| level.wrapping_add(32));
            pack::q6_k(block.d, &bytes(&block.scales, 0), &codes, out);
        }
    }
}

/// The code of an IQ4 level given as a two's complement byte.
#[inline(always)]
fn iq4_code(level: u8) -> u8 {
    IQ4_LEVELS.iter().take_while(|&&l| l < level as i8).count() as u8
}

#[inline(always)]
pub(super) fn iq4_xs(x: &[f32; SUPER], importance: Option<&[f32]>, out: &mut [u8; 136]) {
    match scaled::<1, 32>(x, importance, Weighing::Square, Weighed::ByValue(2.0)) {
        None => out.fill(0),
        Some(Scaled { x, w, unit }) => {
            let block = symmetric::encode::<Iq4, 1, 32>(&x, &w, unit);
            let codes = affine::in_order(&block.levels).map(iq4_code);
            pack::iq4_xs(block.d, &bytes(&block.scales, 32), &codes, out);
        }
    }
}

/// Up to eight blocks of 32, a lane each. A row of blocks has no common scale, so each lane has its
/// own unit.
#[inline(always)]
pub(super) fn iq4_nl(values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let values: [Lanes; BLOCK] = transpose(values);
    let largest = values.iter().fold(Lanes::ZERO, |a, v| a.max(v.abs()));
    let unit = Lanes(largest.0.map(|v| match v < NOTHING {
        true => f32::INFINITY,
        false => f32::from_bits(v.to_bits() & 0x7f80_0000),
    }));
    let per_unit = Lanes::splat(1.0) / unit;
    let x = values.map(|v| v * per_unit);
    let mut w = [Lanes::ZERO; BLOCK];
    match importance {
        None => weigh(&x, &mut w, Weighing::Square),
        Some(importance) => {
            let importance: [Lanes; BLOCK] = transpose(importance);
            let most = importance.iter().fold(Lanes::ZERO, |a, &v| a.max(v));
            let factor = most.inverse_or_zero();
            let floor = Lanes::ZERO.below(factor, Lanes::splat(1e-6), Lanes::splat(1.0));
            let mean = x.iter().fold(Lanes::ZERO, |sum, &x| sum + x * x)
                * Lanes::splat(2.0 / BLOCK as f32);
            for ((w, &x), &importance) in w.iter_mut().zip(&x).zip(&importance) {
                *w = (importance * factor).max(floor) * (mean + x * x).sqrt();
            }
        }
    }
    let scale = symmetric::search::<Iq4, BLOCK>(&x, &w);
    let mut d = [0u16; LANES];
    let mut stored = Lanes::ZERO;
    for (lane, d) in d.iter_mut().enumerate() {
        let value = scale.0[lane] * unit.0[lane];
        *d = if scale.0[lane] == 0.0 {
            0
        } else {
            f32_to_f16(value.clamp(-65504.0, 65504.0))
        };
        stored.0[lane] = f16_to_f32(*d) * per_unit.0[lane];
    }
    let slope = stored.inverse_or_zero();
    let codes = affine::in_order(&[x.map(|x| Iq4::snap(x * slope))]).map(iq4_code);
    for ((out, codes), d) in out
        .as_chunks_mut::<18>()
        .0
        .iter_mut()
        .zip(codes.as_chunks().0)
        .zip(d)
    {
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..].copy_from_slice(&legacy::nibbles(codes));
    }
}
