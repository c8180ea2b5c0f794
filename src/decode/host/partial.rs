//! Softmax attention over a part of the positions, and how parts become a whole: the largest score so far and the sum of
//! the weights go along (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018).

use super::kernels::{add_scaled, exponentials, largest};
use super::ops::scale;

/// What some queries get from some positions.
#[derive(Default)]
pub(super) struct Partial {
    softmaxes: Vec<RunningSoftmax>,
    /// Of each query, weighted and added up.
    values: Vec<f32>,
}

/// The weights of a query so far: `exp(score - largest)`.
#[derive(Clone)]
pub(super) struct RunningSoftmax {
    largest: f32,
    /// Of the weights.
    sum: f32,
}

impl RunningSoftmax {
    /// Makes weights of more scores. Returns the factor that earlier weights take.
    pub(super) fn weigh(&mut self, scores: &mut [f32]) -> f32 {
        if scores.is_empty() {
            return 1.0;
        }
        let largest = largest(scores, self.largest);
        let factor = (self.largest - largest).exp();
        self.sum = self.sum * factor + exponentials(scores, largest);
        self.largest = largest;
        factor
    }

    /// The factor that makes the weights add up to 1, with that of `beside`, a score whose share is dropped.
    pub(super) fn factor(&self, beside: Option<f32>) -> f32 {
        let beside = beside.unwrap_or(f32::NEG_INFINITY);
        let largest = self.largest.max(beside);
        let own = (self.largest - largest).exp();
        own / (self.sum * own + (beside - largest).exp())
    }
}

impl Partial {
    /// Before the first position.
    pub(super) fn new(queries: usize, width: usize) -> Partial {
        let none = RunningSoftmax {
            largest: f32::NEG_INFINITY,
            sum: 0.0,
        };
        Partial {
            softmaxes: vec![none; queries],
            values: vec![0.0; queries * width],
        }
    }

    fn width(&self) -> usize {
        (self.values.len() / self.softmaxes.len().max(1)).max(1)
    }

    /// Each query's weights so far and values.
    pub(super) fn each(&self) -> impl Iterator<Item = (&RunningSoftmax, &[f32])> {
        let values = self.values.chunks_exact(self.width());
        self.softmaxes.iter().zip(values)
    }

    /// The same, to change.
    pub(super) fn each_mut(&mut self) -> impl Iterator<Item = (&mut RunningSoftmax, &mut [f32])> {
        let width = self.width();
        let values = self.values.chunks_exact_mut(width);
        self.softmaxes.iter_mut().zip(values)
    }

    /// The values of all queries, end to end.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// With what the same queries get from other positions.
    pub(super) fn join(&mut self, other: &Partial) {
        if self.softmaxes.is_empty() {
            *self = Partial::new(other.softmaxes.len(), other.width());
        }
        for ((softmax, values), (others, other_values)) in self.each_mut().zip(other.each()) {
            let largest = softmax.largest.max(others.largest);
            let [own, new] = [softmax.largest, others.largest].map(|score| (score - largest).exp());
            scale(values, own);
            add_scaled(values, new, other_values);
            softmax.sum = softmax.sum * own + others.sum * new;
            softmax.largest = largest;
        }
    }
}
