//! What `imatrix`, `compare` and `quantize --target-size` measure and write, beside llama.cpp's programs on the same
//! models and texts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use orinplan::gguf::read_header;
use orinplan::quality::LogProbs;
use serde_json::{Value, json};

use super::bench::Bench;
use super::decoder;
use super::families::{self, Checkpoints, list};
use super::llama_cpp::{self, Programs};

/// Tokens of a chunk, and chunks that activations and predictions are compared over.
const CHUNK: usize = 128;
const ACTIVATION_CHUNKS: usize = 2;
const PREDICTION_CHUNKS: usize = 8;

/// How far the mean square of a column may be from llama.cpp's, as a share of the column or of the mean over the columns
/// of its matrix, whichever is larger. Seen: 0.0033.
const APART: f64 = 0.01;

/// gemma3n's blocks keep 5 % of a row's activations, so that one at the threshold, kept or not, is much of a column's
/// sum. Seen: 0.053; llama.cpp with and without fused attention: 0.025.
const APART_GEMMA3N: f64 = 0.1;

/// plamo2's recurrent blocks carry roundings on, to columns that are small. Seen: 0.016; llama.cpp with ubatches of 32 and of
/// 128 tokens: 0.0055.
const APART_PLAMO2: f64 = 0.03;

/// The share of a router's decisions that may differ: scores a rounding apart. Seen: one of 512.
const MOVED: f64 = 0.01;

/// How far a mean divergence may be from llama.cpp's, as a share of it. Seen: 0.0034.
const DIVERGENCE: f64 = 0.02;

/// Families that a mix is made of: one without experts, one with.
const MIXED: &[&str] = &["qwen3", "qwen3moe"];

/// Bits of a mix for each weight.
const BITS: u64 = 5;

/// Bytes of the text that a mix is made with: the search for types, not the text, shall take the time.
const MIX_TEXT: usize = 3000;

/// Families whose predictions are compared: one that begins a text with a token of its own, one that does not.
const COMPARED: &[&str] = &["gemma3", "qwen3"];

/// Checks every family's importance matrix, and with some of them the rest.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let programs = match llama_cpp::programs(bench) {
        Ok(programs) => programs,
        Err(error) => return bench.report("quality", Err(error)),
    };
    for family in &made.families {
        let outcome = importance(bench, &programs, made, family);
        bench.report(&format!("imatrix {family}"), outcome);
    }
    let of = |some: &[&'static str]| -> Vec<&'static str> {
        let made = |family: &&str| made.families.iter().any(|made| made == family);
        some.iter().copied().filter(made).collect()
    };
    for family in of(COMPARED) {
        let outcome = divergence(bench, &programs, made, family);
        bench.report(&format!("compare {family}"), outcome);
    }
    for family in of(MIXED) {
        let outcome = mix(bench, made, family);
        bench.report(&format!("quantize --target-size {family}"), outcome);
    }
}

fn f16(bench: &Bench, made: &Checkpoints, family: &str) -> anyhow::Result<PathBuf> {
    let name = format!("quality-{family}-f16.gguf");
    bench.quantize(&made.checkpoint(family), "f16", &name, &[])
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn remove(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        fs::remove_file(path)?;
    }
    Ok(())
}

/// Our matrix and llama-imatrix's of the same chunks; llama-quantize takes ours. Of the matrices outside of blocks
/// llama-imatrix collects for the head alone.
fn importance(
    bench: &mut Bench,
    programs: &Programs,
    made: &Checkpoints,
    family: &str,
) -> anyhow::Result<String> {
    let model = shown(&f16(bench, made, family)?);
    let text = shown(&families::text());
    let file = |name: &str| shown(&bench.file(&format!("quality-{family}-{name}.gguf")));
    let (ours, theirs, quantized) = (file("ours"), file("theirs"), file("q4_k_m"));
    let (tokens, chunks) = (CHUNK.to_string(), ACTIVATION_CHUNKS.to_string());
    bench.succeeds(&[
        "imatrix",
        &model,
        "--text",
        &text,
        "--chunk-tokens",
        &tokens,
        "--chunks",
        &chunks,
        "--process-output",
        "--overwrite",
        "--output",
        &ours,
    ])?;
    let words = [
        "-m",
        &model,
        "-f",
        &text,
        "-o",
        &theirs,
        "-c",
        &tokens,
        "-b",
        &tokens,
        "--chunks",
        &chunks,
        "-t",
        "1",
        "--no-ppl",
        "--process-output",
    ];
    programs.run("llama-imatrix", &words)?;
    let request = json!({ "ours": ours, "theirs": theirs });
    let answer = bench.probe.ask("importance_apart", request)?;
    let (missing, more) = (list(&answer["missing"])?, list(&answer["more"])?);
    let of_block = |name: &Value| name.as_str().is_none_or(|name| name.starts_with("blk."));
    ensure!(
        missing.is_empty() && !more.iter().any(of_block),
        "llama-imatrix alone has {missing:?}, ours alone {more:?}"
    );
    let tensors = list(&answer["tensors"])?;
    // A row that went to another expert is another row of that expert, and in the blocks that follow.
    let mut first_moved = usize::MAX;
    let mut changed = Vec::new();
    for tensor in tensors {
        let name = tensor["name"].as_str().context("no name")?;
        let (counts, theirs) = (&tensor["counts"], &tensor["their_counts"]);
        let moved = moved(counts, theirs)?;
        ensure!(
            moved <= MOVED,
            "{name} has counts {counts}, llama.cpp's {theirs}"
        );
        if moved > 0.0 {
            changed.push(name);
            first_moved = first_moved.min(block(name));
        }
    }
    let mut worst = (0.0, "");
    let mut compared = 0;
    for tensor in tensors {
        let name = tensor["name"].as_str().context("no name")?;
        if block(name) > first_moved || changed.contains(&name) {
            continue;
        }
        compared += 1;
        let apart = tensor["apart"].as_f64();
        let apart = apart.with_context(|| format!("{name} has another shape"))?;
        if apart >= worst.0 {
            worst = (apart, name);
        }
    }
    let more_names: String = more.iter().map(|name| format!(" and {name}")).collect();
    let said = format!(
        "{} entries{more_names}, counts within {MOVED}, columns of {compared} within {:.5} of llama-imatrix's ({})",
        tensors.len(),
        worst.0,
        worst.1
    );
    let limit = match family {
        "gemma3n" => APART_GEMMA3N,
        "plamo2" => APART_PLAMO2,
        _ => APART,
    };
    ensure!(compared > 0 && worst.0 <= limit, "{said}");
    // Experts that stay in four-bit floats are blocks already.
    let words = [
        "--allow-requantize",
        "--imatrix",
        &ours,
        &model,
        &quantized,
        "Q4_K_M",
        "1",
    ];
    let output = programs.run("llama-quantize", &words)?;
    let entries = tensors.len() + more.len();
    let loaded = format!("loaded {entries} importance matrix entries");
    ensure!(
        output.contains(&loaded),
        "llama-quantize does not say `{loaded}`"
    );
    Ok(format!("{said}; llama-quantize takes them"))
}

/// The block of a tensor; that of one outside of blocks, the head, is behind all.
fn block(name: &str) -> usize {
    let number = name
        .strip_prefix("blk.")
        .and_then(|rest| rest.split('.').next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or(usize::MAX)
}

/// The share of the rows that reached another expert in one matrix than in the other. Without experts, and wherever the
/// numbers of rows differ, that is no matter of decisions: then it is all of them.
fn moved(counts: &Value, theirs: &Value) -> anyhow::Result<f64> {
    let numbers = |counts: &Value| -> anyhow::Result<Vec<f64>> {
        let count = |count: &Value| count.as_f64().context("a count is no number");
        list(counts)?.iter().map(count).collect()
    };
    let (counts, theirs) = (numbers(counts)?, numbers(theirs)?);
    let total = theirs.iter().sum::<f64>();
    if counts == theirs {
        return Ok(0.0);
    }
    if counts.len() != theirs.len() || counts.iter().sum::<f64>() != total {
        return Ok(1.0);
    }
    let apart = counts
        .iter()
        .zip(&theirs)
        .map(|(one, other)| (one - other).abs());
    Ok(apart.sum::<f64>() / 2.0 / total)
}

/// The divergence of a Q4_K_M file as `compare` states it, as it follows from llama.cpp's logits of both files, and
/// as llama-perplexity computes it from the kept predictions.
fn divergence(
    bench: &mut Bench,
    programs: &Programs,
    made: &Checkpoints,
    family: &str,
) -> anyhow::Result<String> {
    let model = f16(bench, made, family)?;
    let name = format!("quality-{family}-candidate.gguf");
    let candidate = bench.quantize(&model, "q4_k_m", &name, &[])?;
    let keep = bench.file(&format!("quality-{family}.keep"));
    remove(&keep)?;
    let (tokens, chunks) = (CHUNK.to_string(), PREDICTION_CHUNKS.to_string());
    let output = bench.succeeds(&[
        "compare",
        &shown(&model),
        &shown(&candidate),
        "--text",
        &shown(&families::text()),
        "--chunk-tokens",
        &tokens,
        "--chunks",
        &chunks,
        "--keep",
        &shown(&keep),
        "--format",
        "json",
    ])?;
    let report: Value = serde_json::from_slice(&output)?;
    let number = |pointer: &str| {
        let number = report.pointer(pointer).and_then(Value::as_f64);
        number.with_context(|| format!("no {pointer}"))
    };
    let ours = number("/candidates/0/kld/mean")?;
    let request = json!({
        "reference": model, "file": candidate, "parts": LogProbs::open(&keep)?.chunks,
        "places": [CHUNK / 2, CHUNK - 1],
    });
    let answer = bench.probe.ask("divergence", request)?;
    let theirs = answer["mean"].as_f64().context("no divergence")?;
    let words = [
        "-m",
        &shown(&candidate),
        "--kl-divergence",
        "--kl-divergence-base",
        &shown(&keep),
        "-c",
        &tokens,
        "-b",
        &tokens,
        "-t",
        "1",
    ];
    // A thread of its own writes what it says, and its end does not always wait for that.
    let mut output = programs.run("llama-perplexity", &words)?;
    for _ in 0..9 {
        if output.contains("Mean    KLD") {
            break;
        }
        output = programs.run("llama-perplexity", &words)?;
    }
    let stated = |title: &str| -> anyhow::Result<f64> {
        let line = output.lines().find_map(|line| line.strip_prefix(title));
        let line = line.with_context(|| format!("llama-perplexity says no `{title}`"))?;
        let number = line.trim_start_matches([' ', ':']).split(' ').next();
        Ok(number.unwrap_or_default().parse()?)
    };
    let kept = stated("Mean    KLD")?;
    let said = format!(
        "divergence {ours:.5} +-{:.5}, from llama.cpp's logits {theirs:.5}, llama-perplexity's on the kept \
         predictions {kept:.5}",
        number("/candidates/0/kld/standard_error")?
    );
    let near = |ours: f64, theirs: f64| (ours / theirs - 1.0).abs() <= DIVERGENCE;
    ensure!(near(ours, theirs) && near(ours, kept), "{said}");
    let perplexities = (
        number("/reference/perplexity/value")?,
        stated("Mean PPL(base)")?,
    );
    ensure!(
        (perplexities.0 / perplexities.1 - 1.0).abs() < 1e-4,
        "{said}; the reference's perplexity is {} and {}",
        perplexities.0,
        perplexities.1
    );
    Ok(said)
}

/// A file whose types were chosen for a size, in llama.cpp and in our decoder (candle does not multiply with all of
/// them).
fn mix(bench: &mut Bench, made: &Checkpoints, family: &str) -> anyhow::Result<String> {
    let model = f16(bench, made, family)?;
    let whole = fs::read_to_string(families::text())?;
    let text = bench.file("quality.txt");
    fs::write(&text, whole.get(..MIX_TEXT).context("the text is short")?)?;
    let header = read_header(&model)?;
    let weights: u64 = header
        .tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<u64>())
        .sum();
    let most = header.data_offset + weights * BITS / 8;
    let file = bench.file(&format!("quality-{family}-mix.gguf"));
    let types = bench.file("quality.types");
    remove(&types)?;
    let output = bench.succeeds(&[
        "quantize",
        &shown(&model),
        "--target-size",
        &format!("{most}B"),
        "--text",
        &shown(&text),
        "--chunk-tokens",
        "64",
        "--save-types",
        &shown(&types),
        "--overwrite",
        "--output",
        &shown(&file),
        "--format",
        "json",
    ])?;
    let report: Value = serde_json::from_slice(&output)?;
    let size = fs::metadata(&file)?.len();
    ensure!(
        size <= most && report["file_bytes"] == size,
        "{size} bytes, {} reported, {most} asked for",
        report["file_bytes"]
    );
    let fit = bench.succeeds(&[
        "fit",
        &shown(&file),
        "--device",
        "agx-orin-64gb",
        "--format",
        "json",
    ])?;
    let fit: Value = serde_json::from_slice(&fit)?;
    let planned = &fit["plans"][0]["file_bytes"];
    ensure!(
        *planned == size,
        "fit states {planned} bytes, the file has {size}"
    );
    let taken = &report["mix"]["taken"];
    ensure!(taken == "mix", "{taken} is taken");
    let list = fs::read_to_string(&types)?;
    let types = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.1));
    let types: Vec<&str> = types.collect::<BTreeSet<_>>().into_iter().collect();
    let logits = decoder::beside_llama(bench, &file, &[decoder::walk()], &[decoder::KERNELS])?;
    Ok(format!(
        "{size} of {most} bytes, as fit states, in {}; {logits}",
        types.join(", ")
    ))
}
