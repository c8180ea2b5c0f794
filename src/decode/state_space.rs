//! Mamba 2: a token mixer whose heads each keep a matrix that decays by itself, whatever the key. The recurrence over
//! tokens runs on the processor, wherever the projections around it do.
//!
//! Sources: `mamba-base.cpp` in `src/models` of llama.cpp, `ggml_compute_forward_ssm_scan_f32` of ggml.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops;
use super::linear::Linear;
use super::matrix_scan::{Columns, MatrixScan, Projected, Sizes};
use super::recurrent::convolve;
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Activation, Recurrent, TensorRole as R};

/// A Mamba 2 mixer.
pub(super) struct StateSpace<X: Activations> {
    /// Gate, `x`, `B`, `C` and time steps.
    input: Linear<X>,
    kernel: Vec<f32>,
    kernel_bias: Option<Vec<f32>>,
    scan: MatrixScan,
    /// The weights of the gated norm, one row for each group.
    norm: Option<Vec<f32>>,
    output: Linear<X>,
}

impl<X: Activations> StateSpace<X> {
    /// Sizes follow from the tensors and from the size of the state, heads x width x state.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        recurrent: &Recurrent,
    ) -> Result<StateSpace<X>, DecodeError> {
        let at = Some(layer);
        let dims = |role, part| weights.shape(role, at, part).unwrap_or(&[]).to_vec();
        let (kernel, dt) = (dims(R::SsmConv1d, "weight"), dims(R::SsmDt, "bias"));
        let first = |dims: &[u64]| dims.first().copied().unwrap_or(0);
        let (channels, heads) = (first(&kernel), first(&dt));
        let kernel = kernel.last().copied().unwrap_or(0) as usize;
        let inner = dims(R::SsmOut, "weight").last().copied().unwrap_or(0);
        let state = recurrent.state_elements / inner.max(1);
        let groups = channels.saturating_sub(inner) / (2 * state).max(1);
        let width = inner / heads.max(1);
        let [heads, width, groups, state] = [heads, width, groups, state].map(|n| n as usize);
        let sizes = Sizes {
            heads,
            width,
            groups,
            state,
        };
        let some = heads > 0 && width > 0 && groups > 0 && state > 0;
        let possible = some && heads.is_multiple_of(groups) && sizes.inner() as u64 == inner;
        if !possible || sizes.channels() as u64 != channels {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {layer} has {channels} channels, {inner} of them in {heads} heads, and a state of {}",
                    recurrent.state_elements
                ),
            });
        }
        let channels = sizes.channels();
        let rows = sizes.inner() + channels + heads;
        let [a, d] = [R::SsmA, R::SsmD].map(|role| role.gguf_name(at, ""));
        Ok(StateSpace {
            input: Linear::load(weights, R::SsmIn, at, [rows, hidden])?,
            kernel: weights.floats(R::SsmConv1d, at, &[channels, kernel])?,
            kernel_bias: weights.bias_floats(R::SsmConv1d, at, channels)?,
            scan: MatrixScan {
                sizes,
                step_bias: weights
                    .bias_floats(R::SsmDt, at, heads)?
                    .unwrap_or_else(|| vec![0.0; heads]),
                decays: weights.named_floats(&a, &[heads, 1])?,
                skips: weights.named_floats(&d, &[heads, 1])?,
            },
            norm: if weights.has(R::SsmNorm, at) {
                Some(weights.floats(R::SsmNorm, at, &[groups, sizes.inner() / groups])?)
            } else {
                None
            },
            output: Linear::load(weights, R::SsmOut, at, [hidden, sizes.inner()])?,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        recurrent: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let sizes = self.scan.sizes;
        let Sizes {
            heads,
            groups,
            state,
            ..
        } = sizes;
        let (inner, channels) = (sizes.inner(), sizes.channels());
        let all = self.input.apply(x)?;
        let gate = all.columns(0..inner)?;
        let mut mixed = all.columns(inner..inner + channels)?.into_host()?;
        let steps = all
            .columns(inner + channels..inner + channels + heads)?
            .into_host()?;
        convolve(&mut mixed, &self.kernel, channels, &mut recurrent.window);
        if let Some(bias) = &self.kernel_bias {
            for row in mixed.chunks_exact_mut(channels) {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
        ops::activate(&mut mixed, Activation::Silu);
        let part = |from: usize| Columns {
            rows: &mixed,
            width: channels,
            from,
        };
        let projected = Projected {
            x: part(0),
            b: part(inner),
            c: part(inner + groups * state),
            steps: &steps,
        };
        let out = self.scan.run(&projected, &mut recurrent.matrix);
        let out = X::from_host(pass.backend, out, inner)?;
        let mut out = gate.gate(&out, Activation::Silu)?;
        if let Some(weights) = &self.norm {
            let group = inner / groups;
            let mut rows = out
                .plain_norm(group, pass.forward.norm_epsilon)?
                .into_host()?;
            for row in rows.chunks_exact_mut(inner) {
                row.iter_mut()
                    .zip(weights)
                    .for_each(|(x, weight)| *x *= weight);
            }
            out = X::from_host(pass.backend, rows, inner)?;
        }
        self.output.apply(&out)
    }
}
