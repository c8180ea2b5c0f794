//! Llama and its close relatives: Llama 2 and 3, TinyLlama, SmolLM2, Mistral, DeepSeek-R1 distills,
//! SmolLM3, Phi-3.
//!
//! Sources: `modeling_llama.py`, `modeling_smollm3.py`, `modeling_phi3.py` of Transformers;
//! `src/models/llama.cpp`, `smollm3.cpp`, `phi3.cpp` of llama.cpp.

use super::common::*;
use crate::model::arch::{Arch, Row};
use crate::model::role::TensorRole as R;

/// llama.cpp runs Mistral as `llama`, without its sliding window.
pub(super) static LLAMA: Arch = Arch {
    name: "llama",
    classes: &[
        "LlamaForCausalLM",
        "LLaMAForCausalLM",
        "MistralForCausalLM",
        "LlamaModel",
        "LlamaForSequenceClassification",
    ],
    model_types: &["llama", "mistral"],
    defaults: &[],
    tied_by_default: false,
    layers: uniform,
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
};

pub(super) static SMOLLM3: Arch = Arch {
    name: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    defaults: &[],
    tied_by_default: true,
    layers: uniform,
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
};

/// Phi-3.5 and Phi-4-mini. llama.cpp forces their sliding window off.
pub(super) static PHI3: Arch = Arch {
    name: "phi3",
    classes: &["Phi3ForCausalLM"],
    model_types: &["phi3", "phi4"],
    defaults: &[],
    tied_by_default: false,
    layers: uniform,
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, FUSED],
};

const FUSED: &[Row] = &[
    Row::weight(R::AttnQkv, &["layers.{}.self_attn.qkv_proj.weight"], |p| {
        vec![
            query_width(p) + key_width(p) + value_width(p),
            p.dims.hidden,
        ]
    }),
    Row::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
    Row::weight(R::FfnUp, &["layers.{}.mlp.gate_up_proj.weight"], |p| {
        vec![2 * inner(p), p.dims.hidden]
    }),
    Row::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    Row::weight(R::RopeFactorsLong, &[], |p| vec![p.extra.rope_factors])
        .when(|p| p.extra.rope_factors > 0),
    Row::weight(R::RopeFactorsShort, &[], |p| vec![p.extra.rope_factors])
        .when(|p| p.extra.rope_factors > 0),
];
