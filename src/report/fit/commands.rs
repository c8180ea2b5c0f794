//! Lines to paste: how to start the recommended plan.

use super::Report;
use crate::checkpoint::SourceFormat;
use crate::dtype::Dtype;
use crate::plan::Plan;
use crate::scheme::Container;

/// A title and its lines, per runtime that can start the plan.
pub(super) fn commands(report: &Report<'_>, plan: &Plan) -> Vec<(&'static str, Vec<String>)> {
    match plan.assignment.container {
        Container::Gguf => vec![
            ("llama.cpp", vec![llama_server(report, plan)]),
            ("Ollama", ollama(report, plan)),
        ],
        Container::Safetensors => vec![("vLLM", vec![vllm(report, plan)])],
    }
}

/// The plan's file: the one that was given, or the name a converted one would have.
fn file(report: &Report<'_>, plan: &Plan) -> String {
    let name = &report.model.name;
    match report.checkpoint.format {
        SourceFormat::Gguf if report.fit.plans.len() == 1 => format!("{name}.gguf"),
        _ => format!("{name}-{}.gguf", plan.assignment.scheme.to_uppercase()),
    }
}

/// Prompt caches are switched off because they grow until the board is out of memory.
fn llama_server(report: &Report<'_>, plan: &Plan) -> String {
    let workload = report.workload;
    let mut line = format!(
        "llama-server -m {} -c {} -ngl 99 -np {} -ub {} -fa {} --no-mmap --ctx-checkpoints 0 --cache-ram 0",
        file(report, plan),
        workload.context,
        workload.parallel,
        workload.ubatch,
        if workload.flash_attention {
            "on"
        } else {
            "off"
        },
    );
    for (flag, dtype) in [("-ctk", workload.type_k), ("-ctv", workload.type_v)] {
        if dtype != Dtype::F16 {
            line.push_str(&format!(" {flag} {}", dtype.name().to_lowercase()));
        }
    }
    line
}

fn ollama(report: &Report<'_>, plan: &Plan) -> Vec<String> {
    let workload = report.workload;
    let name = report.model.name.to_lowercase();
    let mut lines = vec![
        format!(
            "printf 'FROM ./{}\\nPARAMETER num_ctx {}\\n' > Modelfile",
            file(report, plan),
            workload.context / workload.parallel.max(1),
        ),
        format!("ollama create {name} -f Modelfile && ollama run {name}"),
    ];
    if workload.type_k != Dtype::F16 {
        let dtype = workload.type_k.name().to_lowercase();
        lines.insert(
            0,
            format!("export OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={dtype}"),
        );
    }
    if workload.parallel > 1 {
        lines.insert(
            0,
            format!("export OLLAMA_NUM_PARALLEL={}", workload.parallel),
        );
    }
    lines
}

fn vllm(report: &Report<'_>, plan: &Plan) -> String {
    let workload = report.workload;
    let total = report.target.device.total_memory.value.as_f64().max(1.0);
    let share = (plan.memory.total().as_f64() / total * 100.0).ceil() / 100.0;
    let name = match report.model.prequantized.as_deref() {
        Some(stored) if stored == plan.assignment.scheme => report.model.name.clone(),
        _ if ["bf16", "f16", "f32"].contains(&plan.assignment.scheme.as_str()) => {
            report.model.name.clone()
        }
        _ => format!("{}-{}", report.model.name, plan.assignment.scheme),
    };
    format!(
        "vllm serve ./{name} --max-model-len {} --max-num-seqs {} --gpu-memory-utilization {share:.2}",
        workload.context / workload.parallel.max(1),
        workload.parallel,
    )
}
