//! Compares a plan with a measurement: runs a model with an engine, and compares what was measured with what was
//! predicted.
//!
//! In: a backend and a request to it; a plan. Out: [`Measured`], [`Watched`], [`Comparison`] and the [`Check`]s of what
//! may have disturbed the measurement. What an engine reports counts only after the checks of `plausible`. Must not:
//! predict anything itself, or print.

mod calibrate;
mod candle;
mod compare;
mod control;
mod error;
mod http;
mod llama_bench;
mod measured;
mod ollama;
mod openai;
mod plausible;
mod program;
mod prompt;
mod reasons;
mod stream;
mod watch;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::checkpoint::Checkpoint;
use crate::decode::{Engine, Renderer};
use crate::device;
use crate::dtype::Dtype;
use crate::model::ModelSpec;

pub use calibrate::{
    CALIBRATION_SECONDS, CalibrateError, Calibration, RUNTIME, SyntheticFile, SyntheticModel,
    SyntheticRun, SyntheticTensor, calibrate, not_timed, write_repeated,
};
pub use compare::{
    Comparison, ComparisonLine, Criterion, LEAST_PROMPT, MemoryFigure, PeakMemory, Predicted,
    compare,
};
pub use control::{MeasureProgress, supervised_for};
pub use error::ValidateError;
pub use llama_bench::find as find_llama_bench;
pub use measured::{DraftCounts, Measured, Metric, RejectedFigure, Statistics};
pub use plausible::{Limits, RateCeiling, reject_counts, reject_figures};
pub use program::{NOT_STARTED, TETHER_COMMAND};
pub use prompt::Prompt;
pub use reasons::{Check, CheckContext, Finding, RanOn, Suspect, check};
pub use watch::{Watch, Watched};

/// The least number of generated tokens for a decode rate: the first comes with the prompt, the others are timed.
pub const LEAST_TOKENS: u64 = 4;

/// What an engine is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureRequest {
    /// The prompt.
    pub prompt: Prompt,
    /// Ask through the model's chat template.
    pub chat: bool,
    /// Tokens to generate in each repeat.
    pub tokens: u64,
    /// Tokens in the cache before the prompt and the first generated token; llama-bench alone takes them.
    pub depth: u64,
    /// Tokens of context.
    pub context: u64,
    /// Prompt tokens processed at once.
    pub ubatch: u64,
    /// The types of cached keys and of cached values.
    pub kv_types: [Dtype; 2],
    /// Threads; the engine's own choice if `None`.
    pub threads: Option<u64>,
    /// Measured repeats, after a warm-up that is not counted.
    pub repeats: usize,
    /// The longest time that a server may send nothing.
    pub timeout: Duration,
    /// The longest that llama-bench may take in all, if less than `timeout` allows.
    pub at_most: Option<Duration>,
}

impl MeasureRequest {
    /// The longest that an answer of `tokens` tokens may take: twice the timeout, for loading the model and reading the
    /// prompt, and a second for each token.
    fn deadline(&self, tokens: u64) -> Duration {
        let tokens = Duration::from_secs(tokens);
        self.timeout.saturating_mul(2).saturating_add(tokens)
    }
}

/// An engine, and where it is.
#[derive(Clone, Copy, Debug)]
pub enum Backend<'a> {
    /// This program's own decoder.
    Candle {
        /// The GGUF.
        checkpoint: &'a Checkpoint,
        /// Its description.
        spec: &'a ModelSpec,
        /// The processor that computes.
        engine: Engine,
        /// What renders its chat template.
        renderer: &'a Renderer,
    },
    /// llama.cpp's llama-bench.
    LlamaBench {
        /// The program.
        program: &'a Path,
        /// The `orinplan` program, which starts it.
        launcher: &'a Path,
        /// The GGUF.
        model: &'a Path,
    },
    /// A server with OpenAI's completions.
    OpenAi {
        /// Its address.
        url: &'a str,
        /// The name under which it serves the model; if `None`, the only one it lists.
        served: Option<&'a str>,
    },
    /// An Ollama server.
    Ollama {
        /// Its address.
        url: &'a str,
        /// The model's tag.
        served: &'a str,
    },
}

impl Backend<'_> {
    /// Whether the model is loaded during the measurement, so that all of its memory is seen.
    pub fn starts_the_model(&self) -> bool {
        matches!(self, Backend::Candle { .. } | Backend::LlamaBench { .. })
    }
}

/// Runs a model on `backend`, and watches the machine with the root directory `root` meanwhile. `path` is the value of
/// `PATH`, where the system's own monitors are searched.
///
/// # Errors
/// [`ValidateError`] where the backend cannot be started or reached, fails, or gives an answer that cannot be read;
/// [`ValidateError::Cancelled`] once `cancel` is set.
pub fn measure(
    backend: Backend<'_>,
    request: &MeasureRequest,
    (root, path): (&Path, Option<&OsStr>),
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<(Measured, Watched), ValidateError> {
    if let Backend::Candle { .. } = backend {
        device::forget_peak();
    }
    let watch = Watch::start(root, serving(backend, root), path);
    let measured = match backend {
        Backend::Candle {
            checkpoint,
            spec,
            engine,
            renderer,
        } => {
            let model = (checkpoint, spec);
            candle::measure(model, engine, renderer, request, cancel, progress)
        }
        Backend::LlamaBench {
            program,
            launcher,
            model,
        } => {
            let (mut started, programs) = (|pid| watch.follow(pid), (launcher, program));
            llama_bench::measure(programs, model, request, cancel, progress, &mut started)
        }
        Backend::OpenAi { url, served } => {
            let (url, served, request) =
                (url.to_owned(), served.map(str::to_owned), request.clone());
            control::supervised(cancel, progress, move |say| {
                openai::measure(&url, served.as_deref(), &request, say)
            })
        }
        Backend::Ollama { url, served } => {
            let (url, served, request) = (url.to_owned(), served.to_owned(), request.clone());
            control::supervised(cancel, progress, move |say| {
                ollama::measure(&url, &served, &request, say)
            })
        }
    };
    Ok((measured?, watch.finish()))
}

/// The id of the process that holds the model: this one, that of a server on this machine, or 0 if not known.
fn serving(backend: Backend<'_>, root: &Path) -> u32 {
    match backend {
        Backend::Candle { .. } => std::process::id(),
        Backend::LlamaBench { .. } => 0,
        Backend::OpenAi { url, .. } | Backend::Ollama { url, .. } => {
            let port = local_port(url);
            port.and_then(|port| device::listener(root, port))
                .unwrap_or(0)
        }
    }
}

/// The port of an address on this machine; `None` for another machine's address, and for a text that is no address.
pub fn local_port(url: &str) -> Option<u16> {
    let authority = url.strip_prefix("http://")?.split('/').next()?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 80),
    };
    let local = ["localhost", "[::1]", "0.0.0.0"].contains(&host) || host.starts_with("127.");
    local.then_some(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_told_from_others() {
        for (url, port) in [
            ("http://127.0.0.1:8080", Some(8080)),
            ("http://localhost:11434/v1", Some(11434)),
            ("http://[::1]:9", Some(9)),
            ("http://localhost", Some(80)),
            ("http://jetson.local:8080", None),
            ("http://127.0.0.1:x", None),
            ("127.0.0.1:80", None),
        ] {
            assert_eq!(local_port(url), port, "{url}");
        }
    }
}
