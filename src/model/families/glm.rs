//! GLM-4 (0414): four norms and a fused gate and up projection.
//!
//! Sources: `modeling_glm4.py` of Transformers; `src/models/glm4.cpp` and `conversion/glm.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, SpecialToken};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, read};
use crate::model::role::TensorRole as R;

pub(super) static GLM4: Arch = Arch {
    name: "glm4",
    classes: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    tensors: &[EMBEDDING_AND_HEAD, NORMS, ATTENTION, QKV_BIAS, FUSED_FFN],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            &[KeyRule::Derived(Derived::RopeDims(0.5))],
        ],
        pre_tokenizer: Some("glm4"),
        special_tokens: &[
            END_OF_TEXT[0],
            SpecialToken::Text {
                kind: "eot",
                text: "<|user|>",
            },
            END_OF_TEXT[1],
            END_OF_TEXT[2],
        ],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SECTIONS],
        rules: &[LoaderRule::BlocksAhead, LoaderRule::NeedsBlocksAhead],
        ..Loader::USUAL
    },
    ..USUAL
};

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
