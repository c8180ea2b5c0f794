//! LFM2 and LFM2.5: gated short convolutions with some blocks of grouped attention; dense or with
//! experts.
//!
//! Sources: `modeling_lfm2.py`, `modeling_lfm2_moe.py` of Transformers; `src/models/lfm2.cpp`,
//! `lfm2moe.cpp` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{
    CONVOLUTION_CACHE, LEADING_DENSE, NEEDS_EXPERT_WIDTH, OPTIONAL_WINDOW, RMS_NORM,
};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, PLAIN, Routing, Scores};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed};
use crate::model::quirks::{GraphOrder, Quirks};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer, Recurrent, RecurrentKind};

pub(super) static LFM2: Arch = Arch {
    name: "lfm2",
    classes: &["Lfm2ForCausalLM", "LFM2ForCausalLM"],
    model_types: &["lfm2"],
    forward: Some(PLAIN),
    layers: dense_layers,
    tensors: &[
        EMBEDDING_AND_HEAD_LFM2,
        NORMS,
        ATTENTION,
        QK_NORM_LFM2,
        SHORT_CONVOLUTION,
        DENSE,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, LFM2_KEYS],
        vocabulary: Vocabulary::ByteLevel,
        ..Conversion::USUAL
    }),
    quirks: LFM2_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_WINDOW, CONVOLUTION_CACHE],
        ..Loader::USUAL
    },
    ..USUAL
};

const LFM2_QUIRKS: Quirks = Quirks {
    graph: GraphOrder {
        residual_first_mixer: true,
        residual_first_feed_forward: true,
        ..Quirks::NONE.graph
    },
    ..Quirks::NONE
};

/// Convolution blocks have 0 key heads; the width of the feed-forward is the rounded one.
const LFM2_KEYS: &[KeyRule] = &[
    KeyRule::Derived(Derived::KvHeadsByBlock),
    VOCAB,
    KeyRule::count(Key::ShortconvCache),
    KeyRule::Derived(Derived::DenseWidth),
];

pub(super) static LFM2MOE: Arch = Arch {
    name: "lfm2moe",
    classes: &["Lfm2MoeForCausalLM"],
    model_types: &["lfm2_moe"],
    forward: Some(ArchTraits {
        routing: Routing {
            scores: Scores::Sigmoid,
            normalized: true,
            scale: 1.0,
            ..PLAIN.routing
        },
        ..PLAIN
    }),
    layers: conv_layers,
    tensors: &[
        EMBEDDING_AND_HEAD_LFM2,
        NORMS,
        ATTENTION,
        QK_NORM_LFM2,
        SHORT_CONVOLUTION,
        DENSE,
        ROUTED,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, LFM2MOE_KEYS],
        ..Conversion::USUAL
    }),
    quirks: LFM2_QUIRKS,
    loader: Loader {
        keys: &[
            RMS_NORM,
            NEEDS_EXPERT_WIDTH,
            LEADING_DENSE,
            GATING,
            CONVOLUTION_CACHE,
        ],
        rules: &[LoaderRule::Routed],
        needs_biases: &[R::FfnRouterBias],
        ..Loader::USUAL
    },
    ..USUAL
};

const LFM2MOE_KEYS: &[KeyRule] = &[
    KeyRule::Derived(Derived::KvHeadsByBlock),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::LeadingDense),
    KeyRule::Derived(Derived::SigmoidScores),
    VOCAB,
    KeyRule::count(Key::ShortconvCache),
];

const GATING: &[LoaderKeys] = &[needed(ValueForm::Count, &["expert_gating_func"])];

/// llama.cpp stores the final norm as `token_embd_norm`.
const EMBEDDING_AND_HEAD_LFM2: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows),
    TensorRow::weight(R::TokenEmbeddingNorm, &["embedding_norm.weight"], hidden),
    TensorRow::weight(R::Output, &["lm_head.weight"], vocab_rows).when(untied),
];

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.operator_norm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.ffn_norm.weight"], hidden),
];

const QK_NORM_LFM2: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQNorm,
        &["layers.{}.self_attn.q_layernorm.weight"],
        key_head,
    )
    .when(has_attention),
    TensorRow::weight(
        R::AttnKNorm,
        &["layers.{}.self_attn.k_layernorm.weight"],
        key_head,
    )
    .when(has_attention),
];

const SHORT_CONVOLUTION: &[TensorRow] = &[
    TensorRow::weight(R::ShortconvConv, &["layers.{}.conv.conv.weight"], |p| {
        vec![p.dims.hidden, p.params.shortconv_cache]
    })
    .when(is_recurrent),
    TensorRow::weight(R::ShortconvIn, &["layers.{}.conv.in_proj.weight"], |p| {
        vec![p.dims.hidden.saturating_mul(3), p.dims.hidden]
    })
    .when(is_recurrent),
    TensorRow::weight(R::ShortconvOut, &["layers.{}.conv.out_proj.weight"], |p| {
        vec![p.dims.hidden, p.dims.hidden]
    })
    .when(is_recurrent),
];

const DENSE: &[TensorRow] = &[
    TensorRow::weight(R::FfnGate, &["layers.{}.feed_forward.w1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnUp, &["layers.{}.feed_forward.w3.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnDown, &["layers.{}.feed_forward.w2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    })
    .when(is_dense),
];

const ROUTED: &[TensorRow] = &[
    TensorRow::weight(R::FfnRouter, &["layers.{}.feed_forward.gate.weight"], |p| {
        vec![experts(p), p.dims.hidden]
    })
    .when(has_experts),
    TensorRow::bias(
        R::FfnRouterBias,
        &["layers.{}.feed_forward.expert_bias"],
        |p| vec![experts(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.feed_forward.experts.{}.w1.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.feed_forward.experts.{}.w3.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.feed_forward.experts.{}.w2.weight",
            "layers.{}.feed_forward.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

/// Convolution blocks are those that the configuration names so; in a GGUF those without key-value heads.
fn conv_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let hidden = hparams.need(Key::Hidden)?;
    let state = Recurrent {
        kind: RecurrentKind::Convolution,
        conv_elements: hidden.saturating_mul(hparams.need(Key::ShortconvCache)? - 1),
        state_elements: 0,
        inner: hidden.saturating_mul(3),
    };
    let types = block_types(hparams);
    let listed = hparams.json("full_attn_idxs").and_then(|v| v.as_array());
    let mut layers = interleaved(hparams, &state, |index, attention| match (&types, listed) {
        (Some(types), _) => types.get(index).is_some_and(|t| *t != "full_attention"),
        (None, Some(list)) => !list.iter().any(|i| i.as_u64() == Some(index as u64)),
        (None, None) => attention.kv_heads == 0,
    })?;
    if !hparams.is_hugging_face() {
        let window = hparams.get(Key::Window)?.filter(|&window| window > 0);
        for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
            attention.window = window;
        }
    }
    Ok(layers)
}

/// The same blocks, all dense, with the adjusted width of the feed-forward.
fn dense_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = conv_layers(hparams)?;
    if hparams.is_hugging_face() {
        let inner = adjusted_width(hparams)?;
        for layer in &mut layers {
            layer.feed_forward = FeedForward::Dense { inner };
        }
    }
    Ok(layers)
}

/// Two thirds of the stated width times a factor, rounded up to a multiple, as `Lfm2MLP` computes it.
fn adjusted_width(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    let stated = match hparams.json("block_ff_dim").and_then(|v| v.as_u64()) {
        Some(width) => width,
        None => hparams.need(Key::Ffn)?,
    };
    if hparams.flag("block_auto_adjust_ff_dim") == Some(false) {
        return Ok(stated);
    }
    let two_thirds = stated.saturating_mul(2) / 3;
    let factor = hparams
        .json("block_ffn_dim_multiplier")
        .and_then(|v| v.as_f64())
        .unwrap_or(1.0);
    let scaled = (factor * two_thirds as f64) as u64;
    let multiple = hparams
        .json("block_multiple_of")
        .and_then(|v| v.as_u64())
        .unwrap_or(256)
        .max(1);
    Ok(scaled.div_ceil(multiple).saturating_mul(multiple))
}
