//! Encoders of `IQ4_NL` and `IQ4_XS`: four-bit codes for levels that are not evenly spaced.

use super::half::{f16_to_f32, f32_to_f16};
use super::kquants::{SUPER, bytes, codes, encoder};
use super::lanes::{LANES, Lanes};
use super::legacy::{BLOCK, nibbles};
use super::pack;
use super::rows;
use super::scaling::{self, BySize, Weighing};
use super::symmetric::{self, IQ4_LEVELS, Iq4, Levels};

const WEIGHING: Weighing = Weighing {
    without: BySize::Square,
    with: BySize::Square,
    even: (1.5, 0.5),
};

/// `IQ4_NL` has no scale shared by several blocks, so the weights of errors need less smoothing.
const NL_WEIGHING: Weighing = Weighing {
    even: (1.0, 0.22),
    ..WEIGHING
};

encoder!(iq4_xs: 136 bytes, 1 x 8 sub-blocks of 32, WEIGHING,
    |scaled| symmetric::encode::<V, Iq4, 1, 32>(&scaled),
    |b, out| pack::iq4_xs(b.d, &bytes(&b.scales, 32), &codes(&b.levels, 0).map(code), out));

/// The code of a level given in two's complement.
#[cfg_attr(not(debug_assertions), inline(always))]
fn code(level: u8) -> u8 {
    let mut code = 0;
    for &other in &IQ4_LEVELS {
        code += u8::from(other < level as i8);
    }
    code
}

#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn iq4_nl<V: Lanes>(
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    for (values, out) in rows::rows(values, row, out) {
        for (x, importance, out) in rows::groups::<18>(values, importance, out) {
            let (x, w, unit) = scaling::lanes::<V, BLOCK>(x, importance, NL_WEIGHING);
            let scale = symmetric::search::<V, Iq4, BLOCK>(&x, &w).scale;
            let (scale, unit) = (scale.to_array(), unit.to_array());
            let (mut d, mut stored) = ([0u16; LANES], [0.0; LANES]);
            for lane in 0..LANES {
                if scale[lane] != 0.0 {
                    d[lane] = f32_to_f16((scale[lane] * unit[lane]).clamp(-65504.0, 65504.0));
                    stored[lane] = f16_to_f32(d[lane]) / unit[lane];
                }
            }
            let stored = V::from_array(stored);
            let slope = stored.inverse_or_zero();
            let mut levels = [[V::zero(); BLOCK]];
            for (level, &x) in levels[0].iter_mut().zip(&x) {
                *level = Iq4::snap(x * slope);
            }
            let codes = codes(&levels, 0).map(code);
            for ((out, codes), d) in out.iter_mut().zip(codes.as_chunks().0).zip(d) {
                out[..2].copy_from_slice(&d.to_le_bytes());
                out[2..].copy_from_slice(&nibbles(codes));
            }
        }
    }
}
