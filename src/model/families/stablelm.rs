//! StableLM 2 of 1.6 B, Zephyr 3 B and Code 3 B: LayerNorm, a quarter of each head rotated. The 12 B, whose heads have norms of
//! their own and whose blocks are parallel, is not among them.
//!
//! Sources: `modeling_stablelm.py` of Transformers; `src/models/stablelm.cpp` and `conversion/stablelm.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::LAYER_NORM;
use crate::model::arch::Arch;
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, NormKind, PLAIN};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static STABLELM: Arch = Arch {
    name: "stablelm",
    classes: &["StableLmForCausalLM", "StableLMEpochForCausalLM"],
    model_types: &["stablelm", "stablelm_epoch"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        NORM_BIASES,
        ATTENTION,
        QKV_BIAS,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[STABLELM_KEYS],
        pre_tokenizer: Some("stablelm2"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM],
        rules: &[LoaderRule::NeedsHead],
        needs_biases: &[R::OutputNorm, R::AttnNorm],
        // Without it attention and feed-forward share a norm.
        optional: &[R::FfnNorm],
        ..Loader::USUAL
    },
    ..USUAL
};

const STABLELM_KEYS: &[KeyRule] = &[
    CONTEXT,
    HIDDEN,
    BLOCKS,
    FFN,
    KeyRule::Derived(Derived::RopeDims(0.25)),
    HEADS,
    KV_HEADS,
    KeyRule::Flag {
        key: "use_parallel_residual",
        from: Some("use_parallel_residual"),
        or: true,
    },
    KeyRule::Derived(Derived::LayerNormEpsilon),
    KeyRule::FileType,
];
