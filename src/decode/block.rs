//! One block: a token mixer and a feed-forward with their norms, each added to the residual stream.
//!
//! Which norms there are and what kind of mixer a block has follow from the tensors of the file.

use super::DecodeError;
use super::activations::Activations;
use super::attention::Attention;
use super::feed_forward::FeedForward;
use super::norm::Norm;
use super::recurrent::{DeltaNet, ShortConvolution};
use super::state::{AttentionLayouts, LayerState, Pass};
use super::weights::Weights;
use crate::model::{self, ForwardSpec, Layer, ModelSpec, TensorRole as R};

/// A block's weights.
pub(super) struct Block<X: Activations> {
    index: usize,
    attention_norm: Norm<X>,
    mixer: Mixer<X>,
    attention_post_norm: Option<Norm<X>>,
    ffn_norm: Norm<X>,
    feed_forward: FeedForward<X>,
    ffn_post_norm: Option<Norm<X>>,
    sparse: Option<model::Sparse>,
}

/// The token mixer: attention, or a recurrence in its place.
enum Mixer<X: Activations> {
    Attention(Attention<X>),
    Convolution(ShortConvolution<X>),
    DeltaNet(DeltaNet<X>),
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
        let attention_norm = Norm::load(weights, forward, R::AttnNorm, at, hidden)?;
        let mixer = match (&layer.mixer.attention, &layer.mixer.recurrent) {
            (Some(attention), None) => Mixer::Attention(Attention::load(
                weights, spec, forward, index, attention, layouts,
            )?),
            (None, Some(state)) if weights.has(R::ShortconvIn, at) => {
                let elements = state.conv_elements;
                Mixer::Convolution(ShortConvolution::load(weights, number, hidden, elements)?)
            }
            (None, Some(state)) => {
                let elements = state.state_elements;
                Mixer::DeltaNet(DeltaNet::load(weights, forward, number, hidden, elements)?)
            }
            _ => {
                return Err(DecodeError::NoForwardPass {
                    architecture: spec.architecture.clone(),
                    reason: format!("block {index} mixes tokens in a way of its own"),
                });
            }
        };
        // A single norm between the token mixer and the feed-forward belongs to the latter, whatever its
        // name.
        let post = Norm::load_if_there(weights, forward, R::AttnPostNorm, at, hidden)?;
        let own = Norm::load_if_there(weights, forward, R::FfnNorm, at, hidden)?;
        let (attention_post_norm, ffn_norm) = match (post, own) {
            (post, Some(own)) => (post, own),
            (Some(post), None) => (None, post),
            (None, None) => {
                let tensor = R::FfnNorm.gguf_name(at, "weight");
                return Err(DecodeError::MissingTensor { tensor });
            }
        };
        Ok(Block {
            index,
            attention_norm,
            mixer,
            attention_post_norm,
            ffn_norm,
            feed_forward: FeedForward::load(weights, forward, number, hidden, &layer.feed_forward)?,
            ffn_post_norm: Norm::load_if_there(weights, forward, R::FfnPostNorm, at, hidden)?,
            sparse: Some(forward.sparse).filter(|sparse| (index as u64) < sparse.blocks),
        })
    }

    /// The residual stream `x` with what the block adds to it.
    pub(super) fn apply(
        &self,
        x: X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let normed = self.attention_norm(&x)?;
        let x = x.add(&self.mix_tokens(&normed, pass, states)?)?;
        let update = self.feed_forward(&x, pass)?;
        x.add(&update)
    }

    /// The residual stream, normalized for the token mixer.
    pub(super) fn attention_norm(&self, x: &X) -> Result<X, DecodeError> {
        self.attention_norm.apply(x.clone())
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
            (Mixer::Convolution(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            (Mixer::DeltaNet(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, pass, state)?
            }
            _ => {
                return Err(DecodeError::Hyperparameters {
                    what: format!("block {} has no state", self.index),
                });
            }
        };
        match &self.attention_post_norm {
            Some(norm) => norm.apply(mixed),
            None => Ok(mixed),
        }
    }

    /// What the feed-forward adds to the residual stream.
    pub(super) fn feed_forward(&self, x: &X, pass: &Pass<'_, X>) -> Result<X, DecodeError> {
        let normed = self.ffn_norm.apply(x.clone())?;
        let out = self
            .feed_forward
            .apply(&normed, pass, self.sparse.as_ref())?;
        match &self.ffn_post_norm {
            Some(norm) => norm.apply(out),
            None => Ok(out),
        }
    }
}
