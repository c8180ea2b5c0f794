//! Progress of a long command on standard error, where that is a terminal; the signals that end it; and the peak of its
//! memory.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::foreign::Foreign;
use crate::quantize::Progress;
use crate::units::Bytes;

/// Bytes, tensors, rate and time left, on one line.
pub(super) struct Bar {
    bar: ProgressBar,
    tensors: usize,
}

impl Bar {
    /// A line for a file with this number of tensors and bytes of them.
    pub(super) fn new(bytes: Bytes, tensors: usize) -> Bar {
        let target = target();
        let bar = ProgressBar::with_draw_target(Some(bytes.0), target);
        let form = "{bytes} of {total_bytes}, {msg}, {decimal_bytes_per_sec}, {eta} left";
        // The template is valid; if it were not, the bar would have its default style.
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

/// Steps of one kind that are done, and the time left, on one line.
pub(super) struct Steps(ProgressBar);

impl Steps {
    /// A line for `of` steps of what `name` says.
    pub(super) fn new(name: &str, of: usize) -> Steps {
        let bar = ProgressBar::with_draw_target(Some(of as u64), target());
        style(&bar, "{msg}: {pos} of {len}");
        bar.set_message(Foreign(name).to_string());
        bar.tick();
        Steps(bar)
    }

    pub(super) fn set(&self, done: usize) {
        // Nothing is known of the time before the first step is done.
        style(&self.0, "{msg}: {pos} of {len}, {eta} left");
        self.0.set_position(done as u64);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// Sets the form of a line. The templates are valid; if one were not, the bar would keep its form.
fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// The current stage, on one line.
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    pub(super) fn new() -> Spinner {
        let target = target();
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

/// Draws only to a terminal that can move its cursor.
pub(super) fn target() -> ProgressDrawTarget {
    if std::io::stderr().is_terminal() && !super::is_dumb() {
        ProgressDrawTarget::stderr_with_hz(10)
    } else {
        ProgressDrawTarget::hidden()
    }
}

/// The peak of this process's resident memory; Linux only.
pub(super) fn peak_memory() -> Option<Bytes> {
    let kib: u64 = own_status("VmHWM:")?
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(Bytes(kib * 1024))
}

/// A field of `/proc/self/status`.
fn own_status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().to_owned())
}

/// The signal that asked the program to end, if one did.
static ENDED_BY: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// A flag that is set by Ctrl-C, by a request to terminate and when the terminal is closed. The second signal ends the
/// program at once.
pub(super) fn cancelled_by_signals() -> anyhow::Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGHUP, TERM_SIGNALS};
    use signal_hook::flag;
    let cancel = Arc::new(AtomicBool::new(false));
    let ended_by = ENDED_BY.get_or_init(Arc::default);
    // `nohup` has the hangup ignored, which is kept.
    let ignored = own_status("SigIgn:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
    let hangup = ignored.is_none_or(|mask| mask >> (SIGHUP - 1) & 1 == 0);
    let signals = TERM_SIGNALS.iter().chain(hangup.then_some(&SIGHUP));
    for &signal in signals {
        let number = usize::try_from(signal).unwrap_or_default();
        flag::register_conditional_shutdown(signal, status_of(number).into(), cancel.clone())
            .and_then(|_| flag::register_usize(signal, ended_by.clone(), number))
            .and_then(|_| flag::register(signal, cancel.clone()))
            .context("signals cannot be caught")?;
    }
    Ok(cancel)
}

/// The exit status of shells for a program that a signal ended; `None` if none did.
pub(super) fn signalled() -> Option<u8> {
    match ENDED_BY.get()?.load(Ordering::Relaxed) {
        0 => None,
        number => Some(status_of(number)),
    }
}

/// 128 and the signal's number.
fn status_of(signal: usize) -> u8 {
    128 + (signal as u8 & 0x7f)
}
