//! Commands that make the GGUF of a plan: `orinplan quantize` where that is possible, else llama.cpp's own tools with the
//! reason.

use super::super::Report;
use super::{CommandBlock, names};
use crate::checkpoint::{Origin, RawConfig, SourceFormat};
use crate::foreign::{hub_words, shell_path};
use crate::plan::Plan;
use crate::plan::draft::Drafter;
use crate::quantize::Readiness;
use crate::quantize::blocks::FORMATS;
use crate::scheme::{Container, Rules, Scheme};

/// llama.cpp's converter, in the usual folder of its sources.
const CONVERTER: &str = r#"python3 "${LLAMA_CPP:-$HOME/llama.cpp}"/convert_hf_to_gguf.py"#;

fn is_wanted(plan: &Plan) -> bool {
    plan.assignment.container == Container::Gguf && !plan.assignment.is_stored()
}

/// Whether llama.cpp's tools may make a file that `orinplan quantize` refuses: they need a file within reach, and a
/// checkpoint that is not quantized already.
pub(super) fn by_llama_cpp(report: &Report<'_>, plan: &Plan) -> bool {
    let loads_gguf = report.target.runtime.loads.reads(Container::Gguf);
    let within_reach = !matches!(report.checkpoint.origin, Origin::Ollama(_));
    is_wanted(plan) && loads_gguf && within_reach && report.model.prequantized.is_none()
}

/// The file, and the projector, which llama.cpp has in a file of its own.
pub(super) fn make(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    let scheme = plan.assignment.scheme.as_str();
    if !is_wanted(plan) {
        return fetch(report, plan).into_iter().collect();
    }
    let own = |requantizes| {
        quantize(
            report,
            scheme,
            requantizes,
            &names::new_gguf(report, scheme),
        )
    };
    let block = match &report.launch.readiness {
        Readiness::Ready { requantizes } => {
            let lines = importance(report, scheme).into_iter();
            CommandBlock::make("Make the file", lines.chain([own(*requantizes)]).collect())
        }
        Readiness::NoTokenizer(_) if lacks_encoder(plan) => {
            let title = "Make the file with llama.cpp's tools (its tokenizer is missing; the model's page has it)";
            CommandBlock::make(title, with_llama_cpp(report, scheme))
        }
        // Why is in a note of the plan.
        Readiness::NoTokenizer(_) => {
            let first = tokenizer(report).into_iter();
            let lines = first.chain(importance(report, scheme)).chain([own(false)]);
            let title = "Make the file (its tokenizer is missing; the model's page has it)";
            CommandBlock::make(title, lines.collect())
        }
        Readiness::NoWeights(why) | Readiness::Refused(why) => {
            let title = format!("Make the file with llama.cpp's tools ({why})");
            CommandBlock::make(title, with_llama_cpp(report, scheme))
        }
    };
    let projector = names::new_projector(report).map(|out| projector(report, &out));
    [block].into_iter().chain(projector).collect()
}

/// Whether a tensor would have a type that is not encoded here.
fn lacks_encoder(plan: &Plan) -> bool {
    let mut types = plan
        .assignment
        .tensors
        .iter()
        .map(|assigned| assigned.dtype);
    types.any(|dtype| !FORMATS.contains(&dtype))
}

/// The line that writes the projector: our own where its kind is written and its weights are at hand.
fn projector(report: &Report<'_>, output: &str) -> CommandBlock {
    let known = report.model.projector.is_some();
    let output = shell_path(output);
    if known && report.checkpoint.format == SourceFormat::Safetensors {
        let from = shell_path(report.checkpoint.origin.text());
        let line = format!("orinplan quantize {from} --projector --scheme f16 --output {output}");
        return CommandBlock::make("Make the projector", vec![line]);
    }
    let from = names::directory_word(report);
    let line = format!("{CONVERTER} {from} --mmproj --outfile {output}");
    CommandBlock::make("Make the projector with llama.cpp's converter", vec![line])
}

/// The line that fetches a GGUF that is on a server, which is taken as it is.
fn fetch(report: &Report<'_>, plan: &Plan) -> Option<CommandBlock> {
    let checkpoint = report.checkpoint;
    let is_there = checkpoint.source.is_some() && checkpoint.format == SourceFormat::Gguf;
    let output = names::gguf(report, plan).filter(|_| is_there)?;
    let line = format!(
        "orinplan pull {} --scheme {} --output {}",
        shell_path(checkpoint.origin.text()),
        plan.assignment.scheme,
        shell_path(&output)
    );
    Some(CommandBlock::make("Get the file", vec![line]))
}

/// The file of the model that drafts, where it is not there.
pub(super) fn make_draft(report: &Report<'_>, _: &Plan) -> Vec<CommandBlock> {
    let draft = report.workload.draft.as_ref();
    let Some(Drafter::Model(model)) = draft.map(|draft| &draft.by) else {
        return Vec::new();
    };
    let line = model.made_from.as_ref().map(|from| {
        format!(
            "orinplan quantize {} --scheme {} --output {}",
            shell_path(from),
            model.assignment.scheme,
            shell_path(&model.path)
        )
    });
    line.map(|line| CommandBlock::make("Make the draft's file", vec![line]))
        .into_iter()
        .collect()
}

/// The line of `orinplan quantize`.
pub(super) fn quantize(
    report: &Report<'_>,
    scheme: &str,
    requantizes: bool,
    output: &str,
) -> String {
    let format = match &report.launch.types {
        Some(file) => format!("--types {}", shell_path(file)),
        None => format!("--scheme {scheme}"),
    };
    let mut line = format!(
        "orinplan quantize {} {format}",
        shell_path(report.checkpoint.origin.text())
    );
    let rules = Rules::ALL
        .iter()
        .find(|(_, rules)| *rules == report.launch.rules);
    let is_usual = report.launch.rules == Rules::ALL[0].1;
    if let Some((name, _)) = rules.filter(|_| !is_usual) {
        line.push_str(&format!(" --rules {name}"));
    }
    if requantizes {
        line.push_str(" --allow-requantize");
    }
    if needs_importance(scheme) {
        line.push_str(&format!(" --imatrix {}", shell_path(&matrix(report))));
    }
    line.push_str(&format!(" --output {}", shell_path(output)));
    line
}

fn needs_importance(scheme: &str) -> bool {
    Scheme::get(scheme).is_some_and(Scheme::needs_importance)
}

/// The importance matrix that a scheme needs.
fn matrix(report: &Report<'_>) -> String {
    names::new_gguf(report, "imatrix")
}

/// The line that makes it.
fn importance(report: &Report<'_>, scheme: &str) -> Option<String> {
    needs_importance(scheme).then(|| {
        format!(
            "orinplan imatrix {} --output {}",
            shell_path(report.checkpoint.origin.text()),
            shell_path(&matrix(report))
        )
    })
}

/// The command that downloads the tokenizer, where the checkpoint names its model.
fn tokenizer(report: &Report<'_>) -> Option<String> {
    let files = "tokenizer.json tokenizer_config.json";
    if let Origin::Hub(id) = &report.checkpoint.origin {
        return Some(format!("hf download {} {files}", hub_words(id)));
    }
    let RawConfig::HuggingFace(config) = &report.checkpoint.config else {
        return None;
    };
    let id = config.get("_name_or_path")?.as_str()?;
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
    };
    let (owner, name) = id.split_once('/')?;
    let directory = names::directory_word(report);
    (is_word(owner) && is_word(name))
        .then(|| format!("hf download {id} {files} --local-dir {directory}"))
}

fn with_llama_cpp(report: &Report<'_>, scheme: &str) -> Vec<String> {
    let quantize = |from: &str| {
        let to = shell_path(&names::new_gguf(report, scheme));
        format!(
            "llama-quantize {} {to} {}",
            shell_path(from),
            scheme.to_uppercase()
        )
    };
    let convert = |out_type: &str| {
        let out = shell_path(&names::new_gguf(report, out_type));
        let from = names::directory_word(report);
        format!("{CONVERTER} {from} --outtype {out_type} --outfile {out}")
    };
    match (report.checkpoint.format, scheme) {
        (SourceFormat::Gguf, _) => vec![quantize(report.checkpoint.origin.text())],
        (_, "f16" | "bf16" | "q8_0") => vec![convert(scheme)],
        _ => vec![convert("bf16"), quantize(&names::new_gguf(report, "bf16"))],
    }
}
