//! Inputs of each block for each token (per-layer embeddings): a second embedding table with a row for each token and all
//! blocks, which a projection of the first embedding is added to. A block gates its part and adds it to its output.
//!
//! Source: `src/models/gemma3n.cpp`, `src/models/gemma4.cpp` of llama.cpp.

use std::f32::consts::FRAC_1_SQRT_2;

use super::DecodeError;
use super::activations::Activations;
use super::norm::Norm;
use super::observe::Matrix;
use super::state::Pass;
use super::weights::Weights;
use crate::model::{ForwardSpec, ModelSpec, TensorRole as R};

/// The weights before the blocks.
pub(super) struct PerLayer<X: Activations> {
    /// `[vocabulary, blocks x width]`, read by row.
    embedding: Matrix<X>,
    projection: Matrix<X>,
    projection_norm: Norm<X>,
    width: usize,
}

/// The weights of a block.
pub(super) struct PerLayerBlock<X: Activations> {
    index: usize,
    gate: Matrix<X>,
    projection: Matrix<X>,
    post_norm: Norm<X>,
}

impl<X: Activations> PerLayer<X> {
    /// `None` where the model has none.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
    ) -> Result<Option<PerLayer<X>>, DecodeError> {
        let dims = &spec.dims;
        let [hidden, vocab, blocks, width] = [
            dims.hidden,
            dims.vocab,
            dims.blocks,
            dims.per_layer_embedding,
        ]
        .map(|n| n as usize);
        if width == 0 {
            return Ok(None);
        }
        let all = blocks.saturating_mul(width);
        Ok(Some(PerLayer {
            embedding: weights.matrix(R::PerLayerEmbedding, None, [vocab, all])?,
            projection: weights.matrix(R::PerLayerModelProj, None, [all, hidden])?,
            projection_norm: Norm::load(weights, forward, R::PerLayerProjNorm, None, width)?,
            width,
        }))
    }

    /// The inputs of all blocks, `[tokens, blocks x width]`, of tokens whose embeddings are `x`.
    pub(super) fn inputs(&self, tokens: &[u32], x: &X) -> Result<X, DecodeError> {
        let inputs = self.projection.product(x)?;
        let inputs = inputs.scale(1.0 / (x.width() as f32).sqrt())?;
        let inputs = self.projection_norm.apply(inputs)?;
        let stored = self.embedding.lookup(tokens)?;
        let stored = stored.scale((self.width as f32).sqrt())?;
        inputs.add(&stored)?.scale(FRAC_1_SQRT_2)
    }
}

impl<X: Activations> PerLayerBlock<X> {
    /// `None` where the model has none.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
        layer: u32,
    ) -> Result<Option<PerLayerBlock<X>>, DecodeError> {
        let at = Some(layer);
        let (hidden, width) = (
            spec.dims.hidden as usize,
            spec.dims.per_layer_embedding as usize,
        );
        if width == 0 {
            return Ok(None);
        }
        Ok(Some(PerLayerBlock {
            index: layer as usize,
            gate: weights.matrix(R::PerLayerGate, at, [width, hidden])?,
            projection: weights.matrix(R::PerLayerProj, at, [hidden, width])?,
            post_norm: Norm::load(weights, forward, R::PerLayerPostNorm, at, hidden)?,
        }))
    }

    /// What the block's part of `inputs` adds, gated by `x`.
    pub(super) fn update(&self, x: &X, inputs: &X, pass: &Pass<'_, X>) -> Result<X, DecodeError> {
        let gate = self.gate.product(x)?;
        let width = gate.width();
        let own = inputs.columns(self.index * width..(self.index + 1) * width)?;
        let gate = gate.gate(&own, pass.forward.activation)?;
        self.post_norm.apply(self.projection.product(&gate)?)
    }
}
