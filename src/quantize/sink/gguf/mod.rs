//! One GGUF file for llama.cpp: metadata, descriptions of tensors, then every tensor padded.

mod metadata;
mod plan;

use std::io::{BufWriter, Write};

use super::{Sink, TensorPlace, WeightFile, WeightFiles};
use crate::checkpoint::Checkpoint;
use crate::gguf::{self, TensorEntry, Value};
use crate::quantize::error::QuantizeError;
use crate::quantize::partial::{Form, OutputError, Partial};
use crate::quantize::planned::Planned;
use crate::units::Bytes;

pub use metadata::metadata;
pub(in crate::quantize) use plan::plan;

/// The file of one model.
#[derive(Debug)]
pub(in crate::quantize) struct Gguf<'a> {
    checkpoint: &'a Checkpoint,
    /// Key-value pairs. Long arrays of a GGUF still lie in it.
    metadata: Vec<(String, Value)>,
    bytes: Bytes,
}

impl<'a> Gguf<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        metadata: Vec<(String, Value)>,
        tensors: &[Planned<'_>],
    ) -> Gguf<'a> {
        let names = tensors.iter().map(|t| (t.name, t.shape.len()));
        let header = gguf::header_bytes(&metadata, names);
        Gguf {
            checkpoint,
            metadata,
            bytes: gguf::file_bytes(header, sizes(tensors)),
        }
    }
}

fn sizes(tensors: &[Planned<'_>]) -> impl Iterator<Item = Bytes> {
    tensors.iter().map(|tensor| tensor.assigned.bytes)
}

impl Sink for Gguf<'_> {
    fn weight_bytes(&self) -> Bytes {
        self.bytes
    }

    fn bytes(&self) -> Bytes {
        self.bytes
    }

    fn form(&self) -> Form<'_> {
        Form::File
    }

    fn begin(
        &self,
        tensors: &[Planned<'_>],
        output: &Partial<'_>,
    ) -> Result<WeightFiles, QuantizeError> {
        let metadata = metadata::resolve(self.checkpoint, &self.metadata)?;
        let entries: Vec<TensorEntry<'_>> = tensors
            .iter()
            .map(|tensor| TensorEntry {
                name: tensor.name,
                dtype: tensor.assigned.dtype,
                shape: &tensor.shape,
            })
            .collect();
        let file = output.file()?;
        let mut out = BufWriter::with_capacity(1 << 16, &file);
        let start = gguf::write_header(&mut out, &metadata, &entries)?;
        out.flush().map_err(|e| OutputError::io(output.path(), e))?;
        drop(out);
        let (offsets, bytes) = gguf::data_offsets(start, sizes(tensors));
        let places = offsets.into_iter().map(|offset| TensorPlace {
            file: 0,
            offsets: vec![offset],
        });
        let path = output.path().to_owned();
        Ok(WeightFiles {
            files: vec![WeightFile { path, file, bytes }],
            places: places.collect(),
        })
    }

    fn finish(&self, _: &Partial<'_>) -> Result<(), OutputError> {
        Ok(())
    }
}
