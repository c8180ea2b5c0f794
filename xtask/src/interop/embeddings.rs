//! Models that turn texts into numbers: vectors of the program's own decoder beside llama.cpp's of the same file, for small
//! models with random weights, in floats and in blocks, by each pooling.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use orinplan::checkpoint::{self, Pooling};
use orinplan::decode::{Engine, LoadOptions, Model};
use orinplan::dtype::Dtype;
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown};
use orinplan::quantize::blocks;
use serde_json::json;

use super::bench::Bench;
use super::families::Checkpoints;
use super::gguf_file::Tensor;
use super::shapes::{self, SHAPES, Shape};
use crate::tiny::Noise;

/// The architectures, each with the poolings that models of it have.
pub(crate) const MODELS: &[(&str, &[Pooling])] = &[
    ("bert", &[Pooling::Mean, Pooling::Cls, Pooling::Rank]),
    ("nomic-bert", &[Pooling::Mean]),
    ("nomic-bert-moe", &[Pooling::Mean]),
    ("gemma-embedding", &[Pooling::Mean]),
    ("qwen3", &[Pooling::Last, Pooling::Rank]),
];

/// Qwen3-Embedding, whose architecture is that of a model that writes text.
const QWEN3: Shape = (
    "qwen3",
    "Qwen3ForCausalLM",
    || json!({ "tie_word_embeddings": true }),
    || json!({}),
);

/// Formats of the matrices.
const FORMATS: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::Q8_0, Dtype::Q4_0];

/// The least cosine of the angle between the two vectors of a text.
const LEAST: f64 = 0.9999;

/// Tokens of the texts: fewer than a window and more than that.
const LENGTHS: [u32; 3] = [1, 13, 150];

/// Checks every model.
pub(super) fn check(bench: &mut Bench, _: &Checkpoints) {
    for (name, poolings) in MODELS {
        for pooling in *poolings {
            for dtype in FORMATS {
                let outcome = written(bench, name, *pooling, *dtype)
                    .and_then(|file| beside_llama(bench, &file, *pooling));
                let what = format!("embeddings {name} {} {}", pooling.name(), dtype.name());
                bench.report(&what, outcome);
            }
        }
    }
}

/// The scores of a reranker: several, since one alone has no direction.
const SCORES: [&str; 4] = ["a", "b", "c", "d"];

/// The head of a reranker behind blocks of `hidden` elements: with a layer before its scores, and biases, where it is an
/// encoder's.
fn head(is_encoder: bool, hidden: u64) -> Vec<Tensor> {
    let scores = SCORES.len() as u64;
    let shapes: &[(&str, &[u64])] = if is_encoder {
        &[
            ("cls.weight", &[hidden, hidden]),
            ("cls.bias", &[hidden]),
            ("cls.output.weight", &[scores, hidden]),
            ("cls.output.bias", &[scores]),
        ]
    } else {
        &[("cls.output.weight", &[scores, hidden])]
    };
    let tensor = |(name, shape): &(&str, &[u64])| Tensor {
        name: (*name).to_owned(),
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        bytes: vec![0; 4 * shape.iter().product::<u64>() as usize],
    };
    shapes.iter().map(tensor).collect()
}

/// The file of a model, its matrices in `dtype`.
fn written(bench: &Bench, name: &str, pooling: Pooling, dtype: Dtype) -> anyhow::Result<PathBuf> {
    let shape = SHAPES.iter().find(|shape| shape.0 == name);
    let file = shapes::file(bench, shape.unwrap_or(&QWEN3))?;
    let mut file = file.with(&format!("{name}.pooling_type"), Value::U32(pooling as u32));
    if pooling == Pooling::Rank {
        let labels = SCORES.map(|label| Value::String(label.to_owned()));
        let labels = Value::Array(labels.to_vec());
        file = file.with(&format!("{name}.classifier.output_labels"), labels);
        file.tensors.extend(head(name == "bert", 64));
    }
    let mut noise = Noise::default();
    for tensor in &mut file.tensors {
        let is_norm = tensor.name.contains("norm") && tensor.name.ends_with("weight");
        let values = tensor.bytes.len() / 4;
        let width = tensor.shape.last().copied().unwrap_or(1);
        // What blocks add is small beside what they get: roundings of eight bits would grow with each.
        let is_embedding = tensor.name.starts_with("token_embd.");
        let scale = if is_embedding {
            20.0
        } else {
            25.0 / (width as f32).sqrt()
        };
        let value = |noise: &mut Noise| match (is_norm, tensor.shape.len()) {
            (true, _) => 1.0 + 5.0 * noise.weight(),
            (false, 1) => 10.0 * noise.weight(),
            (false, _) => scale * noise.weight(),
        };
        let values: Vec<f32> = (0..values).map(|_| value(&mut noise)).collect();
        let kept = ["position_embd", "token_types", "ffn_gate_inp"];
        let is_kept = kept.iter().any(|part| tensor.name.contains(part));
        if tensor.shape.len() < 2 || is_kept || dtype == Dtype::F32 {
            tensor.bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            continue;
        }
        let rows = values.len() as u64 / width;
        let mut bytes = vec![0; (dtype.row_bytes(width).0 * rows) as usize];
        blocks::encode_rows(dtype, &values, width as usize, None, &mut bytes)?;
        (tensor.bytes, tensor.dtype) = (bytes, dtype);
    }
    let path = bench.file("embeddings.gguf");
    file.write(&path)?;
    Ok(path)
}

/// Vectors of texts of several lengths in both engines.
fn beside_llama(bench: &mut Bench, file: &Path, pooling: Pooling) -> anyhow::Result<String> {
    let output = bench.file("embedding.f32");
    let mut theirs = Vec::new();
    for length in LENGTHS {
        let request = json!({ "file": file, "ids": text(length), "output": output });
        bench.probe.ask("embedding", request)?;
        let bytes = fs::read(&output)?;
        let floats = bytes.as_chunks().0.iter();
        theirs.push(
            floats
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect::<Vec<f32>>(),
        );
    }
    let mut least = [1.0f64; 2];
    for (least, engine) in least.iter_mut().zip([Engine::Cpu, Engine::Tensors]) {
        let checkpoint = checkpoint::open(&file.to_string_lossy())?;
        let spec = model::read(&checkpoint, Unknown::Refuse)?;
        let stated = spec.retrieval.as_ref().and_then(|found| found.pooling);
        ensure!(stated == Some(pooling), "the file is read with {stated:?}");
        let options = LoadOptions {
            context: 256,
            // A pass has all of a text, whatever this says.
            ubatch: 8,
            engine,
            ..LoadOptions::default()
        };
        let mut model = Model::load(&checkpoint, &spec, &options, &mut |_| {})?;
        for (length, theirs) in LENGTHS.into_iter().zip(&theirs) {
            let ours = model.embed(&text(length), pooling)?;
            let cosine = cosine(&ours, theirs).context("vectors of other widths")?;
            *least = least.min(cosine);
        }
    }
    let said = format!(
        "cosine of {} texts at least {:.7}, with the operations of a GPU {:.7}",
        LENGTHS.len(),
        least[0],
        least[1]
    );
    ensure!(least.iter().all(|cosine| *cosine > LEAST), "{said}");
    Ok(said)
}

/// A text of so many tokens.
fn text(length: u32) -> Vec<u32> {
    (0..length).map(|i| (7 + i * 29) % 61 + 2).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let is_same = a.len() == b.len() && !a.is_empty();
    is_same.then(|| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt())
}
