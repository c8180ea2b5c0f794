//! Mamba 2 (Codestral Mamba, Mamba 2 of 130 M to 2.7 B): blocks of one state-space mixer, without attention and feed-forward.
//!
//! Sources: `modeling_mamba2.py` of Transformers; `src/models/mamba2.cpp` and `conversion/mamba.py` of llama.cpp.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use super::loader_keys::{RMS_NORM, STATE_SPACE};
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer, Mixer};

pub(super) static MAMBA2_ALONE: Arch = Arch {
    name: "mamba2",
    classes: &["Mamba2ForCausalLM"],
    model_types: &["mamba2"],
    forward: Some(PLAIN),
    layers: state_space_layers,
    tensors: &[EMBEDDING_AND_HEAD, NORM, MAMBA2, MAMBA2_NORM],
    conversion: Some(Conversion {
        keys: &[STATE_SPACES_ALONE, KEYS],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: &[DECAY],
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, STATE_SPACE],
        rules: &[LoaderRule::NoRope],
        needs_biases: MAMBA2_LOADER.needs_biases,
        ..Loader::USUAL
    },
    ..USUAL
};

/// What stands first in a file of state spaces alone.
pub(super) const STATE_SPACES_ALONE: &[KeyRule] = &[
    KeyRule::Derived(Derived::UnboundedContext),
    HIDDEN,
    KeyRule::Derived(Derived::NoFeedForward),
    KeyRule::Derived(Derived::NoHeads),
    BLOCKS,
    KeyRule::count(Key::ConvKernel),
    KeyRule::Derived(Derived::StateSpaceWidth),
    KeyRule::count(Key::StateSize),
];

const KEYS: &[KeyRule] = &[
    KeyRule::count(Key::SsmHeads),
    KeyRule::count(Key::SsmGroups),
    KeyRule::Derived(Derived::RmsEpsilon),
    KeyRule::FileType,
];

const NORM: &[TensorRow] = &[TensorRow::weight(
    R::AttnNorm,
    &["layers.{}.norm.weight"],
    hidden,
)];

fn state_space_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let block = Layer {
        mixer: Mixer {
            attention: None,
            recurrent: Some(mamba2(hparams)?),
        },
        feed_forward: FeedForward::None,
    };
    Ok(vec![block; block_count(hparams)?])
}
