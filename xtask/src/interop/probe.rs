//! The Python process that answers requests about files (`xtask/interop/probe.py`).
//!
//! In: a request as JSON. Out: the answer, or what went wrong. A process that llama.cpp ended is
//! started anew for the next request.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

/// A running process, or one to be started.
pub(super) struct Probe {
    python: PathBuf,
    script: PathBuf,
    running: Option<Child>,
}

impl Probe {
    pub(super) fn new(python: PathBuf, script: PathBuf) -> Probe {
        Probe {
            python,
            script,
            running: None,
        }
    }

    /// The answer to `operation` with `request`.
    ///
    /// # Errors
    /// What the process said, or that it died over this request.
    pub(super) fn ask(&mut self, operation: &str, mut request: Value) -> anyhow::Result<Value> {
        request["operation"] = json!(operation);
        let child = match self.running.take() {
            Some(child) => child,
            None => start(&self.python, &self.script)?,
        };
        let child = self.running.insert(child);
        let line = exchange(child, &request);
        let answer: Value = match line.as_deref() {
            Ok(line) if !line.is_empty() => serde_json::from_str(line)?,
            _ => {
                let status = self.running.take().map(|mut child| {
                    drop(child.stdin.take());
                    child.wait()
                });
                let status = status
                    .transpose()?
                    .map(|s| s.to_string())
                    .unwrap_or_default();
                bail!("the process died over `{operation}` ({status}); its last words are above");
            }
        };
        match answer["error"].as_str() {
            Some(error) => Err(anyhow!("{error}")),
            None => Ok(answer),
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            drop(child.stdin.take());
            // It ends with its input; how it ended no longer matters.
            let _ = child.wait();
        }
    }
}

fn start(python: &Path, script: &Path) -> anyhow::Result<Child> {
    Command::new(python)
        .arg(script)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        // An assertion of ggml's would start a debugger.
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", python.display()))
}

/// One line out, one in; empty when the process is gone. No byte is read ahead: it answers one line
/// to one line.
fn exchange(child: &mut Child, request: &Value) -> anyhow::Result<String> {
    let (Some(input), Some(output)) = (child.stdin.as_mut(), child.stdout.as_mut()) else {
        bail!("the process has no pipes");
    };
    writeln!(input, "{request}")?;
    input.flush()?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok(line)
}
