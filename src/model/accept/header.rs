//! Metadata read as llama.cpp reads it: a value of another type than expected is refused.

use std::path::Path;

use super::AcceptError;
use crate::gguf::{self, Value, ValueType};
use crate::model::loader::ValueForm;

/// The most blocks that llama.cpp has room for (`LLAMA_MAX_LAYERS`).
pub(super) const MOST_BLOCKS: u64 = 512;

/// The metadata of a file.
pub(super) struct TypedHeader<'a> {
    pub(super) metadata: &'a [(String, Value)],
    /// The file in which long arrays are located, if it is at hand.
    pub(super) file: Option<&'a Path>,
}

impl<'a> TypedHeader<'a> {
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        let pair = self.metadata.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    /// Checks that `key`, if present, has the form `form` in a file of `blocks` blocks.
    pub(super) fn check_form(
        &self,
        key: &str,
        form: ValueForm,
        blocks: u64,
    ) -> Result<(), AcceptError> {
        let Some(value) = self.get(key) else {
            return Ok(());
        };
        let each = matches!(
            array(value),
            Some((ValueType::Bool | ValueType::U32 | ValueType::I32, _))
        );
        let (is, expected) = match form {
            ValueForm::Count => (matches!(value, Value::U32(_)), "u32"),
            ValueForm::Float => (matches!(value, Value::F32(_)), "f32"),
            ValueForm::Flag => (matches!(value, Value::Bool(_)), "bool"),
            ValueForm::Text => (matches!(value, Value::String(_)), "a string"),
            ValueForm::PerBlock | ValueForm::Window => (
                matches!(value, Value::U32(_)) || each,
                "u32 or an array of u32, i32 or bool",
            ),
            ValueForm::Sections => (
                matches!(value, Value::I32(_)) || each,
                "i32 or an array of i32",
            ),
            ValueForm::WindowOfEachBlock => (each, "an array of bool"),
            ValueForm::BareFloats => (
                matches!(value, Value::F32(_)) || matches!(array(value), Some((ValueType::F32, _))),
                "f32 or an array of f32",
            ),
        };
        if !is {
            return Err(wrong(key, value, expected));
        }
        let (expected, of) = match form {
            ValueForm::PerBlock | ValueForm::BareFloats => (blocks, "one for each block"),
            ValueForm::Sections => (4, "one for each dimension of positions"),
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

    /// The value of `key`, which must be a u32.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, AcceptError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U32(count)) => Ok(Some((*count).into())),
            Some(other) => Err(wrong(key, other, "u32")),
        }
    }

    /// The largest number of `key`, which may be one number or one for each block; 0 if it is absent.
    pub(super) fn largest(&self, key: &str) -> u64 {
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

    /// The first number of `key`, which may be one number or one for each block.
    pub(super) fn first(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            Value::Array(values) => values.first().and_then(Value::as_u64),
            Value::I32s(values) => values.first().and_then(|n| u64::try_from(*n).ok()),
            value => value.as_u64(),
        }
    }

    /// The whole numbers of an array, in memory or in the file; none if the file is needed and not at hand.
    pub(super) fn integers(&self, key: &str) -> Result<Vec<i64>, AcceptError> {
        let whole = |value: &Value| match value {
            Value::I32(number) => i64::from(*number),
            other => other
                .as_u64()
                .and_then(|n| i64::try_from(n).ok())
                .unwrap_or(0),
        };
        Ok(match (self.get(key), self.file) {
            (Some(Value::I32s(values)), _) => values.iter().copied().map(i64::from).collect(),
            (Some(Value::Array(values)), _) => values.iter().map(whole).collect(),
            (Some(value @ Value::Located { .. }), Some(file)) => {
                let elements = gguf::elements(file, value).map_err(unreadable)?;
                let all: Result<Vec<Value>, _> = elements.collect();
                all.map_err(unreadable)?.iter().map(whole).collect()
            }
            _ => Vec::new(),
        })
    }

    /// The length of the array at `key`, whose elements must be of one of the types `of`.
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

    /// The strings of an array, in memory or in the file; none if the file is needed and not at hand.
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

/// The element type and length of an array; `None` for another value.
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
