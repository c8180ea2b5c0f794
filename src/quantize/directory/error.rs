//! What keeps a directory from being written, and what a reader of one should know.

use std::path::PathBuf;

use super::Weight;
use super::layout::Prediction;
use crate::input::one_line;
use crate::model::ModelSpec;
use crate::quantize::packed::PackedError;
use crate::quantize::{Note, OutputError};
use crate::scheme::{Reason, Scheme};

/// A directory that is not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
pub enum DirectoryError {
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] PackedError),
    /// The target.
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(
        "`{}` has no safetensors weights; this format is made from a Hugging Face directory",
        one_line(name)
    )]
    NoWeights { name: String },
    #[error("{scheme} is no safetensors format; int4 and fp8 are")]
    OtherContainer { scheme: &'static str },
    #[error(
        "no tensor of `{}` can be {scheme}: none is known to be a linear layer of a length that the format divides",
        one_line(name)
    )]
    NothingToQuantize { name: String, scheme: &'static str },
    #[error(
        "the checkpoint has two tensors that would be called `{}`; it mixes quantized and plain weights of one layer",
        one_line(name)
    )]
    Twice { name: String },
    #[error(
        "tensor `{}` is a stack of packed matrices, which {scheme} cannot be made from; start from the unquantized checkpoint, or make a GGUF",
        one_line(tensor)
    )]
    PackedStack {
        tensor: String,
        scheme: &'static str,
    },
    #[error(
        "tensor `{}` has shape {found:?} by its own record, and {expected:?} by the configuration",
        one_line(tensor)
    )]
    Shape {
        tensor: String,
        found: Vec<u64>,
        expected: Vec<u64>,
    },
    #[error("{}: is not replaced, because it holds {}; choose another output", path.display(), one_line(entry))]
    NotAModel { path: PathBuf, entry: String },
    #[error("{}: is where the input lies; choose another output", path.display())]
    OwnInput { path: PathBuf },
    /// The caller's flag was raised.
    #[error("interrupted; nothing was written")]
    Cancelled,
}

/// The notes on what was or would be written.
pub(super) fn notes(
    model: &ModelSpec,
    scheme: &Scheme,
    plan: &Prediction,
    weights: &[Weight],
) -> Vec<Note> {
    let mut notes = Vec::new();
    let now = model.prequantized.clone();
    notes.extend(now.map(|now| Note::DoubleQuantization { now }));
    let fell = weights
        .iter()
        .filter(|w| matches!(w.reason, Reason::ShapeFallback { .. }));
    let tensors: Vec<String> = fell.map(|w| w.name.clone()).collect();
    if !tensors.is_empty() {
        notes.push(Note::KeptShape {
            tensors,
            group: scheme.base.format().block_elements,
        });
    }
    match plan.weights.iter().filter(|weight| weight.stacked).count() {
        0 => {}
        tensors => notes.push(Note::KeptStacks { tensors }),
    }
    let tallies = weights.iter().map(|w| (w.name.as_str(), w.tally));
    notes.extend(Note::met(
        tallies.filter_map(|(name, tally)| Some((name, tally?))),
    ));
    notes
}
