//! Importance matrices: the importance of each column of a weight, as the mean square of the
//! activations that it was multiplied with. Reads both formats of llama.cpp's `imatrix` tool.
//!
//! In: a file. Out: numbers by tensor name. Must not: know a model.

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::dtype::Dtype;
use crate::gguf::{self, TensorInfo, Value};
use crate::input::{self, one_line};
use crate::units::{Bytes, counted};

/// The largest file that is read, in bytes; that of a model of 671 B parameters is smaller.
const LIMIT: Bytes = Bytes(1 << 30);

/// The most values of one tensor: 256 experts of 7168 columns have 1.8 million.
const VALUES_LIMIT: u64 = 1 << 24;

/// Suffixes of tensor names in the GGUF format.
pub(super) const SUMS: &str = ".in_sum2";
pub(super) const COUNTS: &str = ".counts";

/// An importance matrix.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// The file's name, without its directory.
    pub file: String,
    /// The names of the texts that it was computed from.
    pub datasets: Vec<String>,
    /// The number of chunks of those texts.
    pub chunks: u32,
    entries: HashMap<String, Vec<f32>>,
}

/// Why a file cannot be used as an importance matrix.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum ImportanceError {
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    /// A GGUF that cannot be read.
    #[error(transparent)]
    Gguf(#[from] gguf::ReadError),
    #[error("{}: is not an importance matrix: {problem} at byte {at}", path.display())]
    Legacy {
        path: PathBuf,
        problem: &'static str,
        at: u64,
    },
    #[error("{}: is not an importance matrix: `{}` {problem}", path.display(), one_line(tensor))]
    Entry {
        path: PathBuf,
        tensor: String,
        problem: &'static str,
    },
    #[error("{}: holds no entries, so it is not an importance matrix", path.display())]
    Nothing { path: PathBuf },
    #[error("{}: the importance of column {column} of `{}` is {value}; it must be finite and not below 0", path.display(), one_line(tensor))]
    Value {
        path: PathBuf,
        tensor: String,
        column: usize,
        value: f32,
    },
    #[error("{}: is zero for every column, so it was computed from nothing; compute it again", path.display())]
    Zeros { path: PathBuf },
    #[error(
        "the importance matrix has values for {found}, but the model has {expected}; it was made from another model"
    )]
    OtherModel { found: String, expected: String },
    #[error(
        "the importance matrix has {} for tensor `{tensor}`, which has {} (times experts); it was made from another model",
        counted(*found, "value", "values"), counted(*expected, "column", "columns")
    )]
    Size {
        tensor: String,
        found: usize,
        expected: u64,
    },
}

impl Importance {
    /// The importance matrix of entries by tensor name.
    pub(super) fn new(
        file: &str,
        dataset: &str,
        chunks: u32,
        entries: HashMap<String, Vec<f32>>,
    ) -> Importance {
        Importance {
            file: file.to_owned(),
            datasets: vec![dataset.to_owned()],
            chunks,
            entries,
        }
    }

    /// Reads the importance matrix at `path`, in the GGUF format or the older format without a magic number.
    ///
    /// # Errors
    /// [`ImportanceError`]: the file cannot be opened or is too large, is cut short, or has an entry that is wrong.
    pub fn open(path: &Path) -> Result<Importance, ImportanceError> {
        let (file, bytes) = input::open(path)?;
        if bytes > LIMIT.0 {
            return Err(ImportanceError::Open(input::OpenError::TooLarge {
                path: path.to_owned(),
                bytes: Bytes(bytes),
                limit: LIMIT,
            }));
        }
        Importance::read(path, BufReader::new(file))
    }

    /// Reads an importance matrix from `reader`, with `path` for messages. It is read entry by entry: memory is allocated
    /// only for data that is in the file, whatever its counts claim.
    ///
    /// # Errors
    /// As [`Importance::open`].
    pub fn read(path: &Path, mut reader: impl Read + Seek) -> Result<Importance, ImportanceError> {
        let io = |source| input::OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut magic = Vec::new();
        let begun = reader.by_ref().take(4).read_to_end(&mut magic);
        let left = begun
            .and_then(|_| reader.seek(SeekFrom::End(0)))
            .and_then(|bytes| reader.rewind().map(|()| bytes))
            .map_err(io)?;
        let mut importance = match magic.as_slice() {
            b"GGUF" => from_gguf(path, reader)?,
            _ => from_legacy(LegacyReader {
                path,
                reader,
                at: 0,
                left,
            })?,
        };
        let name = path.file_name().unwrap_or_default();
        importance.file = name.to_string_lossy().into_owned();
        if importance.entries.is_empty() {
            return Err(ImportanceError::Nothing {
                path: path.to_owned(),
            });
        }
        for (tensor, values) in &importance.entries {
            let odd = |v: &f32| !(v.is_finite() && *v >= 0.0);
            if let Some(column) = values.iter().position(odd) {
                return Err(ImportanceError::Value {
                    path: path.to_owned(),
                    tensor: tensor.clone(),
                    column,
                    value: values.get(column).copied().unwrap_or_default(),
                });
            }
        }
        if importance
            .entries
            .values()
            .flatten()
            .all(|value| *value == 0.0)
        {
            return Err(ImportanceError::Zeros {
                path: path.to_owned(),
            });
        }
        Ok(importance)
    }

    /// The names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// One number for each column of `tensor`; for a stack of experts, matrix after matrix.
    pub fn of(&self, tensor: &str) -> Option<&[f32]> {
        self.entries.get(tensor).map(Vec::as_slice)
    }

    /// The number of tensors in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no tensor.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The metadata about it that `llama-quantize` writes to a file.
    pub fn metadata(&self) -> Vec<(String, Value)> {
        let mut pairs = vec![("file", Value::String(self.file.clone()))];
        if let Some(dataset) = self.datasets.first() {
            pairs.push(("dataset", Value::String(dataset.clone())));
        }
        let entries = u32::try_from(self.len()).unwrap_or(u32::MAX);
        pairs.push(("entries_count", Value::U32(entries)));
        if self.chunks > 0 {
            pairs.push(("chunks_count", Value::U32(self.chunks)));
        }
        let named = |(key, value)| (format!("quantize.imatrix.{key}"), value);
        pairs.into_iter().map(named).collect()
    }
}

/// Reads the little-endian numbers of the older format.
struct LegacyReader<'a, R> {
    path: &'a Path,
    reader: R,
    at: u64,
    left: u64,
}

impl<R: Read> LegacyReader<'_, R> {
    fn wrong(&self, problem: &'static str) -> ImportanceError {
        ImportanceError::Legacy {
            path: self.path.to_owned(),
            problem,
            at: self.at,
        }
    }

    /// The next `bytes` bytes; `None` if the file has fewer or cannot be read.
    fn take(&mut self, bytes: u64) -> Option<Vec<u8>> {
        self.left = self.left.checked_sub(bytes)?;
        let mut taken = Vec::new();
        let read = self.reader.by_ref().take(bytes).read_to_end(&mut taken);
        self.at += bytes;
        (read.ok()? as u64 == bytes).then_some(taken)
    }

    fn i32(&mut self) -> Option<i32> {
        let bytes = self.take(4)?;
        Some(i32::from_le_bytes(*bytes.first_chunk::<4>()?))
    }

    /// The count before a list.
    fn count(&mut self) -> Option<u64> {
        u64::try_from(self.i32()?).ok()
    }

    fn text(&mut self) -> Option<String> {
        let length = self.count()?;
        let bytes = self.take(length)?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn f32s(&mut self) -> Option<Vec<f32>> {
        let count = self.count().filter(|count| *count <= VALUES_LIMIT)?;
        Some(f32s(&self.take(count * 4)?))
    }
}

fn f32s(bytes: &[u8]) -> Vec<f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| f32::from_le_bytes(*word)).collect()
}

/// Reads the older format: a count, then for each tensor its name, the number of calls, and for each column the mean
/// square times that number; then optionally the number of chunks and the name of the text.
fn from_legacy(mut cursor: LegacyReader<'_, impl Read>) -> Result<Importance, ImportanceError> {
    let count = cursor.count().ok_or_else(|| cursor.wrong("no count"))?;
    let mut importance = Importance::default();
    for _ in 0..count {
        let name = cursor
            .text()
            .ok_or_else(|| cursor.wrong("no tensor name"))?;
        let calls = cursor
            .i32()
            .ok_or_else(|| cursor.wrong("no number of calls"))?;
        let mut values = cursor
            .f32s()
            .ok_or_else(|| cursor.wrong("fewer values than promised"))?;
        if calls > 0 {
            values.iter_mut().for_each(|value| *value /= calls as f32);
        }
        importance.entries.insert(name, values);
    }
    importance.chunks = cursor
        .i32()
        .and_then(|chunks| u32::try_from(chunks).ok())
        .unwrap_or(0);
    importance
        .datasets
        .extend(cursor.text().filter(|text| !text.is_empty()));
    Ok(importance)
}

/// Reads the GGUF format: for each tensor the sums of squares (one row for each expert) and the counts that they sum.
fn from_gguf(path: &Path, mut reader: impl Read + Seek) -> Result<Importance, ImportanceError> {
    let header = gguf::read_header_from(&mut reader).map_err(|problem| {
        let path = path.to_owned();
        gguf::ReadError::Content { path, problem }
    })?;
    let mut importance = Importance {
        chunks: header
            .metadata
            .u64("imatrix.chunk_count")
            .ok()
            .flatten()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(0),
        ..Importance::default()
    };
    if let Some(value) = header.metadata.get("imatrix.datasets") {
        for dataset in gguf::elements(path, value)? {
            if let Value::String(text) = dataset? {
                importance.datasets.push(text);
            }
        }
    }
    let named = header.tensors.iter();
    let named: HashMap<&str, &TensorInfo> = named.map(|t| (t.name.as_str(), t)).collect();
    for tensor in &header.tensors {
        let Some(name) = tensor.name.strip_suffix(SUMS) else {
            continue;
        };
        let wrong = |problem| ImportanceError::Entry {
            path: path.to_owned(),
            tensor: name.to_owned(),
            problem,
        };
        let mut means =
            numbers(&mut reader, tensor).ok_or_else(|| wrong("has sums that are not F32"))?;
        let counts = named.get(format!("{name}{COUNTS}").as_str());
        let counts = counts
            .and_then(|counts| numbers(&mut reader, counts))
            .filter(|counts| !counts.is_empty() && means.len() % counts.len() == 0)
            .ok_or_else(|| wrong("has no counts for its sums"))?;
        let columns = (means.len() / counts.len()).max(1);
        for (row, count) in means.chunks_mut(columns).zip(counts) {
            row.iter_mut()
                .for_each(|value| *value = mean(*value, count));
        }
        importance.entries.insert(name.to_owned(), means);
    }
    Ok(importance)
}

/// The importance of a column from its sum of squares.
pub(super) fn mean(sum: f32, count: f32) -> f32 {
    let count = count.round();
    // No token was sent to this expert: all its columns get the same importance.
    if count > 0.0 { sum / count } else { 1.0 }
}

fn numbers(reader: &mut (impl Read + Seek), tensor: &TensorInfo) -> Option<Vec<f32>> {
    if tensor.dtype != Dtype::F32 || tensor.bytes.0 > VALUES_LIMIT * 4 {
        return None;
    }
    reader.seek(SeekFrom::Start(tensor.offset)).ok()?;
    let mut content = vec![0; usize::try_from(tensor.bytes.0).ok()?];
    reader.read_exact(&mut content).ok()?;
    Some(f32s(&content))
}
