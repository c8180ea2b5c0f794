//! Gemma 3n's parallel residual streams: each block predicts all of them, computes one, and corrects
//! the others by what came out; beside it run a low-rank path and an input of each token's own.
//!
//! Source: `src/models/gemma3n.cpp` of llama.cpp, which follows `modeling_gemma3n.py`.

use super::DecodeError;
use super::block::{Block, Step};
use super::forward::Memory;
use super::kernels::Input;
use super::matrix::Matrix;
use super::ops;
use super::weights::Weights;
use crate::model::{ModelSpec, TensorRole as R};

/// What stands before and behind the blocks.
pub(super) struct Streams {
    spread: Vec<Matrix>,
    gather: Vec<Matrix>,
    /// `[vocabulary, blocks x width]`, read by row.
    embedding: Matrix,
    projection: Matrix,
    projection_norm: Vec<f32>,
    width: usize,
}

/// What a block has for it.
pub(super) struct StreamBlock {
    router: Matrix,
    router_norm: Vec<f32>,
    predict: Matrix,
    correct: Matrix,
    correct_scale: Vec<f32>,
    low_rank: (Matrix, Matrix),
    low_rank_norm: Vec<f32>,
    gate: Matrix,
    projection: Matrix,
    post_norm: Vec<f32>,
}

/// The streams of the tokens of one pass: `[tokens, hidden]` each, the computed one first.
type Rows = Vec<Vec<f32>>;

impl Streams {
    /// `None` where the model has one stream.
    pub(super) fn load(
        weights: &mut Weights<'_>,
        spec: &ModelSpec,
    ) -> Result<Option<Streams>, DecodeError> {
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
            projection_norm: weights.floats(R::PerLayerProjNorm, None, &[width])?,
            width,
        }))
    }

    /// The streams of `tokens`, whose embeddings are `x`, and each token's own input to the blocks:
    /// `[tokens, blocks, width]`.
    pub(super) fn start(
        &self,
        tokens: &[u32],
        x: Vec<f32>,
        epsilon: f32,
    ) -> Result<(Rows, Vec<f32>), DecodeError> {
        let hidden = self.projection.columns.max(1);
        let input = Input::new(&x, hidden);
        let mut own = self.projection.multiply(&input)?;
        ops::scale(&mut own, 1.0 / (hidden as f32).sqrt());
        ops::rms_norm(&mut own, &self.projection_norm, epsilon);
        let mut stored = vec![0.0; self.embedding.columns];
        for (token, own) in tokens.iter().zip(own.chunks_exact_mut(stored.len().max(1))) {
            self.embedding.row(*token as usize, &mut stored)?;
            ops::scale(&mut stored, (self.width as f32).sqrt());
            ops::add(own, &stored);
        }
        ops::scale(&mut own, std::f32::consts::FRAC_1_SQRT_2);
        let mut others = Vec::new();
        for matrix in &self.spread {
            let mut stream = matrix.multiply(&input)?;
            same_length(&mut stream, &x, hidden);
            others.push(stream);
        }
        let mut streams = vec![x];
        streams.extend(others);
        Ok((streams, own))
    }

    /// The mean of the streams.
    pub(super) fn finish(&self, streams: Rows) -> Result<Vec<f32>, DecodeError> {
        let hidden = self.projection.columns.max(1);
        let mut streams = streams.into_iter();
        let first = streams.next().unwrap_or_default();
        let mut sum = first.clone();
        for (stream, matrix) in streams.zip(&self.gather) {
            let mut back = matrix.multiply(&Input::new(&stream, hidden))?;
            same_length(&mut back, &first, hidden);
            ops::add(&mut sum, &back);
        }
        ops::scale(&mut sum, 1.0 / (self.gather.len() + 1) as f32);
        Ok(sum)
    }
}

/// Gives each row the length that the same row of `like` has.
fn same_length(rows: &mut [f32], like: &[f32], width: usize) {
    let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    for (row, like) in rows.chunks_exact_mut(width).zip(like.chunks_exact(width)) {
        ops::scale(row, length(like) / length(row));
    }
}

impl StreamBlock {
    pub(super) fn load(
        weights: &mut Weights<'_>,
        spec: &ModelSpec,
        layer: u32,
    ) -> Result<Option<StreamBlock>, DecodeError> {
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
            router_norm: weights.floats(R::AltupRouterNorm, at, &[hidden])?,
            predict: weights.matrix(R::AltupPredictCoef, at, [streams * streams, streams])?,
            correct: weights.matrix(R::AltupCorrectCoef, at, [streams, streams])?,
            correct_scale: weights.floats(R::AltupCorrectScale, at, &[hidden])?,
            low_rank: (
                weights.matrix(R::LaurelL, at, [rank, hidden])?,
                weights.matrix(R::LaurelR, at, [hidden, rank])?,
            ),
            low_rank_norm: weights.floats(R::LaurelPostNorm, at, &[hidden])?,
            gate: weights.matrix(R::PerLayerGate, at, [width, hidden])?,
            projection: weights.matrix(R::PerLayerProj, at, [hidden, width])?,
            post_norm: weights.floats(R::PerLayerPostNorm, at, &[hidden])?,
        }))
    }

    /// How much of each stream a token is, by its row in one of them: `[tokens, streams]`.
    fn shares(&self, x: &[f32], epsilon: f32) -> Result<Vec<f32>, DecodeError> {
        let hidden = self.router.columns;
        let mut normed = ops::normed(x, &self.router_norm, epsilon);
        ops::scale(&mut normed, 1.0 / hidden as f32);
        let mut shares = self.router.multiply(&Input::new(&normed, hidden))?;
        shares.iter_mut().for_each(|x| *x = x.tanh());
        Ok(shares)
    }

    /// Takes the streams through `block`, which is the `index`-th. `own` is each token's input to
    /// all blocks.
    pub(super) fn apply(
        &self,
        block: &Block,
        (index, streams): (usize, &mut Rows),
        own: &[f32],
        step: &Step<'_>,
        memory: &mut [Memory],
    ) -> Result<(), DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let (hidden, count) = (self.router.columns.max(1), self.router.rows);
        let first = streams.first().map(Vec::as_slice).unwrap_or_default();
        let shares = self.shares(first, epsilon)?;
        let mixing = self.predict.multiply(&Input::new(&shares, count))?;
        let mut predicted = streams.clone();
        for (to, predicted) in predicted.iter_mut().enumerate() {
            for (from, stream) in streams.iter().enumerate() {
                let rows = predicted
                    .chunks_exact_mut(hidden)
                    .zip(stream.chunks_exact(hidden));
                for ((out, x), mixing) in rows.zip(mixing.chunks_exact(count * count)) {
                    let factor = mixing.get(to * count + from).copied().unwrap_or(0.0);
                    super::kernels::add_scaled(out, factor, x);
                }
            }
        }
        let active = predicted.first().cloned().unwrap_or_default();

        let normed = block.normed(&active, epsilon);
        let narrow = self.low_rank.0.multiply(&Input::new(&normed, hidden))?;
        let mut beside = self
            .low_rank
            .1
            .multiply(&Input::new(&narrow, self.low_rank.0.rows))?;
        ops::rms_norm(&mut beside, &self.low_rank_norm, epsilon);
        ops::add(&mut beside, &normed);
        let mut x = block.tokens(&normed, step, memory)?;
        ops::add(&mut x, &active);
        ops::add(&mut x, &beside);
        ops::scale(&mut x, std::f32::consts::FRAC_1_SQRT_2);
        let mixed = block.channels(&x, step)?;
        ops::add(&mut x, &mixed);

        let shares = self.shares(&x, epsilon)?;
        let correction = self.correct.multiply(&Input::new(&shares, count))?;
        for (stream, predicted) in predicted.iter_mut().enumerate() {
            let rows = predicted
                .chunks_exact_mut(hidden)
                .zip(x.chunks_exact(hidden));
            let rows = rows.zip(active.chunks_exact(hidden));
            for (((out, x), active), correction) in rows.zip(correction.chunks_exact(count)) {
                let factor = 1.0 + correction.get(stream).copied().unwrap_or(0.0);
                for ((out, x), active) in out.iter_mut().zip(x).zip(active) {
                    *out += (x - active) * factor;
                }
            }
        }

        let mut scaled = predicted.first().cloned().unwrap_or_default();
        for row in scaled.chunks_exact_mut(hidden) {
            row.iter_mut()
                .zip(&self.correct_scale)
                .for_each(|(x, scale)| *x *= scale);
        }
        let mut gate = self.gate.multiply(&Input::new(&scaled, hidden))?;
        let width = self.gate.rows.max(1);
        let of_block = own.chunks_exact(width).skip(index);
        let all = own.len() / width / step.tokens.max(1);
        let of_block: Vec<f32> = of_block.step_by(all.max(1)).flatten().copied().collect();
        ops::gate(&mut gate, &of_block, step.pass.activation);
        let mut added = self.projection.multiply(&Input::new(&gate, width))?;
        ops::rms_norm(&mut added, &self.post_norm, epsilon);
        for predicted in predicted.iter_mut().skip(1) {
            ops::add(predicted, &added);
        }
        *streams = predicted;
        Ok(())
    }
}
