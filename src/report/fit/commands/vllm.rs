//! Commands of vLLM: the directory that it serves, and on a Jetson the container that it runs in.

use serde_json::json;

use super::super::Report;
use super::{CommandBlock, gguf, names, unusual_ubatch};
use crate::checkpoint::Origin;
use crate::foreign::{shell, shell_path};
use crate::model::{self, ServedAlone};
use crate::note::Prefixes;
use crate::plan::Plan;
use crate::plan::draft::Drafter;
use crate::plan::prefix::prefixes;
use crate::scheme::Container;

fn is_made(plan: &Plan) -> bool {
    plan.assignment.container == Container::Safetensors && !plan.assignment.is_stored()
}

/// A quantized directory.
pub(super) fn make(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    if !is_made(plan) {
        return Vec::new();
    }
    let scheme = plan.assignment.scheme.as_str();
    let output = names::new_directory(report, scheme);
    let line = gguf::quantize(report, scheme, false, &output);
    vec![CommandBlock::make("Make the directory", vec![line])]
}

/// The command of the container for the board's L4T release; where that is not known, one for each generation of JetPack.
pub(super) fn serve(report: &Report<'_>, plan: &Plan) -> Vec<CommandBlock> {
    if report.target.device.gpu.is_none() {
        let model = model(report, plan);
        let options = options(report, plan, None);
        let line = format!("vllm serve {} {options}", shell_path(&model));
        return vec![CommandBlock::run("Run it with vLLM", vec![line])];
    }
    if last_version(report).is_some() {
        return Vec::new();
    }
    let (mut mount, model) = mounted(report, plan);
    let draft = draft_directory(report);
    if let Some(directory) = draft {
        mount = format!("{mount} {}", volume(directory, DRAFT));
    }
    let options = options(report, plan, draft.map(|_| DRAFT));
    let containers = report
        .target
        .runtime
        .lines
        .containers(report.target.release);
    let block = |container: &crate::runtime::lines::ContainerImage| {
        let line = format!(
            "sudo docker run --rm -it --runtime nvidia --network host --ipc host {mount} {} {model} {options}",
            container.words
        );
        let title = format!("Run it with vLLM's container for {}", container.name);
        CommandBlock::run(title, vec![line])
    };
    containers.map(block).collect()
}

/// The last version of the runtime that serves the model, where newer ones do not.
fn last_version(report: &Report<'_>) -> Option<&'static str> {
    match model::served_alone(report.model) {
        Some(ServedAlone::By(only)) => only.until,
        _ => None,
    }
}

/// Why there is no command for the board.
pub(super) fn no_container(report: &Report<'_>) -> Option<String> {
    let target = &report.target;
    if let Some(until) = last_version(report).filter(|_| target.device.gpu.is_some()) {
        return Some(format!(
            "no container of {} {until} for this board is known; newer ones do not serve this architecture",
            target.runtime.name
        ));
    }
    let all = &target.runtime.lines.container;
    let release = target.release.filter(|_| target.device.gpu.is_some())?;
    let none = !all.is_empty()
        && target
            .runtime
            .lines
            .containers(Some(release))
            .next()
            .is_none();
    let known: Vec<&str> = all
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    none.then(|| {
        format!(
            "no container of {} for L4T {release} is known, only for {}",
            target.runtime.name,
            known.join(" and ")
        )
    })
}

/// What vLLM loads: what was made, a hub id, or the checkpoint's directory.
fn model(report: &Report<'_>, plan: &Plan) -> String {
    match &report.checkpoint.origin {
        _ if is_made(plan) => names::new_directory(report, &plan.assignment.scheme),
        Origin::Hub(id) => id.clone(),
        _ => names::directory(report),
    }
}

/// The option that shows the model to a container, and the model's name in it. A snapshot in the hub's cache consists of links to other
/// folders of the cache, so the whole cache is mounted.
fn mounted(report: &Report<'_>, plan: &Plan) -> (String, String) {
    let model = model(report, plan);
    let snapshot = report.checkpoint.directory.as_deref();
    let cache = snapshot.and_then(|snapshot| snapshot.ancestors().nth(3));
    match (&report.checkpoint.origin, cache) {
        // vLLM downloads it itself.
        (Origin::Hub(id), _) if report.checkpoint.source.is_some() && !is_made(plan) => {
            let mount = r#"-v "$HOME/.cache/huggingface":/root/.cache/huggingface"#;
            (mount.to_owned(), shell(id))
        }
        (Origin::Hub(id), Some(cache)) if !is_made(plan) => {
            let cache = shell_path(&cache.to_string_lossy());
            let mount = format!(r#"-v "$(realpath {cache})":/root/.cache/huggingface/hub"#);
            (mount, shell(id))
        }
        _ => {
            let name = names::base(report);
            // A name that begins with a dash would be an option.
            let name = shell(name.trim_start_matches('-'));
            let served = format!("/model --served-model-name {name}");
            (volume(&model, "/model"), served)
        }
    }
}

/// What a draft model's directory is called in a container.
const DRAFT: &str = "/draft";

/// The draft model, if it is in a local directory.
fn draft_directory<'a>(report: &Report<'a>) -> Option<&'a str> {
    match &report.workload.draft.as_ref()?.by {
        Drafter::Model(model) if !model.is_hub_id => Some(&model.path),
        _ => None,
    }
}

/// The option of docker that shows a directory to the container under a name.
fn volume(directory: &str, name: &str) -> String {
    let from = format!(r#""$(realpath {})""#, shell_path(directory));
    // `-v` has the name behind a colon.
    if directory.contains(':') {
        format!("--mount type=bind,source={from},target={name},readonly")
    } else {
        format!("-v {from}:{name}:ro")
    }
}

/// The option of speculation (vLLM's `SpeculativeConfig`). `draft` is what a draft model's directory is called.
fn speculation(report: &Report<'_>, draft_name: Option<&str>) -> Option<String> {
    let draft = report.workload.draft.as_ref()?;
    let tokens = draft.method(report.target.runtime)?.passes;
    let (method, model) = match &draft.by {
        Drafter::Model(model) => ("draft_model", draft_name.or(Some(model.path.as_str()))),
        Drafter::Mtp => ("mtp", None),
        Drafter::Eagle3 => ("eagle3", Some("EAGLE3")),
        Drafter::Lookup => ("ngram", None),
    };
    let mut config = json!({ "method": method, "num_speculative_tokens": tokens });
    if let Some(model) = model {
        config["model"] = json!(model);
    }
    Some(format!(
        "--speculative-config {}",
        shell(&config.to_string())
    ))
}

fn options(report: &Report<'_>, plan: &Plan, draft_name: Option<&str>) -> String {
    let workload = report.workload;
    let total = report.target.device.total_memory.value.as_f64().max(1.0);
    let share = (plan.memory.total().as_f64() / total * 100.0).ceil() / 100.0;
    // A checkpoint of one 16-bit type is served in the other as it is.
    let dtype = match plan.assignment.scheme.as_str() {
        "f16" if !plan.assignment.is_stored() => " --dtype float16",
        "bf16" if !plan.assignment.is_stored() => " --dtype bfloat16",
        _ => "",
    };
    let eager = if workload.cuda_graphs {
        ""
    } else {
        " --enforce-eager"
    };
    let pooling = match report.model.retrieval {
        Some(_) => "--runner pooling ",
        None => "",
    };
    let speculation = speculation(report, draft_name);
    let speculation = speculation.map_or(String::new(), |words| format!(" {words}"));
    // The default of versions before August 2026 is not to, for models with recurrent states.
    let prefixes = prefixes(report.model, &report.target.runtime.memory);
    let keeps =
        workload.cached_tokens > 0 && matches!(prefixes, Prefixes::Blocks { hybrid: true, .. });
    let keeps = if keeps {
        " --enable-prefix-caching"
    } else {
        ""
    };
    let batch = unusual_ubatch(report).filter(|_| report.model.retrieval.is_none());
    let batch = batch.map_or(String::new(), |tokens| {
        format!(" --max-num-batched-tokens {tokens}")
    });
    format!(
        "{pooling}--max-model-len {} --max-num-seqs {}{batch} --gpu-memory-utilization {share:.2}{dtype}{eager}{keeps}{speculation}",
        workload.context / workload.parallel.max(1),
        workload.parallel,
    )
}
