//! `IQ2_*` and `IQ3_*`: magnitudes of several weights are a vector out of a codebook, and signs are stored apart. Finds
//! the scales, vectors and signs of a block with the least weighted square error. A weight is
//! `d * (2 scale + 1) * level` with its sign.
//!
//! Every vector of a codebook is tried, not only those near the weights. That is cheap, since the error of a vector is
//! that of its lower half plus that of its higher half, halves have few values, and eight sub-blocks are searched at
//! once, one per lane: one addition for each value of the higher half, one comparison for each vector.
//!
//! Where signs have even parity (`IQ2_XXS`, `IQ2_XS`, `IQ3_XXS`) and those of eight weights do not, the one with the least
//! harm gets the other sign.

pub(super) mod grids;
pub(super) mod layout;
mod nearest;
mod search;

use super::kquants::{SUPER, encoder};
use super::lanes::Lanes;
use super::rows;
use super::scaling::{self, BySize, Weighing};
use grids::Four;

/// A codebook, and how its vectors are scaled and signed.
trait Codebook {
    /// Coordinates of a vector.
    const COORDINATES: usize;
    /// The levels of a coordinate, in units of the scale.
    const LEVELS: &'static [f32];
    /// Whether signs have even parity in every eight weights.
    const EVEN: bool;
    /// The integer scales that are tried, from the one below the real scale on.
    const CHANGES: &'static [f32];
    /// Whether they are tried again with a `d` for the vectors that were found.
    const AGAIN: bool;
    /// The vectors in fours.
    fn fours() -> &'static [Four];
    /// A level of a vector, in units of the scale.
    fn level(vector: u16, coordinate: usize) -> f32;
}

macro_rules! codebook {
    ($name:ident, $grid:ident, $coordinates:literal coordinates, $levels:expr, / $unit:literal, even: $even:literal, try $changes:expr, again: $again:literal) => {
        struct $name;
        impl Codebook for $name {
            const COORDINATES: usize = $coordinates;
            const LEVELS: &'static [f32] = &scaled($levels, $unit);
            const EVEN: bool = $even;
            const CHANGES: &'static [f32] = &$changes;
            const AGAIN: bool = $again;
            fn fours() -> &'static [Four] {
                &grids::$grid.fours
            }
            fn level(vector: u16, coordinate: usize) -> f32 {
                f32::from(grids::$grid.vectors[usize::from(vector)][coordinate]) / $unit
            }
        }
    };
}

const fn scaled<const N: usize>(levels: [i8; N], unit: f32) -> [f32; N] {
    let mut out = [0.0; N];
    let mut level = 0;
    while level < N {
        out[level] = levels[level] as f32 / unit;
        level += 1;
    }
    out
}

codebook!(Iq2Xxs, IQ2_XXS, 8 coordinates, grids::IQ2, / 8.0, even: true, try [0.0, 1.0, -1.0], again: true);
codebook!(Iq2Xs, IQ2_XS, 8 coordinates, grids::IQ2, / 8.0, even: true, try [0.0, 1.0, -1.0], again: true);
codebook!(Iq2S, IQ2_S, 8 coordinates, grids::IQ2, / 8.0, even: false, try [0.0, 1.0], again: false);
codebook!(Iq3Xxs, IQ3_XXS, 4 coordinates, grids::IQ3_XXS_LEVELS, / 4.0, even: true, try [0.0, 1.0, -1.0], again: true);
codebook!(Iq3S, IQ3_S, 4 coordinates, grids::IQ3_S_LEVELS, / 1.0, even: false, try [0.0, 1.0], again: false);

/// A block as it will be stored.
struct CodebookBlock {
    /// Half-precision bits of `d`.
    d: u16,
    /// The integer scale of each sub-block, from 0 to 15.
    scales: [u8; 16],
    /// The vectors, in the order of the weights.
    vectors: [u16; SUPER / 4],
    /// The signs of eight weights each, 1 for those below 0.
    signs: [u8; SUPER / 8],
}

impl CodebookBlock {
    const ZERO: CodebookBlock = CodebookBlock {
        d: 0,
        scales: [0; 16],
        vectors: [0; SUPER / 4],
        signs: [0; SUPER / 8],
    };
}

const IQ2: Weighing = Weighing {
    without: BySize::Square,
    with: BySize::Magnitude,
    even: (0.3, 0.05),
};
const IQ3: Weighing = Weighing {
    without: BySize::Square,
    with: BySize::Square,
    even: (0.3, 0.05),
};

encoder!(iq2_xxs: 66 bytes, 1 x 8 sub-blocks of 32, IQ2,
    |scaled| search::encode::<V, Iq2Xxs, 1, 32>(&scaled), |b, out| layout::iq2_xxs(&b, out));
encoder!(iq2_xs: 74 bytes, 2 x 8 sub-blocks of 16, IQ2,
    |scaled| search::encode::<V, Iq2Xs, 2, 16>(&scaled), |b, out| layout::iq2_xs(&b, out));
encoder!(iq2_s: 82 bytes, 2 x 8 sub-blocks of 16, IQ2,
    |scaled| search::encode::<V, Iq2S, 2, 16>(&scaled), |b, out| layout::iq2_s(&b, out));
encoder!(iq3_xxs: 98 bytes, 1 x 8 sub-blocks of 32, IQ3,
    |scaled| search::encode::<V, Iq3Xxs, 1, 32>(&scaled), |b, out| layout::iq3_xxs(&b, out));
encoder!(iq3_s: 110 bytes, 1 x 8 sub-blocks of 32, IQ3,
    |scaled| search::encode::<V, Iq3S, 1, 32>(&scaled), |b, out| layout::iq3_s(&b, out));
