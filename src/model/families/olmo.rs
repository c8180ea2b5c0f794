//! OLMo: the first with LayerNorm without weights; 2 and 3 with norms after attention and feed-forward, and norms over all
//! heads of query and key, as OLMoE has them.
//!
//! Sources: `modeling_olmo.py`, `modeling_olmo2.py`, `modeling_olmo3.py`, `modeling_olmoe.py` of Transformers;
//! `src/models/olmo.cpp`, `olmo2.cpp` (which runs the third too), `olmoe.cpp` and `conversion/olmo.py` of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    LAYER_NORM, OPTIONAL_CLAMP, OPTIONAL_WINDOW, RMS_NORM, WINDOW_PATTERN, WINDOW_ROPE_BASE,
};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, NormKind, PLAIN, RopeStyle, Routing};
use crate::model::hparams::{Key, Number};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

pub(super) static OLMO: Arch = Arch {
    name: "olmo",
    classes: &["OlmoForCausalLM", "OLMoForCausalLM"],
    model_types: &["olmo"],
    forward: Some(ArchTraits {
        norm: NormKind::Layer,
        norm_weights: false,
        rope: RopeStyle::Norm,
        ..PLAIN
    }),
    tensors: &[
        &[
            TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows),
            TensorRow::weight(R::Output, &["lm_head.weight"], vocab_rows).when(untied),
        ],
        ATTENTION,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, OLMO_KEYS],
        pre_tokenizer: Some("olmo"),
        weights: ROTARY_PAIRS,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[LAYER_NORM, OPTIONAL_CLAMP],
        rules: &[LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

const OLMO_KEYS: &[KeyRule] = &[
    KeyRule::Fixed(Number::LayerNormEpsilon, 1e-5),
    KeyRule::Number(Number::Clamp),
];

pub(super) static OLMOE: Arch = Arch {
    name: "olmoe",
    classes: &["OlmoeForCausalLM"],
    model_types: &["olmoe"],
    forward: Some(ArchTraits {
        routing: Routing {
            normalized: false,
            ..PLAIN.routing
        },
        ..PLAIN
    }),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        WHOLE_QK_NORM,
        EXPERTS,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            &[KeyRule::Fixed(Number::RmsEpsilon, 1e-5)],
        ],
        pre_tokenizer: Some("olmo"),
        ..Conversion::USUAL
    }),
    loader: Loader {
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::WholeHeads,
            LoaderRule::Routed,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) static OLMO2: Arch = Arch {
    name: "olmo2",
    classes: &["Olmo2ForCausalLM"],
    model_types: &["olmo2"],
    forward: Some(ArchTraits {
        unscaled_windows: true,
        ..PLAIN
    }),
    layers: |hparams| blocks(hparams, sliding(hparams, 0, 4)?),
    tensors: &[
        EMBEDDING_AND_HEAD,
        POST_NORMS,
        ATTENTION,
        WHOLE_QK_NORM,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, WINDOW_KEYS],
        ..Conversion::USUAL
    }),
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

const WINDOW_KEYS: &[KeyRule] = &[
    KeyRule::count(Key::Window),
    KeyRule::Derived(Derived::WindowPatternIfAny),
];

pub(super) const POST_NORMS: &[TensorRow] = &[
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
