//! The errors of quantizing a checkpoint, each with what the user can do about it.

use std::path::PathBuf;

use super::blocks::BlockError;
use super::destination::OutputError;
use super::importance::ImportanceError;
use super::packed::PackedError;
use crate::convert::ConvertError;
use crate::gguf;
use crate::input::one_line;
use crate::model::ModelError;
use crate::model::accept::AcceptError;
use crate::units::{Bytes, counted};

/// Why an output cannot be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum QuantizeError {
    /// The metadata cannot be made.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A metadata array of the source cannot be read.
    #[error(transparent)]
    Metadata(#[from] gguf::ReadError),
    /// The header cannot be written.
    #[error(transparent)]
    Header(#[from] gguf::WriteError),
    /// Projectors are not written in this scheme.
    #[error(
        "a projector is written as f16, bf16 or q8_0, not as {scheme}: llama.cpp's converter makes no others"
    )]
    ProjectorScheme {
        /// Its id.
        scheme: &'static str,
    },
    /// The weights cannot be read.
    #[error(transparent)]
    Weights(#[from] PackedError),
    /// The output cannot or must not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The tensors of the file would not be those of its architecture.
    #[error("the file would not load in llama.cpp: {0}")]
    Described(#[from] ModelError),
    /// The keys of the file would not be those that its runtime reads.
    #[error("the file would not load in llama.cpp: {0}")]
    Refused(#[from] AcceptError),
    /// The importance matrix is wrong or of another model.
    #[error(transparent)]
    Importance(#[from] ImportanceError),

    #[error(
        "{name} has no weights, only a description; give a directory with *.safetensors, or a GGUF"
    )]
    NoWeights { name: String },
    #[error(
        "`{}` has no safetensors weights; this format is made from a Hugging Face directory",
        one_line(name)
    )]
    NoSafetensors { name: String },
    #[error(
        "no tensor of `{}` can be {scheme}: none is a known linear layer of a length that the format divides",
        one_line(name)
    )]
    NothingToQuantize { name: String, scheme: &'static str },
    #[error(
        "`{}` has {what} that vLLM loads in INT4 without zero points only; choose {instead} instead of {scheme}",
        one_line(name)
    )]
    SymmetricOnly {
        name: String,
        what: &'static str,
        scheme: &'static str,
        instead: &'static str,
    },
    #[error("no runtime here loads `{}` as {scheme}: {why}", one_line(name))]
    NotServed {
        name: String,
        scheme: &'static str,
        why: &'static str,
    },
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
        "the order of the experts' numbers in tensor `{}` is not known, so they cannot be written one by one; make a GGUF instead",
        one_line(tensor)
    )]
    UnclearStack { tensor: String },
    #[error(
        "tensor `{}` has shape {found:?} by its own record, but {expected:?} by the configuration",
        one_line(tensor)
    )]
    Shape {
        tensor: String,
        found: Vec<u64>,
        expected: Vec<u64>,
    },
    #[error("tensor `{tensor}` is stored as {found}, which cannot be read as weights here")]
    StoredAs { tensor: String, found: &'static str },
    #[error(
        "tensor `{tensor}` is {found} already, and quantizing it again to {wanted} adds to its loss; start from the 16-bit original, or allow it with --allow-requantize"
    )]
    Requantize {
        tensor: String,
        found: &'static str,
        wanted: &'static str,
    },
    #[error(
        "tensor `{tensor}` would be {dtype}, which needs an importance matrix with values for it; make one with `orinplan imatrix`, and give it with --imatrix"
    )]
    NeedsImportance { tensor: String, dtype: &'static str },
    #[error("tensor `{tensor}` would be {dtype}, which has no encoder here; encoders are {known}")]
    NoEncoder {
        tensor: String,
        dtype: &'static str,
        known: String,
    },
    #[error(
        "tensor `{tensor}` is made from {}, but its shape {shape:?} has {expected}; the checkpoint may be damaged or of another version",
        counted(*found, "stored weight", "stored weights")
    )]
    Sizes {
        tensor: String,
        found: u64,
        expected: u64,
        shape: Vec<u64>,
    },
    #[error("tensor `{tensor}`: {source}")]
    Block { tensor: String, source: BlockError },
    #[error(
        "{} is not a single file on a server; `hf download` fetches the files of a repository",
        one_line(name)
    )]
    NotOneFile { name: String },
    #[error(
        "{source}; {} are complete and kept: continue with --resume",
        counted(*complete, "tensor", "tensors")
    )]
    Suspended {
        complete: usize,
        source: Box<QuantizeError>,
    },
    #[error(
        "{}: was started from {begun}, but this is {now} or has other options; start over with --overwrite instead of --resume",
        path.display()
    )]
    OtherBegun {
        path: PathBuf,
        begun: String,
        now: String,
    },
    #[error(
        "{}: an earlier run left it incomplete; continue with --resume, or start over with --overwrite",
        path.display()
    )]
    Begun { path: PathBuf },
    #[error("{source}; {there} of {of} are kept: continue with --resume")]
    FetchSuspended {
        there: Bytes,
        of: Bytes,
        source: Box<QuantizeError>,
    },
    /// The caller set `cancel`.
    #[error("interrupted; nothing was written")]
    Interrupted,
}

impl QuantizeError {
    /// Whether a server sent other content than that of the pinned state, so that what was made of it is not to be kept.
    pub(super) fn is_of_other_content(&self) -> bool {
        match self {
            QuantizeError::Weights(
                PackedError::Source(source) | PackedError::Fetch { source, .. },
            ) => source.kind() == std::io::ErrorKind::InvalidData,
            _ => false,
        }
    }

    /// Whether the checkpoint itself is wrong; false if this program just does not read or convert its kind.
    pub fn blames_checkpoint(&self) -> bool {
        match self {
            QuantizeError::Convert(error) => error.blames_checkpoint(),
            QuantizeError::Weights(error) => !matches!(
                error,
                PackedError::HeaderOnly { .. }
                    | PackedError::Layout { .. }
                    | PackedError::Fetch { .. }
                    | PackedError::Source(_)
            ),
            QuantizeError::Described(_)
            | QuantizeError::Refused(_)
            | QuantizeError::Sizes { .. } => true,
            _ => false,
        }
    }
}
