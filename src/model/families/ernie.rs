//! ERNIE 4.5, dense and with experts.
//!
//! Sources: `modeling_ernie4_5.py`, `modeling_ernie4_5_moe.py` of Transformers; `src/models/ernie4-5*.cpp` and `conversion/ernie.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{LEADING_DENSE, NEEDS_EXPERT_WIDTH, RMS_NORM};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle};
use crate::model::hparams::Key;
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, needed, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::FeedForward;

/// Neighbouring elements of a head turn together in Transformers too.
pub(super) static ERNIE4_5: Arch = Arch {
    name: "ernie4_5",
    classes: &["Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"],
    model_types: &["ernie4_5"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, ATTENTION, GATED_FFN],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceWithStatedSpace,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SECTIONS],
        rules: &[LoaderRule::WholeHeads],
        biases: &[R::AttnOutput],
        ..Loader::USUAL
    },
    ..USUAL
};

/// The first blocks are dense. A correction is added to the shares by which experts are taken.
pub(super) static ERNIE4_5_MOE: Arch = Arch {
    name: "ernie4_5-moe",
    classes: &["Ernie4_5_MoeForCausalLM"],
    model_types: &["ernie4_5_moe"],
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        GATED_FFN,
        EXPERTS,
        CORRECTION,
        SHARED_EXPERT,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON_WITHOUT_EXPERTS,
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            ROUTING,
        ],
        vocabulary: Vocabulary::SentencePieceWithStatedSpace,
        stacks_together: true,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[
            RMS_NORM,
            OPTIONAL_SECTIONS,
            NEEDS_EXPERT_WIDTH,
            NEEDS_SHARED_WIDTH,
            LEADING_DENSE,
            NEEDS_INTERVAL,
        ],
        optional: &[R::FfnGateExperts],
        ..ERNIE4_5.loader
    },
    ..ERNIE4_5
};

const CORRECTION: &[TensorRow] = &[TensorRow::bias(
    R::FfnRouterBias,
    &["layers.{}.mlp.moe_statics.e_score_correction_bias"],
    |p| vec![1, experts(p)],
)
.when(has_experts)];

const ROUTING: &[KeyRule] = &[
    KeyRule::count(Key::Experts),
    KeyRule::count(Key::ExpertsUsed),
    KeyRule::count(Key::RoutedInterval),
    KeyRule::count(Key::LeadingDense),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::SharedExperts),
    KeyRule::count(Key::SharedExpertFfn).or(|model| {
        let widths = model.layers.iter().map(|layer| match layer.feed_forward {
            FeedForward::Experts { shared_inner, .. } => shared_inner,
            _ => 0,
        });
        widths.max().filter(|&width| width > 0)
    }),
];

const NEEDS_SHARED_WIDTH: &[LoaderKeys] = &[needed(
    ValueForm::Count,
    &["expert_shared_feed_forward_length"],
)];

const NEEDS_INTERVAL: &[LoaderKeys] = &[needed(ValueForm::Count, &["interleave_moe_layer_step"])];

const OPTIONAL_SECTIONS: &[LoaderKeys] = &[read(ValueForm::Sections, &[SECTIONS])];
