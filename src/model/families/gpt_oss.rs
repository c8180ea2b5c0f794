//! gpt-oss: attention sinks, biases everywhere, windows in every other block, experts in MXFP4.
//!
//! Sources: `modeling_gpt_oss.py` of Transformers; `src/models/openai-moe.cpp` and
//! `conversion/gpt_oss.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    NEEDS_EXPERT_WIDTH, NEEDS_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE,
};
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, WeightRule, WeightTransform};
use crate::model::forward_spec::{Activation, ArchTraits, PLAIN};
use crate::model::hparams::Key;
use crate::model::loader::{Loader, LoaderRule};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;

pub(super) static GPT_OSS: Arch = Arch {
    name: "gpt-oss",
    classes: &["GptOssForCausalLM"],
    model_types: &["gpt_oss"],
    layers: |hparams| blocks(hparams, sliding(hparams, 0, 2)?),
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        ALWAYS_QKV_BIAS,
        OUTPUT_BIAS_AND_SINKS,
        EXPERTS_WITH_BIAS,
    ],
    forward: Some(ArchTraits {
        activation: Activation::ClampedSwiglu,
        ..PLAIN
    }),
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            &[WINDOW, KeyRule::count_from(Key::ExpertFfn, Key::Ffn)],
        ],
        weights: STORED_EXPERTS,
        ..Conversion::USUAL
    }),
    quirks: Quirks::NONE.late_rows().keeps_four_bit_floats(),
    loader: Loader {
        keys: &[
            RMS_NORM,
            NEEDS_WINDOW,
            WINDOW_PATTERN,
            WINDOW_ROPE_BASE,
            NEEDS_EXPERT_WIDTH,
        ],
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::WindowedBlock,
            LoaderRule::WholeHeads,
        ],
        biases: &[R::AttnOutput],
        needs_biases: &[
            R::AttnOutput,
            R::FfnRouter,
            R::FfnGateExperts,
            R::FfnUpExperts,
            R::FfnDownExperts,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Rows of gate and up are stored in turn.
const STORED_EXPERTS: &[WeightRule] = &[
    WeightRule {
        roles: &[R::FfnGateExperts, R::FfnUpExperts, R::FfnDownExperts],
        transform: WeightTransform::TransposedFloats,
    },
    WeightRule {
        roles: &[R::FfnGateExperts],
        transform: WeightTransform::OneOfTwo(0),
    },
    WeightRule {
        roles: &[R::FfnUpExperts],
        transform: WeightTransform::OneOfTwo(1),
    },
];

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
];

const OUTPUT_BIAS_AND_SINKS: &[TensorRow] = &[
    TensorRow::bias(R::AttnOutput, &["layers.{}.self_attn.o_proj.bias"], hidden),
    TensorRow::weight(R::AttnSinks, &["layers.{}.self_attn.sinks"], |p| {
        vec![heads(p)]
    }),
];

fn up_shape(p: &RowSite<'_>) -> Vec<u64> {
    vec![experts(p), inner(p), p.dims.hidden]
}

fn up_bias_shape(p: &RowSite<'_>) -> Vec<u64> {
    vec![experts(p), inner(p)]
}

/// Stacked experts with the rows of gate and up interleaved. A quantized checkpoint stores `_blocks` and `_scales`;
/// one in 16 bit stores each matrix transposed.
const EXPERTS_WITH_BIAS: &[TensorRow] = &[
    TensorRow::weight(R::FfnRouter, &["layers.{}.mlp.router.weight"], |p| {
        vec![experts(p), p.dims.hidden]
    }),
    TensorRow::bias(R::FfnRouter, &["layers.{}.mlp.router.bias"], |p| {
        vec![experts(p)]
    }),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.mlp.experts.gate_up_proj",
            "layers.{}.mlp.experts.gate_proj.weight",
        ],
        up_shape,
    ),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.mlp.experts.gate_up_proj",
            "layers.{}.mlp.experts.up_proj.weight",
        ],
        up_shape,
    ),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.mlp.experts.down_proj",
            "layers.{}.mlp.experts.down_proj.weight",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    ),
    TensorRow::bias(
        R::FfnGateExperts,
        &[
            "layers.{}.mlp.experts.gate_up_proj_bias",
            "layers.{}.mlp.experts.gate_proj.bias",
        ],
        up_bias_shape,
    ),
    TensorRow::bias(
        R::FfnUpExperts,
        &[
            "layers.{}.mlp.experts.gate_up_proj_bias",
            "layers.{}.mlp.experts.up_proj.bias",
        ],
        up_bias_shape,
    ),
    TensorRow::bias(
        R::FfnDownExperts,
        &[
            "layers.{}.mlp.experts.down_proj_bias",
            "layers.{}.mlp.experts.down_proj.bias",
        ],
        |p| vec![experts(p), p.dims.hidden],
    ),
];
