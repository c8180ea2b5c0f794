//! Writes safetensors headers. In: tensors. Out: the bytes before the data, and the offset of each tensor.
//!
//! Tensors are ordered as by the format's own library, larger elements first, then by name, so that each is aligned to
//! the size of its elements. Must not: write tensor data.

use serde_json::{Map, Value, json};

use crate::dtype::Dtype;

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// Its element format, one that safetensors has.
    pub dtype: Dtype,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
}

impl NewTensor {
    /// Its size in bytes; 0 if the size does not fit into 64 bits.
    pub fn bytes(&self) -> u64 {
        let elements = self.shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let bytes = elements.and_then(|elements| self.dtype.bytes(&[elements]));
        bytes.map_or(0, |bytes| bytes.0)
    }
}

/// The header of a file to be written, and where the tensors go.
#[derive(Clone, Debug, PartialEq)]
pub struct NewHeader {
    /// The bytes before the tensor data.
    pub bytes: Vec<u8>,
    /// The offset of each tensor from the start of the file, in the order they were given.
    pub offsets: Vec<u64>,
    /// The size of the whole file.
    pub file_bytes: u64,
}

/// Element formats in the order in which their tensors are written: the library's list of types, backwards.
const ORDER: &[Dtype] = &[
    Dtype::U64,
    Dtype::I64,
    Dtype::F64,
    Dtype::C64,
    Dtype::F32,
    Dtype::U32,
    Dtype::I32,
    Dtype::BF16,
    Dtype::F16,
    Dtype::U16,
    Dtype::I16,
    Dtype::F8_E5M2FNUZ,
    Dtype::F8_E4M3FNUZ,
    Dtype::F8_E8M0,
    Dtype::F8_E4M3,
    Dtype::F8_E5M2,
    Dtype::I8,
    Dtype::U8,
    Dtype::F6_E3M2,
    Dtype::F6_E2M3,
    Dtype::F4,
    Dtype::BOOL,
];

/// Lays out `tensors`, whose names must all differ, in a file. Its metadata says `format: pt`, without which
/// Transformers refuses to load it.
pub fn header(tensors: &[NewTensor]) -> NewHeader {
    let rank = |dtype| ORDER.iter().position(|&d| d == dtype);
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| tensors.get(i).map(|t| (rank(t.dtype), &t.name)));
    let mut entries = Map::new();
    entries.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut offsets = vec![0u64; tensors.len()];
    let mut end = 0u64;
    for index in order {
        let (Some(tensor), Some(offset)) = (tensors.get(index), offsets.get_mut(index)) else {
            continue;
        };
        *offset = end;
        end = end.saturating_add(tensor.bytes());
        let dtype = tensor.dtype.format().safetensors.unwrap_or_default();
        let entry = json!({
            "dtype": dtype, "shape": tensor.shape, "data_offsets": [*offset, end]
        });
        entries.insert(tensor.name.clone(), entry);
    }
    let mut json = Value::Object(entries).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    let data = bytes.len() as u64;
    for offset in &mut offsets {
        *offset = offset.saturating_add(data);
    }
    NewHeader {
        bytes,
        offsets,
        file_bytes: data.saturating_add(end),
    }
}
