//! Rates of a machine without a model: reading memory, and multiply-adds in registers, by all threads together.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::validate::error::ValidateError;

/// Bytes that are read: far more than most processors' caches hold.
const BYTES: usize = 512 << 20;

/// Multiply-adds of one thread in a trial.
const MULTIPLIED: usize = 64 << 20;

/// The most trials, of which the best counts: other programs may slow some of them.
const TRIALS: usize = 5;

/// Bytes a second that `threads` read in sequence, each from its own part of the memory. After the first trial, none
/// begins after `until`.
///
/// # Errors
/// [`ValidateError::Cancelled`] once `cancel` is set.
pub(super) fn bandwidth(
    threads: usize,
    until: Instant,
    cancel: &AtomicBool,
) -> Result<f64, ValidateError> {
    let words = vec![1u64; BYTES / 8];
    let part = words.len().div_ceil(threads.max(1));
    let seconds = best(until, cancel, || {
        thread::scope(|scope| {
            for part in words.chunks(part) {
                scope.spawn(move || black_box(sum(part)));
            }
        });
    })?;
    Ok(BYTES as f64 / seconds)
}

/// Multiply-adds of floats a second that `threads` do. After the first trial, none begins after `until`.
///
/// # Errors
/// [`ValidateError::Cancelled`] once `cancel` is set.
pub(super) fn arithmetic(
    threads: usize,
    until: Instant,
    cancel: &AtomicBool,
) -> Result<f64, ValidateError> {
    let seconds = best(until, cancel, || {
        thread::scope(|scope| {
            for _ in 0..threads.max(1) {
                scope.spawn(|| black_box(multiplied(MULTIPLIED)));
            }
        });
    })?;
    Ok((MULTIPLIED * threads.max(1)) as f64 / seconds)
}

/// The seconds of the fastest trial.
fn best(until: Instant, cancel: &AtomicBool, trial: impl Fn()) -> Result<f64, ValidateError> {
    let mut best = f64::INFINITY;
    for _ in 0..TRIALS {
        if cancel.load(Ordering::Relaxed) {
            return Err(ValidateError::Cancelled);
        }
        let started = Instant::now();
        trial();
        best = best.min(started.elapsed().as_secs_f64());
        if Instant::now() > until {
            break;
        }
    }
    // A coarse clock may show no time at all.
    Ok(best.max(1e-9))
}

/// The sum of `words`, in lanes that the compiler keeps in vector registers, so that reading takes the time.
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

/// `count` multiply-adds in independent lanes, enough to hide the latency of each.
fn multiplied(count: usize) -> f32 {
    let mut lanes: [f32; 32] = black_box([1.0; 32]);
    let factor = black_box(0.999_f32);
    for _ in 0..count / lanes.len() {
        for lane in &mut lanes {
            *lane = *lane * factor + 0.001;
        }
    }
    lanes.iter().sum()
}
