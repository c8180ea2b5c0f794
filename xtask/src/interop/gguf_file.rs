//! A GGUF in memory, to be changed and written again.

use std::fs;
use std::path::Path;

use anyhow::Context;
use orinplan::dtype::Dtype;
use orinplan::gguf::{self, StringList, TensorEntry, Value};

/// A GGUF in memory.
#[derive(Clone)]
pub(super) struct GgufFile {
    pub(super) metadata: Vec<(String, Value)>,
    pub(super) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: Vec<u8>,
}

impl GgufFile {
    /// Reads the file at `path` whole.
    ///
    /// # Errors
    /// A file that cannot be read, or is no GGUF.
    pub(super) fn read(path: &Path) -> anyhow::Result<GgufFile> {
        let header = gguf::read_header(path)?;
        let content = fs::read(path)?;
        let mut metadata = Vec::new();
        for (key, value) in header.metadata.0 {
            let value = match value {
                Value::Located { .. } => resolved(gguf::elements(path, &value)?)?,
                value => value,
            };
            metadata.push((key, value));
        }
        let mut tensors = Vec::new();
        for tensor in header.tensors {
            let start = usize::try_from(tensor.offset)?;
            let bytes = content.get(start..start + usize::try_from(tensor.bytes.0)?);
            tensors.push(Tensor {
                bytes: bytes.context("the file is short")?.to_vec(),
                name: tensor.name,
                dtype: tensor.dtype,
                shape: tensor.shape,
            });
        }
        Ok(GgufFile { metadata, tensors })
    }

    /// Writes it to `path`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(super) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let entry = self.tensors.iter().map(|tensor| TensorEntry {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
        });
        let entries: Vec<TensorEntry<'_>> = entry.collect();
        let mut out = Vec::new();
        gguf::write_header(&mut out, &self.metadata, &entries)?;
        for tensor in &self.tensors {
            out.extend(&tensor.bytes);
            out.resize(out.len().next_multiple_of(32), 0);
        }
        Ok(fs::write(path, out)?)
    }

    /// The strings of `key`.
    ///
    /// # Errors
    /// A value of another type, or none.
    pub(super) fn texts(&self, key: &str) -> anyhow::Result<StringList> {
        match self.get(key) {
            Some(Value::Strings(list)) => Ok(list.clone()),
            other => anyhow::bail!("{key} is {other:?}"),
        }
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        let pair = self.metadata.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    /// `general.architecture`, empty where it is missing.
    pub(super) fn architecture(&self) -> String {
        match self.get("general.architecture") {
            Some(Value::String(name)) => name.clone(),
            _ => String::new(),
        }
    }

    /// The file with `key` set to `value`.
    pub(super) fn with(&self, key: &str, value: Value) -> GgufFile {
        let mut file = self.without(key);
        file.metadata.push((key.to_owned(), value));
        file
    }

    /// The file without `key`.
    pub(super) fn without(&self, key: &str) -> GgufFile {
        let mut file = self.clone();
        file.metadata.retain(|(name, _)| name != key);
        file
    }

    /// The file without the tensor `name`.
    pub(super) fn without_tensor(&self, name: &str) -> GgufFile {
        let mut file = self.clone();
        file.tensors.retain(|tensor| tensor.name != name);
        file
    }

    /// The file with one more tensor: zeros in F32.
    pub(super) fn with_tensor(&self, name: &str, shape: &[u64]) -> GgufFile {
        let mut file = self.clone();
        file.tensors.push(Tensor {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: vec![0; 4 * shape.iter().product::<u64>() as usize],
        });
        file
    }
}

/// Elements in the form in which the writer takes them.
fn resolved(elements: gguf::Elements) -> anyhow::Result<Value> {
    let values: Vec<Value> = elements.collect::<Result<_, _>>()?;
    let mut texts = StringList::default();
    let (mut integers, mut floats) = (Vec::new(), Vec::new());
    for value in &values {
        match value {
            Value::String(text) => texts.push(text),
            Value::I32(n) => integers.push(*n),
            Value::F32(x) => floats.push(*x),
            _ => {}
        }
    }
    Ok(match values.first() {
        Some(Value::String(_)) => Value::Strings(texts),
        Some(Value::I32(_)) => Value::I32s(integers),
        Some(Value::F32(_)) => Value::F32s(floats),
        _ => Value::Array(values),
    })
}
