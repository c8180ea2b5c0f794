//! BitNet b1.58: weights of three values, a norm before each output projection.
//!
//! Sources: `modeling_bitnet.py` of Transformers; `src/models/bitnet.cpp` and `conversion/bitnet.py` of llama.cpp.

use super::common::*;
use crate::model::arch::{Arch, TensorRow};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static BITNET: Arch = Arch {
    name: "bitnet",
    classes: &["BitNetForCausalLM", "BitnetForCausalLM"],
    // The first models, which are not of Microsoft, state that of Llama.
    model_types: &["bitnet", "llama"],
    tensors: &[
        EMBEDDING_AND_NORM,
        PRE_NORMS,
        ATTENTION,
        GATED_FFN,
        SUB_NORMS,
    ],
    refusal: Some(
        "llama.cpp computes SiLU in the feed-forward of bitnet where the published model squares a ReLU, and its converter rounds each tensor by the mean of all its weights",
    ),
    loader: Loader {
        rules: &[LoaderRule::NoHead, LoaderRule::NoBiases],
        ..Loader::USUAL
    },
    ..USUAL
};

/// The head is the embedding.
const EMBEDDING_AND_NORM: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows),
    TensorRow::weight(R::OutputNorm, &["norm.weight"], hidden),
];

const SUB_NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnSubNorm,
        &[
            "layers.{}.self_attn.attn_sub_norm.weight",
            "layers.{}.self_attn.inner_attn_ln.weight",
        ],
        |p| vec![query_width(p)],
    ),
    TensorRow::weight(
        R::FfnSubNorm,
        &[
            "layers.{}.mlp.ffn_sub_norm.weight",
            "layers.{}.mlp.ffn_layernorm.weight",
        ],
        |p| vec![inner(p)],
    ),
];
