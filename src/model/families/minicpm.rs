//! MiniCPM 1, 2, 4 and 4.1: Llama with scales on embeddings, on what blocks add, and on logits.
//!
//! Sources: `modeling_minicpm.py` beside published weights; `src/models/minicpm.cpp` and `conversion/minicpm.py` of
//! llama.cpp, which runs the pass of Granite and leaves the sparse attention of MiniCPM 4 out.

use super::common::*;
use super::keys::*;
use super::llama::LLAMA_LOADER;
use super::loader_keys::{OPTIONAL_SCALES, RMS_NORM};
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, OutputScale, PLAIN, RopeStyle};
use crate::model::hparams::Number;
use crate::model::loader::Loader;

pub(super) static MINICPM: Arch = Arch {
    name: "minicpm",
    classes: &["MiniCPMForCausalLM"],
    model_types: &["minicpm"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        output_scale: OutputScale::Divisor,
        needs_scales: true,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        GATED_FFN,
        ROPE_FACTORS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, SCALES],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: ROTARY_PAIRS,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SCALES],
        ..LLAMA_LOADER
    },
    ..USUAL
};

const SCALES: &[KeyRule] = &[
    KeyRule::Number(Number::EmbeddingScale),
    KeyRule::Derived(Derived::DepthScale),
    KeyRule::Derived(Derived::BaseWidths),
];
