//! Work shared out among the threads of candle's pool, which its own products use too.
//!
//! In: a slice to be filled and a function for a piece of it. Must not: be called from within a
//! piece, which would wait for itself.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::utils::barrier_pool;

/// Threads that work: one per core, or as many as the environment's `CANDLE_NUM_THREADS` or
/// `RAYON_NUM_THREADS` says when the first model is run.
pub fn threads() -> usize {
    barrier_pool().n_workers() + 1
}

/// Calls `fill` with the number and the elements of each piece of `out`: `size` of them, the last
/// piece what is left. Every thread takes the next piece that nobody has.
pub(in super::super) fn pieces<T: Send>(
    out: &mut [T],
    size: usize,
    fill: impl Fn(usize, &mut [T]) + Sync,
) {
    let size = size.max(1);
    if out.len() <= size || threads() == 1 {
        for (index, piece) in out.chunks_mut(size).enumerate() {
            fill(index, piece);
        }
        return;
    }
    let pieces: Vec<Mutex<&mut [T]>> = out.chunks_mut(size).map(Mutex::new).collect();
    let next = AtomicUsize::new(0);
    barrier_pool().execute(|_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else {
                break;
            };
            // Nobody else asks for this piece, so the lock is free, poisoned or not.
            if let Ok(mut piece) = piece.lock() {
                fill(index, &mut piece);
            }
        }
    });
}

/// The size of pieces that gives each thread `each` of them, a multiple of `unit`.
pub(super) fn piece_size(len: usize, each: usize, unit: usize) -> usize {
    let unit = unit.max(1);
    len.div_ceil(threads() * each)
        .next_multiple_of(unit)
        .max(unit)
}
