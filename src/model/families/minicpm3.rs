//! MiniCPM 3: latent attention whose keys and values are cached whole, and scales as in other MiniCPM, which llama.cpp has
//! built in.
//!
//! Sources: `modeling_minicpm.py` beside published weights; `src/models/minicpm3.cpp` and `conversion/minicpm.py` of
//! llama.cpp.

use super::common::*;
use super::deepseek::LATENTS;
use super::keys::*;
use super::loader_keys::RMS_NORM;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, BuiltInScales, PLAIN};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

pub(super) static MINICPM3: Arch = Arch {
    name: "minicpm3",
    classes: &["MiniCPM3ForCausalLM"],
    model_types: &["minicpm3"],
    forward: Some(ArchTraits {
        built_in: Some(BuiltInScales {
            embedding: 12.0,
            depth: 1.4,
            base: 256.0,
        }),
        ..PLAIN
    }),
    layers: whole_heads,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        LATENTS,
        KEYS_AND_VALUES,
        GATED_FFN,
        ROPE_FACTORS,
    ],
    conversion: Some(Conversion {
        keys: &[KEYS],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        ..Conversion::USUAL
    }),
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_LATENTS],
        rules: &[
            LoaderRule::NoBiases,
            LoaderRule::UnevenHeads,
            LoaderRule::BothRopeTables,
        ],
        rope_tables: &[R::RopeFactorsLong, R::RopeFactorsShort],
        ..Loader::USUAL
    },
    ..USUAL
};

const NEEDS_LATENTS: &[LoaderKeys] = &[needed(
    ValueForm::Count,
    &["attention.q_lora_rank", "attention.kv_lora_rank"],
)];

const KEYS: &[KeyRule] = &[
    KeyRule::FileType,
    CONTEXT,
    HIDDEN,
    BLOCKS,
    FFN,
    HEADS,
    KV_HEADS,
    RMS_EPSILON,
    VOCAB,
    KeyRule::count(Key::QLora),
    KeyRule::count(Key::KvLora),
    KeyRule::Derived(Derived::WholeHeadWidth),
    KeyRule::count(Key::RopeDim),
];

const KEYS_AND_VALUES: &[TensorRow] = &[
    TensorRow::weight(R::AttnKvB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![
            heads(p) * (p.params.nope_dim + value_dim(p)),
            p.params.kv_lora,
        ]
    }),
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, heads(p) * value_dim(p)]
    }),
];

fn value_dim(p: &RowSite<'_>) -> u64 {
    let attention = p.layer.mixer.attention.as_ref();
    attention.map_or(0, |a| a.value_dim)
}

/// Blocks whose keys have a part with positions and one without; values are as wide as the hidden size by the heads.
fn whole_heads(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(hparams)?;
    if hparams.is_hugging_face() {
        let width = hparams
            .need(Key::NopeDim)?
            .saturating_add(hparams.need(Key::RopeDim)?);
        let stated = hparams.get(Key::MlaValueDim)?;
        let hidden = hparams.need(Key::Hidden)?;
        for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
            attention.key_dim = width;
            attention.value_dim = stated.unwrap_or(hidden / attention.heads.max(1));
        }
    }
    Ok(layers)
}
