//! Commands of Ollama: a Modelfile and a model with new names, so that none that exists is replaced.

use super::super::Report;
use super::{CommandBlock, names, unusual_ubatch};
use crate::checkpoint::Pooling;
use crate::dtype::Dtype;
use crate::foreign::{is_one_line, shell, shell_path};
use crate::plan::Plan;
use crate::scheme::Container;

/// It joins no split files.
pub(super) fn create(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    let workload = report.workload;
    let projectors = usize::from(names::given_projector(report).is_some());
    let split = plan.assignment.is_stored() && report.checkpoint.files.len() - projectors > 1;
    let from = from(report, plan);
    // A line break would be another instruction.
    let sayable = from.iter().all(|from| is_one_line(from));
    let is_gguf = plan.assignment.container == Container::Gguf;
    // A directory that is on a server is none here.
    let is_away = !is_gguf && report.checkpoint.source.is_some();
    if split && is_gguf || is_away || !sayable {
        return Vec::new();
    }
    // A new name, so that a tag that was pulled is not changed.
    let tag = format!("{}-orin", tag_name(&names::base(report)));
    let modelfile = shell_path(&format!("{tag}.Modelfile"));
    let name = shell(&tag);
    let context = workload.context / workload.parallel.max(1);
    let batch = unusual_ubatch(report).filter(|_| report.model.retrieval.is_none());
    let batch = batch.map(|tokens| format!("PARAMETER num_batch {tokens}"));
    let instructions = from
        .iter()
        .map(|from| format!("FROM {from}"))
        .chain([format!("PARAMETER num_ctx {context}")])
        .chain(batch);
    let instructions: Vec<String> = instructions.map(|line| shell(&line)).collect();
    // `set -C` refuses to replace a file; all in one line, so that an older file is not used by mistake.
    let (title, run) = match &report.model.retrieval {
        None => ("Run it with Ollama", format!("ollama run {name}")),
        Some(retrieval) if retrieval.pooling == Some(Pooling::Rank) => return Vec::new(),
        Some(_) => {
            let request = format!(r#"{{"model": "{tag}", "input": "a text"}}"#);
            let request = shell(&request);
            let run = format!("curl http://localhost:11434/api/embed -d {request}");
            ("Get vectors from Ollama", run)
        }
    };
    let line = format!(
        "(set -C; printf '%s\\n' {} > {modelfile}) && ollama create {name} -f {modelfile} && {run}",
        instructions.join(" ")
    );
    let lines = settings(report).into_iter().chain([line]).collect();
    vec![CommandBlock::run(title, lines)]
}

/// The sources of the model: a tag, or its file and that of the projector.
fn from(report: &Report<'_>, plan: &Plan) -> Vec<String> {
    let is_gguf = plan.assignment.container == Container::Gguf;
    let file = if is_gguf {
        names::gguf(report, plan)
    } else {
        Some(names::directory(report))
    };
    match (file, &report.checkpoint.origin) {
        (None, origin) => vec![origin.text().to_owned()],
        // Without `./` a file name would be read as the name of a model.
        // A directory has its image encoder in it.
        (Some(file), _) => [Some(file), names::projector(report).filter(|_| is_gguf)]
            .into_iter()
            .flatten()
            .map(|file| {
                if file.starts_with(['/', '.']) {
                    file
                } else {
                    format!("./{file}")
                }
            })
            .collect(),
    }
}

/// The command that sets the server's environment; the server is a systemd service on a Jetson.
fn settings(report: &Report<'_>) -> Option<String> {
    let workload = report.workload;
    let mut settings = Vec::new();
    if workload.parallel > 1 {
        settings.push(format!("OLLAMA_NUM_PARALLEL={}", workload.parallel));
    }
    if !workload.flash_attention {
        settings.push("OLLAMA_FLASH_ATTENTION=0".to_owned());
    }
    if workload.type_k != Dtype::F16 {
        let dtype = workload.type_k.name().to_lowercase();
        settings.push(format!(
            "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={dtype}"
        ));
    }
    let settings = settings.join(" ");
    (!settings.is_empty()).then(|| {
        format!("sudo systemctl set-environment {settings} && sudo systemctl restart ollama")
    })
}

/// A valid model name for Ollama: lower case, no colon, a letter or digit first.
fn tag_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = name
        .to_lowercase()
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    let bare = name.trim_start_matches(['-', '_', '.']);
    if bare.is_empty() {
        "model".to_owned()
    } else {
        bare.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_ollama_is_lower_case_without_spaces() {
        for (name, expected) in [
            ("My Model:4B", "my-model-4b"),
            ("-weird", "weird"),
            ("...", "model"),
        ] {
            assert_eq!(tag_name(name), expected);
        }
    }
}
