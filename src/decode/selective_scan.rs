//! Mamba 1: a token mixer whose channels each keep a row of numbers that decay on their own; how fast, and what is added to
//! them and read from them, is computed from the token. The recurrence over tokens runs on the processor, wherever the
//! projections around it do.
//!
//! Sources: `mamba-base.cpp` in `src/models` of llama.cpp, `ggml_compute_forward_ssm_scan_f32` of ggml.

use super::DecodeError;
use super::activations::Activations;
use super::host::{ops, parallel_chunks};
use super::linear::Linear;
use super::norm::Norm;
use super::recurrent::convolve;
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Activation, ForwardSpec, Recurrent, TensorRole as R};

/// A Mamba 1 mixer.
pub(super) struct SelectiveScan<X: Activations> {
    /// `x` and its gate.
    input: Linear<X>,
    kernel: Vec<f32>,
    kernel_bias: Option<Vec<f32>>,
    /// From `x` to what time steps are computed from, `B` and `C`.
    parts: Linear<X>,
    steps: Linear<X>,
    /// Of the same three.
    norms: Norms<X>,
    /// Decay a unit of time: `[channels, state]`, negative.
    a: Vec<f32>,
    /// What of `x` goes past the state, one for each channel.
    d: Vec<f32>,
    output: Linear<X>,
    channels: usize,
    rank: usize,
    state: usize,
}

/// What brings time steps, `B` and `C` to unit scale.
enum Norms<X: Activations> {
    None,
    Plain,
    Weighted(Box<[Norm<X>; 3]>),
}

impl<X: Activations> SelectiveScan<X> {
    /// Sizes follow from the tensors and from the size of the state, channels x state.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        recurrent: &Recurrent,
    ) -> Result<SelectiveScan<X>, DecodeError> {
        let at = Some(layer);
        let dims = |role| weights.shape(role, at, "weight").unwrap_or(&[]).to_vec();
        let last = |dims: &[u64]| dims.last().copied().unwrap_or(0);
        let (channels, rank) = (last(&dims(R::SsmOut)), last(&dims(R::SsmDt)));
        let kernel = last(&dims(R::SsmConv1d)) as usize;
        let state = recurrent.state_elements / channels.max(1);
        if rank == 0 || state == 0 || state * channels != recurrent.state_elements {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {layer} has {channels} channels, time steps of rank {rank}, and a state of {}",
                    recurrent.state_elements
                ),
            });
        }
        let [channels, rank, state] = [channels, rank, state].map(|n| n as usize);
        let [a, d] = [R::SsmA, R::SsmD].map(|role| role.gguf_name(at, ""));
        let norms = if weights.has(R::SsmDtNorm, at) {
            Norms::Weighted(Box::new([
                Norm::load(weights, forward, R::SsmDtNorm, at, rank)?,
                Norm::load(weights, forward, R::SsmBNorm, at, state)?,
                Norm::load(weights, forward, R::SsmCNorm, at, state)?,
            ]))
        } else if forward.normed_steps {
            Norms::Plain
        } else {
            Norms::None
        };
        Ok(SelectiveScan {
            input: Linear::load(weights, R::SsmIn, at, [2 * channels, hidden])?,
            kernel: weights.floats(R::SsmConv1d, at, &[channels, kernel])?,
            kernel_bias: weights.bias_floats(R::SsmConv1d, at, channels)?,
            parts: Linear::load(weights, R::SsmX, at, [rank + 2 * state, channels])?,
            steps: Linear::load(weights, R::SsmDt, at, [channels, rank])?,
            norms,
            a: weights.named_floats(&a, &[channels, state])?,
            d: weights.named_floats(&d, &[channels])?,
            output: Linear::load(weights, R::SsmOut, at, [hidden, channels])?,
            channels,
            rank,
            state,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        recurrent: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let (channels, state, tokens) = (self.channels, self.state, x.tokens());
        let all = self.input.apply(x)?;
        let gate = all.columns(channels..2 * channels)?;
        let mut mixed = all.columns(0..channels)?.into_host()?;
        convolve(&mut mixed, &self.kernel, channels, &mut recurrent.window);
        if let Some(bias) = &self.kernel_bias {
            for row in mixed.chunks_exact_mut(channels) {
                row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
        ops::activate(&mut mixed, Activation::Silu);
        let input = X::from_host(pass.backend, mixed.clone(), channels)?;
        let parts = self.parts.apply(&input)?;
        let part = |index: usize, from: usize, width: usize| {
            let part = parts.columns(from..from + width)?;
            match &self.norms {
                Norms::None => Ok(part),
                Norms::Plain => part.plain_norm(width, pass.forward.norm_epsilon),
                Norms::Weighted(norms) => norms[index].apply(part),
            }
        };
        let steps = part(0, 0, self.rank)?;
        let b = part(1, self.rank, state)?.into_host()?;
        let c = part(2, self.rank + state, state)?.into_host()?;
        // With its bias.
        let steps = self.steps.apply(&steps)?.into_host()?;
        // Runs of channels, each of which writes a run of its own: `[channels, tokens]`.
        let mut by_channel = vec![0.0; tokens * channels];
        let states = recurrent.matrix.chunks_exact_mut(state);
        let mut each: Vec<(&mut [f32], &mut [f32])> = states
            .zip(by_channel.chunks_exact_mut(tokens.max(1)))
            .collect();
        const RUN: usize = 16;
        parallel_chunks(&mut each, RUN, |run, pairs| {
            for (index, (row, out)) in pairs.iter_mut().enumerate() {
                self.scan(run * RUN + index, row, [&mixed, &steps, &b, &c], out);
            }
        });
        let mut out = vec![0.0; by_channel.len()];
        for (channel, values) in by_channel.chunks_exact(tokens.max(1)).enumerate() {
            let places = out.iter_mut().skip(channel).step_by(channels);
            places
                .zip(values)
                .for_each(|(place, value)| *place = *value);
        }
        let out = X::from_host(pass.backend, out, channels)?;
        self.output.apply(&gate.gate(&out, Activation::Silu)?)
    }

    /// All tokens through one channel: `h = exp(dt a) h + dt x B; out = C h + d x`.
    fn scan(&self, channel: usize, row: &mut [f32], inputs: [&[f32]; 4], out: &mut [f32]) {
        let [x, steps, b, c] = inputs;
        let of = |values: &[f32], at: usize| values.get(at).copied().unwrap_or(0.0);
        let rates = self.a.chunks_exact(self.state).nth(channel);
        let (rates, d) = (rates.unwrap_or_default(), of(&self.d, channel));
        let tokens = b.chunks_exact(self.state).zip(c.chunks_exact(self.state));
        for (token, ((b, c), out)) in tokens.zip(out).enumerate() {
            let at = token * self.channels + channel;
            let (x, dt) = (of(x, at), ops::softplus(of(steps, at)));
            let mut sum = 0.0;
            for (((h, rate), b), c) in row.iter_mut().zip(rates).zip(b).zip(c) {
                *h = *h * (dt * rate).exp() + dt * x * b;
                sum += *h * c;
            }
            *out = sum + x * d;
        }
    }
}
