//! Hunyuan, dense (0.5 B to 7 B): heads of queries and keys are normed after they are rotated.
//!
//! Sources: `modeling_hunyuan_v1_dense.py` of Transformers; `src/models/hunyuan-dense.cpp`, `hunyuan-vl.cpp` and
//! `conversion/hunyuan.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{AlphaPart, Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, PLAIN};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, read};
use crate::model::role::TensorRole as R;

pub(super) static HUNYUAN_DENSE: Arch = Arch {
    name: "hunyuan-dense",
    classes: &["HunYuanDenseV1ForCausalLM"],
    model_types: &["hunyuan_v1_dense"],
    forward: Some(HUNYUAN_FORWARD),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        HEAD_NORMS,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, ALPHA_SCALED],
        pre_tokenizer: Some("hunyuan-dense"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_SECTIONS],
        rules: &[LoaderRule::WholeHeads, LoaderRule::OneExpertIsNone],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) const HUNYUAN_FORWARD: ArchTraits = ArchTraits {
    norm_after_rope: true,
    ..PLAIN
};

const OPTIONAL_SECTIONS: &[LoaderKeys] = &[read(ValueForm::Sections, &[SECTIONS])];

/// What stands for the scaling of rotary positions by `alpha`, which is in the base alone.
pub(super) const ALPHA_SCALED: &[KeyRule] = &[
    KeyRule::Derived(Derived::AlphaScaled(AlphaPart::Base)),
    KeyRule::Derived(Derived::AlphaScaled(AlphaPart::Kind)),
    KeyRule::Derived(Derived::AlphaScaled(AlphaPart::Factor)),
    KeyRule::Derived(Derived::AlphaScaled(AlphaPart::OriginalContext)),
    KeyRule::Derived(Derived::AlphaScaled(AlphaPart::Context)),
];

pub(super) const HEAD_NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQNorm,
        &["layers.{}.self_attn.query_layernorm.weight"],
        key_head,
    ),
    TensorRow::weight(
        R::AttnKNorm,
        &["layers.{}.self_attn.key_layernorm.weight"],
        key_head,
    ),
];
