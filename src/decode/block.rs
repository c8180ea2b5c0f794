//! One block: a token mixer and a feed-forward with their norms, each added to the residual stream.
//!
//! Which norms there are and what kind of mixer a block has follow from the tensors of the file.

use super::DecodeError;
use super::activations::Activations;
use super::attention::Attention;
use super::delta_net::DeltaNet;
use super::feed_forward::FeedForward;
use super::latent::LatentAttention;
use super::norm::Norm;
use super::per_layer::PerLayerBlock;
use super::projected_space::ProjectedSpace;
use super::recurrent::ShortConvolution;
use super::selective_scan::SelectiveScan;
use super::state::{AttentionLayouts, LayerState, Pass};
use super::state_space::StateSpace;
use super::time_mix::{TimeMix, TokenShift};
use super::weights::Weights;
use crate::model::{self, ForwardSpec, Layer, ModelSpec, RecurrentKind, TensorRole as R};

/// A block's weights.
pub(super) struct Block<X: Activations> {
    index: usize,
    attention_norm: Option<Norm<X>>,
    mixer: Mixer<X>,
    attention_post_norm: Option<Norm<X>>,
    /// Of the residual stream behind the token mixer.
    attention_out_norm: Option<Norm<X>>,
    ffn_norm: Option<Norm<X>>,
    /// What of the token before the feed-forward sees.
    ffn_shift: Option<TokenShift>,
    feed_forward: FeedForward<X>,
    ffn_post_norm: Option<Norm<X>>,
    /// Of the residual stream behind the block.
    out_norm: Option<Norm<X>>,
    per_layer: Option<PerLayerBlock<X>>,
    /// The factor on the block's output.
    output_scale: Option<f32>,
    residual_scale: f32,
    parallel: bool,
    sparse: Option<model::Sparse>,
}

/// The token mixer: attention, or a recurrence in its place.
enum Mixer<X: Activations> {
    Attention(Attention<X>),
    Latent(LatentAttention<X>),
    Convolution(ShortConvolution<X>),
    DeltaNet(Box<DeltaNet<X>>),
    StateSpace(StateSpace<X>),
    ProjectedSpace(ProjectedSpace<X>),
    Scan(SelectiveScan<X>),
    TimeMix(Box<TimeMix<X>>),
    /// Side by side, behind one norm.
    Both(Box<(Attention<X>, StateSpace<X>)>),
    /// The block is a feed-forward alone.
    None,
}

impl<X: Activations> Block<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
        index: usize,
        layer: &Layer,
        layouts: &mut AttentionLayouts,
    ) -> Result<Block<X>, DecodeError> {
        let (number, hidden) = (index as u32, spec.dims.hidden as usize);
        let at = Some(number);
        let norm = |weights: &mut Weights<'_, X>, role: R| {
            if forward.norm_weights {
                Norm::load_if_there(weights, forward, role, at, hidden)
            } else {
                Norm::load(weights, forward, role, at, hidden).map(Some)
            }
        };
        let attention_norm = norm(weights, R::AttnNorm)?;
        let mixer = match (&layer.mixer.attention, &layer.mixer.recurrent) {
            (Some(attention), None) if weights.has(R::AttnKvAMqa, at) => Mixer::Latent(
                LatentAttention::load(weights, spec, forward, index, attention, layouts)?,
            ),
            (Some(attention), None) => Mixer::Attention(Attention::load(
                weights, spec, forward, index, attention, layouts,
            )?),
            (None, Some(state)) if weights.has(R::ShortconvIn, at) => {
                let elements = state.conv_elements;
                Mixer::Convolution(ShortConvolution::load(weights, number, hidden, elements)?)
            }
            (None, Some(state)) if state.kind == RecurrentKind::ProjectedSpace => {
                let space = ProjectedSpace::load(weights, forward, number, hidden, state)?;
                Mixer::ProjectedSpace(space)
            }
            (None, Some(state)) if weights.has(R::SsmX, at) => Mixer::Scan(SelectiveScan::load(
                weights, forward, number, hidden, state,
            )?),
            (None, Some(state)) if weights.has(R::SsmIn, at) => {
                Mixer::StateSpace(StateSpace::load(weights, number, hidden, state)?)
            }
            (Some(attention), Some(state)) if weights.has(R::SsmIn, at) => Mixer::Both(Box::new((
                Attention::load(weights, spec, forward, index, attention, layouts)?,
                StateSpace::load(weights, number, hidden, state)?,
            ))),
            (None, Some(state)) if weights.has(R::TimeMixKey, at) => {
                Mixer::TimeMix(Box::new(TimeMix::load(weights, index, hidden, state)?))
            }
            (None, None) => Mixer::None,
            (None, Some(state)) => {
                let elements = state.state_elements;
                let net = DeltaNet::load(weights, forward, number, hidden, elements)?;
                Mixer::DeltaNet(Box::new(net))
            }
            _ => {
                return Err(DecodeError::NoForwardPass {
                    architecture: spec.architecture.clone(),
                    reason: format!("block {index} mixes tokens in a way of its own"),
                });
            }
        };
        // Where all norms stand before, a single one between the token mixer and the feed-forward belongs to the latter,
        // whatever its name.
        let own = match norm(weights, R::FfnNorm)? {
            None => Norm::load_if_there(weights, forward, R::AttnNorm2, at, hidden)?,
            own => own,
        };
        let post = Norm::load_if_there(weights, forward, R::AttnPostNorm, at, hidden)?;
        let (attention_post_norm, ffn_norm) = match (post, own) {
            (Some(post), None) if attention_norm.is_some() => (None, Some(post)),
            norms => norms,
        };
        let norm_of_sum = |weights: &mut Weights<'_, X>, role: R| {
            Norm::load_if_there(weights, forward, role, at, hidden)
        };
        Ok(Block {
            index,
            attention_norm,
            mixer,
            attention_post_norm,
            attention_out_norm: norm_of_sum(weights, R::AttnOutNorm)?,
            out_norm: norm_of_sum(weights, R::LayerOutNorm)?,
            ffn_norm,
            ffn_shift: TokenShift::load_if_there(weights, number, hidden)?,
            feed_forward: FeedForward::load(weights, forward, number, hidden, &layer.feed_forward)?,
            ffn_post_norm: Norm::load_if_there(weights, forward, R::FfnPostNorm, at, hidden)?,
            // Several streams get these inputs in a way of their own.
            per_layer: if spec.dims.streams > 1 {
                None
            } else {
                PerLayerBlock::load(weights, spec, forward, number)?
            },
            output_scale: if weights.has(R::LayerOutScale, at) {
                let scale = weights.floats(R::LayerOutScale, at, &[1])?;
                scale.first().copied()
            } else {
                None
            },
            residual_scale: forward.residual_scale,
            parallel: forward.parallel,
            sparse: Some(forward.sparse).filter(|sparse| (index as u64) < sparse.blocks),
        })
    }

    /// The residual stream `x` behind the block. `inputs` are the inputs of all blocks, if the model has them.
    pub(super) fn apply(
        &self,
        x: X,
        inputs: Option<&X>,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let mut x = self.with_updates(x, pass, states)?;
        if let (Some(per_layer), Some(inputs)) = (&self.per_layer, inputs) {
            let update = per_layer.update(&x, inputs, pass)?;
            x = x.add(&update)?;
        }
        x.scale(self.output_scale.unwrap_or(1.0))
    }

    /// The residual stream `x` with what token mixer and feed-forward add to it.
    fn with_updates(
        &self,
        x: X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let normed = self.attention_norm(&x)?;
        if let Mixer::None = self.mixer {
            let update = self.feed_forward.apply(&normed, &x, pass, None)?;
            return x.add(&update.scale(self.residual_scale)?);
        }
        let mixed = self.mix_tokens(&normed, pass, states)?;
        if let FeedForward::None = self.feed_forward {
            return x.add(&mixed.scale(self.residual_scale)?);
        }
        if self.parallel {
            let update = self.feed_forward(&x, pass, states)?;
            return x.add(&mixed)?.add(&update);
        }
        if self.shares_norm() {
            let update = self
                .feed_forward
                .apply(&normed, &x, pass, self.sparse.as_ref())?;
            return x.add(&mixed)?.add(&update);
        }
        let x = x.add(&mixed.scale(self.residual_scale)?)?;
        let x = norm_if_any(&self.attention_out_norm, x)?;
        let update = self.feed_forward(&x, pass, states)?;
        let x = x.add(&update.scale(self.residual_scale)?)?;
        norm_if_any(&self.out_norm, x)
    }

    /// Elements of a cached value where the description of the model has none.
    pub(super) fn cached_values(&self) -> Option<usize> {
        match &self.mixer {
            Mixer::Latent(attention) => attention.cached_values(),
            _ => None,
        }
    }

    /// Whether one norm stands before token mixer and feed-forward, which then run side by side.
    fn shares_norm(&self) -> bool {
        self.attention_norm.is_some() && self.ffn_norm.is_none()
    }

    /// The residual stream, normalized for the token mixer.
    pub(super) fn attention_norm(&self, x: &X) -> Result<X, DecodeError> {
        norm_if_any(&self.attention_norm, x.clone())
    }

    /// What the token mixer adds to the residual stream.
    pub(super) fn mix_tokens(
        &self,
        normed: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let mixed = match (&self.mixer, states.get_mut(self.index)) {
            (Mixer::Attention(attention), _) => attention.apply(normed, pass, states)?,
            (Mixer::Latent(attention), _) => attention.apply(normed, pass, states)?,
            (Mixer::TimeMix(mixer), _) => mixer.apply(normed, pass, states)?,
            (Mixer::Convolution(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::DeltaNet(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::StateSpace(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::ProjectedSpace(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::Scan(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::Both(both), Some(LayerState::Both(_, state))) => {
                let (attention, mixer) = both.as_ref();
                let recurrent = mixer.apply(normed, pass, state)?;
                attention.apply(normed, pass, states)?.add(&recurrent)?
            }
            _ => return Err(self.stateless()),
        };
        norm_if_any(&self.attention_post_norm, mixed)
    }

    /// What the feed-forward adds to the residual stream.
    pub(super) fn feed_forward(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let mut input = norm_if_any(&self.ffn_norm, x.clone())?;
        if let Some(shift) = &self.ffn_shift {
            let state = states.get_mut(self.index).and_then(LayerState::recurrent);
            input = shift.apply(input, pass, state.ok_or_else(|| self.stateless())?)?;
        }
        let out = self
            .feed_forward
            .apply(&input, x, pass, self.sparse.as_ref())?;
        norm_if_any(&self.ffn_post_norm, out)
    }

    fn stateless(&self) -> DecodeError {
        DecodeError::Hyperparameters {
            what: format!("block {} has no state", self.index),
        }
    }
}

/// `x`, normalized where there is a norm.
fn norm_if_any<X: Activations>(norm: &Option<Norm<X>>, x: X) -> Result<X, DecodeError> {
    match norm {
        Some(norm) => norm.apply(x),
        None => Ok(x),
    }
}
