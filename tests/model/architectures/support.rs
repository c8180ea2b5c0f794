//! Builds checkpoints from a few lines and summarizes what became of them.

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat, StoredTensor};
use orinplan::dtype::Dtype;
use orinplan::gguf::{Metadata, Value};
use orinplan::model::{self, Cache, FeedForward, ModelError, ModelSpec, Unknown};
use serde_json::Value as Json;

/// A checkpoint of a `config.json` and stored tensors, or of a configuration alone.
pub(crate) fn hugging_face(config: Json, tensors: Vec<StoredTensor>) -> Checkpoint {
    let format = if tensors.is_empty() {
        SourceFormat::Config
    } else {
        SourceFormat::Safetensors
    };
    Checkpoint {
        tensors,
        ..Checkpoint::of("model", format, RawConfig::HuggingFace(config))
    }
}

/// Describes a checkpoint without any leniency.
pub(crate) fn read(checkpoint: &Checkpoint) -> Result<ModelSpec, ModelError> {
    model::read(checkpoint, Unknown::Refuse)
}

/// Describes a configuration without weights.
pub(crate) fn planned(config: &Json) -> ModelSpec {
    read(&hugging_face(config.clone(), Vec::new())).unwrap()
}

/// A GGUF of architecture `name` with these keys behind its prefix: a whole number, or an array of
/// numbers or booleans. Its tensors are those of `like`.
pub(crate) fn gguf(name: &str, keys: Json, like: &ModelSpec) -> Checkpoint {
    let mut pairs = vec![(
        "general.architecture".to_owned(),
        Value::String(name.to_owned()),
    )];
    for (key, value) in keys.as_object().unwrap() {
        pairs.push((format!("{name}.{key}"), metadata_value(value)));
    }
    let tensors = like.tensors.iter().map(|t| {
        let tensor = tensor(&t.name, &t.shape, Dtype::F32);
        assert!(!t.name.is_empty());
        tensor
    });
    Checkpoint {
        tensors: tensors.collect(),
        ..Checkpoint::of(
            "model",
            SourceFormat::Gguf,
            RawConfig::Gguf(Metadata(pairs)),
        )
    }
}

fn metadata_value(value: &Json) -> Value {
    match value {
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Array(items) => Value::Array(items.iter().map(metadata_value).collect()),
        number => Value::U32(number.as_u64().unwrap() as u32),
    }
}

/// One stored tensor.
pub(crate) fn tensor(name: &str, shape: &[u64], dtype: Dtype) -> StoredTensor {
    StoredTensor {
        name: name.to_owned(),
        dtype,
        shape: shape.to_vec(),
        file: 0,
        offset: 0,
        bytes: dtype.bytes(shape).unwrap(),
    }
}

/// Stored BF16 tensors. A name with `{n}` stands for `n` of them, numbered from zero.
pub(crate) fn tensors(rows: &[(&str, &[u64])]) -> Vec<StoredTensor> {
    let mut all = Vec::new();
    for (name, shape) in rows {
        for name in numbered(name) {
            all.push(tensor(&name, shape, Dtype::BF16));
        }
    }
    all
}

fn numbered(name: &str) -> Vec<String> {
    let Some((before, rest)) = name.split_once('{') else {
        return vec![name.to_owned()];
    };
    let (count, after) = rest.split_once('}').unwrap();
    let each = |n: u32| numbered(&format!("{before}{n}{after}"));
    (0..count.parse().unwrap()).flat_map(each).collect()
}

/// The sum of the elements of stored tensors.
pub(crate) fn elements(tensors: &[StoredTensor]) -> u64 {
    tensors
        .iter()
        .map(|t| t.shape.iter().product::<u64>())
        .sum()
}

/// The blocks in runs: `25x 8h 256+256 w1024` is 25 blocks with 8 key-value heads of 256 + 256
/// elements behind a window of 1024; `shared` marks blocks that reuse a cache, `uncached` those
/// that need none.
pub(crate) fn caches(model: &ModelSpec) -> String {
    let of = |layer: &model::Layer| {
        let state = layer.mixer.recurrent.as_ref();
        let kept = state.map(|s| format!("{}+{} kept", s.conv_elements, s.state_elements));
        let Some(a) = &layer.mixer.attention else {
            return kept.unwrap();
        };
        let kept = kept.map_or(String::new(), |kept| format!(" {kept}"));
        let window = a.window.map_or(String::new(), |w| format!(" w{w}"));
        let shared = match a.cache {
            Cache::Own => "",
            Cache::Shared => " shared",
            Cache::None => " uncached",
            Cache::Images => " of images",
        };
        format!(
            "{}h {}+{}{window}{shared}{kept}",
            a.kv_heads, a.key_dim, a.value_dim
        )
    };
    runs(model.layers.iter().map(of))
}

/// The feed-forwards in runs: `3x 18432, 58x 8/256 of 2048 + 2048`.
pub(crate) fn feed_forwards(model: &ModelSpec) -> String {
    runs(model.layers.iter().map(|layer| match layer.feed_forward {
        FeedForward::None => "none".to_owned(),
        FeedForward::Dense { inner } => inner.to_string(),
        FeedForward::Experts {
            count,
            used,
            inner,
            shared_inner,
        } => format!("{used}/{count} of {inner} + {shared_inner}"),
    }))
}

fn runs(items: impl Iterator<Item = String>) -> String {
    let mut runs: Vec<(usize, String)> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some((count, last)) if *last == item => *count += 1,
            _ => runs.push((1, item)),
        }
    }
    // A pattern that repeats is written once.
    let written: Vec<String> = runs
        .iter()
        .map(|(n, item)| format!("{n}x {item}"))
        .collect();
    for period in 1..=written.len() / 2 {
        let repeats = written.len() / period;
        let whole = written.len().is_multiple_of(period);
        if whole && repeats > 1 && written.chunks(period).all(|c| c == &written[..period]) {
            return format!("{repeats} times ({})", written[..period].join(", "));
        }
    }
    written.join(", ")
}
