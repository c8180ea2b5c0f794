//! What conversion does to weights: the change of a tensor's values or of the order of its rows, and
//! the rotary tables that no checkpoint stores. In: a tensor's role, a configuration. Out: a
//! [`Change`], or a table. Must not: read weights.

use serde_json::Value as Json;

use super::ConvertError;
use super::hparams::{Hparams, bad, missing};
use super::rules::conversion;
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::model::{ModelSpec, Tensor, TensorRole};

/// How a GGUF's tensor differs from the checkpoint's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    #[default]
    None,
    /// One is added: the runtime multiplies by the weight where the model multiplies by one more.
    AddOne,
    /// The rows of each head are dealt from two halves into pairs: llama.cpp turns neighbours, where
    /// Transformers turns an element with the one half a head further.
    RotaryPairs,
}

/// Llama's queries and keys (`LlamaModel.permute` of llama.cpp's `conversion/llama.py`).
pub(super) fn rotary_pairs(role: TensorRole) -> Change {
    match role {
        TensorRole::AttnQ | TensorRole::AttnK => Change::RotaryPairs,
        _ => Change::None,
    }
}

/// Gemma's norms (`norm_shift` of llama.cpp's `conversion/gemma.py`).
pub(super) fn shifted_norms(role: TensorRole) -> Change {
    match role.info().stem.ends_with("norm") {
        true => Change::AddOne,
        false => Change::None,
    }
}

pub(super) fn unchanged(_: TensorRole) -> Change {
    Change::None
}

/// What conversion does to `tensor` of `model`.
///
/// # Errors
/// [`ConvertError::Unsupported`] for an architecture without a conversion.
pub fn change(model: &ModelSpec, tensor: &Tensor) -> Result<Change, ConvertError> {
    Ok((conversion(&model.architecture)?.weights)(tensor.role))
}

/// The source row of row `row` under [`Change::RotaryPairs`], for heads of `head` rows.
///
/// A head's rows `(0, 1, 2, 3, ..)` become `(0, h, 1, h + 1, ..)`, `h` being half a head.
pub fn rotary_source(row: u64, head: u64) -> u64 {
    let half = head / 2;
    let (start, inside) = (row - row % head, row % head);
    start + inside / 2 + inside % 2 * half
}

/// The factors of a rotary table, one per pair of a head: for `rope_freqs` by how much Llama 3
/// stretches each frequency, for `rope_factors_*` the configuration's own lists.
///
/// # Errors
/// [`ConvertError::MissingKey`] or [`ConvertError::BadValue`] where the configuration does not say.
pub fn rope_table(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    role: TensorRole,
) -> Result<Vec<f32>, ConvertError> {
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let defaults = conversion(&model.architecture)?.defaults;
    let hparams = Hparams::new(config, model, defaults)?;
    match role {
        TensorRole::RopeFactorsLong => listed(&hparams, "long_factor"),
        TensorRole::RopeFactorsShort => listed(&hparams, "short_factor"),
        _ => stretched(&hparams),
    }
}

fn listed(hparams: &Hparams<'_>, key: &'static str) -> Result<Vec<f32>, ConvertError> {
    let list = hparams.rope.list(key).ok_or_else(|| missing(&[key]))?;
    let number = |value: &Json| value.as_f64().ok_or_else(|| bad(key, value, "a number"));
    list.iter()
        .map(|value| number(value).map(|n| n as f32))
        .collect()
}

/// Long waves are stretched by the factor, short ones not at all, those between in part
/// (`_compute_llama3_parameters` of Transformers' `modeling_rope_utils.py`).
fn stretched(hparams: &Hparams<'_>) -> Result<Vec<f32>, ConvertError> {
    let of = |key: &'static str, or: f64| {
        let stated = hparams.rope.float(&[key])?;
        Ok::<f32, ConvertError>(stated.unwrap_or(or) as f32)
    };
    let base = hparams.rope.base.unwrap_or(10_000.0);
    let factor = of("factor", 8.0)?;
    let low = of("low_freq_factor", 1.0)?;
    let high = of("high_freq_factor", 4.0)?;
    let context = of("original_max_position_embeddings", 8192.0)?;
    let attention = || {
        let mut layers = hparams.model.layers.iter();
        layers.find_map(|layer| layer.mixer.attention.as_ref())
    };
    let dim = attention().map_or(0, |a| a.key_dim);
    let pair = |first: u64| {
        // The power in double precision: the nearest single one does not hang on the machine.
        let exponent = first as f32 / dim as f32;
        let frequency = 1.0 / base.powf(f64::from(exponent)) as f32;
        let wave = (2.0 * std::f64::consts::PI) as f32 / frequency;
        if wave < context / high {
            1.0
        } else if wave > context / low {
            factor
        } else {
            let smooth = (context / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..dim).step_by(2).map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heads_halves_become_pairs() {
        let order: Vec<u64> = (0..12).map(|row| rotary_source(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }
}
