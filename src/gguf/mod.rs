//! The GGUF container: key-value metadata and tensor descriptions, versions 2 and 3, little endian.
//!
//! Reading: a file, or anything that reads and seeks, in; a [`Header`] out. Writing: metadata and tensor descriptions
//! in; the bytes of a header and exact sizes out. Must not: touch tensor data, follow split files, or interpret a key
//! other than `general.alignment`. The format: `docs/gguf.md` of ggml.
#![warn(clippy::indexing_slicing)]

mod cursor;
mod elements;
mod error;
mod layout;
mod read;
mod strings;
mod value;
mod write;

pub use elements::{Elements, elements};
pub use error::{Problem, ReadError};
pub use layout::TensorInfo;
pub(crate) use read::starts_as_gguf;
pub use read::{Header, read_header, read_header_from};
pub use strings::StringList;
pub use value::{Metadata, MetadataError, Value, ValueType};
pub use write::{
    ALIGNMENT, TensorEntry, WriteError, data_offsets, file_bytes, header_bytes, metadata_bytes,
    write_header,
};
