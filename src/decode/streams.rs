//! Gemma 3n's parallel residual streams: each block predicts all of them, computes one, and corrects
//! the others by what came out; beside it run a low-rank path and an input of each token's own.
//!
//! Source: `src/models/gemma3n.cpp` of llama.cpp, which follows `modeling_gemma3n.py`.

use std::f32::consts::FRAC_1_SQRT_2;

use super::DecodeError;
use super::activations::Activations;
use super::block::Block;
use super::state::{LayerState, Step};
use super::weights::Weights;
use crate::model::{ModelSpec, TensorRole as R};

/// What stands before and behind the blocks.
pub(super) struct Streams<X: Activations> {
    spread: Vec<X::Matrix>,
    gather: Vec<X::Matrix>,
    /// `[vocabulary, blocks x width]`, read by row.
    embedding: X::Matrix,
    projection: X::Matrix,
    projection_norm: X::Vector,
    width: usize,
}

/// What a block has for it.
pub(super) struct StreamBlock<X: Activations> {
    router: X::Matrix,
    router_norm: X::Vector,
    predict: X::Matrix,
    correct: X::Matrix,
    correct_scale: X::Vector,
    low_rank: [X::Matrix; 2],
    low_rank_norm: X::Vector,
    gate: X::Matrix,
    projection: X::Matrix,
    post_norm: X::Vector,
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
        let [hidden, vocab, blocks, width, streams] = [
            spec.dims.hidden,
            spec.dims.vocab,
            spec.dims.blocks,
            spec.dims.per_layer_embedding,
            spec.dims.streams,
        ]
        .map(|n| n as usize);
        let all = blocks.saturating_mul(width);
        Ok(Some(Streams {
            spread: weights.stack(R::AltupProj, None, [streams - 1, hidden, hidden])?,
            gather: weights.stack(R::AltupUnembdProj, None, [streams - 1, hidden, hidden])?,
            embedding: weights.matrix(R::PerLayerEmbedding, None, [vocab, all])?,
            projection: weights.matrix(R::PerLayerModelProj, None, [all, hidden])?,
            projection_norm: weights.vector(R::PerLayerProjNorm, None, width)?,
            width,
        }))
    }

    /// The streams of `tokens`, `[tokens, hidden]` each, the computed one first, whose embeddings are
    /// `x`, and each token's own input to the blocks: `[tokens, blocks x width]`.
    pub(super) fn start(
        &self,
        tokens: &[u32],
        x: X,
        epsilon: f32,
    ) -> Result<(Vec<X>, X), DecodeError> {
        let [own] = x.products([&self.projection])?;
        let own = own.scale(1.0 / (x.width() as f32).sqrt())?;
        let own = own.rms_norm(&self.projection_norm, epsilon)?;
        let stored = X::lookup(&self.embedding, tokens)?;
        let stored = stored.scale((self.width as f32).sqrt())?;
        let own = own.add(&stored)?.scale(FRAC_1_SQRT_2)?;
        let mut streams = vec![x.clone()];
        for matrix in &self.spread {
            let [stream] = x.products([matrix])?;
            streams.push(stream.match_norm(&x)?);
        }
        Ok((streams, own))
    }

    /// The mean of the streams.
    pub(super) fn finish(&self, first: X, others: &[X]) -> Result<X, DecodeError> {
        let mut sum = first.clone();
        for (stream, matrix) in others.iter().zip(&self.gather) {
            let [back] = stream.products([matrix])?;
            sum = sum.add(&back.match_norm(&first)?)?;
        }
        sum.scale(1.0 / (self.gather.len() + 1) as f32)
    }
}

impl<X: Activations> StreamBlock<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        layer: u32,
    ) -> Result<Option<StreamBlock<X>>, DecodeError> {
        let at = Some(layer);
        if spec.dims.streams <= 1 {
            return Ok(None);
        }
        let [hidden, width, streams] = [
            spec.dims.hidden,
            spec.dims.per_layer_embedding,
            spec.dims.streams,
        ]
        .map(|n| n as usize);
        let rank = weights
            .shape(R::LaurelL, at, "weight")
            .and_then(|shape| shape.first().copied());
        let rank = rank.unwrap_or(0) as usize;
        Ok(Some(StreamBlock {
            router: weights.matrix(R::AltupRouter, at, [streams, hidden])?,
            router_norm: weights.vector(R::AltupRouterNorm, at, hidden)?,
            predict: weights.matrix(R::AltupPredictCoef, at, [streams * streams, streams])?,
            correct: weights.matrix(R::AltupCorrectCoef, at, [streams, streams])?,
            correct_scale: weights.vector(R::AltupCorrectScale, at, hidden)?,
            low_rank: [
                weights.matrix(R::LaurelL, at, [rank, hidden])?,
                weights.matrix(R::LaurelR, at, [hidden, rank])?,
            ],
            low_rank_norm: weights.vector(R::LaurelPostNorm, at, hidden)?,
            gate: weights.matrix(R::PerLayerGate, at, [width, hidden])?,
            projection: weights.matrix(R::PerLayerProj, at, [hidden, width])?,
            post_norm: weights.vector(R::PerLayerPostNorm, at, hidden)?,
        }))
    }

    /// How much of each stream a token is, by its row in one of them: `[tokens, streams]`.
    fn shares(&self, x: &X, epsilon: f32) -> Result<X, DecodeError> {
        let normed = x.clone().rms_norm(&self.router_norm, epsilon)?;
        let normed = normed.scale(1.0 / x.width() as f32)?;
        let [shares] = normed.products([&self.router])?;
        // That is the hyperbolic tangent.
        shares.softcap(1.0)
    }

    /// Takes the streams through `block`, which is the `index`-th. `own` is each token's input to
    /// all blocks.
    pub(super) fn apply(
        &self,
        block: &Block<X>,
        (index, streams): (usize, Vec<X>),
        own: &X,
        step: &Step<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<Vec<X>, DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let mut predicted = self.predict(&streams, epsilon)?;
        let Some(active) = predicted.first().cloned() else {
            return Ok(streams);
        };

        let normed = block.normed(&active, step)?;
        let [narrow] = normed.products([&self.low_rank[0]])?;
        let [beside] = narrow.products([&self.low_rank[1]])?;
        let beside = beside
            .rms_norm(&self.low_rank_norm, epsilon)?
            .add(&normed)?;
        let x = block.tokens(&normed, step, states)?;
        let x = x.add(&active)?.add(&beside)?.scale(FRAC_1_SQRT_2)?;
        let mixed = block.channels(&x, step)?;
        let x = x.add(&mixed)?;

        let [corrections] = self.shares(&x, epsilon)?.products([&self.correct])?;
        // What came out less what was predicted goes to every stream: once, and times its correction.
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
        let [gate] = scaled.products([&self.gate])?;
        let width = gate.width();
        let of_block = own.columns(index * width..(index + 1) * width)?;
        let gate = gate.gate(&of_block, step.pass.activation)?;
        let [added] = gate.products([&self.projection])?;
        let added = added.rms_norm(&self.post_norm, epsilon)?;
        for other in others {
            *other = other.clone().add(&added)?;
        }
        Ok(predicted)
    }

    /// Each stream with what all of them tell of it.
    fn predict(&self, streams: &[X], epsilon: f32) -> Result<Vec<X>, DecodeError> {
        let Some(first) = streams.first() else {
            return Ok(Vec::new());
        };
        let [mixing] = self.shares(first, epsilon)?.products([&self.predict])?;
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
