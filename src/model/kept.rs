//! Whether a GGUF computes what the `config.json` says that it is made from: llama.cpp has parts of an architecture built
//! in, and the file no place for other values.
//!
//! In: a model from a `config.json`, the metadata of its GGUF. Out: the first thing that the file loses.

use serde_json::Value as Json;

use super::arch::Arch;
use super::conversion::KeyRule;
use super::dims::dims_and_layers;
use super::forward_spec::{ArchTraits, AttentionScale, PositionsByDepth, RotatedBlocks};
use super::gguf::dense_without_router;
use super::hparams::{HParams, Number};
use super::spec::{Layer, ModelSpec};
use crate::checkpoint::RawConfig;
use crate::gguf::{Metadata, Value};

/// What of the configuration of `model` is lost in a GGUF with this `metadata`, as the beginning of a sentence; `None` if
/// llama.cpp computes the same model with it.
pub(crate) fn lost(model: &ModelSpec, metadata: &[(String, Value)]) -> Option<String> {
    let arch = Arch::of_gguf(&model.architecture)?;
    let hparams = HParams::of_config(&model.config);
    let of_pass = || lost_value(arch, arch.forward.as_ref()?, &hparams, model);
    lost_block(arch, model, metadata)
        .or_else(|| lost_shares(arch, &hparams))
        .or_else(of_pass)
}

/// The first block that the metadata describes otherwise. Metadata that describes no blocks is refused elsewhere.
fn lost_block(arch: &Arch, model: &ModelSpec, metadata: &[(String, Value)]) -> Option<String> {
    let file = RawConfig::Gguf(Metadata(metadata.to_vec()));
    let hparams = HParams::new(&file, arch.name).with_gguf_defaults(arch.loader.defaults);
    let (_, mut kept) = dims_and_layers(arch, &hparams).ok()?;
    dense_without_router(arch, &mut kept, &model.tensors, &hparams).ok()?;
    let mut blocks = model.layers.iter().zip(&kept).enumerate();
    blocks.find_map(|(block, (stated, kept))| {
        let what = difference(stated, kept)?;
        Some(built_otherwise(block, what))
    })
}

/// What two blocks differ in, with the keys of `config.json` that say so.
fn difference(stated: &Layer, kept: &Layer) -> Option<&'static str> {
    let (a, b) = (&stated.mixer.attention, &kept.mixer.attention);
    let of_attention = a.as_ref().zip(b.as_ref()).and_then(|(a, b)| {
        if a.window != b.window {
            Some("its window of attention (`layer_types`, `sliding_window`)")
        } else if a.cache != b.cache {
            Some("whose keys and values it attends to (`num_kv_shared_layers`)")
        } else {
            (a != b).then_some("its heads")
        }
    });
    if a.is_some() != b.is_some() || stated.mixer.recurrent != kept.mixer.recurrent {
        return Some("its kind (`layer_types`)");
    }
    let feed_forward = (stated.feed_forward != kept.feed_forward).then_some(
        "its feed-forward (`mlp_only_layers`, `decoder_sparse_step`, widths of experts)",
    );
    of_attention.or(feed_forward)
}

/// Whether the shares of the experts that a token is sent to sum to one is built in; they do where the pass is not known.
fn lost_shares(arch: &Arch, hparams: &HParams<'_>) -> Option<String> {
    if arch.forward.is_some_and(|traits| traits.states_routing) {
        return None;
    }
    let built_in = arch.forward.is_none_or(|traits| traits.routing.normalized);
    let stated = hparams.flag("norm_topk_prob")?;
    (stated != built_in).then(|| format!("`norm_topk_prob` is {stated}"))
}

/// A number that the pass has built in.
fn lost_value(
    arch: &Arch,
    traits: &ArchTraits,
    hparams: &HParams<'_>,
    model: &ModelSpec,
) -> Option<String> {
    let stated = |name: &str| hparams.json(name).and_then(Json::as_f64);
    let differs = |name: &str, built_in: u64| {
        let stated = stated(name).filter(|stated| *stated != built_in as f64)?;
        Some(format!(
            "`{name}` is {stated} where llama.cpp has {built_in}"
        ))
    };
    let attention = model
        .layers
        .iter()
        .find_map(|l| l.mixer.attention.as_ref())?;
    let scale = match traits.attention_scale {
        AttentionScale::HiddenShare { blocks } if blocks == model.dims.blocks => {
            model.dims.hidden.checked_div(attention.heads)
        }
        AttentionScale::HiddenShare { .. } | AttentionScale::KeyWidth => Some(attention.key_dim),
        AttentionScale::One | AttentionScale::Latent => None,
    };
    scale
        .and_then(|scale| differs("query_pre_attn_scalar", scale))
        .or_else(|| lost_cap(arch, hparams, Number::AttentionSoftcap, traits.softcaps.0))
        .or_else(|| lost_cap(arch, hparams, Number::FinalSoftcap, traits.softcaps.1))
        .or_else(|| lost_scale(arch, traits, hparams))
        .or_else(|| lost_kind(model, traits.positions))
        .or_else(|| lost_positions(hparams, traits.rotated))
        .or_else(|| lost_norms(hparams, traits, model))
        .or_else(|| lost_temperature(hparams, traits))
        .or_else(|| lost_sparsity(hparams, traits.sparse.blocks))
}

/// A soft cap that the file cannot turn off, or has no key for.
fn lost_cap(
    arch: &Arch,
    hparams: &HParams<'_>,
    number: Number,
    built_in: Option<f32>,
) -> Option<String> {
    let name = number.hugging_face().first()?;
    let value = hparams.json(name)?;
    let stated = value.as_f64().filter(|cap| *cap > 0.0);
    let rules = arch.conversion.as_ref()?.keys.iter().copied().flatten();
    let has_key = || {
        rules
            .into_iter()
            .any(|rule| matches!(rule, KeyRule::Number(n) if *n == number))
    };
    match (stated, built_in) {
        (None, Some(cap)) => Some(format!("`{name}` is {value} where llama.cpp has {cap}")),
        (Some(stated), _) if !has_key() && built_in.is_none_or(|cap| f64::from(cap) != stated) => {
            Some(format!("`{name}` is {stated}"))
        }
        _ => None,
    }
}

/// A factor on the shares of experts that the file has no key for.
fn lost_scale(arch: &Arch, traits: &ArchTraits, hparams: &HParams<'_>) -> Option<String> {
    let (name, value) = hparams.stated(Number::ExpertScale.hugging_face())?;
    let stated = value.as_f64()?;
    let mut rules = arch.conversion.as_ref()?.keys.iter().copied().flatten();
    let has_key = rules.any(|rule| matches!(rule, KeyRule::Number(Number::ExpertScale)));
    let built_in = f64::from(traits.routing.scale);
    (!has_key && stated != built_in)
        .then(|| format!("`{name}` is {stated} where llama.cpp has {built_in}"))
}

/// Positions of a model whose number of blocks tells nothing of their kind.
fn lost_kind(model: &ModelSpec, positions: Option<PositionsByDepth>) -> Option<String> {
    let (blocks, known) = (model.dims.blocks, positions?);
    (blocks != known.rotary && blocks != known.sloped).then(|| {
        format!(
            "`num_hidden_layers` is {blocks} where llama.cpp knows the positions of models with {} and {} blocks",
            known.rotary, known.sloped
        )
    })
}

/// Blocks without rotary positions (0 in the list) other than those that are built in.
fn lost_positions(hparams: &HParams<'_>, rotated: RotatedBlocks) -> Option<String> {
    let list = hparams.json("no_rope_layers").and_then(Json::as_array)?;
    let skips = |block: usize| match rotated {
        RotatedBlocks::NotEach(every) => (block as u64 + 1).is_multiple_of(every),
        RotatedBlocks::All | RotatedBlocks::Windowed => false,
        RotatedBlocks::None => true,
    };
    let mut blocks = list.iter().map(Json::as_u64).enumerate();
    let (block, _) =
        blocks.find(|(block, turned)| turned.is_some_and(|n| (n == 0) != skips(*block)))?;
    Some(built_otherwise(
        block,
        "whether its positions turn (`no_rope_layers`)",
    ))
}

/// Whether heads are normed without weights, which llama.cpp knows by the number of experts.
fn lost_norms(hparams: &HParams<'_>, traits: &ArchTraits, model: &ModelSpec) -> Option<String> {
    let built_in = traits.plain_head_norms?.are_in(model.dims.experts);
    let stated = hparams.flag("use_qk_norm")?;
    (stated != built_in).then(|| format!("`use_qk_norm` is {stated}"))
}

/// How queries grow with their position, other than built in.
fn lost_temperature(hparams: &HParams<'_>, traits: &ArchTraits) -> Option<String> {
    let built_in = traits.temperature?;
    let is_off = |value: &Json| value == false || value.as_u64() == Some(0);
    if hparams.json("attn_temperature_tuning").is_some_and(is_off) {
        return Some("`attn_temperature_tuning` is off".to_owned());
    }
    let numbers = [
        ("floor_scale", built_in.step as f32),
        ("attn_scale", built_in.scale),
    ];
    numbers.into_iter().find_map(|(name, built_in)| {
        let stated = hparams.json(name)?.as_f64()? as f32;
        (stated != built_in).then(|| format!("`{name}` is {stated} where llama.cpp has {built_in}"))
    })
}

/// Shares of the gates that are zero, other than 95 % in the first `sparse` blocks.
fn lost_sparsity(hparams: &HParams<'_>, sparse: u64) -> Option<String> {
    let list = hparams
        .json("activation_sparsity_pattern")
        .and_then(Json::as_array)?;
    let built_in = |block: usize| if (block as u64) < sparse { 0.95 } else { 0.0 };
    let mut blocks = list.iter().map(Json::as_f64).enumerate();
    let (block, _) = blocks.find(|(block, share)| *share != Some(built_in(*block)))?;
    Some(built_otherwise(
        block,
        "how sparse its feed-forward is (`activation_sparsity_pattern`)",
    ))
}

fn built_otherwise(block: usize, what: &str) -> String {
    format!("block {block} differs from the one that llama.cpp builds in {what}")
}
