//! Gemma 1, 2, 3 and 3n. Gemma 4 has a file of its own.
//!
//! Sources: `modeling_gemma2.py`, `modeling_gemma3.py`, `modeling_gemma3n.py` and their
//! configuration classes in Transformers; `src/models/gemma*.cpp` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    NEEDS_WINDOW, OPTIONAL_WINDOW, OUTPUT_SOFTCAP, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE,
};
use crate::checkpoint::Attends;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, SpecialToken, Vocabulary};
use crate::model::forward_spec::{Activation, ArchTraits, AttentionScale, PLAIN, Sparse};
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, read};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Cache, Layer};

pub(super) const GEMMA_FORWARD: ArchTraits = ArchTraits {
    activation: Activation::GeluTanh,
    scale_embedding: true,
    ..PLAIN
};

pub(super) static GEMMA: Arch = Arch {
    name: "gemma",
    classes: &["GemmaForCausalLM"],
    model_types: &["gemma"],
    forward: Some(GEMMA_FORWARD),
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, ATTENTION, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[
            &[CONTEXT, HIDDEN, BLOCKS, FFN, HEADS, KV_HEADS, RMS_EPSILON],
            HEAD_DIM,
            FILE_TYPE,
        ],
        special_tokens: FILL_IN,
        ..GEMMA_CONVERSION
    }),
    quirks: Quirks::NONE.mlc_template("gemma_instruction"),
    loader: Loader {
        rules: &[LoaderRule::NoHead],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Tokens of CodeGemma, which the converter writes for all of its generation.
const FILL_IN: &[SpecialToken] = &[
    fixed("prefix", 67),
    fixed("suffix", 69),
    fixed("middle", 68),
    fixed("fsep", 70),
    fixed("eot", 107),
];

const fn fixed(kind: &'static str, id: u32) -> SpecialToken {
    SpecialToken::Id { kind, id }
}

const GEMMA_CONVERSION: Conversion = Conversion {
    keys: &[COMMON, HEAD_DIM, FILE_TYPE, &[FINAL_SOFTCAP, WINDOW]],
    vocabulary: Vocabulary::SentencePiece,
    weights: &[SHIFTED_NORMS],
    ..Conversion::USUAL
};

pub(super) static GEMMA2: Arch = Arch {
    name: "gemma2",
    classes: &["Gemma2ForCausalLM"],
    model_types: &["gemma2"],
    forward: Some(ArchTraits {
        attention_scale: AttentionScale::HiddenShare { blocks: 46 },
        softcaps: (Some(50.0), Some(30.0)),
        ..GEMMA_FORWARD
    }),
    layers: |hparams| blocks(hparams, sliding(hparams, 4096, 2)?),
    tensors: &[EMBEDDING_AND_HEAD, SANDWICH_NORMS, ATTENTION, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[
            &[CONTEXT, HIDDEN, BLOCKS, FFN, HEADS, KV_HEADS, RMS_EPSILON],
            HEAD_DIM,
            &[
                KeyRule::FileType,
                KeyRule::Number(Number::AttentionSoftcap),
                FINAL_SOFTCAP,
                WINDOW,
            ],
        ],
        ..GEMMA_CONVERSION
    }),
    quirks: Quirks::NONE.mlc_template("gemma_instruction"),
    loader: Loader {
        keys: &[
            RMS_NORM,
            OPTIONAL_WINDOW,
            WINDOW_PATTERN,
            WINDOW_ROPE_BASE,
            OUTPUT_SOFTCAP,
            SCORE_SOFTCAP,
        ],
        rules: &[LoaderRule::NoHead, LoaderRule::WindowedBlock],
        ..Loader::USUAL
    },
    ..USUAL
};

const SCORE_SOFTCAP: &[LoaderKeys] = &[read(ValueForm::Float, &["attn_logit_softcapping"])];

pub(super) static GEMMA3: Arch = Arch {
    name: "gemma3",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    model_types: &["gemma3_text", "gemma3"],
    forward: Some(ArchTraits {
        attention_scale: AttentionScale::HiddenShare { blocks: 62 },
        window_base: Some(10_000.0),
        unscaled_windows: true,
        ..GEMMA_FORWARD
    }),
    layers: |hparams| blocks(hparams, sliding(hparams, 0, 6)?),
    tensors: &[
        EMBEDDING_AND_HEAD,
        SANDWICH_NORMS,
        ATTENTION,
        QK_NORM,
        GATED_FFN,
    ],
    conversion: Some(GEMMA_CONVERSION),
    quirks: GEMMA3_QUIRKS,
    loader: Loader {
        keys: &[
            RMS_NORM,
            OPTIONAL_WINDOW,
            WINDOW_PATTERN,
            WINDOW_ROPE_BASE,
            OUTPUT_SOFTCAP,
        ],
        rules: &[LoaderRule::WindowedBlock],
        ..Loader::USUAL
    },
    ..USUAL
};

/// EmbeddingGemma: the blocks of Gemma 3, in which a token attends to all of its text.
pub(super) static GEMMA_EMBEDDING: Arch = Arch {
    name: "gemma-embedding",
    classes: &["Gemma3TextModel"],
    forward: Some(ArchTraits {
        window_base: Some(10_000.0),
        unscaled_windows: true,
        ..GEMMA_FORWARD
    }),
    layers: |hparams| Ok(uncached(blocks(hparams, sliding(hparams, 0, 6)?)?)),
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            &[FINAL_SOFTCAP, WINDOW],
            POOLING,
        ],
        ..GEMMA_CONVERSION
    }),
    retrieval: Some(Attends::All),
    quirks: Quirks::NONE,
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE],
        rules: &[LoaderRule::WindowedBlock],
        ..Loader::USUAL
    },
    ..GEMMA3
};

const GEMMA3_QUIRKS: Quirks = Quirks::NONE.mlc_template("gemma3_instruction");

pub(super) static GEMMA3N: Arch = Arch {
    name: "gemma3n",
    classes: &["Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"],
    model_types: &["gemma3n_text", "gemma3n"],
    forward: Some(ArchTraits {
        attention_scale: AttentionScale::One,
        window_base: Some(10_000.0),
        unscaled_windows: true,
        value_norm: true,
        // The factor is the normal distribution's quantile at 0.95.
        sparse: Sparse {
            blocks: 10,
            factor: 1.644_853_6,
        },
        softcaps: (None, Some(30.0)),
        ..GEMMA_FORWARD
    }),
    layers: gemma3n_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        SANDWICH_NORMS,
        ATTENTION,
        QK_NORM,
        GATED_FFN,
        PER_LAYER_INPUT,
        ALTUP,
        LAUREL,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            &[FINAL_SOFTCAP, WINDOW],
            ALTUP_KEYS,
        ],
        weights: &[],
        ..GEMMA_CONVERSION
    }),
    quirks: GEMMA3_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE],
        rules: &[LoaderRule::NeedsSpareProjections, LoaderRule::WindowedBlock],
        defaults: &[(Key::Streams, 4), (Key::PerLayerDim, 256)],
        ..Loader::USUAL
    },
    ..USUAL
};

const ALTUP_KEYS: &[KeyRule] = &[
    KeyRule::count(Key::ActiveStream),
    KeyRule::count(Key::Streams).or(|model| Some(model.dims.streams)),
    KeyRule::count(Key::PerLayerDim).or(|model| Some(model.dims.per_layer_embedding)),
    KeyRule::count(Key::SharedKvLayers),
    KeyRule::Derived(Derived::ActivationSparsity),
    KeyRule::Derived(Derived::WindowPattern),
];

/// Four norms: before and after attention, before and after the feed-forward.
pub(super) const SANDWICH_NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnNorm,
        &["layers.{}.pre_feedforward_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnPostNorm,
        &["layers.{}.post_feedforward_layernorm.weight"],
        hidden,
    ),
];

fn per_layer_width(p: &RowSite<'_>) -> u64 {
    p.dims.per_layer_embedding
}

fn has_per_layer(p: &RowSite<'_>) -> bool {
    p.dims.per_layer_embedding > 0
}

fn all_layers_width(p: &RowSite<'_>) -> u64 {
    p.dims.per_layer_embedding * p.dims.blocks
}

/// A second embedding table with a slice for each block, and the projections that add it to the block.
pub(super) const PER_LAYER_INPUT: &[TensorRow] = &[
    TensorRow::weight(
        R::PerLayerEmbedding,
        &["embed_tokens_per_layer.weight"],
        |p| vec![p.dims.vocab, all_layers_width(p)],
    )
    .when(has_per_layer),
    TensorRow::weight(
        R::PerLayerModelProj,
        &["per_layer_model_projection.weight"],
        |p| vec![all_layers_width(p), p.dims.hidden],
    )
    .when(has_per_layer),
    TensorRow::weight(
        R::PerLayerProjNorm,
        &["per_layer_projection_norm.weight"],
        |p| vec![per_layer_width(p)],
    )
    .when(has_per_layer),
    TensorRow::weight(
        R::PerLayerGate,
        &["layers.{}.per_layer_input_gate.weight"],
        |p| vec![per_layer_width(p), p.dims.hidden],
    )
    .when(has_per_layer),
    TensorRow::weight(
        R::PerLayerProj,
        &["layers.{}.per_layer_projection.weight"],
        |p| vec![p.dims.hidden, per_layer_width(p)],
    )
    .when(has_per_layer),
    TensorRow::weight(
        R::PerLayerPostNorm,
        &["layers.{}.post_per_layer_input_norm.weight"],
        hidden,
    )
    .when(has_per_layer),
];

const ALTUP: &[TensorRow] = &[
    TensorRow::weight(R::AltupProj, &["altup_projections.{}.weight"], |p| {
        vec![p.dims.streams - 1, p.dims.hidden, p.dims.hidden]
    }),
    TensorRow::weight(
        R::AltupUnembdProj,
        &["altup_unembed_projections.{}.weight"],
        |p| vec![p.dims.streams - 1, p.dims.hidden, p.dims.hidden],
    ),
    TensorRow::weight(
        R::AltupCorrectCoef,
        &["layers.{}.altup.correction_coefs.weight"],
        |p| vec![p.dims.streams, p.dims.streams],
    ),
    TensorRow::weight(
        R::AltupCorrectScale,
        &["layers.{}.altup.correct_output_scale"],
        hidden,
    ),
    TensorRow::weight(
        R::AltupPredictCoef,
        &["layers.{}.altup.prediction_coefs.weight"],
        |p| vec![p.dims.streams * p.dims.streams, p.dims.streams],
    ),
    TensorRow::weight(
        R::AltupRouter,
        &["layers.{}.altup.modality_router.weight"],
        |p| vec![p.dims.streams, p.dims.hidden],
    ),
    TensorRow::weight(
        R::AltupRouterNorm,
        &["layers.{}.altup.router_norm.weight"],
        hidden,
    ),
];

const LAUREL: &[TensorRow] = &[
    TensorRow::weight(R::LaurelL, &["layers.{}.laurel.linear_left.weight"], |p| {
        vec![p.params.laurel_rank, p.dims.hidden]
    }),
    TensorRow::weight(R::LaurelR, &["layers.{}.laurel.linear_right.weight"], |p| {
        vec![p.dims.hidden, p.params.laurel_rank]
    }),
    TensorRow::weight(
        R::LaurelPostNorm,
        &["layers.{}.laurel.post_laurel_norm.weight"],
        hidden,
    ),
];

/// The last blocks reuse the cache of an earlier block of the same kind (windowed or not); their key and value
/// projections are stored nevertheless. In llama.cpp the first 20 blocks have a cache.
fn gemma3n_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = blocks(hparams, sliding(hparams, 512, 5)?)?;
    let owners = if hparams.is_hugging_face() {
        layers
            .len()
            .saturating_sub(hparams.or_zero(Key::SharedKvLayers)? as usize)
    } else {
        20
    };
    share_caches(&mut layers, owners);
    Ok(layers)
}

/// Lets all blocks after the first `owners` reuse the cache of an earlier block of the same kind.
pub(super) fn share_caches(layers: &mut [Layer], owners: usize) {
    let later = layers.iter_mut().skip(owners);
    for attention in later.filter_map(|l| l.mixer.attention.as_mut()) {
        attention.cache = Cache::Shared;
    }
}
