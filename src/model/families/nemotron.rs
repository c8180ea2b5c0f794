//! Nemotron and Minitron: LayerNorm with a weight that is stored less one, a partly rotated head, and a feed-forward of two
//! matrices with a squared ReLU between.
//!
//! Sources: `modeling_nemotron.py` of Transformers; `src/models/nemotron.cpp` and `conversion/nemotron.py` of llama.cpp.

use super::arcee::UP_AND_DOWN;
use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Derived, KeyRule, SpecialToken, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static NEMOTRON: Arch = Arch {
    name: "nemotron",
    classes: &["NemotronForCausalLM"],
    model_types: &["nemotron"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::ReluSquared,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        NORM_BIASES,
        ATTENTION,
        UP_AND_DOWN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, NEMOTRON_KEYS],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        special_tokens: &[
            SpecialToken::Id {
                kind: "padding",
                id: 0,
            },
            SpecialToken::Id {
                kind: "unknown",
                id: 1,
            },
        ],
        weights: &[SHIFTED_NORMS],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM],
        rules: &[LoaderRule::NeedsHead],
        biases: &[R::AttnOutput, R::FfnUp, R::FfnDown],
        needs_biases: &[R::OutputNorm, R::AttnNorm, R::FfnNorm],
        ..Loader::USUAL
    },
    ..USUAL
};

const NEMOTRON_KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::Derived(Derived::LayerNormEpsilon),
    KeyRule::Derived(Derived::RopeDims(0.5)),
    KeyRule::Derived(Derived::RopeScalingOrNone),
    KeyRule::Derived(Derived::RopeFactor),
];
