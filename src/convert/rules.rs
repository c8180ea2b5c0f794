//! Which keys an architecture's hyperparameters become, as data: one [`Conversion`] per
//! architecture, in the order llama.cpp's converter writes them (`conversion/*.py`). A key that
//! comes a second time keeps its place and takes the new value.

use serde_json::Value as Json;

use super::error::ConvertError;
use super::hparams::{Hparams, as_count, bad, missing};
use super::made::*;
use super::steps::*;
use super::tokenizer::Vocabulary;
use super::weights::Change;
use crate::gguf::Value;
use crate::model::{Attention, FeedForward, ModelSpec, Tensor};

/// How one architecture is described.
pub(super) struct Conversion {
    /// llama.cpp's name.
    pub(super) architecture: &'static str,
    /// Keys that go before everything but the architecture.
    pub(super) first: &'static [Rule],
    /// All other keys.
    pub(super) rules: &'static [&'static [Rule]],
    /// Which tokenizer it has.
    pub(super) vocabulary: Vocabulary,
    /// What is done to a tensor's weights.
    pub(super) weights: fn(&Tensor, &Hparams<'_>) -> Result<Change, ConvertError>,
}

/// One key: GGUF's name of it, without the architecture unless it starts with `general.`, and
/// where its value comes from.
pub(super) enum Rule {
    /// A count by the first of these names, or what the model's description says. Per-layer lists
    /// become arrays.
    Count(
        &'static str,
        &'static [&'static str],
        fn(&ModelSpec) -> Option<u64>,
    ),
    /// A number by the first of these names.
    Float(&'static str, &'static [&'static str]),
    /// A value that needs more than one look.
    Made(&'static str, Make),
    /// `general.file_type`, which the caller gives.
    FileType,
}

type Make = fn(&Hparams<'_>) -> Result<Option<Value>, ConvertError>;

/// The conversion of `architecture`.
///
/// # Errors
/// [`ConvertError::Unsupported`] with the names of those that are.
pub(super) fn conversion(architecture: &str) -> Result<&'static Conversion, ConvertError> {
    let found = CONVERSIONS.iter().find(|c| c.architecture == architecture);
    found.ok_or_else(|| {
        let supported: Vec<&str> = CONVERSIONS.iter().map(|c| c.architecture).collect();
        ConvertError::Unsupported {
            architecture: architecture.to_owned(),
            supported: supported.join(", "),
        }
    })
}

static CONVERSIONS: &[Conversion] = &[
    Conversion {
        architecture: "llama",
        first: &[],
        rules: &[COMMON, HEAD_DIM_UNLESS_MIXTRAL, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
        weights: rotary_pairs,
    },
    Conversion {
        architecture: "mistral3",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, VOCAB_AND_ROPE, MINISTRAL3],
        vocabulary: Vocabulary::Llama,
        weights: rotary_pairs,
    },
    Conversion {
        architecture: "smollm3",
        first: &[],
        rules: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
        weights: rotary_pairs,
    },
    Conversion {
        architecture: "qwen2",
        first: &[],
        rules: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: plain,
    },
    Conversion {
        architecture: "qwen3",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: plain,
    },
    Conversion {
        architecture: "qwen3moe",
        first: &[],
        rules: &[
            COMMON,
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            &[Rule::Count(
                "expert_feed_forward_length",
                &["moe_intermediate_size"],
                nothing,
            )],
        ],
        vocabulary: Vocabulary::ByteLevel,
        weights: plain,
    },
    Conversion {
        architecture: "phi3",
        first: &[Rule::Made("rope.scaling.attn_factor", long_attn_factor)],
        rules: &[&[
            CONTEXT,
            Rule::Made("rope.scaling.original_context_length", original_context),
            HIDDEN,
            FFN,
            BLOCKS,
            HEADS,
            KV_HEADS,
            RMS_EPS,
            Rule::Made("rope.dimension_count", partial_rope_dims),
            ROPE_BASE,
            Rule::FileType,
            Rule::Count("attention.sliding_window", &["sliding_window"], |_| Some(0)),
        ]],
        vocabulary: Vocabulary::Phi3,
        weights: plain,
    },
    Conversion {
        architecture: "gemma2",
        first: &[],
        rules: &[
            &[CONTEXT, HIDDEN, BLOCKS, FFN, HEADS, KV_HEADS, RMS_EPS],
            HEAD_DIM,
            &[
                Rule::FileType,
                Rule::Float("attn_logit_softcapping", &["attn_logit_softcapping"]),
                FINAL_SOFTCAP,
                WINDOW,
            ],
        ],
        vocabulary: Vocabulary::SentencePiece,
        weights: shifted_norms,
    },
    Conversion {
        architecture: "gemma3",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, &[FINAL_SOFTCAP, WINDOW]],
        vocabulary: Vocabulary::SentencePiece,
        weights: shifted_norms,
    },
    Conversion {
        architecture: "gemma3n",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, &[FINAL_SOFTCAP, WINDOW], ALTUP],
        vocabulary: Vocabulary::SentencePiece,
        weights: plain,
    },
    Conversion {
        architecture: "lfm2",
        first: &[],
        rules: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, SHORT_CONVOLUTION],
        vocabulary: Vocabulary::ByteLevel,
        weights: plain,
    },
    Conversion {
        architecture: "qwen3next",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, EXPERT_WIDTHS, DELTA_NET],
        vocabulary: Vocabulary::ByteLevel,
        weights: interleaved_heads,
    },
    Conversion {
        architecture: "qwen35",
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, DELTA_NET, SECTIONS],
        vocabulary: Vocabulary::ByteLevel,
        weights: tiled_values,
    },
    Conversion {
        architecture: "qwen35moe",
        first: &[],
        rules: &[
            COMMON,
            HEAD_DIM,
            FILE_TYPE,
            EXPERT_WIDTHS,
            DELTA_NET,
            SECTIONS,
        ],
        vocabulary: Vocabulary::ByteLevel,
        weights: tiled_values,
    },
];

const BLOCKS: Rule = Rule::Count(
    "block_count",
    &["n_layers", "num_hidden_layers", "n_layer", "num_layers"],
    |model| Some(model.dims.blocks),
);
const CONTEXT: Rule = Rule::Count(
    "context_length",
    &[
        "max_position_embeddings",
        "n_ctx",
        "n_positions",
        "max_sequence_length",
        "model_max_length",
    ],
    |model| Some(model.dims.context).filter(|&context| context > 0),
);
const HIDDEN: Rule = Rule::Count(
    "embedding_length",
    &["hidden_size", "n_embd", "dim"],
    |model| Some(model.dims.hidden),
);
const FFN: Rule = Rule::Count(
    "feed_forward_length",
    &["intermediate_size", "n_inner", "hidden_dim", "block_ff_dim"],
    nothing,
);
const HEADS: Rule = Rule::Count(
    "attention.head_count",
    &["num_attention_heads", "n_head", "n_heads"],
    |model| Some(attention(model)?.heads),
);
const KV_HEADS: Rule = Rule::Count(
    "attention.head_count_kv",
    &["num_key_value_heads", "n_kv_heads"],
    |model| Some(attention(model)?.kv_heads),
);
const RMS_EPS: Rule = Rule::Float(
    "attention.layer_norm_rms_epsilon",
    &["rms_norm_eps", "norm_eps"],
);
const ROPE_BASE: Rule = Rule::Made("rope.freq_base", |h| Ok(h.rope.base.map(f32_value)));
const FINAL_SOFTCAP: Rule = Rule::Float("final_logit_softcapping", &["final_logit_softcapping"]);
const WINDOW: Rule = Rule::Count("attention.sliding_window", &["sliding_window"], |model| {
    let mut layers = model.layers.iter();
    layers.find_map(|layer| layer.mixer.attention.as_ref()?.window)
});

/// What the converter writes for every architecture that has it.
const COMMON: &[Rule] = &[
    BLOCKS,
    CONTEXT,
    HIDDEN,
    FFN,
    HEADS,
    KV_HEADS,
    Rule::Made("rope.scaling.type", |h| {
        Ok(scaling(h)?.map(|kind| Value::String(kind.to_owned())))
    }),
    Rule::Made("rope.scaling.factor", |h| match scaling(h)? {
        Some("linear" | "yarn") => Ok(h.rope.float(&["factor"])?.map(f32_value)),
        _ => Ok(None),
    }),
    Rule::Made("rope.scaling.original_context_length", |h| {
        match scaling(h)? {
            Some("yarn") => original_context(h),
            _ => Ok(None),
        }
    }),
    Rule::Made("rope.scaling.yarn_ext_factor", |h| {
        yarn(h, &["extrapolation_factor"])
    }),
    Rule::Made("rope.scaling.yarn_attn_factor", |h| {
        yarn(h, &["attention_factor", "attn_factor"])
    }),
    Rule::Made("rope.scaling.yarn_beta_fast", |h| yarn(h, &["beta_fast"])),
    Rule::Made("rope.scaling.yarn_beta_slow", |h| yarn(h, &["beta_slow"])),
    Rule::Made("rope.dimension_sections", sections),
    ROPE_BASE,
    Rule::Made("rope.freq_base_swa", |h| {
        Ok(h.window_rope_base.map(f32_value))
    }),
    RMS_EPS,
    Rule::Count(
        "expert_count",
        &["num_local_experts", "num_experts", "n_routed_experts"],
        nothing,
    ),
    Rule::Count(
        "expert_used_count",
        &[
            "num_experts_per_tok",
            "num_experts_per_token",
            "top_k_experts",
        ],
        nothing,
    ),
];

const HEAD_DIM: &[Rule] = &[
    Rule::Count("attention.key_length", &["head_dim"], key_dim),
    Rule::Count("attention.value_length", &["head_dim"], key_dim),
];
const HEAD_DIM_IF_STATED: &[Rule] = &[
    Rule::Count("attention.key_length", &["head_dim"], nothing),
    Rule::Count("attention.value_length", &["head_dim"], nothing),
];
/// The configuration classes of Llama and Mistral fill the head in, Mixtral's does not.
const HEAD_DIM_UNLESS_MIXTRAL: &[Rule] = &[
    Rule::Count(
        "attention.key_length",
        &["head_dim"],
        key_dim_unless_mixtral,
    ),
    Rule::Count(
        "attention.value_length",
        &["head_dim"],
        key_dim_unless_mixtral,
    ),
];
const FILE_TYPE: &[Rule] = &[Rule::FileType];
const VOCAB_AND_ROPE: &[Rule] = &[
    Rule::Count("vocab_size", &["vocab_size"], |model| {
        Some(model.dims.vocab)
    }),
    Rule::Count("rope.dimension_count", &["head_dim"], |model| {
        let heads = attention(model)?.heads;
        model.dims.hidden.checked_div(heads)
    }),
];
const MINISTRAL3: &[Rule] = &[
    Rule::Made("rope.scaling.yarn_log_multiplier", |h| {
        ministral3(h, "mscale_all_dim")
    }),
    Rule::Made("attention.temperature_scale", |h| {
        ministral3(h, "llama_4_scaling_beta")
    }),
];
/// Blocks that convolve have no heads of keys; the width of the feed-forward is rounded.
const SHORT_CONVOLUTION: &[Rule] = &[
    Rule::Made("attention.head_count_kv", kv_heads_by_block),
    Rule::Count("vocab_size", &["vocab_size"], |model| {
        Some(model.dims.vocab)
    }),
    Rule::Count("shortconv.l_cache", &["conv_L_cache"], nothing),
    Rule::Made("feed_forward_length", |h| {
        let width = h.model.layers.iter().find_map(|l| match l.feed_forward {
            FeedForward::Dense { inner } => u32::try_from(inner).ok(),
            _ => None,
        });
        Ok(width.map(Value::U32))
    }),
];
const EXPERT_WIDTHS: &[Rule] = &[
    Rule::Count(
        "expert_feed_forward_length",
        &["moe_intermediate_size"],
        nothing,
    ),
    Rule::Count(
        "expert_shared_feed_forward_length",
        &["shared_expert_intermediate_size"],
        nothing,
    ),
];
const DELTA_NET: &[Rule] = &[
    Rule::Count("ssm.conv_kernel", &["linear_conv_kernel_dim"], nothing),
    Rule::Count("ssm.state_size", &["linear_key_head_dim"], nothing),
    Rule::Count("ssm.group_count", &["linear_num_key_heads"], nothing),
    Rule::Count("ssm.time_step_rank", &["linear_num_value_heads"], nothing),
    Rule::Made("ssm.inner_size", delta_net_width),
    Rule::Made("attention.recurrent_layers", recurrent_layers),
    Rule::Count(
        "full_attention_interval",
        &["full_attention_interval"],
        |_| Some(4),
    ),
    Rule::Made("rope.dimension_count", quarter_rope_dims),
];
/// Text tokens turn all sections alike; runtimes ask for them all the same.
const SECTIONS: &[Rule] = &[Rule::Made("rope.dimension_sections", |h| {
    Ok(sections(h)?.or(Some(Value::I32s(vec![11, 11, 10, 0]))))
})];
const ALTUP: &[Rule] = &[
    Rule::Count("altup.active_idx", &["altup_active_idx"], |_| Some(0)),
    Rule::Count("altup.num_inputs", &["altup_num_inputs"], |model| {
        Some(model.dims.streams)
    }),
    Rule::Count(
        "embedding_length_per_layer_input",
        &["hidden_size_per_layer_input"],
        |model| Some(model.dims.per_layer_embedding),
    ),
    Rule::Count(
        "attention.shared_kv_layers",
        &["num_kv_shared_layers"],
        |_| Some(15),
    ),
    Rule::Made("activation_sparsity_scale", sparsity_scale),
    Rule::Made("attention.sliding_window_pattern", window_pattern),
];

impl Rule {
    /// GGUF's name of the key, without the architecture.
    pub(super) fn key(&self) -> &'static str {
        match self {
            Rule::Count(key, ..) | Rule::Float(key, _) | Rule::Made(key, _) => key,
            Rule::FileType => "general.file_type",
        }
    }

    /// The value, if the model has one.
    pub(super) fn value(
        &self,
        hparams: &Hparams<'_>,
        file_type: u32,
    ) -> Result<Option<Value>, ConvertError> {
        match *self {
            Rule::Count(_, names, or) => match hparams.find(names) {
                Some((name, value)) => count_value(name, value).map(Some),
                None => match or(hparams.model).map(u32::try_from) {
                    None => Ok(None),
                    Some(Ok(count)) => Ok(Some(Value::U32(count))),
                    Some(Err(_)) => Err(missing(names)),
                },
            },
            Rule::Float(_, names) => Ok(hparams.float(names)?.map(f32_value)),
            Rule::Made(_, make) => make(hparams),
            Rule::FileType => Ok(Some(Value::U32(file_type))),
        }
    }
}

fn nothing(_: &ModelSpec) -> Option<u64> {
    None
}

fn attention(model: &ModelSpec) -> Option<&Attention> {
    let mut layers = model.layers.iter();
    layers.find_map(|layer| layer.mixer.attention.as_ref())
}

fn key_dim(model: &ModelSpec) -> Option<u64> {
    Some(attention(model)?.key_dim)
}

fn key_dim_unless_mixtral(model: &ModelSpec) -> Option<u64> {
    match model.dims.experts {
        0 => key_dim(model),
        _ => None,
    }
}

pub(super) fn f32_value(number: f64) -> Value {
    Value::F32(number as f32)
}

fn count_value(name: &str, value: &Json) -> Result<Value, ConvertError> {
    let Some(items) = value.as_array() else {
        return as_count(name, value).map(Value::U32);
    };
    let one = |item: &Json| {
        let count = as_count(name, item)?;
        i32::try_from(count).map_err(|_| bad(name, item, "a whole number of 31 bits"))
    };
    items
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map(Value::I32s)
}
