//! A type for every tensor, with the reason. In: a model and a scheme. Out: an [`Assignment`],
//! which the plan sizes and the quantizer writes. Must not: read weights or know a device.

mod compressed;
mod rules;
mod table;

use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::units::Bytes;

pub use compressed::{StoredWeight, stored_types};
pub use rules::Rules;
pub use table::{Container, SCHEMES, Scheme};

/// Why a tensor gets its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The scheme's own type.
    Default,
    /// The scheme's mix gives this class of tensor, or this layer, another type.
    Mix,
    /// The row length does not divide into blocks of the intended type.
    ShapeFallback {
        /// The type it would have had.
        intended: Dtype,
    },
    /// Never quantized: norms, biases, routers, small tables.
    Kept,
    /// The file exists; this is the type it has.
    Stored,
}

/// A tensor's type in a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The element format.
    pub dtype: Dtype,
    /// Exact size, scales included.
    pub bytes: Bytes,
    /// Why.
    pub reason: Reason,
}

/// A type per tensor, in the order of [`ModelSpec::tensors`].
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The scheme's id, `q4_k_m`; for a file that exists, the id its own file type names.
    pub scheme: String,
    /// What kind of file holds it.
    pub container: Container,
    /// One per tensor of the model.
    pub tensors: Vec<Assigned>,
}

impl Assignment {
    /// The sum of the tensors' bytes.
    pub fn tensor_bytes(&self) -> Bytes {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// How many tensors fell back to another type because of their shape.
    pub fn fallbacks(&self) -> usize {
        self.tensors
            .iter()
            .filter(|t| matches!(t.reason, Reason::ShapeFallback { .. }))
            .count()
    }
}

/// Gives every tensor of `model` its type in `scheme`.
pub fn assign(model: &ModelSpec, scheme: &Scheme, rules: Rules) -> Assignment {
    let tensors = match scheme.container {
        Container::Gguf => rules::assign_gguf(model, scheme, rules),
        Container::Safetensors => compressed::assign(model, scheme),
    };
    Assignment {
        scheme: scheme.id.to_owned(),
        container: scheme.container,
        tensors,
    }
}

/// The assignment of a checkpoint as it is stored now.
pub fn stored(model: &ModelSpec, scheme: &str, container: Container) -> Assignment {
    let tensors = model
        .tensors
        .iter()
        .map(|t| Assigned {
            dtype: t.dtype,
            bytes: t.stored_bytes,
            reason: Reason::Stored,
        })
        .collect();
    Assignment {
        scheme: scheme.to_owned(),
        container,
        tensors,
    }
}
