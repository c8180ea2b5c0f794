//! Seed-OSS: biases on query, key and value, and heads of a stated width.
//!
//! Sources: `modeling_seed_oss.py` of Transformers; `src/models/seed-oss.cpp` and `conversion/olmo.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::Conversion;
use crate::model::forward_spec::PLAIN;
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static SEED_OSS: Arch = Arch {
    name: "seed_oss",
    classes: &["SeedOssForCausalLM"],
    model_types: &["seed_oss"],
    forward: Some(PLAIN),
    tensors: &[EMBEDDING_AND_HEAD, NORMS, ATTENTION, QKV_BIAS, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

/// llama.cpp has the norm before the feed-forward under the name of one after attention.
const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
];
