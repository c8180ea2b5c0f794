//! The errors of measuring quality, each with what the user can do about it.

use super::log_probs::LogProbsError;
use crate::decode::DecodeError;
use crate::input;
use crate::quantize::QuantizeError;
use crate::units::Bytes;

/// Why quality cannot be measured.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum QualityError {
    /// A text cannot be opened.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    /// The decoder does not run the model.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An output cannot be made.
    #[error(transparent)]
    Output(#[from] QuantizeError),
    /// Stored predictions of a reference cannot be read or written.
    #[error(transparent)]
    LogProbs(#[from] LogProbsError),
    #[error(
        "{name}: has {found} tokens for this model, but a chunk has {chunk}; give a longer text, or shorter chunks with --chunk-tokens"
    )]
    ShortText {
        name: String,
        found: usize,
        chunk: usize,
    },
    #[error(
        "{candidate} has {found} tokens in its vocabulary, but the reference has {expected}; they are not the same model"
    )]
    Vocabulary {
        candidate: String,
        found: usize,
        expected: usize,
    },
    #[error(
        "{model}: predicts a non-finite number at token {token} of the text; its weights are damaged, or its type overflows"
    )]
    NotFinite { model: String, token: usize },
    #[error("{size} ({} bytes) is less than the smallest file of this model, {least} ({} bytes)", size.0, least.0)]
    TooSmall { size: Bytes, least: Bytes },
    #[error(
        "found no file of this model that diverges by at most {most}; the largest has {largest}"
    )]
    TooGood { most: f64, largest: Bytes },
    /// The caller set `cancel`.
    #[error("interrupted")]
    Interrupted,
}
