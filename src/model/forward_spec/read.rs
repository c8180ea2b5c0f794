//! The arithmetic of a forward pass from the traits of an architecture and the metadata of its file.
//!
//! In: an entry of the table, and hyperparameters. Out: a [`ForwardSpec`].

use super::{
    Activation, ArchTraits, AttentionScale, ForwardSpec, NormKind, OutputScale, Rope, RopeStyle,
    RotatedBlocks, Routing, Scores, Temperature, Xielu, Yarn,
};
use crate::gguf::Value;
use crate::model::ModelError;
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{NORMED_STEPS, PARALLEL, SECTIONS, XIELU};

/// The forward pass of a GGUF.
///
/// Errors if a value is missing, not a number, not finite, or not positive where it must be.
pub(in crate::model) fn read(
    traits: &ArchTraits,
    hparams: &HParams<'_>,
    blocks: u64,
) -> Result<ForwardSpec, ModelError> {
    let positive_at = |key: &str| -> Result<Option<f32>, ModelError> {
        let Some(value) = hparams.metadata(key) else {
            return Ok(None);
        };
        let number = value.as_f64().map(|x| x as f32);
        match number.filter(|x| x.is_finite() && *x >= 0.0) {
            Some(number) => Ok(Some(number).filter(|x| *x > 0.0)),
            None => Err(ModelError::BadNumber {
                key: key.to_owned(),
            }),
        }
    };
    let positive = |number: Number| positive_at(number.gguf());
    let hidden = hparams.need(Key::Hidden)?;
    let heads = hparams.or_zero(Key::Heads)?.max(1);
    let root = |n: u64| (n as f32).sqrt();
    let stated_scale = positive(Number::AttentionScale)?;
    let attention_scale = match traits.attention_scale {
        AttentionScale::HiddenShare { blocks: n } if n == blocks => {
            Some(1.0 / root(hidden / heads))
        }
        AttentionScale::One => Some(1.0),
        AttentionScale::Latent => match hparams.or_zero(Key::MlaKeyDim)? {
            0 => stated_scale,
            width => Some(latent_scale(hparams, &positive)? / root(width)),
        },
        _ => stated_scale,
    };
    let epsilon = match traits.norm {
        NormKind::Rms => Number::RmsEpsilon,
        NormKind::Layer => Number::LayerNormEpsilon,
    };
    let missing = |number: Number| ModelError::MissingKey {
        key: number.gguf().to_owned(),
    };
    // Some files state the epsilon of RMS norms as that of LayerNorms.
    let norm_epsilon = match positive(epsilon)? {
        None if traits.norm == NormKind::Rms => positive(Number::LayerNormEpsilon)?,
        stated => stated,
    };
    let norm_epsilon = norm_epsilon.ok_or_else(|| missing(epsilon))?;
    let scale = |number: Number| match positive(number)? {
        None if traits.needs_scales => Err(missing(number)),
        stated => Ok(stated.unwrap_or(1.0)),
    };
    let rope = rope(traits, hparams, blocks, &positive_at)?;
    let step = rope.original_context;
    let temperature = positive(Number::TemperatureScale)?.filter(|_| step > 0);
    let temperature = temperature.map(|scale| Temperature {
        scale,
        step,
        ahead: 0,
        unrotated: false,
    });
    let experts = hparams.or_zero(Key::Experts)?;
    if traits.chunked && hparams.get(Key::Window)? == Some(0) {
        // llama.cpp then has no temperature, and aborts where it computes one.
        return Err(ModelError::BadValue {
            key: hparams.name(Key::Window),
        });
    }
    let spec = ForwardSpec {
        temperature: temperature.or(traits.temperature),
        norm: traits.norm,
        ranks_by_shares: traits.ranks_by_shares,
        norm_epsilon,
        embedding_scale: if traits.scale_embedding {
            root(hidden)
        } else {
            scale(Number::EmbeddingScale)?
        },
        residual_scale: scale(Number::ResidualScale)?,
        output_scale: match traits.output_scale {
            OutputScale::Factor => scale(Number::LogitScale)?,
            OutputScale::Divisor => 1.0 / scale(Number::LogitScale)?,
        },
        attention_scale,
        attention_softcap: positive(Number::AttentionSoftcap)?.or(traits.softcaps.0),
        output_softcap: positive(Number::FinalSoftcap)?.or(traits.softcaps.1),
        gated_feed_forward: traits.gated_feed_forward,
        activation: traits.activation,
        activations: match traits.activation {
            Activation::Xielu(_) => xielu(hparams, blocks)?,
            _ => Vec::new(),
        },
        rope,
        gated_query: traits.gated_query,
        value_norm: traits.value_norm,
        clamp: positive(Number::Clamp)?,
        norm_after_rope: traits.norm_after_rope,
        norm_weights: traits.norm_weights,
        plain_head_norms: traits
            .plain_head_norms
            .is_some_and(|norms| norms.are_in(experts)),
        chunked: traits.chunked,
        routing: Routing {
            scale: positive(Number::ExpertScale)?.unwrap_or(traits.routing.scale),
            ..stated_routing(traits, hparams, blocks)
        },
        sparse: traits.sparse,
        parallel: hparams.metadata(PARALLEL) == Some(&Value::Bool(true)),
        slope: traits
            .positions
            .filter(|positions| positions.sloped == blocks)
            .map(|positions| positions.slope),
        normed_steps: hparams.metadata(NORMED_STEPS) == Some(&Value::Bool(true)),
    };
    Ok(match traits.built_in {
        Some(scales) => ForwardSpec {
            embedding_scale: scales.embedding,
            residual_scale: scales.depth / root(blocks),
            output_scale: scales.base / hidden as f32,
            ..spec
        },
        None => spec,
    })
}

/// The parameters of each block's activation. Source: `ggml_xielu` of ggml, which makes the factors positive.
fn xielu(hparams: &HParams<'_>, blocks: u64) -> Result<Vec<Activation>, ModelError> {
    let [negative, positive, slope, start] = XIELU;
    let [negative, positive, slope, start] = [
        hparams.floats(negative, blocks)?,
        hparams.floats(positive, blocks)?,
        hparams.floats(slope, blocks)?,
        hparams.floats(start, blocks)?,
    ];
    let softplus = |x: f32| if x > 20.0 { x } else { (1.0 + x.exp()).ln() };
    let factors = negative.iter().zip(&positive);
    let rest = slope.iter().zip(&start);
    let block = |((negative, positive), (slope, start)): ((&f32, &f32), (&f32, &f32))| {
        Activation::Xielu(Xielu {
            positive: softplus(*positive),
            negative: slope + softplus(*negative),
            slope: *slope,
            start: *start,
        })
    };
    Ok(factors.zip(rest).map(block).collect())
}

/// What YaRN multiplies the scores of latent attention with. Source: `deepseek2.cpp` of llama.cpp, whose converter stores a
/// tenth of the multiplier.
fn latent_scale(
    hparams: &HParams<'_>,
    positive: &dyn Fn(Number) -> Result<Option<f32>, ModelError>,
) -> Result<f32, ModelError> {
    let yarn = hparams.metadata("rope.scaling.type") == Some(&Value::String("yarn".to_owned()));
    let factor = positive(Number::RopeFactor)?
        .filter(|_| yarn)
        .unwrap_or(1.0);
    let multiplier = match positive(Number::YarnLogMultiplier)? {
        Some(tenth) => tenth / 0.1,
        None => 1.0,
    };
    let magnitude = 1.0 + 0.1 * multiplier * factor.ln();
    Ok(magnitude * magnitude)
}

/// How scores become shares, by metadata where it says so.
fn stated_routing(traits: &ArchTraits, hparams: &HParams<'_>, blocks: u64) -> Routing {
    if !traits.states_routing {
        return traits.routing;
    }
    let scores = match hparams
        .metadata("expert_gating_func")
        .and_then(Value::as_u64)
    {
        Some(1) => Scores::Softmax,
        Some(2) => Scores::Sigmoid,
        _ => {
            let vocab = hparams.metadata(Key::Vocab.gguf()).and_then(Value::as_u64);
            let known = traits
                .sigmoid_of
                .filter(|(sizes, tokens)| sizes.contains(&blocks) && vocab == Some(*tokens));
            known.map_or(traits.routing.scores, |_| Scores::Sigmoid)
        }
    };
    Routing {
        scores,
        normalized: match hparams.metadata("expert_weights_norm") {
            Some(stated) => *stated == Value::Bool(true),
            None => traits.routing.normalized,
        },
        ..traits.routing
    }
}

fn rope(
    traits: &ArchTraits,
    hparams: &HParams<'_>,
    blocks: u64,
    positive_at: &dyn Fn(&str) -> Result<Option<f32>, ModelError>,
) -> Result<Rope, ModelError> {
    let positive = |number: Number| positive_at(number.gguf());
    let or_default = |number: Number| {
        let otherwise = number.default().unwrap_or_default() as f32;
        Ok::<f32, ModelError>(positive(number)?.unwrap_or(otherwise))
    };
    let base = or_default(Number::RopeBase)?;
    let word = |key: &str| match hparams.metadata(key) {
        Some(Value::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let kind = word("rope.scaling.type").unwrap_or("linear");
    let factor = match kind {
        // The second is an older name of the key.
        "linear" | "yarn" => match positive(Number::RopeFactor)? {
            Some(factor) => factor,
            None => positive_at("rope.scale_linear")?.unwrap_or(1.0),
        },
        _ => 1.0,
    };
    let yarn = match kind {
        "yarn" => Some(Yarn {
            beta_fast: or_default(Number::YarnBetaFast)?,
            beta_slow: or_default(Number::YarnBetaSlow)?,
        }),
        _ => None,
    };
    // ggml multiplies by 1 + 0.1 ln(factor) itself; a log multiplier, as the model states it, takes a part of that back.
    let stated = or_default(Number::RopeAttnFactor)?;
    let spread = |multiplier: f32| {
        if factor > 1.0 {
            0.1 * multiplier * factor.ln() + 1.0
        } else {
            1.0
        }
    };
    let log_multiplier = positive(Number::YarnLogMultiplier)?.unwrap_or(0.0);
    let magnitude = match yarn {
        // The scores have it instead.
        Some(_) if traits.attention_scale == AttentionScale::Latent && log_multiplier > 0.0 => {
            stated
        }
        Some(_) => stated * spread(1.0) / spread(log_multiplier),
        None => stated,
    };
    let scale = 1.0 / factor;
    let window_base = positive(Number::WindowRopeBase)?;
    Ok(Rope {
        style: if traits.halves_with_sections && has_sections(hparams) {
            RopeStyle::Neox
        } else {
            traits.rope
        },
        dims: match traits.whole_heads {
            true => None,
            false => hparams.get(Key::RopeDim)?,
        },
        window_dims: hparams.get(Key::WindowRopeDim)?,
        base,
        window_base: window_base.or(traits.window_base).unwrap_or(base),
        scale,
        unscaled_windows: traits.unscaled_windows,
        magnitude,
        yarn,
        original_context: match positive_count(hparams, Key::OriginalContext) {
            Some(context) => context,
            None => hparams.or_zero(Key::Context)?,
        },
        blocks: match hparams.metadata(FINETUNED) {
            Some(Value::Bool(false)) if traits.states_rotation => RotatedBlocks::None,
            _ => match traits.positions {
                Some(positions) if positions.rotary != blocks => RotatedBlocks::None,
                _ => traits.rotated,
            },
        },
    })
}

/// In most architectures whether a model was trained with scaled positions; in some whether it has positions.
/// Whether positions have several numbers, as llama.cpp tells it (`use_mrope`).
fn has_sections(hparams: &HParams<'_>) -> bool {
    match hparams.metadata(SECTIONS) {
        Some(Value::Array(sections)) => {
            let mut first = sections.iter().take(2).map(Value::as_u64);
            sections.len() >= 2 && first.all(|n| n.is_some_and(|n| n > 0))
        }
        _ => false,
    }
}

const FINETUNED: &str = "rope.scaling.finetuned";

fn positive_count(hparams: &HParams<'_>, key: Key) -> Option<u64> {
    hparams.metadata(key.gguf())?.as_u64().filter(|&n| n > 0)
}
