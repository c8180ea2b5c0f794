//! Why a model cannot be loaded or run here.

use crate::convert::ConvertError;
use crate::dtype::Dtype;
use crate::gguf::{MetadataError, ReadError};
use crate::quantize::QuantizeError;
use crate::units::{Bytes, counted};

/// A model, a tokenizer or an input that the decoder cannot use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// An architecture without a forward pass.
    #[error(
        "architecture `{architecture}` is planned and quantized, but this model is not run here: {reason}; measure it with another backend"
    )]
    NoForwardPass {
        /// Its name.
        architecture: String,
        /// Why it is not run.
        reason: String,
    },
    /// A tensor that the forward pass needs.
    #[error("tensor `{tensor}` is missing; the file may be cut short or belong to another model")]
    MissingTensor {
        /// Its GGUF name.
        tensor: String,
    },
    /// A tensor that the forward pass does not use: without it the pass would compute another model.
    #[error(
        "tensor `{tensor}` has no place in the forward pass of `{architecture}`; measure the file with another backend"
    )]
    UnusedTensor {
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
        /// The stored shape, outermost dimension first.
        found: Vec<u64>,
        /// The shape that the metadata implies.
        expected: Vec<u64>,
    },
    /// A format that no kernel multiplies.
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
    /// Weights that cannot be read, or a checkpoint that cannot be converted.
    #[error(transparent)]
    Weights(#[from] QuantizeError),
    /// A tokenizer that cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A cache type that the engine does not have.
    #[error("a cache of {} is not run here; known: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1, q4_0", dtype.name())]
    KvType {
        /// The type asked for.
        dtype: Dtype,
    },
    /// Heads that a quantized cache cannot hold.
    #[error(
        "a cache of {} needs heads whose width is a multiple of {}, and block {block} has {width}; use f16",
        dtype.name(), dtype.format().block_elements
    )]
    KvWidth {
        /// The block.
        block: usize,
        /// The type asked for.
        dtype: Dtype,
        /// The width of its head.
        width: usize,
    },
    /// Memory that cannot be allocated.
    #[error("{bytes} for {what} cannot be allocated; use a smaller context")]
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
        /// Tokens that the cache holds.
        context: usize,
    },
    /// A model whose tokens attend to all of a text.
    #[error("the model makes vectors of texts and generates none")]
    OnlyEmbeds,
    /// No head that ranks pairs of texts.
    #[error("the model has no head that ranks texts (`cls.output`)")]
    NoRanker,
    /// An empty prompt.
    #[error("the prompt has no token; give some text")]
    NoTokens,
    /// A token that the model does not have.
    #[error("token {token} is not in the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        token: u32,
        /// Its number of entries.
        vocabulary: usize,
    },
    /// A tokenizer of an unknown kind.
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
    /// The caller has cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A chat template that is missing or fails.
    #[error("the chat template cannot be used: {what}")]
    Template {
        /// What is wrong.
        what: String,
        /// How it fails.
        fault: TemplateFault,
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
    /// No usable GPU.
    #[error("no GPU computes here: {what}; measure the processors with --runtime candle-cpu")]
    NoGpu {
        /// What is missing.
        what: String,
    },
    /// An error of candle's.
    #[error("candle: {0}")]
    Candle(String),
}

/// How a chat template fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateFault {
    /// There is none, or it fails with these messages.
    Fails,
    /// It is no Jinja.
    Syntax,
    /// It was stopped.
    Unbounded,
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
        DecodeError::Template {
            what: what.into(),
            fault: TemplateFault::Fails,
        }
    }
}
