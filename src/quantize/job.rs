//! A job says everything about an output before a weight is read, then writes it.
//!
//! In: a checkpoint, its model, what is asked for. Out: a [`Job`], and from [`write()`] the output as the
//! job predicts it, to the byte, the same from every run on any number of threads.

use std::sync::atomic::AtomicBool;

use super::destination::Destination;
use super::error::QuantizeError;
use super::packed::Files;
use super::partial::Partial;
use super::planned::{Options, Planned};
use super::pool::{self, Progress};
use super::sink::{Sink, gguf, safetensors};
use super::tally::{self, Tally};
use crate::checkpoint::Checkpoint;
use crate::model::ModelSpec;
use crate::note::Note;
use crate::scheme::{Container, Scheme};
use crate::units::Bytes;

/// The weight files that a job for `scheme` reads.
///
/// # Errors
/// [`QuantizeError`]: a checkpoint of another kind than the scheme is made from, or weights that are not
/// there.
pub fn weight_files(checkpoint: &Checkpoint, scheme: &Scheme) -> Result<Files, QuantizeError> {
    if scheme.container == Container::Safetensors {
        safetensors::config(checkpoint)?;
    }
    Ok(Files::open(checkpoint)?)
}

/// An output that is to be made.
#[derive(Debug)]
pub struct Job<'a> {
    /// The tensors in the order of the output.
    pub tensors: Vec<Planned<'a>>,
    /// What is known before a weight is read.
    pub notes: Vec<Note>,
    sink: Box<dyn Sink + 'a>,
}

impl<'a> Job<'a> {
    /// What `options` ask for, of `model` read from `checkpoint`, whose open files are `files`.
    ///
    /// # Errors
    /// [`QuantizeError`]: a checkpoint without weights or of another kind than the scheme needs; a
    /// conversion, type, name or size that is not possible; weights that are quantized already; an
    /// importance matrix of another model.
    pub fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        options: &Options<'a>,
    ) -> Result<Job<'a>, QuantizeError> {
        match options.scheme.container {
            Container::Gguf => gguf::plan(checkpoint, files, model, options).map(Job::of),
            Container::Safetensors => {
                safetensors::plan(checkpoint, files, model, options).map(Job::of)
            }
        }
    }

    fn of<S: Sink + 'a>((sink, tensors, notes): (S, Vec<Planned<'a>>, Vec<Note>)) -> Job<'a> {
        Job {
            tensors,
            notes,
            sink: Box::new(sink),
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

    /// What is known before and what was met on the way.
    pub fn notes_with(&self, tallies: &[Tally]) -> Vec<Note> {
        let names = self.tensors.iter().map(|t| t.name);
        let mut notes = self.notes.clone();
        notes.extend(tally::notes(names.zip(tallies.iter().copied())));
        notes
    }
}

/// Writes the output of `job`, and says per tensor, in the order of [`Job::tensors`], what was met.
///
/// The output appears under its name when it is whole and on the disk; until then it is called
/// `NAME.orinplan-partial`. On an error, or when `cancel` becomes true, that is removed; one that
/// stays behind when the process is killed is replaced by the next run. At least one thread encodes.
/// `progress` is called from time to time.
///
/// # Errors
/// [`QuantizeError`]: a destination that cannot or must not be written, a disk that is full, a
/// source that cannot be read, or `cancel`.
pub fn write(
    job: &Job<'_>,
    destination: &Destination<'_>,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Tally>, QuantizeError> {
    let partial = Partial::create(destination, job.sink.form(), job.sink.bytes())?;
    let weights = job.sink.begin(&job.tensors, &partial)?;
    let tallies = pool::run(&job.tensors, &weights, threads, cancel, progress)?;
    weights.finish()?;
    job.sink.finish(&partial)?;
    partial.commit()?;
    Ok(tallies)
}
