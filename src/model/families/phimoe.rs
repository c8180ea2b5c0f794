//! Phi-3.5-MoE: routed experts, biases beside all other weights.
//!
//! llama.cpp computes another model than the published code: RMS norms where that has LayerNorms, and shares of experts that
//! sum to one where that weighs each by a softmax of its own. This entry follows llama.cpp, which runs the files.
//!
//! Sources: `modeling_phimoe.py` of Transformers; `src/models/phimoe.cpp`, `phi3.cpp` and `conversion/phi.py` of llama.cpp.

use super::common::*;
use super::llama::{MIXTRAL_EXPERTS, PHI3_KEYS, PHI3_QUIRKS};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::Key;
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static PHIMOE: Arch = Arch {
    name: "phimoe",
    classes: &["PhiMoEForCausalLM", "PhimoeForCausalLM"],
    model_types: &["phimoe"],
    forward: Some(PLAIN),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        NORM_BIASES,
        HEAD_BIAS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        MIXTRAL_EXPERTS,
        ROPE_FACTORS,
    ],
    conversion: Some(Conversion {
        first: &[KeyRule::Derived(Derived::LongRopeAttnFactor)],
        keys: &[PHI3_KEYS, EXPERTS_OF_TOKENS],
        vocabulary: Vocabulary::Phi3,
        ..Conversion::USUAL
    }),
    quirks: PHI3_QUIRKS,
    loader: Loader {
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::BothRopeTables,
            LoaderRule::RopeTableOfWholeHeads,
            LoaderRule::Routed,
        ],
        biases: &[R::AttnOutput, R::Output],
        needs_biases: &[
            R::OutputNorm,
            R::Output,
            R::AttnNorm,
            R::AttnOutput,
            R::FfnNorm,
        ],
        rope_tables: &[R::RopeFactorsLong, R::RopeFactorsShort],
        ..Loader::USUAL
    },
    ..USUAL
};

const EXPERTS_OF_TOKENS: &[KeyRule] = &[
    KeyRule::count(Key::ExpertsUsed),
    KeyRule::count(Key::Experts),
];

const HEAD_BIAS: &[TensorRow] = &[TensorRow::bias(R::Output, &["lm_head.bias"], |p| {
    vec![p.dims.vocab]
})];
