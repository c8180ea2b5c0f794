//! Jamba: selective scans (Mamba 1, with norms on time steps, `B` and `C`) with some blocks of attention without positions;
//! every so-many-th feed-forward has experts.
//!
//! Sources: `modeling_jamba.py` of Transformers; `src/models/jamba.cpp` and `conversion/jamba.py` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{RMS_NORM, SCAN};
use super::mamba::{SCAN_BIASES, SELECTIVE_SCAN, TIME_STEP_RANK, selective_scan};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, PLAIN, RotatedBlocks, Routing, Scores};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

pub(super) static JAMBA: Arch = Arch {
    name: "jamba",
    classes: &["JambaForCausalLM"],
    model_types: &["jamba"],
    forward: Some(ArchTraits {
        rotated: RotatedBlocks::None,
        routing: Routing {
            scores: Scores::Softmax,
            normalized: false,
            scale: 1.0,
            ..PLAIN.routing
        },
        ..PLAIN
    }),
    layers: jamba_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        SELECTIVE_SCAN,
        SCAN_NORMS,
        FEED_FORWARD,
        ROUTED,
    ],
    conversion: Some(Conversion {
        keys: &[KEYS],
        vocabulary: Vocabulary::SentencePieceOrUnspacedPieces,
        weights: &[DECAY],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, SCAN],
        rules: &[
            LoaderRule::NoRope,
            LoaderRule::MixerTwiceAsWide,
            LoaderRule::RoutedWhereStored,
        ],
        needs_biases: SCAN_BIASES,
        ..Loader::USUAL
    },
    ..USUAL
};

const KEYS: &[KeyRule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    KeyRule::Derived(Derived::KvHeadsByBlock),
    KeyRule::count(Key::ConvKernel),
    KeyRule::Derived(Derived::StateSpaceWidth),
    KeyRule::count(Key::StateSize),
    TIME_STEP_RANK,
    KeyRule::Derived(Derived::RmsEpsilon),
    KeyRule::count(Key::Experts),
    KeyRule::count(Key::ExpertsUsed),
    KeyRule::FileType,
];

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.pre_ff_layernorm.weight"], hidden),
];

const SCAN_NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::SsmDtNorm,
        &["layers.{}.mamba.dt_layernorm.weight"],
        |p| vec![p.params.time_step_rank],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmBNorm,
        &[
            "layers.{}.mamba.b_layernorm.weight",
            "layers.{}.mamba.B_layernorm.weight",
        ],
        |p| vec![p.params.state_size],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmCNorm,
        &[
            "layers.{}.mamba.c_layernorm.weight",
            "layers.{}.mamba.C_layernorm.weight",
        ],
        |p| vec![p.params.state_size],
    )
    .when(is_recurrent),
];

const ROUTED: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &["layers.{}.feed_forward.router.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.feed_forward.experts.{}.gate_proj.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.feed_forward.experts.{}.up_proj.weight",
            "layers.{}.feed_forward.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.feed_forward.experts.{}.down_proj.weight",
            "layers.{}.feed_forward.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

/// Which blocks are of a kind: each `period`-th from `offset` on.
fn every(
    hparams: &HParams<'_>,
    period: &str,
    offset: &str,
) -> Result<impl Fn(usize) -> bool + use<>, ModelError> {
    let number = |key: &str| {
        let value = hparams.json(key).filter(|value| !value.is_null());
        let value = value.ok_or_else(|| ModelError::MissingKey {
            key: key.to_owned(),
        })?;
        let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
        number.ok_or_else(|| ModelError::BadValue {
            key: key.to_owned(),
        })
    };
    let (step, first) = (number(period)?, number(offset)?);
    if first >= step {
        return Err(ModelError::Contradiction {
            what: format!("`{offset}` ({first}) is not below `{period}` ({step})"),
        });
    }
    Ok(move |block: usize| block % step == first)
}

/// Blocks of a GGUF without key-value heads are scans. Which of its feed-forwards have experts, its tensors say.
fn jamba_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    refuse(hparams, "jamba", "mamba_proj_bias", |stated| stated)?;
    refuse(hparams, "jamba", "mamba_conv_bias", |stated| !stated)?;
    let state = selective_scan(hparams, ssm_inner(hparams)?)?;
    if !hparams.is_hugging_face() {
        return interleaved(hparams, &state, |_, attention| attention.kv_heads == 0);
    }
    let attends = every(hparams, "attn_layer_period", "attn_layer_offset")?;
    let routes = every(hparams, "expert_layer_period", "expert_layer_offset")?;
    let mut layers = interleaved(hparams, &state, |block, _| !attends(block))?;
    let inner = hparams.need(Key::Ffn)?;
    for (_, layer) in layers
        .iter_mut()
        .enumerate()
        .filter(|(block, _)| !routes(*block))
    {
        layer.feed_forward = FeedForward::Dense { inner };
    }
    Ok(layers)
}
