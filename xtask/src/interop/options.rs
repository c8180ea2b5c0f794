//! Importance matrices in both forms of their files, and types chosen by hand: the files load, and
//! hold what was asked for.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::bench::Bench;
use super::families::{Checkpoints, list};

const FAMILY: &str = "qwen3";

/// Checks both.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let outcome = importance(bench, made);
    bench.report("importance matrices", outcome);
    let outcome = overrides(bench, made);
    bench.report("--tensor-type", outcome);
}

/// The same matrix in both forms gives the same file, and another one than none gives.
fn importance(bench: &mut Bench, made: &Checkpoints) -> anyhow::Result<String> {
    let model = made.checkpoint(FAMILY);
    let f16 = bench.quantize(&model, "f16", "options-f16.gguf", &[])?;
    let (legacy, gguf) = (bench.file("imatrix.dat"), bench.file("imatrix.gguf"));
    let request = json!({ "model": f16, "legacy": legacy, "gguf": gguf });
    let entries = bench.probe.ask("importance", request)?["entries"].clone();
    let mut tensors = Vec::new();
    for (name, matrix) in [
        ("legacy", Some(legacy)),
        ("gguf", Some(gguf)),
        ("none", None),
    ] {
        let matrix = matrix.map(|path| path.display().to_string());
        let more: Vec<&str> = matrix.iter().flat_map(|path| ["--imatrix", path]).collect();
        let file = bench.quantize(&model, "q4_k_m", &format!("options-{name}.gguf"), &more)?;
        let request = json!({ "file": file, "ids": made.prompt, "count": 8 });
        bench.probe.ask("complete", request)?;
        let data = orinplan::gguf::read_header(&file)?.data_offset;
        let content = fs::read(&file)?;
        let content = content.get(usize::try_from(data)?..).context("no data")?;
        tensors.push(content.to_vec());
    }
    ensure!(
        tensors[0] == tensors[1],
        "the two forms of one matrix give different weights"
    );
    ensure!(tensors[0] != tensors[2], "the matrix changes nothing");
    Ok(format!(
        "{entries} entries in the legacy and the GGUF form give the same weights, which answer"
    ))
}

fn overrides(bench: &mut Bench, made: &Checkpoints) -> anyhow::Result<String> {
    let more = [
        "--tensor-type",
        "attn_v=q8_0",
        "--tensor-type",
        r"blk\.0\.ffn_down=q6_k",
        "--token-embedding-type",
        "q5_k",
    ];
    let file = bench.quantize(
        &made.checkpoint(FAMILY),
        "q4_k_s",
        "options-types.gguf",
        &more,
    )?;
    let request = json!({ "file": file, "ids": made.prompt, "count": 8 });
    bench.probe.ask("complete", request)?;
    let request = json!({ "file": file, "output": bench.file("values.f32") });
    let answer = bench.probe.ask("dequantize", request)?;
    let tensors = list(&answer["tensors"])?;
    for (name, dtype) in [
        ("blk.1.attn_v.weight", "Q8_0"),
        ("blk.0.ffn_down.weight", "Q6_K"),
        ("blk.1.ffn_up.weight", "Q4_K"),
        ("token_embd.weight", "Q5_K"),
    ] {
        let tensor = tensors.iter().find(|tensor| tensor["name"] == json!(name));
        let have = tensor.map_or(&Value::Null, |tensor| &tensor["type"]);
        ensure!(have == dtype, "gguf-py finds {name} in {have}, not {dtype}");
    }
    Ok("four types as asked for, and llama.cpp answers".to_owned())
}
