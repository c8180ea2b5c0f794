//! Writes `fixtures/`: bare headers of published shapes, and small checkpoints with weights. The same
//! bytes every time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::dtype::Dtype;
use orinplan::gguf::{self, TensorEntry};
use orinplan::model::{self, Unknown};
use orinplan::scheme::{self, Rules, Scheme};
use serde_json::{Map, Value, json};

use crate::shapes::{Shape, Tensor, published};
use crate::tiny;

/// Every fixture file by its path under `fixtures/`.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Writes every fixture, and removes what is no fixture any more.
pub(crate) fn write() -> anyhow::Result<()> {
    let root = root();
    let files = make()?;
    for path in existing(&root)? {
        if !files.contains_key(&path) {
            std::fs::remove_file(root.join(path))?;
        }
    }
    for (path, bytes) in &files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().context("a fixture lies in fixtures/")?)?;
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Fails if [`write()`] would change anything.
pub(crate) fn check() -> anyhow::Result<()> {
    let root = root();
    let files = make()?;
    let stale: Vec<PathBuf> = existing(&root)?
        .into_iter()
        .filter(|path| !files.contains_key(path))
        .collect();
    ensure!(
        stale.is_empty(),
        "{stale:?} are no fixtures any more; run `cargo xtask fixtures`"
    );
    for (path, bytes) in &files {
        if std::fs::read(root.join(path)).ok().as_ref() != Some(bytes) {
            bail!(
                "fixtures/{} is not what `cargo xtask fixtures` writes; run it",
                path.display()
            );
        }
    }
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// Files under `root`, relative to it; the README is written by hand.
fn existing(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    found.retain(|path| path != Path::new("README.md"));
    Ok(found)
}

fn make() -> anyhow::Result<Files> {
    let mut files = Files::new();
    for shape in published() {
        check_parameters(&shape)?;
        let directory = Path::new(shape.name);
        let header = safetensors_header(&shape.tensors)?;
        files.insert(directory.join("config.json"), pretty(&shape.config)?);
        files.insert(directory.join("model.header.safetensors"), header);
        if !shape.name.ends_with("-fp8") {
            let name = format!("{}-Q4_K_M.header.gguf", shape.name);
            files.insert(PathBuf::from(name), gguf_header(&shape)?);
        }
    }
    for (name, config, tensors) in [tiny::llama(), tiny::qwen3()] {
        let directory = Path::new(name);
        files.insert(directory.join("config.json"), pretty(&config)?);
        files.insert(
            directory.join("model.safetensors"),
            tiny::safetensors(&tensors)?,
        );
    }
    Ok(files)
}

/// The header of the Q4_K_M file that llama.cpp makes of a shape, without a vocabulary.
fn gguf_header(shape: &Shape) -> anyhow::Result<Vec<u8>> {
    let (metadata, tensors) = gguf_parts(shape)?;
    let mut bytes = Vec::new();
    gguf::write_header(&mut bytes, &metadata, &entries(&tensors))?;
    Ok(bytes)
}

/// The tensors as the header writer takes them.
pub(crate) fn entries(tensors: &[GgufTensor]) -> Vec<TensorEntry<'_>> {
    let entry = tensors.iter().map(|(name, dtype, shape)| TensorEntry {
        name,
        dtype: *dtype,
        shape,
    });
    entry.collect()
}

/// A tensor of a GGUF: name, type, shape.
pub(crate) type GgufTensor = (String, Dtype, Vec<u64>);

/// Key-value pairs in file order.
pub(crate) type Metadata = Vec<(String, gguf::Value)>;

/// Metadata and tensors of that file.
pub(crate) fn gguf_parts(shape: &Shape) -> anyhow::Result<(Metadata, Vec<GgufTensor>)> {
    let checkpoint = Checkpoint::of(
        shape.name,
        SourceFormat::Config,
        RawConfig::HuggingFace(shape.config.clone()),
    );
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    let scheme = Scheme::get("q4_k_m").context("Q4_K_M is a scheme")?;
    let assignment = scheme::assign(&model, scheme, Rules::default());
    let metadata = metadata(shape.name, &shape.config, &model.architecture);
    let typed = model.tensors.into_iter().zip(&assignment.tensors);
    let tensors = typed.map(|(tensor, assigned)| (tensor.name, assigned.dtype, tensor.shape));
    Ok((metadata, tensors.collect()))
}

/// The keys that say what the blocks are, as llama.cpp's converter names them.
pub(crate) fn metadata(name: &str, config: &Value, arch: &str) -> Metadata {
    let config = config.get("text_config").unwrap_or(config);
    let text = |key: &str, value: &str| (key.to_owned(), gguf::Value::String(value.to_owned()));
    let mut pairs = vec![
        text("general.architecture", arch),
        text("general.name", name),
        ("general.file_type".to_owned(), gguf::Value::U32(15)),
        text("tokenizer.ggml.model", "none"),
    ];
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("context_length", "max_position_embeddings"),
        ("embedding_length", "hidden_size"),
        ("vocab_size", "vocab_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("attention.sliding_window", "sliding_window"),
        (
            "embedding_length_per_layer_input",
            "hidden_size_per_layer_input",
        ),
        ("altup.num_inputs", "altup_num_inputs"),
        ("expert_count", "num_local_experts"),
        ("expert_used_count", "num_experts_per_tok"),
    ] {
        // Qwen2 states a window that it does not use.
        if key == "attention.sliding_window" && arch == "qwen2" {
            continue;
        }
        let number = |value: &Value| {
            let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
            number.map(gguf::Value::U32)
        };
        let value = config.get(field).and_then(|value| match value {
            Value::Array(items) => items
                .iter()
                .map(number)
                .collect::<Option<_>>()
                .map(gguf::Value::Array),
            single => number(single),
        });
        pairs.extend(value.map(|value| (format!("{arch}.{key}"), value)));
    }
    for (key, field) in [
        ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        ("attention.scale", "attention_multiplier"),
        ("embedding_scale", "embedding_multiplier"),
        ("logit_scale", "logits_scaling"),
        ("residual_scale", "residual_multiplier"),
    ] {
        let value = config.get(field).and_then(Value::as_f64);
        let pair = |value| (format!("{arch}.{key}"), gguf::Value::F32(value as f32));
        pairs.extend(value.map(pair));
    }
    pairs
}

fn pretty(value: &Value) -> anyhow::Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    Ok(text)
}

/// The shape's tensors must hold the published number of weights; scales are not weights.
fn check_parameters(shape: &Shape) -> anyhow::Result<()> {
    let weights = shape
        .tensors
        .iter()
        .filter(|(name, ..)| !name.ends_with("_scale_inv"));
    let sum: u64 = weights
        .map(|(_, _, dimensions)| dimensions.iter().product::<u64>())
        .sum();
    ensure!(
        sum == shape.parameters,
        "{}: {sum} weights, {} published",
        shape.name,
        shape.parameters
    );
    Ok(())
}

/// Length, JSON, padding to 8 bytes, as the safetensors library writes it.
pub(crate) fn safetensors_header(tensors: &[Tensor]) -> anyhow::Result<Vec<u8>> {
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut offset = 0;
    for (name, dtype, shape) in tensors {
        let width = match *dtype {
            "F32" => 4,
            "BF16" | "F16" => 2,
            "F8_E4M3" => 1,
            other => bail!("no width for {other}"),
        };
        let end = offset + shape.iter().product::<u64>() * width;
        let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [offset, end] });
        header.insert(name.clone(), entry);
        offset = end;
    }
    let mut json = serde_json::to_vec(&Value::Object(header))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}
