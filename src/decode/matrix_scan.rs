//! The recurrence of Mamba 2: heads that each keep a matrix, which decays by itself, whatever the key. It runs on the processor.
//!
//! Source: `ggml_compute_forward_ssm_scan_f32` of ggml.

use super::host::{add_scaled, dot, ops};
use super::recurrent::{each_head, row_of};

/// The recurrence of one block.
pub(super) struct MatrixScan {
    pub(super) sizes: Sizes,
    /// Added to the time steps, one for each head.
    pub(super) step_bias: Vec<f32>,
    /// Decay a unit of time, one for each head: negative.
    pub(super) decays: Vec<f32>,
    /// What of `x` goes past the state, one for each head.
    pub(super) skips: Vec<f32>,
}

/// Heads, groups of heads that share `B` and `C`, and their widths.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    /// Elements of a head.
    pub(super) width: usize,
    pub(super) groups: usize,
    /// Elements of `B` and `C`.
    pub(super) state: usize,
}

impl Sizes {
    pub(super) fn inner(self) -> usize {
        self.heads * self.width
    }

    /// Elements of `x`, `B` and `C`.
    pub(super) fn channels(self) -> usize {
        self.inner() + 2 * self.groups * self.state
    }
}

/// Columns of rows of `width`, from one on.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub(super) rows: &'a [f32],
    pub(super) width: usize,
    pub(super) from: usize,
}

impl<'a> Columns<'a> {
    /// `len` columns behind the first `at` of row `row`.
    fn part(self, row: usize, at: usize, len: usize) -> &'a [f32] {
        let first = row * self.width + self.from + at;
        self.rows.get(first..first + len).unwrap_or_default()
    }
}

/// What tokens bring: `x` of all heads, `B` and `C` of all groups, and a time step for each head.
pub(super) struct Projected<'a> {
    pub(super) x: Columns<'a>,
    pub(super) b: Columns<'a>,
    pub(super) c: Columns<'a>,
    /// `[tokens, heads]`.
    pub(super) steps: &'a [f32],
}

impl MatrixScan {
    /// All tokens through the `matrices` of all heads: `h = exp(dt a) h + dt x B; out = C h + d x`, as `[tokens, inner]`.
    pub(super) fn run(&self, projected: &Projected<'_>, matrices: &mut [f32]) -> Vec<f32> {
        let Sizes {
            heads,
            width,
            groups,
            state,
        } = self.sizes;
        let tokens = projected.steps.len() / heads.max(1);
        let of_head = |values: &[f32], head: usize| values.get(head).copied().unwrap_or(0.0);
        each_head(
            matrices,
            [tokens, heads, width],
            |head, token, matrix, out| {
                let [bias, rate, skip] = [&self.step_bias, &self.decays, &self.skips]
                    .map(|values| of_head(values, head));
                let dt = ops::softplus(of_head(row_of(projected.steps, token, heads), head) + bias);
                let decay = (dt * rate).exp();
                let group = head / (heads / groups);
                let b = projected.b.part(token, group * state, state);
                let c = projected.c.part(token, group * state, state);
                let x = projected.x.part(token, head * width, width);
                for ((matrix, x), out) in matrix.chunks_exact_mut(state).zip(x).zip(out) {
                    ops::scale(matrix, decay);
                    add_scaled(matrix, x * dt, b);
                    *out = dot(matrix, c) + x * skip;
                }
            },
        )
    }
}
