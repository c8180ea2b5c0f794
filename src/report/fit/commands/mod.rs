//! Commands to paste that make the file of the recommended plan and start it with the runtime, from the user's current
//! directory.

mod gguf;
mod llama_cpp;
mod names;
mod ollama;
mod others;
mod vllm;

use super::Report;
use crate::checkpoint::Origin;
use crate::foreign::hub_words;
use crate::plan::draft::Drafter;
use crate::plan::{Plan, Workload};
use crate::quantize::Readiness;

/// Commands that belong together.
pub(in crate::report) struct CommandBlock {
    /// What they do.
    pub(in crate::report) title: String,
    /// Lines for a shell, one after the other.
    pub(in crate::report) lines: Vec<String>,
    /// Whether they run the model, rather than make its files.
    pub(in crate::report) runs: bool,
}

impl CommandBlock {
    /// Commands that make files.
    fn make(title: impl Into<String>, lines: Vec<String>) -> CommandBlock {
        CommandBlock {
            title: title.into(),
            lines,
            runs: false,
        }
    }

    /// Commands that run the model.
    fn run(title: impl Into<String>, lines: Vec<String>) -> CommandBlock {
        CommandBlock {
            runs: true,
            ..CommandBlock::make(title, lines)
        }
    }
}

/// The tokens processed at once, where they are not the usual ones.
fn unusual_ubatch(report: &Report<'_>) -> Option<u64> {
    let ubatch = report.workload.ubatch;
    (ubatch != Workload::default().ubatch).then_some(ubatch)
}

/// Makes the blocks of one step; none where the plan does not need or allow it.
type Writer = fn(&Report<'_>, &Plan) -> Vec<CommandBlock>;

/// The steps of each runtime.
const WRITERS: &[(&str, &[Writer])] = &[
    (
        "llama.cpp",
        &[
            gguf::make,
            gguf::make_draft,
            llama_cpp::server,
            ollama::create,
        ],
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
pub(super) fn commands(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    if let Readiness::NoWeights(_) = report.launch.readiness {
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

/// The blocks for `plan` on several boards: the server finds the others and its own device with `placement`.
pub(in crate::report) fn over_boards(
    report: &Report<'_>,
    plan: &Plan,
    placement: &str,
) -> Vec<CommandBlock> {
    if let Readiness::NoWeights(_) = report.launch.readiness {
        return download(report);
    }
    if no_file(report, plan).is_some() {
        return Vec::new();
    }
    let made = gguf::make(report, plan).into_iter();
    made.chain(llama_cpp::server_with(report, plan, placement))
        .collect()
}

/// The command that downloads the weights of a hub id of which only small files are cached.
fn download(report: &Report<'_>) -> Vec<CommandBlock> {
    let Origin::Hub(id) = &report.checkpoint.origin else {
        return Vec::new();
    };
    let line = format!("hf download {}", hub_words(id));
    vec![CommandBlock::make(
        "Get the weights, then repeat this command for how to run them",
        vec![line],
    )]
}

/// Why the plan's file cannot be made, neither by this program nor with llama.cpp's tools.
fn no_file<'a>(report: &'a Report<'_>, plan: &Plan) -> Option<&'a str> {
    match &report.launch.readiness {
        Readiness::NoWeights(why) => Some(why),
        Readiness::Refused(why) if !gguf::by_llama_cpp(report, plan) => Some(why),
        _ => None,
    }
}

/// Why there is nothing to run.
pub(in crate::report) fn nothing_yet(report: &Report<'_>, plan: &Plan) -> Option<String> {
    let why = no_file(report, plan)?;
    Some(format!("nothing to run yet: {why}"))
}

/// What the commands take for a head that drafts, which no command makes.
fn draft(report: &Report<'_>) -> Option<String> {
    let is_head = matches!(report.workload.draft.as_ref()?.by, Drafter::Eagle3);
    is_head.then(|| {
        "EAGLE3 in the lines stands for the head that was trained for this model; for llama.cpp, convert_hf_to_gguf.py \
         makes its GGUF with --target-model-dir"
            .to_owned()
    })
}

/// The caveats of the commands for `plan`, or why there are none.
pub(in crate::report) fn notes(report: &Report<'_>, plan: &Plan) -> Vec<String> {
    if let Some(why) = nothing_yet(report, plan) {
        return vec![why];
    }
    let runtime = report.target.runtime;
    let older = runtime.lines.unmapped.last().map(|s| s.words.as_str());
    let now = runtime.lines.unmapped.first();
    let spelling = now
        .zip(older)
        .and_then(|(now, older)| Some((now, now.since?, older)))
        .filter(|_| report.launch.version.is_none() && runtime.lines.depend_on_version())
        .map(|(now, since, older)| {
            format!(
                "{} before {since} takes {older} instead of {}: state the build with --runtime-version",
                runtime.name, now.words
            )
        });
    let container = vllm::no_container(report);
    let draft = draft(report);
    spelling.into_iter().chain(container).chain(draft).collect()
}
