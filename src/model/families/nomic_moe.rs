//! Nomic's BERT with experts (Nomic Embed 2): every other block is routed, all weights but those of experts have biases.
//!
//! Sources: `modeling_hf_nomic_bert.py` beside published weights; `src/models/nomic-bert-moe.cpp`, `bert.cpp` and
//! `conversion/bert.py` of llama.cpp, which leaves out the bias behind the experts.

use super::bert::{BERT, DIMENSIONS, ENCODER_LOADER, NOMIC_EMBEDDINGS, NOT_CAUSAL, USED_POSITIONS};
use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, Vocabulary, WeightRule, WeightTransform};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN, Routing};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

/// Listed beside the dense one, whose class it has.
pub(super) static NOMIC_BERT_MOE: Arch = Arch {
    name: "nomic-bert-moe",
    classes: &[],
    model_types: &[],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        gated_feed_forward: false,
        activation: Activation::GeluTanh,
        routing: Routing {
            normalized: false,
            ..PLAIN.routing
        },
        ..PLAIN
    }),
    layers,
    skipped_positions: untrained,
    tensors: &[NOMIC_EMBEDDINGS, BLOCK],
    conversion: Some(Conversion {
        keys: &[
            DIMENSIONS,
            &[KeyRule::count(Key::Experts)],
            USED_POSITIONS,
            FILE_TYPE,
            NOT_CAUSAL,
            POOLING,
            ROUTING,
        ],
        vocabulary: Vocabulary::Unigram,
        weights: &[WeightRule {
            roles: &[R::FfnDownExperts],
            transform: WeightTransform::TransposedFloats,
        }],
        dropped: &["encoder.layers.{}.mlp.experts.bias"],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM, OPTIONAL_STEP],
        rules: &[LoaderRule::TokenTypes],
        ..ENCODER_LOADER
    },
    ..BERT
};

/// Whether a `config.json` has experts.
pub(super) fn routes(hparams: &HParams<'_>) -> bool {
    hparams
        .or_zero(Key::RoutedEvery)
        .is_ok_and(|every| every > 0)
}

/// Of 2048 positions that it states, it was trained with 512.
fn untrained(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    let stated = hparams.is_hugging_face() && hparams.or_zero(Key::Context)? == 2048;
    Ok(if stated { 2048 - 512 } else { 0 })
}

const ROUTING: &[KeyRule] = &[
    KeyRule::count(Key::RoutedEvery),
    KeyRule::count(Key::ExpertsUsed),
];

const OPTIONAL_STEP: &[LoaderKeys] = &[read(ValueForm::Count, &["moe_every_n_layers"])];

/// The second of every so many blocks is routed.
fn layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uncached(uniform(hparams)?);
    let every = hparams.or_zero(Key::RoutedEvery)?;
    let inner = hparams.need(Key::Ffn)?;
    for (index, layer) in layers.iter_mut().enumerate() {
        let routed = every > 0 && index as u64 % every == 1;
        if !routed {
            layer.feed_forward = FeedForward::Dense { inner };
        }
    }
    Ok(layers)
}

const BLOCK: &[TensorRow] = &[
    TensorRow::weight(R::AttnQkv, &["encoder.layers.{}.attn.Wqkv.weight"], |p| {
        vec![
            query_width(p) + key_width(p) + value_width(p),
            p.dims.hidden,
        ]
    }),
    TensorRow::bias(R::AttnQkv, &["encoder.layers.{}.attn.Wqkv.bias"], |p| {
        vec![query_width(p) + key_width(p) + value_width(p)]
    }),
    TensorRow::weight(
        R::AttnOutput,
        &["encoder.layers.{}.attn.out_proj.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    ),
    TensorRow::bias(
        R::AttnOutput,
        &["encoder.layers.{}.attn.out_proj.bias"],
        hidden,
    ),
    TensorRow::weight(R::AttnOutNorm, &["encoder.layers.{}.norm1.weight"], hidden),
    TensorRow::bias(R::AttnOutNorm, &["encoder.layers.{}.norm1.bias"], hidden),
    TensorRow::weight(R::FfnUp, &["encoder.layers.{}.mlp.fc1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    TensorRow::bias(R::FfnUp, &["encoder.layers.{}.mlp.fc1.bias"], |p| {
        vec![inner(p)]
    })
    .when(is_dense),
    TensorRow::weight(R::FfnDown, &["encoder.layers.{}.mlp.fc2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    })
    .when(is_dense),
    TensorRow::bias(R::FfnDown, &["encoder.layers.{}.mlp.fc2.bias"], hidden).when(is_dense),
    TensorRow::weight(
        R::FfnRouter,
        &["encoder.layers.{}.mlp.router.layer.weight"],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &["encoder.layers.{}.mlp.experts.mlp.w1"],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &["encoder.layers.{}.mlp.experts.mlp.w2"],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
    TensorRow::weight(R::LayerOutNorm, &["encoder.layers.{}.norm2.weight"], hidden),
    TensorRow::bias(R::LayerOutNorm, &["encoder.layers.{}.norm2.bias"], hidden),
];
