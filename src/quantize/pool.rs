//! The worker threads: each takes the next chunk and writes the result to its own place in the output.
//!
//! The bytes do not depend on the order of execution, and tallies are added in the order of the chunks, so that both
//! are identical with any number of threads. Memory use is the buffers of one chunk per thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::chunk::{self, Chunk, WorkerBuffers, chunks};
use super::error::QuantizeError;
use super::planned::PlannedTensor;
use super::sink::Places;
use super::tally::Tally;
use crate::units::Bytes;

/// The progress of writing an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors written so far.
    pub bytes: Bytes,
    /// The number of complete tensors.
    pub tensors: usize,
}

/// Puts the values of every tensor into `output`, and returns a tally for each.
pub(super) fn run(
    tensors: &[PlannedTensor<'_>],
    output: &impl Places,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Tally>, QuantizeError> {
    let threads = chunks(tensors).take(threads).count().max(1);
    let queue = Mutex::new(chunks(tensors).enumerate());
    let done = Mutex::new(FinishedChunks {
        next: 0,
        early: BTreeMap::new(),
        tallies: vec![Tally::default(); tensors.len()],
        so_far: Progress::default(),
        progress,
        failure: None,
    });
    let work = || {
        let mut scratch = WorkerBuffers::default();
        loop {
            let Some((number, chunk)) = locked(&queue).next() else {
                return;
            };
            let Some(planned) = tensors.get(chunk.tensor) else {
                return;
            };
            let made = if cancel.load(Ordering::Relaxed) {
                Err(QuantizeError::Interrupted)
            } else {
                chunk::write(planned, &chunk, output, &mut scratch)
            };
            let mut done = locked(&done);
            match made {
                Ok((tally, bytes)) => done.add(number, (chunk, tally, bytes)),
                Err(error) => done.fail(number, error),
            }
            if done.failure.is_some() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    match done.failure {
        Some((_, error)) => Err(error),
        None => Ok(done.tallies),
    }
}

/// A chunk that is written, with its tally and the bytes written.
type FinishedChunk = (Chunk, Tally, Bytes);

/// The chunks that are written, counted in their order.
struct FinishedChunks<'a> {
    /// The index of the first chunk that is not yet counted.
    next: usize,
    /// Chunks after it that are already written.
    early: BTreeMap<usize, FinishedChunk>,
    tallies: Vec<Tally>,
    so_far: Progress,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    /// The first chunk that failed, with its error. All chunks before it are still processed, so that every run reports
    /// the same error.
    failure: Option<(usize, QuantizeError)>,
}

impl FinishedChunks<'_> {
    fn add(&mut self, number: usize, made: FinishedChunk) {
        self.early.insert(number, made);
        while let Some((chunk, tally, bytes)) = self.early.remove(&self.next) {
            self.next += 1;
            if let Some(sum) = self.tallies.get_mut(chunk.tensor) {
                *sum += tally;
            }
            self.so_far.bytes += bytes;
            self.so_far.tensors += usize::from(chunk.last);
            (self.progress)(self.so_far);
        }
    }

    fn fail(&mut self, number: usize, error: QuantizeError) {
        let is_first = |(first, _): &(usize, _)| number < *first;
        if self.failure.as_ref().is_none_or(is_first) {
            self.failure = Some((number, error));
        }
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
