//! Falcon-H1: attention and Mamba 2 side by side in every block.
//!
//! Sources: `modeling_falcon_h1.py` of Transformers; `src/models/falcon-h1.cpp` and `conversion/falcon_h1.py` of llama.cpp,
//! which multiplies weights with the model's factors.

use super::common::*;
use super::hybrid::*;
use super::keys::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, WeightRule, WeightTransform};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::{HParams, Key};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

pub(super) static FALCON_H1: Arch = Arch {
    name: "falcon-h1",
    classes: &["FalconH1ForCausalLM"],
    model_types: &["falcon_h1"],
    forward: Some(PLAIN),
    conversion: Some(Conversion {
        keys: &[KEYS],
        weights: FACTORS,
        ..Conversion::USUAL
    }),
    layers: parallel_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        MAMBA2,
        OPTIONAL_NORM,
        FEED_FORWARD,
    ],
    loader: MAMBA2_LOADER,
    ..USUAL
};

const KEYS: &[KeyRule] = &[
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    BLOCKS,
    KeyRule::count(Key::ConvKernel),
    KeyRule::Derived(Derived::StateSpaceWidth),
    KeyRule::count(Key::StateSize),
    KeyRule::count(Key::SsmHeads),
    KeyRule::count(Key::SsmGroups),
    RMS_EPSILON,
    KeyRule::FileType,
    VOCAB,
    KV_HEADS,
    KeyRule::count(Key::HeadDim).or(key_dim),
    KeyRule::count_from(Key::ValueDim, Key::HeadDim).or(key_dim),
    ROPE_BASE,
];

/// In the order in which they are multiplied.
const FACTORS: &[WeightRule] = &[
    DECAY,
    times(&[R::TokenEmbedding], "embedding_multiplier"),
    times(&[R::Output], "lm_head_multiplier"),
    WeightRule {
        roles: &[R::FfnGate],
        transform: WeightTransform::TimesListed("mlp_multipliers", 0),
    },
    WeightRule {
        roles: &[R::FfnDown],
        transform: WeightTransform::TimesListed("mlp_multipliers", 1),
    },
    times(&[R::AttnK], "key_multiplier"),
    times(&[R::AttnQ, R::AttnK, R::AttnV], "attention_in_multiplier"),
    times(&[R::AttnOutput], "attention_out_multiplier"),
    times(&[R::SsmOut], "ssm_out_multiplier"),
    times(&[R::SsmIn], "ssm_in_multiplier"),
    WeightRule {
        roles: &[R::SsmIn],
        transform: WeightTransform::TimesParts("ssm_multipliers"),
    },
];

const fn times(roles: &'static [R], name: &'static str) -> WeightRule {
    WeightRule {
        roles,
        transform: WeightTransform::Times(name),
    }
}

/// llama.cpp stores the second norm under a name without a suffix.
const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.pre_ff_layernorm.weight"], hidden).part(""),
];

const OPTIONAL_NORM: &[TensorRow] =
    &[
        TensorRow::weight(R::SsmNorm, &["layers.{}.mamba.norm.weight"], grouped_norm)
            .when(|p| p.params.ssm_norm),
    ];

fn parallel_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let state = mamba2_of_stated_width(hparams)?;
    let mut layers = uniform(hparams)?;
    for layer in &mut layers {
        layer.mixer.recurrent = Some(state.clone());
    }
    Ok(layers)
}
