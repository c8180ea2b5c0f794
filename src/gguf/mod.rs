//! The GGUF container: key-value metadata and tensor descriptions, versions 2 and 3, little endian.
//!
//! In: a file, or anything that reads and seeks. Out: a [`Header`]. Must not: read tensor data,
//! follow splits, or know what a key means beyond `general.alignment`. The format:
//! `docs/gguf.md` of ggml.

mod cursor;
mod elements;
mod error;
mod layout;
mod read;
mod value;

pub use elements::{Elements, elements};
pub use error::{Problem, ReadError};
pub use read::{Header, TensorInfo, read_header, read_header_from};
pub use value::{Metadata, MetadataError, Value, ValueType};
