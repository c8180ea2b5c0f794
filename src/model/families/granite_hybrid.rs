//! Granite 4: Mamba 2 with some blocks of attention, or attention alone; dense or with experts.
//!
//! Sources: `modeling_granitemoehybrid.py` of Transformers; `src/models/granite-hybrid.cpp` and
//! `conversion/granite.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::granite::{GRANITE_FORWARD, SCALES, SHARED_MLP, SPARSE_MOE};
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{MULTIPLIERS, RMS_NORM, SHARED_EXPERT_WIDTH, STATE_SPACE};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::ArchTraits;
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

pub(super) static GRANITE_HYBRID: Arch = Arch {
    name: "granitehybrid",
    classes: &["GraniteMoeHybridForCausalLM"],
    model_types: &["granitemoehybrid"],
    forward: Some(ArchTraits {
        states_rotation: true,
        ..GRANITE_FORWARD
    }),
    layers: granite_layers,
    tensors: TENSORS,
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            FILE_TYPE,
            VOCAB_AND_ROPE,
            SCALES,
            &[KeyRule::count(Key::SharedExpertFfn)],
            STATE_SPACE_KEYS,
            &[KeyRule::Derived(Derived::KvHeadsByBlock)],
            NO_POSITIONS,
        ],
        vocabulary: Vocabulary::Llama,
        pre_tokenizer: Some("refact"),
        weights: &[ROTARY_PAIRS[0], DECAY],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[
            RMS_NORM,
            OPTIONAL_LOGIT_SCALE,
            MULTIPLIERS,
            SHARED_EXPERT_WIDTH,
            STATE_SPACE,
        ],
        rules: &[LoaderRule::MixerTwiceAsWide, LoaderRule::RopeUnlessStated],
        optional: &[R::FfnGateExperts],
        ..MAMBA2_LOADER
    },
    ..USUAL
};

const OPTIONAL_LOGIT_SCALE: &[LoaderKeys] = &[read(ValueForm::Float, &["logit_scale"])];

/// The same class without Mamba blocks, which llama.cpp runs as `granite`. A GGUF of that name is read by the entry of
/// Granite.
pub(super) static GRANITE_WITHOUT_MAMBA: Arch = Arch {
    name: "granite",
    layers: granite_layers,
    tensors: TENSORS,
    ..USUAL
};

const TENSORS: &[&[TensorRow]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    QKV_BIAS,
    OUTPUT_BIAS,
    MAMBA2,
    MAMBA2_NORM,
    OWN_MLP,
    SHARED_MLP,
    SPARSE_MOE,
];

/// The feed-forward of a block without experts, which the checkpoint stores as the shared expert with gate and up fused.
const OWN_MLP: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnGate,
        &["layers.{}.shared_mlp.input_linear.weight"],
        |p| vec![inner(p), p.dims.hidden],
    )
    .when(is_dense),
    TensorRow::weight(
        R::FfnUp,
        &["layers.{}.shared_mlp.input_linear.weight"],
        |p| vec![inner(p), p.dims.hidden],
    )
    .when(is_dense),
    TensorRow::weight(
        R::FfnDown,
        &["layers.{}.shared_mlp.output_linear.weight"],
        |p| vec![p.dims.hidden, inner(p)],
    )
    .when(is_dense),
];

/// Whether a block attends, by its name in `config.json`.
fn attends(kind: &str) -> bool {
    matches!(kind, "attention" | "full_attention")
}

/// Whether a `config.json` of this class lists only attention blocks.
pub(super) fn only_attends(config: &HParams<'_>) -> bool {
    let types = config.json("layer_types").and_then(Json::as_array);
    types.is_some_and(|list| {
        !list.is_empty() && list.iter().all(|t| t.as_str().is_some_and(attends))
    })
}

/// Whether it lists only attention blocks and has experts, which llama.cpp runs as `granitemoe`.
pub(super) fn only_attends_with_experts(config: &HParams<'_>) -> bool {
    only_attends(config)
        && config
            .get(Key::Experts)
            .ok()
            .flatten()
            .is_some_and(|n| n > 0)
}

/// Blocks that the configuration does not name as attention are Mamba 2; in a GGUF those without key-value heads.
fn granite_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let types = block_types(hparams);
    let attending = types
        .as_ref()
        .is_some_and(|list| list.iter().all(|t| attends(t)));
    let mut layers = if attending {
        uniform(hparams)?
    } else {
        interleaved(
            hparams,
            &mamba2_of_stated_width(hparams)?,
            |index, attention| match &types {
                Some(types) => !types.get(index).is_some_and(|t| attends(t)),
                None => hparams.is_hugging_face() || attention.kv_heads == 0,
            },
        )?
    };
    // A dense block has only the shared feed-forward, which a GGUF stores as the block's own.
    let shared = hparams
        .get(Key::SharedExpertFfn)?
        .filter(|_| hparams.is_hugging_face());
    for layer in &mut layers {
        if let (FeedForward::Dense { inner }, Some(shared)) = (&mut layer.feed_forward, shared) {
            *inner = shared;
        }
    }
    Ok(layers)
}
