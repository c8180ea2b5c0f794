//! OLMo 2 and 3: norms after attention and feed-forward, and norms over all heads of query and key.
//!
//! Sources: `modeling_olmo2.py`, `modeling_olmo3.py` of Transformers; `src/models/olmo2.cpp` of
//! llama.cpp, which runs both.

use super::common::*;
use super::loader_keys::{OPTIONAL_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE};
use crate::model::arch::{Arch, TensorRow};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static OLMO2: Arch = Arch {
    name: "olmo2",
    classes: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    layers: |hparams| blocks(hparams, sliding(hparams, 0, 4)?),
    tensors: &[
        EMBEDDING_AND_HEAD,
        POST_NORMS,
        ATTENTION,
        WHOLE_QK_NORM,
        GATED_FFN,
    ],
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_WINDOW, WINDOW_PATTERN, WINDOW_ROPE_BASE],
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::WindowedBlock,
            LoaderRule::WholeHeads,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) static OLMO3: Arch = Arch {
    classes: &["Olmo3ForCausalLM"],
    model_types: &["olmo3"],
    ..OLMO2
};

const POST_NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnPostNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
    TensorRow::weight(
        R::FfnPostNorm,
        &["layers.{}.post_feedforward_layernorm.weight"],
        hidden,
    ),
];

const WHOLE_QK_NORM: &[TensorRow] = &[
    TensorRow::weight(R::AttnQNorm, &["layers.{}.self_attn.q_norm.weight"], |p| {
        vec![query_width(p)]
    }),
    TensorRow::weight(R::AttnKNorm, &["layers.{}.self_attn.k_norm.weight"], |p| {
        vec![key_width(p)]
    }),
];
