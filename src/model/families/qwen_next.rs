//! Qwen3-Next and Qwen3.5: three blocks with a gated delta net for each one with gated attention.
//!
//! Sources: `modeling_qwen3_next.py`, `modeling_qwen3_5.py`, `modeling_qwen3_5_moe.py` of
//! Transformers; `src/models/qwen3next.cpp`, `qwen35.cpp`, `qwen35moe.cpp` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{
    NEEDS_SECTIONS, OPTIONAL_EXPERT_WIDTH, RECURRENT_LAYERS, RMS_NORM, SHARED_EXPERT_WIDTH,
    STATE_SPACE,
};
use super::qwen::{SHARED_EXPERT_ROUTER, fill_expert_widths};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyHeadPart, KeyRule, ValueHeads, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{ArchTraits, PLAIN};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

/// The base of all three: what Qwen3.5 without experts has.
const BASE: Arch = Arch {
    layers: delta_net_layers,
    quirks: Quirks::NONE
        .late_rows()
        .recurrent_blocks_have_heads()
        .mlc_template("qwen2"),
    loader: DELTA_NET_LOADER,
    ..USUAL
};

const GATED: ArchTraits = ArchTraits {
    gated_query: true,
    ..PLAIN
};

const DELTA_NET_LOADER: Loader = Loader {
    keys: &[RMS_NORM, NEEDS_SECTIONS, STATE_SPACE, RECURRENT_LAYERS],
    rules: &[
        LoaderRule::BlocksAhead,
        LoaderRule::BlocksAheadUnsaid,
        LoaderRule::RopeSections,
        LoaderRule::DeltaNets,
    ],
    needs_biases: &[R::SsmDt],
    ..Loader::USUAL
};

pub(super) static QWEN3NEXT: Arch = Arch {
    name: "qwen3next",
    classes: &["Qwen3NextForCausalLM"],
    model_types: &["qwen3_next"],
    forward: Some(GATED),
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        GATED_ATTENTION,
        QK_NORM,
        DELTA_NET,
        FUSED_BETA_ALPHA,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
        SHARED_EXPERT_ROUTER,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, EXPERT_WIDTHS, DELTA_NET_KEYS],
        weights: INTERLEAVED_HEADS,
        ..DELTA_NET_CONVERSION
    }),
    loader: Loader {
        keys: &[
            RMS_NORM,
            OPTIONAL_EXPERT_WIDTH,
            SHARED_EXPERT_WIDTH,
            STATE_SPACE,
            RECURRENT_LAYERS,
        ],
        rules: &[
            LoaderRule::BlocksAhead,
            LoaderRule::BlocksAheadUnsaid,
            LoaderRule::Routed,
            LoaderRule::DeltaNets,
        ],
        ..DELTA_NET_LOADER
    },
    ..BASE
};

pub(super) static QWEN35: Arch = Arch {
    name: "qwen35",
    classes: &[
        "Qwen3_5ForConditionalGeneration",
        "Qwen3_5ForCausalLM",
        "MiniCPMV4_6ForConditionalGeneration",
    ],
    model_types: &["qwen3_5_text", "qwen3_5", "minicpmv4_6"],
    forward: Some(GATED),
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        GATED_ATTENTION,
        QK_NORM,
        DELTA_NET,
        BETA_AND_ALPHA,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, DELTA_NET_KEYS, SECTIONS],
        ..DELTA_NET_CONVERSION
    }),
    ..BASE
};

pub(super) static QWEN35MOE: Arch = Arch {
    name: "qwen35moe",
    classes: &[
        "Qwen3_5MoeForConditionalGeneration",
        "Qwen3_5MoeForCausalLM",
    ],
    model_types: &["qwen3_5_moe_text", "qwen3_5_moe"],
    forward: Some(GATED),
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        GATED_ATTENTION,
        QK_NORM,
        DELTA_NET,
        BETA_AND_ALPHA,
        EXPERTS,
        SHARED_EXPERT,
        SHARED_EXPERT_ROUTER,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            EXPERT_WIDTHS,
            DELTA_NET_KEYS,
            SECTIONS,
        ],
        ..DELTA_NET_CONVERSION
    }),
    loader: Loader {
        keys: &[
            RMS_NORM,
            NEEDS_SECTIONS,
            OPTIONAL_EXPERT_WIDTH,
            SHARED_EXPERT_WIDTH,
            STATE_SPACE,
            RECURRENT_LAYERS,
        ],
        ..DELTA_NET_LOADER
    },
    ..BASE
};

// --- conversion -----------------------------------------------------------------------------------

const DELTA_NET_CONVERSION: Conversion = Conversion {
    vocabulary: Vocabulary::ByteLevel,
    weights: VALUE_HEADS_IN_TURN,
    ..Conversion::USUAL
};

const EXPERT_WIDTHS: &[KeyRule] = &[
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::SharedExpertFfn),
];

const DELTA_NET_KEYS: &[KeyRule] = &[
    KeyRule::count(Key::ConvKernel),
    KeyRule::count(Key::StateSize),
    KeyRule::count(Key::SsmGroups),
    KeyRule::count(Key::SsmHeads),
    KeyRule::Derived(Derived::DeltaNetWidth),
    KeyRule::Derived(Derived::RecurrentLayers),
    KeyRule::count(Key::FullAttentionEvery),
    KeyRule::Derived(Derived::RopeDims(0.25)),
];

/// Runtimes need the sections, although text tokens have the same position in all of them.
const SECTIONS: &[KeyRule] = &[KeyRule::Derived(Derived::RopeSections(Some([
    11, 11, 10, 0,
])))];

const fn in_turn(roles: &'static [R], heads: ValueHeads) -> WeightRule {
    WeightRule {
        roles,
        transform: WeightTransform::ValueHeadsInTurn(heads),
    }
}

/// Qwen3.5 (`_LinearAttentionVReorderBase` of `conversion/qwen.py`).
const VALUE_HEADS_IN_TURN: &[WeightRule] = &[
    SHIFTED_NORMS,
    DECAY,
    in_turn(&[R::AttnQkv, R::SsmConv1d], ValueHeads::RowsBehindKeys),
    in_turn(&[R::AttnGate], ValueHeads::Rows),
    in_turn(
        &[R::SsmAlpha, R::SsmBeta, R::SsmA, R::SsmDt],
        ValueHeads::SingleRows,
    ),
    in_turn(&[R::SsmOut], ValueHeads::Columns),
];

/// Qwen3-Next, which stores query, key, value and gate in one matrix, key head by key head.
const INTERLEAVED_HEADS: &[WeightRule] = &[
    SHIFTED_NORMS,
    DECAY,
    WeightRule {
        roles: &[R::AttnQkv],
        transform: WeightTransform::PartOfKeyHeads(KeyHeadPart::QueryKeyValue),
    },
    WeightRule {
        roles: &[R::AttnGate],
        transform: WeightTransform::PartOfKeyHeads(KeyHeadPart::Gate),
    },
];

// --- tensors --------------------------------------------------------------------------------------

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
];

/// Attention whose query projection also computes a gate of the same width for the output.
const GATED_ATTENTION: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![query_width(p).saturating_mul(2), p.dims.hidden]
    })
    .when(has_attention),
    KEY_PROJECTION,
    VALUE_PROJECTION,
    OUTPUT_PROJECTION,
];

/// A gated delta net. Qwen3-Next stores the gate `z` in one matrix with query, key and value.
const DELTA_NET: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQkv,
        &[
            "layers.{}.linear_attn.in_proj_qkv.weight",
            "layers.{}.linear_attn.in_proj_qkvz.weight",
        ],
        |p| vec![conv_channels(p), p.dims.hidden],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::AttnGate,
        &[
            "layers.{}.linear_attn.in_proj_z.weight",
            "layers.{}.linear_attn.in_proj_qkvz.weight",
        ],
        |p| vec![p.params.ssm_inner, p.dims.hidden],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmConv1d,
        &["layers.{}.linear_attn.conv1d.weight"],
        conv_kernel,
    )
    .when(is_recurrent),
    TensorRow::bias(R::SsmDt, &["layers.{}.linear_attn.dt_bias"], ssm_heads).when(is_recurrent),
    TensorRow::weight(R::SsmA, &["layers.{}.linear_attn.A_log"], ssm_heads)
        .part("")
        .when(is_recurrent),
    TensorRow::weight(R::SsmNorm, &["layers.{}.linear_attn.norm.weight"], |p| {
        vec![p.params.ssm_inner / p.params.ssm_heads.max(1)]
    })
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmOut,
        &["layers.{}.linear_attn.out_proj.weight"],
        ssm_out,
    )
    .when(is_recurrent),
];

const FUSED_BETA_ALPHA: &[TensorRow] = &[TensorRow::weight(
    R::SsmBetaAlpha,
    &["layers.{}.linear_attn.in_proj_ba.weight"],
    |p| vec![p.params.ssm_heads.saturating_mul(2), p.dims.hidden],
)
.when(is_recurrent)];

const BETA_AND_ALPHA: &[TensorRow] = &[
    TensorRow::weight(
        R::SsmBeta,
        &["layers.{}.linear_attn.in_proj_b.weight"],
        |p| vec![p.params.ssm_heads, p.dims.hidden],
    )
    .when(is_recurrent),
    TensorRow::weight(
        R::SsmAlpha,
        &["layers.{}.linear_attn.in_proj_a.weight"],
        |p| vec![p.params.ssm_heads, p.dims.hidden],
    )
    .when(is_recurrent),
];

/// Every fourth block is attention, unless the configuration states the kinds of blocks or another interval.
fn delta_net_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let state = state_space(hparams)?;
    let interval = hparams.or_default(Key::FullAttentionEvery)?;
    let types = block_types(hparams);
    let flags = hparams.per_block(Key::RecurrentLayers, block_count(hparams)?)?;
    let mut layers = interleaved(hparams, &state, |index, _| {
        let named = types
            .as_ref()
            .and_then(|list| list.get(index))
            .map(|t| *t == "linear_attention");
        let flagged = flags
            .as_ref()
            .and_then(|list| list.get(index))
            .map(|&flag| flag != 0);
        named
            .or(flagged)
            .unwrap_or(!(index as u64 + 1).is_multiple_of(interval))
    })?;
    if !hparams.is_hugging_face() {
        fill_expert_widths(hparams, &mut layers)?;
    }
    Ok(layers)
}
