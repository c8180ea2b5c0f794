//! How a measurement is watched and stopped: a flag to look at, and a place to say how far it is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::error::ValidateError;

/// How far a measurement is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done now, such as `repeat 2 of 3`.
    pub stage: String,
    /// Tokens generated in this stage.
    pub tokens: u64,
    /// Tokens that the stage generates; zero where it counts none.
    pub of: u64,
}

impl Progress {
    /// A stage that counts no tokens.
    pub(super) fn stage(stage: impl Into<String>) -> Progress {
        Progress {
            stage: stage.into(),
            tokens: 0,
            of: 0,
        }
    }
}

/// How often a waiting measurement looks at the flag.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work` on a thread of its own, passing its progress on, until it ends or `cancel` is set. A
/// cancelled thread is left behind: it may be waiting for a server, and the program ends anyway.
///
/// # Errors
/// Those of `work`; [`ValidateError::Cancelled`] within a twentieth of a second once `cancel` is set.
pub fn supervised<T: Send + 'static, E: From<ValidateError> + Send + 'static>(
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
    work: impl FnOnce(&Sender<Progress>) -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    let (say, heard) = channel();
    let worker = thread::spawn(move || work(&say));
    loop {
        if cancel.load(Ordering::Relaxed) {
            return Err(ValidateError::Cancelled.into());
        }
        match heard.recv_timeout(LOOK) {
            Ok(now) => progress(&now),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    match worker.join() {
        Ok(outcome) => outcome,
        Err(payload) => std::panic::resume_unwind(payload),
    }
}
