//! Gemma 4: windowed and full attention with different heads, caches shared by the last blocks,
//! per-layer embeddings, and experts in parallel with the dense feed-forward.
//!
//! Sources: `modeling_gemma4.py`, `configuration_gemma4.py` of Transformers; `src/models/gemma4.cpp`
//! and `conversion/gemma.py` of llama.cpp.

use super::common::*;
use super::gemma::{GEMMA_FORWARD, PER_LAYER_INPUT, SANDWICH_NORMS, share_caches};
use super::keys::*;
use super::loader_keys::{
    NEEDS_WINDOW, OPTIONAL_EXPERT_WIDTH, OUTPUT_SOFTCAP, RMS_NORM, WINDOW_ROPE_BASE,
};
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, SpecialToken, Vocabulary};
use crate::model::forward_spec::{ArchTraits, AttentionScale};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed, read};
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Cache, FeedForward, Layer};

pub(super) static GEMMA4: Arch = Arch {
    name: "gemma4",
    classes: &[
        "Gemma4ForConditionalGeneration",
        "Gemma4ForCausalLM",
        "Gemma4UnifiedForConditionalGeneration",
    ],
    model_types: &[
        "gemma4_text",
        "gemma4",
        "gemma4_unified_text",
        "gemma4_unified",
    ],
    layers: gemma4_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        SANDWICH_NORMS,
        GEMMA4_ATTENTION,
        QK_NORM,
        DENSE_FFN,
        ROUTED_FFN,
        PER_LAYER_INPUT,
        LAYER_SCALE,
        ROPE_FREQS,
    ],
    forward: Some(ArchTraits {
        attention_scale: AttentionScale::One,
        window_base: Some(10_000.0),
        unscaled_windows: true,
        value_norm: true,
        ..GEMMA_FORWARD
    }),
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            &[
                KeyRule::Derived(Derived::WholeContextHead(Key::HeadDim)),
                KeyRule::Derived(Derived::WholeContextHead(Key::ValueDim)),
            ],
            FILE_TYPE,
            &[FINAL_SOFTCAP, WINDOW],
            GEMMA4_KEYS,
        ],
        vocabulary: Vocabulary::MergedPieces,
        special_tokens: &[SpecialToken::Suppressed {
            class: "Gemma4UnifiedForConditionalGeneration",
        }],
        ..Conversion::USUAL
    }),
    quirks: Quirks::NONE.late_rows().mlc_template("gemma_instruction"),
    loader: Loader {
        keys: &[
            RMS_NORM,
            NEEDS_WINDOW,
            GEMMA4_LOADED,
            WINDOW_ROPE_BASE,
            OUTPUT_SOFTCAP,
            OPTIONAL_EXPERT_WIDTH,
        ],
        rules: &[
            LoaderRule::NoBiases,
            LoaderRule::NeedsRopeTable,
            LoaderRule::RopeTableOfWholeHeads,
            LoaderRule::WindowedBlock,
            LoaderRule::RoutedWidth,
        ],
        optional: &[R::AttnV, R::LayerOutScale],
        rope_tables: &[R::RopeFreqs],
        ..Loader::USUAL
    },
    ..USUAL
};

const GEMMA4_KEYS: &[KeyRule] = &[
    KeyRule::count(Key::SharedKvLayers),
    KeyRule::count(Key::PerLayerDim).or(|model| Some(model.dims.per_layer_embedding)),
    KeyRule::Derived(Derived::WindowPattern),
    KeyRule::count_from(Key::WindowHeadDim, Key::HeadDim),
    KeyRule::count_from(Key::WindowValueDim, Key::HeadDim),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::Derived(Derived::WholeContextHead(Key::RopeDim)),
    KeyRule::count_from(Key::WindowRopeDim, Key::HeadDim),
    KeyRule::Derived(Derived::DenseWidthsIfDouble),
    KeyRule::Derived(Derived::KvHeadsByBlockIfStated),
];

const GEMMA4_LOADED: &[LoaderKeys] = &[
    needed(
        ValueForm::WindowOfEachBlock,
        &["attention.sliding_window_pattern"],
    ),
    needed(
        ValueForm::Count,
        &[
            "embedding_length_per_layer_input",
            "attention.key_length_swa",
            "attention.value_length_swa",
        ],
    ),
    read(ValueForm::Count, &["attention.shared_kv_layers"]),
];

/// Blocks with full attention may use their keys as values and then have no value projection.
fn has_value(p: &RowSite<'_>) -> bool {
    let sees_all = p
        .layer
        .mixer
        .attention
        .as_ref()
        .is_some_and(|a| a.window.is_none());
    !(sees_all && p.params.key_is_value)
}

/// Published checkpoints hold key and value projections even for blocks that reuse another block's cache.
const GEMMA4_ATTENTION: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![query_width(p), p.dims.hidden]
    }),
    TensorRow::weight(R::AttnK, &["layers.{}.self_attn.k_proj.weight"], |p| {
        vec![key_width(p), p.dims.hidden]
    }),
    TensorRow::weight(R::AttnV, &["layers.{}.self_attn.v_proj.weight"], |p| {
        vec![value_width(p), p.dims.hidden]
    })
    .when(has_value),
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    }),
];

/// Width of the dense feed-forward, which runs in parallel with the experts if there are any.
fn dense_inner(p: &RowSite<'_>) -> u64 {
    if has_experts(p) {
        shared_inner(p)
    } else {
        inner(p)
    }
}

const DENSE_FFN: &[TensorRow] = &[
    TensorRow::weight(R::FfnGate, &["layers.{}.mlp.gate_proj.weight"], |p| {
        vec![dense_inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.up_proj.weight"], |p| {
        vec![dense_inner(p), p.dims.hidden]
    }),
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, dense_inner(p)]
    }),
];

/// Experts, whose gate and up projections are fused in GGUF too, with a scale on the router's input and on each expert.
const ROUTED_FFN: &[TensorRow] = &[
    TensorRow::weight(R::FfnRouter, &["layers.{}.router.proj.weight"], |p| {
        vec![experts(p), p.dims.hidden]
    })
    .when(has_experts),
    TensorRow::weight(R::FfnRouter, &["layers.{}.router.scale"], hidden)
        .part("scale")
        .when(has_experts),
    TensorRow::weight(
        R::FfnGateUpExperts,
        &[
            "layers.{}.experts.gate_up_proj",
            "layers.{}.experts.gate_up_proj.weight",
            "layers.{}.experts.{}.gate_proj.weight",
            "layers.{}.experts.{}.up_proj.weight",
        ],
        |p| vec![experts(p), 2 * inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.experts.down_proj",
            "layers.{}.experts.down_proj.weight",
            "layers.{}.experts.{}.down_proj.weight",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &["layers.{}.router.per_expert_scale"],
        |p| vec![experts(p)],
    )
    .part("scale")
    .when(has_experts),
    TensorRow::weight(
        R::FfnPostNorm1,
        &["layers.{}.post_feedforward_layernorm_1.weight"],
        hidden,
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnPreNorm2,
        &["layers.{}.pre_feedforward_layernorm_2.weight"],
        hidden,
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnPostNorm2,
        &["layers.{}.post_feedforward_layernorm_2.weight"],
        hidden,
    )
    .when(has_experts),
];

const LAYER_SCALE: &[TensorRow] = &[TensorRow::weight(
    R::LayerOutScale,
    &["layers.{}.layer_scalar"],
    |_| vec![1],
)];

fn gemma4_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = blocks(hparams, sliding(hparams, 0, 6)?)?;
    let owners = layers
        .len()
        .saturating_sub(hparams.or_zero(Key::SharedKvLayers)? as usize);
    share_caches(&mut layers, owners);
    let dense = hparams
        .per_block(Key::Ffn, layers.len())?
        .ok_or(hparams.missing(Key::Ffn))?;
    let wide = hparams.flag("use_double_wide_mlp").unwrap_or(false);
    let dense_only = hparams.flag("enable_moe_block") == Some(false);
    let last = layers.len() - 1;
    for (index, layer) in layers.iter_mut().enumerate() {
        let Some(attention) = layer.mixer.attention.as_mut() else {
            continue;
        };
        if hparams.is_hugging_face() {
            // Transformers gives the last block full attention, whatever the file states.
            if index == last {
                attention.window = None;
            }
            if attention.window.is_none() {
                let (heads, dim) = whole_context_heads(hparams, index)?;
                attention.kv_heads = heads.unwrap_or(attention.kv_heads);
                attention.key_dim = dim;
                attention.value_dim = dim;
            }
        }
        let shared = attention.cache == Cache::Shared;
        let inner = if wide && shared {
            2 * dense[index]
        } else {
            dense[index]
        };
        layer.feed_forward = match layer.feed_forward {
            FeedForward::Experts {
                count,
                used,
                inner: of_expert,
                ..
            } if !dense_only => FeedForward::Experts {
                count,
                used,
                inner: of_expert,
                shared_inner: inner,
            },
            _ => FeedForward::Dense { inner },
        };
    }
    Ok(layers)
}

/// Key-value heads (if they differ from the others) and head width of a block with full attention: stated for all such
/// blocks, or block by block in `per_layer_config`.
fn whole_context_heads(
    hparams: &HParams<'_>,
    index: usize,
) -> Result<(Option<u64>, u64), ModelError> {
    let own = |name: &str| {
        let blocks = hparams.json("per_layer_config")?;
        let block = blocks
            .get(index.to_string())
            .or_else(|| blocks.get(index))?;
        block.get(name)?.as_u64().filter(|&n| n > 0 && n < 1 << 20)
    };
    let heads = match hparams.flag("attention_k_eq_v") {
        Some(true) => hparams.get(Key::GlobalKvHeads)?,
        _ => None,
    };
    let dim = match own("head_dim") {
        Some(dim) => dim,
        None => hparams.need(Key::GlobalHeadDim)?,
    };
    Ok((own("num_key_value_heads").or(heads), dim))
}
