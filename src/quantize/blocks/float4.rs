//! The encoder of `MXFP4`: floats of four bits, 32 with a power of two as their scale.

use super::kquants::codes;
use super::lanes::{LANES, Lanes};
use super::legacy::{BLOCK, nibbles};
use super::rows;
use super::scaling::{self, BySize, Weighing};

/// The values of the codes of `MXFP4` and `NVFP4`, doubled; those with the eighth bit are negative (`kvalues_mxfp4`).
pub(crate) const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

const WEIGHING: Weighing = Weighing {
    without: BySize::Alike,
    with: BySize::Alike,
    even: (0.0, 0.0),
};

/// The exponents that are tried, below that of the largest magnitude: the first is that of the OCP's specification, with
/// which the largest magnitudes may be cut off.
const EXPONENTS: [i32; 3] = [2, 1, 3];

/// The largest exponent with which every code is finite.
const LARGEST: i32 = 252;

/// The value nearest to each lane, doubled.
#[cfg_attr(not(debug_assertions), inline(always))]
fn snap<V: Lanes>(value: V) -> V {
    let size = value.abs();
    let (fine, two) = ((size + size).round(), V::splat(2.0));
    let middle = size.round() * two;
    let coarse = ((size * V::splat(0.5)).round() * V::splat(4.0)).min(V::splat(12.0));
    let large = size.select_lt(V::splat(4.0), middle, coarse);
    let level = size.select_lt(two, fine, large);
    value.select_lt(V::zero(), -level, level)
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn mxfp4<V: Lanes>(
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    for (values, out) in rows::rows(values, row, out) {
        for (x, importance, out) in rows::groups::<17>(values, importance, out) {
            let (x, w, unit) = scaling::lanes::<V, BLOCK>(x, importance, WEIGHING);
            let (mut best, mut least) = (V::zero(), V::splat(f32::INFINITY));
            for below in EXPONENTS {
                let slope = 2f32.powi(below);
                let half = V::splat(0.5 / slope);
                let mut error = V::zero();
                for (&x, &w) in x.iter().zip(&w) {
                    let off = snap(x * V::splat(slope)) * half - x;
                    error = error + w * (off * off);
                }
                best = error.select_lt(least, V::splat(below as f32), best);
                least = error.min(least);
            }
            let below = best.to_array().map(|below| below as i32);
            let slope = V::from_array(below.map(|below| 2f32.powi(below)));
            let mut levels = [[V::zero(); BLOCK]];
            for (level, &x) in levels[0].iter_mut().zip(&x) {
                *level = snap(x * slope);
            }
            let codes = codes(&levels, 0).map(code);
            let exponents: [u8; LANES] = std::array::from_fn(|lane| {
                match unit.to_array()[lane].to_bits() >> 23 {
                    // A block of zeros.
                    255 => 0,
                    exponent => (exponent as i32 - below[lane]).clamp(0, LARGEST) as u8,
                }
            });
            for ((out, codes), exponent) in out.iter_mut().zip(codes.as_chunks().0).zip(exponents) {
                out[0] = exponent;
                out[1..].copy_from_slice(&nibbles(codes));
            }
        }
    }
}

/// The code of a doubled value given in two's complement.
#[cfg_attr(not(debug_assertions), inline(always))]
fn code(level: u8) -> u8 {
    let size = (level as i8).unsigned_abs();
    let number = size.min(4) + u8::from(size >= 6) + u8::from(size >= 8) + u8::from(size >= 12);
    number | (level >> 7) << 3
}
