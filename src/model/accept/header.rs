//! Metadata read as llama.cpp reads it: by the exact type.

use std::path::Path;

use super::AcceptError;
use crate::gguf::{self, Value, ValueType};
use crate::model::loader::Form;

/// llama.cpp's room for what each block has one of (`LLAMA_MAX_LAYERS`).
pub(super) const MOST_BLOCKS: u64 = 512;

pub(super) struct Header<'a> {
    pub(super) metadata: &'a [(String, Value)],
    /// The file in which long arrays still lie.
    pub(super) file: Option<&'a Path>,
}

impl<'a> Header<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        let pair = self.metadata.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    /// That `key` is of `form`, if it is there, in a file of `blocks` blocks.
    pub(super) fn held(&self, key: &str, form: Form, blocks: u64) -> Result<(), AcceptError> {
        let Some(value) = self.get(key) else {
            return Ok(());
        };
        let each = matches!(
            array(value),
            Some((ValueType::Bool | ValueType::U32 | ValueType::I32, _))
        );
        let (is, expected) = match form {
            Form::Count => (matches!(value, Value::U32(_)), "u32"),
            Form::Float => (matches!(value, Value::F32(_)), "f32"),
            Form::Flag => (matches!(value, Value::Bool(_)), "bool"),
            Form::Text => (matches!(value, Value::String(_)), "a string"),
            Form::PerBlock | Form::Window => (
                matches!(value, Value::U32(_)) || each,
                "u32 or an array of u32, i32 or bool",
            ),
            Form::Sections => (
                matches!(value, Value::I32(_)) || each,
                "i32 or an array of i32",
            ),
            Form::WindowOfEachBlock => (each, "an array of bool"),
        };
        if !is {
            return Err(wrong(key, value, expected));
        }
        let (expected, of) = match form {
            Form::PerBlock => (blocks, "one for each block"),
            Form::Sections => (4, "one for each dimension of positions"),
            _ => return Ok(()),
        };
        match array(value) {
            Some((_, found)) if found != expected => Err(AcceptError::Length {
                key: key.to_owned(),
                found,
                expected,
                of,
            }),
            _ => Ok(()),
        }
    }

    /// A number of 32 bits.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, AcceptError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U32(count)) => Ok(Some((*count).into())),
            Some(other) => Err(wrong(key, other, "u32")),
        }
    }

    /// The largest of the numbers of `key`, one or one for each block; 0 where it is not there.
    pub(super) fn most(&self, key: &str) -> u64 {
        match self.get(key) {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_u64).max(),
            Some(Value::I32s(values)) => {
                let largest = values.iter().copied().max();
                largest.and_then(|n| u64::try_from(n).ok())
            }
            Some(value) => value.as_u64(),
            None => None,
        }
        .unwrap_or(0)
    }

    /// The length of an array of one of `of`.
    pub(super) fn list(
        &self,
        key: &str,
        of: &[ValueType],
        expected: &'static str,
    ) -> Result<Option<u64>, AcceptError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match array(value) {
                Some((element, len)) if of.contains(&element) => Ok(Some(len)),
                _ => Err(wrong(key, value, expected)),
            },
        }
    }

    /// The texts of an array of strings, wherever it lies; none where the file is not at hand.
    pub(super) fn texts(
        &self,
        key: &str,
    ) -> Result<Box<dyn Iterator<Item = Result<String, AcceptError>> + 'a>, AcceptError> {
        Ok(match (self.get(key), self.file) {
            (Some(Value::Strings(list)), _) => {
                Box::new(list.iter().map(|text| Ok(text.to_owned())))
            }
            (Some(value @ Value::Located { .. }), Some(file)) => {
                let elements = gguf::elements(file, value).map_err(unreadable)?;
                Box::new(elements.filter_map(|element| match element {
                    Ok(Value::String(text)) => Some(Ok(text)),
                    Ok(_) => None,
                    Err(error) => Some(Err(unreadable(error))),
                }))
            }
            (Some(Value::Array(values)), _) => {
                Box::new(values.iter().filter_map(|value| match value {
                    Value::String(text) => Some(Ok(text.clone())),
                    _ => None,
                }))
            }
            _ => Box::new(std::iter::empty()),
        })
    }
}

fn unreadable(error: gguf::ReadError) -> AcceptError {
    AcceptError::Unreadable(error.to_string())
}

pub(super) fn missing(key: impl Into<String>) -> AcceptError {
    AcceptError::Missing { key: key.into() }
}

pub(super) fn wrong(key: &str, found: &Value, expected: &'static str) -> AcceptError {
    AcceptError::Type {
        key: key.to_owned(),
        found: found.type_name(),
        expected,
    }
}

/// An array's element type and length.
fn array(value: &Value) -> Option<(ValueType, u64)> {
    let (element, len) = match value {
        Value::Strings(list) => (ValueType::String, list.len()),
        Value::I32s(list) => (ValueType::I32, list.len()),
        Value::F32s(list) => (ValueType::F32, list.len()),
        Value::Array(values) => match values.first()? {
            Value::String(_) => (ValueType::String, values.len()),
            Value::Bool(_) => (ValueType::Bool, values.len()),
            Value::U32(_) => (ValueType::U32, values.len()),
            Value::I32(_) => (ValueType::I32, values.len()),
            Value::F32(_) => (ValueType::F32, values.len()),
            _ => return None,
        },
        Value::Located {
            element_type, len, ..
        } => return Some((ValueType::from_id(*element_type)?, *len)),
        _ => return None,
    };
    Some((element, len as u64))
}
