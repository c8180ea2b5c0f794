//! A job: plans everything about an output before a weight is read, then writes it.
//!
//! In: a checkpoint, its model, and options. Out: a [`Job`], and from [`write()`] the output with exactly the predicted
//! size, identical in every run with any number of threads.

use std::sync::atomic::AtomicBool;

use super::destination::{Destination, Start};
use super::error::QuantizeError;
use super::packed::Files;
use super::partial::{Leftover, Partial};
use super::planned::{Options, PlannedTensor, Values};
use super::pool::{self, Progress};
use super::sink::{Sink, gguf, safetensors};
use super::streamed::{self, Output, Written};
use super::tally::{self, Tally};
use crate::checkpoint::Checkpoint;
use crate::model::{ModelSpec, Projector};
use crate::note::Note;
use crate::scheme::{Container, Scheme};
use crate::units::Bytes;

/// The weight files that a job for `scheme` reads.
///
/// # Errors
/// [`QuantizeError`]: the scheme cannot be made from this kind of checkpoint, or there are no weights.
pub fn weight_files(checkpoint: &Checkpoint, scheme: &Scheme) -> Result<Files, QuantizeError> {
    if scheme.container == Container::Safetensors {
        safetensors::config(checkpoint)?;
    }
    Ok(Files::open(checkpoint)?)
}

/// A planned output.
#[derive(Debug)]
pub struct Job<'a> {
    /// The tensors in the order of the output.
    pub tensors: Vec<PlannedTensor<'a>>,
    /// Caveats that are known before a weight is read.
    pub notes: Vec<Note>,
    sink: Box<dyn Sink + 'a>,
    files: &'a Files,
}

impl<'a> Job<'a> {
    /// Plans the output of `options` for `model`, which was read from `checkpoint` with the open `files`.
    ///
    /// # Errors
    /// [`QuantizeError`]: a checkpoint without weights or of a kind that the scheme cannot be made from; a
    /// conversion, type, name or size that is not possible; weights that are quantized already; an
    /// importance matrix of another model.
    pub fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        options: &Options<'a>,
    ) -> Result<Job<'a>, QuantizeError> {
        match options.scheme.container {
            Container::Gguf => {
                let planned = gguf::plan(checkpoint, files, model, options)?;
                Ok(Job::of(files, planned))
            }
            Container::Safetensors => {
                let planned = safetensors::plan(checkpoint, files, model, options)?;
                Ok(Job::of(files, planned))
            }
        }
    }

    /// Plans the file of `projector` in `scheme`, which was read from the same checkpoint as `model`.
    ///
    /// # Errors
    /// [`QuantizeError`]: a scheme that projectors are not written in, a checkpoint without weights, a conversion or size
    /// that is not possible.
    pub fn of_projector(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        projector: &'a Projector,
        scheme: &Scheme,
    ) -> Result<Job<'a>, QuantizeError> {
        let planned = gguf::plan_projector(checkpoint, files, model, projector, scheme)?;
        Ok(Job::of(files, planned))
    }

    fn of<S: Sink + 'a>(
        files: &'a Files,
        (sink, tensors, notes): (S, Vec<PlannedTensor<'a>>, Vec<Note>),
    ) -> Job<'a> {
        Job {
            tensors,
            notes,
            sink: Box::new(sink),
            files,
        }
    }

    /// The sum of the tensors' bytes.
    pub fn tensor_bytes(&self) -> Bytes {
        self.tensors.iter().map(|t| t.assigned.bytes).sum()
    }

    /// The exact size of the file, or of all weight files of a directory.
    pub fn file_bytes(&self) -> Bytes {
        self.sink.weight_bytes()
    }

    /// All caveats: [`Job::notes`], and those of the tallies that [`write()`] returned.
    pub fn notes_with(&self, tallies: &[Tally]) -> Vec<Note> {
        let encoded = self.tensors.iter().zip(tallies.iter().copied());
        let encoded = encoded.map(|(tensor, tally)| {
            let copied = matches!(tensor.values, Values::Copied(..));
            let quantized = tensor.assigned.dtype.is_quantized() && !copied;
            (tensor.name, quantized, tally)
        });
        let mut notes = self.notes.clone();
        notes.extend(tally::notes(encoded));
        notes
    }
}

/// Writes the output of `job`, and returns a tally for each tensor, in the order of [`Job::tensors`].
///
/// As [`write_from`], which begins anew.
///
/// # Errors
/// As [`write_from`].
pub fn write(
    job: &Job<'_>,
    destination: &Destination<'_>,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Tally>, QuantizeError> {
    write_from(job, destination, Start::Anew, threads, cancel, progress).map(|w| w.tallies)
}

/// Writes the output of `job`.
///
/// The output gets its name when it is complete and on the disk; until then it is called
/// `NAME.orinplan-partial`. That is removed on an error or when `cancel` becomes true; if the process is killed, it
/// is replaced by the next run. A GGUF that is made from a model on a server stays instead, with a journal of the tensors
/// that are complete, and the next run may go on there. At least one thread encodes. `progress` is called from time to
/// time.
///
/// # Errors
/// [`QuantizeError`]: the destination cannot or must not be written, the disk is full, the
/// source cannot be read or changed, what is to be gone on with was begun from something else, or `cancel` became true.
pub fn write_from(
    job: &Job<'_>,
    destination: &Destination<'_>,
    start: Start,
    threads: usize,
    cancel: &AtomicBool,
    mut progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Written, QuantizeError> {
    let Some(source) = job.files.source() else {
        let bytes = job.sink.bytes();
        let partial = Partial::create(destination, job.sink.form(), bytes, Leftover::Replace)?;
        let weights = job.sink.begin(&job.tensors, &partial)?;
        let tallies = pool::run(&job.tensors, &weights, threads, cancel, &mut progress)?;
        weights.finish()?;
        job.sink.finish(&partial)?;
        partial.commit()?;
        return Ok(Written {
            tallies,
            kept: 0,
            unchecked: Vec::new(),
        });
    };
    let output = Output {
        tensors: &job.tensors,
        sink: &*job.sink,
        files: job.files,
        source: &source.pinned,
    };
    streamed::write(&output, destination, start, threads, cancel, progress)
}
