//! Whether a GGUF of a model keeps the scaling of its rotary positions: llama.cpp's converter writes it only for some
//! architectures.

use std::fmt;

use super::derived_keys::{alpha_scaled, scaling};
use super::keys::conversion;
use super::source_config::SourceConfig;
use crate::model::ModelSpec;
use crate::model::conversion::{Derived, KeyRule};

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
