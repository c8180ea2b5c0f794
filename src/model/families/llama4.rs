//! Llama 4: attention in chunks in three of four blocks, the others without positions, and experts in some blocks. MobileLLM-R1
//! is one without experts, chunks and windows.
//!
//! Sources: `modeling_llama4.py` and `configuration_llama4.py` of Transformers; `src/models/llama4.cpp` and
//! `conversion/llama.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    NEEDS_EXPERT_WIDTH, OPTIONAL_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE,
};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, WeightRule, WeightTransform};
use crate::model::forward_spec::{
    ArchTraits, PLAIN, PlainHeadNorms, RopeStyle, RotatedBlocks, Routing, Scores, Temperature,
};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

/// Chunks, positions, temperature and norms without weights are built into llama.cpp.
pub(super) static LLAMA4: Arch = Arch {
    name: "llama4",
    classes: &["Llama4ForConditionalGeneration", "Llama4ForCausalLM"],
    model_types: &["llama4", "llama4_text"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        rotated: RotatedBlocks::NotEach(4),
        plain_head_norms: Some(PlainHeadNorms { but_for: 128 }),
        chunked: true,
        temperature: Some(Temperature {
            scale: 0.1,
            step: CHUNK,
            ahead: 1,
            unrotated: true,
        }),
        routing: Routing {
            scores: Scores::Sigmoid,
            normalized: false,
            scale: 1.0,
            before: true,
        },
        ..PLAIN
    }),
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            VOCAB_AND_ROPE,
            &[
                KeyRule::count_from(Key::Ffn, Key::DenseFfn),
                KeyRule::count(Key::RoutedInterval),
                KeyRule::count_from(Key::ExpertFfn, Key::Ffn),
            ],
        ],
        weights: STACKED_IN_COLUMNS,
        ..Conversion::USUAL
    }),
    layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        FEED_FORWARD,
        ROUTED,
        ROPE_FREQS,
    ],
    quirks: Quirks::NONE.vllm_reorders_heads(),
    loader: Loader {
        keys: &[
            RMS_NORM,
            NEEDS_EXPERT_WIDTH,
            NEEDS_STEP,
            OPTIONAL_WINDOW,
            WINDOW_PATTERN,
            WINDOW_ROPE_BASE,
        ],
        rules: &[
            LoaderRule::WholeHeads,
            LoaderRule::WholeBlock,
            LoaderRule::Routed,
        ],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

/// The same class without experts, which llama.cpp loads no model of under that name. It computes the same as `qwen3`: a head
/// that turns keeps its length, so it may be normed before, with weights, which are ones; and its halves turn, so that rows of
/// queries and keys are reordered.
pub(super) static LLAMA4_DENSE: Arch = Arch {
    name: "qwen3",
    forward: Some(PLAIN),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        UNIT_HEAD_NORMS,
        FEED_FORWARD,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON_WITHOUT_EXPERTS,
            HEAD_DIM,
            FILE_TYPE,
            &[KeyRule::count_from(Key::Ffn, Key::DenseFfn)],
        ],
        weights: &[WeightRule {
            roles: &[R::AttnQ, R::AttnK],
            transform: WeightTransform::RotaryHalves,
        }],
        ..Conversion::USUAL
    }),
    loader: Loader::USUAL,
    ..LLAMA4
};

/// The same without norms of heads.
pub(super) static LLAMA4_DENSE_WITHOUT_NORMS: Arch = Arch {
    refusal: Some(
        "without experts and without norms of heads it is no model that llama.cpp loads; others of its class are converted",
    ),
    ..LLAMA4
};

/// Whether a `config.json` has no experts.
pub(super) fn has_no_experts(hparams: &HParams<'_>) -> bool {
    let experts = hparams.json("num_local_experts").and_then(Json::as_u64);
    experts == Some(0)
}

/// Whether it has no norms of heads either.
pub(super) fn has_neither_experts_nor_norms(hparams: &HParams<'_>) -> bool {
    has_no_experts(hparams) && hparams.flag("use_qk_norm") == Some(false)
}

/// Norms of heads that the checkpoint does not store.
const UNIT_HEAD_NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnQNorm, &[], key_head),
    TensorRow::weight(R::AttnKNorm, &[], key_head),
];

const NEEDS_STEP: &[LoaderKeys] = &[needed(ValueForm::Count, &["interleave_moe_layer_step"])];

/// Tokens of a chunk, which llama.cpp has built in.
const CHUNK: u64 = 8192;

fn layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    if !hparams.is_hugging_face() {
        let windows = sliding(hparams, CHUNK, 4)?;
        let chunk = |index: usize| Ok(windows(index)?.map(|_| CHUNK));
        return with_shared_experts(blocks(hparams, chunk)?, None);
    }
    let count = |name: &str| match hparams.json(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_u64().filter(|&n| n > 0 && n < 1 << 31) {
            Some(n) => Ok(Some(n)),
            None => Err(ModelError::BadValue {
                key: name.to_owned(),
            }),
        },
    };
    let chunk = count("attention_chunk_size")?.unwrap_or(CHUNK);
    let kinds = hparams.words("layer_types");
    let turned = hparams.json("no_rope_layers").and_then(Json::as_array);
    let turned = turned.filter(|list| !list.is_empty());
    let chunks = |index: usize| {
        let is_chunked = match (&kinds, turned) {
            (Some(kinds), _) => kinds.get(index) == Some(&"chunked_attention"),
            (None, Some(turned)) => turned.get(index).and_then(Json::as_u64) != Some(0),
            (None, None) => !(index + 1).is_multiple_of(4),
        };
        Ok(is_chunked.then_some(chunk))
    };
    let layers = blocks(hparams, chunks)?;
    routed_as_stated(hparams, &layers)?;
    let dense = count("intermediate_size_mlp")?;
    with_shared_experts(layers, dense)
}

/// Errors if `moe_layers` lists other blocks than each so-many-th.
fn routed_as_stated(hparams: &HParams<'_>, layers: &[Layer]) -> Result<(), ModelError> {
    let listed = hparams.json("moe_layers").and_then(Json::as_array);
    let Some(listed) = listed else {
        return Ok(());
    };
    let is_listed = |block: usize| listed.iter().any(|n| n.as_u64() == Some(block as u64));
    let is_routed = |layer: &Layer| matches!(layer.feed_forward, FeedForward::Experts { .. });
    let mut each = layers.iter().enumerate();
    match each.find(|(block, layer)| is_routed(layer) != is_listed(*block)) {
        Some((block, _)) => Err(ModelError::Contradiction {
            what: format!(
                "`moe_layers` and `interleave_moe_layer_step` disagree about block {block}"
            ),
        }),
        None => Ok(()),
    }
}

/// The same with an expert that all tokens use, as wide as the others, and with dense blocks of their own width.
fn with_shared_experts(
    mut layers: Vec<Layer>,
    dense: Option<u64>,
) -> Result<Vec<Layer>, ModelError> {
    for layer in &mut layers {
        match &mut layer.feed_forward {
            FeedForward::Experts {
                inner,
                shared_inner,
                ..
            } => *shared_inner = *inner,
            FeedForward::Dense { inner } => *inner = dense.unwrap_or(*inner),
            FeedForward::None => {}
        }
    }
    Ok(layers)
}

const GATE: &[&str] = &[
    "layers.{}.feed_forward.experts.gate_up_proj",
    "layers.{}.feed_forward.experts.{}.gate_proj.weight",
];
const UP: &[&str] = &[
    "layers.{}.feed_forward.experts.gate_up_proj",
    "layers.{}.feed_forward.experts.{}.up_proj.weight",
];

const ROUTED: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &["layers.{}.feed_forward.router.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(R::FfnGateExperts, GATE, |p| {
        vec![experts(p), inner(p), p.dims.hidden]
    })
    .when(has_experts),
    TensorRow::weight(R::FfnUpExperts, UP, |p| {
        vec![experts(p), inner(p), p.dims.hidden]
    })
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.feed_forward.experts.down_proj",
            "layers.{}.feed_forward.experts.{}.down_proj.weight",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateShared,
        &["layers.{}.feed_forward.shared_expert.gate_proj.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnUpShared,
        &["layers.{}.feed_forward.shared_expert.up_proj.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnDownShared,
        &["layers.{}.feed_forward.shared_expert.down_proj.weight"],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];
