//! Every format of GGUF that a scheme writes, read by four readers: gguf-py's dequantizers, candle's,
//! our own, and the `gguf` crate's parser for what it knows.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use candle_core::Device;
use candle_core::quantized::gguf_file;
use orinplan::gguf::read_header;
use orinplan::quantize::blocks::{FORMATS, decode_rows};
use orinplan::scheme::{Container, SCHEMES, Scheme};
use serde_json::json;

use super::bench::Bench;
use super::families::{Checkpoints, list};

/// Checks all GGUF schemes on one checkpoint.
pub(super) fn check(bench: &mut Bench, made: &Checkpoints) {
    let model = made.checkpoint("llama");
    let matrix = importance(bench, &model);
    let written = |s: &&Scheme| s.container == Container::Gguf && FORMATS.contains(&s.base);
    for scheme in SCHEMES.iter().filter(written) {
        let name = format!("blocks-{}.gguf", scheme.id);
        let outcome = match &matrix {
            Ok(matrix) if scheme.needs_importance() => {
                bench.quantize(&model, scheme.id, &name, &["--imatrix", matrix])
            }
            _ => bench.quantize(&model, scheme.id, &name, &[]),
        };
        let outcome = outcome.and_then(|file| readers(bench, &file));
        bench.report(&format!("blocks of {}", scheme.id), outcome);
    }
}

/// An importance matrix of the model.
fn importance(bench: &Bench, model: &Path) -> anyhow::Result<String> {
    let matrix = bench.file("blocks.imatrix.gguf").display().to_string();
    let model = model.display().to_string();
    let chunks = ["--chunks", "1", "--chunk-tokens", "64"];
    let words = ["imatrix", &model, "--overwrite", "--output", &matrix];
    bench.succeeds(&[&words[..], &chunks].concat())?;
    Ok(matrix)
}

/// The same values from all readers that know the file's types.
fn readers(bench: &mut Bench, file: &Path) -> anyhow::Result<String> {
    let output = bench.file("values.f32");
    let request = json!({ "file": file, "output": output });
    let answer = bench.probe.ask("dequantize", request)?;
    let bytes = fs::read(&output)?;
    let values: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect();
    let content = fs::read(file)?;
    let mut cursor = std::io::Cursor::new(&content);
    let candle = gguf_file::Content::read(&mut cursor);
    let header = read_header(file)?;
    let tensors = list(&answer["tensors"])?;
    ensure!(
        tensors.len() == header.tensors.len(),
        "gguf-py finds {} tensors",
        tensors.len()
    );
    let mut at = 0;
    let mut types: Vec<&str> = Vec::new();
    for (row, tensor) in tensors.iter().zip(&header.tensors) {
        ensure!(
            row["name"] == json!(tensor.name),
            "gguf-py finds {} for {}",
            row["name"],
            tensor.name
        );
        let count = usize::try_from(row["count"].as_u64().context("no count")?)?;
        let expected = values
            .get(at..at + count)
            .context("gguf-py wrote too few values")?;
        at += count;
        let width = usize::try_from(*tensor.shape.last().context("a scalar")?)?;
        let start = usize::try_from(tensor.offset)?;
        let size = usize::try_from(tensor.bytes.0)?;
        let blocks = content
            .get(start..start + size)
            .context("the file is short")?;
        let mut ours = vec![0.0; count];
        decode_rows(tensor.dtype, blocks, width, &mut ours)?;
        same(&ours, expected).with_context(|| format!("{}: ours and gguf-py's", tensor.name))?;
        if let Ok(candle) = &candle {
            let theirs = candle.tensor(&mut cursor, &tensor.name, &Device::Cpu)?;
            let theirs = theirs
                .dequantize(&Device::Cpu)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            same(&theirs, expected)
                .with_context(|| format!("{}: candle's and gguf-py's", tensor.name))?;
        }
        if !types.contains(&tensor.dtype.name()) {
            types.push(tensor.dtype.name());
        }
    }
    let known = |id: u32| id <= 18;
    let all_known = header
        .tensors
        .iter()
        .all(|t| t.dtype.format().ggml_id.is_some_and(known));
    let mut readers = vec!["gguf-py", "orinplan"];
    match candle {
        Ok(_) => readers.push("candle"),
        Err(error) => ensure!(
            types.iter().any(|name| ["IQ", "TQ", "MXFP"]
                .iter()
                .any(|kind| name.starts_with(kind))),
            "candle does not read the file: {error}"
        ),
    }
    if all_known {
        parsed(
            &content,
            &header
                .tensors
                .iter()
                .map(|t| t.name.as_str())
                .collect::<Vec<_>>(),
        )?;
        readers.push("the gguf crate (header)");
    }
    Ok(format!(
        "{} in {} tensors: {} agree",
        types.join(" "),
        tensors.len(),
        readers.join(", ")
    ))
}

fn parsed(content: &[u8], names: &[&str]) -> anyhow::Result<()> {
    let file = gguf::GGUFFile::read(content)
        .map_err(|error| anyhow!("the gguf crate refuses the file: {error}"))?
        .context("the gguf crate takes the header for incomplete")?;
    let have: Vec<&str> = file.tensors.iter().map(|t| t.name.as_str()).collect();
    ensure!(have == names, "the gguf crate finds other tensors");
    Ok(())
}

/// Equal to the bit, but for a product that one of the two rounds twice.
fn same(have: &[f32], expected: &[f32]) -> anyhow::Result<()> {
    ensure!(
        have.len() == expected.len(),
        "{} values, not {}",
        have.len(),
        expected.len()
    );
    for (i, (a, b)) in have.iter().zip(expected).enumerate() {
        ensure!((a - b).abs() <= b.abs() * 1e-6, "value {i} is {a}, not {b}");
    }
    Ok(())
}
