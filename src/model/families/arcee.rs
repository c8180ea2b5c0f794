//! Arcee's foundation models (AFM): Llama with a feed-forward of two matrices and a squared ReLU between.
//!
//! Sources: `modeling_arcee.py` of Transformers; `src/models/arcee.cpp` and `conversion/llama.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, PLAIN, RopeStyle};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static ARCEE: Arch = Arch {
    name: "arcee",
    classes: &["ArceeForCausalLM"],
    model_types: &["arcee"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        gated_feed_forward: false,
        activation: Activation::ReluSquared,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        UP_AND_DOWN,
        ROPE_FREQS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
        weights: ROTARY_PAIRS,
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

/// A feed-forward of two matrices.
pub(super) const UP_AND_DOWN: &[TensorRow] = &[
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
];
