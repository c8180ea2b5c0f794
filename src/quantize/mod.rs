//! Quantizes checkpoints to GGUF files or directories of safetensors.
//!
//! A [`Job`] plans everything about the output before a weight is read; [`write()`] streams the weights
//! through it. Workers (`pool`) take a few rows at a time (`chunk`), read them (`tensor_rows`), encode them (`encoder`)
//! and write them to their place in the files of a `sink`. Output formats differ in the encoder and the sink.

pub mod blocks;
pub mod fp8;
pub mod int4;
pub mod packed;
mod activation_sums;
mod chunk;
mod destination;
mod disk;
mod encoder;
mod error;
mod fetched;
mod gguf_view;
mod importance;
mod job;
mod journal;
mod partial;
mod planned;
mod pool;
mod readiness;
mod sink;
mod source;
mod streamed;
mod tally;
mod tensor_rows;
mod trial;

pub use activation_sums::ActivationSums;
pub use destination::{Destination, OutputError, Start};
#[cfg(any(feature = "cli", feature = "hub"))]
pub(crate) use disk::lock;
#[cfg(feature = "cli")]
pub(crate) use disk::sync_name;
pub use error::QuantizeError;
pub use fetched::{Fetched, fetch};
pub use gguf_view::{GgufView, float_format};
pub use importance::{Importance, ImportanceError};
pub use job::{Job, weight_files, write, write_from};
pub use journal::resumable;
pub use planned::{Options, PlannedTensor, SHARD_BYTES};
pub use pool::Progress;
pub use readiness::{Readiness, check, readiness, refusal, refused};
pub use sink::gguf::metadata;
pub use sink::safetensors;
pub use streamed::Written;
pub use tally::Tally;
pub use trial::{encoded, sampled_errors};
