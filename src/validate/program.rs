//! Runs a program for its output: finds it, limits its time and output, and ends it with all processes that it started.
//!
//! In: a program, or a name to look for. Out: what it printed. Must not: run a program of the current folder, wait for a
//! pipe that is never closed, or leave a process behind.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use super::error::ValidateError;

/// How often a running program is polled.
const POLL: Duration = Duration::from_millis(50);

/// How long its pipes are read after it has ended.
const DRAIN: Duration = Duration::from_secs(1);

/// The most bytes that it may print: a result has some kB, a log some hundred.
const MOST: usize = 16 << 20;

/// The program `name` in the absolute folders of `path`, a value of `PATH`. Empty and relative ones depend on the current
/// folder, which may be a stranger's repository.
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

/// A running program with all processes that it starts. They are ended when this is dropped.
pub(super) struct ProcessGroup {
    child: Child,
    status: Option<ExitStatus>,
    mark: String,
}

/// The variable of the environment that marks all processes of a run, so that one that left the group is found.
const MARK: &str = "ORINPLAN_RUN";

/// A value of [`MARK`] that no other run has.
fn new_mark() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.unwrap_or_default().as_nanos();
    format!("{MARK}={}-{count}-{nanos}", std::process::id())
}

/// Ends the processes whose environment has `mark`. Only Linux shows it.
fn end_marked(mark: &str) {
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else {
            continue;
        };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = mark;
}

impl ProcessGroup {
    /// Starts `command` as the leader of a new process group.
    pub(super) fn start(command: &mut Command) -> std::io::Result<ProcessGroup> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let mark = new_mark();
        let value = mark
            .strip_prefix(MARK)
            .and_then(|rest| rest.strip_prefix('='));
        let child = command.env(MARK, value.unwrap_or_default()).spawn()?;
        Ok(ProcessGroup {
            child,
            status: None,
            mark,
        })
    }

    /// The process.
    pub(super) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Whether the process has ended. It is not reaped, so that the id of its group is not used again.
    fn has_ended(&mut self) -> bool {
        #[cfg(unix)]
        if let Some(pid) = pid(&self.child) {
            use rustix::process::{WaitId, WaitIdOptions, waitid};
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            return !matches!(waitid(WaitId::Pid(pid), look), Ok(None));
        }
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends all processes of the group. Returns the exit status of the first.
    pub(super) fn end(&mut self) -> std::io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        #[cfg(unix)]
        if let Some(pid) = pid(&self.child) {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
        end_marked(&self.mark);
        let status = self.child.wait()?;
        self.status = Some(status);
        Ok(status)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

#[cfg(unix)]
fn pid(child: &Child) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// The exit status of a program and what it printed.
pub(super) struct ProgramOutput {
    pub(super) status: ExitStatus,
    pub(super) out: String,
    pub(super) err: String,
}

/// The hidden command of this program that runs another program, which ends when its parent does.
pub const TETHER_COMMAND: &str = "run-tethered";

/// The exit status of that command where the other program cannot be started; the reason is on standard error.
pub const NOT_STARTED: u8 = 127;

/// Runs `program` with the arguments `words` until it ends, `cancel` is set or `deadline` has passed. `started` is called
/// with its process id. `launcher` is this program: the kernel ends what it starts if this process is killed.
///
/// # Errors
/// [`ValidateError`] where it does not start, is cancelled, takes too long or prints too much.
pub(super) fn run(
    (launcher, program): (&Path, &Path),
    words: &[OsString],
    deadline: Duration,
    cancel: &AtomicBool,
    started: &mut dyn FnMut(u32),
) -> Result<ProgramOutput, ValidateError> {
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
    let mut group = ProcessGroup::start(&mut command).map_err(failed)?;
    started(group.child().id());
    let out = PipeReader::start(group.child().stdout.take());
    let err = PipeReader::start(group.child().stderr.take());
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
        thread::sleep(POLL);
    }
    // Processes that the program started may hold its pipes open, so they are ended first.
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
    Ok(ProgramOutput {
        status,
        out: out.text(),
        err: err.text(),
    })
}

/// Reads a pipe on another thread, so that the program never waits to write, up to a limit.
struct PipeReader {
    bytes: Arc<Mutex<Vec<u8>>>,
    reading: Option<JoinHandle<()>>,
}

impl PipeReader {
    fn start(pipe: Option<impl Read + Send + 'static>) -> PipeReader {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reading = pipe.map(|mut pipe| {
            let bytes = bytes.clone();
            thread::spawn(move || {
                let mut chunk = [0; 1 << 16];
                // A read error ends the output; the exit status tells whether the program failed.
                while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                    let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                    bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
                    if bytes.len() > MOST {
                        break;
                    }
                }
            })
        });
        PipeReader { bytes, reading }
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
