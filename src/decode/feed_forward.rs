//! What mixes channels: a gated feed-forward, or experts of which a router picks some.

use super::DecodeError;
use super::block::Linear;
use super::kernels::Input;
use super::matrix::Matrix;
use super::ops::{self, softmax};
use super::weights::Weights;
use crate::model::{Activation, FeedForward, Sparse, TensorRole as R};

/// A block's feed-forward.
pub(super) enum Mix {
    None,
    Dense(Gated),
    Experts {
        router: Matrix,
        experts: Vec<Gated>,
        used: usize,
    },
}

/// `down(activation(gate(x)) x up(x))`.
pub(super) struct Gated {
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
    inner: usize,
}

impl Gated {
    fn load(
        weights: &mut Weights<'_>,
        layer: u32,
        hidden: usize,
        inner: usize,
    ) -> Result<Gated, DecodeError> {
        let at = Some(layer);
        // Without a gate of its own, the matrix holds gate and up, one behind the other.
        let gated = weights.has(R::FfnGate, at);
        let gate = match gated {
            true => Some(Linear::load(weights, R::FfnGate, at, [inner, hidden])?),
            false => None,
        };
        let width = if gated { inner } else { 2 * inner };
        Ok(Gated {
            gate,
            up: Linear::load(weights, R::FfnUp, at, [width, hidden])?,
            down: Linear::load(weights, R::FfnDown, at, [hidden, inner])?,
            inner,
        })
    }

    fn apply(
        &self,
        x: &[f32],
        activation: Activation,
        sparse: Option<&Sparse>,
    ) -> Result<Vec<f32>, DecodeError> {
        let x = Input::new(x, self.up.weight.columns);
        let up = self.up.read(&x)?;
        let (mut gate, up) = match &self.gate {
            Some(gate) => (gate.read(&x)?, up),
            None => {
                let halves = || up.chunks_exact((2 * self.inner).max(1));
                let half = |row: &[f32], second: bool| -> Vec<f32> {
                    let (first, last) = row.split_at(self.inner.min(row.len()));
                    if second {
                        last.to_vec()
                    } else {
                        first.to_vec()
                    }
                };
                let gate: Vec<f32> = halves().flat_map(|row| half(row, false)).collect();
                (gate, halves().flat_map(|row| half(row, true)).collect())
            }
        };
        if let Some(sparse) = sparse {
            ops::sparsify(&mut gate, self.inner, sparse);
        }
        ops::gate(&mut gate, &up, activation);
        self.down.apply(&gate)
    }
}

impl Mix {
    pub(super) fn load(
        weights: &mut Weights<'_>,
        layer: u32,
        hidden: usize,
        kind: &FeedForward,
    ) -> Result<Mix, DecodeError> {
        let at = Some(layer);
        Ok(match *kind {
            FeedForward::None => Mix::None,
            FeedForward::Dense { inner } => {
                Mix::Dense(Gated::load(weights, layer, hidden, inner as usize)?)
            }
            FeedForward::Experts {
                count, used, inner, ..
            } => {
                let (count, inner) = (count as usize, inner as usize);
                let router = weights.matrix(R::FfnRouter, at, [count, hidden])?;
                let gates = weights.stack(R::FfnGateExperts, at, [count, inner, hidden])?;
                let ups = weights.stack(R::FfnUpExperts, at, [count, inner, hidden])?;
                let downs = weights.stack(R::FfnDownExperts, at, [count, hidden, inner])?;
                let parts = gates.into_iter().zip(ups).zip(downs);
                let experts = parts.map(|((gate, up), down)| Gated {
                    gate: Some(Linear::plain(gate)),
                    up: Linear::plain(up),
                    down: Linear::plain(down),
                    inner,
                });
                Mix::Experts {
                    router,
                    experts: experts.collect(),
                    used: used as usize,
                }
            }
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    pub(super) fn apply(
        &self,
        x: &[f32],
        activation: Activation,
        sparse: Option<&Sparse>,
    ) -> Result<Vec<f32>, DecodeError> {
        match self {
            Mix::None => Ok(vec![0.0; x.len()]),
            Mix::Dense(gated) => gated.apply(x, activation, sparse),
            Mix::Experts {
                router,
                experts,
                used,
            } => routed(x, router, experts, *used, activation),
        }
    }
}

/// Each token's likeliest experts, weighted by a softmax over all, made to sum to one.
fn routed(
    x: &[f32],
    router: &Matrix,
    experts: &[Gated],
    used: usize,
    activation: Activation,
) -> Result<Vec<f32>, DecodeError> {
    let hidden = router.columns.max(1);
    let mut odds = router.multiply(&Input::new(x, hidden))?;
    let mut tokens_of: Vec<Vec<(usize, f32)>> = vec![Vec::new(); experts.len()];
    for (token, odds) in odds.chunks_exact_mut(router.rows.max(1)).enumerate() {
        softmax(odds);
        let mut order: Vec<usize> = (0..odds.len()).collect();
        order.sort_by(|&a, &b| odds[b].total_cmp(&odds[a]));
        order.truncate(used);
        let sum: f32 = order.iter().map(|&expert| odds[expert]).sum();
        for expert in order {
            if let Some(tokens) = tokens_of.get_mut(expert) {
                tokens.push((token, odds[expert] / sum));
            }
        }
    }
    let mut out = vec![0.0; x.len()];
    let row = |token: usize| token * hidden..(token + 1) * hidden;
    for (expert, tokens) in experts
        .iter()
        .zip(&tokens_of)
        .filter(|(_, tokens)| !tokens.is_empty())
    {
        let rows = tokens.iter().filter_map(|&(token, _)| x.get(row(token)));
        let mixed = expert.apply(&rows.collect::<Vec<_>>().concat(), activation, None)?;
        for (&(token, weight), mixed) in tokens.iter().zip(mixed.chunks_exact(hidden)) {
            let out = out.get_mut(row(token)).unwrap_or_default();
            for (out, mixed) in out.iter_mut().zip(mixed) {
                *out += weight * mixed;
            }
        }
    }
    Ok(out)
}
