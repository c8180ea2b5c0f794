//! How fast all threads together read memory.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

/// Far more than any processor's caches hold.
const BYTES: usize = 512 << 20;

/// The best of this many readings: others may use the memory meanwhile.
const READINGS: usize = 5;

/// Bytes a second that `threads` read in sequence, each from a part of its own.
pub(super) fn bandwidth(threads: usize) -> f64 {
    let words = vec![1u64; BYTES / 8];
    let part = words.len().div_ceil(threads.max(1));
    let mut best = f64::INFINITY;
    for _ in 0..READINGS {
        let started = Instant::now();
        thread::scope(|scope| {
            for part in words.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
        best = best.min(started.elapsed().as_secs_f64());
    }
    BYTES as f64 / best
}

/// The sum in lanes that a compiler puts into registers: reading is what takes the time.
fn sum(words: &[u64]) -> u64 {
    let (lanes, rest) = words.as_chunks::<16>();
    let mut sums = [0u64; 16];
    for lane in lanes {
        for (sum, word) in sums.iter_mut().zip(lane) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter()
        .chain(rest)
        .fold(0, |sum, word| sum.wrapping_add(*word))
}
