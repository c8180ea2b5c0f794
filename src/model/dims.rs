//! The dimensions and blocks of a model by the rules of its architecture, and what only the shapes of its tensors
//! need. In: hyperparameters. Out: [`Dims`], [`Layer`]s, [`ShapeParams`].

use serde_json::Value as Json;

use super::arch::{Arch, Ranks, ShapeParams};
use super::hparams::{HParams, Key};
use super::spec::{Dims, Layer};
use super::{ModelError, families};

/// Dimensions and blocks by the rules of `arch`.
///
/// Errors if a hyperparameter that the architecture needs is missing or has an impossible value.
pub(super) fn dims_and_layers(
    arch: &Arch,
    hparams: &HParams<'_>,
) -> Result<(Dims, Vec<Layer>), ModelError> {
    let layers = (arch.layers)(hparams)?;
    let experts = hparams.or_zero(Key::Experts)?;
    if hparams.or_zero(Key::ExpertsUsed)? > experts && experts > 0 {
        return Err(ModelError::BadValue {
            key: hparams.name(Key::ExpertsUsed),
        });
    }
    let dims = Dims {
        hidden: hparams.need(Key::Hidden)?,
        vocab: hparams.or_zero(Key::Vocab)?,
        blocks: layers.len() as u64,
        context: (arch.context)(hparams)?.saturating_sub((arch.skipped_positions)(hparams)?),
        per_layer_embedding: hparams.or_zero(Key::PerLayerDim)?,
        streams: hparams.get(Key::Streams)?.unwrap_or(1).max(1),
        experts,
    };
    Ok((dims, layers))
}

/// The values of `rope_type` (`modeling_rope_utils.py` of Transformers, and older names of the same).
pub(super) const ROPE_TYPES: &[&str] = &[
    "default",
    "linear",
    "dynamic",
    "llama3",
    "yarn",
    "longrope",
    "su",
    "proportional",
    "mrope",
    "deepseek_yarn",
];

/// Elements of a key head in the blocks that attend to the whole context, else in the first that attends; 0 without
/// attention.
pub(super) fn head_dim(layers: &[Layer]) -> u64 {
    let attention = || layers.iter().filter_map(|l| l.mixer.attention.as_ref());
    let full = attention().find(|a| a.window.is_none());
    full.or(attention().next()).map_or(0, |a| a.key_dim)
}

/// Dimensions that only the shapes of tensors need. `head_dim` is [`head_dim`] of the blocks; `tied` says whether the
/// head is the embedding.
///
/// Errors if the rotary parameters are of an unknown type or lack the key that their type needs, or if a value is no
/// plausible number.
pub(super) fn shape_params(
    hparams: &HParams<'_>,
    tied: bool,
    head_dim: u64,
) -> Result<ShapeParams, ModelError> {
    let flag = |name| hparams.flag(name).unwrap_or(false);
    let rope = hparams
        .json("rope_scaling")
        .filter(|rope| rope.is_object())
        .or_else(|| hparams.json("rope_parameters"));
    // Models with windowed blocks state one set of parameters for each kind of block.
    let rope = rope.map(|rope| rope.get("full_attention").unwrap_or(rope));
    let rope_type = rope
        .and_then(|r| r.get("rope_type").or_else(|| r.get("type")))
        .and_then(|t| t.as_str());
    if let Some(found) = rope_type.filter(|found| !ROPE_TYPES.contains(found)) {
        return Err(ModelError::RopeType {
            found: found.to_owned(),
        });
    }
    let lacking = |key: &str| ModelError::RopeKey {
        key: key.to_owned(),
    };
    let long = |rope: &Json| rope.get("long_factor").is_some_and(|list| list.is_array());
    if matches!(rope_type, Some("longrope" | "su")) && !rope.is_some_and(long) {
        return Err(lacking("long_factor"));
    }
    let scaled = |rope: &Json| rope.get("factor").is_some() || long(rope);
    if rope_type.is_none() && rope.is_some_and(scaled) {
        return Err(lacking("rope_type"));
    }
    let needed: &[&str] = match rope_type {
        Some("llama3") => &["factor", "low_freq_factor", "high_freq_factor"],
        Some("linear" | "dynamic" | "yarn" | "deepseek_yarn") => &["factor"],
        _ => &[],
    };
    let lacks = |name: &&&str| rope.is_some_and(|rope| rope.get(name).is_none_or(Json::is_null));
    if let Some(name) = needed.iter().find(lacks) {
        return Err(lacking(name));
    }
    let rope_factors = match rope_type {
        Some("llama3" | "proportional") => head_dim / 2,
        Some("longrope" | "su" | "yarn") => rope
            .and_then(|r| r.get("long_factor")?.as_array().map(|a| a.len() as u64))
            .unwrap_or(0),
        _ => 0,
    };
    Ok(ShapeParams {
        tied,
        attention_bias: ["attention_bias", "use_bias", "use_qkv_bias"]
            .into_iter()
            .any(flag),
        mlp_bias: flag("mlp_bias") || flag("use_bias"),
        q_lora: hparams.or_zero(Key::QLora)?,
        kv_lora: hparams.or_zero(Key::KvLora)?,
        nope_dim: nope_dim(hparams)?,
        rope_dim: hparams.or_zero(Key::RopeDim)?,
        mla_value_dim: hparams.or_zero(Key::MlaValueDim)?,
        per_layer_vocab: hparams.or_zero(Key::PerLayerVocab)?,
        laurel_rank: hparams.or_zero(Key::LaurelRank)?,
        conv_kernel: hparams.or_zero(Key::ConvKernel)?,
        state_size: hparams.or_zero(Key::StateSize)?,
        ssm_groups: hparams.or_zero(Key::SsmGroups)?,
        ssm_heads: hparams.or_zero(Key::SsmHeads)?,
        ssm_inner: families::ssm_inner(hparams)?,
        time_step_rank: match hparams.get(Key::TimeStepRank)? {
            Some(rank) => rank,
            // As the classes do (`time_step_rank: auto`).
            None => hparams.or_zero(Key::Hidden)?.div_ceil(16),
        },
        conv_bias: ["mamba_conv_bias", "use_conv_bias"]
            .iter()
            .all(|name| hparams.flag(name) != Some(false)),
        ssm_norm: flag("mamba_rms_norm"),
        shortconv_cache: hparams.or_zero(Key::ShortconvCache)?,
        expert_latent: hparams.or_zero(Key::ExpertLatent)?,
        rope_factors,
        // Transformers' default for the architectures that have them; a GGUF's follows from the tensor.
        token_types: hparams
            .json("type_vocab_size")
            .and_then(|n| n.as_u64())
            .unwrap_or(2),
        key_is_value: flag("attention_k_eq_v"),
        skipped_positions: 0,
        labels: 0,
        ranks: ranks(hparams)?,
        sharing: families::shared_transformers(hparams)?,
    })
}

/// The ranks of pairs of matrices: as stated, or as the classes of published models compute them from the hidden size.
fn ranks(hparams: &HParams<'_>) -> Result<Ranks, ModelError> {
    let hidden = hparams.or_zero(Key::Hidden)? as f64;
    let rank = |key, exponent: f64, factor: f64| {
        let usual = (hidden.powf(exponent) * factor / 32.0)
            .round_ties_even()
            .max(1.0)
            * 32.0;
        Ok::<u64, ModelError>(hparams.get(key)?.unwrap_or(usual as u64))
    };
    Ok(Ranks {
        decay: rank(Key::DecayRank, 0.5, 1.8)?,
        rate: rank(Key::RateRank, 0.5, 1.8)?,
        value: rank(Key::ValueRank, 0.5, 1.3)?,
        gate: rank(Key::GateRank, 0.8, 0.6)?,
    })
}

/// Elements of a head without rotary positions (MLA). A GGUF states the whole head and its rotary part instead.
fn nope_dim(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    if hparams.is_hugging_face() {
        return hparams.or_zero(Key::NopeDim);
    }
    let head = match hparams.get(Key::MlaKeyDim)? {
        Some(head) => head,
        None => hparams.or_zero(Key::HeadDim)?,
    };
    Ok(head.saturating_sub(hparams.or_zero(Key::RopeDim)?))
}
