//! What mixes channels: a gated feed-forward, or experts of which a router picks some.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops::softmax;
use super::linear::Linear;
use super::state::Step;
use super::weights::Weights;
use crate::model::{self, Sparse, TensorRole as R};

/// A block's feed-forward.
pub(super) enum FeedForward<X: Activations> {
    None,
    Dense(Gated<X>),
    Experts {
        router: X::Matrix,
        experts: Vec<Gated<X>>,
        used: usize,
    },
}

/// `down(activation(gate(x)) x up(x))`.
pub(super) struct Gated<X: Activations> {
    gate: Option<Linear<X>>,
    up: Linear<X>,
    down: Linear<X>,
    inner: usize,
}

impl<X: Activations> Gated<X> {
    fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        inner: usize,
    ) -> Result<Gated<X>, DecodeError> {
        let at = Some(layer);
        // Without a gate of its own, the matrix holds gate and up, one behind the other.
        let gated = weights.has(R::FfnGate, at);
        let gate = if gated {
            Some(Linear::load(weights, R::FfnGate, at, [inner, hidden])?)
        } else {
            None
        };
        let width = if gated { inner } else { 2 * inner };
        Ok(Gated {
            gate,
            up: Linear::load(weights, R::FfnUp, at, [width, hidden])?,
            down: Linear::load(weights, R::FfnDown, at, [hidden, inner])?,
            inner,
        })
    }

    fn apply(&self, x: &X, step: &Step<'_, X>, sparse: Option<&Sparse>) -> Result<X, DecodeError> {
        let [mut gate, up] = match &self.gate {
            Some(gate) => Linear::apply_all([gate, &self.up], x)?,
            None => self.up.apply(x)?.halves(self.inner)?,
        };
        if let Some(sparse) = sparse {
            gate = gate.sparsify(sparse)?;
        }
        self.down.apply(&gate.gate(&up, step.pass.activation)?)
    }
}

impl<X: Activations> FeedForward<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        kind: &model::FeedForward,
    ) -> Result<FeedForward<X>, DecodeError> {
        let at = Some(layer);
        Ok(match *kind {
            model::FeedForward::None => FeedForward::None,
            model::FeedForward::Dense { inner } => {
                FeedForward::Dense(Gated::load(weights, layer, hidden, inner as usize)?)
            }
            model::FeedForward::Experts {
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
                FeedForward::Experts {
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
        x: &X,
        step: &Step<'_, X>,
        sparse: Option<&Sparse>,
    ) -> Result<X, DecodeError> {
        match self {
            FeedForward::None => x.clone().scale(0.0),
            FeedForward::Dense(gated) => gated.apply(x, step, sparse),
            FeedForward::Experts {
                router,
                experts,
                used,
            } => routed(x, router, experts, *used, step),
        }
    }
}

/// Each token's likeliest experts, weighted by a softmax over all, made to sum to one.
fn routed<X: Activations>(
    x: &X,
    router: &X::Matrix,
    experts: &[Gated<X>],
    used: usize,
    step: &Step<'_, X>,
) -> Result<X, DecodeError> {
    let [odds] = x.products([router])?;
    let mut odds = odds.into_host()?;
    let mut tokens_of = vec![(Vec::new(), Vec::new()); experts.len()];
    for (token, odds) in odds.chunks_exact_mut(experts.len().max(1)).enumerate() {
        softmax(odds);
        let mut order: Vec<usize> = (0..odds.len()).collect();
        order.sort_by(|&a, &b| odds[b].total_cmp(&odds[a]));
        order.truncate(used);
        let sum: f32 = order.iter().map(|&expert| odds[expert]).sum();
        for expert in order {
            if let Some((tokens, factors)) = tokens_of.get_mut(expert) {
                tokens.push(token as u32);
                factors.push(odds[expert] / sum);
            }
        }
    }
    let mut out = X::from_host(step.backend, vec![0.0; x.tokens() * x.width()], x.width())?;
    for (expert, (tokens, factors)) in experts.iter().zip(tokens_of) {
        if !tokens.is_empty() {
            let mixed = expert.apply(&x.pick(&tokens)?, step, None)?;
            out = out.add_at(&tokens, factors, mixed)?;
        }
    }
    Ok(out)
}
