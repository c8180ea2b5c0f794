//! Writes a GGUF version 3 header, and computes its exact size and that of the whole file beforehand.
//!
//! In: metadata and tensor descriptions. Out: bytes, or their number. Must not: hold tensor data.

use std::collections::HashSet;
use std::io::{self, Write};

use super::value::{Value, ValueType};
use crate::dtype::Dtype;
use crate::units::Bytes;

/// The alignment of the tensor data and of each tensor in bytes: the format's default.
pub const ALIGNMENT: u64 = 32;

/// Bytes of magic number, version, tensor count and pair count.
const PREAMBLE: u64 = 4 + 4 + 8 + 8;

/// A tensor to be described by a header.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorEntry<'a> {
    /// The GGUF name.
    pub name: &'a str,
    /// The element format its data will have.
    pub dtype: Dtype,
    /// Outermost dimension first, rows last; one to four dimensions.
    pub shape: &'a [u64],
}

/// A header that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written.
    #[error("cannot be written: {0}")]
    Io(#[from] io::Error),
    /// An array without elements has no type, and runtimes refuse it.
    #[error("metadata key `{key}` is an empty array; leave the key out")]
    EmptyArray {
        /// The key.
        key: String,
    },
    /// Elements of several types, or of a type that arrays cannot have.
    #[error("metadata key `{key}` is an array with {found} among elements of type {expected}")]
    MixedArray {
        /// The key.
        key: String,
        /// The first element's type.
        expected: String,
        /// The other type.
        found: String,
    },
    /// The array is still in the file that it came from.
    #[error("metadata key `{key}` is {found} that still lies in its file; read it first")]
    Located {
        /// The key.
        key: String,
        /// Its type and length.
        found: String,
    },
    /// A key occurs twice.
    #[error("metadata key `{0}` appears twice")]
    DuplicateKey(String),
    /// A tensor name occurs twice.
    #[error("tensor name `{0}` appears twice")]
    DuplicateTensor(String),
    /// GGUF does not have the type.
    #[error("tensor `{name}` is {dtype}, which GGUF does not have")]
    NotGguf {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: &'static str,
    },
    /// A number of dimensions that GGUF does not have, rows that are not whole blocks, or a size beyond 63 bits.
    #[error(
        "tensor `{name}` of type {dtype} has shape {shape:?}; GGUF needs one to four dimensions, rows of whole blocks, and a size below 2^63"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: &'static str,
        /// Its shape, outermost first.
        shape: Vec<u64>,
    },
}

/// Bytes of the key-value pairs.
pub fn metadata_bytes(metadata: &[(String, Value)]) -> Bytes {
    let pair =
        |(key, value): &(String, Value)| Bytes(8 + key.len() as u64 + 4 + value_bytes(value));
    metadata.iter().map(pair).sum()
}

/// Bytes of a header: preamble, key-value pairs and one description per tensor, given by its name
/// and its number of dimensions. Padding to [`ALIGNMENT`] is not included.
pub fn header_bytes<'a>(
    metadata: &[(String, Value)],
    tensors: impl IntoIterator<Item = (&'a str, usize)>,
) -> Bytes {
    let description =
        |(name, dims): (&str, usize)| Bytes(8 + name.len() as u64 + 4 + 8 * dims as u64 + 4 + 8);
    let tensors: Bytes = tensors.into_iter().map(description).sum();
    Bytes(PREAMBLE) + metadata_bytes(metadata) + tensors
}

/// Bytes of a file: its header and each of its tensors, padded to [`ALIGNMENT`].
pub fn file_bytes(header: Bytes, tensors: impl IntoIterator<Item = Bytes>) -> Bytes {
    padded(header) + tensors.into_iter().map(padded).sum()
}

/// The byte offset of each tensor in a file whose header ends at `start` (rounded up to the alignment), and the size of
/// the file.
pub fn data_offsets(start: Bytes, tensors: impl IntoIterator<Item = Bytes>) -> (Vec<u64>, Bytes) {
    let mut end = padded(start);
    let place = |bytes| {
        let offset = end.0;
        end += padded(bytes);
        offset
    };
    let offsets = tensors.into_iter().map(place).collect();
    (offsets, end)
}

/// Writes a header with its padding, and returns the bytes written, which is the offset of the first tensor's data. The
/// data must follow in this order, each tensor padded to [`ALIGNMENT`].
///
/// # Errors
/// [`WriteError::Io`] if `out` fails. Metadata and tensors that GGUF cannot hold are refused with another variant
/// before anything is written.
pub fn write_header(
    out: &mut impl Write,
    metadata: &[(String, Value)],
    tensors: &[TensorEntry<'_>],
) -> Result<Bytes, WriteError> {
    check(metadata)?;
    let described = described(tensors)?;
    out.write_all(b"GGUF")?;
    out.write_all(&3u32.to_le_bytes())?;
    out.write_all(&(tensors.len() as u64).to_le_bytes())?;
    out.write_all(&(metadata.len() as u64).to_le_bytes())?;
    for (key, value) in metadata {
        write_string(out, key)?;
        out.write_all(&value_type(value).id().to_le_bytes())?;
        write_value(out, value)?;
    }
    for (tensor, (id, offset)) in tensors.iter().zip(described) {
        write_string(out, tensor.name)?;
        out.write_all(&(tensor.shape.len() as u32).to_le_bytes())?;
        for dimension in tensor.shape.iter().rev() {
            out.write_all(&dimension.to_le_bytes())?;
        }
        out.write_all(&id.to_le_bytes())?;
        out.write_all(&offset.to_le_bytes())?;
    }
    let header = header_bytes(metadata, tensors.iter().map(|t| (t.name, t.shape.len())));
    let end = padded(header);
    let padding = [0; ALIGNMENT as usize];
    out.write_all(padding.get(..(end.0 - header.0) as usize).unwrap_or(&[]))?;
    Ok(end)
}

fn padded(bytes: Bytes) -> Bytes {
    match bytes.0.checked_next_multiple_of(ALIGNMENT) {
        Some(padded) => Bytes(padded),
        None => bytes,
    }
}

/// Bytes of a value without its type; those of an array include its element type and length.
fn value_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => 8 + text.len() as u64,
        Value::Array(values) => 4 + 8 + values.iter().map(value_bytes).sum::<u64>(),
        Value::Strings(list) => 4 + 8 + 8 * list.len() as u64 + list.text_bytes() as u64,
        Value::I32s(list) => 4 + 8 + 4 * list.len() as u64,
        Value::F32s(list) => 4 + 8 + 4 * list.len() as u64,
        Value::Located { bytes, .. } => 4 + 8 + bytes,
        scalar => value_type(scalar).least_bytes(),
    }
}

fn value_type(value: &Value) -> ValueType {
    match value {
        Value::U8(_) => ValueType::U8,
        Value::I8(_) => ValueType::I8,
        Value::U16(_) => ValueType::U16,
        Value::I16(_) => ValueType::I16,
        Value::U32(_) => ValueType::U32,
        Value::I32(_) => ValueType::I32,
        Value::F32(_) => ValueType::F32,
        Value::Bool(_) => ValueType::Bool,
        Value::String(_) => ValueType::String,
        Value::U64(_) => ValueType::U64,
        Value::I64(_) => ValueType::I64,
        Value::F64(_) => ValueType::F64,
        Value::Array(_)
        | Value::Strings(_)
        | Value::I32s(_)
        | Value::F32s(_)
        | Value::Located { .. } => ValueType::Array,
    }
}

/// Checks that every pair can be written.
fn check(metadata: &[(String, Value)]) -> Result<(), WriteError> {
    let mut keys = HashSet::new();
    for (key, value) in metadata {
        if !keys.insert(key) {
            return Err(WriteError::DuplicateKey(key.clone()));
        }
        let (key, found) = (key.clone(), value.type_name());
        let empty = match value {
            Value::Located { .. } => return Err(WriteError::Located { key, found }),
            Value::Array(values) => {
                let expected = values.first().map(value_type);
                let odd = |v: &&Value| {
                    Some(value_type(v)) != expected || value_type(v) == ValueType::Array
                };
                if let Some(other) = values.iter().find(odd) {
                    return Err(WriteError::MixedArray {
                        key,
                        expected: expected.map_or("nothing", ValueType::name).to_owned(),
                        found: other.type_name(),
                    });
                }
                values.is_empty()
            }
            Value::Strings(list) => list.is_empty(),
            Value::I32s(list) => list.is_empty(),
            Value::F32s(list) => list.is_empty(),
            _ => false,
        };
        if empty {
            return Err(WriteError::EmptyArray { key });
        }
    }
    Ok(())
}

/// The type id of each tensor, and its offset from the start of the tensor data.
fn described(tensors: &[TensorEntry<'_>]) -> Result<Vec<(u32, u64)>, WriteError> {
    let (mut end, mut names) = (0u64, HashSet::new());
    let mut described = Vec::with_capacity(tensors.len());
    for &TensorEntry { name, dtype, shape } in tensors {
        if !names.insert(name) {
            return Err(WriteError::DuplicateTensor(name.to_owned()));
        }
        let Some(id) = dtype.format().ggml_id else {
            return Err(WriteError::NotGguf {
                name: name.to_owned(),
                dtype: dtype.name(),
            });
        };
        let bytes = dtype
            .bytes(shape)
            .filter(|_| (1..=4).contains(&shape.len()))
            .and_then(|bytes| end.checked_add(padded(bytes).0))
            .filter(|&next| next <= i64::MAX as u64);
        let Some(next) = bytes else {
            return Err(WriteError::Shape {
                name: name.to_owned(),
                dtype: dtype.name(),
                shape: shape.to_vec(),
            });
        };
        described.push((id, end));
        end = next;
    }
    Ok(described)
}

fn write_value(out: &mut impl Write, value: &Value) -> io::Result<()> {
    match value {
        Value::U8(n) => out.write_all(&n.to_le_bytes()),
        Value::I8(n) => out.write_all(&n.to_le_bytes()),
        Value::U16(n) => out.write_all(&n.to_le_bytes()),
        Value::I16(n) => out.write_all(&n.to_le_bytes()),
        Value::U32(n) => out.write_all(&n.to_le_bytes()),
        Value::I32(n) => out.write_all(&n.to_le_bytes()),
        Value::U64(n) => out.write_all(&n.to_le_bytes()),
        Value::I64(n) => out.write_all(&n.to_le_bytes()),
        Value::F32(x) => out.write_all(&x.to_le_bytes()),
        Value::F64(x) => out.write_all(&x.to_le_bytes()),
        Value::Bool(b) => out.write_all(&[u8::from(*b)]),
        Value::String(text) => write_string(out, text),
        Value::Array(values) => {
            let element = values.first().map_or(ValueType::U8, value_type);
            write_array(out, element, values, |out, v| write_value(out, v))
        }
        Value::Strings(list) => {
            write_array_head(out, ValueType::String, list.len())?;
            list.iter().try_for_each(|text| write_string(out, text))
        }
        Value::I32s(list) => write_array(out, ValueType::I32, list, |out, n| {
            out.write_all(&n.to_le_bytes())
        }),
        Value::F32s(list) => write_array(out, ValueType::F32, list, |out, x| {
            out.write_all(&x.to_le_bytes())
        }),
        // `check` has refused it.
        Value::Located { .. } => Ok(()),
    }
}

fn write_array<W: Write, T>(
    out: &mut W,
    element: ValueType,
    values: &[T],
    mut write: impl FnMut(&mut W, &T) -> io::Result<()>,
) -> io::Result<()> {
    write_array_head(out, element, values.len())?;
    values.iter().try_for_each(|value| write(out, value))
}

fn write_array_head(out: &mut impl Write, element: ValueType, len: usize) -> io::Result<()> {
    out.write_all(&element.id().to_le_bytes())?;
    out.write_all(&(len as u64).to_le_bytes())
}

fn write_string(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}
