//! The GGUF sink: one file for llama.cpp with metadata, tensor descriptions, and the padded tensors.

mod metadata;
mod plan;
mod projector;

use std::io::{BufWriter, Write};

use super::{Sink, TensorPlace, WeightFile, WeightFiles};
use crate::checkpoint::Checkpoint;
use crate::gguf::{self, TensorEntry, Value};
use crate::model::{ModelSpec, Projector};
use crate::note::Note;
use crate::quantize::destination::OutputError;
use crate::quantize::error::QuantizeError;
use crate::quantize::packed::Files;
use crate::quantize::partial::{OutputForm, Partial};
use crate::quantize::planned::{Options, PlannedTensor};
use crate::scheme::Scheme;
use crate::units::Bytes;
use plan::Contents;

pub use metadata::metadata;
pub(crate) use plan::{contents, description, tensors};

/// The GGUF file of one model.
#[derive(Debug)]
pub(crate) struct Gguf<'a> {
    checkpoint: &'a Checkpoint,
    /// Key-value pairs. Long arrays of a source GGUF stay located in it.
    metadata: Vec<(String, Value)>,
    bytes: Bytes,
}

/// Plans the file of `options` for `model`, which was read from `checkpoint` with the open `files`.
///
/// # Errors
/// [`QuantizeError`]: a checkpoint without weights, a conversion, type or size that is not possible,
/// weights that are quantized already, or an importance matrix of another model.
pub(crate) fn plan<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    options: &Options<'a>,
) -> Result<(Gguf<'a>, Vec<PlannedTensor<'a>>, Vec<Note>), QuantizeError> {
    let contents = plan::contents(checkpoint, files, model, options)?;
    Ok(laid_out(checkpoint, contents))
}

/// Plans the file of `projector` in `scheme`, which was read from the same checkpoint as `model`.
///
/// # Errors
/// [`QuantizeError`]: a scheme that projectors are not written in, a checkpoint without weights, a conversion or size that
/// is not possible.
pub(crate) fn plan_projector<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    projector: &'a Projector,
    scheme: &Scheme,
) -> Result<(Gguf<'a>, Vec<PlannedTensor<'a>>, Vec<Note>), QuantizeError> {
    let contents = projector::contents(checkpoint, files, model, projector, scheme)?;
    Ok(laid_out(checkpoint, contents))
}

/// A file with these contents.
fn laid_out<'a>(
    checkpoint: &'a Checkpoint,
    (metadata, tensors, notes): Contents<'a>,
) -> (Gguf<'a>, Vec<PlannedTensor<'a>>, Vec<Note>) {
    let names = tensors.iter().map(|t| (t.name, t.shape.len()));
    let header = gguf::header_bytes(&metadata, names);
    let gguf = Gguf {
        checkpoint,
        metadata,
        bytes: gguf::file_bytes(header, sizes(&tensors)),
    };
    (gguf, tensors, notes)
}

fn sizes(tensors: &[PlannedTensor<'_>]) -> impl Iterator<Item = Bytes> {
    tensors.iter().map(|tensor| tensor.assigned.bytes)
}

impl Sink for Gguf<'_> {
    fn weight_bytes(&self) -> Bytes {
        self.bytes
    }

    fn bytes(&self) -> Bytes {
        self.bytes
    }

    fn form(&self) -> OutputForm<'_> {
        OutputForm::File
    }

    fn begin(
        &self,
        tensors: &[PlannedTensor<'_>],
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
