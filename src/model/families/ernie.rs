//! ERNIE 4.5, dense.
//!
//! Sources: `modeling_ernie4_5.py` of Transformers; `src/models/ernie4-5.cpp` and `conversion/ernie.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Vocabulary};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, SECTIONS, ValueForm, read};
use crate::model::role::TensorRole as R;

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

const OPTIONAL_SECTIONS: &[LoaderKeys] = &[read(ValueForm::Sections, &[SECTIONS])];
