//! Llama and its close relatives: Llama 2 and 3, TinyLlama, SmolLM2, Mistral, DeepSeek-R1 distills,
//! Mixtral, Mistral 3, SmolLM3, Phi-3.
//!
//! Sources: `modeling_llama.py`, `modeling_mixtral.py`, `modeling_ministral3.py`, `modeling_smollm3.py`,
//! `modeling_phi3.py` of Transformers; `src/models/llama.cpp`, `mistral3.cpp`, `smollm3.cpp`, `phi3.cpp`
//! of llama.cpp.

use super::common::*;
use crate::model::arch::{Arch, Row};
use crate::model::pass::{PLAIN, Recipe, RopeStyle};
use crate::model::role::TensorRole as R;

const LLAMA_PASS: Recipe = Recipe {
    rope: RopeStyle::Neighbours,
    ..PLAIN
};

/// llama.cpp runs Mistral and Mixtral as `llama`, without their sliding window.
pub(super) static LLAMA: Arch = Arch {
    name: "llama",
    classes: &[
        "LlamaForCausalLM",
        "LLaMAForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
    ],
    model_types: &["llama", "mistral", "mixtral"],
    pass: Some(LLAMA_PASS),
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        GATED_FFN,
        GATED_FFN_BIAS,
        MIXTRAL_EXPERTS,
        ROPE_FREQS,
    ],
};

/// The text part of Mistral Small 3.1 and of Ministral 3.
pub(super) static MISTRAL3: Arch = Arch {
    name: "mistral3",
    classes: &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
    model_types: &["mistral3", "ministral3", "mistral"],
    pass: None,
    ..LLAMA
};

/// Mixtral's names for what [`EXPERTS`] describes; `w1` gates, `w3` goes up, `w2` down.
const MIXTRAL_EXPERTS: &[Row] = &[
    Row::weight(
        R::FfnRouter,
        &[
            "layers.{}.block_sparse_moe.gate.weight",
            "layers.{}.mlp.gate.weight",
        ],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w1.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w3.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w2.weight",
            "layers.{}.mlp.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

pub(super) static SMOLLM3: Arch = Arch {
    name: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    pass: Some(Recipe {
        skip_rope_every: 4,
        ..LLAMA_PASS
    }),
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
    pass: Some(PLAIN),
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
