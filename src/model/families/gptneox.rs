//! GPT-NeoX: Pythia, StableLM of the first generation, Dolly. Two LayerNorms before attention and feed-forward, which run
//! side by side; queries, keys and values of each head in one matrix.
//!
//! Sources: `modeling_gpt_neox.py` of Transformers; `src/models/gptneox.cpp` and `conversion/gptneox.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, WeightRule, WeightTransform};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN};
use crate::model::hparams::Number;
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, PARALLEL, ValueForm, needed};
use crate::model::role::TensorRole as R;

pub(super) static GPTNEOX: Arch = Arch {
    name: "gptneox",
    classes: &["GPTNeoXForCausalLM"],
    model_types: &["gpt_neox"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::GeluTanh,
        ..PLAIN
    }),
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, NORM_BIASES, BLOCK],
    conversion: Some(Conversion {
        keys: &[KEYS],
        weights: &[WeightRule {
            roles: &[R::AttnQkv],
            transform: WeightTransform::QueryKeyValueByHead,
        }],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM, NEEDS_PARALLEL],
        rules: &[LoaderRule::NeedsHead],
        biases: &[R::AttnOutput, R::FfnUp, R::FfnDown],
        needs_biases: &[
            R::OutputNorm,
            R::AttnNorm,
            R::AttnQkv,
            R::AttnOutput,
            R::FfnNorm,
            R::FfnUp,
            R::FfnDown,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const NEEDS_PARALLEL: &[LoaderKeys] = &[needed(ValueForm::Flag, &[PARALLEL])];

const KEYS: &[KeyRule] = &[
    CONTEXT,
    HIDDEN,
    BLOCKS,
    FFN,
    KeyRule::Derived(Derived::RopeDims(0.25)),
    HEADS,
    KeyRule::Flag {
        key: PARALLEL,
        from: Some(PARALLEL),
        or: true,
    },
    KeyRule::Number(Number::LayerNormEpsilon),
];

const BLOCK: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQkv,
        &["layers.{}.attention.query_key_value.weight"],
        |p| {
            vec![
                query_width(p) + key_width(p) + value_width(p),
                p.dims.hidden,
            ]
        },
    ),
    TensorRow::bias(
        R::AttnQkv,
        &["layers.{}.attention.query_key_value.bias"],
        |p| vec![query_width(p) + key_width(p) + value_width(p)],
    ),
    TensorRow::weight(R::AttnOutput, &["layers.{}.attention.dense.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
    TensorRow::bias(R::AttnOutput, &["layers.{}.attention.dense.bias"], hidden),
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.dense_h_to_4h.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::bias(R::FfnUp, &["layers.{}.mlp.dense_h_to_4h.bias"], |p| {
        vec![inner(p)]
    }),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.dense_4h_to_h.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::bias(R::FfnDown, &["layers.{}.mlp.dense_4h_to_h.bias"], hidden),
];
