//! Token mixers that keep a state of fixed size instead of a KV cache: short convolutions and gated
//! delta nets. Their recurrence over tokens runs on the processor, wherever the projections around it
//! do.
//!
//! Sources: `lfm2.cpp`, `qwen35.cpp` and `delta-net-base.cpp` in `src/models` of llama.cpp.

use super::DecodeError;
use super::activations::Activations;
use super::host::{add_scaled, dot, ops, parallel_chunks};
use super::linear::Linear;
use super::norm::Norm;
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Activation, ForwardSpec, TensorRole as R};

/// `out[t][c] = sum over i of kernel[c][i] x rows[t - (size - 1) + i][c]` in place, one kernel a
/// channel; `window` holds the rows before the first.
pub(super) fn convolve(rows: &mut [f32], kernel: &[f32], channels: usize, window: &mut [f32]) {
    let channels = channels.max(1);
    let size = kernel.len() / channels;
    for row in rows.chunks_exact_mut(channels) {
        for (channel, (x, kernel)) in row
            .iter_mut()
            .zip(kernel.chunks_exact(size.max(1)))
            .enumerate()
        {
            let before = window.iter().skip(channel).step_by(channels);
            let newest = kernel.last().copied().unwrap_or(0.0);
            let sum = before.zip(kernel).map(|(x, k)| x * k).sum::<f32>() + newest * *x;
            // The window moves on by one: each row takes the place of the one before it.
            let mut next = *x;
            for place in window.iter_mut().skip(channel).step_by(channels).rev() {
                std::mem::swap(place, &mut next);
            }
            *x = sum;
        }
    }
}

/// LFM2's gated convolution: `out(c x conv(b x x))`.
pub(super) struct ShortConvolution<X: Activations> {
    input: Linear<X>,
    kernel: Vec<f32>,
    output: Linear<X>,
    channels: usize,
}

impl<X: Activations> ShortConvolution<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        conv_elements: u64,
    ) -> Result<ShortConvolution<X>, DecodeError> {
        let at = Some(layer);
        let size = conv_elements as usize / hidden.max(1) + 1;
        Ok(ShortConvolution {
            input: Linear::load(weights, R::ShortconvIn, at, [3 * hidden, hidden])?,
            kernel: weights.floats(R::ShortconvConv, at, &[hidden, size])?,
            output: Linear::load(weights, R::ShortconvOut, at, [hidden, hidden])?,
            channels: hidden,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        state: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let channels = self.channels;
        let all = self.input.apply(x)?;
        let part = |part: usize| all.columns(part * channels..(part + 1) * channels);
        let (b, c, x) = (part(0)?, part(1)?, part(2)?);
        let mut mixed = b.times(&x)?.into_host()?;
        convolve(&mut mixed, &self.kernel, channels, &mut state.window);
        let mixed = X::from_host(pass.backend, mixed, channels)?;
        self.output.apply(&mixed.times(&c)?)
    }
}

/// A gated delta net. The state of each head is a matrix from keys to values; every token scales it by
/// a decay and corrects the value that it gives for the token's key.
pub(super) struct DeltaNet<X: Activations> {
    projection: Linear<X>,
    gate: Linear<X>,
    beta: Linear<X>,
    alpha: Linear<X>,
    kernel: Vec<f32>,
    /// Added to `alpha`, one for each head.
    dt_bias: Vec<f32>,
    /// Decay a unit of time, one for each head: negative.
    a: Vec<f32>,
    norm: Norm<X>,
    output: Linear<X>,
    key_heads: usize,
    key_width: usize,
    heads: usize,
    width: usize,
}

impl<X: Activations> DeltaNet<X> {
    /// Sizes follow from the tensors and from `state_elements`, heads x value width x key width.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        state_elements: u64,
    ) -> Result<DeltaNet<X>, DecodeError> {
        let at = Some(layer);
        let rows = |weights: &Weights<'_, X>, role| {
            weights
                .shape(role, at, "weight")
                .and_then(|s| s.first().copied())
        };
        let width = rows(weights, R::SsmNorm).unwrap_or(0);
        let inner = rows(weights, R::AttnGate).unwrap_or(0);
        let channels = rows(weights, R::AttnQkv).unwrap_or(0);
        let key_width = state_elements / inner.max(1);
        let key_heads = channels.saturating_sub(inner) / (2 * key_width).max(1);
        let heads = inner / width.max(1);
        let possible = key_heads > 0 && heads.is_multiple_of(key_heads) && heads * width == inner;
        if !possible || 2 * key_heads * key_width + inner != channels {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {layer} has {channels} channels, {inner} of values in heads of {width}, and a state of {state_elements}"
                ),
            });
        }
        let kernel = weights
            .shape(R::SsmConv1d, at, "weight")
            .and_then(|s| s.last().copied());
        let [inner, channels, heads, width] = [inner, channels, heads, width].map(|n| n as usize);
        let dt_bias = R::SsmDt.gguf_name(at, "bias");
        let a = R::SsmA.gguf_name(at, "");
        Ok(DeltaNet {
            projection: Linear::load(weights, R::AttnQkv, at, [channels, hidden])?,
            gate: Linear::load(weights, R::AttnGate, at, [inner, hidden])?,
            beta: Linear::load(weights, R::SsmBeta, at, [heads, hidden])?,
            alpha: Linear::load(weights, R::SsmAlpha, at, [heads, hidden])?,
            kernel: weights.floats(R::SsmConv1d, at, &[channels, kernel.unwrap_or(0) as usize])?,
            dt_bias: weights.named_floats(&dt_bias, &[heads])?,
            a: weights.named_floats(&a, &[heads])?,
            norm: Norm::load(weights, forward, R::SsmNorm, at, width)?,
            output: Linear::load(weights, R::SsmOut, at, [hidden, inner])?,
            key_heads: key_heads as usize,
            key_width: key_width as usize,
            heads,
            width,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        state: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let (epsilon, tokens) = (pass.forward.norm_epsilon, x.tokens());
        let all = [&self.projection, &self.gate, &self.beta, &self.alpha];
        let [mixed, gate, beta, alpha] = Linear::apply_all(all, x)?;
        let channels = mixed.width();
        let mut mixed = mixed.into_host()?;
        let (beta, alpha) = (beta.into_host()?, alpha.into_host()?);
        convolve(&mut mixed, &self.kernel, channels, &mut state.window);
        ops::activate(&mut mixed, Activation::Silu);
        let keys = self.key_heads * self.key_width;
        ops::each_row(&mut mixed, channels, |_, row| {
            let (queries_and_keys, _) = row.split_at_mut(2 * keys);
            for head in queries_and_keys.chunks_exact_mut(self.key_width) {
                let length = (dot(head, head) + epsilon).sqrt();
                ops::scale(head, 1.0 / length);
            }
        });
        let mut by_head = vec![0.0; tokens * self.heads * self.width];
        let states = state.matrix.chunks_exact_mut(self.width * self.key_width);
        let mut heads: Vec<(&mut [f32], &mut [f32])> = states
            .zip(by_head.chunks_exact_mut((tokens * self.width).max(1)))
            .collect();
        parallel_chunks(&mut heads, 1, |head, pair| {
            for (state, out) in pair {
                let steps = mixed
                    .chunks_exact(channels)
                    .zip(out.chunks_exact_mut(self.width));
                for (token, (row, out)) in steps.enumerate() {
                    let at = token * self.heads + head;
                    let value = |of: &[f32], at: usize| of.get(at).copied().unwrap_or(0.0);
                    let dt = ops::softplus(value(&alpha, at) + value(&self.dt_bias, head));
                    let decay = (dt * value(&self.a, head)).exp();
                    let beta = ops::sigmoid(value(&beta, at));
                    self.advance(state, row, head, decay, beta, out);
                }
            }
        });
        let mut out = vec![0.0; by_head.len()];
        for (head, rows) in by_head
            .chunks_exact((tokens * self.width).max(1))
            .enumerate()
        {
            for (token, row) in rows.chunks_exact(self.width).enumerate() {
                let start = (token * self.heads + head) * self.width;
                out.get_mut(start..start + self.width)
                    .unwrap_or_default()
                    .copy_from_slice(row);
            }
        }
        let out = X::from_host(pass.backend, out, self.heads * self.width)?;
        let out = gate.gate(&self.norm.apply(out)?, Activation::Silu)?;
        self.output.apply(&out)
    }

    /// One token through one head: `S = decay S; S += beta (v - S k) k^T; out = S q / sqrt(key width)`.
    fn advance(
        &self,
        state: &mut [f32],
        row: &[f32],
        head: usize,
        decay: f32,
        beta: f32,
        out: &mut [f32],
    ) {
        let (keys, key_head) = (self.key_heads * self.key_width, head % self.key_heads);
        let part = |from: usize, len: usize| row.get(from..from + len).unwrap_or_default();
        let query = part(key_head * self.key_width, self.key_width);
        let key = part(keys + key_head * self.key_width, self.key_width);
        let values = part(2 * keys + head * self.width, self.width);
        let scale = 1.0 / (self.key_width as f32).sqrt();
        let rows = state.chunks_exact_mut(self.key_width).zip(values);
        for ((state, value), out) in rows.zip(out) {
            ops::scale(state, decay);
            let correction = beta * (value - dot(state, key));
            add_scaled(state, correction, key);
            *out = scale * dot(state, query);
        }
    }
}
