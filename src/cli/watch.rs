//! `orinplan fit --watch`: looks at the memory of this machine until a signal ends it, or its time is over.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use super::args::{FitArgs, ReportFormat};
use super::{Outcome, print, progress};
use crate::device::{self, Choice};
use crate::report::fit::watch::{WatchResult, Watched, drawn, logged, summary};
use crate::units::Bytes;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// A change that a file or a pipe gets a line for, as a share of the plan.
const NEWS: f64 = 0.01;

/// Refuses what cannot be watched, before anything is planned.
///
/// # Errors
/// `--watch` with another form than text, or with a file.
pub(super) fn check(args: &FitArgs) -> anyhow::Result<()> {
    let is_shown = args.report.format() == ReportFormat::Text && args.report.output.is_none();
    ensure!(
        !args.watch || is_shown,
        "--watch needs --format text, without --output"
    );
    Ok(())
}

/// Refuses to watch a board that is not this machine, before its plan is shown.
///
/// # Errors
/// `--watch` with a plan for another board.
pub(super) fn check_board(args: &FitArgs, choice: Choice) -> anyhow::Result<()> {
    ensure!(
        !args.watch || choice == Choice::ThisMachine,
        "--watch reads the memory of this machine: use --device host"
    );
    Ok(())
}

/// Watches a model whose plan is `planned` bytes, for so many seconds; without a number until a signal.
///
/// # Errors
/// A machine that does not report its memory.
pub(super) fn run(planned: Bytes, seconds: Option<u64>) -> anyhow::Result<Outcome> {
    let root = super::machine_root();
    let look = || {
        let memory = device::activity(&root).memory;
        let found = memory.total.zip(memory.available.or(memory.free));
        let (total, available) =
            found.context("proc/meminfo of this machine does not state its memory")?;
        anyhow::Ok((total, total.saturating_sub(available)))
    };
    let (total, before) = look()?;
    let mut watched = Watched {
        total,
        before,
        now: before,
        most: before,
        planned,
    };
    let cancel = progress::cancelled_by_signals()?;
    let screen = Screen::new();
    print("\nwatching this machine: start the server now; Ctrl-C stops\n")?;
    let begun = Instant::now();
    let is_over = || seconds.is_some_and(|seconds| begun.elapsed().as_secs() >= seconds);
    let mut told = before;
    while !cancel.load(std::sync::atomic::Ordering::Relaxed) && !is_over() {
        (_, watched.now) = look()?;
        watched.most = watched.most.max(watched.now);
        let change = watched.now.0.abs_diff(told.0) as f64;
        if screen.draw(&watched) {
            told = watched.now;
        } else if change > planned.as_f64() * NEWS {
            told = watched.now;
            print(&logged(&watched))?;
        }
        thread::sleep(INTERVAL);
    }
    screen.clear();
    print(&summary(&watched, super::columns()))?;
    Ok(match watched.result() {
        WatchResult::Above => Outcome::No,
        WatchResult::Within | WatchResult::NothingLoaded => Outcome::Yes,
    })
}

/// The lines that are drawn again and again on a terminal.
struct Screen(ProgressBar);

impl Screen {
    fn new() -> Screen {
        let bar = ProgressBar::with_draw_target(None, progress::target());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Screen(bar)
    }

    /// Draws the state; whether there is a terminal for it.
    fn draw(&self, watched: &Watched) -> bool {
        if self.0.is_hidden() {
            return false;
        }
        self.0
            .set_message(drawn(watched, super::columns().unwrap_or(80)));
        self.0.tick();
        true
    }

    fn clear(&self) {
        self.0.finish_and_clear();
    }
}
