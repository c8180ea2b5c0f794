//! Gemma 3n's parallel residual streams (AltUp): each block predicts all of them, computes the first,
//! and corrects all by the difference. Beside attention runs a low-rank path (LAuReL), and every block
//! adds an input of its own for each token (per-layer embedding).
//!
//! Source: `src/models/gemma3n.cpp` of llama.cpp, which follows `modeling_gemma3n.py`.

use std::f32::consts::FRAC_1_SQRT_2;

use super::DecodeError;
use super::activations::Activations;
use super::block::Block;
use super::norm::Norm;
use super::observe::Matrix;
use super::per_layer::PerLayerBlock;
use super::state::{LayerState, Pass};
use super::weights::Weights;
use crate::model::{ForwardSpec, ModelSpec, TensorRole as R};

/// The weights before and behind the blocks.
pub(super) struct Streams<X: Activations> {
    projections: Vec<Matrix<X>>,
    unembed_projections: Vec<Matrix<X>>,
}

/// A block's weights for its streams.
pub(super) struct StreamBlock<X: Activations> {
    router: Matrix<X>,
    router_norm: Norm<X>,
    predict: Matrix<X>,
    correct: Matrix<X>,
    correct_scale: X::Vector,
    laurel: [Matrix<X>; 2],
    laurel_norm: Norm<X>,
    per_layer: PerLayerBlock<X>,
}

impl<X: Activations> Streams<X> {
    /// `None` where the model has one stream.
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
    ) -> Result<Option<Streams<X>>, DecodeError> {
        if spec.dims.streams <= 1 {
            return Ok(None);
        }
        let [hidden, streams] = [spec.dims.hidden, spec.dims.streams].map(|n| n as usize);
        Ok(Some(Streams {
            projections: weights.stack(R::AltupProj, None, [streams - 1, hidden, hidden])?,
            unembed_projections: weights.stack(
                R::AltupUnembdProj,
                None,
                [streams - 1, hidden, hidden],
            )?,
        }))
    }

    /// The streams of tokens, `[tokens, hidden]` each, the computed one first, whose embeddings are `x`.
    pub(super) fn start(&self, x: X) -> Result<Vec<X>, DecodeError> {
        let mut streams = vec![x.clone()];
        for matrix in &self.projections {
            let stream = matrix.product(&x)?;
            streams.push(stream.match_norm(&x)?);
        }
        Ok(streams)
    }

    /// The mean of the streams.
    pub(super) fn finish(&self, first: X, others: &[X]) -> Result<X, DecodeError> {
        let mut sum = first.clone();
        for (stream, matrix) in others.iter().zip(&self.unembed_projections) {
            let back = matrix.product(stream)?;
            sum = sum.add(&back.match_norm(&first)?)?;
        }
        sum.scale(1.0 / (self.unembed_projections.len() + 1) as f32)
    }
}

impl<X: Activations> StreamBlock<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
        layer: u32,
    ) -> Result<Option<StreamBlock<X>>, DecodeError> {
        let at = Some(layer);
        if spec.dims.streams <= 1 {
            return Ok(None);
        }
        let Some(per_layer) = PerLayerBlock::load(weights, spec, forward, layer)? else {
            return Err(DecodeError::Hyperparameters {
                what: "several streams have no inputs of each block".to_owned(),
            });
        };
        let [hidden, streams] = [spec.dims.hidden, spec.dims.streams].map(|n| n as usize);
        let rank = weights
            .shape(R::LaurelL, at, "weight")
            .and_then(|shape| shape.first().copied());
        let rank = rank.unwrap_or(0) as usize;
        Ok(Some(StreamBlock {
            router: weights.matrix(R::AltupRouter, at, [streams, hidden])?,
            router_norm: Norm::load(weights, forward, R::AltupRouterNorm, at, hidden)?,
            predict: weights.matrix(R::AltupPredictCoef, at, [streams * streams, streams])?,
            correct: weights.matrix(R::AltupCorrectCoef, at, [streams, streams])?,
            correct_scale: weights.vector(R::AltupCorrectScale, at, hidden)?,
            laurel: [
                weights.matrix(R::LaurelL, at, [rank, hidden])?,
                weights.matrix(R::LaurelR, at, [hidden, rank])?,
            ],
            laurel_norm: Norm::load(weights, forward, R::LaurelPostNorm, at, hidden)?,
            per_layer,
        }))
    }

    /// The router's weight of each stream for each token: `[tokens, streams]`.
    fn modalities(&self, x: &X) -> Result<X, DecodeError> {
        let normed = self.router_norm.apply(x.clone())?;
        let normed = normed.scale(1.0 / x.width() as f32)?;
        let modalities = self.router.product(&normed)?;
        // With a cap of one it is the hyperbolic tangent.
        modalities.softcap(1.0)
    }

    /// Takes the streams through `block`. `inputs` are the inputs of all blocks.
    pub(super) fn apply(
        &self,
        block: &Block<X>,
        streams: Vec<X>,
        inputs: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<Vec<X>, DecodeError> {
        let mut predicted = self.predict(&streams)?;
        let Some(active) = predicted.first().cloned() else {
            return Ok(streams);
        };

        let normed = block.attention_norm(&active)?;
        let narrow = self.laurel[0].product(&normed)?;
        let laurel_out = self.laurel[1].product(&narrow)?;
        let laurel_out = self.laurel_norm.apply(laurel_out)?.add(&normed)?;
        let x = block.mix_tokens(&normed, pass, states)?;
        let x = x.add(&active)?.add(&laurel_out)?.scale(FRAC_1_SQRT_2)?;
        let update = block.feed_forward(&x, pass, states)?;
        let x = x.add(&update)?;

        let corrections = self.correct.product(&self.modalities(&x)?)?;
        // The computed stream less its prediction is added to every stream: once, and times its correction.
        let change = x.add(&active.scale(-1.0)?)?;
        for (stream, predicted) in predicted.iter_mut().enumerate() {
            let correction = corrections.columns(stream..stream + 1)?;
            *predicted = predicted
                .clone()
                .add(&change)?
                .add_scaled(&correction, &change)?;
        }

        let Some((first, others)) = predicted.split_first_mut() else {
            return Ok(predicted);
        };
        let scaled = first.clone().times_vector(&self.correct_scale)?;
        let added = self.per_layer.update(&scaled, inputs, pass)?;
        for other in others {
            *other = other.clone().add(&added)?;
        }
        Ok(predicted)
    }

    /// Each stream plus a weighted sum of all streams.
    fn predict(&self, streams: &[X]) -> Result<Vec<X>, DecodeError> {
        let Some(first) = streams.first() else {
            return Ok(Vec::new());
        };
        let mixing = self.predict.product(&self.modalities(first)?)?;
        let each = streams.iter().enumerate().map(|(to, stream)| {
            let mut predicted = stream.clone();
            for (from, stream) in streams.iter().enumerate() {
                let at = to * streams.len() + from;
                predicted = predicted.add_scaled(&mixing.columns(at..at + 1)?, stream)?;
            }
            Ok(predicted)
        });
        each.collect()
    }
}
