//! What a search is made with, and what is known before anything is measured: the smallest file, and the bytes that no
//! choice of types changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::super::Text;
use super::search::{CANDIDATES, CODEBOOKS, PROBE, possible};
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::gguf;
use crate::model::ModelSpec;
use crate::quantize::packed::Files;
use crate::quantize::{Importance, Job, Options, QuantizeError};
use crate::scheme::{Overrides, Reason, Rules, Scheme};
use crate::units::Bytes;

/// What to search with.
pub struct Setup<'a> {
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Its weights.
    pub files: &'a Files,
    /// Its description.
    pub model: &'a ModelSpec,
    /// The text to measure with.
    pub text: &'a Text,
    /// Tokens in a chunk of it.
    pub chunk_tokens: u64,
    /// Whether tensors that are quantized already may be quantized to another type.
    pub allow_requantize: bool,
    /// The version of llama.cpp's rules, for the fixed recipes to compare with.
    pub rules: Rules,
    /// What an importance matrix that is made on the way is called in the metadata of files.
    pub imatrix_name: String,
    /// Ends the search when it becomes true.
    pub cancel: Arc<AtomicBool>,
}

/// The smallest file that a search of a model can find, less the keys of its importance matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct SmallestFile {
    /// Its size.
    pub bytes: Bytes,
    /// The types whose choice is free, by name.
    pub types: BTreeMap<String, Dtype>,
    fixed: FixedBytes,
    weights: u64,
}

/// Bytes of a file that no choice of types changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FixedBytes {
    /// Its header and the tensors that stay as they are.
    pub(super) rest: u64,
    header: u64,
}

impl FixedBytes {
    pub(super) fn of(job: &Job<'_>) -> FixedBytes {
        let padded = |kept_too: bool| {
            let tensors = job.tensors.iter();
            let tensors = tensors.filter(|t| kept_too || t.assigned.reason != Reason::Kept);
            tensors
                .map(|t| t.assigned.bytes.0.next_multiple_of(gguf::ALIGNMENT))
                .sum::<u64>()
        };
        let all = job.file_bytes().0;
        FixedBytes {
            rest: all - padded(false),
            header: all - padded(true),
        }
    }

    /// The size of a file with `bits` for each of so many `weights`.
    pub(super) fn with_bits(self, bits: f64, weights: u64) -> Bytes {
        Bytes(self.header + (bits * weights as f64 / 8.0) as u64)
    }
}

impl SmallestFile {
    /// Reads headers alone. Without an importance matrix, one is made first.
    ///
    /// # Errors
    /// [`QuantizeError`], as [`Job::new`].
    pub fn of(
        setup: &Setup<'_>,
        importance: Option<&Importance>,
    ) -> Result<SmallestFile, QuantizeError> {
        let Setup {
            checkpoint, files, ..
        } = *setup;
        let job = Job::new(checkpoint, files, setup.model, &probing(setup, importance))?;
        let fixed = FixedBytes::of(&job);
        let mut types = BTreeMap::new();
        let mut bytes = fixed.rest;
        let free = job.tensors.iter();
        for tensor in free.filter(|t| t.assigned.reason != Reason::Kept) {
            let has_importance = importance.is_none() || tensor.importance.is_some();
            let all = [&CANDIDATES[..], &CODEBOOKS].concat();
            let sizes = possible(tensor, &all, has_importance).filter_map(|dtype| {
                let bytes = dtype.bytes(&tensor.shape)?.0;
                Some((bytes.next_multiple_of(gguf::ALIGNMENT), dtype))
            });
            if let Some((least, dtype)) = sizes.min_by_key(|(bytes, _)| *bytes) {
                types.insert(tensor.name.to_owned(), dtype);
                bytes += least;
            }
        }
        Ok(SmallestFile {
            bytes: Bytes(bytes),
            types,
            fixed,
            weights: weights(setup.model),
        })
    }

    /// The size of a file whose tensors have `bits` for each weight.
    pub fn size_of_bits(&self, bits: f64) -> Bytes {
        self.fixed.with_bits(bits, self.weights)
    }
}

/// Weights of all tensors.
pub(super) fn weights(model: &ModelSpec) -> u64 {
    model.tensors.iter().map(|tensor| tensor.elements()).sum()
}

/// The options of a file with every tensor in the type of probes, where that divides its rows.
pub(super) fn probing<'a>(setup: &Setup<'a>, importance: Option<&'a Importance>) -> Options<'a> {
    let types = setup.model.tensors.iter().map(|tensor| {
        let dtype = if PROBE.divides(tensor.row()) {
            PROBE
        } else {
            Dtype::F16
        };
        (tensor.name.clone(), dtype)
    });
    Options {
        importance,
        overrides: Overrides {
            exact: types.collect(),
            ..Overrides::default()
        },
        allow_requantize: setup.allow_requantize,
        rules: setup.rules,
        ..Options::of(Scheme::of_half(Dtype::F16))
    }
}
