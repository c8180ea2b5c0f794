//! Apertus: Llama with norms on heads, a feed-forward of two matrices, and an activation with parameters for each block.
//!
//! Sources: `modeling_apertus.py` and `activations.py` of Transformers; `src/models/apertus.cpp` and `conversion/llama.py`
//! of llama.cpp.

use super::arcee::UP_AND_DOWN;
use super::common::*;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, PLAIN, Xielu};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, XIELU, needed};
use crate::model::role::TensorRole as R;

pub(super) static APERTUS: Arch = Arch {
    name: "apertus",
    classes: &["ApertusForCausalLM"],
    model_types: &["apertus"],
    forward: Some(ArchTraits {
        gated_feed_forward: false,
        activation: Activation::Xielu(Xielu::NONE),
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        QK_NORM,
        UP_AND_DOWN,
        ROPE_FREQS,
    ],
    conversion: Some(Conversion {
        first: ACTIVATIONS,
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_ACTIVATIONS],
        rules: &[LoaderRule::NeedsHead, LoaderRule::WholeHeads],
        biases: &[R::AttnOutput],
        rope_tables: &[R::RopeFreqs, R::RopeFactorsLong, R::RopeFactorsShort],
        ..Loader::USUAL
    },
    ..USUAL
};

const NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnNorm,
        &["layers.{}.attention_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnNorm,
        &["layers.{}.feedforward_layernorm.weight"],
        hidden,
    ),
];

const ACTIVATIONS: &[KeyRule] = &[
    KeyRule::Stored {
        key: XIELU[0],
        tensors: "layers.{}.mlp.act_fn.alpha_n",
    },
    KeyRule::Stored {
        key: XIELU[1],
        tensors: "layers.{}.mlp.act_fn.alpha_p",
    },
    KeyRule::Stored {
        key: XIELU[2],
        tensors: "layers.{}.mlp.act_fn.beta",
    },
    KeyRule::Stored {
        key: XIELU[3],
        tensors: "layers.{}.mlp.act_fn.eps",
    },
];

const NEEDS_ACTIVATIONS: &[LoaderKeys] = &[needed(ValueForm::BareFloats, &XIELU)];
