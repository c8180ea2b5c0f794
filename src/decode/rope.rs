//! Rotary positions: which angle each pair of elements turns by.
//!
//! Nothing is tabulated over the context: the cosines and sines of the tokens of one pass are
//! computed when it starts. Source of the formulas: `rope_yarn` and `ggml_rope_yarn_corr_dims` of
//! ggml's `ggml-cpu/ops.cpp` and `ggml.c`.

use crate::model::{Rope, RopeStyle};

/// Frequencies of the pairs of a head.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frequencies {
    /// Radians a token, for each pair.
    steps: Vec<f32>,
    /// The factor on cosine and sine.
    magnitude: f32,
    style: RopeStyle,
}

/// Cosines and sines of some tokens: `[tokens, pairs]` each.
#[derive(Clone, Debug)]
pub(super) struct Angles {
    pub(super) cosines: Vec<f32>,
    pub(super) sines: Vec<f32>,
    /// Pairs of a head that turn.
    pub(super) pairs: usize,
    pub(super) style: RopeStyle,
}

impl Frequencies {
    /// The frequencies of heads of `head` elements, in blocks with a window or without. `factors`
    /// divide them, pair by pair.
    pub(super) fn new(
        rope: &Rope,
        head: usize,
        windowed: bool,
        factors: Option<&[f32]>,
    ) -> Frequencies {
        let dims = match rope.window_dims.filter(|_| windowed) {
            None => rope.dims,
            stated => stated,
        };
        let dims = dims.map_or(head, |dims| (dims as usize).min(head));
        let pairs = dims / 2;
        let base = if windowed {
            rope.window_base
        } else {
            rope.base
        };
        let (scale, magnitude, yarn, factors) = if windowed && rope.unscaled_windows {
            (1.0, 1.0, None, None)
        } else {
            (rope.scale, rope.magnitude, rope.yarn.as_ref(), factors)
        };
        let ramp = yarn.map(|yarn| {
            let at = |rotations: f32| {
                let original = rope.original_context.max(1) as f32;
                let turns = (original / (rotations * std::f32::consts::TAU)).ln();
                dims as f32 * turns / (2.0 * base.ln())
            };
            let low = at(yarn.beta_fast).floor().max(0.0);
            let high = at(yarn.beta_slow).ceil().min(dims as f32 - 1.0);
            (low, high)
        });
        let steps = (0..pairs).map(|pair| {
            let exponent = -2.0 * pair as f64 / dims as f64;
            let plain = f64::from(base).powf(exponent) as f32;
            let factor = factors.and_then(|f| f.get(pair)).copied().unwrap_or(1.0);
            let plain = plain / factor;
            match ramp {
                // Fast pairs keep their frequency, slow ones are scaled, those between blend.
                Some((low, high)) => {
                    let position = (pair as f32 - low) / (high - low).max(0.001);
                    let kept = 1.0 - position.clamp(0.0, 1.0);
                    plain * scale * (1.0 - kept) + plain * kept
                }
                None => plain * scale,
            }
        });
        Frequencies {
            steps: steps.collect(),
            magnitude,
            style: rope.style,
        }
    }

    /// The angles of `tokens` tokens from `position` on.
    pub(super) fn angles(&self, position: usize, tokens: usize) -> Angles {
        let angle = |token: usize| {
            let position = (position + token) as f32;
            self.steps.iter().map(move |step| position * step)
        };
        let all = || (0..tokens).flat_map(angle);
        Angles {
            cosines: all().map(|a| a.cos() * self.magnitude).collect(),
            sines: all().map(|a| a.sin() * self.magnitude).collect(),
            pairs: self.steps.len(),
            style: self.style,
        }
    }
}
