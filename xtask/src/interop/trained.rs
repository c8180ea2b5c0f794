//! `--data DIR`: trained models and real tokenizers, which cannot be part of the project.
//!
//! In: a folder with `models/` (checkpoints with `golden_greedy.json`), `golden/llama_quantize/`
//! (files that llama.cpp's converter and llama-quantize made of `trained-5m-qwen3`),
//! `golden/tokenizer_ids/` and `tokenizers/`, and `text/heldout.txt`.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::bench::Bench;
use super::decoder;
use super::families::{divergences, ids, list, tokens};

/// Tokenizers, the family whose checkpoint is made around them, and the name of their golden ids.
const TOKENIZERS: &[(&str, &str, &str)] = &[
    ("qwen2.5", "qwen2", "qwen2"),
    ("qwen3", "qwen3", "qwen2"),
    ("llama3", "llama", "llama-bpe"),
    ("llama2", "llama", "llama-spm"),
    ("phi-3", "phi3", "phi-3"),
];

/// Formats of `golden/llama_quantize`.
const GOLDEN: &[(&str, &str)] = &[
    ("bf16", "BF16"),
    ("q8_0", "Q8_0"),
    ("q6_k", "Q6_K"),
    ("q5_k_m", "Q5_K_M"),
    ("q4_k_m", "Q4_K_M"),
    ("q4_0", "Q4_0"),
];

/// How much further than llama-quantize's file ours may be from the unquantized one (mean
/// Kullback-Leibler divergence).
const EXCESS: f64 = 1e-3;

/// Checks everything in `data`.
pub(super) fn check(bench: &mut Bench, data: &Path) {
    for model in ["tinystories-656k-hf", "stories260K-hf"] {
        let outcome = story(bench, data, model);
        bench.report(model, outcome);
    }
    for (scheme, golden) in GOLDEN {
        let outcome = against_llama_quantize(bench, data, scheme, golden);
        bench.report(&format!("trained-5m-qwen3 {scheme}"), outcome);
    }
    for model in ["tinystories-656k-hf", "stories260K-hf"] {
        let directory = data.join("models").join(model);
        let outcome = read(&directory.join("golden_greedy.json"))
            .and_then(|golden| decoder::story(bench, &directory, &golden));
        bench.report(&format!("decoder {model}"), outcome);
    }
    for (scheme, golden) in GOLDEN {
        let outcome = decoded(bench, data, golden);
        bench.report(&format!("decoder trained-5m-qwen3 {scheme}"), outcome);
    }
    for (tokenizer, family, golden) in TOKENIZERS {
        let outcome = tokenizer_ids(bench, data, tokenizer, family, golden);
        bench.report(&format!("tokenizer {tokenizer}"), outcome);
    }
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// Greedy tokens, and the prompt's if it is given as text, against a reference in double precision.
fn story(bench: &mut Bench, data: &Path, name: &str) -> anyhow::Result<String> {
    let directory = data.join("models").join(name);
    let golden = read(&directory.join("golden_greedy.json"))?;
    let (prompt, all) = (ids(&golden["prompt_ids"])?, ids(&golden["greedy_ids"])?);
    let file = bench.quantize(&directory, "f16", &format!("{name}.gguf"), &[])?;
    let mut said = String::new();
    if golden["prompt"].is_string() {
        let texts = json!([golden["prompt"]]);
        tokens(bench, &file, &texts, &json!([golden["prompt_ids"]]), true)?;
        said.push_str("the prompt has the golden ids; ");
    }
    let expected = all
        .get(prompt.len()..)
        .context("nothing follows the prompt")?;
    let request = json!({ "file": file, "ids": prompt, "count": expected.len() });
    let answer = bench.probe.ask("complete", request)?;
    let have = ids(&answer["ids"])?;
    ensure!(
        have == expected,
        "greedy tokens are {have:?}, not {expected:?}"
    );
    Ok(format!("{said}{} greedy tokens equal", have.len()))
}

/// Our file and llama-quantize's in the same llama.cpp.
fn against_llama_quantize(
    bench: &mut Bench,
    data: &Path,
    scheme: &str,
    golden: &str,
) -> anyhow::Result<String> {
    let directory = data.join("models/trained-5m-qwen3");
    let file = bench.quantize(
        &directory,
        scheme,
        &format!("trained-5m-qwen3-{scheme}.gguf"),
        &[],
    )?;
    let folder = data.join("golden/llama_quantize");
    let (theirs, plain) = (
        folder.join(format!("{golden}.gguf")),
        folder.join("BF16.gguf"),
    );
    let parts = held_out(bench, data, &plain)?;
    let [ours_away, theirs_away] = divergences(bench, &plain, [&file, &theirs], &parts)?;
    let [apart, _] = divergences(bench, &theirs, [&file, &theirs], &parts)?;
    let rows = read(&directory.join("golden_greedy.json"))?;
    let rows = list(&rows["rows"])?;
    let mut equal = 0;
    for row in rows {
        let mut said = Vec::new();
        for path in [&file, &theirs] {
            let request = json!({ "file": path, "ids": row["prompt_ids"], "count": 48 });
            said.push(ids(&bench.probe.ask("complete", request)?["ids"])?);
        }
        equal += usize::from(said[0] == said[1]);
        ensure!(
            scheme != "bf16" || said[0] == ids(&row["greedy_ids"])?,
            "greedy tokens after {} are {:?}, not Transformers'",
            row["prompt"],
            said[0]
        );
    }
    let figures = format!(
        "divergence from BF16 {ours_away:.6}, llama-quantize's {theirs_away:.6}, between the two \
         {apart:.6}; {equal} of {} greedy continuations equal",
        rows.len()
    );
    ensure!(ours_away <= theirs_away + EXCESS, "{figures}");
    ensure!(apart > 0.0 || equal == rows.len(), "{figures}");
    Ok(figures)
}

/// The program's own decoder on a file that llama-quantize made.
fn decoded(bench: &mut Bench, data: &Path, golden: &str) -> anyhow::Result<String> {
    let folder = data.join("golden/llama_quantize");
    let parts = held_out(bench, data, &folder.join("BF16.gguf"))?;
    let rows = read(&data.join("models/trained-5m-qwen3/golden_greedy.json"))?;
    let file = folder.join(format!("{golden}.gguf"));
    decoder::golden(bench, &file, &rows["rows"], golden, &parts)
}

/// Four parts of 256 tokens of text that the model never saw.
fn held_out(bench: &mut Bench, data: &Path, file: &Path) -> anyhow::Result<Value> {
    let path = data.join("text/heldout.txt");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let request = json!({ "file": file, "texts": [text] });
    let answer = bench.probe.ask("tokenize", request)?;
    let all = ids(&answer["ids"][0])?;
    ensure!(
        all.len() >= 1024,
        "{} has fewer than 1024 tokens",
        path.display()
    );
    Ok(json!(all.chunks_exact(256).take(4).collect::<Vec<_>>()))
}

/// llama.cpp's own test texts through the emitted vocabulary.
fn tokenizer_ids(
    bench: &mut Bench,
    data: &Path,
    tokenizer: &str,
    family: &str,
    golden: &str,
) -> anyhow::Result<String> {
    let directory = bench.file(&format!("tokenizer-{tokenizer}"));
    let request = json!({
        "family": family, "tokenizer": data.join("tokenizers").join(tokenizer),
        "directory": directory,
    });
    bench.probe.ask("around", request)?;
    let file = bench.quantize(
        &directory,
        "q8_0",
        &format!("tokenizer-{tokenizer}.gguf"),
        &[],
    )?;
    let at = data
        .join("golden/tokenizer_ids")
        .join(format!("ggml-vocab-{golden}.gguf"));
    let texts = fs::read_to_string(at.with_extension("gguf.inp"))?;
    let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    let expected = fs::read_to_string(at.with_extension("gguf.out"))?;
    let expected = expected
        .lines()
        .map(|line| {
            line.split_whitespace()
                .map(|id| Ok(id.parse::<u64>()?))
                .collect()
        })
        .collect::<anyhow::Result<Vec<Vec<u64>>>>()?;
    // The file ends with a separator.
    let texts = texts
        .get(..expected.len())
        .context("fewer texts than ids")?;
    tokens(bench, &file, &json!(texts), &json!(expected), false)
}
