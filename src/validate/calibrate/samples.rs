//! What was timed: for each model what one of its tokens computes, and the times so far.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::times::Times;
use crate::model::ModelSpec;
use crate::plan::Workload;
use crate::plan::operations::{decode_operations, prompt_attention};
use crate::plan::speed::Operation;
use crate::scheme::{self, Container};

/// A model of one format that decodes after a prompt.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// An index of [`FORMATS`](super::prior::FORMATS).
    pub(super) format: usize,
    /// What a decoded token computes.
    pub(super) operations: Vec<Operation>,
    pub(super) layers: f64,
    /// Tokens of the prompt.
    pub(super) prompt: u64,
    /// Multiply-accumulates of attention over the prompt.
    pub(super) prompt_attention: f64,
    /// Times of a decoded token, a mean for each round.
    pub(super) token: Times,
    /// Times of the prompt, one for each reading.
    pub(super) prompt_read: Times,
}

impl Sample {
    /// A model that is not timed yet. It decodes `depth` tokens after each prompt, so that half of them are in the
    /// cache on average.
    pub(super) fn new(format: usize, spec: &ModelSpec, prompt: u64, depth: u64) -> Sample {
        let workload = Workload {
            prompt_tokens: prompt + depth / 2,
            ..Workload::default()
        };
        let stored = scheme::stored(spec, "calibration", Container::Gguf);
        Sample {
            format,
            operations: decode_operations(spec, &stored, &workload),
            layers: spec.layers.len() as f64,
            prompt,
            prompt_attention: prompt_attention(spec, prompt) as f64,
            token: Times::default(),
            prompt_read: Times::default(),
        }
    }
}

/// All models with their times so far.
#[derive(Debug, Default)]
pub(super) struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    /// A copy of what there is now.
    pub(super) fn so_far(&self) -> Vec<Sample> {
        self.all().clone()
    }

    /// Adds one; returns its index.
    pub(super) fn add(&self, sample: Sample) -> usize {
        let mut all = self.all();
        all.push(sample);
        all.len() - 1
    }

    /// All of them, for the thread that measures.
    pub(super) fn all(&self) -> MutexGuard<'_, Vec<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
