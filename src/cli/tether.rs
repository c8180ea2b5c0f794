//! The hidden command that replaces itself with another program, which the kernel ends when the process that started it
//! has ended: a process that is killed cannot end what it started. Only `validate --backend llama-bench` calls it.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, ExitCode};

use crate::validate::{self, NOT_STARTED};

/// The process id of the parent, the program and its arguments, if this process was started for that.
pub(super) fn is_asked() -> Option<(u32, OsString, Vec<OsString>)> {
    let mut words = std::env::args_os().skip(1);
    words
        .next()
        .filter(|word| word == validate::TETHER_COMMAND)?;
    let parent = words.next()?.to_str()?.parse().ok()?;
    Some((parent, words.next()?, words.collect()))
}

pub(super) fn run((parent, program, words): (u32, OsString, Vec<OsString>)) -> ExitCode {
    let mut command = Command::new(&program);
    command.args(words);
    let error = match bound_to(parent) {
        Ok(()) => replaced_by(&mut command),
        Err(error) => error,
    };
    let _ = writeln!(std::io::stderr(), "{error}");
    ExitCode::from(NOT_STARTED)
}

/// Has the kernel end this process when its parent ends, also after it is replaced by another program. Elsewhere than
/// on Linux the parent ends it, unless it is killed itself.
fn bound_to(parent: u32) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, getppid, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before that.
        let is_there = getppid().is_some_and(|pid| pid.as_raw_nonzero().get() as u32 == parent);
        if !is_there {
            return Err(std::io::Error::other(
                "the process that started it has ended",
            ));
        }
    }
    let _ = parent;
    Ok(())
}

/// Returns only where the program cannot be started.
fn replaced_by(command: &mut Command) -> std::io::Error {
    #[cfg(unix)]
    return std::os::unix::process::CommandExt::exec(command);
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(error) => error,
    }
}
