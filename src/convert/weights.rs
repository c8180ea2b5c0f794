//! The conversion of a tensor: the change of its weights by the rules of its architecture, or the values of a tensor
//! that no checkpoint stores. In: a tensor, a configuration. Out: a [`Change`], or values. Must not: read weights.

use serde_json::Value as Json;

use super::ConvertError;
use super::change::Change;
use super::keys::conversion;
use super::source_config::{SourceConfig, bad, missing};
use super::weight_transforms;
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::model::{ModelSpec, Number, Tensor, TensorRole};

/// The change from the stored weights of `tensor` of `model` to those of a GGUF.
///
/// # Errors
/// [`ConvertError::Unsupported`] for an architecture without a conversion, [`ConvertError::MissingKey`] or
/// [`ConvertError::BadValue`] for a hyperparameter that the change depends on.
pub fn change(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    tensor: &Tensor,
) -> Result<Change, ConvertError> {
    let RawConfig::HuggingFace(_) = &checkpoint.config else {
        return Ok(Change::default());
    };
    let conversion = conversion(model)?;
    let source = SourceConfig::new(model)?.with_weights(checkpoint);
    weight_transforms::change(conversion.weights, tensor, &source)
}

/// The values of a tensor that no checkpoint stores. Norms have ones. A rotary table has a factor for each pair of a head:
/// `rope_freqs` Llama 3's on the wavelength of each pair, `rope_factors_*` the lists of the configuration.
///
/// # Errors
/// [`ConvertError::MissingKey`] or [`ConvertError::BadValue`] if the configuration lacks a parameter or states a wrong
/// one.
pub fn computed(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    tensor: &Tensor,
) -> Result<Vec<f32>, ConvertError> {
    if !tensor.role.is_rope_table() {
        return Ok(vec![1.0; tensor.elements() as usize]);
    }
    let RawConfig::HuggingFace(_) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let source = SourceConfig::new(model)?;
    match tensor.role {
        TensorRole::RopeFactorsLong => listed(&source, "long_factor"),
        TensorRole::RopeFactorsShort => listed(&source, "short_factor"),
        _ if source.rope.kind == Some("proportional") => proportional(&source),
        _ => stretched(&source),
    }
}

/// Factors of a head of which a share of the pairs turns: the others have one that stops them (`Gemma4Model` of llama.cpp's
/// `conversion/gemma.py`).
fn proportional(source: &SourceConfig<'_>) -> Result<Vec<f32>, ConvertError> {
    const STOPPED: f32 = 1e30;
    let layers = source.model.layers.iter();
    let mut attentions = layers.filter_map(|layer| layer.mixer.attention.as_ref());
    let whole = attentions.find(|attention| attention.window.is_none());
    let pairs = whole.map_or(0, |attention| attention.key_dim) / 2;
    let share = source.rope.float(&["partial_rotary_factor"])?;
    let turning = (share.unwrap_or(1.0) * pairs as f64) as u64;
    let factor = |pair| if pair < turning { 1.0 } else { STOPPED };
    Ok((0..pairs).map(factor).collect())
}

fn listed(source: &SourceConfig<'_>, key: &'static str) -> Result<Vec<f32>, ConvertError> {
    let list = source.rope.list(key).ok_or_else(|| missing(&[key]))?;
    let number = |value: &Json| value.as_f64().ok_or_else(|| bad(key, value, "a number"));
    list.iter()
        .map(|value| number(value).map(|n| n as f32))
        .collect()
}

/// Llama 3's factors: long wavelengths are scaled by the full factor, short ones not at all, and those between in part
/// (`_compute_llama3_parameters` of Transformers' `modeling_rope_utils.py`).
fn stretched(source: &SourceConfig<'_>) -> Result<Vec<f32>, ConvertError> {
    let of = |key: &'static str, or: f64| {
        let stated = source.rope.float(&[key])?;
        Ok::<f32, ConvertError>(stated.unwrap_or(or) as f32)
    };
    let base = source.rope.base.or(Number::RopeBase.default());
    let base = base.unwrap_or_default();
    let factor = of("factor", 8.0)?;
    let low = of("low_freq_factor", 1.0)?;
    let high = of("high_freq_factor", 4.0)?;
    let context = of("original_max_position_embeddings", 8192.0)?;
    // Between both, a share grows from one to the other.
    let in_order = 0.0 < low && low < high && factor >= 1.0 && context > 0.0;
    if !in_order {
        return Err(bad(
            "rope_scaling.low_freq_factor",
            &f64::from(low).into(),
            "above 0 and below `high_freq_factor`, with a factor of at least 1",
        ));
    }
    let attention = || {
        let mut layers = source.model.layers.iter();
        layers.find_map(|layer| layer.mixer.attention.as_ref())
    };
    let dim = attention().map_or(0, |a| a.key_dim);
    let pair = |first: u64| {
        // The power is computed in double precision and then rounded, so that the result is machine-independent.
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
