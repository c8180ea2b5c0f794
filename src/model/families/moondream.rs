//! moondream2: Phi-1.5 under names of its own, with one matrix for query, key and value. Its class keeps its configuration in
//! one object, which published files leave empty, so that sizes are the class's. The tokens of an image see each other in the
//! model's code; llama.cpp, which runs it as Phi 2, attends to what came before alone.
//!
//! Up to 2025-04-14 its tokenizer is the one beside the weights. From 2025-06-21 on its code takes another, and the one of
//! before is left there. vLLM knows the class as moondream3's alone.
//!
//! Sources: `text.py`, `config.py`, `moondream.py` and `hf_moondream.py` beside the weights; the keys and tensors of
//! `moondream2-text-model-f16.gguf`.

use super::Variant;
use super::common::*;
use super::phi2::{HEAD_BIASES, PHI2, PHI2_CONVERSION};
use crate::model::arch::{Arch, Served, TensorRow};
use crate::model::conversion::{Conversion, TokenizerElsewhere};
use crate::model::hparams::HParams;
use crate::model::role::TensorRole as R;

/// The class, which later models of another architecture have as well.
pub(super) const CLASS: &str = "HfMoondream";
const MODEL_TYPE: &str = "moondream1";

pub(super) static MOONDREAM2: Arch = Arch {
    classes: &[CLASS],
    model_types: &[MODEL_TYPE],
    tensors: &[EMBEDDING_AND_HEAD, HEAD_BIASES, BLOCK],
    conversion: Some(Conversion {
        tokenizer_elsewhere: Some(TokenizerElsewhere {
            code: "moondream.py",
            repository: "moondream/starmie-v1",
            token: "<|md_reserved_0|>",
        }),
        ..PHI2_CONVERSION
    }),
    served: Some(Served::AsGguf),
    ..PHI2
};

pub(super) const MOONDREAM3: Variant = Variant {
    of: "phi2",
    when: is_another,
    arch: Err("as moondream2 alone (`model_type` moondream1)"),
};

fn is_another(hparams: &HParams<'_>) -> bool {
    let classes = hparams.words("architectures").unwrap_or_default();
    let stated = hparams.json("model_type");
    classes.contains(&CLASS) && stated.is_some_and(|name| name != MODEL_TYPE)
}

const BLOCK: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["blocks.{}.ln.weight"], hidden),
    TensorRow::bias(R::AttnNorm, &["blocks.{}.ln.bias"], hidden),
    TensorRow::weight(R::AttnQkv, &["blocks.{}.attn.qkv.weight"], |p| {
        vec![
            query_width(p) + key_width(p) + value_width(p),
            p.dims.hidden,
        ]
    }),
    TensorRow::bias(R::AttnQkv, &["blocks.{}.attn.qkv.bias"], |p| {
        vec![query_width(p) + key_width(p) + value_width(p)]
    }),
    TensorRow::weight(R::AttnOutput, &["blocks.{}.attn.proj.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
    TensorRow::bias(R::AttnOutput, &["blocks.{}.attn.proj.bias"], hidden),
    TensorRow::weight(R::FfnUp, &["blocks.{}.mlp.fc1.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    }),
    TensorRow::bias(R::FfnUp, &["blocks.{}.mlp.fc1.bias"], |p| vec![inner(p)]),
    TensorRow::weight(R::FfnDown, &["blocks.{}.mlp.fc2.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    }),
    TensorRow::bias(R::FfnDown, &["blocks.{}.mlp.fc2.bias"], hidden),
];
