//! GLM-4 (0414): four norms and a fused gate and up projection.
//!
//! Sources: `modeling_glm4.py` of Transformers; `src/models/glm4.cpp` of llama.cpp.

use super::common::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, read};
use crate::model::role::TensorRole as R;

pub(super) static GLM4: Arch = Arch {
    name: "glm4",
    classes: &["Glm4ForCausalLM"],
    model_types: &["glm4"],
    tensors: &[EMBEDDING_AND_HEAD, NORMS, ATTENTION, QKV_BIAS, FUSED_FFN],
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SECTIONS],
        rules: &[LoaderRule::BlocksAhead, LoaderRule::NeedsBlocksAhead],
        ..Loader::USUAL
    },
    ..USUAL
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
