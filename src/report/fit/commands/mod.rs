//! Lines to paste: how to make the file of the recommended plan and how to start it, for the runtime
//! that was planned, from where the user stands.

mod gguf;
mod llama_cpp;
mod names;
mod ollama;
mod others;
mod vllm;

use super::Report;
use crate::checkpoint::Origin;
use crate::foreign::shell;
use crate::plan::Plan;
use crate::quantize::Readiness;
use crate::runtime::Version;
use crate::scheme::Rules;

/// What lines need to know beside the plan.
#[derive(Clone, Debug)]
pub struct Start {
    /// What stands between the checkpoint and the recommended plan's file.
    pub readiness: Readiness,
    /// The rules that the plan follows.
    pub rules: Rules,
    /// The version of the runtime, where it is not today's.
    pub version: Option<Version>,
    /// Flags that advice must not forget.
    pub given: Given,
}

/// Flags that were given, where another flag alone would not have its effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// A power mode, which another board may not have.
    pub power_mode: bool,
    /// A type for cached keys or for values, which goes before that of both.
    pub kv_type_of_each: bool,
}

/// Lines that belong together.
pub(super) struct Block {
    /// What they do.
    pub(super) title: String,
    /// To be pasted into a shell, one after the other.
    pub(super) lines: Vec<String>,
}

impl Block {
    fn new(title: impl Into<String>, lines: Vec<String>) -> Block {
        let title = title.into();
        Block { title, lines }
    }
}

/// What makes one block of lines, if the plan lets it.
type Writer = fn(&Report<'_>, &Plan) -> Vec<Block>;

/// The blocks of each runtime; one that is not listed is not started from a command line.
const WRITERS: &[(&str, &[Writer])] = &[
    (
        "llama.cpp",
        &[gguf::make, llama_cpp::server, ollama::create],
    ),
    ("llama.cpp-cpu", &[gguf::make, llama_cpp::server_cpu]),
    ("llama-bench", &[gguf::make, llama_cpp::bench]),
    ("ollama", &[gguf::make, ollama::create]),
    ("vllm", &[vllm::make, vllm::serve]),
    ("mlc", &[others::mlc]),
    ("tensorrt-edge-llm", &[others::tensorrt_edge_llm]),
    ("candle", &[gguf::make, others::candle]),
    ("candle-cpu", &[gguf::make, others::candle]),
];

/// The blocks for `plan`, in the order in which they are needed.
pub(super) fn commands(report: &Report<'_>, plan: &Plan) -> Vec<Block> {
    if let Readiness::NoWeights(_) = report.start.readiness {
        return download(report);
    }
    if no_file(report, plan).is_some() {
        return Vec::new();
    }
    let id = report.target.runtime.id.as_str();
    let writers = WRITERS.iter().find(|(runtime, _)| *runtime == id);
    let writers = writers.map_or(&[][..], |(_, writers)| writers);
    writers
        .iter()
        .flat_map(|write| write(report, plan))
        .collect()
}

/// A hub id whose small files alone are cached is enough to get the rest by.
fn download(report: &Report<'_>) -> Vec<Block> {
    let Origin::Hub(id) = &report.checkpoint.origin else {
        return Vec::new();
    };
    let line = format!("hf download {}", shell(id));
    vec![Block::new(
        "Get the weights, then ask again for how to run them",
        vec![line],
    )]
}

/// Why there is no way to the plan's file, neither here nor with the runtime's own tools.
fn no_file<'a>(report: &'a Report<'_>, plan: &Plan) -> Option<&'a str> {
    match &report.start.readiness {
        Readiness::NoWeights(why) => Some(why),
        Readiness::Refused(why) if !gguf::by_llama_cpp(report, plan) => Some(why),
        _ => None,
    }
}

/// What to know about the lines of `plan`, or about their absence.
pub(super) fn notes(report: &Report<'_>, plan: &Plan) -> Vec<String> {
    if let Some(why) = no_file(report, plan) {
        return vec![format!("there is nothing to run yet: {why}")];
    }
    let runtime = report.target.runtime;
    let older = runtime.lines.unmapped.last().map(|s| s.words.as_str());
    let now = runtime.lines.unmapped.first();
    let spelling = now
        .zip(older)
        .and_then(|(now, older)| Some((now, now.since?, older)))
        .filter(|_| report.start.version.is_none() && runtime.lines.depend_on_version())
        .map(|(now, since, older)| {
            format!(
                "{} before {since} takes {older} for {}: give your build with --runtime-version for lines that it takes",
                runtime.name, now.words
            )
        });
    let container = vllm::no_container(report);
    spelling.into_iter().chain(container).collect()
}
