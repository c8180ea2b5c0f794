//! A program that is run for what it prints: found, bounded in time and output, and ended with all that it
//! started.
//!
//! In: a command, or a name to look for. Out: what it printed. Must not: run what a folder happens to
//! hold, wait for a pipe that nobody closes, or leave a process behind.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::ValidateError;

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long its pipes may stay open behind it: what is in them is read in less.
const DRAIN: Duration = Duration::from_secs(1);

/// What it may print: a result has some kB, a log some hundred.
const MOST: usize = 16 << 20;

/// The program `name` among the folders of `path` (as `PATH` has them) that are named by their full path.
/// An empty or relative one is wherever the user happens to be, which may be a stranger's repository.
pub(super) fn find(name: &str, path: Option<&OsStr>) -> Option<PathBuf> {
    let listed = path.map(std::env::split_paths).into_iter().flatten();
    let folders = listed.filter(|folder| folder.is_absolute());
    folders
        .map(|folder| folder.join(name))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    let Ok(there) = file.metadata() else {
        return false;
    };
    #[cfg(unix)]
    let executable = std::os::unix::fs::PermissionsExt::mode(&there.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let executable = true;
    there.is_file() && executable
}

/// A running program, with all that it starts. Dropped, they end.
pub(super) struct Group {
    child: Child,
    status: Option<ExitStatus>,
}

impl Group {
    /// Starts `command` at the head of a process group of its own.
    pub(super) fn start(command: &mut Command) -> std::io::Result<Group> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let child = command.spawn()?;
        Ok(Group {
            child,
            status: None,
        })
    }

    /// The process.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the process has ended. It is left to be waited for: until then its group cannot be
    /// another's.
    fn has_ended(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(pid) = pid(&self.child) {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            return !matches!(waitid(WaitId::Pid(pid), look), Ok(None));
        }
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends all of the group. Returns how the process ended.
    pub(super) fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        #[cfg(unix)]
        if let Some(pid) = pid(&self.child) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(unix)]
fn pid(child: &Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// What a program left.
pub(super) struct Ran {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

/// The hidden command of this program that starts another one, which ends when its parent does.
pub const TETHER_COMMAND: &str = "run-tethered";

/// What that command exits with where the other cannot be started, the reason on standard error.
pub const NOT_STARTED: u8 = 127;

/// Runs `program` with `words` until it ends, `cancel` is set or `deadline` has passed; `started` is told its process.
/// `launcher` is this program, which starts it so that the kernel ends it should this process be killed.
///
/// # Errors
/// [`ValidateError`] where it does not start, is cancelled, takes too long or prints too much.
pub(super) fn run(
    (launcher, program): (&Path, &Path),
    words: &[OsString],
    deadline: Duration,
    cancel: &AtomicBool,
    started: &mut dyn FnMut(u32),
) -> Result<Ran, ValidateError> {
    let failed = |source| ValidateError::Start {
        program: program.to_owned(),
        source,
    };
    let ended = |problem: String| ValidateError::Ended {
        program: program.to_owned(),
        problem,
    };
    let since = Instant::now();
    std::fs::metadata(program).map_err(failed)?;
    let mut command = Command::new(launcher);
    command
        .arg(TETHER_COMMAND)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = Group::start(&mut command).map_err(failed)?;
    started(group.child().id());
    let out = Drain::start(group.child().stdout.take());
    let err = Drain::start(group.child().stderr.take());
    let too_much = || out.is_full() || err.is_full();
    while !group.has_ended() {
        if cancel.load(Ordering::Relaxed) {
            return Err(ValidateError::Cancelled);
        }
        if too_much() {
            break;
        }
        if since.elapsed() > deadline {
            let seconds = deadline.as_secs();
            return Err(ended(format!(
                "it did not end within {seconds} s; raise --timeout if the model is that slow"
            )));
        }
        thread::sleep(LOOK);
    }
    // What the program started may hold its pipes open: it ends first.
    let status = group.end().map_err(failed)?;
    let since = Instant::now();
    while !(out.is_done() && err.is_done()) && since.elapsed() < DRAIN {
        thread::sleep(Duration::from_millis(1));
    }
    if too_much() {
        return Err(ended(format!("it printed more than {} MiB", MOST >> 20)));
    }
    if status.code() == Some(NOT_STARTED.into()) {
        return Err(failed(std::io::Error::other(err.text().trim().to_owned())));
    }
    Ok(Ran {
        status,
        out: out.text(),
        err: err.text(),
    })
}

/// A pipe, read by a thread of its own so that the program never waits on it, up to what it may hold.
struct Drain {
    bytes: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

impl Drain {
    fn start(pipe: Option<impl Read + Send + 'static>) -> Drain {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reading = pipe.map(|mut pipe| {
            let bytes = bytes.clone();
            thread::spawn(move || {
                let mut chunk = [0; 1 << 16];
                // A pipe that breaks has given what it could; the exit status tells the rest.
                while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                    let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    if bytes.len() > MOST {
                        break;
                    }
                }
            })
        });
        Drain { bytes, reading }
    }

    fn is_done(&self) -> bool {
        self.reading.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn is_full(&self) -> bool {
        self.bytes.lock().is_ok_and(|bytes| bytes.len() > MOST)
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_named_by_their_full_path_are_searched() {
        let folder = std::env::temp_dir();
        let listed = std::env::join_paths([Path::new(""), Path::new("."), Path::new("src")]).ok();
        // The tests run where there are both.
        assert_eq!(find("Cargo.toml", listed.as_deref()), None);
        assert_eq!(find("no-such-program", Some(folder.as_os_str())), None);
        assert_eq!(
            find("sh", Some(OsStr::new("bin:/bin"))),
            Some(PathBuf::from("/bin/sh"))
        );
    }
}
