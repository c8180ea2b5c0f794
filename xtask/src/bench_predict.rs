//! `cargo xtask bench predict [FORMAT..]`: how far the predictions for this machine are off. Runs six published
//! shapes in four formats with orinplan's own decoder, each in a process of its own, and sets what `validate`
//! measured against what the plan said. Calibration saw none of these shapes; it is made anew before each of
//! them, and the formats of a shape take turns behind it, because a shared machine is not as fast in one minute
//! as it is in the next.
//!
//! The weights are one row over and over: bytes and products are those of the real file. A busy machine
//! shows in how far the turns of the same file are apart; the fastest repeat is beside the mean.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown};
use orinplan::scheme::{self, Rules, Scheme};
use orinplan::validate::{Tensor, write_repeated};
use serde_json::{Value as Json, json};

use crate::bench::release_binary;
use crate::fixtures;

/// What is measured if no format is named.
const FORMATS: [&str; 4] = ["q4_k_m", "q8_0", "q4_0", "f16"];

/// What the median and the worst error may be, and every error of memory, in percent.
const MEDIAN: f64 = 7.0;
const WORST: f64 = 15.0;
const MEMORY: f64 = 3.0;

/// How often each file is measured.
const TURNS: usize = 3;

/// A published shape, from the `config.json` of its repository.
struct Shape {
    name: &'static str,
    family: &'static str,
    layers: u64,
    hidden: u64,
    inner: u64,
    heads: u64,
    kv_heads: u64,
    head_dim: u64,
    vocab: u64,
}

/// From 135 M to 1.7 B parameters, all with tied embeddings.
const SHAPES: [Shape; 6] = [
    shape("SmolLM2-135M", "llama", [30, 576, 1536, 9, 3, 64, 49_152]),
    shape("SmolLM2-360M", "llama", [32, 960, 2560, 15, 5, 64, 49_152]),
    shape("Qwen2.5-0.5B", "qwen2", [24, 896, 4864, 14, 2, 64, 151_936]),
    shape("Qwen3-0.6B", "qwen3", [28, 1024, 3072, 16, 8, 128, 151_936]),
    shape(
        "Llama-3.2-1B",
        "llama",
        [16, 2048, 8192, 32, 8, 64, 128_256],
    ),
    shape(
        "SmolLM2-1.7B",
        "llama",
        [24, 2048, 8192, 32, 32, 64, 49_152],
    ),
];

const fn shape(name: &'static str, family: &'static str, numbers: [u64; 7]) -> Shape {
    let [layers, hidden, inner, heads, kv_heads, head_dim, vocab] = numbers;
    Shape {
        name,
        family,
        layers,
        hidden,
        inner,
        heads,
        kv_heads,
        head_dim,
        vocab,
    }
}

pub(crate) fn run(formats: &[&str]) -> anyhow::Result<()> {
    let formats = if formats.is_empty() {
        &FORMATS[..]
    } else {
        formats
    };
    let binary = release_binary()?;
    let scratch = std::env::temp_dir().join(format!("orinplan-predict-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let outcome = measure(&binary, &scratch, formats);
    std::fs::remove_dir_all(&scratch).ok();
    outcome
}

/// What was predicted and measured of one file.
#[derive(Default)]
struct Row {
    predicted: f64,
    /// Tokens a second, of each turn.
    turns: Vec<f64>,
    fastest: f64,
    memory_predicted: f64,
    /// The most of any turn.
    memory: f64,
}

impl Row {
    fn mean(&self) -> f64 {
        self.turns.iter().sum::<f64>() / self.turns.len() as f64
    }

    /// Percent by which the fastest turn is above the slowest.
    fn apart(&self) -> f64 {
        let most = self.turns.iter().copied().fold(0.0, f64::max);
        let least = self.turns.iter().copied().fold(most, f64::min);
        percent(most, least)
    }
}

/// Percent by which `predicted` is above `measured`.
fn percent(predicted: f64, measured: f64) -> f64 {
    (predicted / measured - 1.0) * 100.0
}

fn measure(binary: &Path, scratch: &Path, formats: &[&str]) -> anyhow::Result<()> {
    println!(
        "| model | format | predicted t/s | measured, mean | fastest | error | of fastest | memory predicted | measured | error |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut rows: Vec<Row> = Vec::new();
    let mut seconds = Vec::new();
    for shape in &SHAPES {
        let path = |format: &str| scratch.join(format!("{}-{format}.gguf", shape.name));
        for format in formats {
            write(shape, format, &path(format))?;
            // Or the system would write while something is measured.
            File::open(path(format))?.sync_all()?;
        }
        let calibrated = orinplan(binary, scratch, &["calibrate", "--format", "json"])?;
        seconds.push(number(&calibrated, "/seconds")?);
        let mut found: Vec<Row> = formats.iter().map(|_| Row::default()).collect();
        for _ in 0..TURNS {
            for (format, row) in formats.iter().zip(&mut found) {
                validate(binary, scratch, &path(format), row)?;
            }
        }
        for (format, row) in formats.iter().zip(&found) {
            std::fs::remove_file(path(format))?;
            println!(
                "| {} | {format} | {:.1} | {:.1} | {:.1} | {:+.1} % | {:+.1} % | {:.0} MB | {:.0} MB | {:+.1} % |",
                shape.name,
                row.predicted,
                row.mean(),
                row.fastest,
                percent(row.predicted, row.mean()),
                percent(row.predicted, row.fastest),
                row.memory_predicted / 1e6,
                row.memory / 1e6,
                percent(row.memory_predicted, row.memory)
            );
        }
        rows.extend(found);
    }
    let of = |pick: fn(&Row) -> f64| {
        let mut errors: Vec<f64> = rows.iter().map(|row| pick(row).abs()).collect();
        errors.sort_by(f64::total_cmp);
        (errors[errors.len() / 2], errors[errors.len() - 1])
    };
    let decode = of(|row| percent(row.predicted, row.mean()));
    let fastest = of(|row| percent(row.predicted, row.fastest));
    let memory = of(|row| percent(row.memory_predicted, row.memory));
    let apart = of(Row::apart);
    println!(
        "\ndecode: median error {:.1} %, worst {:.1} %; against the fastest repeat {:.1} % and {:.1} %",
        decode.0, decode.1, fastest.0, fastest.1
    );
    println!(
        "peak memory: median error {:.1} %, worst {:.1} %",
        memory.0, memory.1
    );
    // No prediction is better than the machine is steady.
    println!(
        "turns of the same file: median {:.1} % apart, worst {:.1} %",
        apart.0, apart.1
    );
    let longest = seconds.iter().copied().fold(0.0, f64::max);
    println!("calibrated before each model, in at most {longest:.0} s");
    ensure!(
        decode.0 <= MEDIAN && decode.1 <= WORST && memory.1 <= MEMORY,
        "beyond {MEDIAN} %, {WORST} % or {MEMORY} %; is the machine busy?"
    );
    Ok(())
}

/// Runs the command with settings in `scratch` and returns its document.
fn orinplan(binary: &Path, scratch: &Path, words: &[&str]) -> anyhow::Result<Json> {
    let output = Command::new(binary)
        .args(words)
        .env("XDG_CONFIG_HOME", scratch)
        .output()?;
    if output.status.code().is_none_or(|code| code > 1) {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{words:?}"))
}

/// One more turn of a file.
fn validate(binary: &Path, scratch: &Path, path: &Path, row: &mut Row) -> anyhow::Result<()> {
    let path = path.to_str().context("the temporary path is text")?;
    let words = [
        "validate",
        path,
        "--tokens",
        "64",
        "--repeats",
        "2",
        "--prompt-tokens",
        "64",
        "--context",
        "1024",
        "--format",
        "json",
    ];
    let found = orinplan(binary, scratch, &words)?;
    let of = |pointer| number(&found, pointer);
    row.predicted = of("/predicted/decode_tokens_per_second/expected")?;
    row.turns.push(of("/measured/decode_tokens_per_second")?);
    row.fastest = row
        .fastest
        .max(of("/measured/spread/decode_tokens_per_second/most")?);
    row.memory_predicted = of("/predicted/peak_memory_bytes")?;
    row.memory = row.memory.max(of("/measured/peak_memory_bytes")?);
    Ok(())
}

fn number(document: &Json, pointer: &str) -> anyhow::Result<f64> {
    let value = document.pointer(pointer).and_then(Json::as_f64);
    value.with_context(|| format!("{pointer} is no number"))
}

/// Writes the file that quantizing the shape would give, its weights apart.
fn write(shape: &Shape, format: &str, path: &Path) -> anyhow::Result<()> {
    let config = json!({
        "architectures": [match shape.family {
            "qwen2" => "Qwen2ForCausalLM",
            "qwen3" => "Qwen3ForCausalLM",
            _ => "LlamaForCausalLM",
        }],
        "model_type": shape.family,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
    });
    let checkpoint = Checkpoint {
        name: shape.name.to_owned(),
        format: SourceFormat::Config,
        config: RawConfig::HuggingFace(config.clone()),
        files: Vec::new(),
        tensors: Vec::new(),
        directory: None,
    };
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    let scheme = Scheme::get(format).with_context(|| format!("there is no scheme {format}"))?;
    let assignment = scheme::assign(&model, scheme, Rules::default());
    let family = shape.family;
    let mut metadata = fixtures::metadata(shape.name, &config, family);
    metadata.retain(|(key, _)| key != "tokenizer.ggml.model");
    metadata.extend(vocabulary(shape.vocab));
    metadata.extend([
        (
            format!("{family}.attention.layer_norm_rms_epsilon"),
            Value::F32(1e-5),
        ),
        (format!("{family}.rope.freq_base"), Value::F32(10_000.0)),
        (
            format!("{family}.vocab_size"),
            Value::U32(shape.vocab as u32),
        ),
    ]);
    let typed = model.tensors.into_iter().zip(&assignment.tensors);
    let tensors: Vec<Tensor> = typed
        .map(|(tensor, assigned)| (tensor.name, assigned.dtype, tensor.shape))
        .collect();
    write_repeated(path, &metadata, &tensors).map_err(anyhow::Error::msg)
}

/// A byte-level vocabulary of the usual size: entries and merges take memory too.
fn vocabulary(size: u64) -> Vec<(String, Value)> {
    let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
    let strings = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    // Letters first, so that every merge joins tokens that are there.
    let letter = |n: u64| char::from(b'a' + (n % 26) as u8);
    let token = |id: u64| match id {
        0..26 => letter(id).to_string(),
        _ => format!("{}{id}", letter(id)),
    };
    let tokens: Vec<String> = (0..size).map(token).collect();
    let merges = tokens.iter().skip(26).zip(&tokens);
    let merges = merges.map(|(a, b)| format!("{a} {b}")).collect();
    let types = vec![Value::I32(1); tokens.len()];
    vec![
        text("tokenizer.ggml.model", "gpt2"),
        text("tokenizer.ggml.pre", "default"),
        ("tokenizer.ggml.tokens".to_owned(), strings(tokens)),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(types)),
        ("tokenizer.ggml.merges".to_owned(), strings(merges)),
    ]
}
