//! Reads a GGUF header strictly: what a runtime would misread is an error with its place in the file.

use std::collections::HashSet;
use std::io::{Read, Seek};
use std::path::Path;

use super::cursor::Cursor;
use super::error::{Problem, ReadError};
use super::layout::{self, TensorInfo};
use super::value::{Metadata, Value, ValueType};
use crate::dtype::{Dtype, FORMATS};
use crate::input::{self, OpenError};

/// The longest key and tensor name in bytes: the format's limit for keys. (Its limit for tensor
/// names is 64, which diffusion models exceed.)
const NAME_LIMIT: u64 = 65_535;
/// Numeric and boolean arrays up to this length are read into memory: those with one value per block.
const KEPT_NUMBERS: u64 = 4096;
/// String arrays up to this length are read into memory: tags and languages, but no vocabulary.
const KEPT_STRINGS: u64 = 64;
/// Elements read into memory over all arrays, 32 bytes each: a file of many short arrays must not take
/// many times its size.
const KEPT_ELEMENTS: u64 = 1 << 20;
/// Bytes of the smallest key-value pair: a key of one byte and a value of one byte.
const LEAST_PAIR: u64 = 8 + 1 + 4 + 1;
/// Bytes of the smallest tensor description: a name of one byte and one dimension.
const LEAST_TENSOR: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// The header of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The format version: 2 or 3.
    pub version: u32,
    /// Tensor offsets are multiples of this many bytes: `general.alignment`, or 32.
    pub alignment: u32,
    /// Key-value pairs in file order.
    pub metadata: Metadata,
    /// Tensors in the order of their descriptions.
    pub tensors: Vec<TensorInfo>,
    /// Length in bytes, up to the end of the tensor descriptions.
    pub header_bytes: u64,
    /// Byte offset of the tensor data: `header_bytes` padded to the alignment.
    pub data_offset: u64,
    /// The size of the file in bytes, weights included.
    pub file_bytes: u64,
}

/// Whether the file at `path` begins with GGUF's magic number.
///
/// # Errors
/// As [`input::open`], and [`OpenError::Io`] where its first bytes cannot be read.
pub(crate) fn starts_as_gguf(path: &Path) -> Result<bool, OpenError> {
    let (file, _) = input::open(path)?;
    let mut magic = Vec::new();
    let read = file.take(4).read_to_end(&mut magic);
    read.map_err(|source| OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(magic == b"GGUF")
}

/// Reads the header of the GGUF file at `path`. A file called `NAME.header.gguf` may end after the header.
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

/// Reads a GGUF header from the start of anything that reads and seeks.
///
/// Gaps between tensors and bytes after the last one are accepted; tensor data is not read.
///
/// # Errors
/// Every [`Problem`]: among them another version or byte order, a count or length beyond the rest
/// of the file, a duplicate key or tensor, a tensor type that ggml does not define, a row that is
/// not whole blocks, and data that is misaligned, overlapping or outside the file.
pub fn read_header_from(reader: impl Read + Seek) -> Result<Header, Problem> {
    read(reader, false)
}

fn read(reader: impl Read + Seek, header_only: bool) -> Result<Header, Problem> {
    let mut cursor = Cursor::new(reader, 0)?;
    let version = read_version(&mut cursor)?;
    let tensor_count = cursor.u64()?;
    let pair_count = cursor.u64()?;
    check_count("metadata pairs", pair_count, cursor.left() / LEAST_PAIR)?;
    let metadata = read_metadata(&mut cursor, pair_count)?;
    let alignment = layout::alignment(&metadata)?;

    check_count("tensors", tensor_count, cursor.left() / LEAST_TENSOR)?;
    let mut tensors = Vec::new();
    for index in 0..tensor_count {
        tensors.push(read_tensor(&mut cursor, index)?);
    }
    if let Some(name) = duplicate(tensors.iter().map(|tensor| &*tensor.name)) {
        return Err(Problem::DuplicateTensor(name.to_owned()));
    }

    let header_bytes = cursor.at();
    let data_offset = header_bytes.next_multiple_of(alignment.into());
    let limit = if header_only {
        u64::MAX - u64::from(alignment)
    } else {
        cursor.file_bytes()
    };
    layout::place(&mut tensors, alignment, data_offset, limit)?;
    let file_bytes = if header_only {
        let ends = tensors.iter().map(|tensor| tensor.offset + tensor.bytes.0);
        let end = ends.max().unwrap_or(data_offset);
        end.next_multiple_of(alignment.into())
    } else {
        cursor.file_bytes()
    };
    Ok(Header {
        version,
        alignment,
        metadata,
        tensors,
        header_bytes,
        data_offset,
        file_bytes,
    })
}

fn read_version(cursor: &mut Cursor<impl Read + Seek>) -> Result<u32, Problem> {
    let magic: [u8; 4] = cursor.bytes()?;
    match &magic {
        b"GGUF" => {}
        b"vers" => return Err(Problem::LfsPointer),
        _ => {
            return Err(Problem::Magic {
                found: magic.escape_ascii().to_string(),
            });
        }
    }
    match cursor.u32()? {
        version @ (2 | 3) => Ok(version),
        1 => Err(Problem::Version1),
        // A small version number in the other byte order has zeros in its low half.
        other if other != 0 && other & 0xffff == 0 => Err(Problem::BigEndian),
        other => Err(Problem::Version(other)),
    }
}

fn read_metadata(cursor: &mut Cursor<impl Read + Seek>, count: u64) -> Result<Metadata, Problem> {
    let mut pairs: Vec<(String, Value)> = Vec::new();
    let mut kept = 0;
    for index in 0..count {
        cursor.place = format!("metadata key {index}");
        let key = cursor.name(NAME_LIMIT)?;
        cursor.place = format!("metadata key `{key}`");
        let value = match read_type(cursor)? {
            ValueType::Array => read_array(cursor, &mut kept)?,
            scalar => read_scalar(cursor, scalar)?,
        };
        pairs.push((key, value));
    }
    match duplicate(pairs.iter().map(|(key, _)| &**key)) {
        Some(key) => Err(Problem::DuplicateKey(key.to_owned())),
        None => Ok(Metadata(pairs)),
    }
}

fn read_type(cursor: &mut Cursor<impl Read + Seek>) -> Result<ValueType, Problem> {
    let id = cursor.u32()?;
    ValueType::from_id(id).ok_or_else(|| Problem::ValueType {
        place: cursor.place.clone(),
        id,
    })
}

/// Reads one value that is not an array.
pub(super) fn read_scalar(
    cursor: &mut Cursor<impl Read + Seek>,
    value_type: ValueType,
) -> Result<Value, Problem> {
    Ok(match value_type {
        ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.bytes()?)),
        ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.bytes()?)),
        ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.bytes()?)),
        ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.bytes()?)),
        ValueType::U32 => Value::U32(cursor.u32()?),
        ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.bytes()?)),
        ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.bytes()?)),
        ValueType::U64 => Value::U64(cursor.u64()?),
        ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.bytes()?)),
        ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.bytes()?)),
        ValueType::String => Value::String(cursor.string()?),
        ValueType::Bool => match u8::from_le_bytes(cursor.bytes()?) {
            value @ (0 | 1) => Value::Bool(value == 1),
            value => {
                return Err(Problem::Bool {
                    place: cursor.place.clone(),
                    value,
                });
            }
        },
        ValueType::Array => {
            return Err(Problem::NestedArray {
                place: cursor.place.clone(),
            });
        }
    })
}

fn read_array(cursor: &mut Cursor<impl Read + Seek>, kept: &mut u64) -> Result<Value, Problem> {
    let element = read_type(cursor)?;
    let len = cursor.u64()?;
    if element == ValueType::Array {
        return Err(Problem::NestedArray {
            place: cursor.place.clone(),
        });
    }
    let room = cursor.left() / element.least_bytes();
    if len > room {
        return Err(Problem::ArrayLength {
            place: cursor.place.clone(),
            len,
            room,
        });
    }
    let most = if element == ValueType::String {
        KEPT_STRINGS
    } else {
        KEPT_NUMBERS
    };
    // An empty array stays located, since `Value::Array` would lose its element type, which a copy needs.
    if (1..=most).contains(&len) && *kept + len <= KEPT_ELEMENTS {
        *kept += len;
        let values = (0..len)
            .map(|_| read_scalar(cursor, element))
            .collect::<Result<_, _>>();
        return values.map(Value::Array);
    }
    let offset = cursor.at();
    match element {
        ValueType::String => cursor.skip_strings(len)?,
        // `len` is at most `room`, so the product is at most the bytes left.
        number => cursor.skip(len * number.least_bytes())?,
    }
    Ok(Value::Located {
        element_type: element.id(),
        len,
        offset,
        bytes: cursor.at() - offset,
    })
}

/// Reads one tensor description. Its offset is still relative to the start of the tensor data.
fn read_tensor(cursor: &mut Cursor<impl Read + Seek>, index: u64) -> Result<TensorInfo, Problem> {
    cursor.place = format!("tensor {index}");
    let name = cursor.name(NAME_LIMIT)?;
    cursor.place = format!("tensor `{name}`");
    let dims = cursor.u32()?;
    if !(1..=4).contains(&dims) {
        return Err(Problem::Dimensions { name, dims });
    }
    let mut shape = (0..dims)
        .map(|_| cursor.u64())
        .collect::<Result<Vec<u64>, _>>()?;
    shape.reverse();
    let id = cursor.u32()?;
    let Some(dtype) = Dtype::from_ggml_id(id) else {
        let newest = FORMATS
            .iter()
            .filter_map(|format| format.ggml_id)
            .max()
            .unwrap_or(0);
        return Err(Problem::TensorType { name, id, newest });
    };
    let offset = cursor.u64()?;
    let row = shape.last().copied().unwrap_or(1);
    if !dtype.divides(row) {
        let block = dtype.format().block_elements;
        return Err(Problem::RowBlock {
            name,
            dtype: dtype.name(),
            row,
            block,
        });
    }
    // ggml counts elements in a signed 64-bit integer.
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    match (elements, dtype.bytes(&shape)) {
        (Some(n), Some(bytes)) if n.max(bytes.0) <= i64::MAX as u64 => Ok(TensorInfo {
            name,
            dtype,
            shape,
            offset,
            bytes,
        }),
        _ => Err(Problem::ShapeOverflow { name, shape }),
    }
}

fn check_count(what: &'static str, count: u64, room: u64) -> Result<(), Problem> {
    if count > room {
        Err(Problem::Count { what, count, room })
    } else {
        Ok(())
    }
}

/// The first name that occurs a second time.
fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
