//! The synthetic models of `orinplan calibrate` in a real llama-bench: it loads the files, which have no names and no
//! tokenizers, and takes the arguments that it is given.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::ensure;
use orinplan::validate::{self, Backend, MeasureRequest, Prompt, SyntheticModel};

use super::bench::Bench;
use super::families::Checkpoints;
use super::llama_cpp;

/// This build is not optimized and computes on processors: prompts and depths are this many times shorter.
const SHORTER: u64 = 64;

/// The longest that a run may take.
const LONGEST: Duration = Duration::from_secs(600);

/// Checks every run of every model.
pub(super) fn check(bench: &mut Bench, _: &Checkpoints) {
    for model in SyntheticModel::all() {
        let outcome = run(bench, &model);
        bench.report(&format!("llama-bench runs {}", model.name()), outcome);
    }
}

fn run(bench: &Bench, model: &SyntheticModel) -> anyhow::Result<String> {
    let programs = llama_cpp::programs(bench)?;
    let program = programs.folder.join("llama-bench");
    let file = model.open()?;
    file.fill()?;
    let mut said = Vec::new();
    for asked in model.runs() {
        let request = asked.request(LONGEST);
        let (prompt, tokens) = (asked.prompt / SHORTER, request.tokens / 32);
        let request = MeasureRequest {
            prompt: Prompt::Words(prompt),
            tokens,
            depth: asked.depth / SHORTER,
            repeats: 1,
            ..request
        };
        let backend = Backend::LlamaBench {
            program: &program,
            launcher: bench.program(),
            model: file.path(),
        };
        let never = AtomicBool::new(false);
        let machine = (Path::new("/"), None);
        let (measured, _) = validate::measure(backend, &request, machine, &never, &mut |_| {})?;
        // What it ran is compared with what it was asked for where its output is read.
        ensure!(
            measured.backends == "CPU" && measured.decode.len() == 1,
            "{measured:?}"
        );
        ensure!(measured.prefill.len() == usize::from(prompt > 0));
        let rate = measured.decode.first().copied().unwrap_or_default();
        said.push(format!(
            "{rate:.1} tokens/s after {} of a prompt and {} cached",
            prompt, request.depth
        ));
    }
    Ok(said.join(", "))
}
