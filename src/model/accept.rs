//! Whether llama.cpp loads a GGUF, as far as its header tells: one check for files that are planned, run
//! or made.
//!
//! In: metadata, and the model that it describes (whose tensors have been held to the rows of its
//! architecture). Out: the first thing that its loader refuses. Must not: read a file. What is refused
//! was measured: `cargo xtask interop accept` drops each key of each family in turn and loads the file.
//! Sources: `load_hparams` and `llama_vocab::impl::load` of llama.cpp.

use super::conversion::ROPE_SECTIONS;
use super::families::tokenizers::{BYTE_LEVEL, TOKENIZERS};
use super::hparams::{Key, Number};
use super::lookup::loader;
use super::{ModelSpec, TensorRole};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::{Value, ValueType};

/// A file that llama.cpp does not load.
#[derive(Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
pub enum AcceptError {
    #[error(
        "the file holds no tensor of a model, so there is nothing to run (a vocabulary or a projector alone); \
         give the model's own file"
    )]
    NoTensors,
    #[error(
        "`{key}` is missing, and llama.cpp does not load a file without it; make the file anew from the original \
         checkpoint with a current converter"
    )]
    Missing { key: String },
    #[error(
        "`{key}` is {found}, and llama.cpp loads {expected} only; make the file anew from the original checkpoint \
         with a current converter"
    )]
    Type {
        key: String,
        found: String,
        expected: &'static str,
    },
    #[error(
        "`{key}` has {found} entries, and llama.cpp loads files with {expected} of them, one for each {of}; make the \
         file anew from the original checkpoint"
    )]
    Length {
        key: String,
        found: u64,
        expected: u64,
        of: &'static str,
    },
    #[error(
        "`{key}` is {found}, and heads have {expected} elements, all of which llama.cpp rotates in {architecture}; \
         make the file anew from the original checkpoint"
    )]
    Rotary {
        key: String,
        found: u64,
        expected: u64,
        architecture: String,
    },
    #[error(
        "`{key}` is `{found}`, and llama.cpp knows {expected}; make the file anew from the original checkpoint with a \
         current converter"
    )]
    Word {
        key: String,
        found: String,
        expected: String,
    },
    #[error(
        "a token is sent to {found} experts of {experts}, and llama.cpp does not load that; take the metadata that \
         belongs to these weights"
    )]
    Experts { found: u64, experts: u64 },
    #[error(
        "the vocabulary has {tokens} tokens and the embedding {rows} rows, and llama.cpp loads files where the two \
         are equal; take the tokenizer that belongs to these weights"
    )]
    Vocabulary { tokens: u64, rows: u64 },
}

/// Keys behind the architecture's name without which no language model is loaded.
const NEEDED: &[Key] = &[Key::Blocks, Key::Context, Key::Hidden];

/// Keys that hold one number, or one for each block.
const PER_BLOCK: &[Key] = &[Key::Heads, Key::KvHeads, Key::Ffn];

/// Keys that hold one number where they are there.
const OPTIONAL: &[Key] = &[
    Key::Vocab,
    Key::Experts,
    Key::ExpertsUsed,
    Key::ExpertFfn,
    Key::HeadDim,
    Key::ValueDim,
    Key::RopeDim,
    Key::Window,
];

/// Keys that hold a float where they are there.
const FLOATS: &[Number] = &[
    Number::RopeBase,
    Number::RopeFactor,
    Number::RopeAttnFactor,
    Number::AttentionScale,
    Number::AttentionSoftcap,
    Number::FinalSoftcap,
];

/// Keys that hold text where they are there; `{}` is the architecture's name.
const TEXTS: &[&str] = &[
    "general.name",
    "{}.rope.scaling.type",
    "tokenizer.ggml.pre",
    "tokenizer.chat_template",
];

/// What llama.cpp knows as `rope.scaling.type`.
const ROPE_SCALINGS: &[&str] = &["none", "linear", "yarn", "longrope"];

const TOKENS: &str = "tokenizer.ggml.tokens";

/// Holds a file of `metadata` and the tensors of `model` to what llama.cpp loads.
///
/// # Errors
/// [`AcceptError`].
pub fn check(metadata: &[(String, Value)], model: &ModelSpec) -> Result<(), AcceptError> {
    if model.tensors.is_empty() {
        return Err(AcceptError::NoTensors);
    }
    let header = Header { metadata };
    keys(&header, model)?;
    vocabulary(&header, model)
}

/// [`check`] of a checkpoint, if it is a GGUF.
///
/// # Errors
/// [`AcceptError`].
pub fn checkpoint(checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), AcceptError> {
    match &checkpoint.config {
        RawConfig::Gguf(metadata) => check(&metadata.0, model),
        RawConfig::HuggingFace(_) => Ok(()),
    }
}

fn keys(header: &Header<'_>, model: &ModelSpec) -> Result<(), AcceptError> {
    let name = model.architecture.as_str();
    let own = |key: &str| format!("{name}.{key}");
    let loader = loader(name);
    let needed = loader.map_or(&[][..], |loader| loader.needs);
    for key in NEEDED.iter().chain(needed).map(|key| key.gguf()) {
        header.count(&own(key))?.ok_or_else(|| missing(own(key)))?;
    }
    for key in OPTIONAL {
        header.count(&own(key.gguf()))?;
    }
    let blocks = header.count(&own("block_count"))?.unwrap_or(0);
    for key in PER_BLOCK {
        header.per_block(&own(key.gguf()), blocks)?;
    }
    if let Some(loader) = loader {
        let epsilon = own(loader.epsilon.gguf());
        match header.get(&epsilon) {
            None => return Err(missing(epsilon)),
            Some(Value::F32(value)) if value.is_finite() && *value >= 0.0 => {}
            Some(other) => {
                return Err(wrong(epsilon, other, "a finite f32 that is not negative"));
            }
        }
        let sections = own(ROPE_SECTIONS);
        if loader.needs_rope_sections && header.get(&sections).is_none() {
            return Err(missing(sections));
        }
    }
    let used = own("expert_used_count");
    if let Some(experts) = header.count(&own("expert_count"))?.filter(|n| *n > 0) {
        match header.count(&used)? {
            None | Some(0) => return Err(missing(used)),
            Some(found) if found > experts => {
                return Err(AcceptError::Experts { found, experts });
            }
            Some(_) => {}
        }
    }
    for key in FLOATS {
        let key = own(key.gguf());
        match header.get(&key) {
            None | Some(Value::F32(_)) => {}
            Some(other) => return Err(wrong(key, other, "f32")),
        }
    }
    for key in TEXTS {
        let key = key.replace("{}", name);
        match header.get(&key) {
            None | Some(Value::String(_)) => {}
            Some(other) => return Err(wrong(key, other, "a string")),
        }
    }
    let scaling = own("rope.scaling.type");
    if let Some(Value::String(found)) = header.get(&scaling)
        && !ROPE_SCALINGS.contains(&found.as_str())
    {
        return Err(AcceptError::Word {
            key: scaling,
            found: found.clone(),
            expected: ROPE_SCALINGS.join(", "),
        });
    }
    let rotated = own("rope.dimension_count");
    let attention = model.layers.iter().find_map(|l| l.mixer.attention.as_ref());
    let turns_whole = loader.is_some_and(|loader| loader.turns_whole_heads);
    match (header.count(&rotated)?, attention) {
        (Some(found), Some(attention)) if turns_whole && found != attention.key_dim => {
            Err(AcceptError::Rotary {
                key: rotated,
                found,
                expected: attention.key_dim,
                architecture: name.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

fn vocabulary(header: &Header<'_>, model: &ModelSpec) -> Result<(), AcceptError> {
    let embedding = model
        .tensors
        .iter()
        .find(|t| t.role == TensorRole::TokenEmbedding);
    let rows = embedding.and_then(|t| t.shape.first().copied());
    let equal = |tokens: u64| match rows {
        Some(rows) if rows != tokens => Err(AcceptError::Vocabulary { tokens, rows }),
        _ => Ok(()),
    };
    let key = "tokenizer.ggml.model";
    let kind = match header.get(key) {
        None => return Err(missing(key.to_owned())),
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(wrong(key.to_owned(), other, "a string")),
    };
    if !TOKENIZERS.contains(&kind) {
        return Err(AcceptError::Word {
            key: key.to_owned(),
            found: kind.to_owned(),
            expected: TOKENIZERS.join(", "),
        });
    }
    if ["none", "no_vocab"].contains(&kind) {
        let size = format!("{}.vocab_size", model.architecture);
        return equal(header.count(&size)?.ok_or_else(|| missing(size))?);
    }
    let tokens = header
        .list(TOKENS, ValueType::String, "an array of strings")?
        .ok_or_else(|| missing(TOKENS.to_owned()))?;
    for (key, of, expected) in [
        ("scores", ValueType::F32, "an array of f32"),
        ("token_type", ValueType::I32, "an array of i32"),
    ] {
        let key = format!("tokenizer.ggml.{key}");
        match header.list(&key, of, expected)? {
            Some(found) if found < tokens => {
                return Err(AcceptError::Length {
                    key,
                    found,
                    expected: tokens,
                    of: "token",
                });
            }
            _ => {}
        }
    }
    if kind == BYTE_LEVEL {
        let key = "tokenizer.ggml.merges";
        header
            .list(key, ValueType::String, "an array of strings")?
            .ok_or_else(|| missing(key.to_owned()))?;
    }
    let ids = header.metadata.iter().map(|(key, _)| key);
    let is_id = |key: &&String| key.starts_with("tokenizer.ggml.") && key.ends_with("_token_id");
    for key in ids.filter(is_id) {
        header.count(key)?;
    }
    equal(tokens)
}

fn missing(key: String) -> AcceptError {
    AcceptError::Missing { key }
}

fn wrong(key: String, found: &Value, expected: &'static str) -> AcceptError {
    let found = found.type_name();
    AcceptError::Type {
        key,
        found,
        expected,
    }
}

/// Metadata read as llama.cpp reads it: by the exact type.
struct Header<'a> {
    metadata: &'a [(String, Value)],
}

impl<'a> Header<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        let pair = self.metadata.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    /// A number of 32 bits.
    fn count(&self, key: &str) -> Result<Option<u64>, AcceptError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::U32(count)) => Ok(Some((*count).into())),
            Some(other) => Err(wrong(key.to_owned(), other, "u32")),
        }
    }

    /// A number of 32 bits, or one for each of `blocks`.
    fn per_block(&self, key: &str, blocks: u64) -> Result<(), AcceptError> {
        let Some(value) = self.get(key) else {
            return Ok(());
        };
        if let Value::U32(_) = value {
            return Ok(());
        }
        let kind = "u32 or an array of u32 or i32";
        match array(value) {
            Some((ValueType::U32 | ValueType::I32, found)) if found == blocks => Ok(()),
            Some((ValueType::U32 | ValueType::I32, found)) => Err(AcceptError::Length {
                key: key.to_owned(),
                found,
                expected: blocks,
                of: "block",
            }),
            _ => Err(wrong(key.to_owned(), value, kind)),
        }
    }

    /// The length of an array of `of`.
    fn list(
        &self,
        key: &str,
        of: ValueType,
        expected: &'static str,
    ) -> Result<Option<u64>, AcceptError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match array(value) {
                Some((element, len)) if element == of => Ok(Some(len)),
                _ => Err(wrong(key.to_owned(), value, expected)),
            },
        }
    }
}

/// An array's element type and length.
fn array(value: &Value) -> Option<(ValueType, u64)> {
    let (element, len) = match value {
        Value::Strings(list) => (ValueType::String, list.len()),
        Value::I32s(list) => (ValueType::I32, list.len()),
        Value::F32s(list) => (ValueType::F32, list.len()),
        Value::Array(values) => match values.first()? {
            Value::String(_) => (ValueType::String, values.len()),
            Value::U32(_) => (ValueType::U32, values.len()),
            Value::I32(_) => (ValueType::I32, values.len()),
            Value::F32(_) => (ValueType::F32, values.len()),
            _ => return None,
        },
        Value::Located {
            element_type, len, ..
        } => return Some((ValueType::from_id(*element_type)?, *len)),
        _ => return None,
    };
    Some((element, len as u64))
}
