//! GGUF metadata values. Long string arrays keep their place in the file instead of a copy.

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
    /// An array kept in memory (numbers, booleans and short string lists).
    Array(Vec<Value>),
    /// A long array left in the file: its element type id, its length, and the byte range of its elements.
    Located {
        element_type: u32,
        len: u64,
        offset: u64,
        bytes: u64,
    },
}

/// Key-value pairs in file order, without duplicate keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(pub Vec<(String, Value)>);

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// The text of `key`.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}
