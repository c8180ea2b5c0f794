//! The head of a reranker: what the blocks make of one token of a pair of texts becomes scores.
//!
//! Source: `build_pooling` in `src/llama-graph.cpp` of llama.cpp.

use super::DecodeError;
use super::activations::Activations;
use super::host::ops::softmax;
use super::linear::Linear;
use super::weights::Weights;
use crate::model::{ForwardSpec, TensorRole as R};

/// The head of a reranker.
pub(super) struct Ranker<X: Activations> {
    /// Before the scores, behind it a hyperbolic tangent.
    dense: Option<Linear<X>>,
    scores: Option<Linear<X>>,
    /// Whether scores are shares of one.
    are_shares: bool,
}

impl<X: Activations> Ranker<X> {
    /// The head, if the file has one.
    pub(super) fn load_if_there(
        weights: &mut Weights<'_, X>,
        forward: &ForwardSpec,
        hidden: usize,
    ) -> Result<Option<Ranker<X>>, DecodeError> {
        let mut load = |role: R| {
            let shape = weights.shape(role, None, "weight");
            let rows = shape.and_then(|shape| shape.first().copied());
            rows.map(|rows| Linear::load(weights, role, None, [rows as usize, hidden]))
                .transpose()
        };
        let (dense, scores) = (load(R::ClassDense)?, load(R::ClassHead)?);
        Ok((dense.is_some() || scores.is_some()).then_some(Ranker {
            dense,
            scores,
            are_shares: forward.ranks_by_shares,
        }))
    }

    /// The scores by the `row` of a token.
    pub(super) fn apply(
        &self,
        backend: &X::Backend,
        row: Vec<f32>,
    ) -> Result<Vec<f32>, DecodeError> {
        let width = row.len();
        let mut row = X::from_host(backend, row, width)?;
        if let Some(dense) = &self.dense {
            let mut values = dense.apply(&row)?.into_host()?;
            values.iter_mut().for_each(|x| *x = x.tanh());
            let width = values.len();
            row = X::from_host(backend, values, width)?;
        }
        let mut scores = match &self.scores {
            Some(scores) => scores.apply(&row)?.into_host()?,
            None => row.into_host()?,
        };
        if self.are_shares {
            softmax(&mut scores);
        }
        Ok(scores)
    }
}
