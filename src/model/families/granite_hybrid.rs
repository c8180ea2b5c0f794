//! Granite 4: Mamba 2 with some blocks of attention, or attention alone; dense or with experts.
//!
//! Sources: `modeling_granitemoehybrid.py` of Transformers; `src/models/granite-hybrid.cpp` and
//! `conversion/granite.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::hybrid::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, Place, Row};
use crate::model::facts::{Facts, Key, json_lookup};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

pub(super) static GRANITE_HYBRID: Arch = Arch {
    name: "granitehybrid",
    classes: &["GraniteMoeHybridForCausalLM"],
    model_types: &["granitemoehybrid"],
    defaults: DEFAULTS,
    tied_by_default: false,
    layers: granite_layers,
    tensors: TENSORS,
};

/// The same class with no Mamba block, which llama.cpp runs as plain `granite`. A GGUF of that name
/// is another architecture's to read.
pub(super) static GRANITE_WITHOUT_MAMBA: Arch = Arch {
    name: "granite",
    classes: &[],
    model_types: &[],
    defaults: DEFAULTS,
    tied_by_default: false,
    layers: granite_layers,
    tensors: TENSORS,
};

const DEFAULTS: &[(Key, u64)] = &[
    (Key::ConvKernel, 4),
    (Key::StateSize, 256),
    (Key::SsmGroups, 1),
    (Key::SsmHeads, 128),
    (Key::SsmExpand, 2),
];

const TENSORS: &[&[Row]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    QKV_BIAS,
    OUTPUT_BIAS,
    MAMBA2,
    MAMBA2_NORM,
    SHARED_MLP,
    ROUTED,
];

/// The feed-forward that every block has, gate and up in one matrix: alone it is the block's own,
/// beside routed experts it is the shared one.
const SHARED_MLP: &[Row] = &[
    Row::weight(R::FfnGate, GATE_AND_UP, |p| vec![inner(p), p.dims.hidden]).when(is_dense),
    Row::weight(R::FfnUp, GATE_AND_UP, |p| vec![inner(p), p.dims.hidden]).when(is_dense),
    Row::weight(R::FfnDown, DOWN, |p| vec![p.dims.hidden, inner(p)]).when(is_dense),
    Row::weight(R::FfnGateShared, GATE_AND_UP, |p| {
        vec![shared_inner(p), p.dims.hidden]
    })
    .when(has_shared_expert),
    Row::weight(R::FfnUpShared, GATE_AND_UP, |p| {
        vec![shared_inner(p), p.dims.hidden]
    })
    .when(has_shared_expert),
    Row::weight(R::FfnDownShared, DOWN, |p| {
        vec![p.dims.hidden, shared_inner(p)]
    })
    .when(has_shared_expert),
];

const GATE_AND_UP: &[&str] = &["layers.{}.shared_mlp.input_linear.weight"];
const DOWN: &[&str] = &["layers.{}.shared_mlp.output_linear.weight"];

const ROUTED: &[Row] = &[
    Row::weight(
        R::FfnRouter,
        &[
            "layers.{}.block_sparse_moe.router.layer.weight",
            "layers.{}.block_sparse_moe.router.weight",
        ],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(R::FfnGateExperts, EXPERTS_GATE_AND_UP, expert_rows).when(has_experts),
    Row::weight(R::FfnUpExperts, EXPERTS_GATE_AND_UP, expert_rows).when(has_experts),
    Row::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.block_sparse_moe.output_linear.weight",
            "layers.{}.block_sparse_moe.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

const EXPERTS_GATE_AND_UP: &[&str] = &[
    "layers.{}.block_sparse_moe.input_linear.weight",
    "layers.{}.block_sparse_moe.experts.gate_up_proj",
];

fn expert_rows(p: &Place<'_>) -> Vec<u64> {
    vec![experts(p), inner(p), p.dims.hidden]
}

/// Whether a block attends, by its name in `config.json`.
fn attends(kind: &str) -> bool {
    matches!(kind, "attention" | "full_attention")
}

/// Whether a `config.json` of this class lists attention alone.
pub(super) fn only_attends(config: &Json) -> bool {
    let types = json_lookup(config, "layer_types").and_then(Json::as_array);
    types.is_some_and(|list| {
        !list.is_empty() && list.iter().all(|t| t.as_str().is_some_and(attends))
    })
}

/// Mamba where the configuration does not name attention; in a GGUF, where a block has no key-value
/// heads.
fn granite_layers(facts: &Facts<'_>) -> Result<Vec<Layer>, ModelError> {
    let types = block_types(facts);
    let attending = types
        .as_ref()
        .is_some_and(|list| list.iter().all(|t| attends(t)));
    let mut layers = match attending {
        true => uniform(facts)?,
        false => interleaved(facts, &mamba2(facts)?, |index, attention| match &types {
            Some(types) => !types.get(index).is_some_and(|t| attends(t)),
            None => facts.is_hugging_face() || attention.kv_heads == 0,
        })?,
    };
    // A dense block is the shared feed-forward; conversion to GGUF names it as the block's own.
    let shared = facts
        .get(Key::SharedExpertFfn)?
        .filter(|_| facts.is_hugging_face());
    for layer in &mut layers {
        if let (FeedForward::Dense { inner }, Some(shared)) = (&mut layer.feed_forward, shared) {
            *inner = shared;
        }
    }
    Ok(layers)
}
