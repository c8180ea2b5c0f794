//! RWKV 7: a token mixer with a matrix for each head, which every token decays, corrects by a key of its own and adds to; and
//! the shift that gives each half of a block a share of the token before. The recurrence over tokens runs on the processor,
//! wherever the projections around it do.
//!
//! Sources: `rwkv7-base.cpp` and `rwkv7.cpp` in `src/models` of llama.cpp, `ggml_compute_forward_rwkv_wkv7_f32` of ggml.

use super::DecodeError;
use super::activations::Activations;
use super::host::{add_scaled, dot, ops};
use super::linear::Linear;
use super::recurrent::{each_head, row_of};
use super::state::{LayerState, Pass, RecurrentState};
use super::weights::Weights;
use crate::model::{Recurrent, TensorRole as R};

/// The inputs that take a share of the token before, in the order in which their shares are stored.
const INPUTS: usize = 6;

/// Decays are `exp(-exp(-0.5) sigmoid(x))`, as llama.cpp rounds it.
const DECAY: f32 = -0.606_531;

/// What is added to the variance of a head.
const HEAD_EPSILON: f32 = 64e-5;

/// The least length of a key that is corrected by.
const LEAST_LENGTH: f32 = 1e-12;

/// The token mixer of RWKV 7.
pub(super) struct TimeMix<X: Activations> {
    index: usize,
    /// How much each input takes from the token before: `[inputs, hidden]`.
    shares: Vec<f32>,
    receptance: Linear<X>,
    key: Linear<X>,
    value: Linear<X>,
    output: Linear<X>,
    decay: LowRank<X>,
    /// How much a token corrects.
    rate: LowRank<X>,
    /// How much values take of those of the first block, which has none.
    first: Option<LowRank<X>>,
    gate: LowRank<X>,
    /// Of the keys that are corrected by, of those that are added, and of the bonus.
    factors: [Vec<f32>; 3],
    norm: [X::Vector; 2],
    heads: usize,
    width: usize,
}

/// A projection of low rank.
struct LowRank<X: Activations> {
    down: Linear<X>,
    up: Linear<X>,
}

impl<X: Activations> LowRank<X> {
    fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        [down, up]: [R; 2],
        bias: Option<R>,
    ) -> Result<LowRank<X>, DecodeError> {
        let at = Some(layer);
        let shape = weights.shape(down, at, "weight");
        let rank = shape.and_then(|s| s.first().copied()).unwrap_or(0) as usize;
        let bias = bias.map(|role| weights.vector(role, at, hidden));
        Ok(LowRank {
            down: Linear::load(weights, down, at, [rank, hidden])?,
            up: Linear::of(weights.matrix(up, at, [hidden, rank])?, bias.transpose()?),
        })
    }

    /// With `between` on the narrow rows.
    fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        between: Option<fn(f32) -> f32>,
    ) -> Result<Vec<f32>, DecodeError> {
        let mut narrow = self.down.apply(x)?;
        if let Some(curve) = between {
            let width = narrow.width();
            let mut rows = narrow.into_host()?;
            rows.iter_mut().for_each(|x| *x = curve(*x));
            narrow = X::from_host(pass.backend, rows, width)?;
        }
        self.up.apply(&narrow)?.into_host()
    }
}

impl<X: Activations> TimeMix<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        index: usize,
        hidden: usize,
        recurrent: &Recurrent,
    ) -> Result<TimeMix<X>, DecodeError> {
        let layer = index as u32;
        let at = Some(layer);
        let width = recurrent.state_elements as usize / hidden.max(1);
        let halves = recurrent.conv_elements as usize == 2 * hidden;
        if width == 0 || !hidden.is_multiple_of(width) || !halves {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {index} has a state of {} for {hidden} elements",
                    recurrent.state_elements
                ),
            });
        }
        let square = [hidden, hidden];
        let later = [R::TimeMixV1, R::TimeMixV2];
        let first = if index == 0 {
            // Stand-ins that nothing uses.
            for role in [R::TimeMixV0, R::TimeMixV1, R::TimeMixV2] {
                weights.drop_spare(role, at);
            }
            None
        } else {
            let bias = Some(R::TimeMixV0);
            Some(LowRank::load(weights, layer, hidden, later, bias)?)
        };
        let mut low_rank =
            |roles, bias: Option<R>| LowRank::load(weights, layer, hidden, roles, bias);
        let decay = low_rank([R::TimeMixW1, R::TimeMixW2], Some(R::TimeMixW0))?;
        let rate = low_rank([R::TimeMixA1, R::TimeMixA2], Some(R::TimeMixA0))?;
        let gate = low_rank([R::TimeMixG1, R::TimeMixG2], None)?;
        let norm_bias = R::TimeMixLn.gguf_name(at, "bias");
        let norm_bias = weights.named_floats(&norm_bias, &[hidden])?;
        Ok(TimeMix {
            index,
            shares: weights.floats(R::TimeMixLerp, at, &[INPUTS, 1, 1, hidden])?,
            receptance: Linear::load(weights, R::TimeMixReceptance, at, square)?,
            key: Linear::load(weights, R::TimeMixKey, at, square)?,
            value: Linear::load(weights, R::TimeMixValue, at, square)?,
            output: Linear::load(weights, R::TimeMixOutput, at, square)?,
            decay,
            rate,
            first,
            gate,
            factors: [
                weights.floats(R::TimeMixKK, at, &[hidden])?,
                weights.floats(R::TimeMixKA, at, &[hidden])?,
                weights.floats(R::TimeMixRK, at, &[hidden])?,
            ],
            norm: [
                weights.vector(R::TimeMixLn, at, hidden)?,
                weights.own_vector(norm_bias)?,
            ],
            heads: hidden / width,
            width,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let (hidden, tokens) = (x.width(), x.tokens());
        let missing = || DecodeError::Hyperparameters {
            what: format!("block {} has no state of a first one", self.index),
        };
        let state = states.get_mut(self.index).and_then(LayerState::recurrent);
        let state = state.ok_or_else(missing)?;
        let rows = x.clone().into_host()?;
        let before = rows_before(&rows, hidden, state.window.split_at_mut(hidden).0);
        let shifted = |input: usize| {
            let shares = row_of(&self.shares, input, hidden);
            X::from_host(pass.backend, mixed(&rows, &before, shares), hidden)
        };
        let receptance = self.receptance.apply(&shifted(0)?)?.into_host()?;
        let mut decays = self.decay.apply(&shifted(1)?, pass, Some(f32::tanh))?;
        for decay in &mut decays {
            *decay = (DECAY * ops::sigmoid(*decay)).exp();
        }
        let mut keys = self.key.apply(&shifted(2)?)?.into_host()?;
        let input = shifted(3)?;
        let mut values = self.value.apply(&input)?.into_host()?;
        match &self.first {
            None => state.values.clone_from(&values),
            Some(part) => {
                let parts = part.apply(&input, pass, None)?;
                let first = states.first_mut().and_then(LayerState::recurrent);
                let first = &first.ok_or_else(missing)?.values;
                for ((value, part), first) in values.iter_mut().zip(parts).zip(first) {
                    *value += (first - *value) * ops::sigmoid(part);
                }
            }
        }
        let mut rates = self.rate.apply(&shifted(4)?, pass, None)?;
        rates
            .iter_mut()
            .for_each(|rate| *rate = ops::sigmoid(*rate));
        let gate = self.gate.apply(&shifted(5)?, pass, Some(ops::sigmoid))?;
        let [of_corrections, of_added, of_bonus] = &self.factors;
        // The keys that are corrected by, of unit length; then those that are added.
        let mut corrections = keys.clone();
        ops::each_row(&mut corrections, hidden, |_, row| {
            row.iter_mut()
                .zip(of_corrections)
                .for_each(|(x, factor)| *x *= factor);
            for head in row.chunks_exact_mut(self.width) {
                let length = dot(head, head).sqrt().max(LEAST_LENGTH);
                ops::scale(head, 1.0 / length);
            }
        });
        for (row, rates) in keys
            .chunks_exact_mut(hidden)
            .zip(rates.chunks_exact(hidden))
        {
            for ((key, rate), factor) in row.iter_mut().zip(rates).zip(of_added) {
                let added = *key * factor;
                *key += rate * added - added;
            }
        }
        let state = states.get_mut(self.index).and_then(LayerState::recurrent);
        let state = state.ok_or_else(missing)?;
        let sizes = [tokens, self.heads, self.width];
        let out = each_head(&mut state.matrix, sizes, |head, token, matrix, out| {
            let of = |rows| row_of(row_of(rows, token, hidden), head, self.width);
            let inputs = [&receptance, &decays, &keys, &values, &corrections, &rates];
            advance(matrix, inputs.map(|rows| of(rows)), out);
        });
        let out = X::from_host(pass.backend, out, hidden)?;
        let out = out
            .centre(self.width)?
            .plain_norm(self.width, HEAD_EPSILON)?;
        let [weight, bias] = &self.norm;
        let mut out = out.times_vector(weight)?;
        out.add_vector(bias)?;
        // What the token itself gives beside the state.
        let mut bonus = values;
        for (at, values) in bonus.chunks_exact_mut(self.width).enumerate() {
            let (key, receptance) = (
                row_of(&keys, at, self.width),
                row_of(&receptance, at, self.width),
            );
            let factors = row_of(of_bonus, at % self.heads, self.width);
            let products = key.iter().zip(receptance).zip(factors);
            ops::scale(values, products.map(|((k, r), f)| k * r * f).sum());
        }
        let out = out.add(&X::from_host(pass.backend, bonus, hidden)?)?;
        let gate = X::from_host(pass.backend, gate, hidden)?;
        self.output.apply(&out.times(&gate)?)
    }
}

/// One token through one head: `S = S diag(decay) - (S c) (rate c)^T + v k^T; out = S r`, with the key `c` that is corrected by.
fn advance(
    state: &mut [f32],
    [receptance, decays, key, values, correction, rates]: [&[f32]; 6],
    out: &mut [f32],
) {
    let rows = state.chunks_exact_mut(key.len().max(1));
    for ((state, value), out) in rows.zip(values).zip(out) {
        let wrong = dot(state, correction);
        let each = state
            .iter_mut()
            .zip(decays)
            .zip(correction.iter().zip(rates));
        for ((x, decay), (c, rate)) in each {
            *x = *x * decay - wrong * rate * c;
        }
        add_scaled(state, *value, key);
        *out = dot(state, receptance);
    }
}

/// The row before each of `rows`; `before` is that before the first, and becomes the last of them.
fn rows_before(rows: &[f32], width: usize, before: &mut [f32]) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows.chunks_exact(width.max(1)) {
        all.extend_from_slice(before);
        before.copy_from_slice(row);
    }
    all
}

/// `x + (before - x) shares`, row by row.
fn mixed(rows: &[f32], before: &[f32], shares: &[f32]) -> Vec<f32> {
    let shares = shares.iter().cycle();
    let pairs = rows.iter().zip(before).zip(shares);
    pairs
        .map(|((x, before), share)| x + (before - x) * share)
        .collect()
}

/// A share of the token before, in front of a feed-forward.
pub(super) struct TokenShift {
    shares: Vec<f32>,
}

impl TokenShift {
    pub(super) fn load_if_there<X: Activations>(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
    ) -> Result<Option<TokenShift>, DecodeError> {
        let (role, at) = (R::ChannelMixLerpK, Some(layer));
        if !weights.has(role, at) {
            return Ok(None);
        }
        let shares = weights.floats(role, at, &[hidden])?;
        Ok(Some(TokenShift { shares }))
    }

    pub(super) fn apply<X: Activations>(
        &self,
        x: X,
        pass: &Pass<'_, X>,
        state: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let width = x.width();
        let rows = x.into_host()?;
        let last = state.window.get_mut(width..2 * width);
        let last = last.ok_or_else(|| DecodeError::Hyperparameters {
            what: format!("a channel mix has no state of {width} elements"),
        })?;
        let before = rows_before(&rows, width, last);
        X::from_host(pass.backend, mixed(&rows, &before, &self.shares), width)
    }
}
