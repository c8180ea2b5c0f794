//! EXAONE 3 and 3.5, a Llama under names of its own; and EXAONE 4, with norms after attention and feed-forward and, where
//! there are windows, positions in windowed blocks alone.
//!
//! Sources: `modeling_exaone.py` beside published weights, `modeling_exaone4.py` of Transformers; `src/models/exaone.cpp`,
//! `exaone4.cpp` and `conversion/exaone.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{OPTIONAL_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE};
use super::olmo::POST_NORMS;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, PLAIN, RotatedBlocks};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

/// Its epsilon is stated as a LayerNorm's, and llama.cpp's converter writes it as one, which its loader does not read.
pub(super) static EXAONE: Arch = Arch {
    name: "exaone",
    classes: &["ExaoneForCausalLM"],
    model_types: &["exaone"],
    forward: Some(PLAIN),
    tensors: &[EMBEDDING_AND_HEAD, NAMED_BY_GPT2, ROPE_FREQS],
    conversion: Some(Conversion {
        keys: &[EXAONE3_KEYS],
        pre_tokenizer: Some("exaone"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

const EXAONE3_KEYS: &[KeyRule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    KV_HEADS,
    ROPE_BASE,
    KeyRule::Derived(Derived::RmsEpsilon),
    KeyRule::count(Key::HeadDim),
    KeyRule::count_from(Key::ValueDim, Key::HeadDim),
    KeyRule::FileType,
    KeyRule::Derived(Derived::RopeDims(1.0)),
];

const NAMED_BY_GPT2: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["h.{}.ln_1.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["h.{}.ln_2.weight"], hidden),
    TensorRow::weight(R::AttnQ, &["h.{}.attn.attention.q_proj.weight"], |p| {
        vec![query_width(p), p.dims.hidden]
    }),
    TensorRow::weight(R::AttnK, &["h.{}.attn.attention.k_proj.weight"], |p| {
        vec![key_width(p), p.dims.hidden]
    }),
    TensorRow::weight(R::AttnV, &["h.{}.attn.attention.v_proj.weight"], |p| {
        vec![value_width(p), p.dims.hidden]
    }),
    TensorRow::weight(
        R::AttnOutput,
        &["h.{}.attn.attention.out_proj.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    ),
    TensorRow::weight(R::FfnGate, &["h.{}.mlp.c_fc_0.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnUp, &["h.{}.mlp.c_fc_1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["h.{}.mlp.c_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
];

/// llama.cpp has the windows of the model of 64 blocks built in, and none in another.
const BLOCKS_WITH_WINDOWS: u64 = 64;

pub(super) static EXAONE4: Arch = Arch {
    name: "exaone4",
    classes: &["Exaone4ForCausalLM"],
    model_types: &["exaone4"],
    forward: Some(ArchTraits {
        rotated: RotatedBlocks::Windowed,
        ..PLAIN
    }),
    layers: exaone4_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        POST_NORMS,
        ATTENTION,
        QK_NORM,
        GATED_FFN,
        ROPE_FREQS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, EXAONE_KEYS],
        pre_tokenizer: Some("exaone4"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE],
        rules: &[
            LoaderRule::WholeHeads,
            LoaderRule::BlocksAhead,
            LoaderRule::NeedsBlocksAhead,
        ],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

fn exaone4_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    if hparams.need(Key::Blocks)? == BLOCKS_WITH_WINDOWS {
        blocks(hparams, sliding(hparams, 4096, 4)?)
    } else {
        uniform(hparams)
    }
}

const EXAONE_KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::count(Key::Window),
    KeyRule::Derived(Derived::WindowPatternIfAny),
];
