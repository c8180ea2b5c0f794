//! One block: norms, what mixes tokens, what mixes channels, added to the residual stream.
//!
//! Which norms there are and what kind of mixer a block has follow from the tensors of the file.

use super::DecodeError;
use super::activations::Activations;
use super::attention::Attention;
use super::feed_forward::FeedForward;
use super::recurrent::{DeltaNet, ShortConvolution};
use super::state::{AttentionLayouts, LayerState, Step};
use super::weights::Weights;
use crate::model::{self, ForwardSpec, Layer, ModelSpec, TensorRole as R};

/// A block's weights.
pub(super) struct Block<X: Activations> {
    index: usize,
    attention_norm: X::Vector,
    mixer: Mixer<X>,
    attention_post_norm: Option<X::Vector>,
    ffn_norm: X::Vector,
    feed_forward: FeedForward<X>,
    ffn_post_norm: Option<X::Vector>,
    sparse: Option<model::Sparse>,
}

/// What mixes tokens.
enum Mixer<X: Activations> {
    Attention(Attention<X>),
    Convolution(ShortConvolution<X>),
    DeltaNet(DeltaNet<X>),
}

impl<X: Activations> Block<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        pass: &ForwardSpec,
        index: usize,
        layer: &Layer,
        layouts: &mut AttentionLayouts,
    ) -> Result<Block<X>, DecodeError> {
        let (number, hidden) = (index as u32, spec.dims.hidden as usize);
        let at = Some(number);
        let attention_norm = weights.vector(R::AttnNorm, at, hidden)?;
        let mixer = match (&layer.mixer.attention, &layer.mixer.recurrent) {
            (Some(attention), None) => Mixer::Attention(Attention::load(
                weights, spec, pass, index, attention, layouts,
            )?),
            (None, Some(state)) if weights.has(R::ShortconvIn, at) => {
                let elements = state.conv_elements;
                Mixer::Convolution(ShortConvolution::load(weights, number, hidden, elements)?)
            }
            (None, Some(state)) => {
                let elements = state.state_elements;
                Mixer::DeltaNet(DeltaNet::load(weights, number, hidden, elements)?)
            }
            _ => {
                return Err(DecodeError::NoPass {
                    architecture: spec.architecture.clone(),
                    reason: format!("block {index} mixes tokens in a way of its own"),
                });
            }
        };
        // Where there is one norm between the two halves, it is the second half's.
        let post = weights.optional(R::AttnPostNorm, at, "weight", &[hidden])?;
        let own = weights.optional(R::FfnNorm, at, "weight", &[hidden])?;
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
            feed_forward: FeedForward::load(weights, number, hidden, &layer.feed_forward)?,
            ffn_post_norm: weights.optional(R::FfnPostNorm, at, "weight", &[hidden])?,
            sparse: Some(pass.sparse).filter(|sparse| (index as u64) < sparse.blocks),
        })
    }

    /// The residual stream `x` with what the block adds to it.
    pub(super) fn apply(
        &self,
        x: X,
        step: &Step<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let normed = self.normed(&x, step)?;
        let x = x.add(&self.tokens(&normed, step, states)?)?;
        let mixed = self.channels(&x, step)?;
        x.add(&mixed)
    }

    /// The residual stream as the mixing of tokens reads it.
    pub(super) fn normed(&self, x: &X, step: &Step<'_, X>) -> Result<X, DecodeError> {
        x.clone()
            .rms_norm(&self.attention_norm, step.pass.norm_epsilon)
    }

    /// What mixing tokens adds.
    pub(super) fn tokens(
        &self,
        normed: &X,
        step: &Step<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let mixed = match (&self.mixer, states.get_mut(self.index)) {
            (Mixer::Attention(attention), _) => attention.apply(normed, step, states)?,
            (Mixer::Convolution(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, step, state)?
            }
            (Mixer::DeltaNet(mixer), Some(LayerState::Recurrent(state))) => {
                mixer.apply(normed, step, state)?
            }
            _ => {
                return Err(DecodeError::Hyperparameters {
                    what: format!("block {} has no state", self.index),
                });
            }
        };
        match &self.attention_post_norm {
            Some(norm) => mixed.rms_norm(norm, step.pass.norm_epsilon),
            None => Ok(mixed),
        }
    }

    /// What mixing channels adds.
    pub(super) fn channels(&self, x: &X, step: &Step<'_, X>) -> Result<X, DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let normed = x.clone().rms_norm(&self.ffn_norm, epsilon)?;
        let mixed = self
            .feed_forward
            .apply(&normed, step, self.sparse.as_ref())?;
        match &self.ffn_post_norm {
            Some(norm) => mixed.rms_norm(norm, epsilon),
            None => Ok(mixed),
        }
    }
}
