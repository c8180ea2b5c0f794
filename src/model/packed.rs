//! Stored tensors as logical weights: packed words, scales and zero points of quantized
//! Hugging Face checkpoints are folded into the weight they belong to.
//!
//! Layouts: FP8 with `weight_scale_inv` (DeepSeek, Qwen) or `weight_scale`; compressed-tensors
//! (`weight_packed`, `weight_scale`, ...); GPTQ and AWQ (`qweight`, `qzeros`, `scales`, `g_idx`);
//! bitsandbytes (`weight.absmax`, `SCB`, ...); MLX (`weight` in U32 with `scales`, `biases`);
//! MXFP4 of gpt-oss (`_blocks`, `_scales`); NVFP4 of ModelOpt (`weight` in U8 with `weight_scale`
//! in FP8 and `weight_scale_2`).

use std::collections::HashMap;

use serde_json::Value as Json;

use super::ModelError;
use super::facts::json_lookup;
use crate::checkpoint::StoredTensor;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// A weight of a Hugging Face checkpoint as the model sees it: one stored tensor, or packed words
/// with all that belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Logical {
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
    /// The stored tensors it is made of, as indices into the checkpoint's, the weight itself first.
    pub sources: Vec<u32>,
}

impl Logical {
    /// Whether it is what a module calls `weight`: no bias, no number on its own.
    pub fn is_weight(&self) -> bool {
        self.name.ends_with(".weight")
    }
}

/// Ends of names that carry the weight itself.
const WEIGHTS: &[&str] = &[".weight_packed", ".qweight", ".weight", "_blocks"];

/// Ends of names that belong to the weight of the same base name.
const COMPANIONS: &[&str] = &[
    ".weight_scale_inv",
    ".weight_scale_2",
    ".weight_scale",
    ".weight_zero_point",
    ".weight_g_idx",
    ".weight_shape",
    ".weight_global_scale",
    ".input_global_scale",
    ".input_scale",
    ".input_scale_ub",
    ".activation_scale",
    ".input_zero_point",
    ".output_scale",
    ".k_scale",
    ".v_scale",
    ".qzeros",
    ".g_idx",
    ".scales",
    ".biases",
    ".SCB",
    ".weight_format",
    "_scales",
    ".weight.absmax",
    ".weight.nested_absmax",
    ".weight.quant_map",
    ".weight.nested_quant_map",
    ".weight.quant_state.bitsandbytes__nf4",
    ".weight.quant_state.bitsandbytes__fp4",
];

/// Folds companions into their weights. Order follows the weights.
pub(super) fn logical(stored: &[StoredTensor], config: &Json) -> Result<Vec<Logical>, ModelError> {
    let mut bases: HashMap<&str, usize> = HashMap::new();
    for (index, tensor) in stored.iter().enumerate() {
        if let Some(base) = WEIGHTS.iter().find_map(|end| tensor.name.strip_suffix(end)) {
            bases.insert(base, index);
        }
    }
    let mut companions: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut folded = vec![false; stored.len()];
    for (index, tensor) in stored.iter().enumerate() {
        let base = COMPANIONS
            .iter()
            .find_map(|end| tensor.name.strip_suffix(end));
        if let Some(&weight) = base
            .and_then(|base| bases.get(base))
            .filter(|&&weight| weight != index)
        {
            companions.entry(weight).or_default().push(index);
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
pub(super) fn scaled(logical: &[Logical], stored: &[StoredTensor]) -> Result<(), ModelError> {
    let is_scale = |name: &str| {
        let of_activations = name.ends_with(".input_scale") || name.ends_with(".activation_scale");
        name.contains("scale") && !of_activations
    };
    let eight_bit = logical.iter().filter(|weight| {
        matches!(weight.dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2) && weight.shape.len() > 1
    });
    for weight in eight_bit {
        let mut parts = weight
            .sources
            .iter()
            .filter_map(|&i| stored.get(i as usize));
        if !parts.any(|part| is_scale(&part.name)) {
            return Err(ModelError::MissingTensor {
                tensor: format!("{}_scale", weight.name),
            });
        }
    }
    Ok(())
}

fn unpack(
    stored: &[StoredTensor],
    index: usize,
    companions: &[usize],
    config: &Json,
) -> Result<Logical, ModelError> {
    let weight = &stored[index];
    let companion = |end: &str| {
        companions
            .iter()
            .map(|&i| &stored[i])
            .find(|t| t.name.ends_with(end))
    };
    let too_large = || ModelError::TooLarge {
        tensor: weight.name.clone(),
        shape: weight.shape.clone(),
    };
    let scales = |end: &str| companion(end).map(|t| t.shape.as_slice());
    let kept = || weight.name.clone();
    let packed = weight.name.ends_with(".weight_packed");
    let (name, shape, dtype) = match (weight.shape.as_slice(), weight.dtype) {
        (shape, Dtype::I32) if packed => {
            let bits = compressed_tensors_bits(config).unwrap_or(4);
            let name = renamed(weight, ".weight_packed");
            (name, widened(shape, 32, bits), packed_dtype(bits))
        }
        (shape, Dtype::U8) if packed => {
            let format = four_bit_float(companion(".weight_scale"));
            (
                renamed(weight, ".weight_packed"),
                widened(shape, 8, 4),
                format,
            )
        }
        (&[first, second], Dtype::I32) if weight.name.ends_with(".qweight") => {
            // GPTQ packs along the inputs, AWQ along the outputs; both keep one scale per output.
            let last = |shape: &[u64]| shape.last().copied();
            let outputs = scales(".scales").and_then(last).unwrap_or(second);
            let words = match outputs == second {
                true => scales(".qzeros").and_then(last),
                false => Some(second),
            };
            // Zero points and AWQ's weights are packed along the outputs, so they tell the bits.
            let bits = match words {
                Some(words) => words.saturating_mul(32) / outputs.max(1),
                None => number(config, &["quantization_config", "bits"]).unwrap_or(4),
            };
            let bits = bits.clamp(1, 32);
            let shape = match outputs == second {
                true => widened(&[second, first], 32, bits),
                false => Some(vec![outputs, first]),
            };
            (renamed(weight, ".qweight"), shape, packed_dtype(bits))
        }
        (shape @ [.., words], Dtype::U32) if companion(".scales").is_some() => {
            let base = weight.name.strip_suffix(".weight").unwrap_or(&weight.name);
            let groups = scales(".scales")
                .and_then(|s| s.last().copied())
                .unwrap_or(0);
            let columns = groups
                .checked_mul(mlx_group(config, base))
                .ok_or_else(too_large)?;
            let bits = (words.saturating_mul(32) / columns.max(1)).clamp(1, 32);
            (kept(), with_columns(shape, columns), packed_dtype(bits))
        }
        (shape, Dtype::U8) if companion(".weight.absmax").is_some() => {
            let nibbles = shape.iter().try_fold(2u64, |n, &d| n.checked_mul(d));
            (kept(), nibbles.map(|n| vec![n]), Dtype::INT4)
        }
        (shape, Dtype::U8) if companion(".weight_scale_2").is_some() => (
            kept(),
            widened(shape, 8, 4),
            four_bit_float(companion(".weight_scale")),
        ),
        (&[experts, rows, blocks, _], Dtype::U8) if companion("_scales").is_some() => {
            let shape = blocks
                .checked_mul(32)
                .map(|columns| vec![experts, rows, columns]);
            (renamed(weight, "_blocks"), shape, Dtype::MXFP4)
        }
        (shape, dtype) => (kept(), Some(shape.to_vec()), dtype),
    };
    let shape = shape.ok_or_else(too_large)?;
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let elements = elements.ok_or_else(too_large)?;
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let slack = match weight.dtype {
        Dtype::I32 if packed => {
            let in_word = columns / weight.shape.last().copied().unwrap_or(1).max(1);
            (elements / columns).saturating_mul(in_word.saturating_sub(1))
        }
        _ => 0,
    };
    let sources = std::iter::once(index).chain(companions.iter().copied());
    Ok(Logical {
        name,
        shape,
        dtype,
        slack,
        bytes: sources.clone().map(|i| stored[i].bytes).sum(),
        sources: sources.map(|i| i as u32).collect(),
    })
}

fn renamed(weight: &StoredTensor, end: &str) -> String {
    let base = weight.name.strip_suffix(end).unwrap_or(&weight.name);
    if end == "_blocks" {
        base.to_owned()
    } else {
        format!("{base}.weight")
    }
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

fn compressed_tensors_bits(config: &Json) -> Option<u64> {
    let groups = json_lookup(config, "quantization_config")?
        .get("config_groups")?
        .as_object()?;
    groups
        .values()
        .find_map(|group| group.get("weights")?.get("num_bits")?.as_u64())
}

/// MLX keeps a group size for the whole model and others for single layers.
fn mlx_group(config: &Json, base: &str) -> u64 {
    number(config, &["quantization", base, "group_size"])
        .or_else(|| number(config, &["quantization", "group_size"]))
        .unwrap_or(64)
}

/// A short name for how the checkpoint was quantized: the scheme id of what it stores.
pub(super) fn label(config: &Json, tensors: &[Logical]) -> Option<String> {
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
