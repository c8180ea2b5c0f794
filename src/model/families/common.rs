//! What architectures share: the entry that most of them complete, groups of tensors, rules for blocks, what
//! conversion does to weights.

mod blocks;
mod shapes;
mod tensors;

use crate::model::arch::Arch;
use crate::model::conversion::{WeightRule, WeightTransform};
use crate::model::hparams::Key;
use crate::model::loader::Loader;
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;

pub(super) use blocks::*;
pub(super) use shapes::*;
pub(super) use tensors::*;

/// The base of most entries, to be completed with names, blocks and tensors.
pub(super) const USUAL: Arch = Arch {
    name: "",
    classes: &[],
    model_types: &[],
    in_llama_cpp: true,
    forward: None,
    layers: uniform,
    context: |hparams| hparams.or_zero(Key::Context),
    skipped_positions: |_| Ok(0),
    tensors: &[],
    conversion: None,
    refusal: None,
    served: None,
    retrieval: None,
    quirks: Quirks::NONE,
    loader: Loader::USUAL,
};

/// Query and key weights of architectures of rotary style `NORM` in llama.cpp (`LlamaModel.permute` of
/// `conversion/llama.py`).
pub(super) const ROTARY_PAIRS: &[WeightRule] = &[WeightRule {
    roles: &[R::AttnQ, R::AttnK],
    transform: WeightTransform::RotaryPairs,
}];

/// Stacks of experts that are stored in floats with each matrix transposed, gate and up in one (`modify_tensors` of
/// `conversion/llama.py` and `qwen3vl.py`).
pub(super) const STACKED_IN_COLUMNS: &[WeightRule] = &[
    WeightRule {
        roles: &[R::FfnGateExperts, R::FfnUpExperts, R::FfnDownExperts],
        transform: WeightTransform::TransposedFloats,
    },
    WeightRule {
        roles: &[R::FfnGateExperts],
        transform: WeightTransform::HalfOfRows(0),
    },
    WeightRule {
        roles: &[R::FfnUpExperts],
        transform: WeightTransform::HalfOfRows(1),
    },
];

/// The decay of state-space mixers, of which checkpoints store the logarithm.
pub(super) const DECAY: WeightRule = WeightRule {
    roles: &[R::SsmA],
    transform: WeightTransform::NegatedExp,
};

/// The two matrices that latent keys and values are widened with.
pub(super) const KEYS_OF_LATENTS: WeightRule = WeightRule {
    roles: &[R::AttnKB],
    transform: WeightTransform::TransposedKeysOfHeads,
};
pub(super) const VALUES_OF_LATENTS: WeightRule = WeightRule {
    roles: &[R::AttnVB],
    transform: WeightTransform::ValuesOfHeads,
};

/// Norms that multiply by `1 + weight` (`norm_shift` of `conversion/gemma.py`).
pub(super) const SHIFTED_NORMS: WeightRule = WeightRule {
    roles: &[
        R::OutputNorm,
        R::AttnNorm,
        R::AttnPostNorm,
        R::AttnQNorm,
        R::AttnKNorm,
        R::FfnNorm,
        R::FfnPostNorm,
    ],
    transform: WeightTransform::Add(1.0),
};
