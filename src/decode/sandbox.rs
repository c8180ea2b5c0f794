//! A process of its own for a chat template: whatever the template does, it ends within bounds.
//!
//! In: a [`Chat`](super::Chat), and a program that answers `render-template` (this one). Out: the prompt's text.
//! The process is given the chat on its standard input and nothing of the environment; it limits its
//! own memory and time ([`confine`]) before it reads, and is ended from outside when it outlives
//! them, or when the caller wants no more.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{DecodeError, TemplateFault};

/// The hidden command that renders.
pub const COMMAND: &str = "render-template";

/// Its exit status when the template is wrong; the message is on standard output.
pub const WRONG_TEMPLATE: u8 = 3;

/// Its exit status when the template is no Jinja; the message is on standard output.
pub const NO_JINJA: u8 = 4;

/// Memory that the process may take, the stack among it.
#[cfg(unix)]
const MEMORY: u64 = 1 << 30;

/// Its time on a processor, and then, should it wait for something, on the wall.
#[cfg(unix)]
const SECONDS: u64 = 5;
const DEADLINE: Duration = Duration::from_secs(20);

/// The longest prompt that is read back.
const PROMPT_LIMIT: u64 = 16 << 20;

/// A program that renders chat templates in a process of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renderer {
    /// The `orinplan` program.
    pub program: PathBuf,
}

/// Limits this process to what a template may take. Where the system has no such limits, the
/// deadline is left.
///
/// # Errors
/// A limit that the system refuses.
pub fn confine() -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limits = [
            (Resource::As, MEMORY),
            (Resource::Cpu, SECONDS),
            (Resource::Core, 0),
        ];
        for (resource, limit) in limits {
            let limit = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            setrlimit(resource, limit)?;
        }
    }
    Ok(())
}

impl Renderer {
    /// Renders `chat`.
    ///
    /// # Errors
    /// [`DecodeError::Template`]: a template that fails or goes beyond its bounds, a program that
    /// cannot be started; [`DecodeError::Cancelled`] once `cancel` is set.
    pub(super) fn render(
        &self,
        chat: &impl serde::Serialize,
        cancel: &AtomicBool,
    ) -> Result<String, DecodeError> {
        let given =
            serde_json::to_vec(chat).map_err(|error| DecodeError::template(error.to_string()))?;
        let started = Command::new(&self.program)
            .arg(COMMAND)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = started.map_err(|error| {
            let program = self.program.display();
            DecodeError::template(format!(
                "{program}, which renders it, cannot be started: {error}"
            ))
        })?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(stdout)) = pipes else {
            return Err(DecodeError::template("its process has no pipes"));
        };
        // Each pipe has a thread, so that neither side waits for the other.
        let writer = thread::spawn(move || {
            // One that ends early says why in its status.
            let _ = stdin.write_all(&given);
        });
        let reader = thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.take(PROMPT_LIMIT + 1).read_to_end(&mut text);
            text
        });
        let status = wait(&mut child, cancel);
        let _ = writer.join();
        let text = reader.join().unwrap_or_default();
        let status = status?;
        if text.len() as u64 > PROMPT_LIMIT {
            return Err(beyond("its prompt is longer than 16 MiB"));
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        match status.code() {
            Some(0) => Ok(text),
            Some(code) if code == i32::from(WRONG_TEMPLATE) => Err(DecodeError::template(text)),
            Some(code) if code == i32::from(NO_JINJA) => Err(DecodeError::Template {
                what: text,
                fault: TemplateFault::Syntax,
            }),
            _ => Err(beyond(&ended(status))),
        }
    }
}

/// Waits for the end of `child`, and brings it about where it must.
fn wait(child: &mut Child, cancel: &AtomicBool) -> Result<ExitStatus, DecodeError> {
    let started = Instant::now();
    let problem = loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                // The terminal's interrupt reaches the child too, and may end it first.
                break if cancel.load(Ordering::Relaxed) {
                    DecodeError::Cancelled
                } else {
                    return Ok(status);
                };
            }
            Err(error) => break DecodeError::template(error.to_string()),
            Ok(None) if cancel.load(Ordering::Relaxed) => break DecodeError::Cancelled,
            Ok(None) if started.elapsed() > DEADLINE => {
                break beyond("it has taken 20 s");
            }
            Ok(None) => thread::sleep(Duration::from_millis(2)),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(problem)
}

fn beyond(how: &str) -> DecodeError {
    DecodeError::Template {
        what: format!(
            "it was stopped, because {how}; leave --chat out, or give the model another template"
        ),
        fault: TemplateFault::Unbounded,
    }
}

/// Why a process ended.
fn ended(status: ExitStatus) -> String {
    #[cfg(unix)]
    {
        use rustix::process::Signal;
        use std::os::unix::process::ExitStatusExt;
        let signal = status.signal();
        let is = |signals: &[Signal]| signals.iter().any(|s| signal == Some(s.as_raw()));
        // The kernel kills what has ignored the end of its time.
        if is(&[Signal::XCPU, Signal::KILL]) {
            return format!("it takes more than {SECONDS} s");
        }
        if is(&[Signal::ABORT, Signal::SEGV, Signal::BUS]) {
            return format!("it takes more than {} MiB of memory", MEMORY >> 20);
        }
    }
    format!("its process ended with {status}")
}
