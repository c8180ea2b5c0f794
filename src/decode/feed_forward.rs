//! The feed-forward of a block: one for all tokens, or experts of which a router picks some.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops::{sigmoid, softmax};
use super::linear::{Linear, NormedLinear};
use super::norm::Norm;
use super::observe::Matrix;
use super::state::Pass;
use super::weights::Weights;
use crate::model::{self, Activation, ForwardSpec, Routing, Scores, Sparse, TensorRole as R};

/// A block's feed-forward.
pub(super) enum FeedForward<X: Activations> {
    None,
    Dense(Dense<X>),
    Experts(Experts<X>),
    Beside(Box<Beside<X>>),
}

/// A dense feed-forward and experts side by side, each between norms of its own; the router sees the residual stream.
pub(super) struct Beside<X: Activations> {
    dense: Dense<X>,
    dense_post_norm: Norm<X>,
    experts: Experts<X>,
    experts_norm: Norm<X>,
    experts_post_norm: Norm<X>,
    /// Times what the router is multiplied with.
    router_scale: X::Vector,
}

/// Experts of which a router picks some for each token, and one that all tokens use.
pub(super) struct Experts<X: Activations> {
    router: Linear<X>,
    /// Factors on what experts give.
    factors: Option<Vec<f32>>,
    /// What is added to scores before experts are picked, not to their shares.
    bias: Option<Vec<f32>>,
    experts: Vec<Dense<X>>,
    used: usize,
    shared: Option<Shared<X>>,
}

/// The expert that all tokens use.
struct Shared<X: Activations> {
    expert: Dense<X>,
    /// Its share, before a sigmoid.
    gate: Option<Matrix<X>>,
}

/// Up to `inner` elements and down again: a whole feed-forward, or one expert of it.
pub(super) struct Dense<X: Activations> {
    gate: Gate<X>,
    up: Linear<X>,
    down: NormedLinear<X>,
    inner: usize,
    activation: Activation,
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
        [gate, up, down]: [R; 3],
    ) -> Result<Dense<X>, DecodeError> {
        let at = Some(layer);
        let gate = if !forward.gated_feed_forward {
            Gate::Absent
        } else if weights.has(gate, at) {
            Gate::Separate(Linear::load(weights, gate, at, [inner, hidden])?)
        } else {
            Gate::Fused
        };
        let rows = match gate {
            Gate::Fused => 2 * inner,
            Gate::Separate(_) | Gate::Absent => inner,
        };
        Ok(Dense {
            gate,
            up: Linear::load(weights, up, at, [rows, hidden])?,
            down: NormedLinear::load(weights, forward, [R::FfnSubNorm, down], at, [hidden, inner])?,
            inner,
            activation: forward.activation_in(layer),
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`. Gates are made sparse where `sparse` says so.
    fn apply(&self, x: &X, sparse: Option<&Sparse>) -> Result<X, DecodeError> {
        let activation = self.activation;
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
        self.down.apply(inner)
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
            model::FeedForward::Dense { inner } => {
                let roles = if weights.has(R::ChannelMixKey, at) {
                    [R::FfnGate, R::ChannelMixKey, R::ChannelMixValue]
                } else {
                    [R::FfnGate, R::FfnUp, R::FfnDown]
                };
                let inner = inner as usize;
                FeedForward::Dense(Dense::load(weights, forward, layer, hidden, inner, roles)?)
            }
            model::FeedForward::Experts {
                count,
                used,
                inner,
                shared_inner,
            } => {
                let sizes = [count as usize, used as usize, hidden, inner as usize];
                let mut experts = Experts::load(weights, forward, layer, sizes)?;
                let shared_inner = shared_inner as usize;
                if let Some(scale) = weights.scale(R::FfnRouter, at, hidden)? {
                    let roles = [R::FfnGate, R::FfnUp, R::FfnDown];
                    let mut norm = |role| Norm::load(weights, forward, role, at, hidden);
                    FeedForward::Beside(Box::new(Beside {
                        dense_post_norm: norm(R::FfnPostNorm1)?,
                        experts_norm: norm(R::FfnPreNorm2)?,
                        experts_post_norm: norm(R::FfnPostNorm2)?,
                        dense: Dense::load(weights, forward, layer, hidden, shared_inner, roles)?,
                        experts,
                        router_scale: weights.own_vector(scale)?,
                    }))
                } else {
                    if shared_inner > 0 {
                        let shared = Shared::load(weights, forward, layer, hidden, shared_inner)?;
                        experts.shared = Some(shared);
                    }
                    FeedForward::Experts(experts)
                }
            }
        })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`. `residual` is `x` before it was normalized.
    pub(super) fn apply(
        &self,
        x: &X,
        residual: &X,
        pass: &Pass<'_, X>,
        sparse: Option<&Sparse>,
    ) -> Result<X, DecodeError> {
        match self {
            FeedForward::None => x.clone().scale(0.0),
            FeedForward::Dense(dense) => dense.apply(x, sparse),
            FeedForward::Experts(experts) => {
                let routed = experts.routed(x, x, pass)?;
                match &experts.shared {
                    Some(shared) => routed.add(&shared.apply(x, pass)?),
                    None => Ok(routed),
                }
            }
            FeedForward::Beside(both) => both.apply(x, residual, pass),
        }
    }
}

impl<X: Activations> Beside<X> {
    fn apply(&self, x: &X, residual: &X, pass: &Pass<'_, X>) -> Result<X, DecodeError> {
        let dense = self.dense.apply(x, None)?;
        let dense = self.dense_post_norm.apply(dense)?;
        let width = residual.width();
        let plain = residual.clone();
        let routed_by = plain.plain_norm(width, pass.forward.norm_epsilon)?;
        let routed_by = routed_by.scale(1.0 / (width as f32).sqrt())?;
        let routed_by = routed_by.times_vector(&self.router_scale)?;
        let input = self.experts_norm.apply(residual.clone())?;
        let routed = self.experts.routed(&input, &routed_by, pass)?;
        dense.add(&self.experts_post_norm.apply(routed)?)
    }
}

impl<X: Activations> Shared<X> {
    fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        hidden: usize,
        inner: usize,
    ) -> Result<Shared<X>, DecodeError> {
        let roles = [R::FfnGateShared, R::FfnUpShared, R::FfnDownShared];
        let at = Some(layer);
        Ok(Shared {
            expert: Dense::load(weights, forward, layer, hidden, inner, roles)?,
            gate: if weights.has(R::FfnSharedRouter, at) {
                Some(weights.matrix(R::FfnSharedRouter, at, [1, hidden])?)
            } else {
                None
            },
        })
    }

    fn apply(&self, x: &X, pass: &Pass<'_, X>) -> Result<X, DecodeError> {
        let out = self.expert.apply(x, None)?;
        let Some(gate) = &self.gate else {
            return Ok(out);
        };
        let mut shares = gate.product(x)?.into_host()?;
        shares.iter_mut().for_each(|share| *share = sigmoid(*share));
        let tokens: Vec<u32> = (0..x.tokens() as u32).collect();
        let zeros = X::from_host(pass.backend, vec![0.0; x.tokens() * x.width()], x.width())?;
        zeros.add_at(&tokens, shares, out)
    }
}

impl<X: Activations> Experts<X> {
    fn load(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        layer: u32,
        [count, used, hidden, inner]: [usize; 4],
    ) -> Result<Experts<X>, DecodeError> {
        let at = Some(layer);
        let (gates, ups) = if weights.has(R::FfnGateUpExperts, at) {
            let shape = [count, 2 * inner, hidden];
            let both = Linear::load_stack(weights, R::FfnGateUpExperts, at, shape)?;
            ((0..count).map(|_| Gate::Fused).collect(), both)
        } else {
            let shape = [count, inner, hidden];
            let gates: Vec<Gate<X>> = if forward.gated_feed_forward {
                let gates = Linear::load_stack(weights, R::FfnGateExperts, at, shape)?;
                gates.into_iter().map(Gate::Separate).collect()
            } else {
                (0..count).map(|_| Gate::Absent).collect()
            };
            let ups = Linear::load_stack(weights, R::FfnUpExperts, at, shape)?;
            (gates, ups)
        };
        let downs = Linear::load_stack(weights, R::FfnDownExperts, at, [count, hidden, inner])?;
        let experts = ups.into_iter().zip(downs).zip(gates);
        let experts = experts.map(|((up, down), gate)| Dense {
            gate,
            up,
            down: NormedLinear::of(down),
            inner,
            activation: forward.activation_in(layer),
        });
        Ok(Experts {
            router: Linear::load(weights, R::FfnRouter, at, [count, hidden])?,
            factors: weights.scale(R::FfnDownExperts, at, count)?,
            bias: weights.bias_floats(R::FfnRouterBias, at, count)?,
            experts: experts.collect(),
            used,
            shared: None,
        })
    }

    /// The `used` experts with the highest scores for each token, each times its share. The router sees `routed_by`.
    fn routed(&self, x: &X, routed_by: &X, pass: &Pass<'_, X>) -> Result<X, DecodeError> {
        let Routing {
            scores,
            normalized,
            scale,
            before,
        } = pass.forward.routing;
        let count = self.experts.len();
        let mut logits = self.router.apply(routed_by)?.into_host()?;
        let mut tokens_of = vec![(Vec::new(), Vec::new()); count];
        for (token, row) in logits.chunks_exact_mut(count.max(1)).enumerate() {
            // Scores of high logits are all 1, which leaves their order open.
            let stated = before.then(|| row.to_vec());
            match scores {
                Scores::Softmax => softmax(row),
                Scores::Sigmoid => row.iter_mut().for_each(|x| *x = sigmoid(*x)),
            }
            let bias = |expert: usize| {
                let bias = self.bias.as_deref().and_then(|bias| bias.get(expert));
                bias.copied().unwrap_or(0.0)
            };
            let ranked = stated.as_deref().unwrap_or(row);
            let rank = |expert: usize| ranked[expert] + bias(expert);
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| rank(b).total_cmp(&rank(a)));
            order.truncate(self.used);
            let sum: f32 = order.iter().map(|&expert| row[expert]).sum();
            let factor = if normalized { scale / sum } else { scale };
            for expert in order {
                if let Some((tokens, factors)) = tokens_of.get_mut(expert) {
                    tokens.push(token as u32);
                    let own = self.factors.as_ref().and_then(|all| all.get(expert));
                    factors.push(row[expert] * factor * own.copied().unwrap_or(1.0));
                }
            }
        }
        let mut out = X::from_host(pass.backend, vec![0.0; x.tokens() * x.width()], x.width())?;
        for (expert, (tokens, factors)) in self.experts.iter().zip(tokens_of) {
            if tokens.is_empty() {
                continue;
            }
            let picked = x.pick(&tokens)?;
            let (picked, factors) = if before {
                let (rows, ones) = (tokens.len(), vec![1.0; tokens.len()]);
                let own: Vec<u32> = (0..rows as u32).collect();
                let zeros = vec![0.0; rows * x.width()];
                let zeros = X::from_host(pass.backend, zeros, x.width())?;
                (zeros.add_at(&own, factors, picked)?, ones)
            } else {
                (picked, factors)
            };
            let mixed = expert.apply(&picked, None)?;
            out = out.add_at(&tokens, factors, mixed)?;
        }
        Ok(out)
    }
}
