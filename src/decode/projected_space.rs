//! Mamba 2 whose time steps, `B` and `C` are projected from what was convolved, as those of Mamba 1, and normed. The gate of a
//! head stands before its `x`.
//!
//! Sources: the models of that kind in `src/models` of llama.cpp, `ggml_compute_forward_ssm_scan_f32` of ggml.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops;
use super::linear::Linear;
use super::matrix_scan::{Columns, MatrixScan, Projected, Sizes};
use super::norm::Norm;
use super::recurrent::convolve;
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Activation, ForwardSpec, Recurrent, TensorRole as R};

/// A mixer of that kind.
pub(super) struct ProjectedSpace<X: Activations> {
    /// Gate and `x`, head by head.
    input: Linear<X>,
    kernel: Vec<f32>,
    /// From `x` to `B`, `C` and what time steps are computed from.
    parts: Linear<X>,
    steps: Linear<X>,
    /// Of the same three.
    norms: [Norm<X>; 3],
    scan: MatrixScan,
    output: Linear<X>,
    rank: usize,
}

impl<X: Activations> ProjectedSpace<X> {
    /// Sizes follow from the tensors and from the size of the state, heads x width x state.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        recurrent: &Recurrent,
    ) -> Result<ProjectedSpace<X>, DecodeError> {
        let at = Some(layer);
        let dims = |role| weights.shape(role, at, "weight").unwrap_or(&[]).to_vec();
        let last = |dims: &[u64]| dims.last().copied().unwrap_or(0);
        let (steps, kernel) = (dims(R::SsmDt), last(&dims(R::SsmConv1d)) as usize);
        let (inner, rank) = (last(&dims(R::SsmOut)), last(&steps));
        let heads = steps.first().copied().filter(|_| steps.len() == 2);
        let heads = heads.unwrap_or(0);
        let state = recurrent.state_elements / inner.max(1);
        let some = heads > 0 && inner > 0 && rank > 0 && state > 0;
        let whole = state.checked_mul(inner) == Some(recurrent.state_elements);
        if !some || !whole || !inner.is_multiple_of(heads) {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {layer} has {inner} channels in {heads} heads, time steps of rank {rank}, and a state of {}",
                    recurrent.state_elements
                ),
            });
        }
        let [heads, inner, rank, state] = [heads, inner, rank, state].map(|n| n as usize);
        let sizes = Sizes {
            heads,
            width: inner / heads,
            groups: 1,
            state,
        };
        let [decays, skips] = [R::SsmA, R::SsmD].map(|role| role.gguf_name(at, ""));
        let mut norm = |role, width| Norm::load(weights, forward, role, at, width);
        Ok(ProjectedSpace {
            norms: [
                norm(R::SsmBNorm, state)?,
                norm(R::SsmCNorm, state)?,
                norm(R::SsmDtNorm, rank)?,
            ],
            input: Linear::load(weights, R::SsmIn, at, [2 * inner, hidden])?,
            kernel: weights.floats(R::SsmConv1d, at, &[inner, kernel])?,
            parts: Linear::load(weights, R::SsmX, at, [2 * state + rank, inner])?,
            scan: MatrixScan {
                sizes,
                // The projection adds the bias.
                step_bias: Vec::new(),
                decays: weights.named_floats(&decays, &[heads])?,
                skips: weights.named_floats(&skips, &[heads])?,
            },
            steps: Linear::load(weights, R::SsmDt, at, [heads, rank])?,
            output: Linear::load(weights, R::SsmOut, at, [hidden, inner])?,
            rank,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        recurrent: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let Sizes { width, state, .. } = self.scan.sizes;
        let inner = self.scan.sizes.inner();
        let [gate, mixed] = self.input.apply(x)?.halves(width)?;
        let mut mixed = mixed.into_host()?;
        convolve(&mut mixed, &self.kernel, inner, &mut recurrent.window);
        ops::activate(&mut mixed, Activation::Silu);
        let input = X::from_host(pass.backend, mixed.clone(), inner)?;
        let parts = self.parts.apply(&input)?;
        let [of_b, of_c, of_steps] = &self.norms;
        let b = of_b.apply(parts.columns(0..state)?)?.into_host()?;
        let c = of_c.apply(parts.columns(state..2 * state)?)?.into_host()?;
        let steps = of_steps.apply(parts.columns(2 * state..2 * state + self.rank)?)?;
        let steps = self.steps.apply(&steps)?.into_host()?;
        let whole = |rows, width| Columns {
            rows,
            width,
            from: 0,
        };
        let projected = Projected {
            x: whole(&mixed, inner),
            b: whole(&b, state),
            c: whole(&c, state),
            steps: &steps,
        };
        let out = self.scan.run(&projected, &mut recurrent.matrix);
        let out = X::from_host(pass.backend, out, inner)?;
        self.output.apply(&gate.gate(&out, Activation::Silu)?)
    }
}
