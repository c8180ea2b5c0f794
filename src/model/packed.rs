//! Folds the stored tensors of a quantized Hugging Face checkpoint (packed words, scales, zero points) into the weights
//! that they belong to. `packing` recognises them.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::ModelError;
use super::hparams::json_lookup;
use super::packing::{self, ByInputs, Companion, Packing, quantization_config, stated_bits};
use super::tensor::Tensor;
use crate::checkpoint::StoredTensor;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// A weight of a Hugging Face checkpoint as the model uses it: one stored tensor, or packed words with their scales and
/// other companions.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedWeight {
    /// Its name in an unquantized checkpoint.
    pub name: String,
    /// Its shape, outermost dimension first. One-dimensional for bitsandbytes, whose packed tensor has lost the shape.
    pub shape: Vec<u64>,
    /// The element format that corresponds to its packing.
    pub dtype: Dtype,
    /// How many elements of `shape` may be padding, since the codes of a row fill whole words.
    pub slack: u64,
    /// Bytes of all its stored tensors.
    pub bytes: Bytes,
    /// How it is packed.
    pub packing: Packing,
    /// Its stored tensors as indices into the checkpoint's, the one with the weights first.
    pub sources: Vec<u32>,
    /// The roles of the other stored tensors, in the order of `sources`.
    pub companions: Vec<Companion>,
    /// The matrices of a stack of experts under the names that they have where they are stored one by one; empty where the
    /// architecture has none.
    pub members: Vec<Member>,
}

/// A matrix of one expert in a stack.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name where experts are stored one by one.
    pub name: String,
    /// Its rows and columns there.
    pub shape: [u64; 2],
    /// The tensor of the model that it is a part of.
    pub tensor: u32,
    /// Its first row among those of all matrices of the stack.
    pub first: u64,
}

impl FoldedWeight {
    /// Whether its name ends in `.weight`: not a bias, and no parameter without a suffix.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with(".weight")
    }
}

/// Folds the stored `tensors` into weights, in the order of the tensors that carry them.
pub(super) fn logical(
    stored: &[StoredTensor],
    config: &Json,
) -> Result<Vec<FoldedWeight>, ModelError> {
    let mut bases: HashMap<&str, usize> = HashMap::new();
    for (index, tensor) in stored.iter().enumerate() {
        if let Some(base) = packing::base(&tensor.name) {
            bases.insert(base, index);
        }
    }
    let mut companions: HashMap<usize, Vec<(usize, Companion)>> = HashMap::new();
    let mut folded = vec![false; stored.len()];
    for (index, tensor) in stored.iter().enumerate() {
        if let Some((base, kind)) = Companion::of_name(&tensor.name)
            && let Some(&weight) = bases.get(base)
            && weight != index
        {
            companions.entry(weight).or_default().push((index, kind));
            folded[index] = true;
        }
    }
    let none = Vec::new();
    (0..stored.len())
        .filter(|&index| !folded[index])
        .map(|index| {
            unpack(
                stored,
                index,
                companions.get(&index).unwrap_or(&none),
                config,
            )
        })
        .collect()
}

/// Checks that all matrices of eight-bit floats have a scale, and that 16-bit and wider floats have none: otherwise their
/// numbers are not the weights.
///
/// # Errors
/// [`ModelError::MissingTensor`] with the usual name of the scale, or [`ModelError::ScaledWhole`].
pub(super) fn check_scales(logical: &[FoldedWeight], config: &Json) -> Result<(), ModelError> {
    let mut eight_bit = logical.iter().filter(|weight| {
        matches!(weight.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2) && weight.shape.len() > 1
    });
    let unscaled = |weight: &&FoldedWeight| !weight.companions.iter().any(|c| c.is_scale());
    if let Some(weight) = eight_bit.find(unscaled) {
        return Err(ModelError::MissingTensor {
            tensor: format!("{}_scale", weight.name),
        });
    }
    let whole = |weight: &&FoldedWeight| {
        let number = matches!(
            weight.dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16
        );
        number && weight.packing == Packing::Elements
    };
    let mut whole = logical.iter().filter(whole);
    match whole.find(|weight| weight.companions.iter().any(|c| c.is_scale())) {
        Some(weight) if !keeps_whole(config) => Err(ModelError::ScaledWhole {
            tensor: weight.name.clone(),
            found: weight.dtype,
        }),
        _ => Ok(()),
    }
}

/// Methods whose weights are stored as codes: a runtime that reads the configuration looks for these.
const CODED: &[&str] = &["auto-round", "awq", "fbgemm_fp8", "fp8", "gptq"];

/// Checks that weights are quantized where the configuration says so.
///
/// # Errors
/// [`ModelError::NotQuantized`].
pub(super) fn check_declared(logical: &[FoldedWeight], config: &Json) -> Result<(), ModelError> {
    let stated = quantization_config(config).and_then(|q| q.get("quant_method")?.as_str());
    match stated.filter(|method| CODED.contains(method)) {
        Some(method) if !logical.is_empty() && label(config, logical).is_none() => {
            Err(ModelError::NotQuantized {
                method: method.to_owned(),
            })
        }
        _ => Ok(()),
    }
}

/// Whether weights are stored as they were before they are rounded, with the scales to round them by.
fn keeps_whole(config: &Json) -> bool {
    let stated = quantization_config(config).and_then(|q| q.get("quant_method")?.as_str());
    stated == Some("compressed-tensors")
}

fn unpack(
    stored: &[StoredTensor],
    index: usize,
    companions: &[(usize, Companion)],
    config: &Json,
) -> Result<FoldedWeight, ModelError> {
    let weight = &stored[index];
    let companion = |kind: Companion| {
        let found = companions.iter().find(|(_, of)| *of == kind);
        found.map(|(index, _)| &stored[*index])
    };
    let too_large = || ModelError::TooLarge {
        tensor: weight.name.clone(),
        shape: weight.shape.clone(),
    };
    let shape_of = |kind| companion(kind).map(|t| t.shape.as_slice());
    let packing = Packing::of(weight, |kind| companion(kind).is_some());
    let mut named_as_stored = false;
    let (shape, dtype) = match (packing, weight.shape.as_slice(), weight.dtype) {
        (Packing::Words, shape, Dtype::I32) => {
            let bits = quantization_config(config).and_then(|q| stated_bits(q).next());
            let bits = bits.unwrap_or(4);
            (widened(shape, 32, bits), packed_dtype(bits))
        }
        (Packing::FourBitFloats, shape, _) => {
            let format = four_bit_float(companion(Companion::Scale));
            (widened(shape, 8, 4), format)
        }
        (Packing::ByInputs, &[lines, words], Dtype::I32) => {
            let stated = number(config, &["quantization_config", "bits"]);
            let scales = shape_of(Companion::Scales);
            let found = ByInputs::new([lines, words], scales, shape_of(Companion::Zeros), stated);
            let shape = vec![found.outputs, found.inputs];
            (Some(shape), packed_dtype(found.bits))
        }
        (Packing::Mlx, shape @ [.., words], _) => {
            let base = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
            let groups = shape_of(Companion::Scales).and_then(|s| s.last().copied());
            let columns = groups
                .unwrap_or(0)
                .checked_mul(mlx_group(config, base))
                .ok_or_else(too_large)?;
            let bits = words.saturating_mul(32) / columns.max(1);
            (with_columns(shape, columns), packed_dtype(bits))
        }
        (Packing::BitsAndBytes, shape, _) => {
            let nibbles = shape.iter().try_fold(2u64, |n, &d| n.checked_mul(d));
            (nibbles.map(|n| vec![n]), Dtype::INT4)
        }
        (Packing::FourBitFloatBlocks, &[experts, rows, blocks, _], _)
            if companion(Companion::StackScales).is_some() =>
        {
            let columns = blocks.checked_mul(32);
            let shape = columns.map(|columns| vec![experts, rows, columns]);
            (shape, Dtype::MXFP4)
        }
        // A weight that looks packed and has another shape is kept as it is; the error comes when it is read.
        (_, shape, dtype) => {
            named_as_stored = true;
            (Some(shape.to_vec()), dtype)
        }
    };
    let shape = shape.ok_or_else(too_large)?;
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let elements = elements.ok_or_else(too_large)?;
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let slack = match (packing, weight.dtype) {
        (Packing::Words, Dtype::I32) => {
            let in_word = columns / weight.shape.last().copied().unwrap_or(1).max(1);
            (elements / columns).saturating_mul(in_word.saturating_sub(1))
        }
        _ => 0,
    };
    let sources = std::iter::once(index).chain(companions.iter().map(|(index, _)| *index));
    Ok(FoldedWeight {
        name: if named_as_stored {
            weight.name.clone()
        } else {
            packing.unpacked_name(&weight.name)
        },
        shape,
        dtype,
        slack,
        bytes: sources.clone().map(|i| stored[i].bytes).sum(),
        packing,
        sources: sources.map(|i| i as u32).collect(),
        companions: companions.iter().map(|(_, kind)| *kind).collect(),
        members: Vec::new(),
    })
}

/// `shape` with the last dimension in weights of `bits` bits instead of words of `word_bits` bits.
fn widened(shape: &[u64], word_bits: u64, bits: u64) -> Option<Vec<u64>> {
    let columns = shape.last()?.checked_mul(word_bits)? / bits.clamp(1, 32);
    with_columns(shape, columns)
}

fn with_columns(shape: &[u64], columns: u64) -> Option<Vec<u64>> {
    let mut shape = shape.to_vec();
    *shape.last_mut()? = columns;
    Some(shape)
}

/// The format of four-bit floats by the type of their block scales: E8M0 (a byte) is MXFP4, E4M3 is NVFP4.
fn four_bit_float(scale: Option<&StoredTensor>) -> Dtype {
    match scale.map(|s| s.dtype) {
        Some(Dtype::U8 | Dtype::F8_E8M0) => Dtype::MXFP4,
        _ => Dtype::NVFP4,
    }
}

fn packed_dtype(bits: u64) -> Dtype {
    if bits <= 4 { Dtype::INT4 } else { Dtype::I8 }
}

fn number(config: &Json, path: &[&str]) -> Option<u64> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(json_lookup(config, first)?, |value, part| value.get(part))?
        .as_u64()
}

/// The group size of MLX for a layer: its own if the configuration states one, else that of the model.
fn mlx_group(config: &Json, base: &str) -> u64 {
    number(config, &["quantization", base, "group_size"])
        .or_else(|| number(config, &["quantization", "group_size"]))
        .unwrap_or(64)
}

/// The type that experts are stored in where there is only the configuration: it says so of four-bit floats, which leave
/// all else in 16 bits (gpt-oss). Elsewhere such a model is planned as the 16-bit one that it was made from.
pub(super) fn experts(config: &Json) -> Dtype {
    let method = quantization_config(config).and_then(|q| q.get("quant_method")?.as_str());
    match method {
        Some("mxfp4") => Dtype::MXFP4,
        _ => Dtype::BF16,
    }
}

/// The same name as [`label`] for a model of which there is only the configuration.
pub(super) fn described(tensors: &[Tensor]) -> Option<String> {
    let is_packed = tensors.iter().any(|tensor| tensor.dtype == Dtype::MXFP4);
    is_packed.then(|| "mxfp4".to_owned())
}

/// A short name for how the checkpoint is quantized: a scheme id or the name of the method.
pub(super) fn label(config: &Json, tensors: &[FoldedWeight]) -> Option<String> {
    let uses = |dtype: Dtype| tensors.iter().any(|t| t.dtype == dtype);
    let format = if uses(Dtype::F8_E4M3) || uses(Dtype::F8_E5M2) {
        "fp8"
    } else if uses(Dtype::INT4) {
        "int4"
    } else if uses(Dtype::MXFP4) {
        "mxfp4"
    } else if uses(Dtype::NVFP4) {
        "nvfp4"
    } else if uses(Dtype::I8) {
        "int8"
    } else {
        return None;
    };
    let method =
        json_lookup(config, "quantization_config").and_then(|q| q.get("quant_method")?.as_str());
    Some(match method {
        Some("gptq") => format!("gptq-{format}"),
        Some("awq") => format!("awq-{format}"),
        Some("bitsandbytes") => format!("bnb-{format}"),
        None if json_lookup(config, "quantization").is_some() => format!("mlx-{format}"),
        _ => format.to_owned(),
    })
}
