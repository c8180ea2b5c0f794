//! The command line: one file per subcommand, each a short pipeline. The only place that prints,
//! reads the environment and knows exit codes.

mod args;
mod board;
mod boards;
mod calibrate;
mod compare;
mod config;
mod date;
mod devices;
mod docs;
mod evaluated;
mod fit;
mod imatrix;
mod mix;
mod mix_state;
mod inspect;
mod models;
mod output;
mod pages;
mod progress;
mod projector;
mod pull;
mod quantize;
mod remote;
mod render;
mod request;
mod roofline;
mod saved;
mod setting_values;
mod settings;
mod side_by_side;
mod template;
mod tether;
mod validate;
mod version;
mod watch;
mod written;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::foreign::{self, Foreign};
use crate::planner::PlanError;
use args::Cli;
use args::{Command, When};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It fits, or there was nothing to judge.
    Yes,
    /// It does not fit, or does not match.
    No,
    /// A signal ended it early; what there was by then was kept. The status of shells for that signal.
    Signalled(u8),
}

/// Runs the program.
pub(super) fn main() -> ExitCode {
    if render::is_asked() {
        return render::run();
    }
    if let Some(asked) = tether::is_asked() {
        return tether::run(asked);
    }
    let cli = match config::parse(args::joined(std::env::args_os().collect())) {
        Ok(Ok(cli)) => Ok(cli),
        Ok(Err(error)) => return usage(&error),
        Err(error) => Err(error),
    };
    match cli.and_then(run) {
        Ok(Outcome::Yes) => ExitCode::SUCCESS,
        Ok(Outcome::No) => ExitCode::from(1),
        Ok(Outcome::Signalled(status)) => ExitCode::from(status),
        Err(error) => {
            let of_runtime = error.downcast_ref::<PlanError>();
            let settings = of_runtime.filter(|error| error.is_of_the_runtime());
            let settings = settings.and_then(|_| config::sources());
            let settings = settings.map_or(String::new(), |settings| format!(". {settings}"));
            let message = clean(&format!("{}{settings}", message(&error)));
            let _ = writeln!(std::io::stderr(), "error: {message}");
            ExitCode::from(progress::signalled().unwrap_or(2))
        }
    }
}

/// Help and version as clap prints them; a usage error as one line like every other error.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand, MissingSubcommand,
    };
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    match error.kind() {
        DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand => {
            let _ = error.print();
        }
        InvalidSubcommand => {
            let line = clean(&args::unknown_command(error));
            let _ = writeln!(std::io::stderr(), "error: {line}");
        }
        _ if args::negative(error).is_some() => {
            let number = args::negative(error).unwrap_or_default();
            let line = format!("`{number}` is no flag, and no flag takes a value below 0");
            let _ = writeln!(std::io::stderr(), "error: {line}");
        }
        _ => {
            let text = error.to_string();
            let parts = text
                .split("\n\n")
                .filter(|part| !part.starts_with("For more information"));
            let line = clean(&parts.collect::<Vec<_>>().join("\n"));
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
    ExitCode::from(2)
}

fn run(cli: Cli) -> anyhow::Result<Outcome> {
    remote::allow(cli.network);
    // Set once: a process parses one command line.
    let _ = COLOUR.set(cli.color);
    match cli.command {
        Command::Fit(args) => fit::run(&args),
        Command::Board(args) => board::run(&args),
        Command::Models(args) => models::run(&args),
        Command::Quantize(args) => quantize::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Imatrix(args) => imatrix::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Roofline(args) => roofline::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Completions(args) => docs::completions(&args),
        Command::Man(args) => docs::man(&args),
    }
}

/// Prints a report, with control characters escaped: it may contain names from files.
fn show(report: &str) -> anyhow::Result<()> {
    print(&foreign::lines(report))
}

/// Prints to standard output. A closed pipe is no error: its reader wanted no more.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a warning on standard error; the same one only once.
fn warn(message: &str) {
    static PRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let line = clean(message);
    let mut printed = PRINTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !printed.contains(&line) {
        let _ = writeln!(std::io::stderr(), "warning: {line}");
        printed.push(line);
    }
}

/// An error with its causes; a cause that the message quotes already is left out.
fn message(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain().map(|cause| cause.to_string()) {
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

/// The root directory of this machine: `/`, or the one that `ORINPLAN_ROOT` names, such as a container's mount of it.
fn machine_root() -> PathBuf {
    let named = std::env::var_os("ORINPLAN_ROOT").filter(|root| !root.is_empty());
    PathBuf::from(named.unwrap_or_else(|| "/".into()))
}

/// When reports have colours, as the command line says.
static COLOUR: OnceLock<When> = OnceLock::new();

/// Whether a report has colours: by default where standard output is a terminal whose user has not asked for plain text.
fn wants_colour() -> bool {
    match COLOUR.get() {
        Some(When::Always) => return true,
        Some(When::Never) => return false,
        Some(When::Auto) | None => {}
    }
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && !is_dumb() && std::io::stdout().is_terminal()
}

/// The width of the terminal, if standard output is one.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}

/// Whether the terminal has no control sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// A message on one line, with control characters escaped: it may contain names from files.
fn clean(message: &str) -> String {
    let spaced = message
        .split('\n')
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = spaced.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    Foreign(&line).to_string()
}
