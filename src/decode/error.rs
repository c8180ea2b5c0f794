//! Why a model cannot be loaded or run here.

use std::path::PathBuf;

use crate::dtype::Dtype;
use crate::gguf::{MetadataError, ReadError};
use crate::units::{Bytes, counted};

/// A model, a tokenizer or an input that the decoder cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a GGUF.
    #[error("only GGUF files are run; make one with `orinplan quantize --scheme bf16`")]
    NotGguf,
    /// An architecture without a forward pass.
    #[error(
        "architecture `{architecture}` is planned and quantized, but this model is not run here: {reason}; measure it with another backend"
    )]
    NoPass {
        /// Its name.
        architecture: String,
        /// What keeps it from being run.
        reason: String,
    },
    /// A tensor that the forward pass needs.
    #[error("tensor `{tensor}` is missing; the file may be cut short or belong to another model")]
    MissingTensor {
        /// Its GGUF name.
        tensor: String,
    },
    /// A tensor that the forward pass would leave out, so that it would compute something else.
    #[error(
        "tensor `{tensor}` has no place in the forward pass of `{architecture}`; measure the file with another backend"
    )]
    StrayTensor {
        /// Its GGUF name.
        tensor: String,
        /// The architecture.
        architecture: String,
    },
    /// A tensor of another shape than the hyperparameters imply.
    #[error("tensor `{tensor}` has shape {found:?} where the metadata implies {expected:?}")]
    Shape {
        /// Its GGUF name.
        tensor: String,
        /// What is stored, outermost dimension first.
        found: Vec<u64>,
        /// What was expected.
        expected: Vec<u64>,
    },
    /// A format that has no product.
    #[error(
        "tensor `{tensor}` is stored as {}, which is not run here; quantize the model to another type",
        dtype.name()
    )]
    Format {
        /// Its GGUF name.
        tensor: String,
        /// The format.
        dtype: Dtype,
    },
    /// Hyperparameters that contradict each other.
    #[error("the metadata cannot be right: {what}")]
    Hyperparameters {
        /// What is wrong, with the values.
        what: String,
    },
    /// A file that cannot be read.
    #[error("{}: {what} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A cache of a type that there is none of.
    #[error("a cache of {} is not run here; use f16 or, on the processor, q8_0", dtype.name())]
    KvType {
        /// The type asked for.
        dtype: Dtype,
    },
    /// Heads that a quantized cache cannot hold.
    #[error(
        "a q8_0 cache needs head widths that are multiples of 32, and block {block} has {width}; use f16"
    )]
    KvWidth {
        /// The block.
        block: usize,
        /// The width of its head.
        width: usize,
    },
    /// Memory that the system does not give.
    #[error("{bytes} for {what} cannot be had; use a smaller context")]
    Memory {
        /// What it is for.
        what: &'static str,
        /// How much.
        bytes: Bytes,
    },
    /// More tokens than the cache holds.
    #[error("{} not fit the context of {context}; give a larger --context", counted(*tokens, "token does", "tokens do"))]
    ContextFull {
        /// Tokens so far and those to come.
        tokens: usize,
        /// What the cache holds.
        context: usize,
    },
    /// No token to go on from.
    #[error("the prompt has no token; give some text")]
    NoTokens,
    /// A token that the model does not have.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Ids that there are.
        vocabulary: usize,
    },
    /// A tokenizer that there is none of.
    #[error("the tokenizer of kind `{kind}` is not known here; give token ids instead of text")]
    TokenizerKind {
        /// `tokenizer.ggml.model`, or `tokenizer.ggml.pre`.
        kind: String,
    },
    /// A tokenizer that contradicts itself.
    #[error("the tokenizer in the file is damaged: {what}")]
    Tokenizer {
        /// What is wrong.
        what: String,
    },
    /// The caller wants no more.
    #[error("cancelled")]
    Cancelled,
    /// A chat template that there is none of, or that fails.
    #[error("the chat template cannot be used: {what}")]
    Template {
        /// What is wrong.
        what: String,
    },
    /// Metadata of another type.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A file that has changed since it was opened.
    #[error(transparent)]
    Gguf(#[from] ReadError),
    /// A result that is no number.
    #[error(
        "what was computed is not a number: the weights are damaged, or too large for products in F16; try the model in BF16 or quantized"
    )]
    NotFinite,
    /// A GPU that there is none of.
    #[error("no GPU computes here: {what}; measure the processors with --runtime candle-cpu")]
    NoGpu {
        /// What is missing.
        what: String,
    },
    /// What candle says.
    #[error("candle: {0}")]
    Candle(String),
}

impl From<candle_core::Error> for DecodeError {
    fn from(error: candle_core::Error) -> DecodeError {
        // A backtrace would follow on further lines.
        let text = error.to_string();
        DecodeError::Candle(text.lines().next().unwrap_or_default().to_owned())
    }
}

impl DecodeError {
    /// A chat template that cannot be used.
    pub(super) fn template(what: impl Into<String>) -> DecodeError {
        DecodeError::Template { what: what.into() }
    }
}
