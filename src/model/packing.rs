//! Recognises how the weights of a quantized Hugging Face checkpoint are packed, by names and types, for planning
//! (which needs their logical shapes) and for reading them. Must not: read a weight.
//!
//! Layouts: FP8 with `weight_scale_inv` (DeepSeek, Qwen) or `weight_scale`; compressed-tensors
//! (`weight_packed`, `weight_scale`, ...); GPTQ and AWQ (`qweight`, `qzeros`, `scales`, `g_idx`);
//! bitsandbytes (`weight.absmax`, `SCB`, ...); MLX (`weight` in U32 with `scales`, `biases`);
//! MXFP4 of gpt-oss (`_blocks`, `_scales`); NVFP4 of ModelOpt (`weight` in U8 with `weight_scale`
//! in FP8 and `weight_scale_2`).

use serde_json::Value as Json;

use super::hparams::json_lookup;
use crate::checkpoint::StoredTensor;
use crate::dtype::Dtype;

/// How the numbers of a weight are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// One element per weight, with or without scales.
    Elements,
    /// Integers of compressed-tensors, in words along a row.
    Words,
    /// Four-bit floats, two to a byte along a row.
    FourBitFloats,
    /// Four-bit floats with a further dimension for the bytes of a block, as in gpt-oss.
    FourBitFloatBlocks,
    /// Integers of GPTQ and AWQ, with a row for each input.
    ByInputs,
    /// Integers of MLX, in words along a row.
    Mlx,
    /// Codes of bitsandbytes, two to a byte, without the weight's shape.
    BitsAndBytes,
}

macro_rules! companions {
    ($($(#[$about:meta])* $name:ident [$($end:literal)*])*) => {
        /// The role of a stored tensor that belongs to a packed weight.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Companion { $($(#[$about])* $name),* }

        /// Suffixes of their names, after the base name of the weight.
        const COMPANIONS: &[(&str, Companion)] = &[$($(($end, Companion::$name)),*),*];
    };
}

companions! {
    /// Block scales of FP8.
    ScaleInv [".weight_scale_inv"]
    /// ModelOpt's scale of the block scales.
    SecondScale [".weight_scale_2"]
    /// Scales.
    Scale [".weight_scale"]
    /// Zero points.
    ZeroPoint [".weight_zero_point"]
    /// The group of each input.
    GroupIndex [".weight_g_idx" ".g_idx"]
    /// The shape of the unpacked weight.
    Shape [".weight_shape"]
    /// The number that block scales are divided by.
    GlobalScale [".weight_global_scale"]
    /// Zero points of GPTQ and AWQ.
    Zeros [".qzeros"]
    /// Scales of GPTQ, AWQ and MLX.
    Scales [".scales"]
    /// Biases of MLX.
    Biases [".biases"]
    /// Row maxima of bitsandbytes' integers.
    RowMaxima [".SCB"]
    /// The order of bitsandbytes' integers.
    Format [".weight_format"]
    /// Block scales of a stack of experts.
    StackScales ["_scales"]
    /// Block maxima of bitsandbytes.
    BlockMaxima [".weight.absmax"]
    /// The block maxima of quantized block maxima.
    NestedMaxima [".weight.nested_absmax"]
    /// The value of each code of bitsandbytes.
    Map [".weight.quant_map"]
    /// The value of each code of a block's maximum.
    NestedMap [".weight.nested_quant_map"]
    /// bitsandbytes' description of the weight, as JSON.
    State [".weight.quant_state.bitsandbytes__nf4" ".weight.quant_state.bitsandbytes__fp4"]
    /// Scales of activations or of the cache, which do not change the weight.
    Aside [
        ".input_global_scale" ".input_scale" ".input_scale_ub" ".activation_scale" ".input_zero_point"
        ".output_scale" ".k_scale" ".v_scale"
    ]
}

impl Companion {
    /// The base name of the weight that the tensor `name` belongs to, and its role.
    pub(super) fn of_name(name: &str) -> Option<(&str, Companion)> {
        let found = |(end, kind): &(&str, Companion)| Some((name.strip_suffix(end)?, *kind));
        COMPANIONS.iter().find_map(found)
    }

    /// The usual suffix of its name.
    pub fn usual_end(self) -> &'static str {
        let found = COMPANIONS.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(end, _)| end)
    }

    /// Whether it scales the weight.
    pub(super) fn is_scale(self) -> bool {
        use Companion::*;
        matches!(
            self,
            ScaleInv | SecondScale | Scale | GlobalScale | Scales | StackScales | RowMaxima
        )
    }
}

/// Suffixes of tensors that hold the weight itself, with the suffix in an unquantized checkpoint.
const WEIGHTS: &[(&str, &str)] = &[
    (".weight_packed", ".weight"),
    (".qweight", ".weight"),
    (".weight", ".weight"),
    ("_blocks", ""),
];

/// The base name of a tensor that holds a weight.
pub(super) fn base(name: &str) -> Option<&str> {
    WEIGHTS.iter().find_map(|(end, _)| name.strip_suffix(end))
}

impl Packing {
    /// The packing of `weight` by its name, its type and the companions that it `has`.
    pub(super) fn of(weight: &StoredTensor, has: impl Fn(Companion) -> bool) -> Packing {
        let named = |end: &str| weight.name.ends_with(end);
        match weight.dtype {
            _ if named(".qweight") => Packing::ByInputs,
            Dtype::U8 if named(".weight_packed") => Packing::FourBitFloats,
            _ if named(".weight_packed") => Packing::Words,
            Dtype::U32 if has(Companion::Scales) => Packing::Mlx,
            Dtype::U8 if has(Companion::BlockMaxima) => Packing::BitsAndBytes,
            Dtype::U8 if named("_blocks") => Packing::FourBitFloatBlocks,
            Dtype::U8 if has(Companion::SecondScale) => Packing::FourBitFloats,
            _ => Packing::Elements,
        }
    }

    /// The name in an unquantized checkpoint of the weight that is stored as `name`.
    pub(super) fn unpacked_name(self, name: &str) -> String {
        let renamed =
            |(end, usual): &(&str, &str)| Some(format!("{}{usual}", name.strip_suffix(end)?));
        match self {
            Packing::Elements => name.to_owned(),
            _ => WEIGHTS.iter().find_map(renamed).unwrap_or(name.to_owned()),
        }
    }
}

/// A weight of GPTQ or AWQ, stored by inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByInputs {
    /// Outputs: rows of the weight.
    pub outputs: u64,
    /// Inputs: its columns.
    pub inputs: u64,
    /// Bits of a code.
    pub bits: u64,
    /// Whether a word holds codes of several inputs (GPTQ) instead of several outputs (AWQ).
    pub along_inputs: bool,
}

impl ByInputs {
    /// From the shapes of codes (`[lines, stored]` words), scales and zero points. GPTQ packs codes along the inputs, AWQ
    /// along the outputs; both have one scale per output and group. Zero points and AWQ's codes are packed along the
    /// outputs, which gives the number of bits; without zero points it is `stated`.
    pub fn new(
        [lines, stored]: [u64; 2],
        scales: Option<&[u64]>,
        zeros: Option<&[u64]>,
        stated: Option<u64>,
    ) -> ByInputs {
        let last = |shape: &[u64]| shape.last().copied();
        let outputs = scales.and_then(last).unwrap_or(stored);
        let along_inputs = outputs == stored;
        let words = if along_inputs {
            zeros.and_then(last)
        } else {
            Some(stored)
        };
        let bits = match words {
            Some(words) => words.saturating_mul(32) / outputs.max(1),
            None => stated.unwrap_or(4),
        };
        ByInputs {
            outputs,
            inputs: if along_inputs {
                lines.saturating_mul(32) / bits.max(1)
            } else {
                lines
            },
            bits,
            along_inputs,
        }
    }
}

/// The part of a `config.json` that describes the quantization, under any of its names.
pub fn quantization_config(config: &Json) -> Option<&Json> {
    let keys = ["quantization_config", "compression_config", "quantization"];
    let found = |key: &&str| json_lookup(config, key).filter(|value| value.is_object());
    keys.iter().find_map(found)
}

/// The settings of a quantization for each group of weights (compressed-tensors).
pub fn weight_settings(quantization: &Json) -> impl Iterator<Item = &Json> {
    let groups = quantization.get("config_groups").and_then(Json::as_object);
    let groups = groups.into_iter().flat_map(|groups| groups.values());
    groups.filter_map(|group| group.get("weights"))
}

/// The bits of weights that a quantization states, for each group of weights.
pub fn stated_bits(quantization: &Json) -> impl Iterator<Item = u64> {
    weight_settings(quantization).filter_map(|weights| weights.get("num_bits")?.as_u64())
}
