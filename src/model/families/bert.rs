//! BERT, RoBERTa and Nomic's BERT: encoders, whose vectors stand for texts (BGE, E5, GTE, MiniLM, Nomic Embed).
//!
//! Sources: `modeling_bert.py`, `modeling_xlm_roberta.py` of Transformers, `modeling_hf_nomic_bert.py` beside published weights;
//! `src/models/bert.cpp`, `nomic-bert.cpp` and `conversion/bert.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::checkpoint::Attends;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{Activation, ArchTraits, NormKind, PLAIN, RotatedBlocks};
use crate::model::hparams::{HParams, Number};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

const FORWARD: ArchTraits = ArchTraits {
    norm: NormKind::Layer,
    gated_feed_forward: false,
    activation: Activation::GeluTanh,
    rotated: RotatedBlocks::None,
    ..PLAIN
};

pub(super) static BERT: Arch = Arch {
    name: "bert",
    classes: &["BertModel", "BertForSequenceClassification"],
    model_types: &["bert"],
    forward: Some(FORWARD),
    layers: |hparams| Ok(uncached(uniform(hparams)?)),
    tensors: &[EMBEDDINGS, POSITIONS, BLOCK, CLASSIFIER],
    conversion: Some(BERT_CONVERSION),
    retrieval: Some(Attends::All),
    loader: Loader {
        biases: &[
            R::AttnOutput,
            R::FfnUp,
            R::FfnDown,
            R::ClassDense,
            R::ClassHead,
        ],
        optional: &[R::TokenTypes, R::ClassDense, R::ClassHead],
        ..ENCODER_LOADER
    },
    ..USUAL
};

/// Of encoders without a head that ranks.
pub(super) const ENCODER_LOADER: Loader = Loader {
    keys: &[LAYER_NORM],
    rules: &[LoaderRule::NoRope, LoaderRule::TokenTypes],
    biases: &[R::AttnOutput, R::FfnUp, R::FfnDown],
    needs_biases: &[R::TokenEmbeddingNorm, R::AttnOutNorm, R::LayerOutNorm],
    optional: &[R::TokenTypes],
    ..Loader::USUAL
};

/// RoBERTa of many languages (BGE-M3, multilingual E5): BERT whose positions begin behind the number of its padding token.
pub(super) static XLM_ROBERTA: Arch = Arch {
    classes: &["XLMRobertaModel", "XLMRobertaForSequenceClassification"],
    model_types: &["xlm-roberta"],
    skipped_positions,
    conversion: Some(Conversion {
        vocabulary: Vocabulary::Unigram,
        ..ROBERTA_CONVERSION
    }),
    ..BERT
};

/// RoBERTa of English.
pub(super) static ROBERTA: Arch = Arch {
    classes: &["RobertaModel", "RobertaForSequenceClassification"],
    model_types: &["roberta"],
    skipped_positions,
    conversion: Some(ROBERTA_CONVERSION),
    ..BERT
};

const ROBERTA_CONVERSION: Conversion = Conversion {
    keys: &[
        DIMENSIONS,
        USED_POSITIONS,
        FILE_TYPE,
        NOT_CAUSAL,
        POOLING,
        LABEL,
    ],
    vocabulary: Vocabulary::TypedByteLevel,
    pre_tokenizer: Some("roberta-bpe"),
    weights: &[WeightRule {
        roles: &[R::Positions],
        transform: WeightTransform::WithoutSkippedPositions,
    }],
    ..Conversion::USUAL
};

pub(super) const USED_POSITIONS: &[KeyRule] = &[KeyRule::Derived(Derived::UsedPositions)];

/// Positions are counted from the one behind the padding token's number. A GGUF has the others alone.
fn skipped_positions(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    let stated = hparams.json("pad_token_id").and_then(|id| id.as_u64());
    Ok(stated.map_or(0, |id| id.saturating_add(1)))
}

/// Rotary positions, gated feed-forwards, no biases.
pub(super) static NOMIC_BERT: Arch = Arch {
    name: "nomic-bert",
    classes: &["NomicBertModel"],
    model_types: &["nomic_bert"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        ..PLAIN
    }),
    tensors: &[NOMIC_EMBEDDINGS, NOMIC_BLOCK],
    loader: Loader {
        rules: &[LoaderRule::TokenTypes],
        ..ENCODER_LOADER
    },
    ..BERT
};

const BERT_CONVERSION: Conversion = Conversion {
    keys: &[DIMENSIONS, FILE_TYPE, NOT_CAUSAL, POOLING, LABEL],
    vocabulary: Vocabulary::WordPiece,
    ..Conversion::USUAL
};

pub(super) const DIMENSIONS: &[KeyRule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    ROPE_BASE,
    KeyRule::Number(Number::LayerNormEpsilon),
];

pub(super) const NOT_CAUSAL: &[KeyRule] = &[KeyRule::Flag {
    key: "attention.causal",
    from: None,
    or: false,
}];

const LABEL: &[KeyRule] = &[KeyRule::Derived(Derived::StatedLabel)];

const TOKENS: TensorRow =
    TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows);

/// Which of two texts a token is of; runtimes take all for those of the first.
const TOKEN_TYPES: TensorRow = TensorRow::weight(
    R::TokenTypes,
    &["embeddings.token_type_embeddings.weight"],
    |p| vec![p.params.token_types, p.dims.hidden],
)
.when(|p| p.params.token_types > 0);

const EMBEDDINGS: &[TensorRow] = &[
    TOKENS,
    TOKEN_TYPES,
    TensorRow::weight(
        R::TokenEmbeddingNorm,
        &["embeddings.LayerNorm.weight"],
        hidden,
    ),
    TensorRow::bias(
        R::TokenEmbeddingNorm,
        &["embeddings.LayerNorm.bias"],
        hidden,
    ),
];

const POSITIONS: &[TensorRow] = &[TensorRow::weight(
    R::Positions,
    &["embeddings.position_embeddings.weight"],
    |p| vec![p.dims.context, p.dims.hidden],
)];

const BLOCK: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQ,
        &["encoder.layer.{}.attention.self.query.weight"],
        |p| vec![query_width(p), p.dims.hidden],
    ),
    TensorRow::bias(
        R::AttnQ,
        &["encoder.layer.{}.attention.self.query.bias"],
        |p| vec![query_width(p)],
    ),
    TensorRow::weight(
        R::AttnK,
        &["encoder.layer.{}.attention.self.key.weight"],
        |p| vec![key_width(p), p.dims.hidden],
    ),
    TensorRow::bias(
        R::AttnK,
        &["encoder.layer.{}.attention.self.key.bias"],
        |p| vec![key_width(p)],
    ),
    TensorRow::weight(
        R::AttnV,
        &["encoder.layer.{}.attention.self.value.weight"],
        |p| vec![value_width(p), p.dims.hidden],
    ),
    TensorRow::bias(
        R::AttnV,
        &["encoder.layer.{}.attention.self.value.bias"],
        |p| vec![value_width(p)],
    ),
    TensorRow::weight(
        R::AttnOutput,
        &["encoder.layer.{}.attention.output.dense.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    ),
    TensorRow::bias(
        R::AttnOutput,
        &["encoder.layer.{}.attention.output.dense.bias"],
        hidden,
    ),
    TensorRow::weight(
        R::AttnOutNorm,
        &["encoder.layer.{}.attention.output.LayerNorm.weight"],
        hidden,
    ),
    TensorRow::bias(
        R::AttnOutNorm,
        &["encoder.layer.{}.attention.output.LayerNorm.bias"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnUp,
        &["encoder.layer.{}.intermediate.dense.weight"],
        |p| vec![inner(p), p.dims.hidden],
    ),
    TensorRow::bias(
        R::FfnUp,
        &["encoder.layer.{}.intermediate.dense.bias"],
        |p| vec![inner(p)],
    ),
    TensorRow::weight(R::FfnDown, &["encoder.layer.{}.output.dense.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::bias(R::FfnDown, &["encoder.layer.{}.output.dense.bias"], hidden),
    TensorRow::weight(
        R::LayerOutNorm,
        &["encoder.layer.{}.output.LayerNorm.weight"],
        hidden,
    ),
    TensorRow::bias(
        R::LayerOutNorm,
        &["encoder.layer.{}.output.LayerNorm.bias"],
        hidden,
    ),
];

/// The head of a reranker. That of BERT's class begins with the pooler, which llama.cpp's converter leaves out, and computes what
/// llama.cpp does behind the same tensors of RoBERTa's.
const CLASSIFIER: &[TensorRow] = &[
    TensorRow::weight(
        R::ClassDense,
        &["classifier.dense.weight", "pooler.dense.weight"],
        |p| vec![p.dims.hidden, p.dims.hidden],
    )
    .when(ranks),
    TensorRow::bias(
        R::ClassDense,
        &["classifier.dense.bias", "pooler.dense.bias"],
        hidden,
    )
    .when(ranks),
    TensorRow::weight(
        R::ClassHead,
        &["classifier.out_proj.weight", "classifier.weight"],
        |p| vec![p.params.labels, p.dims.hidden],
    )
    .when(ranks),
    TensorRow::bias(
        R::ClassHead,
        &["classifier.out_proj.bias", "classifier.bias"],
        |p| vec![p.params.labels],
    )
    .when(ranks),
];

fn ranks(p: &RowSite<'_>) -> bool {
    p.params.labels > 0
}

pub(super) const NOMIC_EMBEDDINGS: &[TensorRow] = &[
    TOKENS,
    TOKEN_TYPES,
    TensorRow::weight(R::TokenEmbeddingNorm, &["emb_ln.weight"], hidden),
    TensorRow::bias(R::TokenEmbeddingNorm, &["emb_ln.bias"], hidden),
];

const NOMIC_BLOCK: &[TensorRow] = &[
    TensorRow::weight(R::AttnQkv, &["encoder.layers.{}.attn.Wqkv.weight"], |p| {
        vec![
            query_width(p) + key_width(p) + value_width(p),
            p.dims.hidden,
        ]
    }),
    TensorRow::weight(
        R::AttnOutput,
        &["encoder.layers.{}.attn.out_proj.weight"],
        |p| vec![p.dims.hidden, query_width(p)],
    ),
    TensorRow::weight(R::AttnOutNorm, &["encoder.layers.{}.norm1.weight"], hidden),
    TensorRow::bias(R::AttnOutNorm, &["encoder.layers.{}.norm1.bias"], hidden),
    TensorRow::weight(R::FfnUp, &["encoder.layers.{}.mlp.fc11.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnGate, &["encoder.layers.{}.mlp.fc12.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["encoder.layers.{}.mlp.fc2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::weight(R::LayerOutNorm, &["encoder.layers.{}.norm2.weight"], hidden),
    TensorRow::bias(R::LayerOutNorm, &["encoder.layers.{}.norm2.bias"], hidden),
];
