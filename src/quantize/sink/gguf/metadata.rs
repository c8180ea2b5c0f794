//! The metadata of the GGUF to be written: that of conversion, or that of the source GGUF with the new file type.

use crate::checkpoint::{Checkpoint, RawConfig};
use crate::convert::{self, ConvertError, QUANTIZATION_VERSION};
use crate::gguf::{self, StringList, Value, ValueType};
use crate::model::ModelSpec;
use crate::quantize::error::QuantizeError;

/// Keys that describe only the source file: how it was split, and its alignment.
const DROPPED: &[&str] = &[
    "split.no",
    "split.count",
    "split.tensors.count",
    "general.alignment",
    FILE_TYPE,
    VERSION,
];

const FILE_TYPE: &str = "general.file_type";
const VERSION: &str = "general.quantization_version";

/// The metadata of `checkpoint` as a GGUF of `file_type`. For a Hugging Face checkpoint it is
/// [`convert::metadata`]; a GGUF keeps its own except for the keys of its own layout (split, alignment), with the file
/// type and the version of the block formats at the end, as `llama-quantize` writes them. Long
/// arrays of a GGUF are not read, they stay located in it.
///
/// # Errors
/// [`ConvertError`] as [`convert::metadata`], for Hugging Face checkpoints only.
pub fn metadata(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    file_type: u32,
) -> Result<Vec<(String, Value)>, ConvertError> {
    let RawConfig::Gguf(kept) = &checkpoint.config else {
        return convert::metadata(checkpoint, model, file_type);
    };
    // Runtimes refuse files with an empty array.
    let empty = |value: &Value| match value {
        Value::Located { len, .. } => *len == 0,
        Value::Array(values) => values.is_empty(),
        _ => false,
    };
    let stays = |(key, value): &&(String, Value)| !DROPPED.contains(&key.as_str()) && !empty(value);
    let mut pairs: Vec<(String, Value)> = kept.0.iter().filter(stays).cloned().collect();
    pairs.push((VERSION.to_owned(), Value::U32(QUANTIZATION_VERSION)));
    pairs.push((FILE_TYPE.to_owned(), Value::U32(file_type)));
    Ok(pairs)
}

/// `pairs` with all located arrays read from the checkpoint's first file.
pub(super) fn resolve(
    checkpoint: &Checkpoint,
    pairs: &[(String, Value)],
) -> Result<Vec<(String, Value)>, QuantizeError> {
    let read = |(key, value): &(String, Value)| {
        let value = match (value, checkpoint.files.first()) {
            (Value::Located { element_type, .. }, Some(file)) => {
                let elements = gguf::elements(&file.path, value)?;
                array(ValueType::from_id(*element_type), elements)?
            }
            (value, _) => value.clone(),
        };
        Ok((key.clone(), value))
    };
    pairs.iter().map(read).collect()
}

/// Elements of one type as an array, in the form that takes the least memory.
fn array(
    element: Option<ValueType>,
    mut elements: gguf::Elements,
) -> Result<Value, gguf::ReadError> {
    Ok(match element {
        Some(ValueType::String) => {
            let mut list = StringList::default();
            elements.try_for_each(|value| {
                if let Value::String(text) = value? {
                    list.push(&text);
                }
                Ok::<_, gguf::ReadError>(())
            })?;
            Value::Strings(list)
        }
        Some(ValueType::I32) => Value::I32s(numbers(elements, |value| match value {
            Value::I32(n) => Some(n),
            _ => None,
        })?),
        Some(ValueType::F32) => Value::F32s(numbers(elements, |value| match value {
            Value::F32(x) => Some(x),
            _ => None,
        })?),
        _ => Value::Array(elements.collect::<Result<_, _>>()?),
    })
}

fn numbers<T>(
    elements: gguf::Elements,
    take: impl Fn(Value) -> Option<T>,
) -> Result<Vec<T>, gguf::ReadError> {
    elements
        .filter_map(|value| value.map(&take).transpose())
        .collect()
}
