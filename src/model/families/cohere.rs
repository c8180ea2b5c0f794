//! Aya 23 and Command R: attention and feed-forward side by side behind one LayerNorm; Command R7B with positions in windowed
//! blocks alone.
//!
//! Sources: `modeling_cohere.py`, `modeling_cohere2.py` of Transformers; `src/models/command-r.cpp`, `cohere2.cpp` and
//! `conversion/command_r.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    LAYER_NORM, NEEDS_LOGIT_SCALE, NEEDS_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE,
};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, NormKind, PLAIN, RopeStyle, RotatedBlocks};
use crate::model::hparams::{Key, Number};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, read};
use crate::model::role::TensorRole as R;

/// Neighbouring elements of a head turn together in Transformers too.
pub(super) static COHERE2: Arch = Arch {
    name: "cohere2",
    classes: &["Cohere2ForCausalLM"],
    model_types: &["cohere2"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        rope: RopeStyle::Norm,
        rotated: RotatedBlocks::Windowed,
        ..PLAIN
    }),
    layers: |hparams| blocks(hparams, sliding(hparams, 0, 4)?),
    tensors: &[EMBEDDING_AND_HEAD, ONE_NORM, ATTENTION, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, COHERE_KEYS],
        pre_tokenizer: Some("command-r"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[
            LAYER_NORM,
            NEEDS_WINDOW,
            NEEDS_LOGIT_SCALE,
            WINDOW_PATTERN,
            WINDOW_ROPE_BASE,
        ],
        rules: &[LoaderRule::NoHead, LoaderRule::WindowedBlock],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Command R+, whose heads of queries and keys have norms of their own, is not among them.
pub(super) static COHERE: Arch = Arch {
    name: "command-r",
    classes: &["CohereForCausalLM"],
    model_types: &["cohere"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    // Its positions are stated for the code that was published first; it was trained on more.
    context: |hparams| match hparams.get(Key::LongestText)? {
        Some(tokens) => Ok(tokens),
        None => hparams.or_zero(Key::Context),
    },
    tensors: &[EMBEDDING_AND_HEAD, ONE_NORM, ATTENTION, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, SCALE_OF_LOGITS],
        pre_tokenizer: Some("command-r"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM, LOGIT_SCALE],
        rules: &[LoaderRule::NoHead],
        ..Loader::USUAL
    },
    ..USUAL
};

const LOGIT_SCALE: &[LoaderKeys] = &[read(ValueForm::Float, &["logit_scale"])];

const SCALE_OF_LOGITS: &[KeyRule] = &[
    KeyRule::Derived(Derived::UsedPositions),
    KeyRule::Number(Number::LogitScale),
    KeyRule::Derived(Derived::NoRopeScaling),
];

const COHERE_KEYS: &[KeyRule] = &[
    KeyRule::Number(Number::LogitScale),
    WINDOW,
    VOCAB,
    KeyRule::Derived(Derived::RopeDims(1.0)),
    KeyRule::Derived(Derived::NoRopeScaling),
];

/// The norm before attention and feed-forward.
pub(super) const ONE_NORM: &[TensorRow] = &[TensorRow::weight(
    R::AttnNorm,
    &["layers.{}.input_layernorm.weight"],
    hidden,
)];
