//! Work shared out among the threads of candle's pool, which its own products use too.
//!
//! In: a slice to be filled and a function for a chunk of it. Must not: be called from within a
//! chunk, which would wait for itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::utils::barrier_pool;

/// Threads that work: one per core, or as many as the environment's `CANDLE_NUM_THREADS` or
/// `RAYON_NUM_THREADS` says when the first model is run.
pub fn threads() -> usize {
    barrier_pool().n_workers() + 1
}

/// Calls `fill` with the number and the elements of each chunk of `out`: `size` of them, the last
/// chunk the rest. Every thread takes the next chunk that no other has taken.
pub(in super::super) fn parallel_chunks<T: Send>(
    out: &mut [T],
    size: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    let size = size.max(1);
    if out.len() <= size || threads() == 1 {
        for (index, chunk) in out.chunks_mut(size).enumerate() {
            fill(index, chunk);
        }
        return;
    }
    let chunks: Vec<Mutex<&mut [T]>> = out.chunks_mut(size).map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    barrier_pool().execute(|_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = chunks.get(index) else {
                break;
            };
            // No other thread asks for this chunk, so the lock is free, poisoned or not.
            if let Ok(mut chunk) = chunk.lock() {
                fill(index, &mut chunk);
            }
        }
    });
}

/// The size of chunks that gives each thread `each` of them, a multiple of `unit`.
pub(super) fn chunk_size(len: usize, each: usize, unit: usize) -> usize {
    let unit = unit.max(1);
    len.div_ceil(threads() * each)
        .next_multiple_of(unit)
        .max(unit)
}
