//! Progress and cancellation of a measurement.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::error::ValidateError;

/// The progress of a measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasureProgress {
    /// The current stage, such as `repeat 2 of 3`.
    pub stage: String,
    /// Tokens generated in this stage.
    pub tokens: u64,
    /// Tokens that the stage generates; zero where it counts none.
    pub of: u64,
}

impl MeasureProgress {
    /// A stage that counts no tokens.
    pub(super) fn stage(stage: impl Into<String>) -> MeasureProgress {
        MeasureProgress {
            stage: stage.into(),
            tokens: 0,
            of: 0,
        }
    }
}

/// How often a waiting measurement polls the flag.
const POLL: Duration = Duration::from_millis(50);

/// [`supervised_for`] without a limit.
///
/// # Errors
/// As [`supervised_for`].
pub(super) fn supervised<T: Send + 'static, E: From<ValidateError> + Send + 'static>(
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
    work: impl FnOnce(&Sender<MeasureProgress>) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    // This limit is never reached.
    let ended = supervised_for(Duration::MAX, cancel, progress, work)?;
    ended.ok_or_else(|| ValidateError::Cancelled.into())
}

/// Runs `work` on another thread and passes its progress on, until it ends, `limit` has passed or `cancel` is set.
/// Returns `None` where the limit has passed. A thread that has not ended by then goes on by itself: it may be waiting
/// for a server, and it ends with the program.
///
/// # Errors
/// Those of `work`; [`ValidateError::Cancelled`] within 50 ms once `cancel` is set.
pub fn supervised_for<T: Send + 'static, E: From<ValidateError> + Send + 'static>(
    limit: Duration,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
    work: impl FnOnce(&Sender<MeasureProgress>) -> Result<T, E> + Send + 'static,
) -> Result<Option<T>, E> {
    let started = Instant::now();
    let (say, heard) = channel();
    let worker = thread::spawn(move || work(&say));
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(ValidateError::Cancelled.into());
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        match heard.recv_timeout(POLL) {
            Ok(now) => progress(&now),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    match worker.join() {
        Ok(outcome) => outcome.map(Some),
        Err(payload) => std::panic::resume_unwind(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_does_not_end_is_left_at_the_limit_or_when_it_is_cancelled() {
        let never = AtomicBool::new(false);
        let (go_on, wait) = channel::<()>();
        let waits = move |_: &Sender<MeasureProgress>| -> Result<(), ValidateError> {
            // Until the test is over.
            let _ = wait.recv();
            Ok(())
        };
        let outcome = supervised_for(Duration::ZERO, &never, &mut |_| {}, waits);
        assert!(matches!(outcome, Ok(None)), "{outcome:?}");
        drop(go_on);
        let (go_on, wait) = channel::<()>();
        let waits = move |_: &Sender<MeasureProgress>| -> Result<(), ValidateError> {
            let _ = wait.recv();
            Ok(())
        };
        let outcome = supervised(&AtomicBool::new(true), &mut |_| {}, waits);
        assert!(
            matches!(outcome, Err(ValidateError::Cancelled)),
            "{outcome:?}"
        );
        drop(go_on);
        let ends = |_: &Sender<MeasureProgress>| -> Result<u8, ValidateError> { Ok(7) };
        let outcome = supervised(&never, &mut |_| {}, ends);
        assert!(matches!(outcome, Ok(7)), "{outcome:?}");
    }
}
