//! Groups of GGUF keys that architectures share, in the order of llama.cpp's converter
//! (`conversion/base.py`).

use crate::model::conversion::{Derived, KeyRule};
use crate::model::hparams::{Key, Number};
use crate::model::spec::{Attention, ModelSpec};

pub(super) const BLOCKS: KeyRule = KeyRule::count(Key::Blocks).or(|model| Some(model.dims.blocks));
pub(super) const CONTEXT: KeyRule = KeyRule::count(Key::Context)
    .or(|model| Some(model.dims.context).filter(|&context| context > 0));
pub(super) const HIDDEN: KeyRule = KeyRule::count(Key::Hidden).or(|model| Some(model.dims.hidden));
pub(super) const FFN: KeyRule = KeyRule::count(Key::Ffn);
pub(super) const HEADS: KeyRule =
    KeyRule::count(Key::Heads).or(|model| Some(attention(model)?.heads));
pub(super) const KV_HEADS: KeyRule =
    KeyRule::count(Key::KvHeads).or(|model| Some(attention(model)?.kv_heads));
pub(super) const VOCAB: KeyRule = KeyRule::count(Key::Vocab).or(|model| Some(model.dims.vocab));
pub(super) const RMS_EPSILON: KeyRule = KeyRule::Number(Number::RmsEpsilon);
pub(super) const ROPE_BASE: KeyRule = KeyRule::Derived(Derived::RopeBase);
pub(super) const FINAL_SOFTCAP: KeyRule = KeyRule::Number(Number::FinalSoftcap);
pub(super) const WINDOW: KeyRule = KeyRule::count(Key::Window).or(|model| {
    let mut layers = model.layers.iter();
    layers.find_map(|layer| layer.mixer.attention.as_ref()?.window)
});

/// Keys that the converter writes for nearly every architecture.
pub(super) const COMMON: &[KeyRule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    KV_HEADS,
    KeyRule::Derived(Derived::RopeScaling),
    KeyRule::Derived(Derived::RopeFactor),
    KeyRule::Derived(Derived::YarnOriginalContext),
    KeyRule::Derived(Derived::Yarn(Number::YarnExtFactor)),
    KeyRule::Derived(Derived::Yarn(Number::YarnAttnFactor)),
    KeyRule::Derived(Derived::Yarn(Number::YarnBetaFast)),
    KeyRule::Derived(Derived::Yarn(Number::YarnBetaSlow)),
    KeyRule::Derived(Derived::RopeSections(None)),
    ROPE_BASE,
    KeyRule::Derived(Derived::WindowRopeBase),
    RMS_EPSILON,
    KeyRule::Number(Number::LayerNormEpsilon),
    KeyRule::count(Key::Experts),
    KeyRule::count(Key::ExpertsUsed),
];

/// The same without the counts of experts, which are its last.
pub(super) const COMMON_WITHOUT_EXPERTS: &[KeyRule] = COMMON.split_at(COMMON.len() - 2).0;

/// Groups of experts, of which a router takes some first.
pub(super) const EXPERT_GROUPS: &[KeyRule] = &[
    KeyRule::count(Key::ExpertGroups),
    KeyRule::count(Key::ExpertGroupsUsed),
];

/// A Mamba 2 mixer.
pub(super) const STATE_SPACE_KEYS: &[KeyRule] = &[
    KeyRule::count(Key::ConvKernel),
    KeyRule::count(Key::StateSize),
    KeyRule::count(Key::SsmGroups),
    KeyRule::Derived(Derived::StateSpaceWidth),
    KeyRule::count(Key::SsmHeads),
];

/// A model whose attention has no positions.
pub(super) const NO_POSITIONS: &[KeyRule] = &[
    KeyRule::Flag {
        key: "rope.scaling.finetuned",
        from: None,
        or: false,
    },
    KeyRule::Derived(Derived::UnboundedContext),
];

/// The width of a head; if it is not stated, that of the model's description.
pub(super) const HEAD_DIM: &[KeyRule] = &[
    KeyRule::count(Key::HeadDim).or(key_dim),
    KeyRule::count_from(Key::ValueDim, Key::HeadDim).or(key_dim),
];

/// The width of a head, only if it is stated.
pub(super) const HEAD_DIM_IF_STATED: &[KeyRule] = &[
    KeyRule::count(Key::HeadDim),
    KeyRule::count_from(Key::ValueDim, Key::HeadDim),
];

/// How a model that turns texts into numbers makes one vector of a text's.
pub(super) const POOLING: &[KeyRule] = &[KeyRule::Derived(Derived::Pooling)];

pub(super) const FILE_TYPE: &[KeyRule] = &[KeyRule::FileType];

/// The vocabulary's size, and the number of rotated elements of a head, which is all of them.
pub(super) const VOCAB_AND_ROPE: &[KeyRule] = &[
    VOCAB,
    KeyRule::count_from(Key::RopeDim, Key::HeadDim).or(|model| {
        let heads = attention(model)?.heads;
        model.dims.hidden.checked_div(heads)
    }),
];

fn attention(model: &ModelSpec) -> Option<&Attention> {
    let mut layers = model.layers.iter();
    layers.find_map(|layer| layer.mixer.attention.as_ref())
}

/// The width of a head.
pub(super) fn key_dim(model: &ModelSpec) -> Option<u64> {
    Some(attention(model)?.key_dim)
}
