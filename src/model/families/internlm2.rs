//! InternLM 2 and 2.5, and the text of InternVL 2 and 2.5 with 2 and 8 B: Llama with one matrix that holds, for each head of
//! keys and values, its queries, its key and its value.
//!
//! Sources: `modeling_internlm2.py` beside published weights; `src/models/internlm2.cpp` and `conversion/internlm.py` of
//! llama.cpp. Dynamic scaling of positions begins behind the trained context; llama.cpp has none, and its files say nothing
//! of it.

use super::common::*;
use super::keys::*;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, GroupPart, SpecialToken, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static INTERNLM2: Arch = Arch {
    name: "internlm2",
    classes: &["InternLM2ForCausalLM"],
    model_types: &["internlm2"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    tensors: &[TENSORS],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceAsTrained,
        special_tokens: END_OF_TURN,
        weights: PARTS,
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[LoaderRule::NeedsHead, LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Models that were trained on chats end their turns with a token of their own, which the files beside them do not name.
const END_OF_TURN: &[SpecialToken] = &[SpecialToken::Instead {
    kind: "eos",
    text: "<|im_end|>",
}];

const PARTS: &[WeightRule] = &[
    WeightRule {
        roles: &[R::AttnQ],
        transform: WeightTransform::PartOfGroups(GroupPart::Queries),
    },
    WeightRule {
        roles: &[R::AttnK],
        transform: WeightTransform::PartOfGroups(GroupPart::Key),
    },
    WeightRule {
        roles: &[R::AttnV],
        transform: WeightTransform::PartOfGroups(GroupPart::Value),
    },
    WeightRule {
        roles: &[R::AttnQ, R::AttnK],
        transform: WeightTransform::RotaryPairs,
    },
];

const PACK: &[&str] = &["layers.{}.attention.wqkv.weight"];

const TENSORS: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbedding, &["tok_embeddings.weight"], vocab_rows),
    TensorRow::weight(R::OutputNorm, &["norm.weight"], hidden),
    TensorRow::weight(R::Output, &["output.weight"], vocab_rows).when(untied),
    TensorRow::weight(R::AttnNorm, &["layers.{}.attention_norm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.ffn_norm.weight"], hidden),
    TensorRow::weight(R::AttnQ, PACK, |p| vec![query_width(p), p.dims.hidden]),
    TensorRow::weight(R::AttnK, PACK, |p| vec![key_width(p), p.dims.hidden]),
    TensorRow::weight(R::AttnV, PACK, |p| vec![value_width(p), p.dims.hidden]),
    TensorRow::weight(R::AttnOutput, &["layers.{}.attention.wo.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
    TensorRow::weight(R::FfnGate, &["layers.{}.feed_forward.w1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnUp, &["layers.{}.feed_forward.w3.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["layers.{}.feed_forward.w2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
];
