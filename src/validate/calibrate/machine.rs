//! What all threads together do of the simplest kind: read memory, and multiply what is in registers.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::validate::error::ValidateError;

/// Far more than most processors' caches hold.
const BYTES: usize = 512 << 20;

/// Multiply-adds of one thread in a reading.
const MULTIPLIED: usize = 64 << 20;

/// The best of this many readings, if there is time for more than one: others may use the machine meanwhile.
const READINGS: usize = 5;

/// Bytes a second that `threads` read in sequence, each from a part of its own. No reading begins after `until`, but
/// the first.
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

/// Multiply-adds of floats a second that `threads` do. No reading begins after `until`, but the first.
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

fn best(until: Instant, cancel: &AtomicBool, read: impl Fn()) -> Result<f64, ValidateError> {
    let mut best = f64::INFINITY;
    for _ in 0..READINGS {
        if cancel.load(Ordering::Relaxed) {
            return Err(ValidateError::Cancelled);
        }
        let started = Instant::now();
        read();
        best = best.min(started.elapsed().as_secs_f64());
        if Instant::now() > until {
            break;
        }
    }
    // A clock may stand still for less than it ticks.
    Ok(best.max(1e-9))
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

/// `count` multiply-adds in lanes that wait for nothing but themselves.
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
