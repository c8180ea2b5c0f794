//! Encoders of `Q2_K` to `Q6_K`, for rows of finite values and the importance of their columns.

use super::affine::{self, Affine};
use super::lanes::{LANES, Lanes};
use super::pack;
use super::rows;
use super::scaling::{self, BySize, Weighing};
use super::symmetric::{self, Q3, Q6};

/// Weights in a block.
pub(super) const SUPER: usize = 256;

/// Defines an encoder by the weights of errors, the search for the scales, and the layout of the bytes.
macro_rules! encoder {
    ($name:ident: $bytes:literal bytes, $groups:literal x 8 sub-blocks of $len:literal, $weighing:expr,
     |$scaled:ident| $search:expr, |$block:ident, $out:ident| $pack:expr) => {
        #[cfg_attr(not(debug_assertions), inline(always))]
        pub(super) fn $name<V: Lanes>(
            values: &[f32],
            row: usize,
            importance: Option<&[f32]>,
            out: &mut [u8],
        ) {
            for (x, importance, $out) in rows::blocks::<SUPER, $bytes>(values, row, importance, out)
            {
                match scaling::block::<V, $groups, $len>(x, importance, $weighing) {
                    None => $out.fill(0),
                    Some($scaled) => {
                        let $block = $search;
                        $pack;
                    }
                }
            }
        }
    };
}
pub(super) use encoder;

const Q2_K: Affine = Affine {
    top: 3.0,
    top_scale: 15.0,
    grid: &[-0.6, -0.2, 0.1, 0.4, 0.7, 1.0],
};
const Q2_K_WEIGHING: Weighing = Weighing {
    without: BySize::Magnitude,
    with: BySize::Magnitude,
    even: (0.1, 0.05),
};

encoder!(q2_k: 84 bytes, 2 x 8 sub-blocks of 16, Q2_K_WEIGHING,
    |scaled| affine::encode(&scaled, Q2_K),
    |b, out| pack::q2_k(b.d, b.dmin, &bytes(&b.scales, 0), &bytes(&b.mins, 0), &codes(&b.codes, 0), out));

const Q3_K_WEIGHING: Weighing = Weighing {
    without: BySize::Square,
    with: BySize::Square,
    even: (2.5, 0.35),
};

encoder!(q3_k: 110 bytes, 2 x 8 sub-blocks of 16, Q3_K_WEIGHING,
    |scaled| symmetric::encode::<V, Q3, 2, 16>(&scaled),
    |b, out| pack::q3_k(b.d, &bytes(&b.scales, 32), &codes(&b.levels, 4), out));

const Q4_K: Affine = Affine {
    top: 15.0,
    top_scale: 63.0,
    grid: &[-1.0, -0.7, -0.4, -0.1, 0.2, 0.5, 0.8],
};
const Q5_K: Affine = Affine {
    top: 31.0,
    top_scale: 63.0,
    grid: &[-0.6, -0.2, 0.1, 0.4, 0.7],
};
const Q4_K_WEIGHING: Weighing = Weighing {
    without: BySize::RaisedMagnitude,
    with: BySize::RaisedMagnitude,
    even: (0.0, 0.05),
};
const Q5_K_WEIGHING: Weighing = Weighing {
    even: (0.0, 0.1),
    ..Q4_K_WEIGHING
};

encoder!(q4_k: 144 bytes, 1 x 8 sub-blocks of 32, Q4_K_WEIGHING,
    |scaled| affine::encode(&scaled, Q4_K),
    |b, out| pack::q4_k(b.d, b.dmin, &bytes(&b.scales, 0), &bytes(&b.mins, 0), &codes(&b.codes, 0), out));

encoder!(q5_k: 176 bytes, 1 x 8 sub-blocks of 32, Q5_K_WEIGHING,
    |scaled| affine::encode(&scaled, Q5_K),
    |b, out| pack::q5_k(b.d, b.dmin, &bytes(&b.scales, 0), &bytes(&b.mins, 0), &codes(&b.codes, 0), out));

const Q6_K_WEIGHING: Weighing = Weighing {
    without: BySize::Square,
    with: BySize::Alike,
    even: (0.2, 0.25),
};

encoder!(q6_k: 210 bytes, 2 x 8 sub-blocks of 16, Q6_K_WEIGHING,
    |scaled| symmetric::encode::<V, Q6, 2, 16>(&scaled),
    |b, out| pack::q6_k(b.d, &bytes(&b.scales, 0), &codes(&b.levels, 32), out));

/// The integers of all sub-blocks plus `offset`, as bytes.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn bytes<V: Lanes, const G: usize, const N: usize>(
    lanes: &[V; G],
    offset: u8,
) -> [u8; N] {
    let mut out = [0; N];
    for (out, lanes) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(lanes) {
        *out = lanes.to_bytes().map(|byte| byte.wrapping_add(offset));
    }
    out
}

/// The integers of all weights plus `offset`, in the order of the weights: that of weight `k` of
/// sub-block `j` at `j * LEN + k`.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn codes<V: Lanes, const G: usize, const LEN: usize>(
    lanes: &[[V; LEN]; G],
    offset: u8,
) -> [u8; SUPER] {
    let mut out = [0; SUPER];
    for (out, group) in out.chunks_mut(LEN * LANES).zip(lanes) {
        for (part, eight) in group.as_chunks::<LANES>().0.iter().enumerate() {
            for (row, out) in V::transpose(*eight).iter().zip(out.chunks_mut(LEN)) {
                if let Some(out) = out.as_chunks_mut::<LANES>().0.get_mut(part) {
                    *out = row.to_bytes().map(|byte| byte.wrapping_add(offset));
                }
            }
        }
    }
    out
}
