//! llama.cpp's own benchmark: found, run with `-o json`, read.
//!
//! In: the program and the file. Out: [`Measured`]. It measures prompt and generation apart, each from
//! an empty cache, and no time to the first token.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::Request;
use super::control::Progress;
use super::error::{ValidateError, one_line};
use super::measured::Measured;

/// The program's name.
const PROGRAM: &str = "llama-bench";

/// Where builds of llama.cpp lie, below the home and the working directory.
const USUAL: [&str; 4] = [
    "llama.cpp/build/bin",
    "llama.cpp/build-cuda/bin",
    "build/bin",
    ".local/bin",
];

/// How often a running program is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Finds llama-bench among the directories of `path` (as `PATH` has them), then where builds usually
/// lie below `places`.
///
/// # Errors
/// [`ValidateError::NoProgram`] says where it was looked for.
pub fn find(path: Option<&OsStr>, places: &[PathBuf]) -> Result<PathBuf, ValidateError> {
    let listed = path.map(std::env::split_paths).into_iter().flatten();
    let usual = places
        .iter()
        .flat_map(|place| USUAL.iter().map(|below| place.join(below)));
    let mut candidates = listed.chain(usual).map(|directory| directory.join(PROGRAM));
    candidates
        .find(|file| file.is_file())
        .ok_or_else(|| ValidateError::NoProgram {
            looked: format!(
                "in PATH nor in {} below the home or working directory",
                USUAL.join(", ")
            ),
        })
}

/// Runs `program` on `model`; `started` is told its process.
///
/// # Errors
/// [`ValidateError`] where it does not start, fails, is cancelled, or prints what is no result.
pub(super) fn measure(
    program: &Path,
    model: &Path,
    request: &Request,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
    started: &mut dyn FnMut(u32),
) -> Result<Measured, ValidateError> {
    let prompt = match &request.prompt {
        super::Prompt::Words(count) => *count,
        super::Prompt::Text(_) => {
            return Err(ValidateError::Prompt(
                "llama-bench makes its own prompt: leave --prompt out and give its length with --prompt-tokens".to_owned(),
            ));
        }
    };
    let mut command = Command::new(program);
    command.arg("-m").arg(model);
    command.args(["-p", &prompt.to_string(), "-n", &request.tokens.to_string()]);
    command.args(["-r", &request.repeats.to_string(), "-o", "json", "-fa", "1"]);
    let kv_type = request.kv_type.name().to_lowercase();
    command.args(["-ctk", &kv_type, "-ctv", &kv_type]);
    command.args(["-ub", &request.ubatch.to_string()]);
    if let Some(threads) = request.threads {
        command.args(["-t", &threads.to_string()]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ValidateError::Start {
        program: program.to_owned(),
        source,
    })?;
    started(child.id());
    progress(&Progress::stage(format!(
        "{PROGRAM}, {}",
        crate::units::counted(request.repeats, "repeat", "repeats")
    )));
    let out = child.stdout.take().map(drained);
    let err = child.stderr.take().map(drained);
    let wait = |source| ValidateError::Start {
        program: program.to_owned(),
        source,
    };
    let status = loop {
        if let Some(status) = child.try_wait().map_err(wait)? {
            break status;
        }
        if cancel.load(Ordering::Relaxed) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(ValidateError::Cancelled);
        }
        thread::sleep(LOOK);
    };
    let text = |pipe: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = pipe.and_then(|pipe| pipe.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (out, err) = (text(out), text(err));
    if !status.success() {
        let last: Vec<&str> = err
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(2)
            .collect();
        return Err(ValidateError::Program {
            program: program.to_owned(),
            status: status.to_string(),
            message: one_line(&last.into_iter().rev().collect::<Vec<_>>().join("; ")),
        });
    }
    read(&program.display().to_string(), &out)
}

/// A pipe, read to its end by a thread of its own so that the program never waits on it.
fn drained(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // A pipe that breaks has given what it could; the exit status tells the rest.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// One test of llama-bench's JSON. Older builds lack some of what newer ones print.
#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    build_commit: String,
    #[serde(default)]
    build_number: u64,
    #[serde(default)]
    backends: String,
    n_prompt: u64,
    n_gen: u64,
    samples_ts: Vec<f64>,
}

/// Reads what `origin` printed.
///
/// # Errors
/// [`ValidateError::Answer`] where it is no list of tests, or one of prompt and generation is missing.
pub(super) fn read(origin: &str, text: &str) -> Result<Measured, ValidateError> {
    let wrong = |problem: String| ValidateError::Answer {
        origin: origin.to_owned(),
        expected: "result of llama-bench -o json",
        problem,
    };
    let rows: Vec<Row> = serde_json::from_str(text)
        .map_err(|error| wrong(format!("{error} in `{}`", one_line(text))))?;
    let test = |is: fn(&Row) -> bool, name: &str| {
        let row = rows.iter().find(|row| is(row));
        row.ok_or_else(|| wrong(format!("it has no test of {name}")))
    };
    let prompt = test(|row| row.n_prompt > 0 && row.n_gen == 0, "a prompt")?;
    let generation = test(|row| row.n_prompt == 0 && row.n_gen > 0, "generation")?;
    if prompt.samples_ts.is_empty() || generation.samples_ts.is_empty() {
        return Err(wrong("a test has no samples".to_owned()));
    }
    let gpu = ["CUDA", "Vulkan", "ROCm", "Metal", "SYCL"];
    let backends = prompt.backends.as_str();
    Ok(Measured {
        engine: one_line(&format!(
            "llama.cpp b{} {} ({backends})",
            prompt.build_number, prompt.build_commit
        )),
        prompt_tokens: Some(prompt.n_prompt),
        generated_tokens: generation.n_gen,
        decode: generation.samples_ts.clone(),
        prefill: prompt.samples_ts.clone(),
        on_gpu: (!backends.is_empty()).then(|| gpu.iter().any(|name| backends.contains(name))),
        ..Measured::default()
    })
}
