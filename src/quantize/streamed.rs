//! Writes an output whose source is on a server: chunks in the order in which the source stores them, so that its files are
//! read once from their beginning to their end, with a journal of what is complete.
//!
//! In: a job. Out: the output as any other, or a part of it that the next run goes on with.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::chunk::{chunks, chunks_as_stored};
use super::destination::{Destination, OutputError, Start};
use super::error::QuantizeError;
use super::journal::{self, Identity, Journal};
use super::packed::Files;
use super::partial::{Leftover, OutputForm, Partial};
use super::planned::PlannedTensor;
use super::pool::{Observer, Progress, Work};
use super::sink::Sink;
use super::tally::Tally;
use crate::units::Bytes;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// A tally for each tensor, in their order.
    pub tallies: Vec<Tally>,
    /// Tensors that an earlier run wrote.
    pub kept: usize,
    /// Files of the source whose digest could not be checked, each with the reason.
    pub unchecked: Vec<String>,
}

/// An output that is planned.
pub(super) struct Output<'a> {
    pub(super) tensors: &'a [PlannedTensor<'a>],
    pub(super) sink: &'a dyn Sink,
    pub(super) files: &'a Files,
    /// The state of the source.
    pub(super) source: &'a str,
}

/// Writes an output as [`super::write_from`] says.
pub(super) fn write(
    job: &Output<'_>,
    destination: &Destination<'_>,
    start: Start,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Written, QuantizeError> {
    let target = destination.path;
    let form = job.sink.form();
    // A directory is many files, of which each would have to be gone on with.
    let can_go_on = matches!(form, OutputForm::File);
    let identity = Identity::of(job.source, job.sink.bytes(), job.tensors);
    let begun = can_go_on.then(|| journal::begun(destination, start, &identity));
    let complete = begun.transpose()?.flatten().unwrap_or_default();
    let leftover = match complete.as_slice() {
        [] => Leftover::Replace,
        _ => Leftover::GoOn,
    };
    let partial = Partial::create(destination, form, job.sink.bytes(), leftover)?;
    let there = fs::metadata(partial.path()).map_or(0, |metadata| metadata.len());
    let weights = job.sink.begin(job.tensors, &partial)?;
    let bytes = |index: usize| {
        job.tensors
            .get(index)
            .map_or(Bytes(0), |t| t.assigned.bytes)
    };
    // What the journal notes is there, unless somebody removed the file beside it.
    let is_there = |index: usize| {
        let start = weights
            .places
            .get(index)
            .and_then(|place| place.offsets.first());
        start.is_some_and(|start| start + bytes(index).0 <= there)
    };
    let complete: Vec<_> = complete
        .into_iter()
        .filter(|(index, _)| is_there(*index))
        .collect();
    let done: HashMap<usize, Tally> = complete.iter().copied().collect();
    let kept = can_go_on.then(|| {
        let journal = Journal::begin(target, &identity, &complete)?;
        let file = partial.file()?;
        Ok::<_, QuantizeError>(Kept {
            journal,
            file,
            target,
        })
    });
    let mut observer = Keeper {
        progress,
        kept: kept.transpose()?,
        stays: partial.stays(),
    };
    let is_done = |tensor: usize| done.contains_key(&tensor);
    let left = job.tensors.iter().enumerate();
    let left = left.filter(|(index, _)| !is_done(*index));
    let so_far = Progress {
        bytes: done.keys().map(|&index| bytes(index)).sum(),
        tensors: done.len(),
    };
    let stored: Vec<_> = left.flat_map(|(_, tensor)| tensor.stored()).collect();
    job.files.fetch_ahead(stored.into_iter());
    let work = Work {
        tensors: job.tensors,
        output: &weights,
        threads: chunks(job.tensors).take(threads).count().max(1),
        cancel,
    };
    let order = chunks_as_stored(job.tensors, is_done);
    let written = work.run(order.into_iter(), so_far, &mut observer);
    let written = written.and_then(|tallies| Ok((tallies, job.files.finish()?)));
    let (mut tallies, unchecked) = match written {
        Ok(written) => written,
        Err(error) => return Err(observer.end(error)),
    };
    for (index, tally) in &done {
        if let Some(place) = tallies.get_mut(*index) {
            *place = *tally;
        }
    }
    weights.finish()?;
    job.sink.finish(&partial)?;
    partial.commit()?;
    journal::remove(target);
    Ok(Written {
        tallies,
        kept: done.len(),
        unchecked,
    })
}

/// Tells of the progress, and keeps what is complete.
struct Keeper<'a> {
    progress: &'a mut (dyn FnMut(Progress) + Send),
    /// `None` for an output that cannot be gone on with.
    kept: Option<Kept<'a>>,
    /// Whether the unfinished output stays.
    stays: Arc<AtomicBool>,
}

/// What is complete of an output.
struct Kept<'a> {
    journal: Journal,
    file: File,
    target: &'a Path,
}

impl Kept<'_> {
    fn sync(&self) -> Result<(), OutputError> {
        let synced = self.file.sync_data();
        synced.map_err(|error| OutputError::io(self.target, error))
    }
}

impl Observer for Keeper<'_> {
    fn progress(&mut self, now: Progress) {
        (self.progress)(now);
    }

    fn complete(&mut self, tensor: usize, tally: Tally) -> Result<(), QuantizeError> {
        let Some(kept) = &mut self.kept else {
            return Ok(());
        };
        if kept.journal.add(tensor, tally) {
            kept.sync()?;
            kept.journal.note()?;
            self.stays.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Keeper<'_> {
    /// The error of a run that ends early: what is complete stays, unless it is not to be trusted.
    fn end(mut self, error: QuantizeError) -> QuantizeError {
        let is_trusted = !error.is_of_other_content();
        let noted = self.kept.as_mut().filter(|_| is_trusted).and_then(|kept| {
            kept.sync().ok()?;
            kept.journal.note().ok()?;
            Some(kept.journal.noted)
        });
        let complete = noted.unwrap_or(0);
        self.stays.store(complete > 0, Ordering::Relaxed);
        if complete > 0 {
            let source = Box::new(error);
            return QuantizeError::Suspended { complete, source };
        }
        if let Some(kept) = &self.kept {
            journal::remove(kept.target);
        }
        error
    }
}
