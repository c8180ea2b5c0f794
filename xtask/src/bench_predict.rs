//! `cargo xtask bench predict [SHAPE|FORMAT|FILE.gguf ..]`: how far the predictions for this machine are off, for six
//! published shapes in four formats with orinplan's own decoder, and for real models: a file of 16-bit weights is
//! quantized to each format first, any other is decoded as it is. Calibration saw none of them.
//!
//! A shared machine is not as fast in one minute as it is in the next. So a shape is decoded between the
//! measurements of a calibration, which takes longer than it needs to: both see the same machine, and what is
//! left is the error of the prediction. `validate` then runs each file in a process of its own, as a user
//! would, for the memory and for what the load noise of the machine adds.
//!
//! The weights of a shape are one row over and over: bytes and products are those of the real file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint::{self, Checkpoint, RawConfig, SourceFormat};
use orinplan::decode::{LoadOptions, Model, greedy};
use orinplan::device;
use orinplan::gguf::Value;
use orinplan::model::{self, Unknown};
use orinplan::scheme::{self, Rules, Scheme};
use orinplan::validate::{MeasureProgress, SyntheticTensor, calibrate, write_repeated};
use serde_json::{Value as Json, json};

use crate::bench::release_binary;
use crate::fixtures;

/// The formats, unless some are named.
const FORMATS: [&str; 4] = ["q4_k_m", "q8_0", "q4_0", "f16"];

/// What the median and the worst error may be, and every error of memory, in percent.
const MEDIAN: f64 = 7.0;
const WORST: f64 = 15.0;
const MEMORY: f64 = 3.0;

/// How long a calibration takes with models beside it.
const TIME: Duration = Duration::from_secs(120);

/// Tokens of the prompt, and tokens decoded behind it.
const PROMPT: u32 = 64;
const TOKENS: u64 = 64;

/// How many measurements of the calibration are between two tokens.
const APART: usize = 5;

/// Tokens of context.
const CONTEXT: u64 = 1024;

/// A published shape, from the `config.json` of its repository.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
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
pub(crate) const SHAPES: [Shape; 6] = [
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

pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let mut subjects = Vec::new();
    let mut formats = Vec::new();
    for word in words {
        match SHAPES.iter().find(|shape| shape.name == *word) {
            Some(shape) => subjects.push(Subject::Shape(shape)),
            None if word.ends_with(".gguf") => subjects.push(Subject::File(PathBuf::from(word))),
            None => formats.push(*word),
        }
    }
    if subjects.is_empty() {
        subjects.extend(SHAPES.iter().map(Subject::Shape));
    }
    if formats.is_empty() {
        formats.extend(FORMATS);
    }
    let binary = release_binary()?;
    let scratch = std::env::temp_dir().join(format!("orinplan-predict-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let outcome = measure(&binary, &scratch, &subjects, &formats);
    std::fs::remove_dir_all(&scratch).ok();
    outcome
}

/// What is decoded.
enum Subject {
    Shape(&'static Shape),
    File(PathBuf),
}

impl Subject {
    fn name(&self) -> String {
        match self {
            Subject::Shape(shape) => shape.name.to_owned(),
            Subject::File(path) => {
                let stem = path.file_stem().unwrap_or_default();
                stem.to_string_lossy().into_owned()
            }
        }
    }

    /// Its files, each with its format: made in `scratch`, or where they are.
    fn files(
        &self,
        binary: &Path,
        scratch: &Path,
        formats: &[&str],
    ) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let mut files = Vec::new();
        for format in formats {
            let path = scratch.join(format!("{}-{format}.gguf", self.name()));
            match self {
                Subject::Shape(shape) => write(shape, format, &path)?,
                Subject::File(model) if is_16_bit(model)? => {
                    let (model, output) = (model.to_string_lossy(), path.to_string_lossy());
                    let words = ["quantize", &model, "--scheme", format, "--output", &output];
                    let made = Command::new(binary).args(words).output()?;
                    let said = String::from_utf8_lossy(&made.stderr);
                    ensure!(made.status.success(), "{words:?}: {said}");
                }
                Subject::File(model) => return Ok(vec![("as it is".to_owned(), model.clone())]),
            }
            // Or the system would write while something is measured.
            File::open(&path)?.sync_all()?;
            files.push(((*format).to_owned(), path));
        }
        Ok(files)
    }
}

/// Whether no weight of a file is quantized.
fn is_16_bit(model: &Path) -> anyhow::Result<bool> {
    let checkpoint = checkpoint::open(&model.to_string_lossy())?;
    let mut tensors = checkpoint.tensors.iter();
    Ok(tensors.all(|tensor| !tensor.dtype.is_quantized()))
}

/// What was predicted and measured of one file: tokens a second and bytes.
struct Row {
    predicted: f64,
    /// Between the measurements of the calibration.
    beside: f64,
    /// By `validate`, afterwards.
    after: f64,
    memory_predicted: f64,
    memory: f64,
}

/// Percent by which `predicted` is above `measured`.
fn percent(predicted: f64, measured: f64) -> f64 {
    (predicted / measured - 1.0) * 100.0
}

fn measure(
    binary: &Path,
    scratch: &Path,
    subjects: &[Subject],
    formats: &[&str],
) -> anyhow::Result<()> {
    println!(
        "| model | format | predicted t/s | measured | error | by `validate` afterwards | error | memory predicted | measured | error |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut rows: Vec<Row> = Vec::new();
    for subject in subjects {
        let files = subject.files(binary, scratch, formats)?;
        let rates = calibrate_beside(&files, scratch)?;
        for ((format, path), beside) in files.iter().zip(rates) {
            let row = validate(binary, scratch, path, beside)?;
            if path.starts_with(scratch) {
                std::fs::remove_file(path)?;
            }
            println!(
                "| {} | {format} | {:.1} | {:.1} | {:+.1} % | {:.1} | {:+.1} % | {:.0} MB | {:.0} MB | {:+.1} % |",
                subject.name(),
                row.predicted,
                row.beside,
                percent(row.predicted, row.beside),
                row.after,
                percent(row.predicted, row.after),
                row.memory_predicted / 1e6,
                row.memory / 1e6,
                percent(row.memory_predicted, row.memory)
            );
            rows.push(row);
        }
    }
    let of = |pick: fn(&Row) -> f64| {
        let mut errors: Vec<f64> = rows.iter().map(|row| pick(row).abs()).collect();
        errors.sort_by(f64::total_cmp);
        (errors[errors.len() / 2], errors[errors.len() - 1])
    };
    let beside = of(|row| percent(row.predicted, row.beside));
    let after = of(|row| percent(row.predicted, row.after));
    let memory = of(|row| percent(row.memory_predicted, row.memory));
    println!();
    for (what, (median, worst)) in [
        ("decode", beside),
        ("decode, by validate afterwards", after),
        ("peak memory", memory),
    ] {
        println!("{what}: median error {median:.1} %, worst {worst:.1} %");
    }
    ensure!(
        beside.0 <= MEDIAN && beside.1 <= WORST && memory.1 <= MEMORY,
        "beyond {MEDIAN} %, {WORST} % or {MEMORY} %"
    );
    Ok(())
}

/// A model that is decoded between the measurements of a calibration.
struct Beside {
    model: Model,
    next: u32,
    tokens: u64,
    seconds: f64,
}

impl Beside {
    fn load(path: &Path) -> anyhow::Result<Beside> {
        let checkpoint = checkpoint::open(&path.to_string_lossy())?;
        let spec = model::read(&checkpoint, Unknown::Refuse)?;
        let options = LoadOptions {
            context: CONTEXT,
            ..LoadOptions::default()
        };
        Ok(Beside {
            model: Model::load(&checkpoint, &spec, &options, &mut |_| {})?,
            next: 0,
            tokens: 0,
            seconds: 0.0,
        })
    }

    fn turn(&mut self) -> anyhow::Result<()> {
        if self.tokens.is_multiple_of(TOKENS) {
            self.model.reset();
            let prompt: Vec<u32> = (0..PROMPT).collect();
            self.next = greedy(self.model.prefill(&prompt)?);
        }
        let started = Instant::now();
        self.next = greedy(self.model.step(self.next)?);
        self.seconds += started.elapsed().as_secs_f64();
        self.tokens += 1;
        Ok(())
    }
}

/// Calibrates this machine for plans with settings in `scratch`; the models of `files` take turns between the
/// measurements. Returns their tokens a second.
fn calibrate_beside(files: &[(String, PathBuf)], scratch: &Path) -> anyhow::Result<Vec<f64>> {
    let loaded = files.iter().map(|(_, path)| Beside::load(path));
    let mut models = loaded.collect::<anyhow::Result<Vec<Beside>>>()?;
    let processor = device::detect(Path::new("/"))?.profile.name;
    let (mut turns, mut outcome) = (0_usize, Ok(()));
    let mut take_turns = |_: &MeasureProgress| {
        let index = turns / APART % models.len();
        let is_turn = turns.is_multiple_of(APART);
        turns += 1;
        if is_turn && outcome.is_ok() {
            outcome = models[index].turn();
        }
    };
    let (date, never) = ("today".to_owned(), AtomicBool::new(false));
    let cpu = calibrate(&processor, date, TIME, &never, &mut take_turns)?;
    outcome?;
    let settings = scratch.join("orinplan");
    std::fs::create_dir_all(&settings)?;
    std::fs::write(settings.join("calibration.toml"), cpu.text())?;
    let rate = |model: &Beside| model.tokens as f64 / model.seconds;
    Ok(models.iter().map(rate).collect())
}

/// Runs the command with settings in `scratch` and returns its document.
pub(crate) fn orinplan(binary: &Path, scratch: &Path, words: &[&str]) -> anyhow::Result<Json> {
    let output = Command::new(binary)
        .args(words)
        .env("XDG_CONFIG_HOME", scratch)
        .output()?;
    if output.status.code().is_none_or(|code| code > 1) {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{words:?}"))
}

/// Runs a file as a user would, for what is predicted and for its memory.
fn validate(binary: &Path, scratch: &Path, path: &Path, beside: f64) -> anyhow::Result<Row> {
    let path = path.to_str().context("the temporary path is text")?;
    let (prompt, tokens, context) = (PROMPT.to_string(), TOKENS.to_string(), CONTEXT.to_string());
    let words = [
        "validate",
        path,
        "--tokens",
        &tokens,
        "--prompt-tokens",
        &prompt,
        "--context",
        &context,
        "--format",
        "json",
    ];
    let found = orinplan(binary, scratch, &words)?;
    let of = |pointer| number(&found, pointer);
    Ok(Row {
        predicted: of("/predicted/decode_tokens_per_second/expected")?,
        beside,
        after: of("/measured/decode_tokens_per_second")?,
        memory_predicted: of("/predicted/peak_memory_bytes")?,
        memory: of("/measured/peak_memory_bytes")?,
    })
}

pub(crate) fn number(document: &Json, pointer: &str) -> anyhow::Result<f64> {
    let value = document.pointer(pointer).and_then(Json::as_f64);
    value.with_context(|| format!("{pointer} is no number"))
}

/// Writes the file that quantizing the shape would give, its weights apart.
pub(crate) fn write(shape: &Shape, format: &str, path: &Path) -> anyhow::Result<()> {
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
    let checkpoint = Checkpoint::of(
        shape.name,
        SourceFormat::Config,
        RawConfig::HuggingFace(config.clone()),
    );
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    let scheme = Scheme::get(format).with_context(|| format!("there is no scheme {format}"))?;
    let assignment = scheme::assign(&model, scheme, Rules::default());
    let family = shape.family;
    let mut metadata = fixtures::metadata(shape.name, &config, family);
    metadata.retain(|(key, _)| key != "tokenizer.ggml.model");
    metadata.extend(vocabulary(shape.vocab));
    metadata.push((format!("{family}.rope.freq_base"), Value::F32(10_000.0)));
    let typed = model.tensors.into_iter().zip(&assignment.tensors);
    let tensors: Vec<SyntheticTensor> = typed
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
