//! The types of the safetensors schemes (compressed-tensors): one decision for each stored weight, which the plan, the
//! writer and `config.json` of the output share.
//!
//! In: a model with its stored weights. Out: an [`Assigned`] for each. Must not: know how a weight is encoded.

use std::collections::{HashMap, HashSet};

use super::{Assigned, Groups, Reason, SCHEMES, Scheme};
use crate::dtype::{Dtype, elements};
use crate::model::{Category, FoldedWeight, ModelSpec, QuantPolicy, Tensor};
use crate::units::Bytes;

/// A stored weight in a safetensors scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWeight {
    /// The shape in an unquantized checkpoint, outermost dimension first.
    pub shape: Vec<u64>,
    /// Its type in the scheme, and its size with scales and shape records.
    pub assigned: Assigned,
    /// Whether it is copied byte for byte.
    pub verbatim: bool,
    /// Whether it is linear layers that are not quantized because they are stacked in one tensor.
    pub stacked: bool,
    /// Whether it is the token embedding or another lookup table, and no linear layer.
    pub table: bool,
}

/// The type of every weight of [`ModelSpec::stored`].
///
/// Every linear layer inside a block (a matrix called `.weight`) is quantized, except routers and
/// embeddings; everything else keeps its 16 bits. Matrices stored in F32 or F64 become BF16, vectors keep
/// their type. A matrix whose rows are not divided by the group of INT4 (128 columns) stays in 16 bit; if it is an
/// expert, so do all experts of its block, since runtimes load the experts of a block with one type.
/// Experts stacked in one tensor are not linear layers to compressed-tensors and stay in 16 bit.
pub fn stored_types(model: &ModelSpec, scheme: &Scheme) -> Vec<StoredWeight> {
    let users = users(model);
    let mut spoiled: HashSet<u32> = HashSet::new();
    let mut types: Vec<StoredWeight> = model
        .stored
        .iter()
        .map(|weight| {
            let user = users.get(&weight.sources.first().copied().unwrap_or(u32::MAX));
            let shape = true_shape(weight, user.copied());
            let linear = user.is_some_and(|t| is_linear(t)) && weight.is_weight();
            let assigned = if linear && shape.len() == 2 {
                linear_type(&shape, scheme)
            } else {
                kept(weight, &shape, Reason::Kept)
            };
            if let (Reason::ShapeFallback { .. }, Some(t)) = (assigned.reason, user) {
                spoiled.extend(t.layer.filter(|_| t.shape.len() > 2));
            }
            StoredWeight {
                assigned: match assigned.reason {
                    Reason::ShapeFallback { .. } => kept(weight, &shape, assigned.reason),
                    _ => assigned,
                },
                verbatim: false,
                stacked: shape.len() > 2 && user.is_some_and(|t| is_linear(t)),
                table: user.is_some_and(|t| t.role.info().category == Category::TokenEmbedding),
                shape,
            }
        })
        .collect();
    for (weight, stored) in model.stored.iter().zip(&mut types) {
        let user = users.get(&weight.sources.first().copied().unwrap_or(u32::MAX));
        let is_spoiled = user.is_some_and(|t| {
            t.shape.len() > 2 && t.layer.is_some_and(|layer| spoiled.contains(&layer))
        });
        if is_spoiled && stored.assigned.reason == Reason::Default {
            let intended = scheme.base;
            let reason = Reason::ShapeFallback { intended };
            stored.assigned = kept(weight, &stored.shape, reason);
        }
        stored.verbatim = stored.assigned.reason != Reason::Default
            && weight.sources.len() == 1
            && stored.assigned.dtype == weight.dtype;
    }
    types
}

/// The types of [`ModelSpec::tensors`]: each tensor has that of its stored weights.
/// Without stored weights, experts are assumed to be stored one by one.
pub(super) fn assign(model: &ModelSpec, scheme: &Scheme) -> Vec<Assigned> {
    if model.stored.is_empty() {
        let planned = |tensor: &Tensor| planned_type(tensor, scheme);
        return model.tensors.iter().map(planned).collect();
    }
    let stored = stored_types(model, scheme);
    let first = |w: &FoldedWeight| w.sources.first().copied();
    let by_source: HashMap<u32, usize> = model
        .stored
        .iter()
        .enumerate()
        .filter_map(|(index, weight)| Some((first(weight)?, index)))
        .collect();
    // Tensors made from one stored weight share its bytes in proportion to their elements, without a rounding error in
    // the sum.
    let mut wanted = vec![0u64; stored.len()];
    let weights = |tensor: &Tensor| -> Vec<usize> {
        let found = tensor.sources.iter().filter_map(|s| by_source.get(s));
        found.copied().collect()
    };
    let part = |tensor: &Tensor, of: usize| tensor.elements() / (of as u64).max(1);
    for tensor in &model.tensors {
        let found = weights(tensor);
        for &weight in &found {
            wanted[weight] = wanted[weight].saturating_add(part(tensor, found.len()));
        }
    }
    let mut given = vec![0u64; stored.len()];
    model
        .tensors
        .iter()
        .map(|tensor| {
            let found = weights(tensor);
            let mut bytes = 0u64;
            for &weight in &found {
                let total = u128::from(stored[weight].assigned.bytes.0);
                let up_to =
                    |n: u64| (total * u128::from(n) / u128::from(wanted[weight].max(1))) as u64;
                let after = given[weight].saturating_add(part(tensor, found.len()));
                bytes = bytes.saturating_add(up_to(after) - up_to(given[weight]));
                given[weight] = after;
            }
            match found.first() {
                Some(&weight) => Assigned {
                    bytes: Bytes(bytes),
                    ..stored[weight].assigned
                },
                // A tensor that only conversion to GGUF adds.
                None => Assigned {
                    dtype: tensor.dtype,
                    bytes: Bytes(0),
                    reason: Reason::Kept,
                },
            }
        })
        .collect()
}

/// The scheme to take instead of one with zero points, if the model has experts: vLLM multiplies with those only in the
/// symmetric form (`CompressedTensorsWNA16MarlinMoEMethod` asserts it).
pub fn symmetric_instead(model: &ModelSpec, scheme: &Scheme) -> Option<&'static Scheme> {
    let groups = scheme.groups.filter(|groups| groups.zeros)?;
    let experts = |tensor: &Tensor| tensor.shape.len() > 2 && is_linear(tensor);
    let symmetric = Some(Groups {
        zeros: false,
        ..groups
    });
    let mut schemes = SCHEMES.iter();
    model
        .tensors
        .iter()
        .any(experts)
        .then(|| schemes.find(|scheme| scheme.groups == symmetric))
        .flatten()
}

/// The model's tensor that is made from each stored weight, by the index of the weight's first stored tensor.
fn users(model: &ModelSpec) -> HashMap<u32, &Tensor> {
    let mut users = HashMap::new();
    for tensor in &model.tensors {
        for &source in &tensor.sources {
            users.entry(source).or_insert(tensor);
        }
    }
    users
}

/// The shape of a weight. Packing does not always preserve it (bitsandbytes stores none, words may be padded); then
/// the length of a row is that of the model's tensor.
fn true_shape(weight: &FoldedWeight, user: Option<&Tensor>) -> Vec<u64> {
    let elements = elements(&weight.shape);
    match (weight.shape.as_slice(), user) {
        (&[_], Some(user)) if weight.sources.len() > 1 && user.shape.len() >= 2 => {
            vec![elements / user.row().max(1), user.row()]
        }
        (&[rows, _], Some(user)) if weight.slack > 0 => vec![rows, user.row()],
        (shape, _) => shape.to_vec(),
    }
}

/// Whether the tensor is made from linear layers that may be quantized.
fn is_linear(tensor: &Tensor) -> bool {
    let info = tensor.role.info();
    tensor.shape.len() >= 2
        && tensor.is_weight()
        && info.policy == QuantPolicy::Quantize
        && info.block
        && info.category != Category::TokenEmbedding
}

/// A matrix in the scheme's type: integers in groups, or FP8, one byte per weight and `weight_scale` (16 bit for each row).
fn linear_type(shape: &[u64], scheme: &Scheme) -> Assigned {
    let rows = shape.first().copied().unwrap_or(1);
    let bytes = match scheme.groups {
        Some(groups) => groups.bytes(shape),
        None => scheme
            .base
            .bytes(shape)
            .map(|codes| codes + Bytes(rows.saturating_mul(2))),
    };
    match bytes {
        Some(bytes) => Assigned {
            dtype: scheme.base,
            bytes,
            reason: Reason::Default,
        },
        None => Assigned {
            dtype: Dtype::BF16,
            bytes: Dtype::BF16.bytes(shape).unwrap_or(Bytes(0)),
            reason: Reason::ShapeFallback {
                intended: scheme.base,
            },
        },
    }
}

fn kept(weight: &FoldedWeight, shape: &[u64], reason: Reason) -> Assigned {
    let dtype = match weight.dtype {
        Dtype::F32 | Dtype::F64 if shape.len() >= 2 => Dtype::BF16,
        own if weight.sources.len() == 1 && !is_small_float(own) => own,
        _ => Dtype::BF16,
    };
    Assigned {
        dtype,
        bytes: dtype.bytes(shape).unwrap_or(Bytes(0)),
        reason,
    }
}

/// Types that only make sense as the storage of quantized weights.
fn is_small_float(dtype: Dtype) -> bool {
    use Dtype::*;
    matches!(dtype, F8_E4M3 | F8_E5M2 | MXFP4 | NVFP4)
}

/// [`linear_type`] of a tensor of which only the shape is known; the experts of a stack are counted one by one.
fn planned_type(tensor: &Tensor, scheme: &Scheme) -> Assigned {
    let matrix = match tensor.shape.as_slice() {
        [experts, matrix @ ..] if matrix.len() == 2 => Some((*experts, matrix)),
        matrix if matrix.len() == 2 => Some((1, matrix)),
        _ => None,
    };
    match matrix.filter(|_| is_linear(tensor)) {
        Some((count, matrix)) => {
            let one = linear_type(matrix, scheme);
            Assigned {
                bytes: Bytes(one.bytes.0.saturating_mul(count)),
                ..one
            }
        }
        None => {
            let full = tensor.dtype == Dtype::F32
                && tensor.stored_bytes.0 == tensor.elements().saturating_mul(4);
            let dtype = if full { Dtype::F32 } else { Dtype::BF16 };
            Assigned {
                dtype,
                bytes: dtype.bytes(&tensor.shape).unwrap_or(Bytes(0)),
                reason: Reason::Kept,
            }
        }
    }
}
