//! Qwen 2, 2.5 and 3, dense and with experts.
//!
//! Sources: `modeling_qwen2.py`, `modeling_qwen3.py`, `modeling_qwen3_moe.py` of Transformers;
//! `src/models/qwen2.cpp`, `qwen3.cpp`, `qwen3moe.cpp` of llama.cpp.

use super::common::*;
use crate::model::arch::{Arch, Row};
use crate::model::role::TensorRole as R;

/// Qwen2's three biases are always there; its configuration has no key for them.
const ALWAYS_QKV_BIAS: &[Row] = &[
    Row::bias(R::AttnQ, &["layers.{}.self_attn.q_proj.bias"], |p| {
        vec![query_width(p)]
    }),
    Row::bias(R::AttnK, &["layers.{}.self_attn.k_proj.bias"], |p| {
        vec![key_width(p)]
    }),
    Row::bias(R::AttnV, &["layers.{}.self_attn.v_proj.bias"], |p| {
        vec![value_width(p)]
    }),
];

pub(super) static QWEN2: Arch = Arch {
    name: "qwen2",
    classes: &["Qwen2ForCausalLM", "Qwen2Model"],
    model_types: &["qwen2"],
    defaults: &[],
    tied_by_default: false,
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        ALWAYS_QKV_BIAS,
        GATED_FFN,
    ],
};

pub(super) static QWEN3: Arch = Arch {
    name: "qwen3",
    classes: &["Qwen3ForCausalLM", "Qwen3Model"],
    model_types: &["qwen3"],
    defaults: &[],
    tied_by_default: false,
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        QK_NORM,
        GATED_FFN,
    ],
};

pub(super) static QWEN3MOE: Arch = Arch {
    name: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    defaults: &[],
    tied_by_default: false,
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        QK_NORM,
        GATED_FFN,
        EXPERTS,
    ],
};
