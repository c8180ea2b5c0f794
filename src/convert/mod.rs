//! The GGUF metadata that a Hugging Face checkpoint gets when it is converted: same keys, types and
//! values as llama.cpp's converter writes (`conversion/*.py`, `gguf-py/gguf/vocab.py`,
//! `gguf-py/gguf/metadata.py`; release 0.5.0).
//!
//! In: a located checkpoint, its model, and the small files beside the weights. Out: key-value pairs in
//! the order of the file. Must not: read weights, but for single numbers that a GGUF states among its keys, or write
//! anything. A model card (`README.md`) is not read: runtimes do not need its tags and licence.

mod change;
mod derived_keys;
mod error;
mod keys;
mod lost;
mod name;
mod projector;
mod sampling;
mod source_config;
mod tokenizer;
mod weight_transforms;
mod weights;

use std::path::Path;

pub use change::{Change, Permutation, RowSlices, Turn, ValueChange};
pub use error::ConvertError;
pub use lost::{LostScaling, LostWindow, lost_scaling, lost_window};
pub use projector::{projector_change, projector_metadata, projector_table};
pub use weights::{change, computed};

use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::Value;
use crate::model::conversion::{KeyRule, SpecialToken};
use crate::model::tokenizers::{BYTE_LEVEL, UNKNOWN_SPLIT};
use crate::model::{DecodeAccess, ModelSpec, lost};
use name::NameParts;
use source_config::SourceConfig;

/// `general.quantization_version`: the layout of ggml's block formats.
pub const QUANTIZATION_VERSION: u32 = 2;

/// The metadata of `checkpoint` as a GGUF file of `file_type` (llama.cpp's `LLAMA_FTYPE`: 0 all
/// F32, 1 F16, 7 Q8_0, 15 Q4_K_M, 32 BF16, ...).
///
/// # Errors
/// [`ConvertError`]: an architecture without a conversion, a checkpoint that is already a GGUF, a
/// hyperparameter that is missing or not a number, or a tokenizer file that is missing, incomplete or
/// contradicts itself.
pub fn metadata(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    file_type: u32,
) -> Result<Vec<(String, Value)>, ConvertError> {
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let conversion = keys::conversion(model)?;
    let ranks = derived_keys::ranks(model);
    if ranks && conversion.labels() == 0 {
        return Err(ConvertError::Reranker);
    }
    let source = SourceConfig::new(model)?.with_weights(checkpoint);
    let directory = checkpoint.directory.as_deref();

    let mut pairs = Pairs::default();
    pairs.text("general.architecture", &model.architecture);
    pairs.add(conversion.first, &source, file_type)?;
    pairs.text("general.type", "model");
    sampling::add(&mut pairs, directory)?;
    add_names(&mut pairs, checkpoint, &ParameterCounts::of(model), config);
    for group in conversion.keys {
        pairs.add(group, &source, file_type)?;
    }
    if let Some(template) = conversion.rank_template.filter(|_| ranks) {
        let names = vec![Value::String("rerank".to_owned())];
        pairs.text("tokenizer.chat_template.rerank", template);
        pairs.set("tokenizer.chat_templates", Value::Array(names));
    }
    for token in conversion.special_tokens {
        if matches!(token, SpecialToken::Suppressed { class } if is_of_class(config, class)) {
            sampling::add_suppressed(&mut pairs, directory)?;
        }
    }
    if let Some(what) = lost(model, &pairs.0) {
        return Err(ConvertError::Lost {
            what,
            architecture: model.architecture.clone(),
        });
    }
    let version = Value::U32(QUANTIZATION_VERSION);
    pairs.set("general.quantization_version", version);
    let directory = directory.ok_or_else(|| ConvertError::NoTokenizer {
        place: checkpoint.name.clone().into(),
    })?;
    tokenizer::add(&mut pairs, directory, config, &source, conversion)?;
    Ok(pairs.0)
}

/// The chat template of a GGUF, or of the GGUF that is made of a directory. `None` also where it cannot be read.
pub fn chat_template(checkpoint: &Checkpoint) -> Option<String> {
    match &checkpoint.config {
        RawConfig::Gguf(metadata) => {
            let text = metadata.str("tokenizer.chat_template").ok().flatten();
            text.map(str::to_owned)
        }
        RawConfig::HuggingFace(_) => tokenizer::chat_template(checkpoint.directory.as_deref()?),
    }
}

/// Whether `metadata` holds a byte-level tokenizer whose pre-tokenizer has no name in llama.cpp:
/// `tokenizer.ggml.pre` is `default`, runtimes load the file, and some texts are split differently
/// than in training.
pub fn has_unknown_pre_tokenizer(metadata: &[(String, Value)]) -> bool {
    let is = |key: &str, text: &str| {
        let pair = metadata.iter().find(|(name, _)| name == key);
        matches!(pair, Some((_, Value::String(value))) if value == text)
    };
    is("tokenizer.ggml.model", BYTE_LEVEL) && is("tokenizer.ggml.pre", UNKNOWN_SPLIT)
}

/// Whether `config` is of this class.
fn is_of_class(config: &serde_json::Value, class: &str) -> bool {
    let stated = config.get("architectures").and_then(|list| list.as_array());
    let mut stated = stated.into_iter().flatten();
    stated.any(|stated| stated.as_str() == Some(class))
}

/// Key-value pairs in the order they were first set.
#[derive(Default)]
struct Pairs(Vec<(String, Value)>);

impl Pairs {
    /// Sets `key`; a key that is already set keeps its position.
    fn set(&mut self, key: &str, value: Value) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some(pair) => pair.1 = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    fn text(&mut self, key: &str, text: &str) {
        self.set(key, Value::String(text.to_owned()));
    }

    fn add(
        &mut self,
        rules: &[KeyRule],
        source: &SourceConfig<'_>,
        file_type: u32,
    ) -> Result<(), ConvertError> {
        for rule in rules {
            let Some(value) = keys::value(rule, source, file_type)? else {
                continue;
            };
            let key = rule.gguf();
            if rule.has_prefix() {
                self.set(&format!("{}.{key}", source.model.architecture), value);
            } else {
                self.set(key, value);
            }
        }
        Ok(())
    }
}

/// Adds `general.name`, the keys that follow from the model's name, and the size label.
fn add_names(
    pairs: &mut Pairs,
    checkpoint: &Checkpoint,
    size: &ParameterCounts,
    config: &serde_json::Value,
) {
    let stated = config.get("_name_or_path").and_then(|name| name.as_str());
    // A name with more than one slash is a path on the machine where the model was saved.
    let stated = stated.filter(|name| name.matches('/').count() <= 1);
    let parts = stated
        .map_or_else(NameParts::default, |id| name::parse_name(id, size.total))
        .or(name::parse_name(&checkpoint.name, size.total));
    let label = (size.total > 0).then(|| name::size_label(size.shared, size.expert, size.experts));
    let named = [
        ("general.name", parts.name),
        ("general.version", parts.version),
        ("general.organization", parts.organization),
        ("general.finetune", parts.finetune),
        ("general.basename", parts.basename),
        ("general.size_label", parts.size_label.or(label)),
    ];
    for (key, text) in named {
        if let Some(text) = text {
            pairs.text(key, &text);
        }
    }
}

/// The number of parameters of the file's tensors, counted as by `GGUFWriter.get_total_parameter_count`.
struct ParameterCounts {
    total: u64,
    shared: u64,
    /// Those of one expert of every block.
    expert: u64,
    experts: u64,
}

impl ParameterCounts {
    fn of(model: &ModelSpec) -> ParameterCounts {
        let mut size = ParameterCounts {
            total: 0,
            shared: 0,
            expert: 0,
            experts: 0,
        };
        let (mut stacks, mut stacked) = (0u64, 0u64);
        for tensor in &model.tensors {
            let elements = tensor.elements();
            size.total = size.total.saturating_add(elements);
            let routed = tensor.role.info().access == DecodeAccess::Experts;
            match tensor.shape.as_slice() {
                &[experts, _, _] if routed && experts > 0 => {
                    size.expert = size.expert.saturating_add(elements / experts);
                    stacked = stacked.saturating_add(experts);
                    stacks += 1;
                }
                _ => size.shared = size.shared.saturating_add(elements),
            }
        }
        size.experts = stacked.checked_div(stacks).unwrap_or(0);
        size
    }
}

/// The path of a file in `directory`, if it exists (also as a dangling link, so that opening it reports that).
fn beside(directory: &Path, name: &str) -> Option<std::path::PathBuf> {
    let path = directory.join(name);
    std::fs::symlink_metadata(&path).is_ok().then_some(path)
}
