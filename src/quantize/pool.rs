//! The worker threads: each takes the next chunk and writes the result to its own place in the output.
//!
//! The bytes do not depend on the order of execution, and tallies of a tensor are added in the order of its chunks, so that
//! both are identical with any number of threads and in any order of tensors. Memory use is the buffers of one chunk per
//! thread.

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

/// Is told what is written.
pub(super) trait Observer: Send {
    /// A chunk is written.
    fn progress(&mut self, now: Progress);

    /// All chunks of a tensor are written.
    ///
    /// # Errors
    /// Where that cannot be kept.
    fn complete(&mut self, tensor: usize, tally: Tally) -> Result<(), QuantizeError>;
}

/// An observer that is told of the progress alone.
impl<F: FnMut(Progress) + Send> Observer for F {
    fn progress(&mut self, now: Progress) {
        self(now);
    }

    fn complete(&mut self, _: usize, _: Tally) -> Result<(), QuantizeError> {
        Ok(())
    }
}

/// Puts the values of every tensor into `output`, and returns a tally for each.
pub(super) fn run(
    tensors: &[PlannedTensor<'_>],
    output: &impl Places,
    threads: usize,
    cancel: &AtomicBool,
    observer: &mut dyn Observer,
) -> Result<Vec<Tally>, QuantizeError> {
    let work = Work {
        tensors,
        output,
        threads: chunks(tensors).take(threads).count().max(1),
        cancel,
    };
    work.run(chunks(tensors), Progress::default(), observer)
}

/// What workers share.
pub(super) struct Work<'a, P> {
    pub(super) tensors: &'a [PlannedTensor<'a>],
    pub(super) output: &'a P,
    pub(super) threads: usize,
    pub(super) cancel: &'a AtomicBool,
}

impl<P: Places> Work<'_, P> {
    /// Writes `chunks`, in any order, after what is written `so_far`. Returns a tally for each tensor.
    pub(super) fn run(
        &self,
        chunks: impl Iterator<Item = Chunk> + Send,
        so_far: Progress,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Tally>, QuantizeError> {
        let queue = Mutex::new(chunks.enumerate());
        let done = Mutex::new(FinishedChunks {
            begun: BTreeMap::new(),
            next: 0,
            early: BTreeMap::new(),
            tallies: vec![Tally::default(); self.tensors.len()],
            so_far,
            observer,
            failure: None,
        });
        let work = || {
            let mut scratch = WorkerBuffers::default();
            loop {
                let Some((position, chunk)) = locked(&queue).next() else {
                    return;
                };
                let Some(planned) = self.tensors.get(chunk.tensor) else {
                    return;
                };
                let made = if self.cancel.load(Ordering::Relaxed) {
                    Err(QuantizeError::Interrupted)
                } else {
                    chunk::write(planned, &chunk, self.output, &mut scratch)
                };
                let mut done = locked(&done);
                let kept = made.and_then(|(tally, bytes)| done.add(position, &chunk, tally, bytes));
                if let Err(error) = kept {
                    done.fail(position, error);
                }
                if done.failure.is_some() {
                    return;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads {
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
}

/// The chunks that are written, counted for each tensor in their order.
struct FinishedChunks<'a> {
    /// Tensors of which some chunks are written.
    begun: BTreeMap<usize, Begun>,
    tallies: Vec<Tally>,
    /// The first chunk in the order of work that progress does not count yet, and those after it that are written: their
    /// bytes, and whether each is its tensor's last.
    next: usize,
    early: BTreeMap<usize, (Bytes, bool)>,
    so_far: Progress,
    observer: &'a mut dyn Observer,
    /// The first chunk that failed, with its error. All chunks before it are still processed, so that every run reports
    /// the same error.
    failure: Option<(usize, QuantizeError)>,
}

/// A tensor of which some chunks are written.
#[derive(Default)]
struct Begun {
    /// The number of the first chunk that is not yet counted.
    next: usize,
    /// Chunks after it that are already written, and whether each is the tensor's last.
    early: BTreeMap<usize, (Tally, bool)>,
}

impl FinishedChunks<'_> {
    fn add(
        &mut self,
        position: usize,
        chunk: &Chunk,
        tally: Tally,
        bytes: Bytes,
    ) -> Result<(), QuantizeError> {
        let begun = self.begun.entry(chunk.tensor).or_default();
        begun.early.insert(chunk.number, (tally, chunk.last));
        let mut complete = false;
        while let Some((tally, last)) = begun.early.remove(&begun.next) {
            begun.next += 1;
            complete = last;
            if let Some(sum) = self.tallies.get_mut(chunk.tensor) {
                *sum += tally;
            }
        }
        if complete {
            self.begun.remove(&chunk.tensor);
            let tally = self.tallies.get(chunk.tensor).copied();
            self.observer
                .complete(chunk.tensor, tally.unwrap_or_default())?;
        }
        self.early.insert(position, (bytes, chunk.last));
        while let Some((bytes, last)) = self.early.remove(&self.next) {
            self.next += 1;
            self.so_far.bytes += bytes;
            self.so_far.tensors += usize::from(last);
            self.observer.progress(self.so_far);
        }
        Ok(())
    }

    fn fail(&mut self, position: usize, error: QuantizeError) {
        let is_first = |(first, _): &(usize, _)| position < *first;
        if self.failure.as_ref().is_none_or(is_first) {
            self.failure = Some((position, error));
        }
    }
}

fn locked<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
