//! RWKV 7: blocks that mix tokens by a matrix for each head, which every token decays and corrects, and channels by a gateless
//! feed-forward; both see the token before.
//!
//! Sources: `modeling_rwkv7.py` of the flash-linear-attention library (`RWKV7ForCausalLM`, whose names the rows have);
//! `src/models/rwkv7.cpp`, `rwkv7-base.cpp` and `conversion/rwkv.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::keys::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{
    EPSILON, LAYER_EPSILON, Loader, LoaderKeys, LoaderRule, ValueForm, needed, read,
};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer, Mixer, ModelSpec, Recurrent, RecurrentKind};

pub(super) static RWKV7: Arch = Arch {
    name: "rwkv7",
    classes: &["RWKV7ForCausalLM"],
    model_types: &["rwkv7"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::ReluSquared,
        ..PLAIN
    }),
    layers: rwkv_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        DECAY_PARTS,
        RATE_PARTS,
        VALUE_PARTS,
        TIME_MIX,
        CHANNEL_MIX,
    ],
    conversion: Some(Conversion {
        keys: &[KEYS],
        vocabulary: Vocabulary::World,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LOADED],
        rules: &[
            LoaderRule::NoRope,
            LoaderRule::NeedsHead,
            LoaderRule::LayerNorms,
        ],
        needs_biases: &[
            R::TokenEmbeddingNorm,
            R::OutputNorm,
            R::AttnNorm,
            R::AttnNorm2,
            R::TimeMixLn,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const KEYS: &[KeyRule] = &[
    KeyRule::Derived(Derived::UnboundedContext),
    HIDDEN,
    BLOCKS,
    KeyRule::Derived(Derived::LayerNormEpsilon),
    KeyRule::count_from(Key::WkvHead, Key::HeadDim),
    rank(Key::DecayRank, |model| columns(model, R::TimeMixW2)),
    rank(Key::RateRank, |model| columns(model, R::TimeMixA2)),
    rank(Key::ValueRank, |model| {
        // That of the first block is another's.
        let mut tensors = model.tensors.iter().rev();
        Some(tensors.find(|t| t.role == R::TimeMixV2)?.row())
    }),
    rank(Key::GateRank, |model| columns(model, R::TimeMixG2)),
    FFN,
    KeyRule::FileType,
    KeyRule::Derived(Derived::NoHeads),
];

const fn rank(key: Key, or: fn(&ModelSpec) -> Option<u64>) -> KeyRule {
    KeyRule::count(key).or(or)
}

fn columns(model: &ModelSpec, role: R) -> Option<u64> {
    let tensor = model.tensors.iter().find(|t| t.role == role)?;
    Some(tensor.row())
}

const LOADED: &[LoaderKeys] = &[
    needed(
        ValueForm::Count,
        &[
            "wkv.head_size",
            "attention.decay_lora_rank",
            "attention.iclr_lora_rank",
            "attention.value_residual_mix_lora_rank",
            "attention.gate_lora_rank",
        ],
    ),
    read(ValueForm::Count, &["token_shift_count"]),
    read(ValueForm::Float, &[EPSILON, LAYER_EPSILON]),
];

// --- tensors --------------------------------------------------------------------------------------

fn square(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.hidden, p.dims.hidden]
}

/// Norms with biases. llama.cpp calls the one in front of the channels the second of attention.
const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbeddingNorm, &["embed_norm.weight"], hidden),
    TensorRow::bias(R::TokenEmbeddingNorm, &["embed_norm.bias"], hidden),
    TensorRow::bias(R::OutputNorm, &["norm.bias"], hidden),
    TensorRow::weight(R::AttnNorm, &["layers.{}.attn_norm.weight"], hidden),
    TensorRow::bias(R::AttnNorm, &["layers.{}.attn_norm.bias"], hidden),
    TensorRow::weight(R::AttnNorm2, &["layers.{}.ffn_norm.weight"], hidden),
    TensorRow::bias(R::AttnNorm2, &["layers.{}.ffn_norm.bias"], hidden),
];

/// How fast matrices decay.
const DECAY_PARTS: &[TensorRow] = &[
    TensorRow::weight(
        R::TimeMixW0,
        &["layers.{}.attn.w_lora.lora.up.bias"],
        hidden,
    ),
    TensorRow::weight(
        R::TimeMixW1,
        &["layers.{}.attn.w_lora.lora.down.weight"],
        |p| vec![p.params.ranks.decay, p.dims.hidden],
    ),
    TensorRow::weight(
        R::TimeMixW2,
        &["layers.{}.attn.w_lora.lora.up.weight"],
        |p| vec![p.dims.hidden, p.params.ranks.decay],
    ),
];

/// What the values of later blocks take from those of the first. llama.cpp needs such tensors in the first block too, which
/// it does not use: its converter writes the next three there.
const VALUE_PARTS: &[TensorRow] = &[
    TensorRow::weight(
        R::TimeMixV0,
        &["layers.{}.attn.v_lora.lora.up.bias"],
        hidden,
    )
    .when(is_later),
    TensorRow::weight(
        R::TimeMixV1,
        &["layers.{}.attn.v_lora.lora.down.weight"],
        |p| vec![p.params.ranks.value, p.dims.hidden],
    )
    .when(is_later),
    TensorRow::weight(
        R::TimeMixV2,
        &["layers.{}.attn.v_lora.lora.up.weight"],
        |p| vec![p.dims.hidden, p.params.ranks.value],
    )
    .when(is_later),
];

/// How much a token corrects; for the first block, also the copies that stand for what it does not have.
const RATE_PARTS: &[TensorRow] = &[
    TensorRow::weight(R::TimeMixV0, RATE[0], hidden)
        .when(is_first)
        .copied(),
    TensorRow::weight(R::TimeMixV1, RATE[1], rate_down)
        .when(is_first)
        .copied(),
    TensorRow::weight(R::TimeMixV2, RATE[2], rate_up)
        .when(is_first)
        .copied(),
    TensorRow::weight(R::TimeMixA0, RATE[0], hidden),
    TensorRow::weight(R::TimeMixA1, RATE[1], rate_down),
    TensorRow::weight(R::TimeMixA2, RATE[2], rate_up),
];

const RATE: [&[&str]; 3] = [
    &["layers.{}.attn.a_lora.lora.up.bias"],
    &["layers.{}.attn.a_lora.lora.down.weight"],
    &["layers.{}.attn.a_lora.lora.up.weight"],
];

fn rate_down(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.params.ranks.rate, p.dims.hidden]
}

fn rate_up(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.hidden, p.params.ranks.rate]
}

fn is_first(p: &RowSite<'_>) -> bool {
    p.block == 0
}

fn is_later(p: &RowSite<'_>) -> bool {
    p.block > 0
}

const TIME_MIX: &[TensorRow] = &[
    TensorRow::weight(
        R::TimeMixG1,
        &["layers.{}.attn.g_lora.lora.down.weight"],
        |p| vec![p.params.ranks.gate, p.dims.hidden],
    ),
    TensorRow::weight(
        R::TimeMixG2,
        &["layers.{}.attn.g_lora.lora.up.weight"],
        |p| vec![p.dims.hidden, p.params.ranks.gate],
    ),
    // How much each of six inputs takes from the token before.
    TensorRow::weight(
        R::TimeMixLerp,
        &[
            "layers.{}.attn.x_r",
            "layers.{}.attn.x_w",
            "layers.{}.attn.x_k",
            "layers.{}.attn.x_v",
            "layers.{}.attn.x_a",
            "layers.{}.attn.x_g",
        ],
        |p| vec![6, 1, 1, p.dims.hidden],
    )
    .stacked(),
    TensorRow::weight(R::TimeMixKK, &["layers.{}.attn.k_k"], hidden),
    TensorRow::weight(R::TimeMixKA, &["layers.{}.attn.k_a"], hidden),
    TensorRow::weight(R::TimeMixRK, &["layers.{}.attn.r_k"], hidden),
    TensorRow::weight(R::TimeMixKey, &["layers.{}.attn.k_proj.weight"], square),
    TensorRow::weight(R::TimeMixValue, &["layers.{}.attn.v_proj.weight"], square),
    TensorRow::weight(
        R::TimeMixReceptance,
        &["layers.{}.attn.r_proj.weight"],
        square,
    ),
    TensorRow::weight(R::TimeMixOutput, &["layers.{}.attn.o_proj.weight"], square),
    TensorRow::weight(R::TimeMixLn, &["layers.{}.attn.g_norm.weight"], hidden),
    TensorRow::bias(R::TimeMixLn, &["layers.{}.attn.g_norm.bias"], hidden),
];

const CHANNEL_MIX: &[TensorRow] = &[
    TensorRow::weight(R::ChannelMixLerpK, &["layers.{}.ffn.x_k"], hidden),
    TensorRow::weight(R::ChannelMixKey, &["layers.{}.ffn.key.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::ChannelMixValue, &["layers.{}.ffn.value.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
];

// --- blocks ---------------------------------------------------------------------------------------

/// Tokens before the current one that a block keeps: one for each of its two halves.
const SHIFTED: u64 = 2;

fn rwkv_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let width = hparams.need(Key::Hidden)?;
    let head = if hparams.is_hugging_face() {
        only_built_in(hparams, width)?;
        hparams.need(Key::HeadDim)?
    } else {
        if hparams.get(Key::TokenShift)?.is_some_and(|n| n != SHIFTED) {
            return Err(ModelError::BadValue {
                key: hparams.name(Key::TokenShift),
            });
        }
        hparams.need(Key::WkvHead)?
    };
    if !width.is_multiple_of(head) {
        return Err(ModelError::Contradiction {
            what: format!(
                "the hidden size ({width}) is no multiple of the width of a head ({head})"
            ),
        });
    }
    let block = Layer {
        mixer: Mixer {
            attention: None,
            recurrent: Some(Recurrent {
                kind: RecurrentKind::TimeMix,
                conv_elements: SHIFTED * width,
                state_elements: width.saturating_mul(head),
                inner: width,
            }),
        },
        feed_forward: FeedForward::Dense {
            inner: hparams.need(Key::Ffn)?,
        },
    };
    Ok(vec![block; block_count(hparams)?])
}

/// Refuses what llama.cpp has built in otherwise.
fn only_built_in(hparams: &HParams<'_>, width: u64) -> Result<(), ModelError> {
    let unsupported = |key: &str, found: &Json| {
        Err(ModelError::Unsupported {
            key: key.to_owned(),
            found: found.to_string(),
            architecture: "rwkv7",
        })
    };
    let built_in = [
        ("norm_first", Json::Bool(true)),
        ("norm_bias", Json::Bool(true)),
        ("hidden_act", Json::from("sqrelu")),
        ("attn", Json::Null),
    ];
    for (key, value) in built_in {
        match hparams.json(key) {
            Some(stated) if *stated != value && !stated.is_null() => {
                return unsupported(key, stated);
            }
            _ => {}
        }
    }
    let stated = hparams.json("value_dim");
    let values: Vec<&Json> = match stated {
        Some(Json::Array(items)) => items.iter().collect(),
        one => one.into_iter().collect(),
    };
    let other = |value: &&&Json| !value.is_null() && value.as_u64() != Some(width);
    match values.iter().find(other) {
        Some(found) => unsupported("value_dim", found),
        None => Ok(()),
    }
}
