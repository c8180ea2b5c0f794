//! Granite, dense and with experts.
//!
//! Sources: `modeling_granite.py`, `modeling_granitemoe.py`, `modeling_granitemoeshared.py` of
//! Transformers and `conversion_mapping.py` for the names in checkpoints; `src/models/granite.cpp`,
//! `granite-moe.cpp` and `conversion/granite.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::llama::LLAMA_LOADER;
use super::loader_keys::{MULTIPLIERS, NEEDS_LOGIT_SCALE, RMS_NORM, SHARED_EXPERT_WIDTH};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, OutputScale, PLAIN, RopeStyle};
use crate::model::hparams::{Key, Number};
use crate::model::loader::Loader;
use crate::model::role::TensorRole as R;

const GRANITE_LOADER: Loader = Loader {
    keys: &[
        RMS_NORM,
        NEEDS_LOGIT_SCALE,
        MULTIPLIERS,
        SHARED_EXPERT_WIDTH,
    ],
    ..LLAMA_LOADER
};

pub(super) const GRANITE_FORWARD: ArchTraits = ArchTraits {
    rope: RopeStyle::Norm,
    output_scale: OutputScale::Divisor,
    ..PLAIN
};

const GRANITE_CONVERSION: Conversion = Conversion {
    keys: &[COMMON, FILE_TYPE, VOCAB_AND_ROPE, SCALES],
    vocabulary: Vocabulary::Llama,
    pre_tokenizer: Some("refact"),
    weights: ROTARY_PAIRS,
    ..Conversion::USUAL
};

pub(super) const SCALES: &[KeyRule] = &[
    KeyRule::Number(Number::AttentionScale),
    KeyRule::Number(Number::EmbeddingScale),
    KeyRule::Number(Number::ResidualScale),
    KeyRule::Number(Number::LogitScale),
];

pub(super) static GRANITE: Arch = Arch {
    name: "granite",
    classes: &["GraniteForCausalLM"],
    model_types: &["granite"],
    forward: Some(GRANITE_FORWARD),
    conversion: Some(GRANITE_CONVERSION),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        GATED_FFN,
        GATED_FFN_BIAS,
        ROPE_FREQS,
    ],
    loader: GRANITE_LOADER,
    ..USUAL
};

/// Its `intermediate_size` is the width of an expert.
pub(super) static GRANITEMOE: Arch = Arch {
    name: "granitemoe",
    classes: &["GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"],
    model_types: &["granitemoe", "granitemoeshared"],
    forward: Some(GRANITE_FORWARD),
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            FILE_TYPE,
            VOCAB_AND_ROPE,
            SCALES,
            &[KeyRule::count(Key::SharedExpertFfn)],
        ],
        ..GRANITE_CONVERSION
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        SPARSE_MOE,
        SHARED_MLP,
        ROPE_FREQS,
    ],
    loader: GRANITE_LOADER,
    ..USUAL
};

/// Routed experts, stacked in the checkpoint with gate and up fused. vLLM calls quantized ones as Mixtral's are called.
pub(super) const SPARSE_MOE: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &["layers.{}.block_sparse_moe.router.layer.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.block_sparse_moe.input_linear.weight",
            "layers.{}.block_sparse_moe.experts.{}.w1.weight",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.block_sparse_moe.input_linear.weight",
            "layers.{}.block_sparse_moe.experts.{}.w3.weight",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.block_sparse_moe.output_linear.weight",
            "layers.{}.block_sparse_moe.experts.{}.w2.weight",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

/// The expert that every token uses, gate and up fused.
pub(super) const SHARED_MLP: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGateShared,
        &["layers.{}.shared_mlp.input_linear.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnUpShared,
        &["layers.{}.shared_mlp.input_linear.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnDownShared,
        &["layers.{}.shared_mlp.output_linear.weight"],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];
