//! DeepSeek 2, 3 and R1, and what shares their blocks (Kimi K2, Moonlight): latent attention, leading
//! dense blocks, routed and shared experts.
//!
//! Sources: `modeling_deepseek_v2.py`, `modeling_deepseek_v3.py` of Transformers;
//! `src/models/deepseek2.cpp` and `conversion/deepseek.py` of llama.cpp, which runs both as
//! `deepseek2`.

use super::common::*;
use super::loader_keys::{LEADING_DENSE, NEEDS_EXPERT_WIDTH, RMS_NORM};
use crate::model::ModelError;
use crate::model::arch::{Arch, Row, RowSite};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Form, Loader, LoaderKeys, LoaderRule, needed, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

pub(super) static DEEPSEEK2: Arch = Arch {
    name: "deepseek2",
    classes: &["DeepseekV2ForCausalLM"],
    model_types: &["deepseek_v2"],
    layers: latent_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        LATENT_ATTENTION,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
    ],
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH, LEADING_DENSE, LATENT_KEYS],
        rules: &[
            LoaderRule::NoBiases,
            LoaderRule::BlocksAhead,
            LoaderRule::NeedsBlocksAhead,
            LoaderRule::MayLackBlocksAhead,
            LoaderRule::Latents,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const LATENT_KEYS: &[LoaderKeys] = &[
    needed(
        Form::Count,
        &["attention.kv_lora_rank", "expert_shared_count"],
    ),
    read(
        Form::Count,
        &[
            "vocab_size",
            "attention.key_length_mla",
            "attention.value_length_mla",
            "attention.temperature_length",
            "expert_gating_func",
        ],
    ),
    read(
        Form::Float,
        &[
            "expert_weights_scale",
            "rope.scaling.yarn_log_multiplier",
            "attention.temperature_scale",
        ],
    ),
    read(Form::Flag, &["expert_weights_norm"]),
];

/// The router picks experts by score plus a correction of its own.
pub(super) static DEEPSEEK3: Arch = Arch {
    classes: &[
        "DeepseekV3ForCausalLM",
        "KimiVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
    ],
    model_types: &["deepseek_v3", "kimi_k2"],
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        LATENT_ATTENTION,
        GATED_FFN,
        EXPERTS,
        ROUTER_CORRECTION,
        SHARED_EXPERT,
    ],
    ..DEEPSEEK2
};

const ROUTER_CORRECTION: &[Row] = &[Row::bias(
    R::FfnRouterBias,
    &["layers.{}.mlp.gate.e_score_correction_bias"],
    |p| vec![experts(p)],
)
.when(has_experts)];

/// Width of a head's query: the part without positions and the rotary part.
fn query_dim(p: &RowSite<'_>) -> u64 {
    p.params.nope_dim + p.params.rope_dim
}

fn has_query_latent(p: &RowSite<'_>) -> bool {
    p.params.q_lora > 0
}

/// Queries, keys and values through latents. Conversion splits `kv_b_proj` into the two halves that
/// are absorbed into query and output.
const LATENT_ATTENTION: &[Row] = &[
    Row::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![heads(p) * query_dim(p), p.dims.hidden]
    })
    .when(|p| !has_query_latent(p)),
    Row::weight(R::AttnQA, &["layers.{}.self_attn.q_a_proj.weight"], |p| {
        vec![p.params.q_lora, p.dims.hidden]
    })
    .when(has_query_latent),
    Row::weight(
        R::AttnQANorm,
        &["layers.{}.self_attn.q_a_layernorm.weight"],
        |p| vec![p.params.q_lora],
    )
    .when(has_query_latent),
    Row::weight(R::AttnQB, &["layers.{}.self_attn.q_b_proj.weight"], |p| {
        vec![heads(p) * query_dim(p), p.params.q_lora]
    })
    .when(has_query_latent),
    Row::weight(
        R::AttnKvAMqa,
        &["layers.{}.self_attn.kv_a_proj_with_mqa.weight"],
        |p| vec![p.params.kv_lora + p.params.rope_dim, p.dims.hidden],
    ),
    Row::weight(
        R::AttnKvANorm,
        &["layers.{}.self_attn.kv_a_layernorm.weight"],
        |p| vec![p.params.kv_lora],
    ),
    Row::weight(R::AttnKB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.kv_lora, p.params.nope_dim]
    }),
    Row::weight(R::AttnVB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.mla_value_dim, p.params.kv_lora]
    }),
    Row::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, heads(p) * p.params.mla_value_dim]
    }),
];

/// One key-value head as wide as the latent and its rotary part; its values are the latent again, so
/// none are cached. A GGUF without `key_length_mla` is of the time before, with whole keys and
/// values in the cache.
fn latent_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let stated = |key| Ok::<bool, ModelError>(hparams.or_zero(key)? > 0);
    let latent = match hparams.is_hugging_face() {
        true => Some(hparams.need(Key::KvLora)? + hparams.need(Key::RopeDim)?),
        false if stated(Key::MlaKeyDim)? && stated(Key::MlaValueDim)? => None,
        false => return uniform(hparams),
    };
    let mut layers = uniform(hparams)?;
    for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
        if let Some(width) = latent {
            attention.kv_heads = 1;
            attention.key_dim = width;
        }
        attention.value_dim = 0;
    }
    Ok(layers)
}
