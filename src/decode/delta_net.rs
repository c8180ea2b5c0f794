//! Gated delta nets. The state of each head is a matrix from keys to values; every token scales it by a decay, of the head or of
//! each element of a key (KDA), and corrects the value that it gives for the token's key. The recurrence over tokens runs on
//! the processor, wherever the projections around it do.
//!
//! Sources: `qwen35.cpp`, `qwen3next.cpp`, `kimi-linear.cpp` and `delta-net-base.cpp` in `src/models` of llama.cpp.

use super::DecodeError;
use super::activations::Activations;
use super::host::{add_scaled, dot, ops};
use super::linear::Linear;
use super::norm::Norm;
use super::recurrent::{convolve, each_head, row_of};
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Activation, ForwardSpec, TensorRole as R};

/// A gated delta net.
pub(super) struct DeltaNet<X: Activations> {
    inputs: Inputs<X>,
    /// Of queries, keys and values, one for each channel.
    kernel: Vec<f32>,
    /// Added to time steps.
    dt_bias: Vec<f32>,
    /// Decay a unit of time, one for each head: negative.
    a: Vec<f32>,
    norm: Norm<X>,
    output: Linear<X>,
    sizes: Sizes,
}

/// How a file stores the projections of a token.
enum Inputs<X: Activations> {
    /// Queries, keys and values in one matrix, all else apart. Heads of values take those of keys in turn.
    InTurn {
        mixed: Linear<X>,
        gate: Linear<X>,
        beta: Linear<X>,
        steps: Linear<X>,
    },
    /// Corrections and time steps in one matrix too, one head of keys after another, each with its heads of values.
    ByKeyHead {
        mixed: Linear<X>,
        gate: Linear<X>,
        rates: Linear<X>,
    },
    /// Queries, keys and values apart, as many heads of each. Time steps, of each element of a key, and gates have a low rank;
    /// the sigmoid of a gate counts.
    Apart {
        mixed: Box<[Linear<X>; 3]>,
        beta: Linear<X>,
        steps: Box<[Linear<X>; 2]>,
        gate: Box<[Linear<X>; 2]>,
    },
}

/// What is computed of each token.
struct Projected<X> {
    /// Queries, keys and values: `[tokens, channels]`.
    mixed: Vec<f32>,
    gate: X,
    /// How much of a correction counts, before a sigmoid: `[tokens, heads]`.
    beta: Vec<f32>,
    /// Time steps, before their bias: one for each head, or for each element of its key.
    steps: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Sizes {
    key_heads: usize,
    key_width: usize,
    /// Heads of values.
    heads: usize,
    /// Elements of one.
    width: usize,
}

impl Sizes {
    fn keys(self) -> usize {
        self.key_heads * self.key_width
    }

    /// Elements of all values.
    fn inner(self) -> usize {
        self.heads * self.width
    }

    /// Elements that the convolution runs over.
    fn channels(self) -> usize {
        2 * self.keys() + self.inner()
    }
}

impl<X: Activations> DeltaNet<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        state_elements: u64,
    ) -> Result<DeltaNet<X>, DecodeError> {
        let at = Some(layer);
        let sizes = Sizes::of(weights, layer, state_elements)?;
        let (heads, width, keys) = (sizes.heads, sizes.width, sizes.keys());
        let (inner, channels) = (sizes.inner(), sizes.channels());
        let is_apart = weights.has(R::SsmConv1dQ, at);
        let rows = |weights: &Weights<'_, X>, role, place: usize| {
            let shape = weights.shape(role, at, "weight");
            shape.and_then(|s| s.get(place).copied()).unwrap_or(0) as usize
        };
        let (kernel, inputs, output) = if is_apart {
            let mut kernel = Vec::new();
            for role in [R::SsmConv1dQ, R::SsmConv1dK, R::SsmConv1dV] {
                let size = weights.shape(role, at, "weight").and_then(|s| s.last());
                let size = size.copied().unwrap_or(0) as usize;
                kernel.extend(weights.floats(role, at, &[inner, 1, size])?);
            }
            let (steps, gate) = (rows(weights, R::SsmFA, 0), rows(weights, R::SsmGA, 0));
            let mut load = |role, shape| Linear::load(weights, role, at, shape);
            let inputs = Inputs::Apart {
                mixed: Box::new([
                    load(R::AttnQ, [keys, hidden])?,
                    load(R::AttnK, [keys, hidden])?,
                    load(R::AttnV, [inner, hidden])?,
                ]),
                beta: load(R::SsmBeta, [heads, hidden])?,
                steps: Box::new([
                    load(R::SsmFA, [steps, hidden])?,
                    load(R::SsmFB, [keys, steps])?,
                ]),
                gate: Box::new([
                    load(R::SsmGA, [gate, hidden])?,
                    load(R::SsmGB, [inner, gate])?,
                ]),
            };
            (kernel, inputs, R::AttnOutput)
        } else {
            let size = rows(weights, R::SsmConv1d, 1);
            let kernel = weights.floats(R::SsmConv1d, at, &[channels, size])?;
            let fused = weights.has(R::SsmBetaAlpha, at);
            let mut load = |role, shape| Linear::load(weights, role, at, shape);
            let mixed = load(R::AttnQkv, [channels, hidden])?;
            let gate = load(R::AttnGate, [inner, hidden])?;
            let inputs = if fused {
                let rates = load(R::SsmBetaAlpha, [2 * heads, hidden])?;
                Inputs::ByKeyHead { mixed, gate, rates }
            } else {
                Inputs::InTurn {
                    mixed,
                    gate,
                    beta: load(R::SsmBeta, [heads, hidden])?,
                    steps: load(R::SsmAlpha, [heads, hidden])?,
                }
            };
            (kernel, inputs, R::SsmOut)
        };
        let (steps, decays) = match inputs {
            Inputs::Apart { .. } => (keys, vec![heads, 1]),
            Inputs::InTurn { .. } | Inputs::ByKeyHead { .. } => (heads, vec![heads]),
        };
        let dt_bias = R::SsmDt.gguf_name(at, "bias");
        let a = R::SsmA.gguf_name(at, "");
        Ok(DeltaNet {
            inputs,
            kernel,
            dt_bias: weights.named_floats(&dt_bias, &[steps])?,
            a: weights.named_floats(&a, &decays)?,
            norm: Norm::load(weights, forward, R::SsmNorm, at, width)?,
            output: Linear::load(weights, output, at, [hidden, inner])?,
            sizes,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        state: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let (epsilon, tokens) = (pass.forward.norm_epsilon, x.tokens());
        let Sizes {
            key_width,
            heads,
            width,
            ..
        } = self.sizes;
        let (keys, channels) = (self.sizes.keys(), self.sizes.channels());
        let Projected {
            mut mixed,
            gate,
            beta,
            mut steps,
        } = self.inputs.project(x, self.sizes)?;
        convolve(&mut mixed, &self.kernel, channels, &mut state.window);
        ops::activate(&mut mixed, Activation::Silu);
        ops::each_row(&mut mixed, channels, |_, row| {
            let (queries_and_keys, _) = row.split_at_mut(2 * keys);
            for head in queries_and_keys.chunks_exact_mut(key_width) {
                let length = (dot(head, head) + epsilon).sqrt();
                ops::scale(head, 1.0 / length);
            }
        });
        let each = (self.dt_bias.len() / heads).max(1);
        ops::each_row(&mut steps, heads * each, |_, row| {
            for (head, steps) in row.chunks_exact_mut(each).enumerate() {
                let a = self.a.get(head).copied().unwrap_or(0.0);
                for (step, bias) in steps.iter_mut().zip(row_of(&self.dt_bias, head, each)) {
                    *step = (ops::softplus(*step + bias) * a).exp();
                }
            }
        });
        let decays = steps;
        let sizes = [tokens, heads, width];
        let out = each_head(&mut state.matrix, sizes, |head, token, matrix, out| {
            let decays = row_of(&decays, token * heads + head, each);
            match decays {
                [decay] => ops::scale(matrix, *decay),
                _ => {
                    for row in matrix.chunks_exact_mut(key_width) {
                        row.iter_mut()
                            .zip(decays)
                            .for_each(|(x, decay)| *x *= decay);
                    }
                }
            }
            let beta = beta.get(token * heads + head).copied().unwrap_or(0.0);
            let row = row_of(&mixed, token, channels);
            self.correct(matrix, row, head, ops::sigmoid(beta), out);
        });
        let out = X::from_host(pass.backend, out, heads * width)?;
        let normed = self.norm.apply(out)?;
        let gated = match self.inputs {
            Inputs::Apart { .. } => normed.sigmoid_gate(&gate)?,
            Inputs::InTurn { .. } | Inputs::ByKeyHead { .. } => {
                gate.gate(&normed, Activation::Silu)?
            }
        };
        self.output.apply(&gated)
    }

    /// One token through one head whose state has decayed: `S += beta (v - S k) k^T; out = S q / sqrt(key width)`.
    fn correct(&self, state: &mut [f32], row: &[f32], head: usize, beta: f32, out: &mut [f32]) {
        let Sizes {
            key_heads,
            key_width,
            heads,
            width,
        } = self.sizes;
        let keys = self.sizes.keys();
        let key_head = match self.inputs {
            Inputs::InTurn { .. } => head % key_heads,
            Inputs::ByKeyHead { .. } | Inputs::Apart { .. } => head / (heads / key_heads),
        };
        let part = |from: usize, len: usize| row.get(from..from + len).unwrap_or_default();
        let query = part(key_head * key_width, key_width);
        let key = part(keys + key_head * key_width, key_width);
        let values = part(2 * keys + head * width, width);
        let scale = 1.0 / (key_width as f32).sqrt();
        let rows = state.chunks_exact_mut(key_width).zip(values);
        for ((state, value), out) in rows.zip(out) {
            let correction = beta * (value - dot(state, key));
            add_scaled(state, correction, key);
            *out = scale * dot(state, query);
        }
    }
}

impl Sizes {
    /// They follow from the tensors and from `state_elements`, heads x value width x key width.
    fn of<X: Activations>(
        weights: &Weights<'_, X>,
        layer: u32,
        state_elements: u64,
    ) -> Result<Sizes, DecodeError> {
        let rows = |role| {
            let shape = weights.shape(role, Some(layer), "weight");
            shape.and_then(|s| s.first().copied()).unwrap_or(0)
        };
        let width = rows(R::SsmNorm);
        let (inner, channels) = if weights.has(R::SsmConv1dQ, Some(layer)) {
            let values = rows(R::AttnV);
            (values, rows(R::AttnQ) + rows(R::AttnK) + values)
        } else {
            (rows(R::AttnGate), rows(R::AttnQkv))
        };
        let key_width = state_elements / inner.max(1);
        let key_heads = channels.saturating_sub(inner) / (2 * key_width).max(1);
        let heads = inner / width.max(1);
        let possible = key_heads > 0 && heads.is_multiple_of(key_heads) && heads * width == inner;
        if !possible || heads == 0 || 2 * key_heads * key_width + inner != channels {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {layer} has {channels} channels, {inner} of values in heads of {width}, and a state of {state_elements}"
                ),
            });
        }
        let [key_heads, key_width, heads, width] =
            [key_heads, key_width, heads, width].map(|n| n as usize);
        Ok(Sizes {
            key_heads,
            key_width,
            heads,
            width,
        })
    }
}

impl<X: Activations> Inputs<X> {
    fn project(&self, x: &X, sizes: Sizes) -> Result<Projected<X>, DecodeError> {
        Ok(match self {
            Inputs::InTurn {
                mixed,
                gate,
                beta,
                steps,
            } => {
                let all = [mixed, gate, beta, steps];
                let [mixed, gate, beta, steps] = Linear::apply_all(all, x)?;
                Projected {
                    mixed: mixed.into_host()?,
                    gate,
                    beta: beta.into_host()?,
                    steps: steps.into_host()?,
                }
            }
            Inputs::ByKeyHead { mixed, gate, rates } => {
                let [mixed, gate, rates] = Linear::apply_all([mixed, gate, rates], x)?;
                let each = sizes.heads / sizes.key_heads;
                let (mut beta, mut steps) = (Vec::new(), Vec::new());
                for both in rates.into_host()?.chunks_exact(2 * each) {
                    let (corrections, times) = both.split_at(each);
                    beta.extend_from_slice(corrections);
                    steps.extend_from_slice(times);
                }
                Projected {
                    mixed: mixed.into_host()?,
                    gate,
                    beta,
                    steps,
                }
            }
            Inputs::Apart {
                mixed,
                beta,
                steps,
                gate,
            } => {
                let ([query, key, value], [steps, more_steps]) = (mixed.as_ref(), steps.as_ref());
                let [gate, more_gate] = gate.as_ref();
                let all = [query, key, value, beta, steps, gate];
                let [query, key, value, beta, steps, gate] = Linear::apply_all(all, x)?;
                let parts = [query.into_host()?, key.into_host()?, value.into_host()?];
                let widths = [sizes.keys(), sizes.keys(), sizes.inner()];
                let mut mixed = Vec::with_capacity(x.tokens() * sizes.channels());
                for token in 0..x.tokens() {
                    for (part, width) in parts.iter().zip(widths) {
                        mixed.extend_from_slice(row_of(part, token, width));
                    }
                }
                Projected {
                    mixed,
                    gate: more_gate.apply(&gate)?,
                    beta: beta.into_host()?,
                    steps: more_steps.apply(&steps)?.into_host()?,
                }
            }
        })
    }
}
