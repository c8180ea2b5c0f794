//! Lines to paste: how to make the file of the recommended plan and how to start it, for the runtime
//! that was planned. Names from outside are quoted for the shell.

use std::path::Path;

use super::Report;
use crate::checkpoint::SourceFormat;
use crate::dtype::Dtype;
use crate::foreign::{is_one_line, shell as quoted, shell_path};
use crate::plan::{Note, Plan};
use crate::scheme::Container;

/// A title and its lines.
pub(super) type Block = (&'static str, Vec<String>);

/// What makes one block of lines, if the plan lets it.
type Writer = fn(&Report<'_>, &Plan) -> Option<Block>;

/// The blocks of each runtime; one that is not listed is not started from a command line.
const WRITERS: &[(&str, &[Writer])] = &[
    ("llama.cpp", &[make_gguf, llama_server, ollama]),
    ("llama.cpp-cpu", &[make_gguf, llama_server_cpu]),
    ("llama-bench", &[make_gguf, llama_bench]),
    ("ollama", &[make_gguf, ollama]),
    ("vllm", &[vllm]),
];

/// The blocks for `plan`, in the order in which they are needed.
pub(super) fn commands(report: &Report<'_>, plan: &Plan) -> Vec<Block> {
    let id = report.target.runtime.id.as_str();
    let writers = WRITERS.iter().find(|(runtime, _)| *runtime == id);
    let writers = writers.map_or(&[][..], |(_, writers)| writers);
    writers
        .iter()
        .filter_map(|write| write(report, plan))
        .collect()
}

/// An Ollama tag, which a colon tells from a file and from a hub id.
fn ollama_tag<'a>(report: &Report<'a>) -> Option<&'a str> {
    let name = report.model.name.as_str();
    let is_tag = report.checkpoint.format == SourceFormat::Gguf && name.contains(':');
    is_tag.then_some(name)
}

/// The model's name without the owner of a hub id.
fn base<'a>(report: &Report<'a>) -> &'a str {
    let name = report.model.name.as_str();
    name.rsplit('/').next().unwrap_or(name)
}

fn gguf_name(report: &Report<'_>, scheme: &str) -> String {
    format!("{}-{}.gguf", base(report), scheme.to_uppercase()).replace(':', "-")
}

/// The plan's file: the one that was given (the first of a split one), or a name for a new one.
fn file(report: &Report<'_>, plan: &Plan) -> String {
    let given = report.checkpoint.files.first();
    let given = given.and_then(|file| file.path.file_name());
    match given {
        Some(name) if plan.assignment.is_stored() => name.to_string_lossy().into_owned(),
        _ => gguf_name(report, &plan.assignment.scheme),
    }
}

/// With `orinplan quantize` where it can convert the checkpoint, else with llama.cpp's own tools;
/// nothing where the file is there, or the checkpoint is packed in a way that they need not know.
fn make_gguf(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    let wanted = plan.assignment.container == Container::Gguf && !plan.assignment.is_stored();
    if !wanted || report.model.prequantized.is_some() || ollama_tag(report).is_some() {
        return None;
    }
    let scheme = plan.assignment.scheme.as_str();
    let quantize = |from: &str| {
        let (from, to) = (shell_path(from), shell_path(&gguf_name(report, scheme)));
        format!("llama-quantize {from} {to} {}", scheme.to_uppercase())
    };
    let convert = |out_type: &str| {
        let out = shell_path(&gguf_name(report, out_type));
        let from = quoted(&format!("./{}", base(report)));
        format!("python convert_hf_to_gguf.py {from} --outtype {out_type} --outfile {out}")
    };
    // A header that is known whole is one that `quantize` writes.
    let convertible = !plan
        .notes
        .iter()
        .any(|note| matches!(note, Note::PartialHeader { .. }));
    let own = convertible && report.checkpoint.format != SourceFormat::Config;
    let title = match own {
        true => "Make the file",
        false => "Make the file with llama.cpp's tools",
    };
    let lines = match (report.checkpoint.format, scheme) {
        (format, _) if own => {
            let from = match format {
                SourceFormat::Gguf => {
                    let given = report.checkpoint.files.first()?.path.file_name()?;
                    format!("./{}", given.to_string_lossy())
                }
                _ => format!("./{}", base(report)),
            };
            let (from, to) = (quoted(&from), shell_path(&gguf_name(report, scheme)));
            vec![format!(
                "orinplan quantize {from} --scheme {scheme} --output {to}"
            )]
        }
        (SourceFormat::Gguf, _) => {
            let given = report.checkpoint.files.first()?.path.file_name()?;
            vec![quantize(&given.to_string_lossy())]
        }
        (_, "f16" | "bf16" | "q8_0") => vec![convert(scheme)],
        _ => vec![convert("bf16"), quantize(&gguf_name(report, "bf16"))],
    };
    let projector = new_projector(report).map(|out| {
        let (from, out) = (quoted(&format!("./{}", base(report))), quoted(&out));
        format!("python convert_hf_to_gguf.py {from} --mmproj --outfile {out}")
    });
    let lines = lines.into_iter().chain(projector).collect();
    Some((title, lines))
}

/// The name of the projector's file that a Hugging Face checkpoint with towers is converted to.
fn new_projector(report: &Report<'_>) -> Option<String> {
    let has_towers = !report.model.towers.is_empty() && !report.workload.text_only;
    let wanted = has_towers && report.checkpoint.format != SourceFormat::Gguf;
    wanted.then(|| format!("mmproj-{}.gguf", base(report)))
}

/// The projector beside a GGUF: its towers' file, which comes after those of the model.
fn given_projector<'a>(report: &Report<'a>) -> Option<&'a Path> {
    let checkpoint = report.checkpoint;
    let has_one = checkpoint.format == SourceFormat::Gguf
        && checkpoint.files.len() > 1
        && !report.model.towers.is_empty();
    let last = checkpoint.files.last().filter(|_| has_one);
    last.map(|file| file.path.as_path())
}

/// The argument that loads the towers, whose file llama.cpp keeps apart.
fn projector_argument(report: &Report<'_>) -> String {
    let given = given_projector(report).filter(|_| !report.workload.text_only);
    let given = given.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    given
        .or_else(|| new_projector(report))
        .map_or_else(String::new, |name| {
            format!(" --mmproj {}", shell_path(&name))
        })
}

/// Prompt caches are switched off because they grow until the board is out of memory.
fn llama_server(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    let line = llama_server_line(report, plan, "-ngl 99")?;
    Some(("Run it with llama.cpp", vec![line]))
}

fn llama_server_cpu(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    let line = llama_server_line(report, plan, "-dev none")?;
    Some(("Run it with llama.cpp", vec![line]))
}

fn llama_server_line(report: &Report<'_>, plan: &Plan, place: &str) -> Option<String> {
    // Ollama keeps the file under a digest, out of reach of a line to paste.
    if plan.assignment.container != Container::Gguf || ollama_tag(report).is_some() {
        return None;
    }
    let workload = report.workload;
    Some(format!(
        "llama-server -m {} -c {} {place} -np {} -ub {} -fa {} --no-mmap --ctx-checkpoints 0 --cache-ram 0{}{}",
        shell_path(&file(report, plan)),
        workload.context,
        workload.parallel,
        workload.ubatch,
        if workload.flash_attention {
            "on"
        } else {
            "off"
        },
        projector_argument(report),
        cache_types(report),
    ))
}

fn llama_bench(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    if plan.assignment.container != Container::Gguf || ollama_tag(report).is_some() {
        return None;
    }
    let workload = report.workload;
    let line = format!(
        "llama-bench -m {} -p {} -n 128 -d 0,{} -ngl 99 -ub {} -fa {} -mmp 0{}",
        shell_path(&file(report, plan)),
        workload.prompt_tokens,
        workload.prompt_tokens,
        workload.ubatch,
        u8::from(workload.flash_attention),
        cache_types(report),
    );
    Some(("Measure it with llama-bench", vec![line]))
}

fn cache_types(report: &Report<'_>) -> String {
    let types = [
        ("-ctk", report.workload.type_k),
        ("-ctv", report.workload.type_v),
    ];
    types
        .iter()
        .filter(|(_, dtype)| *dtype != Dtype::F16)
        .map(|(flag, dtype)| format!(" {flag} {}", dtype.name().to_lowercase()))
        .collect()
}

/// Ollama has one type for keys and values, and fewer than llama.cpp; it joins no split files.
fn ollama(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    const CACHE_TYPES: [Dtype; 3] = [Dtype::F16, Dtype::Q8_0, Dtype::Q4_0];
    let workload = report.workload;
    let dtype = workload.type_k;
    let parts = report.checkpoint.files.len() - usize::from(given_projector(report).is_some());
    let split = plan.assignment.is_stored() && parts > 1;
    let loadable = plan.assignment.container == Container::Gguf
        && dtype == workload.type_v
        && CACHE_TYPES.contains(&dtype)
        && !split;
    if !loadable {
        return None;
    }
    let from = match ollama_tag(report) {
        Some(tag) => tag.to_owned(),
        None => format!("./{}", file(report, plan)),
    };
    // Each line of the file is an instruction.
    if !is_one_line(&from) {
        return None;
    }
    // Under a name of its own, so that a tag that was pulled stays as it is.
    let name = quoted(&format!("{}-orin", tag_name(base(report))));
    let mut settings = Vec::new();
    if workload.parallel > 1 {
        settings.push(format!("OLLAMA_NUM_PARALLEL={}", workload.parallel));
    }
    if dtype != Dtype::F16 {
        settings.push("OLLAMA_FLASH_ATTENTION=1".to_owned());
        let dtype = dtype.name().to_lowercase();
        settings.push(format!("OLLAMA_KV_CACHE_TYPE={dtype}"));
    }
    let mut lines = Vec::new();
    // The server reads them, which is a systemd service on a Jetson.
    if !settings.is_empty() {
        let settings = settings.join(" ");
        lines.push(format!(
            "sudo systemctl set-environment {settings} && sudo systemctl restart ollama"
        ));
    }
    let parameter = workload.context / workload.parallel.max(1);
    let (from, parameter) = (
        quoted(&format!("FROM {from}")),
        quoted(&format!("PARAMETER num_ctx {parameter}")),
    );
    lines.push(format!("printf '%s\\n' {from} {parameter} > Modelfile"));
    lines.push(format!(
        "ollama create {name} -f Modelfile && ollama run {name}"
    ));
    Some(("Run it with Ollama", lines))
}

/// What Ollama takes as a model's name: lower case, and no colon before the tag.
fn tag_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.to_lowercase()
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect()
}

fn vllm(report: &Report<'_>, plan: &Plan) -> Option<Block> {
    let workload = report.workload;
    let total = report.target.device.total_memory.value.as_f64().max(1.0);
    let share = (plan.memory.total().as_f64() / total * 100.0).ceil() / 100.0;
    let name = report.model.name.as_str();
    let from = match plan.assignment.is_stored() {
        // A hub id is what vLLM takes itself.
        true if name.contains('/') => name.to_owned(),
        true => format!("./{name}"),
        false => format!("./{}-{}", base(report), plan.assignment.scheme),
    };
    let line = format!(
        "vllm serve {} --max-model-len {} --max-num-seqs {} --gpu-memory-utilization {share:.2}",
        quoted(&from),
        workload.context / workload.parallel.max(1),
        workload.parallel,
    );
    Some(("Run it with vLLM", vec![line]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_ollama_is_lower_case_without_spaces() {
        assert_eq!(tag_name("My Model:4B"), "my-model-4b");
    }
}
