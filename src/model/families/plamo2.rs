//! PLaMo 2: heads of Mamba 2 whose time steps, `B` and `C` are projected from what was convolved, and normed; every
//! so-many-th block attends. Norms stand around each mixer and each feed-forward.
//!
//! Sources: `modeling_plamo.py` beside the weights; `src/models/plamo2.cpp` and `conversion/plamo.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{RMS_NORM, STATE_SPACE};
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, SpecialToken, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;
use crate::model::spec::{Layer, ModelSpec, Recurrent, RecurrentKind};

/// llama.cpp's converter states no heads for blocks that do not attend. The first block is one of them, llama.cpp takes from it
/// how much of a head turns, and its pass does not end on a file of its own converter. Here heads are one number.
pub(super) static PLAMO2: Arch = Arch {
    name: "plamo2",
    classes: &["Plamo2ForCausalLM", "PLaMo2ForCausalLM"],
    model_types: &["plamo2"],
    forward: Some(PLAIN),
    layers: plamo_layers,
    tensors: &[EMBEDDING_AND_HEAD, NORMS, ATTENDS, SCANS, FEED],
    conversion: Some(Conversion {
        keys: &[KEYS],
        vocabulary: Vocabulary::ScoredLines {
            control: "<|plamo:",
        },
        special_tokens: &[SpecialToken::Id { kind: "eot", id: 4 }],
        weights: &[
            WeightRule {
                roles: &[R::OutputNorm, R::AttnNorm, R::FfnNorm],
                transform: WeightTransform::Add(1.0),
            },
            WeightRule {
                roles: &[R::AttnPostNorm],
                transform: WeightTransform::Add(1.0 / 5.0),
            },
            WeightRule {
                roles: &[R::FfnPostNorm],
                transform: WeightTransform::Add(0.089_442_72), // 1 / 5^1.5
            },
            DECAY,
        ],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, STATE_SPACE],
        rules: &[LoaderRule::NoBiases],
        needs_biases: &[R::SsmDt],
        ..Loader::USUAL
    },
    ..USUAL
};

const KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::Derived(Derived::KvHeadsByBlock),
    HEADS,
    CONTEXT,
    HIDDEN,
    HEAD_DIM[0],
    HEAD_DIM[1],
    BLOCKS,
    KeyRule::Derived(Derived::RmsEpsilon),
    KeyRule::Fixed(Number::RopeBase, 10_000.0),
    ROPE_BASE,
    KeyRule::count(Key::StateSize),
    KeyRule::count(Key::ConvKernel),
    KeyRule::count(Key::SsmHeads),
    KeyRule::count(Key::SsmInner).or(width_of_mixers),
    KeyRule::count(Key::SsmGroups).or(|_| Some(0)),
    FFN,
    KeyRule::FileType,
];

const NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnNorm,
        &["layers.layers.{}.pre_mixer_norm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.layers.{}.post_mixer_norm.weight"],
        hidden,
    )
    .part(""),
    TensorRow::weight(
        R::FfnNorm,
        &["layers.layers.{}.pre_mlp_norm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnPostNorm,
        &["layers.layers.{}.post_mlp_norm.weight"],
        hidden,
    )
    .part(""),
];

const ATTENDS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQkv,
        &["layers.layers.{}.mixer.qkv_proj.weight"],
        |p| {
            let keys_and_values = key_width(p).saturating_add(value_width(p));
            vec![
                query_width(p).saturating_add(keys_and_values),
                p.dims.hidden,
            ]
        },
    )
    .when(has_attention),
    TensorRow::weight(R::AttnQNorm, &["layers.layers.{}.mixer.q_weight"], |p| {
        vec![heads(p), key_head(p)[0]]
    })
    .when(has_attention),
    TensorRow::weight(R::AttnKNorm, &["layers.layers.{}.mixer.k_weight"], |p| {
        let width = key_head(p)[0];
        vec![key_width(p) / width.max(1), width]
    })
    .when(has_attention),
    TensorRow::weight(
        R::AttnOutput,
        &["layers.layers.{}.mixer.o_proj.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    )
    .when(has_attention),
];

const SCANS: &[TensorRow] = &[
    TensorRow::weight(R::SsmIn, &["layers.layers.{}.mixer.in_proj.weight"], |p| {
        vec![width(p).saturating_mul(2), p.dims.hidden]
    })
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmConv1d,
        &["layers.layers.{}.mixer.conv1d.weight"],
        |p| vec![width(p), p.params.conv_kernel],
    )
    .when(is_recurrent),
    TensorRow::weight(R::SsmX, &["layers.layers.{}.mixer.bcdt_proj.weight"], |p| {
        let both = p.params.state_size.saturating_mul(2);
        vec![both.saturating_add(step_rank(p)), width(p)]
    })
    .when(is_recurrent),
    TensorRow::weight(R::SsmDt, &["layers.layers.{}.mixer.dt_proj.weight"], |p| {
        vec![p.params.ssm_heads, step_rank(p)]
    })
    .when(is_recurrent),
    TensorRow::bias(R::SsmDt, &["layers.layers.{}.mixer.dt_bias"], ssm_heads).when(is_recurrent),
    TensorRow::weight(R::SsmA, &["layers.layers.{}.mixer.A_log"], ssm_heads)
        .part("")
        .when(is_recurrent),
    TensorRow::weight(R::SsmD, &["layers.layers.{}.mixer.D"], ssm_heads)
        .part("")
        .when(is_recurrent),
    TensorRow::weight(
        R::SsmDtNorm,
        &["layers.layers.{}.mixer.dt_norm_weight"],
        |p| vec![step_rank(p)],
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmBNorm,
        &["layers.layers.{}.mixer.B_norm_weight"],
        |p| vec![p.params.state_size],
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmCNorm,
        &["layers.layers.{}.mixer.C_norm_weight"],
        |p| vec![p.params.state_size],
    )
    .part("")
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmOut,
        &["layers.layers.{}.mixer.out_proj.weight"],
        |p| vec![p.dims.hidden, width(p)],
    )
    .when(is_recurrent),
];

/// Gate and up projection in one matrix.
const FEED: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnUp,
        &["layers.layers.{}.mlp.gate_up_proj.weight"],
        |p| vec![inner(p).saturating_mul(2), p.dims.hidden],
    ),
    TensorRow::weight(
        R::FfnDown,
        &["layers.layers.{}.mlp.down_proj.weight"],
        |p| vec![p.dims.hidden, inner(p)],
    ),
];

/// The width of what time steps are projected from, which the class has built in.
fn step_rank(p: &RowSite<'_>) -> u64 {
    (p.dims.hidden / 16).max(64)
}

/// The width of a mixer over all heads. Its input is twice as wide.
fn width(p: &RowSite<'_>) -> u64 {
    let state = p.layer.mixer.recurrent.as_ref();
    state.map_or(0, |state| state.inner / 2)
}

/// The same, of a whole model.
fn width_of_mixers(model: &ModelSpec) -> Option<u64> {
    let mut layers = model.layers.iter();
    layers.find_map(|layer| Some(layer.mixer.recurrent.as_ref()?.inner / 2))
}

/// The state of all heads: a window of the convolution, and matrices. Heads are as wide as those that attend.
fn state(hparams: &HParams<'_>) -> Result<Recurrent, ModelError> {
    let steps = hparams.need(Key::SsmHeads)?;
    let inner = match hparams.get(Key::SsmInner)? {
        Some(inner) => inner,
        None => steps.saturating_mul(hparams.need(Key::HeadDim)?),
    };
    // A GGUF may state groups, which its runtime has no place for.
    if !inner.is_multiple_of(steps) || hparams.or_zero(Key::SsmGroups)? > 0 {
        let key = hparams.name(if inner.is_multiple_of(steps) {
            Key::SsmGroups
        } else {
            Key::SsmHeads
        });
        return Err(ModelError::BadValue { key });
    }
    let window = hparams.need(Key::ConvKernel)? - 1;
    Ok(Recurrent {
        kind: RecurrentKind::ProjectedSpace,
        conv_elements: window.saturating_mul(inner),
        state_elements: hparams.need(Key::StateSize)?.saturating_mul(inner),
        inner: inner.saturating_mul(2),
    })
}

/// Blocks of a GGUF without key-value heads keep states. In the class every `mamba_step`-th block attends, from the middle of
/// the first `mamba_step` on; of fewer blocks the last.
fn plamo_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    const STEP: &str = "mamba_step";
    const LOCAL: &str = "rope_local_theta";
    refuse(hparams, "plamo2", "mamba_enabled", |stated| !stated)?;
    let state = state(hparams)?;
    if !hparams.is_hugging_face() {
        return interleaved(hparams, &state, |_, attention| attention.kv_heads == 0);
    }
    let step = hparams.json(STEP).filter(|step| !step.is_null());
    let step = step.ok_or_else(|| ModelError::MissingKey {
        key: STEP.to_owned(),
    })?;
    let step = step.as_u64().filter(|&step| step > 1);
    let step = step.ok_or_else(|| ModelError::BadValue {
        key: STEP.to_owned(),
    })?;
    let blocks = block_count(hparams)? as u64;
    let attends = |block: u64| match blocks <= step / 2 {
        true => block + 1 == blocks,
        false => block % step == step / 2,
    };
    // Blocks with a window, of which llama.cpp knows nothing, turn by a base of their own.
    let number = |key: &str| hparams.json(key).and_then(Json::as_f64);
    let (base, local) = (number("rope_theta").unwrap_or(10_000.0), number(LOCAL));
    let whole = hparams.json("full_attention_idx").and_then(Json::as_array);
    let is_whole = |block: u64| {
        whole.is_some_and(|list| list.iter().any(|index| index.as_u64() == Some(block)))
    };
    if let Some(local) = local.filter(|local| *local != base)
        && (0..blocks).any(|block| attends(block) && !is_whole(block))
    {
        return Err(ModelError::Unsupported {
            key: LOCAL.to_owned(),
            found: local.to_string(),
            architecture: "plamo2",
        });
    }
    interleaved(hparams, &state, |block, _| !attends(block as u64))
}
