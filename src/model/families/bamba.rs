//! Bamba: Mamba 2 with some blocks of attention, half of whose heads' elements turn. llama.cpp runs it as `granitehybrid`.
//!
//! Sources: `modeling_bamba.py` of Transformers; `src/models/granite-hybrid.cpp` and `conversion/granite.py` of llama.cpp.

use serde_json::Value as Json;

use super::common::*;
use super::granite_hybrid::GRANITE_HYBRID;
use super::hybrid::*;
use super::keys::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::hparams::HParams;
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

/// llama.cpp's converter pairs the elements of whole heads, although half of a head turns: what it writes computes another
/// model. Here the elements that turn are paired.
pub(super) static BAMBA: Arch = Arch {
    classes: &["BambaForCausalLM"],
    model_types: &["bamba"],
    layers: bamba_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        MAMBA2,
        MAMBA2_NORM,
        FEED_FORWARD,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            FILE_TYPE,
            VOCAB_AND_ROPE,
            STATE_SPACE_KEYS,
            HYBRID_KEYS,
        ],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: &[
            WeightRule {
                roles: &[R::AttnQ, R::AttnK],
                transform: WeightTransform::RotaryPairsOfHalf,
            },
            DECAY,
        ],
        ..Conversion::USUAL
    }),
    ..GRANITE_HYBRID
};

const HYBRID_KEYS: &[KeyRule] = &[
    KeyRule::Derived(Derived::RopeDims(TURNING)),
    KeyRule::Derived(Derived::KvHeadsByBlock),
    KeyRule::Flag {
        key: "rope.scaling.finetuned",
        from: None,
        or: true,
    },
];

/// The share of a head's elements that turn, which the class has built in.
const TURNING: f64 = 0.5;

const NORMS: &[TensorRow] = &[
    TensorRow::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    TensorRow::weight(R::FfnNorm, &["layers.{}.pre_ff_layernorm.weight"], hidden),
];

fn bamba_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    const ATTENDING: &str = "attn_layer_indices";
    refuse(hparams, "bamba", "mamba_proj_bias", |stated| stated)?;
    let listed = hparams.json(ATTENDING).and_then(Json::as_array);
    let listed = listed.ok_or_else(|| ModelError::MissingKey {
        key: ATTENDING.to_owned(),
    })?;
    let blocks = block_count(hparams)? as u64;
    let within = |n: &Json| n.as_u64().filter(|&n| n < blocks);
    let attending: Option<Vec<u64>> = listed.iter().map(within).collect();
    let attending = attending.ok_or_else(|| ModelError::BadValue {
        key: ATTENDING.to_owned(),
    })?;
    let layers = interleaved(hparams, &mamba2_of_stated_width(hparams)?, |block, _| {
        !attending.contains(&(block as u64))
    })?;
    // What the first files state beside the class.
    let turning = hparams.json("attn_rotary_emb").filter(|n| !n.is_null());
    let mut attentions = layers.iter().filter_map(|l| l.mixer.attention.as_ref());
    match (turning, attentions.next()) {
        (Some(stated), Some(attention)) if stated.as_u64() != Some(attention.key_dim / 2) => {
            Err(ModelError::Unsupported {
                key: "attn_rotary_emb".to_owned(),
                found: stated.to_string(),
                architecture: "bamba",
            })
        }
        _ => Ok(layers),
    }
}
