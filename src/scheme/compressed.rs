//! The types of the safetensors schemes (compressed-tensors): one decision for each stored weight, which the plan, the
//! writer and `config.json` of the output share.
//!
//! In: a model with its stored weights. Out: an [`Assigned`] for each. Must not: know how a weight is encoded.

use std::collections::{HashMap, HashSet};

use super::{Assigned, Groups, Reason, SCHEMES, Scheme};
use crate::dtype::{Dtype, elements};
use crate::model::{Category, DecodeAccess, FoldedWeight, ModelSpec, QuantPolicy, Tensor};
use crate::units::Bytes;

/// A weight of a directory in a safetensors scheme.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWeight {
    /// The weight of [`ModelSpec::stored`] that it is made of.
    pub source: usize,
    /// The one of its [`FoldedWeight::members`] that it is, if that is a stack whose experts are written one by one.
    pub member: Option<usize>,
    /// The shape in an unquantized checkpoint, outermost dimension first.
    pub shape: Vec<u64>,
    /// Its type in the scheme, and its size with scales and shape records.
    pub assigned: Assigned,
    /// Whether it is copied byte for byte.
    pub verbatim: bool,
    /// Whether it is linear layers that are not quantized and stay stacked in one tensor.
    pub stacked: bool,
    /// Whether it is the token embedding or another lookup table, and no linear layer.
    pub table: bool,
}

impl StoredWeight {
    /// Its name in an unquantized checkpoint where experts are stored one by one.
    pub fn name<'a>(&self, model: &'a ModelSpec) -> &'a str {
        let stored = model.stored.get(self.source);
        let member = stored.and_then(|stored| stored.members.get(self.member?));
        let name = member.map(|member| member.name.as_str());
        name.or(stored.map(|stored| stored.name.as_str()))
            .unwrap_or_default()
    }
}

/// The type of every weight that a directory has for those of [`ModelSpec::stored`].
///
/// Every linear layer inside a block (a matrix called `.weight`) is quantized, except routers and
/// embeddings; everything else keeps its 16 bits. Matrices stored in F32 or F64 become BF16, vectors keep
/// their type. A matrix whose rows are not divided by the groups of INT4 stays in 16 bit; if it is an
/// expert, so do all experts of its block, since runtimes load the experts of a block with one type.
/// Experts stacked in one tensor are written one by one, as compressed-tensors and vLLM know linear layers; where the
/// architecture has no names for them, the stack stays in 16 bit.
pub fn stored_types(model: &ModelSpec, scheme: &Scheme) -> Vec<StoredWeight> {
    let users = users(model);
    let user = |weight: &FoldedWeight| users.get(weight.sources.first()?).copied();
    let linear = |weight: &FoldedWeight, shape: &[u64]| {
        let one = user(weight).is_some_and(is_linear) && weight.is_weight() && shape.len() == 2;
        one.then(|| linear_type(shape, scheme))
    };
    let falls_back = |shape: &[u64]| {
        matches!(
            linear_type(shape, scheme).reason,
            Reason::ShapeFallback { .. }
        )
    };
    // Blocks with an expert that cannot be quantized.
    let mut spoiled: HashSet<u32> = HashSet::new();
    for weight in &model.stored {
        let shape = true_shape(weight, user(weight));
        let one = linear(weight, &shape).is_some() && falls_back(&shape);
        let any = one || weight.members.iter().any(|m| falls_back(&m.shape));
        let expert = user(weight).filter(|t| any && is_expert(t));
        spoiled.extend(expert.and_then(|t| t.layer));
    }
    let is_spoiled = |weight: &FoldedWeight| {
        let expert = user(weight).filter(|t| is_expert(t));
        let layer = expert.and_then(|t| t.layer);
        layer.is_some_and(|layer| spoiled.contains(&layer))
    };
    let fallback = Reason::ShapeFallback {
        intended: scheme.base,
    };
    let mut types = Vec::with_capacity(model.stored.len());
    for (source, weight) in model.stored.iter().enumerate() {
        let user = user(weight);
        let shape = true_shape(weight, user);
        if !weight.members.is_empty() && !is_spoiled(weight) {
            let members = weight.members.iter().enumerate();
            types.extend(members.map(|(number, member)| StoredWeight {
                source,
                member: Some(number),
                shape: member.shape.to_vec(),
                assigned: linear_type(&member.shape, scheme),
                verbatim: false,
                stacked: false,
                table: false,
            }));
            continue;
        }
        let of_linear = linear(weight, &shape);
        let assigned = match of_linear {
            Some(_) if is_spoiled(weight) => kept(weight, &shape, fallback),
            Some(assigned) if assigned.reason == Reason::Default => assigned,
            Some(_) => kept(weight, &shape, fallback),
            None if weight.members.is_empty() => kept(weight, &shape, Reason::Kept),
            None => kept(weight, &shape, fallback),
        };
        types.push(StoredWeight {
            source,
            member: None,
            assigned,
            verbatim: assigned.reason != Reason::Default
                && weight.sources.len() == 1
                && assigned.dtype == weight.dtype,
            stacked: shape.len() > 2 && user.is_some_and(is_linear),
            table: user.is_some_and(|t| t.role.info().category == Category::TokenEmbedding),
            shape,
        });
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
    let mut by_source: HashMap<u32, usize> = HashMap::new();
    let mut by_members: HashMap<usize, Assigned> = HashMap::new();
    for (index, weight) in stored.iter().enumerate() {
        let Some(folded) = model.stored.get(weight.source) else {
            continue;
        };
        match weight.member.and_then(|number| folded.members.get(number)) {
            Some(member) => {
                let none = Assigned {
                    bytes: Bytes(0),
                    ..weight.assigned
                };
                let sum = by_members.entry(member.tensor as usize).or_insert(none);
                sum.bytes += weight.assigned.bytes;
            }
            None => by_source.extend(folded.sources.first().map(|&source| (source, index))),
        }
    }
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
        .enumerate()
        .map(|(number, tensor)| {
            if let Some(assigned) = by_members.get(&number) {
                return *assigned;
            }
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

/// What vLLM loads without zero points only, and the scheme to take instead of one with them.
#[derive(Clone, Copy, Debug)]
pub struct SymmetricOnly {
    /// What it is, in the plural.
    pub what: &'static str,
    /// The scheme with the same groups.
    pub instead: &'static Scheme,
}

/// Whether `scheme` has zero points that vLLM cannot use in this model: it multiplies with experts only in the symmetric
/// form (`CompressedTensorsWNA16MarlinMoEMethod` asserts it), and where it reorders rows, it leaves out zero points.
pub fn symmetric_only(model: &ModelSpec, scheme: &Scheme) -> Option<SymmetricOnly> {
    let groups = scheme.groups.filter(|groups| groups.zeros)?;
    let symmetric = Some(Groups {
        zeros: false,
        ..groups
    });
    let what = if model.tensors.iter().any(is_expert) {
        "experts"
    } else if model.quirks.vllm_reorders_heads {
        "queries and keys"
    } else {
        return None;
    };
    let mut schemes = SCHEMES.iter();
    let instead = schemes.find(|scheme| scheme.groups == symmetric)?;
    Some(SymmetricOnly { what, instead })
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

/// Whether the tensor is the matrices of routed experts. Others are stacks too: adapters of a matrix that blocks share.
fn is_expert(tensor: &Tensor) -> bool {
    is_linear(tensor) && tensor.role.info().access == DecodeAccess::Experts
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
