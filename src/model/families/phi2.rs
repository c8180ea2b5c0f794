//! Phi-1, 1.5 and 2: attention and feed-forward side by side behind one LayerNorm, biases beside all weights.
//!
//! Sources: `modeling_phi.py` of Transformers; `src/models/phi2.cpp` and `conversion/phi.py` of llama.cpp.

use super::cohere::ONE_NORM;
use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN};
use crate::model::hparams::{Key, Number};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static PHI2: Arch = Arch {
    name: "phi2",
    classes: &["PhiForCausalLM"],
    model_types: &["phi"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::GeluTanh,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        HEAD_BIASES,
        ONE_NORM,
        NORM_BIAS,
        &[QUERY_PROJECTION, KEY_PROJECTION, VALUE_PROJECTION],
        ALWAYS_QKV_BIAS,
        DENSE,
    ],
    conversion: Some(PHI2_CONVERSION),
    loader: Loader {
        keys: &[LAYER_NORM],
        rules: &[LoaderRule::NeedsHead],
        biases: &[R::AttnOutput, R::FfnUp, R::FfnDown, R::Output],
        needs_biases: &[
            R::OutputNorm,
            R::Output,
            R::AttnNorm,
            R::AttnOutput,
            R::FfnUp,
            R::FfnDown,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) const PHI2_CONVERSION: Conversion = Conversion {
    keys: &[PHI_KEYS],
    pre_tokenizer: Some("phi-2"),
    ..Conversion::USUAL
};

const PHI_KEYS: &[KeyRule] = &[
    CONTEXT,
    HIDDEN,
    FFN,
    BLOCKS,
    HEADS,
    KeyRule::count_from(Key::KvHeads, Key::Heads),
    KeyRule::Number(Number::LayerNormEpsilon),
    KeyRule::Derived(Derived::RopeDims(0.5)),
    KeyRule::FileType,
    KeyRule::Flag {
        key: "tokenizer.ggml.add_bos_token",
        from: None,
        or: false,
    },
];

pub(super) const HEAD_BIASES: &[TensorRow] = &[
    TensorRow::bias(R::OutputNorm, &["norm.bias"], hidden),
    TensorRow::bias(R::Output, &["lm_head.bias"], |p| vec![p.dims.vocab]),
];

const NORM_BIAS: &[TensorRow] = &[TensorRow::bias(
    R::AttnNorm,
    &["layers.{}.input_layernorm.bias"],
    hidden,
)];

const DENSE: &[TensorRow] = &[
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.dense.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
    TensorRow::bias(R::AttnOutput, &["layers.{}.self_attn.dense.bias"], hidden),
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.fc1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::bias(R::FfnUp, &["layers.{}.mlp.fc1.bias"], |p| vec![inner(p)]),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.fc2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::bias(R::FfnDown, &["layers.{}.mlp.fc2.bias"], hidden),
];
