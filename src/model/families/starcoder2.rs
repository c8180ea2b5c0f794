//! StarCoder2: LayerNorm with biases, and a feed-forward of two matrices with GELU between.
//!
//! Sources: `modeling_starcoder2.py` and `configuration_starcoder2.py` of Transformers;
//! `src/models/starcoder2.cpp` of llama.cpp, which leaves the sliding window out, and
//! `conversion/starcoder.py`, which writes what `conversion/base.py` writes for all.

use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static STARCODER2: Arch = Arch {
    name: "starcoder2",
    classes: &["Starcoder2ForCausalLM"],
    model_types: &["starcoder2"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::GeluTanh,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        NORM_BIASES,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        TWO_MATRICES,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        vocabulary: Vocabulary::ByteLevel,
        pre_tokenizer: Some("starcoder"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM],
        rules: &[LoaderRule::WholeHeads],
        biases: &[R::AttnOutput, R::FfnUp, R::FfnDown],
        needs_biases: &[
            R::OutputNorm,
            R::AttnNorm,
            R::AttnOutput,
            R::FfnNorm,
            R::FfnUp,
            R::FfnDown,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const TWO_MATRICES: &[TensorRow] = &[
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.c_fc.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::bias(R::FfnUp, &["layers.{}.mlp.c_fc.bias"], |p| vec![inner(p)]).when(has_mlp_bias),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.c_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::bias(R::FfnDown, &["layers.{}.mlp.c_proj.bias"], hidden).when(has_mlp_bias),
];
