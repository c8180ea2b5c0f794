//! Workers take chunks in order, and each writes what it made at its own place.
//!
//! The bytes do not depend on who did what when, and sums are taken in the order of the chunks, so they
//! are the same on any number of threads. Memory is one chunk's buffers a thread, whatever the model.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::chunk::{self, Chunk, Scratch, chunks};
use super::error::QuantizeError;
use super::planned::Planned;
use super::sink::WeightFiles;
use super::tally::Tally;
use crate::units::Bytes;

/// How far an output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that were written.
    pub bytes: Bytes,
    /// Tensors that are complete.
    pub tensors: usize,
}

/// Writes the values of every tensor, and counts what was met in each.
pub(super) fn run(
    tensors: &[Planned<'_>],
    output: &WeightFiles,
    threads: usize,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<Tally>, QuantizeError> {
    let threads = chunks(tensors).take(threads).count().max(1);
    let queue = Mutex::new(chunks(tensors).enumerate());
    let done = Mutex::new(Done {
        next: 0,
        early: BTreeMap::new(),
        tallies: vec![Tally::default(); tensors.len()],
        so_far: Progress::default(),
        progress,
        failure: None,
    });
    let work = || {
        let mut scratch = Scratch::default();
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

/// What was made of a chunk.
type Made = (Chunk, Tally, Bytes);

/// Chunks that are written, counted in their order.
struct Done<'a> {
    /// The first that is not yet counted.
    next: usize,
    /// Those behind it that are written.
    early: BTreeMap<usize, Made>,
    tallies: Vec<Tally>,
    so_far: Progress,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    /// The first chunk that could not be made. All before it were taken by then, so that every run
    /// gives the same.
    failure: Option<(usize, QuantizeError)>,
}

impl Done<'_> {
    fn add(&mut self, number: usize, made: Made) {
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
