//! GLM-4 and GLM-Edge: a fused gate and up projection. GLM-4 of 0414 and GLM-4.1V have four norms.
//!
//! Sources: `modeling_glm.py`, `modeling_glm4.py` of Transformers; `src/models/chatglm.cpp`, `glm4.cpp`, `conversion/chatglm.py` and
//! `glm.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, SpecialToken, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, read};
use crate::model::role::TensorRole as R;

const CONVERSION: Conversion = Conversion {
    keys: &[
        COMMON,
        HEAD_DIM_IF_STATED,
        FILE_TYPE,
        &[KeyRule::Derived(Derived::RopeDims(0.5))],
    ],
    pre_tokenizer: Some("glm4"),
    special_tokens: GLM_TOKENS,
    ..Conversion::USUAL
};

pub(super) static GLM4: Arch = Arch {
    name: "glm4",
    classes: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        halves_with_sections: true,
        ..PLAIN
    }),
    tensors: &[EMBEDDING_AND_HEAD, NORMS, ATTENTION, QKV_BIAS, FUSED_FFN],
    conversion: Some(CONVERSION),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SECTIONS],
        rules: &[LoaderRule::BlocksAhead, LoaderRule::NeedsBlocksAhead],
        ..Loader::USUAL
    },
    ..USUAL
};

/// The special tokens that the converter writes for all GLM but the first.
pub(super) const GLM_TOKENS: &[SpecialToken] = &[
    END_OF_TEXT[0],
    SpecialToken::Text {
        kind: "eot",
        text: "<|user|>",
    },
    END_OF_TEXT[1],
    END_OF_TEXT[2],
];

/// What end of text stands for, besides.
const END_OF_TEXT: [SpecialToken; 3] = [
    SpecialToken::Text {
        kind: "eos",
        text: "<|endoftext|>",
    },
    SpecialToken::Text {
        kind: "unk",
        text: "<|endoftext|>",
    },
    SpecialToken::Text {
        kind: "bos",
        text: "<|endoftext|>",
    },
];

/// llama.cpp's converter reads the context, the base of rotary positions and the epsilon under the names of older files
/// alone, and writes other values than those that a file of Transformers states.
pub(super) static GLM: Arch = Arch {
    name: "chatglm",
    classes: &["GlmForCausalLM"],
    model_types: &["glm"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        FUSED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[GLM_KEYS],
        pre_tokenizer: Some("glm4"),
        special_tokens: &[
            END_OF_TEXT[0],
            SpecialToken::Text {
                kind: "eot",
                text: "<|user|>",
            },
            END_OF_TEXT[1],
        ],
        ..Conversion::USUAL
    }),
    ..USUAL
};

const GLM_KEYS: &[KeyRule] = &[
    CONTEXT,
    HIDDEN,
    FFN,
    BLOCKS,
    HEADS,
    KV_HEADS,
    RMS_EPSILON,
    KeyRule::FileType,
    KeyRule::Derived(Derived::RopeDims(0.5)),
    KeyRule::Flag {
        key: "tokenizer.ggml.add_bos_token",
        from: None,
        or: false,
    },
    ROPE_BASE,
];

/// GLM-4.1V's text model. Neighbours of a head turn together, and llama.cpp turns halves by a time, a height and a width: the
/// converter reorders what turns.
pub(super) static GLM4V: Arch = Arch {
    classes: &["Glm4vForConditionalGeneration"],
    model_types: &["glm4v", "glm4v_text"],
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        ALWAYS_QKV_BIAS,
        FUSED_FFN,
    ],
    conversion: Some(Conversion {
        weights: &[WeightRule {
            roles: &[R::AttnQ, R::AttnK],
            transform: WeightTransform::RotaryHalvesOfHalf,
        }],
        ..CONVERSION
    }),
    ..GLM4
};

const OPTIONAL_SECTIONS: &[LoaderKeys] = &[read(ValueForm::Sections, &[SECTIONS])];

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_self_attn_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnPostNorm,
        &["layers.{}.post_mlp_layernorm.weight"],
        hidden,
    ),
];

const FUSED_FFN: &[TensorRow] = &[
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.gate_up_proj.weight"], |p| {
        vec![2 * inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
];
