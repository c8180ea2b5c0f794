//! EXAONE 4: norms after attention and feed-forward; where there are windows, positions in windowed blocks alone.
//!
//! Sources: `modeling_exaone4.py` of Transformers; `src/models/exaone4.cpp` and `conversion/exaone.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{OPTIONAL_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE};
use super::olmo::POST_NORMS;
use crate::model::ModelError;
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, PLAIN, RotatedBlocks};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

/// llama.cpp has the windows of the model of 64 blocks built in, and none in another.
const BLOCKS_WITH_WINDOWS: u64 = 64;

pub(super) static EXAONE4: Arch = Arch {
    name: "exaone4",
    classes: &["Exaone4ForCausalLM"],
    model_types: &["exaone4"],
    forward: Some(ArchTraits {
        rotated: RotatedBlocks::Windowed,
        ..PLAIN
    }),
    layers: exaone4_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        POST_NORMS,
        ATTENTION,
        QK_NORM,
        GATED_FFN,
        ROPE_FREQS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, EXAONE_KEYS],
        pre_tokenizer: Some("exaone4"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE],
        rules: &[
            LoaderRule::WholeHeads,
            LoaderRule::BlocksAhead,
            LoaderRule::NeedsBlocksAhead,
        ],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

fn exaone4_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    if hparams.need(Key::Blocks)? == BLOCKS_WITH_WINDOWS {
        blocks(hparams, sliding(hparams, 4096, 4)?)
    } else {
        uniform(hparams)
    }
}

const EXAONE_KEYS: &[KeyRule] = &[
    VOCAB,
    KeyRule::count(Key::Window),
    KeyRule::Derived(Derived::WindowPatternIfAny),
];
