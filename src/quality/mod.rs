//! Measures what a model loses: importance matrices, and the divergence of its predictions from a reference.
//!
//! In: models that the decoder runs, and a text. Out: activation sums, and statistics of divergence. Must not:
//! print, or know a board.

mod compare;
mod divergence;
mod error;
mod fingerprint;
mod imatrix;
mod log_probs;
pub mod mix;
mod text;

pub use compare::{divergence, perplexity, record};
pub use divergence::{Divergence, Estimate, Perplexity};
pub use error::QualityError;
pub use fingerprint::{Fingerprint, fingerprint};
pub use imatrix::{Collector, collect};
pub use log_probs::{LogProbs, LogProbsError, LogProbsWriter};
pub use text::{Beginning, Chunks, DEFAULT_TEXT, Text};
