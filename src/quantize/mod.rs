//! Makes files to run from checkpoints: weights in, blocks of the assigned formats out.
//!
//! A [`Job`] says everything about the output before a weight is read; [`write()`] streams the weights
//! through it. Workers (`pool`) take a few rows each (`chunk`): read (`source`), encoded (`encoder`),
//! put at their place in the files of a `sink`. What differs from one output format to the next is the
//! encoder and the sink.

pub mod blocks;
pub mod fp8;
pub mod int4;
pub mod packed;
mod chunk;
mod destination;
mod disk;
mod encoder;
mod error;
mod importance;
mod job;
mod partial;
mod planned;
mod pool;
mod readiness;
mod sink;
mod source;
mod tally;

pub use destination::{Destination, OutputError};
#[cfg(feature = "cli")]
pub(crate) use disk::{lock, sync_name};
pub use error::QuantizeError;
pub use importance::{Importance, ImportanceError};
pub use job::{Job, weight_files, write};
pub use planned::{Options, Planned, SHARD_BYTES};
pub use pool::Progress;
pub use readiness::{Readiness, check, readiness, refusal};
pub use sink::gguf::metadata;
pub use sink::safetensors;
pub use tally::Tally;
