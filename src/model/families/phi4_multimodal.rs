//! Phi-4-multimodal: Phi-4-mini, whose projections are stored as PEFT wraps them, beside one adapter for images and one for
//! sounds. Text alone is computed without an adapter, so its model is a Phi-3; llama.cpp's converter does not take the class,
//! and vLLM loads the adapters from folders of their own (`--enable-lora`).
//!
//! Sources: `modeling_phi4mm.py` beside the weights; `phi4mm.py` of vLLM.

use super::common::*;
use super::llama::{DOWN_OF_FUSED, FUSED_GATE, FUSED_HEADS, OUTPUT_OF_FUSED, PHI3};
use crate::model::arch::{Arch, TensorRow};

pub(super) static PHI4_MULTIMODAL: Arch = Arch {
    classes: &["Phi4MMForCausalLM"],
    model_types: &["phi4mm"],
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, WRAPPED, ROPE_FACTORS],
    ..PHI3
};

const WRAPPED: &[TensorRow] = &[
    FUSED_HEADS.named(&[
        "layers.{}.self_attn.qkv_proj.base_layer.weight",
        "layers.{}.self_attn.qkv_proj.weight",
    ]),
    OUTPUT_OF_FUSED.named(&[
        "layers.{}.self_attn.o_proj.base_layer.weight",
        "layers.{}.self_attn.o_proj.weight",
    ]),
    FUSED_GATE.named(&[
        "layers.{}.mlp.gate_up_proj.base_layer.weight",
        "layers.{}.mlp.gate_up_proj.weight",
    ]),
    DOWN_OF_FUSED.named(&[
        "layers.{}.mlp.down_proj.base_layer.weight",
        "layers.{}.mlp.down_proj.weight",
    ]),
];
