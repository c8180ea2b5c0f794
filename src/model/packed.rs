//! Stored tensors as logical weights: packed words, scales and zero points of quantized
//! Hugging Face checkpoints are folded into the weight they belong to (`packing` tells them).

use std::collections::HashMap;

use serde_json::Value as Json;

use super::ModelError;
use super::hparams::json_lookup;
use super::packing::{self, ByInputs, Companion, Packing, quantization_config, stated_bits};
use crate::checkpoint::StoredTensor;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// A weight of a Hugging Face checkpoint as the model sees it: one stored tensor, or packed words
/// with all that belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedWeight {
    /// The name it has in an unquantized checkpoint.
    pub name: String,
    /// Outermost first. Flat for bitsandbytes, whose files do not keep the shape.
    pub shape: Vec<u64>,
    /// The element format that its packing amounts to.
    pub dtype: Dtype,
    /// How many weights of `shape` may be only padding: the columns of a row fill whole words.
    pub slack: u64,
    /// Bytes of the weight and everything folded into it.
    pub bytes: Bytes,
    /// How it is packed.
    pub packing: Packing,
    /// The stored tensors it is made of, as indices into the checkpoint's, the weight itself first.
    pub sources: Vec<u32>,
    /// What the sources behind the first are to it.
    pub companions: Vec<Companion>,
}

impl FoldedWeight {
    /// Whether it is what a module calls `weight`: no bias, no number on its own.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with(".weight")
    }
}

/// Folds companions into their weights. Order follows the weights.
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

/// That eight-bit floats have their scales: without one the numbers are those of another matrix.
///
/// # Errors
/// [`ModelError::MissingTensor`] with the usual name of the scale.
pub(super) fn scaled(logical: &[FoldedWeight]) -> Result<(), ModelError> {
    let mut eight_bit = logical.iter().filter(|weight| {
        matches!(weight.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2) && weight.shape.len() > 1
    });
    let unscaled = |weight: &&FoldedWeight| !weight.companions.iter().any(|c| c.is_scale());
    match eight_bit.find(unscaled) {
        Some(weight) => Err(ModelError::MissingTensor {
            tensor: format!("{}_scale", weight.name),
        }),
        None => Ok(()),
    }
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
        // What looks packed and is not of the form keeps its name, and reading it says what is wrong.
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
    })
}

/// `shape` with its last dimension counted in weights of `bits` instead of words of `word_bits`.
fn widened(shape: &[u64], word_bits: u64, bits: u64) -> Option<Vec<u64>> {
    let columns = shape.last()?.checked_mul(word_bits)? / bits.clamp(1, 32);
    with_columns(shape, columns)
}

fn with_columns(shape: &[u64], columns: u64) -> Option<Vec<u64>> {
    let mut shape = shape.to_vec();
    *shape.last_mut()? = columns;
    Some(shape)
}

/// Four-bit floats by their block scales: E8M0 (a byte) is MXFP4, E4M3 is NVFP4.
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

/// MLX keeps a group size for the whole model and others for single layers.
fn mlx_group(config: &Json, base: &str) -> u64 {
    number(config, &["quantization", base, "group_size"])
        .or_else(|| number(config, &["quantization", "group_size"]))
        .unwrap_or(64)
}

/// A short name for how the checkpoint was quantized: the scheme id of what it stores.
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
