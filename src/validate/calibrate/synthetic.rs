//! Synthetic models: a GGUF of one format in which every row of a matrix is the same encoded row. The cost of a product
//! does not depend on the values.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::path::Path;

use super::CalibrateError;
use super::scratch::ScratchFile;
use crate::checkpoint::{self, Checkpoint};
use crate::dtype::Dtype;
use crate::gguf::{self, TensorEntry, Value};
use crate::model::{self, ModelSpec, PLAIN, Unknown};
use crate::quantize::blocks;
use crate::units::Bytes;

/// The name of the models that this program's decoder runs.
const NAME: &str = "calibration";

/// Tokens of context that the models state: more than any of them is run with.
const CONTEXT: u64 = 8192;

/// The dimensions of a plain decoder.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModelShape {
    pub(super) layers: u64,
    pub(super) hidden: u64,
    pub(super) inner: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) vocab: u64,
}

impl ModelShape {
    /// Every tensor with its shape, outermost dimension first.
    fn tensors(&self) -> Vec<(String, Vec<u64>)> {
        let (hidden, inner) = (self.hidden, self.inner);
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), vec![self.vocab, hidden]),
            ("output_norm.weight".to_owned(), vec![hidden]),
        ];
        for layer in 0..self.layers {
            for (name, shape) in [
                ("attn_norm", vec![hidden]),
                ("attn_q", vec![queries, hidden]),
                ("attn_k", vec![keys, hidden]),
                ("attn_v", vec![keys, hidden]),
                ("attn_output", vec![hidden, queries]),
                ("ffn_norm", vec![hidden]),
                ("ffn_gate", vec![inner, hidden]),
                ("ffn_up", vec![inner, hidden]),
                ("ffn_down", vec![hidden, inner]),
            ] {
                tensors.push((format!("blk.{layer}.{name}.weight"), shape));
            }
        }
        tensors
    }

    fn metadata(&self, name: &str) -> Vec<(String, Value)> {
        let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
        let number = |key: &str, value: u64| (format!("{PLAIN}.{key}"), Value::U32(value as u32));
        vec![
            text("general.architecture", PLAIN),
            text("general.name", name),
            text("tokenizer.ggml.model", "none"),
            number("block_count", self.layers),
            number("context_length", CONTEXT),
            number("embedding_length", self.hidden),
            number("feed_forward_length", self.inner),
            number("attention.head_count", self.heads),
            number("attention.head_count_kv", self.kv_heads),
            number("attention.key_length", self.head_dim),
            number("attention.value_length", self.head_dim),
            number("rope.dimension_count", self.head_dim),
            number("vocab_size", self.vocab),
            (
                format!("{PLAIN}.attention.layer_norm_rms_epsilon"),
                Value::F32(1e-5),
            ),
            (format!("{PLAIN}.rope.freq_base"), Value::F32(10_000.0)),
        ]
    }

    /// The bytes of its matrices in `dtype`.
    pub(super) fn bytes(&self, dtype: Dtype) -> Bytes {
        let tensors = self.tensors().into_iter();
        tensors.filter_map(|(_, shape)| dtype.bytes(&shape)).sum()
    }

    /// Writes the model with matrices of `dtype` to `scratch`, and opens it.
    ///
    /// # Errors
    /// [`CalibrateError::Write`], [`CalibrateError::Open`] and [`CalibrateError::Model`].
    pub(super) fn make(
        &self,
        dtype: Dtype,
        scratch: &ScratchFile,
    ) -> Result<(Checkpoint, ModelSpec), CalibrateError> {
        self.fill(NAME, dtype, scratch)?;
        opened(scratch)
    }

    /// Writes the model with its weights to `scratch`.
    ///
    /// # Errors
    /// [`CalibrateError::Write`].
    pub(super) fn fill(
        &self,
        name: &str,
        dtype: Dtype,
        scratch: &ScratchFile,
    ) -> Result<(), CalibrateError> {
        let written = write(scratch.file(), &self.metadata(name), &self.typed(dtype));
        written.map_err(CalibrateError::Write)
    }

    /// Writes the model with a hole in the place of its weights to `scratch`, and opens it: it can be planned, and takes
    /// no memory.
    ///
    /// # Errors
    /// As [`ModelShape::make`].
    pub(super) fn outline(
        &self,
        name: &str,
        dtype: Dtype,
        scratch: &ScratchFile,
    ) -> Result<(Checkpoint, ModelSpec), CalibrateError> {
        let tensors = self.typed(dtype);
        let outlined = || -> Result<(), String> {
            let start = write_header(&mut scratch.file(), &self.metadata(name), &tensors)?;
            let all = tensors.iter().map(|(_, dtype, shape)| {
                let bytes = dtype.bytes(shape).unwrap_or_default();
                bytes.0.next_multiple_of(gguf::ALIGNMENT)
            });
            let length = start.0 + all.sum::<u64>();
            let set = scratch.file().set_len(length);
            set.map_err(|error| error.to_string())
        };
        outlined().map_err(CalibrateError::Write)?;
        opened(scratch)
    }

    /// Every tensor with its type: norms are in F32.
    fn typed(&self, dtype: Dtype) -> Vec<SyntheticTensor> {
        let typed = |(name, shape): (String, Vec<u64>)| match shape.len() {
            1 => (name, Dtype::F32, shape),
            _ => (name, dtype, shape),
        };
        self.tensors().into_iter().map(typed).collect()
    }
}

fn opened(scratch: &ScratchFile) -> Result<(Checkpoint, ModelSpec), CalibrateError> {
    let path = scratch.path().display().to_string();
    let checkpoint = checkpoint::open(&path).map_err(CalibrateError::Open)?;
    let model = model::read(&checkpoint, Unknown::Refuse).map_err(CalibrateError::Model)?;
    Ok((checkpoint, model))
}

/// A tensor of a GGUF: name, format, shape with the outermost dimension first.
pub type SyntheticTensor = (String, Dtype, Vec<u64>);

/// Writes a GGUF of these tensors in which every row holds the same numbers: it has the size and the speed of a real
/// model, and its output has no meaning.
///
/// # Errors
/// The message of the system where the file cannot be written, of the header's writer where a name, shape or size
/// cannot be in a GGUF, and of the encoder where it does not write a format.
pub fn write_repeated(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[SyntheticTensor],
) -> Result<(), String> {
    let file = File::create(path).map_err(|error| error.to_string())?;
    write(&file, metadata, tensors)
}

/// Writes the header from the start of `file`; returns where the weights begin.
fn write_header(
    file: &mut (impl Write + Seek),
    metadata: &[(String, Value)],
    tensors: &[SyntheticTensor],
) -> Result<Bytes, String> {
    let entries: Vec<TensorEntry<'_>> = tensors
        .iter()
        .map(|(name, dtype, shape)| TensorEntry {
            name,
            dtype: *dtype,
            shape,
        })
        .collect();
    let in_words = |error: io::Error| error.to_string();
    file.rewind().map_err(in_words)?;
    gguf::write_header(file, metadata, &entries).map_err(|error| error.to_string())
}

fn write(
    file: &File,
    metadata: &[(String, Value)],
    tensors: &[SyntheticTensor],
) -> Result<(), String> {
    let mut out = BufWriter::with_capacity(1 << 20, file);
    write_header(&mut out, metadata, tensors)?;
    for (_, dtype, shape) in tensors {
        let columns = shape.last().copied().unwrap_or(0);
        let rows = shape.iter().product::<u64>() / columns.max(1);
        let row = row(*dtype, columns as usize).map_err(|error| error.to_string())?;
        for _ in 0..rows {
            out.write_all(&row).map_err(|error| error.to_string())?;
        }
        let bytes = row.len() as u64 * rows;
        let padding = bytes.next_multiple_of(gguf::ALIGNMENT) - bytes;
        let zeros = [0; gguf::ALIGNMENT as usize];
        let zeros = zeros.get(..padding as usize).unwrap_or_default();
        out.write_all(zeros).map_err(|error| error.to_string())?;
    }
    out.flush().map_err(|error| error.to_string())
}

/// One encoded row of numbers as large as typical weights.
fn row(dtype: Dtype, columns: usize) -> Result<Vec<u8>, blocks::BlockError> {
    let values: Vec<f32> = (0..columns)
        .map(|index| (index as f32 * 0.7).sin() * 0.02)
        .collect();
    let mut row = vec![0; dtype.row_bytes(columns as u64).0 as usize];
    blocks::encode_rows(dtype, &values, columns, None, &mut row)?;
    Ok(row)
}
