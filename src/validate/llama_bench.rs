//! Measures with llama.cpp's own benchmark: finds it, runs it with `-o json`, reads its output.
//!
//! In: the program and the file. Out: [`Measured`]. llama-bench measures prefill and decode separately, each from an
//! empty cache or one with the tokens that were asked for, and no time to the first token.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::MeasureRequest;
use super::control::MeasureProgress;
use super::error::{ValidateError, one_line};
use super::measured::Measured;
use super::program;
use crate::input::in_words;

/// The program's name.
const PROGRAM: &str = "llama-bench";

/// What is said where it does not know `-d`.
const WITHOUT_DEPTH: &str = "it does not know `-d`, by which a context is filled before it decodes: use a build of llama.cpp from May 2025 or later";

/// Finds llama-bench in the absolute folders of `path`, a value of `PATH`, and nowhere else: a program in the current
/// folder may be a stranger's.
///
/// # Errors
/// [`ValidateError::NoProgram`] where it is in none of them.
pub fn find(path: Option<&OsStr>) -> Result<PathBuf, ValidateError> {
    program::find(PROGRAM, path).ok_or(ValidateError::NoProgram)
}

/// Runs `program` on `model`, started by `launcher` (this program). `started` is called with its process id.
///
/// # Errors
/// [`ValidateError`] where it does not start, fails, is cancelled, or prints no result, and where the prompt is a text.
pub(super) fn measure(
    (launcher, program): (&Path, &Path),
    model: &Path,
    request: &MeasureRequest,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
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
    let [type_k, type_v] = request.kv_types.map(|dtype| dtype.name().to_lowercase());
    let mut words: Vec<OsString> = vec!["-m".into(), model.into()];
    let mut add = |flag: &str, value: &str| words.extend([flag.into(), value.into()]);
    add("-p", &prompt.to_string());
    add("-n", &request.tokens.to_string());
    add("-r", &request.repeats.to_string());
    add("-o", "json");
    add("-fa", "1");
    add("-ctk", &type_k);
    add("-ctv", &type_v);
    add("-ub", &request.ubatch.to_string());
    // Older builds do not know it.
    if request.depth > 0 {
        add("-d", &request.depth.to_string());
    }
    if let Some(threads) = request.threads {
        add("-t", &threads.to_string());
    }
    progress(&MeasureProgress::stage(format!(
        "{PROGRAM}, {}",
        crate::units::counted(request.repeats, "repeat", "repeats")
    )));
    let turns = u32::try_from(request.repeats)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    let deadline = request.deadline(request.tokens).saturating_mul(turns);
    let deadline = request.at_most.map_or(deadline, |most| deadline.min(most));
    let ran = program::run((launcher, program), &words, deadline, cancel, started)?;
    if !ran.status.success() {
        let said = ran.err.lines().rev().filter(|line| !line.trim().is_empty());
        let mut last: Vec<&str> = said.take(2).collect();
        last.reverse();
        if request.depth > 0 && ran.err.contains("argument: -d") {
            last = vec![WITHOUT_DEPTH];
        }
        return Err(ValidateError::Program {
            program: program.to_owned(),
            status: ran.status.to_string(),
            message: one_line(&last.join("; ")),
        });
    }
    let origin = program.display().to_string();
    let (measured, tests) = read(&origin, &ran.out, prompt > 0)?;
    let asked = [(prompt, 0), (0, request.tokens)];
    let asked = asked.into_iter().filter(|asked| *asked != (0, 0));
    let mut asked = tests.iter().zip(asked);
    match asked.find_map(|(test, asked)| other_than_asked(test, model, asked, request.depth)) {
        Some(problem) => Err(wrong(&origin, problem)),
        None => Ok(measured),
    }
}

/// What a test is of, where that is not what was asked for: tokens of a prompt and generated ones, after `depth`.
fn other_than_asked(
    test: &BenchTest,
    model: &Path,
    (n_prompt, n_gen): (u64, u64),
    depth: u64,
) -> Option<String> {
    let name = |path: &Path| path.file_name().map(OsStr::to_owned);
    let of = Path::new(&test.model_filename);
    if !test.model_filename.is_empty() && name(of) != name(model) {
        let of = one_line(&test.model_filename);
        Some(format!("it is of the model `{of}`, not the requested one"))
    } else if (test.n_prompt, test.n_gen) != (n_prompt, n_gen) {
        Some(format!(
            "it is of {} tokens of prompt and {} generated instead of {n_prompt} and {n_gen}",
            test.n_prompt, test.n_gen
        ))
    } else {
        (test.n_depth != depth).then(|| {
            let asked = match depth {
                0 => "an empty one".to_owned(),
                depth => depth.to_string(),
            };
            format!(
                "it is of a cache with {} tokens instead of {asked}",
                test.n_depth
            )
        })
    }
}

fn wrong(origin: &str, problem: String) -> ValidateError {
    ValidateError::Answer {
        origin: origin.to_owned(),
        expected: "result of llama-bench -o json",
        problem,
    }
}

/// One test in llama-bench's output. Older builds lack some fields.
#[derive(Clone, Deserialize)]
pub(super) struct BenchTest {
    #[serde(default)]
    build_commit: String,
    #[serde(default)]
    build_number: u64,
    #[serde(default)]
    backends: String,
    /// The GPUs that it sees. What it was built for is in `backends` on a machine without one too.
    #[serde(default)]
    gpu_info: Option<String>,
    #[serde(default)]
    model_filename: String,
    n_prompt: u64,
    n_gen: u64,
    #[serde(default)]
    n_depth: u64,
    samples_ts: Vec<f64>,
}

/// Reads the output of `origin`: what it measured, and the tests of a prompt, if there is to be one, and of generation.
///
/// # Errors
/// [`ValidateError::Answer`] where it is no list of tests, or a test is missing.
pub(super) fn read(
    origin: &str,
    text: &str,
    with_prompt: bool,
) -> Result<(Measured, Vec<BenchTest>), ValidateError> {
    let wrong = |problem| wrong(origin, problem);
    let rows: Vec<BenchTest> = serde_json::from_str(text).map_err(|error| {
        let error = in_words(&error.to_string());
        wrong(format!("{error} in `{}`", one_line(text)))
    })?;
    let test = |is: fn(&BenchTest) -> bool, name: &str| {
        let row = rows.iter().find(|row| is(row));
        row.ok_or_else(|| wrong(format!("it has no test of {name}")))
    };
    let prompt = with_prompt
        .then(|| test(|row| row.n_prompt > 0 && row.n_gen == 0, "a prompt"))
        .transpose()?;
    let generation = test(|row| row.n_prompt == 0 && row.n_gen > 0, "generation")?;
    let tests: Vec<BenchTest> = prompt.into_iter().chain([generation]).cloned().collect();
    if tests.iter().any(|test| test.samples_ts.is_empty()) {
        return Err(wrong("a test has no samples".to_owned()));
    }
    let gpu = ["CUDA", "Vulkan", "ROCm", "Metal", "SYCL"];
    let backends = generation.backends.as_str();
    let gpus = generation.gpu_info.as_deref();
    let sees_none = gpus.is_some_and(|gpus| gpus.trim().is_empty());
    let was_built_for_one = || gpu.iter().any(|name| backends.contains(name));
    let measured = Measured {
        engine: one_line(&format!(
            "llama.cpp b{} {} ({backends})",
            generation.build_number, generation.build_commit
        )),
        backends: backends.to_owned(),
        repeats: generation.samples_ts.len(),
        prompt_tokens: prompt.map(|prompt| prompt.n_prompt),
        generated_tokens: Some(generation.n_gen),
        decode_depth: generation.n_depth,
        decode: generation.samples_ts.clone(),
        prefill: prompt.map_or(Vec::new(), |prompt| prompt.samples_ts.clone()),
        on_gpu: (!backends.is_empty()).then(|| was_built_for_one() && !sees_none),
        ..Measured::default()
    };
    Ok((measured, tests))
}
