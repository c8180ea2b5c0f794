//! Qwen 2, 2.5 and 3, dense and with experts, and the text parts of Qwen-VL.
//!
//! Sources: `modeling_qwen2.py`, `modeling_qwen2_moe.py`, `modeling_qwen3.py`, `modeling_qwen3_moe.py`,
//! `modeling_qwen2_5_vl.py`, `modeling_qwen3_vl*.py` of Transformers; `src/models/qwen2*.cpp`, `qwen3*.cpp`
//! of llama.cpp.

use super::common::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, Row};
use crate::model::facts::{Facts, Key};
use crate::model::pass::PLAIN;
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

pub(super) static QWEN2: Arch = Arch {
    name: "qwen2",
    classes: &["Qwen2ForCausalLM"],
    model_types: &["qwen2"],
    pass: Some(PLAIN),
    layers: uniform,
    tensors: QWEN2_TENSORS,
};

/// The text part of Qwen2-VL and Qwen2.5-VL.
pub(super) static QWEN2VL: Arch = Arch {
    name: "qwen2vl",
    classes: &[
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
    ],
    model_types: &["qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"],
    pass: None,
    ..QWEN2
};

pub(super) static QWEN2MOE: Arch = Arch {
    name: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    model_types: &["qwen2_moe"],
    pass: None,
    layers: qwen2moe_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        ALWAYS_QKV_BIAS,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
        SHARED_EXPERT_ROUTER,
    ],
};

pub(super) static QWEN3: Arch = Arch {
    name: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    pass: Some(PLAIN),
    layers: uniform,
    tensors: QWEN3_TENSORS,
};

pub(super) static QWEN3MOE: Arch = Arch {
    name: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    pass: Some(PLAIN),
    layers: uniform,
    tensors: QWEN3_TENSORS,
};

/// The text part of Qwen3-VL.
pub(super) static QWEN3VL: Arch = Arch {
    name: "qwen3vl",
    classes: &["Qwen3VLForConditionalGeneration"],
    model_types: &["qwen3_vl", "qwen3_vl_text"],
    pass: None,
    ..QWEN3
};

/// The text part of Qwen3-VL with experts.
pub(super) static QWEN3VLMOE: Arch = Arch {
    name: "qwen3vlmoe",
    classes: &["Qwen3VLMoeForConditionalGeneration"],
    model_types: &["qwen3_vl_moe", "qwen3_vl_moe_text"],
    pass: None,
    ..QWEN3MOE
};

const QWEN2_TENSORS: &[&[Row]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    ALWAYS_QKV_BIAS,
    GATED_FFN,
];

const QWEN3_TENSORS: &[&[Row]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    QKV_BIAS,
    QK_NORM,
    GATED_FFN,
    EXPERTS,
];

/// How much of the shared expert a token takes: one output, so a vector in GGUF.
pub(super) const SHARED_EXPERT_ROUTER: &[Row] = &[Row::weight(
    R::FfnSharedRouter,
    &["layers.{}.mlp.shared_expert_gate.weight"],
    |p| vec![1, p.dims.hidden],
)
.when(has_shared_expert)];

fn qwen2moe_layers(facts: &Facts<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(facts)?;
    fill_expert_widths(facts, &mut layers)?;
    Ok(layers)
}

/// Old GGUF files leave out the widths of the experts: the dense width is the shared expert's, and
/// the routed ones divide it.
pub(super) fn fill_expert_widths(
    facts: &Facts<'_>,
    layers: &mut [Layer],
) -> Result<(), ModelError> {
    let stated = facts.get(Key::ExpertFfn)?.is_some();
    let dense = facts.or_zero(Key::Ffn)?;
    for layer in layers {
        if let FeedForward::Experts {
            used,
            inner,
            shared_inner,
            ..
        } = &mut layer.feed_forward
        {
            if !stated {
                *inner = dense / *used;
            }
            if *shared_inner == 0 {
                *shared_inner = dense;
            }
        }
    }
    Ok(())
}
