//! What keeps a directory from being written, and what a reader of one should know.

use std::path::PathBuf;

use super::Written;
use super::layout::Prediction;
use crate::input::one_line;
use crate::model::ModelSpec;
use crate::quantize::packed::PackedError;
use crate::scheme::{Reason, Scheme};

/// A directory that is not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
pub enum DirectoryError {
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] PackedError),
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
    #[error("{}: is there already; --overwrite replaces it", path.display())]
    Exists { path: PathBuf },
    #[error("{}: is not replaced, because it holds `{}`, which no model directory has; choose another output", path.display(), one_line(entry))]
    NotAModel { path: PathBuf, entry: String },
    #[error("{}: is where the input lies; choose another output", path.display())]
    OwnInput { path: PathBuf },
    #[error("{}: is no name for a directory; give the directory to be made", path.display())]
    NoName { path: PathBuf },
    #[error("{}: cannot be written: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    /// The caller's flag was raised.
    #[error("cancelled; nothing was written")]
    Cancelled,
}

/// Something a reader of the written directory should know.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Matrices whose rows the format does not divide.
    KeptShape {
        /// How many.
        tensors: usize,
        /// The first of them.
        first: String,
        /// What divides a row.
        group: u64,
    },
    /// Experts stored in one tensor.
    KeptStacks {
        /// How many.
        tensors: usize,
    },
    /// The checkpoint was quantized before.
    DoubleQuantization {
        /// How.
        now: String,
    },
    /// NaN and infinities became 0.
    NotFinite {
        /// Where.
        tensor: String,
        /// How many.
        values: u64,
    },
    /// Rows of nothing but zeros.
    ZeroRows {
        /// Where.
        tensor: String,
        /// How many.
        rows: u64,
    },
}

impl Note {
    /// A stable name for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Note::KeptShape { .. } => "shape_fallback",
            Note::KeptStacks { .. } => "stacked_experts",
            Note::DoubleQuantization { .. } => "double_quantization",
            Note::NotFinite { .. } => "not_finite",
            Note::ZeroRows { .. } => "zero_rows",
        }
    }

    /// One sentence for people.
    pub fn text(&self) -> String {
        match self {
            Note::KeptShape {
                tensors,
                first,
                group,
            } => format!(
                "{tensors} matrices stay in 16 bit, because {group} does not divide their rows or those of experts beside them: `{}`{}",
                one_line(first),
                if *tensors > 1 { " and others" } else { "" }
            ),
            Note::KeptStacks { tensors } => format!(
                "{tensors} tensors of stacked experts stay in 16 bit: compressed-tensors quantizes experts that are stored one by one"
            ),
            Note::DoubleQuantization { now } => format!(
                "the checkpoint was {now} already: quantizing it again adds to the loss it has"
            ),
            Note::NotFinite { tensor, values } => {
                format!(
                    "`{}` holds {values} NaN or infinite weights, written as 0",
                    one_line(tensor)
                )
            }
            Note::ZeroRows { tensor, rows } => {
                format!(
                    "`{}` has {rows} rows of nothing but zeros",
                    one_line(tensor)
                )
            }
        }
    }
}

/// The notes on what was written.
pub(super) fn notes(
    model: &ModelSpec,
    scheme: &Scheme,
    plan: &Prediction,
    written: &[Written],
) -> Vec<Note> {
    let mut notes = Vec::new();
    notes.extend(
        model
            .prequantized
            .clone()
            .map(|now| Note::DoubleQuantization { now }),
    );
    let fell = |w: &&Written| matches!(w.reason, Reason::ShapeFallback { .. });
    if let Some(first) = written.iter().find(fell) {
        notes.push(Note::KeptShape {
            tensors: written.iter().filter(fell).count(),
            first: first.name.clone(),
            group: scheme.base.format().block_elements,
        });
    }
    match plan.weights.iter().filter(|weight| weight.stacked).count() {
        0 => {}
        tensors => notes.push(Note::KeptStacks { tensors }),
    }
    for weight in written {
        let tensor = || weight.name.clone();
        if weight.not_finite > 0 {
            notes.push(Note::NotFinite {
                tensor: tensor(),
                values: weight.not_finite,
            });
        }
        if weight.zero_rows > 0 {
            notes.push(Note::ZeroRows {
                tensor: tensor(),
                rows: weight.zero_rows,
            });
        }
    }
    notes
}
