//! Values that are made from several hyperparameters: rotary scaling, and what Phi-3 and Gemma 3n
//! state in forms of their own.

use serde_json::Value as Json;

use super::error::ConvertError;
use super::hparams::{Hparams, bad, missing};
use super::rules::f32_value;
use crate::gguf::Value;

/// The kind of rotary scaling as GGUF names it; `None` for none and for what becomes a tensor.
pub(super) fn scaling(hparams: &Hparams<'_>) -> Result<Option<&'static str>, ConvertError> {
    let factor = hparams.rope.float(&["factor"])?;
    Ok(match hparams.rope.kind {
        Some("linear") => factor.map(|_| "linear"),
        Some("yarn") => factor.map(|_| "yarn"),
        Some("su" | "longrope") => Some("longrope"),
        _ => None,
    })
}

pub(super) fn yarn(hparams: &Hparams<'_>, keys: &[&str]) -> Result<Option<Value>, ConvertError> {
    match scaling(hparams)? {
        Some("yarn") => Ok(hparams.rope.float(keys)?.map(f32_value)),
        _ => Ok(None),
    }
}

const ORIGINAL_CONTEXT: &[&str] = &["original_max_position_embeddings"];

fn original_context_length(hparams: &Hparams<'_>) -> Result<f64, ConvertError> {
    let stated = match hparams.rope.float(ORIGINAL_CONTEXT)? {
        None => hparams.float(ORIGINAL_CONTEXT)?,
        stated => stated,
    };
    stated.ok_or_else(|| missing(ORIGINAL_CONTEXT))
}

pub(super) fn original_context(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let length = original_context_length(hparams)?;
    match (0.0..=f64::from(u32::MAX)).contains(&length) {
        true => Ok(Some(Value::U32(length as u32))),
        false => Err(missing(ORIGINAL_CONTEXT)),
    }
}

fn rotary_part(hparams: &Hparams<'_>) -> Result<Option<f64>, ConvertError> {
    const PART: &[&str] = &["partial_rotary_factor", "rope_pct", "rope_percent"];
    match hparams.rope.float(PART)? {
        None => hparams.float(PART),
        stated => Ok(stated),
    }
}

/// Phi-3: the part of a head that turns.
pub(super) fn partial_rope_dims(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let part = rotary_part(hparams)?;
    let hidden = hparams.need(&["hidden_size", "n_embd"])?;
    let heads = hparams.need(&["num_attention_heads", "n_head"])?;
    let turning = (part.unwrap_or(1.0) * f64::from(hidden)) as u32;
    Ok(turning.checked_div(heads).map(Value::U32))
}

/// Phi-3 with long factors: the softmax is scaled by sqrt(1 + ln(context / original) /
/// ln(original)) (`modeling_rope_utils.py`), for yarn by 1 + 0.1 ln(context / original).
pub(super) fn long_attn_factor(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    if !hparams.rope.has_list("long_factor") {
        return Ok(None);
    }
    let original = original_context_length(hparams)?;
    let context = hparams.need(&["n_positions", "max_position_embeddings"])?;
    let stretch = f64::from(context) / original;
    let factor = match hparams.rope.kind {
        _ if stretch <= 1.0 => 1.0,
        Some("yarn") => 0.1 * stretch.ln() + 1.0,
        _ => (1.0 + stretch.ln() / original.ln()).sqrt(),
    };
    Ok(Some(f32_value(factor)))
}

/// Gemma 3n: the sparsity of each layer as a number of standard deviations.
pub(super) fn sparsity_scale(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    const KEY: &str = "activation_sparsity_pattern";
    // Without a pattern the first ten layers keep 5 %, if there are more (`configuration_gemma3n.py`).
    let Some(pattern) = hparams.get(KEY) else {
        let blocks = hparams.model.dims.blocks.min(4096);
        let sparse = if blocks > 10 { 10 } else { 0 };
        let layers = 0..blocks;
        let scale = |layer| {
            if layer < sparse {
                inverse_normal(0.95)
            } else {
                inverse_normal(0.0)
            }
        };
        return Ok(Some(Value::F32s(layers.map(scale).collect())));
    };
    let share = |value: &Json| {
        let number = value.as_f64().filter(|share| (0.0..1.0).contains(share));
        number.ok_or_else(|| bad(KEY, value, "a share below 1"))
    };
    let shares = match pattern.as_array() {
        Some(items) => items.iter().map(share).collect::<Result<Vec<f64>, _>>()?,
        None => vec![share(pattern)?; hparams.model.dims.blocks.min(4096) as usize],
    };
    let scales = shares.into_iter().map(inverse_normal).collect();
    Ok(Some(Value::F32s(scales)))
}

pub(super) fn window_pattern(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let windowed = hparams.model.layers.iter().map(|layer| {
        let attention = layer.mixer.attention.as_ref();
        Value::Bool(attention.is_some_and(|a| a.window.is_some()))
    });
    Ok(Some(Value::Array(windowed.collect())))
}

/// Parts of a head that turn by the place of a token in time, height and width, filled up to four.
pub(super) fn sections(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    const KEY: &str = "mrope_section";
    let Some(list) = hparams.rope.list(KEY) else {
        return Ok(None);
    };
    let part = |value: &Json| {
        let part = value.as_i64().and_then(|part| i32::try_from(part).ok());
        part.ok_or_else(|| bad(KEY, value, "a whole number of 31 bits"))
    };
    let mut parts: Vec<i32> = list.iter().take(4).map(part).collect::<Result<_, _>>()?;
    parts.resize(4, 0);
    Ok(Some(Value::I32s(parts)))
}

/// A number of Ministral 3's rotary parameters; the text part of Mistral Small 3 has none.
pub(super) fn ministral3(
    hparams: &Hparams<'_>,
    key: &'static str,
) -> Result<Option<Value>, ConvertError> {
    match hparams.get("model_type").and_then(Json::as_str) {
        Some("ministral3") => {
            let stated = hparams.rope.float(&[key])?;
            Ok(Some(f32_value(stated.ok_or_else(|| missing(&[key]))?)))
        }
        _ => Ok(None),
    }
}

/// Heads of keys in each block, none where there is no attention.
pub(super) fn kv_heads_by_block(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let heads = hparams.model.layers.iter().map(|layer| {
        let attention = layer.mixer.attention.as_ref();
        i32::try_from(attention.map_or(0, |a| a.kv_heads)).unwrap_or(i32::MAX)
    });
    Ok(Some(Value::I32s(heads.collect())))
}

/// The width of a delta net's values, all heads together.
pub(super) fn delta_net_width(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let heads = hparams.need(&["linear_num_value_heads"])?;
    let width = hparams.need(&["linear_value_head_dim"])?;
    Ok(Some(Value::U32(heads.saturating_mul(width))))
}

pub(super) fn recurrent_layers(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let layers = hparams.model.layers.iter();
    let recurrent = layers.map(|layer| Value::Bool(layer.mixer.recurrent.is_some()));
    Ok(Some(Value::Array(recurrent.collect())))
}

/// The part of a head that turns: a quarter unless stated.
pub(super) fn quarter_rope_dims(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let part = rotary_part(hparams)?.unwrap_or(0.25);
    let mut layers = hparams.model.layers.iter();
    let head = layers.find_map(|layer| Some(layer.mixer.attention.as_ref()?.key_dim));
    Ok(head.map(|head| Value::U32((head as f64 * part) as u32)))
}

/// The value below which a standard normal variable falls with probability `share`: bisection on
/// the error function, exact to single precision.
fn inverse_normal(share: f64) -> f32 {
    if share <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match normal_below(middle) < share {
            true => low = middle,
            false => high = middle,
        }
    }
    (0.5 * (low + high)) as f32
}

/// P(X < x) for a standard normal X: Marsaglia's series, x + x^3/3 + x^5/15 + ..., times the
/// density (J. Stat. Softw. 11(4), 2004); beyond 8 deviations it is 0 or 1 to double precision.
fn normal_below(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}
