//! Makes files to run from checkpoints: weights in, blocks of the assigned formats out.
//!
//! A [`Job`] says everything about the file before a weight is read; [`write()`] streams the weights
//! through it. What the job predicts is what is written, to the byte, and the same bytes come out
//! of every run on any number of threads.

pub mod blocks;
pub mod directory;
pub mod fp8;
pub mod int4;
pub mod packed;
mod chunk;
mod error;
mod importance;
mod job;
mod metadata;
mod note;
mod output;
mod pipeline;
mod readiness;
mod source;
mod tally;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use error::QuantizeError;
pub use importance::{Importance, ImportanceError};
pub use job::{Job, Options, Planned};
pub use metadata::metadata;
pub use note::Note;
pub use output::OutputError;
pub(crate) use output::{lock, sync_name};
pub use pipeline::Progress;
pub use readiness::{Readiness, check, readiness};
pub use tally::Tally;

use crate::checkpoint::Checkpoint;
use crate::gguf;
use crate::inputs::Inputs;
use output::Partial;

/// Where the file goes and how it gets there.
#[derive(Clone, Debug)]
pub struct Destination<'a> {
    /// The file to be made.
    pub path: &'a Path,
    /// Whether it may be there already.
    pub overwrite: bool,
    /// Files that are read: it must not be one of them, and they must not change.
    pub inputs: Inputs,
}

/// Writes the file of `job`, and says per tensor, in the order of [`Job::tensors`], what was met.
///
/// The file appears under its name when it is whole and on the disk; until then it is called
/// `NAME.orinplan-partial`. On an error, or when `cancel` becomes true, that is removed; one that
/// stays behind when the process is killed is replaced by the next run. `progress` is called from
/// time to time.
///
/// # Errors
/// [`QuantizeError`]: a destination that cannot or must not be written, a disk that is full, a
/// source that cannot be read, or `cancel`.
pub fn write(
    job: &Job<'_>,
    checkpoint: &Checkpoint,
    destination: &Destination<'_>,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Tally>, QuantizeError> {
    let metadata = metadata::resolve(checkpoint, &job.metadata)?;
    let partial = Partial::create(destination, job.file_bytes())?;
    let mut out = BufWriter::with_capacity(1 << 20, partial.file());
    gguf::write_header(&mut out, &metadata, &job.entries())?;
    drop(metadata);
    let tallies = pipeline::run(job, threads, cancel, &mut out, progress)?;
    out.flush().map_err(QuantizeError::Write)?;
    drop(out);
    partial.commit()?;
    Ok(tallies)
}
