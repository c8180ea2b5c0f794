//! Encoders of `TQ1_0` and `TQ2_0`: a scale for 256 weights, which are 0, the scale, or its negative.

use super::half::f16_to_f32;
use super::kquants::{SUPER, codes, encoder};
use super::lanes::Lanes;
use super::rows;
use super::scaling::{self, BySize, Scaled, Weighing, to_half};

const WEIGHING: Weighing = Weighing {
    without: BySize::Alike,
    with: BySize::Alike,
    even: (0.0, 0.0),
};

encoder!(tq1_0: 54 bytes, 4 x 8 sub-blocks of 8, WEIGHING,
    |scaled| encode(&scaled), |b, out| pack_tq1_0(&b, out));
encoder!(tq2_0: 66 bytes, 4 x 8 sub-blocks of 8, WEIGHING,
    |scaled| encode(&scaled), |b, out| pack_tq2_0(&b, out));

/// Half-precision bits of the scale, and 0, 1 or 2 for each weight.
struct Ternary {
    d: u16,
    digits: [u8; SUPER],
}

/// Where the search for the scale begins, as shares of the largest magnitude: at the scale itself, which is exact for
/// weights that are ternary, and where it ends up for weights that are not.
const STARTS: [f32; 2] = [1.0, 0.4];

/// Steps of a search; it ends before where nothing changes.
const STEPS: usize = 6;

/// The scale with the least error. The best for given digits is a mean, and the best digits for a scale are those of the
/// weights above half of it; both in turn.
#[cfg_attr(not(debug_assertions), inline(always))]
fn encode<V: Lanes>(scaled: &Scaled<V, 4, 8>) -> Ternary {
    let Scaled { x, w, unit } = scaled;
    let mut largest = V::zero();
    for &x in x.iter().flatten() {
        largest = x.abs().max(largest);
    }
    let largest = largest.largest();
    let (mut scale, mut gain) = (largest, 0.0);
    for start in STARTS {
        let (mut next, mut last) = (largest * start, 0.0);
        for _ in 0..STEPS {
            let half = V::splat(next * 0.5);
            let (mut wx, mut ww) = (V::zero(), V::zero());
            for (&x, &w) in x.iter().flatten().zip(w.iter().flatten()) {
                let size = x.abs();
                let w = half.select_lt(size, w, V::zero());
                wx = wx + w * size;
                ww = ww + w;
            }
            let (wx, ww) = (wx.sum(), ww.sum());
            if ww <= 0.0 {
                break;
            }
            let gained = wx * wx / ww;
            if gained <= last {
                break;
            }
            last = gained;
            next = (wx / ww) as f32;
            if gained > gain {
                (scale, gain) = (next, gained);
            }
        }
    }
    let (d, step) = to_half(scale, *unit);
    debug_assert!(f16_to_f32(d).is_finite());
    let half = V::splat(step * 0.5);
    let mut levels = [[V::zero(); 8]; 4];
    for (level, &x) in levels.iter_mut().flatten().zip(x.iter().flatten()) {
        let sign = x.select_lt(V::zero(), V::splat(-1.0), V::splat(1.0));
        *level = half.select_lt(x.abs(), sign, V::zero());
    }
    Ternary {
        d,
        digits: codes(&levels, 1),
    }
}

/// Two bits for each weight, as the pairs of K-quants.
fn pack_tq2_0(b: &Ternary, out: &mut [u8; 66]) {
    super::pack::pairs_128(&b.digits, 0, &mut out[..64]);
    out[64..].copy_from_slice(&b.d.to_le_bytes());
}

/// The digits `first`, `first + step` and so on, five at most, as a fraction of 256: a byte of `TQ1_0`.
fn five(digits: &[u8], step: usize) -> u8 {
    let digits = digits.iter().step_by(step).take(5);
    let (count, number) = digits.fold((0, 0u16), |(n, sum), &digit| {
        (n + 1, sum * 3 + u16::from(digit))
    });
    let number = number * 3u16.pow(5 - count);
    (number * 256).div_ceil(243) as u8
}

/// Five digits in a byte: of 160 weights in the first 32 bytes, of 80 in the next 16, and four of the last 16 in each of
/// four.
fn pack_tq1_0(b: &Ternary, out: &mut [u8; 54]) {
    for (part, step, bytes) in [
        (0..160, 32, 0..32),
        (160..240, 16, 32..48),
        (240..256, 4, 48..52),
    ] {
        let digits = &b.digits[part];
        for (first, out) in out[bytes].iter_mut().enumerate() {
            *out = five(&digits[first..], step);
        }
    }
    out[52..].copy_from_slice(&b.d.to_le_bytes());
}
