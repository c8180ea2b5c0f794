//! Whether a GGUF of a model keeps the scaling of its rotary positions and the window of its attention: llama.cpp has
//! them only for some architectures.

use std::fmt;

use serde_json::Value as Json;

use super::derived_keys::{alpha_scaled, scaling};
use super::keys::conversion;
use super::source_config::SourceConfig;
use crate::model::conversion::{Derived, KeyRule};
use crate::model::{Key, ModelSpec};

/// A rotary scaling that a GGUF does not keep.
#[derive(Clone, Debug, PartialEq)]
pub struct LostScaling {
    /// The type of scaling in `config.json`.
    pub kind: String,
    /// llama.cpp's name of the architecture.
    pub architecture: String,
}

impl fmt::Display for LostScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a GGUF of {1} cannot hold the scaling of rotary positions in config.json (`{0}`): its answers differ from the model's, more so at longer context; a runtime that reads the checkpoint itself keeps it",
            self.kind, self.architecture
        )
    }
}

/// A window of attention that a GGUF does not keep.
#[derive(Clone, Debug, PartialEq)]
pub struct LostWindow {
    /// The key that states it.
    pub key: &'static str,
    /// Its length in tokens.
    pub tokens: u64,
    /// llama.cpp's name of the architecture.
    pub architecture: String,
}

impl fmt::Display for LostWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a GGUF of {1} cannot hold the `{2}` of {0} tokens in config.json: beyond that its answers differ from the model's; a runtime that reads the checkpoint itself keeps it",
            self.tokens, self.architecture, self.key
        )
    }
}

/// Types of rotary positions without scaling.
const UNSTRETCHED: &[&str] = &["default", "mrope", "none"];

/// The scaling that a GGUF of `model` loses; `None` if it has a key or a table for it, or if no GGUF is made of `model`.
pub fn lost_scaling(model: &ModelSpec) -> Option<LostScaling> {
    let conversion = conversion(model).ok()?;
    let source = SourceConfig::new(model).ok()?;
    let kind = source
        .rope
        .kind
        .filter(|kind| !UNSTRETCHED.contains(kind))?;
    if !is_reached(&source, kind, model) {
        return None;
    }
    let mut rules = conversion.keys.iter().copied().flatten();
    let keyed = rules.any(|rule| match rule {
        KeyRule::Derived(Derived::RopeScaling) => {
            matches!(scaling(&source), Ok(Some("linear" | "yarn")))
        }
        KeyRule::Derived(Derived::AlphaScaled(part)) => {
            matches!(alpha_scaled(*part, &source), Ok(Some(_)))
        }
        _ => false,
    });
    let mut tensors = model.tensors.iter();
    let tabled = tensors.any(|tensor| tensor.role.is_rope_table());
    (!keyed && !tabled).then(|| LostScaling {
        kind: kind.to_owned(),
        architecture: model.architecture.clone(),
    })
}

/// Whether a scaling of the type `kind` is in force within the model's context. The dynamic one begins behind the length that
/// the configuration states, unless it has a fixed `alpha`.
fn is_reached(source: &SourceConfig<'_>, kind: &str, model: &ModelSpec) -> bool {
    if kind != "dynamic" || !matches!(source.rope.float(&["alpha"]), Ok(None)) {
        return true;
    }
    let stated = source.stated(Key::Context).and_then(|(_, n)| n.as_u64());
    stated.is_some_and(|tokens| tokens < model.dims.context)
}

/// Names of the length of a window.
const WINDOWS: &[&str] = &["sliding_window", "attention_window_size"];

/// The window that a GGUF of `model` loses; `None` if it keeps one, if none is in force within the model's context, or if
/// no GGUF is made of `model`.
pub fn lost_window(model: &ModelSpec) -> Option<LostWindow> {
    conversion(model).ok()?;
    let source = SourceConfig::new(model).ok()?;
    let length = |key: &&'static str| Some((*key, source.get(key)?.as_u64()?));
    let (key, tokens) = WINDOWS.iter().find_map(length)?;
    let mut layers = model.layers.iter();
    let is_kept = layers.any(|layer| {
        let attention = layer.mixer.attention.as_ref();
        attention.is_some_and(|attention| attention.window.is_some())
    });
    let is_reached = (1..model.dims.context).contains(&tokens);
    (is_reached && !is_kept && is_in_force(&source, model)).then(|| LostWindow {
        key,
        tokens,
        architecture: model.architecture.clone(),
    })
}

/// Whether a stated window applies to any block. Classes with `max_window_layers` (Qwen 2) are without, unless
/// `use_sliding_window` says otherwise, in the blocks before that number; others (Mistral) have it in every block.
fn is_in_force(source: &SourceConfig<'_>, model: &ModelSpec) -> bool {
    if let Some(whole) = source.get("full_attention_idx").and_then(Json::as_array) {
        // Blocks without one.
        let has = |block: usize| whole.iter().any(|n| n.as_u64() == Some(block as u64));
        let mut blocks = model.layers.iter().enumerate();
        return blocks.any(|(block, layer)| layer.mixer.attention.is_some() && !has(block));
    }
    let first = source.get("max_window_layers").and_then(Json::as_u64);
    let is_used = source.get("use_sliding_window").and_then(Json::as_bool);
    if !is_used.unwrap_or(first.is_none()) {
        return false;
    }
    match source.get("layer_types").and_then(Json::as_array) {
        Some(kinds) => kinds.iter().any(|kind| kind == "sliding_attention"),
        None => first.is_none_or(|first| first < model.dims.blocks),
    }
}
