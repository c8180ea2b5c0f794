//! GGUF metadata values and typed access to them. Long arrays stay in their file, and only their position is kept. Must
//! not: interpret a key.

use super::strings::StringList;

/// The type of a metadata value, with GGUF's ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

/// Every type in the order of its id, with its name and its smallest size in bytes.
const TYPES: [(ValueType, &str, u64); 13] = [
    (ValueType::U8, "u8", 1),
    (ValueType::I8, "i8", 1),
    (ValueType::U16, "u16", 2),
    (ValueType::I16, "i16", 2),
    (ValueType::U32, "u32", 4),
    (ValueType::I32, "i32", 4),
    (ValueType::F32, "f32", 4),
    (ValueType::Bool, "bool", 1),
    (ValueType::String, "string", 8),
    (ValueType::Array, "array", 4 + 8),
    (ValueType::U64, "u64", 8),
    (ValueType::I64, "i64", 8),
    (ValueType::F64, "f64", 8),
];

impl ValueType {
    /// The type with GGUF's id `id`.
    pub fn from_id(id: u32) -> Option<ValueType> {
        TYPES.get(id as usize).map(|row| row.0)
    }

    /// GGUF's id of the type.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Its row of the table, which has one for each variant, in their order.
    #[allow(clippy::indexing_slicing)]
    fn row(self) -> (ValueType, &'static str, u64) {
        TYPES[self as usize]
    }

    /// `u32`, `string`, ...
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of a value; for a string or an array, of an empty one.
    pub(super) fn least_bytes(self) -> u64 {
        self.row().2
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    U64(u64),
    I64(i64),
    F64(f64),
    /// An array in memory: numbers, booleans and short lists of strings.
    Array(Vec<Value>),
    /// A long array of strings to be written: tokens, merges.
    Strings(StringList),
    /// A long array of integers to be written: token types.
    I32s(Vec<i32>),
    /// A long array of numbers to be written: token scores.
    F32s(Vec<f32>),
    /// A long array that is still in its file: its element type id, its length, and the byte range of its
    /// elements. An empty array is stored like this too, so that its element type is kept.
    Located {
        element_type: u32,
        len: u64,
        offset: u64,
        bytes: u64,
    },
}

impl Value {
    /// The name of the type for messages: `u32`, `array of string`.
    pub fn type_name(&self) -> String {
        let value_type = match self {
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
            Value::Array(values) => {
                let element = values
                    .first()
                    .map_or("nothing".to_owned(), Value::type_name);
                return format!("array of {element}");
            }
            Value::Strings(list) => return format!("array of {} string", list.len()),
            Value::I32s(list) => return format!("array of {} i32", list.len()),
            Value::F32s(list) => return format!("array of {} f32", list.len()),
            Value::Located {
                element_type, len, ..
            } => {
                let element = ValueType::from_id(*element_type).map_or("unknown", ValueType::name);
                return format!("array of {len} {element}");
            }
        };
        value_type.name().to_owned()
    }

    /// The number of elements of an array.
    pub fn array_len(&self) -> Option<u64> {
        match self {
            Value::Array(values) => Some(values.len() as u64),
            Value::Strings(list) => Some(list.len() as u64),
            Value::I32s(list) => Some(list.len() as u64),
            Value::F32s(list) => Some(list.len() as u64),
            Value::Located { len, .. } => Some(*len),
            _ => None,
        }
    }

    /// The value of any integer type as a non-negative integer.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }

    /// The value of any numeric type as a number (large 64-bit integers are rounded).
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            Value::I8(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::I64(n) => Some(n as f64),
            _ => self.as_u64().map(|n| n as f64),
        }
    }
}

/// Metadata that is missing or of the wrong type.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// The key is absent.
    #[error("metadata key `{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// The key has another type.
    #[error("metadata key `{key}` is {found}; it must be {expected}")]
    Type {
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// The type that was found, with the value if it is a number.
        found: String,
    },
}

/// Key-value pairs in file order, without duplicate keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub Vec<(String, Value)>);

/// Typed access. An absent key is `Ok(None)`; [`Metadata::require`] makes it an error.
impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// A non-negative integer of any integer type.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if the value is of another type or negative.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, MetadataError> {
        self.typed(key, "a non-negative integer", Value::as_u64)
    }

    /// A number of any numeric type.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if the value is not a number.
    pub fn f64(&self, key: &str) -> Result<Option<f64>, MetadataError> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if the value is not a boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, MetadataError> {
        self.typed(key, "a boolean", |value| match *value {
            Value::Bool(b) => Some(b),
            _ => None,
        })
    }

    /// A string.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if the value is not a string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, MetadataError> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Non-negative integers: a scalar is a list of one.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if an element is of another type or negative, or if the array is too long and was
    /// left in its file.
    pub fn u64s(&self, key: &str) -> Result<Option<Vec<u64>>, MetadataError> {
        self.typed(
            key,
            "a non-negative integer or a list of them",
            |value| match value {
                Value::Array(values) => values.iter().map(Value::as_u64).collect(),
                Value::Located { len: 0, .. } => Some(Vec::new()),
                scalar => scalar.as_u64().map(|n| vec![n]),
            },
        )
    }

    /// Booleans: a scalar is a list of one.
    ///
    /// # Errors
    /// [`MetadataError::Type`] if an element is not a boolean, or if the array is too long and was left in its file.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, MetadataError> {
        let boolean = |value: &Value| match *value {
            Value::Bool(b) => Some(b),
            _ => None,
        };
        self.typed(key, "a boolean or a list of them", |value| match value {
            Value::Array(values) => values.iter().map(boolean).collect(),
            Value::Located { len: 0, .. } => Some(Vec::new()),
            scalar => boolean(scalar).map(|b| vec![b]),
        })
    }

    /// Makes an absent key an error: `metadata.require("llama.block_count", Metadata::u64)`.
    ///
    /// # Errors
    /// [`MetadataError::Missing`] if the key is absent, and the errors of `read`.
    pub fn require<'a, T>(
        &'a self,
        key: &str,
        read: impl FnOnce(&'a Metadata, &str) -> Result<Option<T>, MetadataError>,
    ) -> Result<T, MetadataError> {
        read(self, key)?.ok_or_else(|| MetadataError::Missing {
            key: key.to_owned(),
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, MetadataError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or_else(|| {
            let found = match value.as_f64() {
                Some(number) => format!("{} {number}", value.type_name()),
                None => value.type_name(),
            };
            MetadataError::Type {
                key: key.to_owned(),
                expected,
                found,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_ids_stand_at_their_own_index() {
        for (id, row) in TYPES.iter().enumerate() {
            assert_eq!(row.0.id() as usize, id);
            assert_eq!(ValueType::from_id(id as u32), Some(row.0));
        }
        assert_eq!(ValueType::from_id(13), None);
    }

    #[test]
    fn access_is_typed_and_names_key_and_types() {
        let metadata = Metadata(vec![
            ("heads".into(), Value::I32(8)),
            (
                "heads_by_layer".into(),
                Value::Array(vec![Value::U32(4), Value::I64(2)]),
            ),
            ("negative".into(), Value::I8(-1)),
            ("base".into(), Value::F32(0.5)),
            ("flag".into(), Value::Bool(true)),
            ("name".into(), Value::String("x".into())),
            (
                "tokens".into(),
                Value::Located {
                    element_type: 8,
                    len: 9,
                    offset: 0,
                    bytes: 99,
                },
            ),
        ]);
        assert_eq!(metadata.u64("heads"), Ok(Some(8)));
        assert_eq!(metadata.u64("absent"), Ok(None));
        assert_eq!(metadata.u64s("heads"), Ok(Some(vec![8])));
        assert_eq!(metadata.u64s("heads_by_layer"), Ok(Some(vec![4, 2])));
        assert_eq!(metadata.f64("base"), Ok(Some(0.5)));
        assert_eq!(metadata.f64("negative"), Ok(Some(-1.0)));
        assert_eq!(metadata.bools("flag"), Ok(Some(vec![true])));
        assert_eq!(metadata.str("name"), Ok(Some("x")));
        assert_eq!(metadata.require("name", Metadata::str), Ok("x"));
        let message = |result: Result<Option<u64>, MetadataError>| result.unwrap_err().to_string();
        assert_eq!(
            message(metadata.u64("negative")),
            "metadata key `negative` is i8 -1; it must be a non-negative integer"
        );
        assert!(message(metadata.u64("tokens")).contains("array of 9 string"));
        assert!(
            metadata
                .require("absent", Metadata::u64)
                .unwrap_err()
                .to_string()
                .contains("absent")
        );
    }
}
