//! Baichuan 1 and 2: Llama with one matrix for query, key and value; the models of 13 B have no rotary positions, their
//! scores fall with distance.
//!
//! Sources: `modeling_baichuan.py` beside published weights; `src/models/baichuan.cpp` and `conversion/baichuan.py` of
//! llama.cpp, which knows both kinds by their number of blocks. Baichuan 2 brings the rows of its head to unit length
//! before it multiplies (`NormHead`); in a GGUF they have it.

use super::common::*;
use super::keys::*;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{ArchTraits, PLAIN, PositionsByDepth, RopeStyle};
use crate::model::hparams::Key;
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static BAICHUAN: Arch = Arch {
    name: "baichuan",
    classes: &["BaichuanForCausalLM", "BaiChuanForCausalLM"],
    model_types: &["baichuan"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        positions: Some(PositionsByDepth {
            rotary: 32,
            sloped: 40,
            slope: 8.0,
        }),
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        PACKED,
        &[OUTPUT_PROJECTION],
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[BAICHUAN_KEYS],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: PARTS,
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[LoaderRule::NeedsHead, LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

const BAICHUAN_KEYS: &[KeyRule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    KeyRule::count(Key::KvHeads),
    ROPE_BASE,
    RMS_EPSILON,
    KeyRule::FileType,
    KeyRule::Text {
        key: "tensor_data_layout",
        text: "Meta AI original pth",
    },
    KeyRule::Derived(Derived::RopeDimsOfHidden),
];

/// Tokens of Baichuan 2, by which it is known; Baichuan 1 has 64,000.
const SECOND: u64 = 125_696;

const PARTS: &[WeightRule] = &[
    WeightRule {
        roles: &[R::AttnQ],
        transform: WeightTransform::PartOfThree(0),
    },
    WeightRule {
        roles: &[R::AttnK],
        transform: WeightTransform::PartOfThree(1),
    },
    WeightRule {
        roles: &[R::AttnV],
        transform: WeightTransform::PartOfThree(2),
    },
    WeightRule {
        roles: &[R::AttnQ, R::AttnK],
        transform: WeightTransform::RotaryPairs,
    },
    WeightRule {
        roles: &[R::Output],
        transform: WeightTransform::UnitRows { vocab: SECOND },
    },
];

const PACK: &[&str] = &["layers.{}.self_attn.W_pack.weight"];

const PACKED: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, PACK, |p| vec![query_width(p), p.dims.hidden]),
    TensorRow::weight(R::AttnK, PACK, |p| vec![key_width(p), p.dims.hidden]),
    TensorRow::weight(R::AttnV, PACK, |p| vec![value_width(p), p.dims.hidden]),
];
