//! Nemotron-H, Nemotron Nano 2 and Nemotron 3. Each block is one of Mamba 2, attention, feed-forward or experts;
//! feed-forwards have a squared ReLU and no gate.
//!
//! Sources: `modeling_nemotron_h.py` of Transformers; `src/models/nemotron-h.cpp` and
//! `conversion/nemotron.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{OPTIONAL_EXPERT_WIDTH, SHARED_EXPERT_WIDTH, STATE_SPACE};
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{Activation, ArchTraits, PLAIN, RotatedBlocks, Routing, Scores};
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{
    EPSILON, LAYER_EPSILON, Loader, LoaderKeys, LoaderRule, ValueForm, needed, read,
};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Attention, Cache, FeedForward, Layer, Mixer};

pub(super) static NEMOTRON_H: Arch = Arch {
    name: "nemotron_h",
    classes: &["NemotronHForCausalLM"],
    model_types: &["nemotron_h"],
    forward: Some(FORWARD),
    layers: nemotron_layers,
    tensors: TENSORS,
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            FILE_TYPE,
            BLOCK_KEYS,
            STATE_SPACE_KEYS,
            NO_POSITIONS,
            HEAD_DIM,
            &[KeyRule::Derived(Derived::WidthsByBlock)],
        ],
        weights: &[ROTARY_PAIRS[0], DECAY],
        ..Conversion::USUAL
    }),
    quirks: Quirks::NONE.late_rows().vllm_full_states(),
    loader: LOADER,
    ..USUAL
};

const FORWARD: ArchTraits = ArchTraits {
    rotated: RotatedBlocks::None,
    gated_feed_forward: false,
    activation: Activation::ReluSquared,
    routing: Routing {
        scores: Scores::Sigmoid,
        normalized: false,
        scale: 1.0,
        ..PLAIN.routing
    },
    states_routing: true,
    ..PLAIN
};

const BLOCK_KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::Derived(Derived::RopeDimsOfHidden),
    KeyRule::Derived(Derived::KvHeadsByBlock),
];

const ROUTED_KEYS: &[KeyRule] = &[
    KeyRule::Derived(Derived::WidthsByBlock),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::SharedExpertFfn),
    KeyRule::count(Key::SharedExperts),
    KeyRule::Flag {
        key: "expert_weights_norm",
        from: Some("norm_topk_prob"),
        or: true,
    },
    KeyRule::Number(Number::ExpertScale),
    KeyRule::count(Key::ExpertLatent),
];

const LOADER: Loader = Loader {
    keys: &[
        OPTIONAL_EXPERT_WIDTH,
        SHARED_EXPERT_WIDTH,
        STATE_SPACE,
        NEMOTRON_LOADED,
    ],
    rules: &[
        LoaderRule::RoutedPrediction,
        LoaderRule::BlocksAhead,
        LoaderRule::BlocksAheadUnsaid,
        LoaderRule::NoRope,
    ],
    biases: &[R::AttnOutput, R::FfnUp, R::FfnDown],
    needs_biases: MAMBA2_LOADER.needs_biases,
    ..Loader::USUAL
};

const NEMOTRON_LOADED: &[LoaderKeys] = &[
    read(ValueForm::Float, &[EPSILON]),
    needed(ValueForm::Float, &[LAYER_EPSILON]),
    read(
        ValueForm::Count,
        &["moe_latent_size", "expert_shared_count"],
    ),
    read(ValueForm::Float, &["expert_weights_scale"]),
    read(ValueForm::Flag, &["expert_weights_norm"]),
];

/// The same class with experts, see [`routes`].
pub(super) static NEMOTRON_H_MOE: Arch = Arch {
    name: "nemotron_h_moe",
    forward: Some(FORWARD),
    layers: nemotron_layers,
    tensors: TENSORS,
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            EXPERT_GROUPS,
            FILE_TYPE,
            BLOCK_KEYS,
            STATE_SPACE_KEYS,
            NO_POSITIONS,
            HEAD_DIM,
            ROUTED_KEYS,
        ],
        weights: &[ROTARY_PAIRS[0], DECAY],
        ..Conversion::USUAL
    }),
    quirks: Quirks::NONE.late_rows().vllm_full_states(),
    loader: Loader {
        needs_biases: &[R::FfnRouterBias, R::SsmConv1d, R::SsmDt],
        ..LOADER
    },
    ..USUAL
};

/// Whether a `config.json` of this class is of a model with experts.
pub(super) fn routes(config: &HParams<'_>) -> bool {
    config.stated(Key::ExpertsUsed.hugging_face()).is_some()
}

const TENSORS: &[&[TensorRow]] = &[
    EMBEDDING_AND_HEAD,
    NORM,
    MIXER_ATTENTION,
    MAMBA2,
    MAMBA2_NORM,
    DENSE,
    ROUTED,
];

const NORM: &[TensorRow] = &[TensorRow::weight(
    R::AttnNorm,
    &["layers.{}.norm.weight"],
    hidden,
)];

const MIXER_ATTENTION: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, &["layers.{}.mixer.q_proj.weight"], |p| {
        vec![query_width(p), p.dims.hidden]
    })
    .when(has_attention),
    TensorRow::weight(R::AttnK, &["layers.{}.mixer.k_proj.weight"], |p| {
        vec![key_width(p), p.dims.hidden]
    })
    .when(has_attention),
    TensorRow::weight(R::AttnV, &["layers.{}.mixer.v_proj.weight"], |p| {
        vec![value_width(p), p.dims.hidden]
    })
    .when(has_attention),
    TensorRow::weight(R::AttnOutput, &["layers.{}.mixer.o_proj.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    })
    .when(has_attention),
];

const DENSE: &[TensorRow] = &[
    TensorRow::weight(R::FfnUp, &["layers.{}.mixer.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnDown, &["layers.{}.mixer.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    })
    .when(is_dense),
];

/// Experts of two matrices each, which may read and write a narrower latent.
const ROUTED: &[TensorRow] = &[
    TensorRow::weight(R::FfnRouter, &["layers.{}.mixer.gate.weight"], |p| {
        vec![experts(p), p.dims.hidden]
    })
    .when(has_experts),
    TensorRow::bias(
        R::FfnRouterBias,
        &["layers.{}.mixer.gate.e_score_correction_bias"],
        |p| vec![experts(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnLatentDown,
        &["layers.{}.mixer.fc1_latent_proj.weight"],
        |p| vec![p.params.expert_latent, p.dims.hidden],
    )
    .when(has_latent),
    TensorRow::weight(
        R::FfnLatentUp,
        &["layers.{}.mixer.fc2_latent_proj.weight"],
        |p| vec![p.dims.hidden, p.params.expert_latent],
    )
    .when(has_latent),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.mixer.experts.{}.up_proj.weight",
            "layers.{}.mixer.experts.up_proj",
        ],
        |p| vec![experts(p), inner(p), expert_width(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.mixer.experts.{}.down_proj.weight",
            "layers.{}.mixer.experts.down_proj",
        ],
        |p| vec![experts(p), expert_width(p), inner(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpShared,
        &["layers.{}.mixer.shared_experts.up_proj.weight"],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    TensorRow::weight(
        R::FfnDownShared,
        &["layers.{}.mixer.shared_experts.down_proj.weight"],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];

fn has_latent(p: &RowSite<'_>) -> bool {
    has_experts(p) && p.params.expert_latent > 0
}

/// Width of the input and output of an expert.
fn expert_width(p: &RowSite<'_>) -> u64 {
    match p.params.expert_latent {
        0 => p.dims.hidden,
        latent => latent,
    }
}

/// The kind of a block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum BlockKind {
    Mamba,
    Attention,
    Dense,
    Experts,
}

impl BlockKind {
    /// The kind called `name` in `config.json`: a letter of `hybrid_override_pattern` or a word of
    /// `layers_block_type`.
    fn named(block: usize, name: &str) -> Result<BlockKind, ModelError> {
        match name {
            "M" | "mamba" | "linear_attention" => Ok(BlockKind::Mamba),
            "*" | "attention" | "full_attention" => Ok(BlockKind::Attention),
            "-" | "mlp" => Ok(BlockKind::Dense),
            "E" | "moe" => Ok(BlockKind::Experts),
            _ => Err(ModelError::UnknownBlock {
                block,
                kind: name.to_owned(),
            }),
        }
    }
}

fn nemotron_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let kinds = if hparams.is_hugging_face() {
        named_kinds(hparams)?
    } else {
        kinds_of_gguf(hparams)?
    };
    let blocks = kinds.len();
    let kinds = kinds.into_iter().enumerate();
    kinds
        .map(|(index, kind)| layer(hparams, kind, index, blocks))
        .collect()
}

fn named_kinds(hparams: &HParams<'_>) -> Result<Vec<BlockKind>, ModelError> {
    let pattern = hparams
        .json("hybrid_override_pattern")
        .and_then(Json::as_str);
    let letters = pattern.map(|p| p.split("").filter(|letter| !letter.is_empty()).collect());
    let names: Vec<&str> = letters
        .or_else(|| block_types(hparams))
        .filter(|names: &Vec<&str>| !names.is_empty())
        .ok_or_else(|| ModelError::MissingKey {
            key: "hybrid_override_pattern".to_owned(),
        })?;
    check_block_count(names.len() as u64)?;
    names
        .into_iter()
        .enumerate()
        .map(|(block, name)| BlockKind::named(block, name))
        .collect()
}

/// The kinds of a GGUF's blocks, by their key-value heads and feed-forward widths, which may be 0.
fn kinds_of_gguf(hparams: &HParams<'_>) -> Result<Vec<BlockKind>, ModelError> {
    let blocks = block_count(hparams)?;
    let routed = hparams.or_zero(Key::Experts)? > 0;
    let per_block = |key| hparams.per_block(key, blocks)?.ok_or(hparams.missing(key));
    let kind = |(kv_heads, inner)| match (kv_heads, inner, routed) {
        (0, 0, _) => BlockKind::Mamba,
        (_, 0, _) => BlockKind::Attention,
        (_, _, false) => BlockKind::Dense,
        (_, _, true) => BlockKind::Experts,
    };
    Ok(per_block(Key::KvHeads)?
        .into_iter()
        .zip(per_block(Key::Ffn)?)
        .map(kind)
        .collect())
}

fn layer(
    hparams: &HParams<'_>,
    kind: BlockKind,
    index: usize,
    blocks: usize,
) -> Result<Layer, ModelError> {
    let mixer = match kind {
        BlockKind::Mamba => Mixer {
            attention: None,
            recurrent: Some(mamba2(hparams)?),
        },
        BlockKind::Attention => Mixer {
            attention: Some(attention(hparams, index, blocks)?),
            recurrent: None,
        },
        BlockKind::Dense | BlockKind::Experts => Mixer::default(),
    };
    let at = |key| {
        Ok::<_, ModelError>(
            hparams
                .per_block(key, blocks)?
                .and_then(|l| l.get(index).copied()),
        )
    };
    let feed_forward = match kind {
        BlockKind::Mamba | BlockKind::Attention => FeedForward::None,
        BlockKind::Dense => FeedForward::Dense {
            inner: at(Key::Ffn)?.ok_or(hparams.missing(Key::Ffn))?,
        },
        BlockKind::Experts => {
            // GGUFs of early converters lack these keys; a config.json must have them.
            let stated = |key, name: &str| match (at(key)?, hparams.is_hugging_face()) {
                (None, true) => Err(ModelError::MissingKey {
                    key: name.to_owned(),
                }),
                (found, _) => Ok(found),
            };
            let count = match stated(Key::Experts, "n_routed_experts")? {
                Some(count) if count > 0 => count,
                _ => return Err(hparams.missing(Key::Experts)),
            };
            let used = stated(Key::ExpertsUsed, "num_experts_per_tok")?
                .unwrap_or(count)
                .clamp(1, count);
            let inner = match stated(Key::ExpertFfn, "moe_intermediate_size")? {
                Some(inner) if inner > 0 => inner,
                _ => at(Key::Ffn)?.ok_or(hparams.missing(Key::ExpertFfn))? / used,
            };
            FeedForward::Experts {
                count,
                used,
                inner,
                shared_inner: stated(Key::SharedExpertFfn, "moe_shared_expert_intermediate_size")?
                    .unwrap_or(0),
            }
        }
    };
    Ok(Layer {
        mixer,
        feed_forward,
    })
}

fn attention(hparams: &HParams<'_>, index: usize, blocks: usize) -> Result<Attention, ModelError> {
    let heads = hparams.need(Key::Heads)?;
    let kv_heads = hparams
        .per_block(Key::KvHeads, blocks)?
        .and_then(|list| list.get(index).copied());
    let key_dim = head_dim(hparams, heads)?;
    let value_dim = match hparams.get(Key::ValueDim)? {
        Some(dim) => dim,
        None if hparams.is_hugging_face() => key_dim,
        None => hparams.need(Key::Hidden)? / heads,
    };
    Ok(Attention {
        heads,
        kv_heads: kv_heads.unwrap_or(heads),
        key_dim,
        value_dim,
        window: None,
        cache: Cache::Own,
    })
}
