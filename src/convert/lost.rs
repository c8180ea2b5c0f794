//! Whether a GGUF of a model says how its rotary positions are stretched: llama.cpp's converter has a place for that in
//! the files of some architectures only.

use std::fmt;

use super::derived_keys::scaling;
use super::keys::conversion;
use super::source_config::SourceConfig;
use crate::model::ModelSpec;
use crate::model::conversion::{Derived, KeyRule};

/// Rotary positions that a GGUF has as if they were not stretched.
#[derive(Clone, Debug, PartialEq)]
pub struct LostScaling {
    /// How `config.json` stretches them.
    pub kind: String,
    /// llama.cpp's name of the architecture.
    pub architecture: String,
}

impl fmt::Display for LostScaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "config.json stretches rotary positions (`{}`), and a GGUF of {} has no place for that: its answers differ \
             from the model's, the more the longer the context; a runtime that reads the checkpoint itself keeps them",
            self.kind, self.architecture
        )
    }
}

/// Types of rotary positions that stretch nothing.
const UNSTRETCHED: &[&str] = &["default", "mrope", "none"];

/// What a GGUF of `model` loses; nothing where it has a key or a table for it, or is not made here.
pub fn lost_scaling(model: &ModelSpec) -> Option<LostScaling> {
    let conversion = conversion(&model.architecture).ok()?;
    let source = SourceConfig::new(model).ok()?;
    let kind = source
        .rope
        .kind
        .filter(|kind| !UNSTRETCHED.contains(kind))?;
    let mut rules = conversion.keys.iter().copied().flatten();
    let keyed = rules.any(|rule| matches!(rule, KeyRule::Derived(Derived::RopeScaling)))
        && matches!(scaling(&source), Ok(Some("linear" | "yarn")));
    let mut tensors = model.tensors.iter();
    let tabled = tensors.any(|tensor| tensor.role.is_rope_table());
    (!keyed && !tabled).then(|| LostScaling {
        kind: kind.to_owned(),
        architecture: model.architecture.clone(),
    })
}
