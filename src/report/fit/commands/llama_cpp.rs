//! Commands of llama-server and llama-bench.

use super::super::Report;
use super::{CommandBlock, names};
use crate::checkpoint::Pooling;
use crate::dtype::Dtype;
use crate::foreign::shell_path;
use crate::plan::Plan;
use crate::plan::draft::Drafter;
use crate::scheme::Container;

/// With every layer on the GPU.
pub(super) fn server(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    server_with(report, plan, "-ngl 99")
}

/// On the CPU, also where there is a GPU.
pub(super) fn server_cpu(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    server_with(report, plan, "-dev none")
}

/// llama-server with `placement`, the option for where its layers are. Its prompt caches are switched off because they would
/// grow until the board is out of memory.
pub(super) fn server_with(report: &Report<'_>, plan: &Plan, placement: &str) -> Vec<CommandBlock> {
    let Some(file) = file(report, plan) else {
        return Vec::new();
    };
    let workload = report.workload;
    let projector = names::projector(report);
    let projector = projector.map(|file| {
        let place = if workload.projector_on_cpu {
            " --no-mmproj-offload"
        } else {
            ""
        };
        format!("--mmproj {}{place}", shell_path(&file))
    });
    if let Some(retrieval) = &report.model.retrieval {
        // The batch of a pass holds whole texts.
        let (parallel, batch) = (workload.parallel, workload.ubatch);
        let words = [
            Some(format!("llama-server -m {}", shell_path(&file))),
            Some(match retrieval.pooling {
                Some(Pooling::Rank) => "--reranking".to_owned(),
                Some(pooling) => format!("--embeddings --pooling {}", pooling.name()),
                None => "--embeddings".to_owned(),
            }),
            Some(format!("-c {} {placement}", workload.context)),
            Some(format!("-np {parallel} -b {batch} -ub {batch}")),
            Some(format!("-fa {}", on_off(workload.flash_attention))),
            unmapped(report),
            cache_types(report),
        ];
        let heading = match retrieval.pooling {
            Some(Pooling::Rank) => "Serve scores with llama.cpp",
            _ => "Serve vectors with llama.cpp",
        };
        return vec![line(heading, words)];
    }
    let words = [
        Some(format!("llama-server -m {}", shell_path(&file))),
        Some(format!("-c {} {placement}", workload.context)),
        Some(format!("-np {} -ub {}", workload.parallel, workload.ubatch)),
        Some(format!("-fa {}", on_off(workload.flash_attention))),
        unmapped(report),
        Some("--ctx-checkpoints 0 --cache-ram 0".to_owned()),
        projector,
        cache_types(report),
        speculation(report),
    ];
    vec![line("Run it with llama.cpp", words)]
}

pub(super) fn bench(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    let Some(file) = file(report, plan) else {
        return Vec::new();
    };
    let workload = report.workload;
    let prompt = workload.prompt_tokens;
    let words = [
        Some(format!("llama-bench -m {}", shell_path(&file))),
        Some(match report.model.retrieval {
            Some(_) => format!("-p {prompt} -n 0 -embd 1 -ngl 99"),
            None => format!("-p {prompt} -n 128 -d 0,{prompt} -ngl 99"),
        }),
        Some(format!("-ub {}", workload.ubatch)),
        Some(format!("-fa {}", u8::from(workload.flash_attention))),
        unmapped(report),
        cache_types(report),
    ];
    vec![line("Measure it with llama-bench", words)]
}

/// The options of speculation (`docs/speculative.md` of llama.cpp).
fn speculation(report: &Report<'_>) -> Option<String> {
    let draft = report.workload.draft.as_ref()?;
    let most = draft.method(report.target.runtime)?.passes;
    let drafts = |kind: &str| format!("--spec-type {kind} --spec-draft-n-max {most}");
    Some(match &draft.by {
        Drafter::Model(model) => format!(
            "-md {} -ngld 99 {}",
            shell_path(&model.path),
            drafts("draft-simple")
        ),
        Drafter::Mtp => drafts("draft-mtp"),
        Drafter::Eagle3 => format!("-md EAGLE3.gguf -ngld 99 {}", drafts("draft-eagle3")),
        Drafter::Lookup => "--spec-type ngram-simple".to_owned(),
    })
}

fn file(report: &Report<'_>, plan: &Plan) -> Option<String> {
    let is_gguf = plan.assignment.container == Container::Gguf;
    names::gguf(report, plan).filter(|_| is_gguf)
}

fn line<const N: usize>(title: &str, words: [Option<String>; N]) -> CommandBlock {
    let words: Vec<String> = words.into_iter().flatten().collect();
    CommandBlock::run(title, vec![words.join(" ")])
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn unmapped(report: &Report<'_>) -> Option<String> {
    let lines = &report.target.runtime.lines;
    lines.unmapped(report.launch.version).map(str::to_owned)
}

fn cache_types(report: &Report<'_>) -> Option<String> {
    let types = [
        ("-ctk", report.workload.type_k),
        ("-ctv", report.workload.type_v),
    ];
    let words: Vec<String> = types
        .iter()
        .filter(|(_, dtype)| *dtype != Dtype::F16)
        .map(|(flag, dtype)| format!("{flag} {}", dtype.name().to_lowercase()))
        .collect();
    (!words.is_empty()).then(|| words.join(" "))
}
