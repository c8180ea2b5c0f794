//! DeepSeek 2, 3 and R1, and models with the same blocks (Kimi K2, Moonlight, GLM-4.7-Flash): latent attention (MLA), leading
//! dense blocks, routed and shared experts.
//!
//! Sources: `modeling_deepseek_v2.py`, `modeling_deepseek_v3.py` of Transformers;
//! `src/models/deepseek2.cpp` and `conversion/deepseek.py` of llama.cpp, which runs both as
//! `deepseek2`.

use super::common::*;
use super::glm::GLM_TOKENS;
use super::keys::*;
use super::loader_keys::{LEADING_DENSE, NEEDS_EXPERT_WIDTH, RMS_NORM};
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule};
use crate::model::forward_spec::{ArchTraits, AttentionScale, PLAIN, RopeStyle, Routing, Scores};
use crate::model::hparams::{HParams, Key, Number};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, needed, read};
use crate::model::role::TensorRole as R;
use crate::model::spec::Layer;

pub(super) static DEEPSEEK2: Arch = Arch {
    name: "deepseek2",
    classes: &["DeepseekV2ForCausalLM"],
    model_types: &["deepseek_v2"],
    forward: Some(FORWARD),
    conversion: Some(CONVERSION),
    layers: latent_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        LATENTS,
        ABSORBED,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
    ],
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH, LEADING_DENSE, LATENT_KEYS],
        rules: &[
            LoaderRule::NoBiases,
            LoaderRule::BlocksAhead,
            LoaderRule::NeedsBlocksAhead,
            LoaderRule::MayLackBlocksAhead,
            LoaderRule::Latents,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const FORWARD: ArchTraits = ArchTraits {
    rope: RopeStyle::Norm,
    attention_scale: AttentionScale::Latent,
    routing: Routing {
        scores: Scores::Softmax,
        normalized: false,
        scale: 1.0,
        ..PLAIN.routing
    },
    states_routing: true,
    // GLM-4.7-Flash.
    sigmoid_of: Some(([47, 48], 154_880)),
    ..PLAIN
};

const CONVERSION: Conversion = Conversion {
    keys: &[COMMON, EXPERT_GROUPS, SCORES, FILE_TYPE, LATENT_VALUES],
    weights: &[KEYS_OF_LATENTS, VALUES_OF_LATENTS],
    ..Conversion::USUAL
};

const SCORES: &[KeyRule] = &[
    KeyRule::Derived(Derived::ExpertScores),
    KeyRule::Derived(Derived::OneKeyHead),
];

const LATENT_VALUES: &[KeyRule] = &[
    KeyRule::count(Key::LeadingDense).or(|_| Some(0)),
    VOCAB,
    KeyRule::count(Key::QLora),
    KeyRule::count(Key::KvLora),
    KeyRule::Derived(Derived::LatentKeyWidth),
    KeyRule::Derived(Derived::LatentWidth),
    KeyRule::Derived(Derived::WholeKeyWidth),
    KeyRule::count(Key::MlaValueDim),
    KeyRule::count(Key::ExpertFfn),
    KeyRule::count(Key::SharedExperts),
    KeyRule::Number(Number::ExpertScale),
    KeyRule::Derived(Derived::NormalizedShares),
    KeyRule::count(Key::RopeDim),
    KeyRule::Derived(Derived::TenthOfYarnMultiplier),
];

const LATENT_KEYS: &[LoaderKeys] = &[
    needed(
        ValueForm::Count,
        &["attention.kv_lora_rank", "expert_shared_count"],
    ),
    read(
        ValueForm::Count,
        &[
            "vocab_size",
            "attention.key_length_mla",
            "attention.value_length_mla",
            "attention.temperature_length",
            "expert_gating_func",
        ],
    ),
    read(
        ValueForm::Float,
        &[
            "expert_weights_scale",
            "rope.scaling.yarn_log_multiplier",
            "attention.temperature_scale",
        ],
    ),
    read(ValueForm::Flag, &["expert_weights_norm"]),
];

/// Its router adds a correction to the scores by which experts are selected.
pub(super) static DEEPSEEK3: Arch = Arch {
    classes: &[
        "DeepseekV3ForCausalLM",
        "KimiVLForConditionalGeneration",
        "KimiK25ForConditionalGeneration",
    ],
    model_types: &["deepseek_v3", "kimi_k2", "kimi_vl"],
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        LATENTS,
        ABSORBED,
        GATED_FFN,
        EXPERTS,
        ROUTER_CORRECTION,
        SHARED_EXPERT,
    ],
    ..DEEPSEEK2
};

/// GLM-4.7-Flash. llama.cpp knows that its router's scores are a sigmoid by its size alone; the key is written all the
/// same.
pub(super) static GLM4_MOE_LITE: Arch = Arch {
    classes: &["Glm4MoeLiteForCausalLM"],
    model_types: &["glm4_moe_lite"],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            EXPERT_GROUPS,
            SCORES,
            FILE_TYPE,
            LATENT_VALUES,
            &[KeyRule::Derived(Derived::SigmoidScores)],
        ],
        pre_tokenizer: Some("glm4"),
        special_tokens: GLM_TOKENS,
        ..CONVERSION
    }),
    ..DEEPSEEK3
};

/// DeepSeek-OCR's text model: the same without latents, with whole heads of queries, keys and values, whose halves turn
/// together.
pub(super) static DEEPSEEK2_OCR: Arch = Arch {
    name: "deepseek2-ocr",
    classes: &["DeepseekOCRForCausalLM"],
    model_types: &["DeepseekOCR"],
    forward: Some(ArchTraits {
        rope: RopeStyle::Neox,
        attention_scale: PLAIN.attention_scale,
        sigmoid_of: None,
        whole_heads: true,
        ..FORWARD
    }),
    conversion: Some(Conversion {
        // Checkpoints have none; one that has overrides it.
        first: &[KeyRule::Text {
            key: "tokenizer.chat_template",
            text: "{% for m in messages %}{{m['content']}}{% endfor %}",
        }],
        keys: &[
            COMMON,
            EXPERT_GROUPS,
            &[KeyRule::Derived(Derived::ExpertScores)],
            FILE_TYPE,
            &[
                KeyRule::count(Key::LeadingDense).or(|_| Some(0)),
                VOCAB,
                KeyRule::count(Key::ExpertFfn),
                KeyRule::count(Key::SharedExperts),
                KeyRule::Number(Number::ExpertScale),
                KeyRule::Derived(Derived::NormalizedShares),
                KeyRule::count(Key::RopeDim),
            ],
        ],
        ..Conversion::USUAL
    }),
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
    ],
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH, LEADING_DENSE, SHARED_KEYS],
        rules: &[LoaderRule::Routed, LoaderRule::WholeHeadsUnsaid],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Whether a configuration says that there are no latents.
pub(super) fn has_no_latents(hparams: &HParams<'_>) -> bool {
    hparams.json("use_mla").and_then(|flag| flag.as_bool()) == Some(false)
}

const SHARED_KEYS: &[LoaderKeys] = &[
    needed(ValueForm::Count, &["expert_shared_count"]),
    read(ValueForm::Count, &["expert_gating_func"]),
    read(ValueForm::Float, &["expert_weights_scale"]),
    read(ValueForm::Flag, &["expert_weights_norm"]),
];

const ROUTER_CORRECTION: &[TensorRow] = &[TensorRow::bias(
    R::FfnRouterBias,
    &["layers.{}.mlp.gate.e_score_correction_bias"],
    |p| vec![experts(p)],
)
.when(has_experts)];

/// Elements of a query head: those without rotary positions and the rotary ones.
fn query_dim(p: &RowSite<'_>) -> u64 {
    p.params.nope_dim + p.params.rope_dim
}

fn has_query_latent(p: &RowSite<'_>) -> bool {
    p.params.q_lora > 0
}

/// Queries through a latent or not, and the latent of keys and values.
pub(super) const LATENTS: &[TensorRow] = &[
    TensorRow::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![heads(p) * query_dim(p), p.dims.hidden]
    })
    .when(|p| !has_query_latent(p)),
    TensorRow::weight(R::AttnQA, &["layers.{}.self_attn.q_a_proj.weight"], |p| {
        vec![p.params.q_lora, p.dims.hidden]
    })
    .when(has_query_latent),
    TensorRow::weight(
        R::AttnQANorm,
        &["layers.{}.self_attn.q_a_layernorm.weight"],
        |p| vec![p.params.q_lora],
    )
    .when(has_query_latent),
    TensorRow::weight(R::AttnQB, &["layers.{}.self_attn.q_b_proj.weight"], |p| {
        vec![heads(p) * query_dim(p), p.params.q_lora]
    })
    .when(has_query_latent),
    TensorRow::weight(
        R::AttnKvAMqa,
        &["layers.{}.self_attn.kv_a_proj_with_mqa.weight"],
        |p| vec![p.params.kv_lora + p.params.rope_dim, p.dims.hidden],
    ),
    TensorRow::weight(
        R::AttnKvANorm,
        &["layers.{}.self_attn.kv_a_layernorm.weight"],
        |p| vec![p.params.kv_lora],
    ),
];

/// Keys and values from the latent. Conversion splits `kv_b_proj` into the two halves that
/// are absorbed into query and output.
const ABSORBED: &[TensorRow] = &[
    TensorRow::weight(R::AttnKB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.kv_lora, p.params.nope_dim]
    }),
    TensorRow::weight(R::AttnVB, &["layers.{}.self_attn.kv_b_proj.weight"], |p| {
        vec![heads(p), p.params.mla_value_dim, p.params.kv_lora]
    }),
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, heads(p) * p.params.mla_value_dim]
    }),
];

/// Blocks whose cache holds one key head as wide as the latent and its rotary part; values are computed from the same
/// latent, so none are cached. A GGUF without `key_length_mla` was made by an older converter and caches whole keys and
/// values.
fn latent_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let stated = |key| Ok::<bool, ModelError>(hparams.or_zero(key)? > 0);
    let latent = if hparams.is_hugging_face() {
        Some(hparams.need(Key::KvLora)? + hparams.need(Key::RopeDim)?)
    } else if stated(Key::MlaKeyDim)? && stated(Key::MlaValueDim)? {
        None
    } else {
        return uniform(hparams);
    };
    let mut layers = uniform(hparams)?;
    for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
        if let Some(width) = latent {
            attention.kv_heads = 1;
            attention.key_dim = width;
        }
        attention.value_dim = 0;
    }
    Ok(layers)
}
