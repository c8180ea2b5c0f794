//! A line on standard error that says how far a long command is, where that is a terminal; the signals
//! that end one; and the memory that the program has taken.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::quantize::Progress;
use crate::units::Bytes;

/// Bytes, tensors, rate and time left, on one line.
pub(super) struct Bar {
    bar: ProgressBar,
    tensors: usize,
}

impl Bar {
    /// A line for a file of so many tensors and so many bytes of them.
    pub(super) fn new(bytes: Bytes, tensors: usize) -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(bytes.0), target);
        let form = "{bytes} of {total_bytes}, {msg}, {decimal_bytes_per_sec}, {eta} left";
        // The form is one that is known to be right; without it the bar has another look.
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style);
        }
        Bar { bar, tensors }
    }

    pub(super) fn set(&self, progress: Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let message = format!("tensor {} of {}", progress.tensors, self.tensors);
        self.bar.set_message(message);
        self.bar.set_position(progress.bytes.0);
    }

    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// What is done now, on one line.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new() -> Spinner {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}, {elapsed}") {
            bar.set_style(style);
        }
        Spinner(bar)
    }

    pub(super) fn say(&self, message: String) {
        self.0.set_message(message);
        self.0.tick();
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// The most memory that the program has held, files mapped by the system left aside; Linux says so.
pub(super) fn peak_memory() -> Option<Bytes> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Bytes(kib * 1024))
}

/// A flag that Ctrl-C and a request to end set. The second one ends the program at once.
pub(super) fn cancelled_by_signals() -> anyhow::Result<Arc<AtomicBool>> {
    use signal_hook::consts::TERM_SIGNALS;
    use signal_hook::flag;
    let cancel = Arc::new(AtomicBool::new(false));
    for &signal in TERM_SIGNALS {
        flag::register_conditional_shutdown(signal, 2, cancel.clone())
            .and_then(|_| flag::register(signal, cancel.clone()))
            .context("signals cannot be caught")?;
    }
    Ok(cancel)
}
