//! Computes the metadata values of [`Derived`] keys, from several hyperparameters or from the model's description.

use serde_json::Value as Json;

use super::error::ConvertError;
use super::source_config::{SourceConfig, as_count, bad, missing};
use crate::checkpoint::Pooling;
use crate::gguf::Value;
use crate::model::conversion::{AlphaPart, Derived};
use crate::model::{Attention, FeedForward, Key, Layer, ModelSpec, Number, TensorRole};

pub(super) fn f32_value(number: f64) -> Value {
    Value::F32(number as f32)
}

/// The value of the derived key `what`, if the model has one.
pub(super) fn derived(
    what: Derived,
    source: &SourceConfig<'_>,
) -> Result<Option<Value>, ConvertError> {
    match what {
        Derived::RopeScaling => {
            let kind = scaling(source)?;
            Ok(kind.map(|kind| Value::String(kind.to_owned())))
        }
        Derived::RopeScalingOrNone => {
            let kind = scaling(source)?.unwrap_or(NONE);
            Ok(Some(Value::String(kind.to_owned())))
        }
        Derived::NoRopeScaling => Ok(Some(Value::String(NONE.to_owned()))),
        Derived::RopeFactor => match scaling(source)? {
            Some("linear" | "yarn") => rope_number(source, Number::RopeFactor),
            _ => Ok(None),
        },
        Derived::OriginalContext => original_context(source).map(Some),
        Derived::YarnOriginalContext => match scaling(source)? {
            Some("yarn") => original_context(source).map(Some),
            _ => Ok(None),
        },
        Derived::Yarn(number) => match scaling(source)? {
            Some("yarn") => rope_number(source, number),
            _ => Ok(None),
        },
        Derived::RopeNumber { number, model_type } => {
            match source.get("model_type").and_then(Json::as_str) {
                Some(stated) if stated == model_type => match rope_number(source, number)? {
                    Some(value) => Ok(Some(value)),
                    None => Err(missing(number.hugging_face())),
                },
                _ => Ok(None),
            }
        }
        Derived::RopeBase => Ok(source.rope.base.map(f32_value)),
        Derived::WindowRopeBase => Ok(source.window_rope_base.map(f32_value)),
        Derived::RopeSections(otherwise) => {
            let stated = sections(source)?.or(otherwise.map(Vec::from));
            Ok(stated.map(Value::I32s))
        }
        Derived::DeepstackLayers => {
            let vision = source.model.config.get("vision_config");
            let blocks =
                vision.and_then(|vision| vision.get("deepstack_visual_indexes")?.as_array());
            Ok(Some(Value::U32(blocks.map_or(0, Vec::len) as u32)))
        }
        Derived::RopeDims(share) => {
            let share = rotary_share(source)?.unwrap_or(share);
            let head = attention(source).map(|a| a.key_dim);
            Ok(head.map(|head| Value::U32((head as f64 * share) as u32)))
        }
        Derived::LayerNormEpsilon => {
            let stated = source.number(Number::LayerNormEpsilon)?;
            let epsilon = match stated {
                None => source.number(Number::RmsEpsilon)?,
                stated => stated,
            };
            Ok(epsilon.map(f32_value))
        }
        Derived::RmsEpsilon => {
            let stated = source.number(Number::RmsEpsilon)?;
            let epsilon = match stated {
                None => source.number(Number::LayerNormEpsilon)?,
                stated => stated,
            };
            Ok(epsilon.map(f32_value))
        }
        Derived::AlphaScaled(part) => alpha_scaled(part, source),
        Derived::LongRopeAttnFactor => Ok(long_attn_factor(source)?.map(f32_value)),
        Derived::KvHeadsByBlock => {
            let heads = source.model.layers.iter().map(|layer| {
                let attention = layer.mixer.attention.as_ref();
                i32::try_from(attention.map_or(0, |a| a.kv_heads)).unwrap_or(i32::MAX)
            });
            Ok(Some(Value::I32s(heads.collect())))
        }
        Derived::DenseWidth => {
            let mut layers = source.model.layers.iter();
            let width = layers.find_map(|l| match l.feed_forward {
                FeedForward::Dense { inner } => u32::try_from(inner).ok(),
                _ => None,
            });
            Ok(width.map(Value::U32))
        }
        Derived::RopeDimsOfHidden => {
            let heads = attention(source).map(|a| a.heads).unwrap_or(0);
            let share = source.model.dims.hidden.checked_div(heads);
            Ok(share.map(|share| Value::U32(u32::try_from(share).unwrap_or(u32::MAX))))
        }
        Derived::OneKeyHead => Ok(Some(Value::U32(1))),
        Derived::LatentKeyWidth => {
            let latent = source.need(Key::KvLora)?;
            let rotary = source.need(Key::RopeDim)?;
            Ok(Some(Value::U32(latent.saturating_add(rotary))))
        }
        Derived::LatentWidth => source.need(Key::KvLora).map(|n| Some(Value::U32(n))),
        Derived::WholeKeyWidth | Derived::WholeHeadWidth => {
            let plain = source.need(Key::NopeDim)?;
            let rotary = source.need(Key::RopeDim)?;
            Ok(Some(Value::U32(plain.saturating_add(rotary))))
        }
        Derived::TenthOfYarnMultiplier => {
            let stated = source.rope.number(Number::YarnLogMultiplier)?;
            Ok(stated.map(|multiplier| f32_value(0.1 * multiplier)))
        }
        Derived::NormalizedShares => {
            let stated = source.get("norm_topk_prob").and_then(Json::as_bool);
            Ok(stated.filter(|stated| *stated).map(Value::Bool))
        }
        Derived::NoFeedForward | Derived::NoHeads => Ok(Some(Value::U32(0))),
        Derived::WidthsByBlock => {
            let widths = source.model.layers.iter().map(|l| match l.feed_forward {
                FeedForward::Dense { inner } | FeedForward::Experts { inner, .. } => {
                    i32::try_from(inner).unwrap_or(i32::MAX)
                }
                FeedForward::None => 0,
            });
            Ok(Some(Value::I32s(widths.collect())))
        }
        Derived::StateSpaceWidth => {
            // The output projection is as wide as the mixer.
            let mut tensors = source.model.tensors.iter();
            let width = tensors.find(|t| t.role == TensorRole::SsmOut);
            let width = width.and_then(|t| u32::try_from(t.row()).ok());
            Ok(width.map(Value::U32))
        }
        Derived::UsedPositions => {
            let context = source.model.dims.context;
            let stated = u32::try_from(context).unwrap_or(u32::MAX);
            Ok((context > 0).then_some(Value::U32(stated)))
        }
        Derived::UnboundedContext => Ok(Some(Value::U32(1 << 20))),
        Derived::ExpertScores => expert_scores(source),
        Derived::SigmoidScores => Ok(Some(Value::U32(SIGMOID))),
        Derived::DeltaNetWidth => {
            let heads = source.need(Key::SsmHeads)?;
            let width = source.need(Key::SsmHeadDim)?;
            Ok(Some(Value::U32(heads.saturating_mul(width))))
        }
        Derived::RecurrentLayers => Ok(by_block(source, |l| l.mixer.recurrent.is_some())),
        Derived::WindowPattern => Ok(by_block(source, is_windowed)),
        Derived::WindowPatternIfAny => {
            if source.model.layers.iter().any(is_windowed) {
                Ok(by_block(source, is_windowed))
            } else {
                Ok(None)
            }
        }
        Derived::DepthScale => {
            let scale = source.float(&["scale_depth"])?;
            let scale = scale.ok_or_else(|| missing(&["scale_depth"]))?;
            let blocks = source.model.dims.blocks as f64;
            Ok(Some(f32_value(scale / blocks.sqrt())))
        }
        Derived::BaseWidths => {
            let base = source.float(&["dim_model_base"])?;
            let base = base.ok_or_else(|| missing(&["dim_model_base"]))?;
            let hidden = f64::from(source.need(Key::Hidden)?);
            Ok(Some(f32_value(hidden / base)))
        }
        Derived::WholeContextHead(_) => {
            let layers = source.model.layers.iter();
            let mut attentions = layers.filter_map(|l| l.mixer.attention.as_ref());
            let whole = attentions.find(|a| a.window.is_none());
            let width = whole.and_then(|a| u32::try_from(a.key_dim).ok());
            Ok(width.map(Value::U32))
        }
        Derived::KvHeadsByBlockIfStated => {
            let own = |block: &Json| block.get("num_key_value_heads").is_some();
            let blocks = source.get("per_layer_config").and_then(Json::as_object);
            let stated = source.stated(Key::GlobalKvHeads).is_some()
                || blocks.is_some_and(|blocks| blocks.values().any(own));
            if stated {
                derived(Derived::KvHeadsByBlock, source)
            } else {
                Ok(None)
            }
        }
        Derived::DenseWidthsIfDouble => {
            let is_double = source.get("use_double_wide_mlp").and_then(Json::as_bool);
            let widths = source.model.layers.iter().map(|l| match l.feed_forward {
                FeedForward::Dense { inner } => inner,
                FeedForward::Experts { shared_inner, .. } => shared_inner,
                FeedForward::None => 0,
            });
            let widths = widths.map(|width| i32::try_from(width).unwrap_or(i32::MAX));
            Ok((is_double == Some(true)).then(|| Value::I32s(widths.collect())))
        }
        Derived::Labels(labels) => {
            let texts = labels
                .iter()
                .map(|label| Value::String((*label).to_owned()));
            Ok(ranks(source.model).then(|| Value::Array(texts.collect())))
        }
        Derived::StatedLabel => {
            let labels = source.get("id2label").and_then(Json::as_object);
            let label = labels.and_then(|labels| labels.values().next()?.as_str());
            let label = Value::String(label.unwrap_or("LABEL_0").to_owned());
            Ok(ranks(source.model).then(|| Value::Array(vec![label])))
        }
        Derived::RankPooling => Ok(ranks(source.model).then_some(Value::U32(Pooling::Rank as u32))),
        Derived::OfFirstBlock(key) => {
            let Some((name, value)) = source.stated(key) else {
                return Ok(None);
            };
            let first = match value.as_array() {
                Some(items) => items.first().ok_or_else(|| missing(&[name]))?,
                None => value,
            };
            as_count(name, first).map(|count| Some(Value::U32(count)))
        }
        Derived::Pooling => {
            let retrieval = source.model.retrieval.as_ref();
            let pooling = retrieval.and_then(|retrieval| retrieval.pooling);
            let pooling = pooling.filter(|pooling| *pooling != Pooling::Rank);
            Ok(pooling.map(|pooling| Value::U32(pooling as u32)))
        }
        Derived::ActivationSparsity => sparsity(source).map(|scales| Some(Value::F32s(scales))),
    }
}

/// Whether `model` ranks a pair of texts.
pub(super) fn ranks(model: &ModelSpec) -> bool {
    let pooling = model.retrieval.as_ref().and_then(|found| found.pooling);
    pooling == Some(Pooling::Rank)
}

/// GGUF's number of the sigmoid among functions of a router's scores.
const SIGMOID: u32 = 2;

fn expert_scores(source: &SourceConfig<'_>) -> Result<Option<Value>, ConvertError> {
    const KEYS: [&str; 2] = ["scoring_func", "score_function"];
    let Some((key, stated)) = KEYS.iter().find_map(|key| Some((*key, source.get(key)?))) else {
        return Ok(None);
    };
    match stated.as_str() {
        Some("softmax") => Ok(Some(Value::U32(1))),
        Some("sigmoid") => Ok(Some(Value::U32(SIGMOID))),
        _ => Err(bad(key, stated, "`softmax` or `sigmoid`")),
    }
}

/// GGUF's name of rotary positions that are not scaled.
const NONE: &str = "none";

fn is_windowed(layer: &Layer) -> bool {
    let attention = layer.mixer.attention.as_ref();
    attention.is_some_and(|a| a.window.is_some())
}

fn by_block(source: &SourceConfig<'_>, is: fn(&Layer) -> bool) -> Option<Value> {
    let layers = source.model.layers.iter();
    Some(Value::Array(layers.map(|l| Value::Bool(is(l))).collect()))
}

fn attention<'a>(source: &SourceConfig<'a>) -> Option<&'a Attention> {
    let mut layers = source.model.layers.iter();
    layers.find_map(|layer| layer.mixer.attention.as_ref())
}

fn rope_number(source: &SourceConfig<'_>, number: Number) -> Result<Option<Value>, ConvertError> {
    Ok(source.rope.number(number)?.map(f32_value))
}

/// GGUF's name of the kind of rotary scaling; `None` without scaling, and for kinds that become a tensor.
pub(super) fn scaling(source: &SourceConfig<'_>) -> Result<Option<&'static str>, ConvertError> {
    let factor = source.rope.number(Number::RopeFactor)?;
    Ok(match source.rope.kind {
        Some("linear") => factor.map(|_| "linear"),
        Some("yarn") => factor.map(|_| "yarn"),
        Some("su" | "longrope") => Some("longrope"),
        _ => None,
    })
}

/// The context of a model whose rotary positions `alpha` scales. It cannot be computed from `alpha`, and published
/// configurations state that of training or this one (`conversion/hunyuan.py` of llama.cpp).
const ALPHA_CONTEXT: u32 = 256 * 1024;

/// A part of what is written where `alpha` scales rotary positions: `base x alpha^(head / (head - 2))` is the base.
pub(super) fn alpha_scaled(
    part: AlphaPart,
    source: &SourceConfig<'_>,
) -> Result<Option<Value>, ConvertError> {
    let (Some("dynamic"), Some(alpha)) = (source.rope.kind, source.rope.float(&["alpha"])?) else {
        return Ok(None);
    };
    Ok(match part {
        AlphaPart::Base => {
            let base = source.rope.base.or(Number::RopeBase.default());
            let head = attention(source).map(|a| a.key_dim as f64);
            let scaled = |(base, head): (f64, f64)| base * alpha.powf(head / (head - 2.0));
            base.zip(head).map(scaled).map(f32_value)
        }
        AlphaPart::Kind => Some(Value::String(NONE.to_owned())),
        AlphaPart::Factor => Some(f32_value(1.0)),
        AlphaPart::OriginalContext | AlphaPart::Context => Some(Value::U32(ALPHA_CONTEXT)),
    })
}

const ORIGINAL_CONTEXT: &[&str] = Key::OriginalContext.hugging_face();

fn original_context_length(source: &SourceConfig<'_>) -> Result<f64, ConvertError> {
    let stated = match source.rope.float(ORIGINAL_CONTEXT)? {
        None => source.float(ORIGINAL_CONTEXT)?,
        stated => stated,
    };
    stated.ok_or_else(|| missing(ORIGINAL_CONTEXT))
}

fn original_context(source: &SourceConfig<'_>) -> Result<Value, ConvertError> {
    let length = original_context_length(source)?;
    if (0.0..=f64::from(u32::MAX)).contains(&length) {
        Ok(Value::U32(length as u32))
    } else {
        Err(missing(ORIGINAL_CONTEXT))
    }
}

/// The share of a head's elements that are rotated.
fn rotary_share(source: &SourceConfig<'_>) -> Result<Option<f64>, ConvertError> {
    const SHARE: &[&str] = &[
        "partial_rotary_factor",
        "rope_pct",
        "rope_percent",
        "rotary_pct",
    ];
    match source.rope.float(SHARE)? {
        None => source.float(SHARE),
        stated => Ok(stated),
    }
}

/// The factor on the softmax: sqrt(1 + ln(context / original) / ln(original)) for LongRoPE
/// (`modeling_rope_utils.py`), 1 + 0.1 ln(context / original) for YaRN.
fn long_attn_factor(source: &SourceConfig<'_>) -> Result<Option<f64>, ConvertError> {
    if !source.rope.has_list("long_factor") {
        return Ok(None);
    }
    let original = original_context_length(source)?;
    let context = source.need(Key::Context)?;
    let stretch = f64::from(context) / original;
    Ok(Some(match source.rope.kind {
        _ if stretch <= 1.0 => 1.0,
        Some("yarn") => 0.1 * stretch.ln() + 1.0,
        _ => (1.0 + stretch.ln() / original.ln()).sqrt(),
    }))
}

/// The activation sparsity of each block in standard deviations above the mean.
fn sparsity(source: &SourceConfig<'_>) -> Result<Vec<f32>, ConvertError> {
    const KEY: &str = "activation_sparsity_pattern";
    let blocks = source.model.dims.blocks.min(4096) as usize;
    // Without a pattern the first ten blocks keep 5 %, if the model has more than ten (`configuration_gemma3n.py`).
    let Some(pattern) = source.get(KEY) else {
        let sparse = if blocks > 10 { 10 } else { 0 };
        let share = |block| if block < sparse { 0.95 } else { 0.0 };
        return Ok((0..blocks).map(share).map(inverse_normal).collect());
    };
    let share = |value: &Json| {
        let number = value.as_f64().filter(|share| (0.0..1.0).contains(share));
        number.ok_or_else(|| bad(KEY, value, "a share below 1"))
    };
    let shares = match pattern.as_array() {
        Some(items) => items.iter().map(share).collect::<Result<Vec<f64>, _>>()?,
        None => vec![share(pattern)?; blocks],
    };
    Ok(shares.into_iter().map(inverse_normal).collect())
}

/// The numbers of rotary pairs for positions in time, height and width, padded to four with 0.
fn sections(source: &SourceConfig<'_>) -> Result<Option<Vec<i32>>, ConvertError> {
    const KEY: &str = "mrope_section";
    let Some(list) = source.rope.list(KEY) else {
        return Ok(None);
    };
    let part = |value: &Json| {
        let part = value.as_i64().and_then(|part| i32::try_from(part).ok());
        part.ok_or_else(|| bad(KEY, value, "a whole number of 31 bits"))
    };
    let mut parts: Vec<i32> = list.iter().take(4).map(part).collect::<Result<_, _>>()?;
    parts.resize(4, 0);
    Ok(Some(parts))
}

/// The quantile of the standard normal distribution at `share`, by bisection, exact to single precision.
fn inverse_normal(share: f64) -> f32 {
    if share <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if normal_below(middle) < share {
            low = middle
        } else {
            high = middle
        }
    }
    (0.5 * (low + high)) as f32
}

/// P(X < x) for a standard normal X: 1/2 + density(x) * (x + x^3/3 + x^5/15 + ...) (Marsaglia, J. Stat. Softw. 11(4),
/// 2004); beyond 8 standard deviations it is 0 or 1 in double precision.
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
