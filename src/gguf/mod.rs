//! The GGUF container: key-value metadata and tensor descriptions, versions 2 and 3, little endian.

mod value;

pub use value::{Metadata, Value};
