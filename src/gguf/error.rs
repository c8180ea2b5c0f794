//! The errors of reading a GGUF file.

use std::io;
use std::path::PathBuf;

use crate::input::{OpenError, one_line};
use crate::units::{Bytes, counted};

/// A GGUF file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The file's bytes are wrong.
    #[error("{}: {}", path.display(), one_line(problem))]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with the bytes of a GGUF file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is not a GGUF file: it starts with {found:?} instead of `GGUF`")]
    Magic { found: String },
    #[error("is a git-lfs pointer and not the model itself; fetch it with `git lfs pull`")]
    LfsPointer,
    #[error(
        "is GGUF version 1, which no runtime reads any more; convert the model again (versions 2 and 3 are supported)"
    )]
    Version1,
    #[error("is a big-endian GGUF file; an Orin needs the little-endian one")]
    BigEndian,
    #[error("has GGUF version {0}; versions 2 and 3 are supported")]
    Version(u32),
    #[error(
        "the file ends at byte {file_bytes}, but {place} needs {need} more bytes at byte {at}; it may be cut short, copy or download it again"
    )]
    Truncated {
        place: String,
        need: u64,
        at: u64,
        file_bytes: u64,
    },
    #[error("{place} reaches past the first {limit} of the file; no real model has so much metadata", limit = Bytes(*limit))]
    HeaderTooLong { place: String, limit: u64 },
    #[error(
        "the header promises {count} {what}, but only {room} of the smallest fit the rest of the file"
    )]
    Count {
        what: &'static str,
        count: u64,
        room: u64,
    },
    #[error("{place} has a name of {bytes} bytes, above the limit of {limit}")]
    NameTooLong {
        place: String,
        bytes: u64,
        limit: u64,
    },
    #[error("{place} has an empty name")]
    NameEmpty { place: String },
    #[error("{place} is not UTF-8 (first wrong byte at {at} of the string)")]
    NotUtf8 { place: String, at: usize },
    #[error("metadata key `{0}` appears twice")]
    DuplicateKey(String),
    #[error("tensor name `{0}` appears twice")]
    DuplicateTensor(String),
    #[error("{place} has value type {id}; known types are 0 to 12")]
    ValueType { place: String, id: u32 },
    #[error("{place} is an array of arrays, which no model has and no runtime reads")]
    NestedArray { place: String },
    #[error(
        "{place} promises {}, but only {room} of the smallest fit the rest of the file", counted(*len, "element", "elements")
    )]
    ArrayLength { place: String, len: u64, room: u64 },
    #[error("{place} is a boolean of value {value}; it must be 0 or 1")]
    Bool { place: String, value: u8 },
    #[error("`general.alignment` is a {found}, but must be a u32")]
    AlignmentType { found: String },
    #[error("`general.alignment` is {value}, but must be a power of two from 1 to {limit}")]
    Alignment { value: u32, limit: u32 },
    #[error("tensor `{name}` has {dims} dimensions; it must have 1 to 4")]
    Dimensions { name: String, dims: u32 },
    #[error(
        "tensor `{name}` has type {id}, which ggml does not define; the newest known is {newest}"
    )]
    TensorType { name: String, id: u32, newest: u32 },
    #[error("tensor `{name}` of shape {shape:?} has more elements or bytes than 63 bits count")]
    ShapeOverflow { name: String, shape: Vec<u64> },
    #[error(
        "tensor `{name}` of type {dtype} has rows of {}, which is not a multiple of the block of {block}", counted(*row, "element", "elements")
    )]
    RowBlock {
        name: String,
        dtype: &'static str,
        row: u64,
        block: u64,
    },
    #[error(
        "tensor `{name}` has offset {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        name: String,
        offset: u64,
        alignment: u32,
    },
    #[error(
        "tensor `{name}` (offset {offset}, {bytes} bytes) ends beyond the file, which has {file_bytes} bytes; it may be cut short, copy or download it again"
    )]
    OutOfFile {
        name: String,
        offset: u64,
        bytes: u64,
        file_bytes: u64,
    },
    #[error(
        "tensors `{first}` and `{second}` overlap: one ends at byte {end}, the other starts at {start}"
    )]
    Overlap {
        first: String,
        second: String,
        end: u64,
        start: u64,
    },
}
