//! The positions of a GGUF file's tensors: alignment, absolute offsets, and the check that no two overlap.

use super::error::Problem;
use super::value::{Metadata, Value};
use crate::dtype::Dtype;
use crate::units::Bytes;

const DEFAULT_ALIGNMENT: u32 = 32;
/// The largest alignment that is accepted, in bytes; no writer uses a larger one.
const ALIGNMENT_LIMIT: u32 = 1 << 20;

/// A tensor described by a GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// The name.
    pub name: String,
    /// The element format.
    pub dtype: Dtype,
    /// One to four dimensions, outermost first, the elements of a row last (`ne` reversed).
    pub shape: Vec<u64>,
    /// Byte offset from the start of the file.
    pub offset: u64,
    /// Exact size; `offset + bytes` lies within the file.
    pub bytes: Bytes,
}

/// `general.alignment`, or the format's default of 32.
pub(super) fn alignment(metadata: &Metadata) -> Result<u32, Problem> {
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(&Value::U32(value)) if value.is_power_of_two() && value <= ALIGNMENT_LIMIT => {
            Ok(value)
        }
        Some(&Value::U32(value)) => Err(Problem::Alignment {
            value,
            limit: ALIGNMENT_LIMIT,
        }),
        Some(other) => Err(Problem::AlignmentType {
            found: other.type_name(),
        }),
    }
}

/// Makes relative offsets absolute and checks that every tensor is aligned, lies inside the file and overlaps no other.
pub(super) fn place(
    tensors: &mut [TensorInfo],
    alignment: u32,
    data_offset: u64,
    file_bytes: u64,
) -> Result<(), Problem> {
    for tensor in tensors.iter_mut() {
        let (name, offset, bytes) = (&tensor.name, tensor.offset, tensor.bytes.0);
        if !offset.is_multiple_of(alignment.into()) {
            return Err(Problem::Misaligned {
                name: name.clone(),
                offset,
                alignment,
            });
        }
        let start = data_offset.checked_add(offset);
        match start.and_then(|start| start.checked_add(bytes)) {
            Some(end) if end <= file_bytes => tensor.offset = end - bytes,
            _ => {
                return Err(Problem::OutOfFile {
                    name: name.clone(),
                    offset,
                    bytes,
                    file_bytes,
                });
            }
        }
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().filter(|tensor| tensor.bytes.0 > 0).collect();
    order.sort_by_key(|tensor| tensor.offset);
    for (first, second) in order.iter().zip(order.iter().skip(1)) {
        let end = first.offset + first.bytes.0;
        if end > second.offset {
            let (first, start) = (first.name.clone(), second.offset);
            return Err(Problem::Overlap {
                first,
                second: second.name.clone(),
                end,
                start,
            });
        }
    }
    Ok(())
}
