//! Assigns a type to every tensor, with the reason. In: a model and a scheme. Out: an [`Assignment`],
//! which plans and the quantizer follow. Must not: read weights or know a device.

mod compressed;
mod overrides;
mod rules;
mod table;
mod type_list;

use std::collections::BTreeMap;

use crate::dtype::Dtype;
use crate::model::{ModelSpec, TensorRole};
use crate::units::Bytes;

pub use compressed::{StoredWeight, SymmetricOnly, stored_types, symmetric_only};
pub use overrides::{Overrides, TypeOverride};
pub use rules::{Rules, quantizer_order};
pub use table::{Container, Groups, QuantMix, SCHEMES, Scheme, ZEROS_IN_WORD};
pub use type_list::{
    ListedTypes, TYPE_LIST, TypeList, TypeListError, check_types, parse_types, type_list,
};

/// Why a tensor gets its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The scheme's own type.
    Default,
    /// The scheme's mix gives this class of tensors, or this block, another type.
    Mix,
    /// The row length does not divide into blocks of the intended type.
    ShapeFallback {
        /// The type it would have had.
        intended: Dtype,
    },
    /// Never quantized: norms, biases, routers, small tables; or quantized already, and left so.
    Kept,
    /// The type that the tensor has in an existing file.
    Stored,
    /// The user asked for it.
    Override,
}

/// A tensor's type in a scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The element format.
    pub dtype: Dtype,
    /// Exact size, scales included.
    pub bytes: Bytes,
    /// Why it has this type.
    pub reason: Reason,
}

/// A type per tensor, in the order of [`ModelSpec::tensors`].
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The scheme's id (`q4_k_m`); for an existing file the id of its file type.
    pub scheme: String,
    /// The container of the file.
    pub container: Container,
    /// One per tensor of the model.
    pub tensors: Vec<Assigned>,
}

impl Assignment {
    /// The sum of the tensors' bytes.
    pub fn tensor_bytes(&self) -> Bytes {
        self.tensors.iter().map(|t| t.bytes).sum()
    }

    /// Whether it describes an existing file.
    pub fn is_stored(&self) -> bool {
        self.tensors.iter().any(|t| t.reason == Reason::Stored)
    }

    /// Whether a tensor stores its weights in less than 16 bits.
    pub fn is_quantized(&self) -> bool {
        self.tensors.iter().any(|t| {
            let format = t.dtype.format();
            format.block_bytes * 8 < format.block_elements * 16
        })
    }

    /// Tensors in F32 become F16, as a runtime holds them that casts what it loads.
    pub fn cast_f32(&mut self) {
        for tensor in self.tensors.iter_mut().filter(|t| t.dtype == Dtype::F32) {
            (tensor.dtype, tensor.bytes) = (Dtype::F16, Bytes(tensor.bytes.0 / 2));
        }
    }

    /// The number of tensors that have another type than intended because of their shape.
    pub fn fallbacks(&self) -> usize {
        self.tensors
            .iter()
            .filter(|t| matches!(t.reason, Reason::ShapeFallback { .. }))
            .count()
    }
}

/// Assigns every tensor of `model` its type in `scheme`.
pub fn assign(model: &ModelSpec, scheme: &Scheme, rules: Rules) -> Assignment {
    assign_with(model, scheme, rules, &Overrides::default())
}

/// [`assign`] with the types that the user asks for. A requested type whose blocks do not divide a tensor's rows
/// falls back as the scheme's own types do. Overrides do not apply to safetensors schemes, which have one type.
pub fn assign_with(
    model: &ModelSpec,
    scheme: &Scheme,
    rules: Rules,
    overrides: &Overrides,
) -> Assignment {
    let tensors = match scheme.container {
        Container::Gguf => rules::assign_gguf(model, scheme, rules, overrides),
        Container::Safetensors => compressed::assign(model, scheme),
    };
    Assignment {
        scheme: scheme.id.to_owned(),
        container: scheme.container,
        tensors,
    }
}

/// The id of an assignment whose types are those of no scheme.
pub const MIX: &str = "mix";

/// The scheme that names a GGUF of these types: that of the type with most bytes among those that name one.
pub fn of_types(model: &ModelSpec, types: &BTreeMap<String, Dtype>) -> &'static Scheme {
    let mut sums: BTreeMap<Dtype, u64> = BTreeMap::new();
    for tensor in &model.tensors {
        if let Some(dtype) = types.get(&tensor.name) {
            *sums.entry(*dtype).or_default() += dtype.bytes(&tensor.shape).unwrap_or_default().0;
        }
    }
    let mut sums: Vec<(Dtype, u64)> = sums.into_iter().collect();
    sums.sort_by_key(|(dtype, bytes)| (std::cmp::Reverse(*bytes), *dtype));
    let named = sums.iter().find_map(|(dtype, _)| Scheme::of_base(*dtype));
    named.unwrap_or_else(|| Scheme::of_half(Dtype::F16))
}

/// A GGUF with the types that are named; other tensors have those of the scheme that names it.
pub fn assign_types(
    model: &ModelSpec,
    types: &BTreeMap<String, Dtype>,
    rules: Rules,
) -> Assignment {
    let overrides = Overrides {
        exact: types.clone(),
        ..Overrides::default()
    };
    Assignment {
        scheme: MIX.to_owned(),
        ..assign_with(model, of_types(model, types), rules, &overrides)
    }
}

/// `assignment` with every matrix, an untied head included, in 4-bit groups of 32 that share a 16-bit scale, as MLC
/// packs them. A tied embedding stays in 16 bits, since MLC widens it to multiply with it (`lm_head_forward` of its
/// quantized embedding), and so do matrices whose rows 32 does not divide. The groups have the size of GGUF's Q4_0
/// blocks, so they are given as Q4_0.
pub fn every_matrix_packed(model: &ModelSpec, mut assignment: Assignment) -> Assignment {
    for (tensor, assigned) in model.tensors.iter().zip(&mut assignment.tensors) {
        let widened = model.tied && tensor.role == TensorRole::TokenEmbedding;
        let matrix = tensor.shape.len() >= 2 && !widened;
        let packed = matrix.then(|| Dtype::Q4_0.bytes(&tensor.shape));
        if let Some(bytes) = packed.flatten() {
            (assigned.dtype, assigned.bytes) = (Dtype::Q4_0, bytes);
        }
    }
    assignment
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
