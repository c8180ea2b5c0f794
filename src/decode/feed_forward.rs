//! The feed-forward of a block: one for all tokens, or experts of which a router picks some.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops::softmax;
use super::linear::Linear;
use super::observe::Matrix;
use super::state::Pass;
use super::weights::Weights;
use crate::model::{self, ForwardSpec, Sparse, TensorRole as R};

/// A block's feed-forward.
pub(super) enum FeedForward<X: Activations> {
    None,
    Dense(Dense<X>),
    Experts {
        router: Matrix<X>,
        experts: Vec<Dense<X>>,
        used: usize,
    },
}

/// Up to `inner` elements and down again: a whole feed-forward, or one expert of it.
pub(super) struct Dense<X: Activations> {
    gate: Gate<X>,
    up: Linear<X>,
    down: Linear<X>,
    inner: usize,
}

/// The rows that the activation is applied to.
enum Gate<X: Activations> {
    /// A projection of its own, which multiplies `up`: `down(activation(gate(x)) x up(x))`.
    Separate(Linear<X>),
    /// The same, from the first `inner` rows of `up`'s matrix.
    Fused,
    /// `up` itself: `down(activation(up(x)))`.
    Absent,
}

impl<X: Activations> Dense<X> {
    fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        inner: usize,
    ) -> Result<Dense<X>, DecodeError> {
        let at = Some(layer);
        let gate = if !forward.gated_feed_forward {
            Gate::Absent
        } else if weights.has(R::FfnGate, at) {
            Gate::Separate(Linear::load(weights, R::FfnGate, at, [inner, hidden])?)
        } else {
            Gate::Fused
        };
        let rows = match gate {
            Gate::Fused => 2 * inner,
            Gate::Separate(_) | Gate::Absent => inner,
        };
        Ok(Dense {
            gate,
            up: Linear::load(weights, R::FfnUp, at, [rows, hidden])?,
            down: Linear::load(weights, R::FfnDown, at, [hidden, inner])?,
            inner,
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`. Gates are made sparse where `sparse` says so.
    fn apply(&self, x: &X, pass: &Pass<'_, X>, sparse: Option<&Sparse>) -> Result<X, DecodeError> {
        let activation = pass.forward.activation;
        let gated = |mut gate: X, up: &X| {
            if let Some(sparse) = sparse {
                gate = gate.sparsify(sparse)?;
            }
            gate.gate(up, activation)
        };
        let inner = match &self.gate {
            Gate::Separate(gate) => {
                let [gate, up] = Linear::apply_all([gate, &self.up], x)?;
                gated(gate, &up)?
            }
            Gate::Fused => {
                let [gate, up] = self.up.apply(x)?.halves(self.inner)?;
                gated(gate, &up)?
            }
            Gate::Absent => self.up.apply(x)?.activate(activation)?,
        };
        self.down.apply(&inner)
    }
}

impl<X: Activations> FeedForward<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        kind: &model::FeedForward,
    ) -> Result<FeedForward<X>, DecodeError> {
        let at = Some(layer);
        Ok(match *kind {
            model::FeedForward::None => FeedForward::None,
            model::FeedForward::Dense { inner } => FeedForward::Dense(Dense::load(
                weights,
                forward,
                layer,
                hidden,
                inner as usize,
            )?),
            model::FeedForward::Experts {
                count, used, inner, ..
            } => {
                let (count, inner) = (count as usize, inner as usize);
                let router = weights.matrix(R::FfnRouter, at, [count, hidden])?;
                let gates = weights.stack(R::FfnGateExperts, at, [count, inner, hidden])?;
                let ups = weights.stack(R::FfnUpExperts, at, [count, inner, hidden])?;
                let downs = weights.stack(R::FfnDownExperts, at, [count, hidden, inner])?;
                let parts = gates.into_iter().zip(ups).zip(downs);
                let experts = parts.map(|((gate, up), down)| Dense {
                    gate: Gate::Separate(Linear::without_bias(gate)),
                    up: Linear::without_bias(up),
                    down: Linear::without_bias(down),
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
        pass: &Pass<'_, X>,
        sparse: Option<&Sparse>,
    ) -> Result<X, DecodeError> {
        match self {
            FeedForward::None => x.clone().scale(0.0),
            FeedForward::Dense(dense) => dense.apply(x, pass, sparse),
            FeedForward::Experts {
                router,
                experts,
                used,
            } => routed(x, router, experts, *used, pass),
        }
    }
}

/// The `used` experts that are likeliest for each token, weighted by their share of the router's
/// softmax.
fn routed<X: Activations>(
    x: &X,
    router: &Matrix<X>,
    experts: &[Dense<X>],
    used: usize,
    pass: &Pass<'_, X>,
) -> Result<X, DecodeError> {
    let mut probabilities = router.product(x)?.into_host()?;
    let mut tokens_of = vec![(Vec::new(), Vec::new()); experts.len()];
    for (token, probabilities) in probabilities
        .chunks_exact_mut(experts.len().max(1))
        .enumerate()
    {
        softmax(probabilities);
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
        order.truncate(used);
        let sum: f32 = order.iter().map(|&expert| probabilities[expert]).sum();
        for expert in order {
            if let Some((tokens, factors)) = tokens_of.get_mut(expert) {
                tokens.push(token as u32);
                factors.push(probabilities[expert] / sum);
            }
        }
    }
    let mut out = X::from_host(pass.backend, vec![0.0; x.tokens() * x.width()], x.width())?;
    for (expert, (tokens, factors)) in experts.iter().zip(tokens_of) {
        if !tokens.is_empty() {
            let mixed = expert.apply(&x.pick(&tokens)?, pass, None)?;
            out = out.add_at(&tokens, factors, mixed)?;
        }
    }
    Ok(out)
}
