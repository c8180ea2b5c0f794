//! Workers encode chunks, one writer puts them into the file in order.
//!
//! Memory is bounded by the number of buffers, whatever the model: a worker takes a buffer before it
//! takes a chunk, and the writer gives buffers back. Chunks are taken in order, so the one that the
//! writer waits for always has its buffer already.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::chunk::{self, Chunk, Scratch};
use super::job::Job;
use super::{QuantizeError, Tally};
use crate::gguf::ALIGNMENT;
use crate::units::Bytes;

/// How far a file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors that were written.
    pub bytes: Bytes,
    /// Tensors that are complete.
    pub tensors: usize,
}

/// A chunk's bytes and counts, by its number.
type Done = (usize, Vec<u8>, Result<Tally, QuantizeError>);

/// Writes every tensor of `job` behind the header, each padded, and counts what was met.
pub(super) fn run(
    job: &Job<'_>,
    threads: usize,
    cancel: &AtomicBool,
    out: &mut impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Tally>, QuantizeError> {
    let chunks = chunk::chunks(job);
    let threads = threads.clamp(1, chunks.len().max(1));
    let next = AtomicUsize::new(0);
    let (free, empty) = mpsc::channel();
    for _ in 0..threads * 2 + 2 {
        let _ = free.send(Vec::new());
    }
    let empty = Mutex::new(empty);
    let (chunks, next, empty) = (&chunks, &next, &empty);
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        for _ in 0..threads {
            let done = done.clone();
            scope.spawn(move || work(job, chunks, next, empty, &done));
        }
        drop(done);
        write(job, chunks, cancel, &finished, free, out, progress)
    })
}

/// Encodes chunks until there are none, or the writer is gone.
fn work(
    job: &Job<'_>,
    chunks: &[Chunk],
    next: &AtomicUsize,
    empty: &Mutex<Receiver<Vec<u8>>>,
    done: &Sender<Done>,
) {
    let mut scratch = Scratch::default();
    loop {
        let buffer = empty.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut buffer) = buffer else { return };
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(chunk) = chunks.get(number) else {
            return;
        };
        let tally = chunk::encode(job, chunk, &mut scratch, &mut buffer);
        if done.send((number, buffer, tally)).is_err() {
            return;
        }
    }
}

/// Writes chunks in order as they come. Dropping `free` ends the workers.
fn write(
    job: &Job<'_>,
    chunks: &[Chunk],
    cancel: &AtomicBool,
    finished: &Receiver<Done>,
    free: Sender<Vec<u8>>,
    out: &mut impl Write,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Tally>, QuantizeError> {
    let mut tallies = vec![Tally::default(); job.tensors.len()];
    let mut early: BTreeMap<usize, (Vec<u8>, Result<Tally, QuantizeError>)> = BTreeMap::new();
    let mut so_far = Progress::default();
    for (number, chunk) in chunks.iter().enumerate() {
        let (bytes, tally) = loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(QuantizeError::Interrupted);
            }
            if let Some(found) = early.remove(&number) {
                break found;
            }
            let (number, bytes, tally) = finished.recv().map_err(|_| QuantizeError::Worker)?;
            early.insert(number, (bytes, tally));
        };
        let tally = tally?;
        out.write_all(&bytes).map_err(QuantizeError::Write)?;
        so_far.bytes += Bytes(bytes.len() as u64);
        let _ = free.send(bytes);
        if let Some(sum) = tallies.get_mut(chunk.tensor) {
            *sum += tally;
        }
        if chunk.last {
            so_far.tensors += 1;
            let written = job.tensors.get(chunk.tensor);
            let size = written.map_or(0, |planned| planned.assigned.bytes.0);
            let padding = size.next_multiple_of(ALIGNMENT) - size;
            let zeros = [0u8; ALIGNMENT as usize];
            let zeros = zeros.get(..padding as usize).unwrap_or_default();
            out.write_all(zeros).map_err(QuantizeError::Write)?;
        }
        progress(so_far);
    }
    Ok(tallies)
}
