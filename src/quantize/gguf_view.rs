//! A checkpoint as a GGUF that need not be written: its description, and the bytes of each tensor on request.
//!
//! A GGUF is seen as it is. Any other checkpoint is seen as the file that conversion to its own float format makes:
//! the same names, shapes, types and bytes, rotary tables included. One tensor at a time is read and encoded, straight
//! into the caller's memory. Must not: hold weights.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::error::QuantizeError;
use super::packed::Files;
use super::planned::{Options, PlannedTensor, Values};
use super::pool::{self, Progress};
use super::sink::gguf;
use crate::checkpoint::{Checkpoint, SourceFormat, StoredTensor};
use crate::dtype::Dtype;
use crate::model::{self, ModelSpec, Tensor, Unknown};
use crate::scheme::{Assigned, Reason, Scheme};

/// A checkpoint as a GGUF.
#[derive(Debug)]
pub struct GgufView<'a> {
    /// The model as the GGUF describes it; sources are indices into `tensors`.
    pub model: Cow<'a, ModelSpec>,
    tensors: Vec<PlannedTensor<'a>>,
}

/// The float format in which a Hugging Face checkpoint is seen as a GGUF: F32 if that is most of its bytes, else F16 or
/// BF16, of which it has more. Packed weights are in the format of the others.
pub fn float_format(checkpoint: &Checkpoint) -> Dtype {
    let bytes = |formats: &[Dtype]| {
        let stored = checkpoint.tensors.iter();
        let some = stored.filter(|tensor| formats.contains(&tensor.dtype));
        some.map(|tensor| tensor.bytes.0).sum::<u64>()
    };
    let full = bytes(&[Dtype::F32, Dtype::F64]);
    let all: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes.0).sum();
    if full > all / 2 {
        Dtype::F32
    } else if bytes(&[Dtype::F16]) > bytes(&[Dtype::BF16]) {
        Dtype::F16
    } else {
        Dtype::BF16
    }
}

impl<'a> GgufView<'a> {
    /// `checkpoint`, which `model` describes and whose weights are in `files`.
    ///
    /// # Errors
    /// [`QuantizeError`], for a checkpoint that is no GGUF: it has no weights or cannot be converted.
    pub fn of(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
    ) -> Result<GgufView<'a>, QuantizeError> {
        if checkpoint.format == SourceFormat::Gguf {
            let stored = checkpoint.tensors.iter();
            return Ok(GgufView {
                model: Cow::Borrowed(model),
                tensors: stored.map(|stored| copied(files, stored)).collect(),
            });
        }
        let format = float_format(checkpoint);
        let options = Options::of(Scheme::of_half(format));
        let (metadata, mut tensors, _) = gguf::contents(checkpoint, files, model, &options)?;
        if format == Dtype::F32 {
            // No scheme is F32.
            for PlannedTensor {
                assigned, shape, ..
            } in &mut tensors
            {
                assigned.dtype = format;
                assigned.bytes = format.bytes(shape).unwrap_or_default();
            }
        }
        let file = gguf::description(&model.name, &metadata, &tensors);
        Ok(GgufView {
            model: Cow::Owned(model::read(&file, Unknown::Refuse)?),
            tensors,
        })
    }

    /// The GGUF that `options` makes of it, without writing that.
    ///
    /// # Errors
    /// As [`super::Job::new`].
    pub fn planned(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        options: &Options<'a>,
    ) -> Result<GgufView<'a>, QuantizeError> {
        let (metadata, tensors, _) = gguf::contents(checkpoint, files, model, options)?;
        let file = gguf::description(&model.name, &metadata, &tensors);
        Ok(GgufView {
            model: Cow::Owned(model::read(&file, Unknown::Refuse)?),
            tensors,
        })
    }

    /// Reads `tensor` of [`GgufView::model`] into `out`, which is as long as its bytes in the file. Values that have to
    /// be converted are read by so many `threads`.
    ///
    /// # Errors
    /// [`QuantizeError`]: its weights cannot be read, or are not what the checkpoint says of them.
    pub fn read(
        &self,
        tensor: &Tensor,
        threads: usize,
        out: &mut [u8],
    ) -> Result<(), QuantizeError> {
        let index = tensor.sources.first();
        let planned = index.and_then(|&index| self.tensors.get(index as usize));
        let Some(planned) = planned else {
            let name = tensor.name.clone();
            return Err(QuantizeError::NoWeights { name });
        };
        let unchanged = match &planned.values {
            Values::Copied(files, stored) => Some((*files, *stored)),
            Values::Rows(rows) => rows
                .as_stored()
                .filter(|(_, stored)| stored.dtype == planned.assigned.dtype),
            Values::Member(..) | Values::Table(_) => None,
        };
        if let Some((files, stored)) = unchanged {
            return Ok(files.read(stored, 0, out)?);
        }
        let cancel = AtomicBool::new(false);
        let planned = std::slice::from_ref(planned);
        pool::run(
            planned,
            &Mutex::new(out),
            threads,
            &cancel,
            &mut |_: Progress| {},
        )
        .map(drop)
    }
}

fn copied<'a>(files: &'a Files, stored: &'a StoredTensor) -> PlannedTensor<'a> {
    PlannedTensor {
        name: &stored.name,
        shape: stored.shape.clone(),
        assigned: Assigned {
            dtype: stored.dtype,
            bytes: stored.bytes,
            reason: Reason::Stored,
        },
        importance: None,
        groups: None,
        values: Values::Copied(files, stored),
    }
}
