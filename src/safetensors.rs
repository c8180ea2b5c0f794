//! Reads safetensors headers strictly, and writes them.
//!
//! In: a file, or anything that reads and seeks. Out: a [`Header`] whose tensors cover the data without a gap to
//! its last byte. Must not: read tensor data. The format: the README of
//! <https://github.com/huggingface/safetensors>. Its Rust crate accepts the same files, except that it keeps one of
//! several tensors of the same name, which is an error here.
#![warn(clippy::indexing_slicing)]

mod write;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::dtype::{Dtype, FORMATS};
use crate::input::{self, OpenError, in_words, one_line};
use crate::units::Bytes;

pub use write::{NewHeader, NewTensor, header};

/// The longest JSON header in bytes: the format's own limit.
pub const HEADER_LIMIT: u64 = 100_000_000;
/// The length of the header's length.
const PREFIX: u64 = 8;

/// The header of a safetensors file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The `__metadata__` entry: free text by key.
    pub metadata: BTreeMap<String, String>,
    /// Tensors in the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// Byte offset of the tensor data: 8 bytes for the header's length, then the header.
    pub data_offset: u64,
    /// The size of the file in bytes, weights included.
    pub file_bytes: u64,
}

/// A tensor described by a safetensors header.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// The element format.
    pub dtype: Dtype,
    /// Outermost dimension first; empty for a scalar.
    pub shape: Vec<u64>,
    /// Byte offset from the start of the file.
    pub offset: u64,
    /// Exact size; `offset + bytes` lies within the file.
    pub bytes: Bytes,
}

/// A safetensors file that cannot be read.
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

/// What is wrong with the bytes of a safetensors file.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum Problem {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is a git-lfs pointer and not the weights themselves; fetch them with `git lfs pull`")]
    LfsPointer,
    #[error(
        "has {file_bytes} bytes, and a safetensors file has at least {PREFIX}; copy or download it again"
    )]
    TooShort { file_bytes: u64 },
    #[error(
        "promises a header of {header} bytes, above the format's limit of {HEADER_LIMIT}; it is not a safetensors file, or damaged"
    )]
    HeaderTooLong { header: u64 },
    #[error(
        "promises a header of {header} bytes, but only {left} follow; it may be cut short, copy or download it again"
    )]
    HeaderCut { header: u64, left: u64 },
    #[error("the header is not UTF-8 (first wrong byte at {at} of the header)")]
    NotUtf8 { at: usize },
    #[error("the header violates the format: {}", in_words(&.0.to_string()))]
    Json(serde_json::Error),
    #[error("tensor `{0}` appears twice in the header")]
    Duplicate(String),
    #[error("tensor `{name}` has type `{dtype}`, which is unknown; known: {known}", known = known_types())]
    Dtype { name: String, dtype: String },
    #[error(
        "tensor `{name}` of shape {shape:?} and type {dtype} has more bytes than 64 bits count, or not a whole number of them"
    )]
    Size {
        name: String,
        shape: Vec<u64>,
        dtype: &'static str,
    },
    #[error(
        "tensor `{name}` of shape {shape:?} and type {dtype} takes {bytes} bytes, but its offsets {start}..{end} do not span as many"
    )]
    Span {
        name: String,
        shape: Vec<u64>,
        dtype: &'static str,
        bytes: u64,
        start: u64,
        end: u64,
    },
    #[error(
        "tensor `{name}` starts at byte {start} of the data, but the tensor before it ends at {expected}: the data must have no hole and no overlap"
    )]
    Tiling {
        name: String,
        start: u64,
        expected: u64,
    },
    #[error(
        "the header describes a file of {expected} bytes, but it has {file_bytes}; copy or download it again"
    )]
    FileSize { expected: u64, file_bytes: u64 },
}

/// Reads the header of the safetensors file at `path`. A file called `NAME.header.safetensors` may end after the header.
///
/// # Errors
/// [`ReadError::Open`] if it is not a readable regular file, [`ReadError::Content`] with a [`Problem`] as for
/// [`read_header_from`].
pub fn read_header(path: &Path) -> Result<Header, ReadError> {
    let (file, _) = input::open(path)?;
    read(file, input::is_header_only(path)).map_err(|problem| ReadError::Content {
        path: path.to_owned(),
        problem,
    })
}

/// Reads a safetensors header from the start of anything that reads and seeks.
///
/// # Errors
/// Every [`Problem`]: a header that is longer than the file or the format's limit, is not the JSON
/// of the format or names a tensor twice; a type unknown to the format; offsets that leave a hole,
/// overlap or disagree with type and shape; data that does not end where the file ends.
pub fn read_header_from(reader: impl Read + Seek) -> Result<Header, Problem> {
    read(reader, false)
}

fn read(mut reader: impl Read + Seek, header_only: bool) -> Result<Header, Problem> {
    let file_bytes = reader.seek(SeekFrom::End(0))?;
    reader.seek(SeekFrom::Start(0))?;
    let Some(left) = file_bytes.checked_sub(PREFIX) else {
        return Err(Problem::TooShort { file_bytes });
    };
    let mut prefix = [0; PREFIX as usize];
    reader.read_exact(&mut prefix)?;
    if &prefix == b"version " {
        return Err(Problem::LfsPointer);
    }
    let header = u64::from_le_bytes(prefix);
    if header > HEADER_LIMIT {
        return Err(Problem::HeaderTooLong { header });
    }
    if header > left {
        return Err(Problem::HeaderCut { header, left });
    }
    let mut json = vec![0; header as usize];
    reader.read_exact(&mut json)?;
    let json = std::str::from_utf8(&json).map_err(|error| Problem::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    let wire: WireHeader = serde_json::from_str(json).map_err(Problem::Json)?;

    let data_offset = PREFIX + header;
    let (tensors, end) = tile(wire.tensors, data_offset)?;
    match data_offset.checked_add(end) {
        Some(expected) if expected == file_bytes || header_only => Ok(Header {
            metadata: wire.metadata,
            tensors,
            data_offset,
            file_bytes: expected,
        }),
        expected => Err(Problem::FileSize {
            expected: expected.unwrap_or(u64::MAX),
            file_bytes,
        }),
    }
}

/// Checks the size of every tensor, and that they follow one another without gap or overlap. Returns them in the order
/// of their data with offsets from the start of the file, and the length of the data.
fn tile(
    mut entries: Vec<(String, WireTensor<'_>)>,
    data_offset: u64,
) -> Result<(Vec<TensorInfo>, u64), Problem> {
    let mut seen = HashSet::new();
    if let Some((name, _)) = entries.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(Problem::Duplicate(name.clone()));
    }
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let (mut tensors, mut expected) = (Vec::with_capacity(entries.len()), 0);
    for (
        name,
        WireTensor {
            dtype,
            shape,
            data_offsets: (start, end),
        },
    ) in entries
    {
        let Some(dtype) = Dtype::from_safetensors(&dtype) else {
            return Err(Problem::Dtype {
                name,
                dtype: dtype.into_owned(),
            });
        };
        if start != expected {
            return Err(Problem::Tiling {
                name,
                start,
                expected,
            });
        }
        // safetensors packs types below a byte across rows, so the whole tensor counts as one row.
        let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let Some(bytes) = elements.and_then(|elements| dtype.bytes(&[elements])) else {
            return Err(Problem::Size {
                name,
                shape,
                dtype: dtype.name(),
            });
        };
        if end.checked_sub(start) != Some(bytes.0) {
            let (dtype, bytes) = (dtype.name(), bytes.0);
            return Err(Problem::Span {
                name,
                shape,
                dtype,
                bytes,
                start,
                end,
            });
        }
        expected = end;
        let offset = data_offset.saturating_add(start);
        tensors.push(TensorInfo {
            name,
            dtype,
            shape,
            offset,
            bytes,
        });
    }
    Ok((tensors, expected))
}

fn known_types() -> String {
    let names: Vec<&str> = FORMATS
        .iter()
        .filter_map(|format| format.safetensors)
        .collect();
    names.join(", ")
}

/// The header as JSON: tensors in the order of the file, before duplicate names are refused.
struct WireHeader<'a> {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, WireTensor<'a>)>,
}

/// One tensor as JSON.
#[derive(serde::Deserialize)]
struct WireTensor<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for WireHeader<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireHeader<'de>, D::Error> {
        deserializer.deserialize_map(WireHeaderVisitor(PhantomData))
    }
}

struct WireHeaderVisitor<'a>(PhantomData<&'a ()>);

impl<'de> Visitor<'de> for WireHeaderVisitor<'de> {
    type Value = WireHeader<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireHeader<'de>, A::Error> {
        let (mut metadata, mut tensors) = (None, Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            // serde's own message has a line and a column, but not the name of the entry.
            let in_entry = |error: A::Error| A::Error::custom(format!("entry `{name}`: {error}"));
            if name != "__metadata__" {
                let entry = map.next_value().map_err(in_entry)?;
                tensors.push((name, entry));
            } else if metadata.is_none() {
                metadata = Some(map.next_value::<Option<_>>().map_err(in_entry)?);
            } else {
                return Err(A::Error::duplicate_field("__metadata__"));
            }
        }
        Ok(WireHeader {
            metadata: metadata.flatten().unwrap_or_default(),
            tensors,
        })
    }
}
