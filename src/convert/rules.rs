//! Which keys an architecture's hyperparameters become, as data: one [`Conversion`] per
//! architecture, in the order llama.cpp's converter writes them (`conversion/*.py`). A key that
//! comes a second time keeps its place and takes the new value.

use serde_json::Value as Json;

use super::error::ConvertError;
use super::hparams::{Hparams, as_count, bad, missing};
use super::tokenizer::Vocabulary;
use crate::gguf::Value;
use crate::model::{Attention, ModelSpec};

/// How one architecture is described.
pub(super) struct Conversion {
    /// llama.cpp's name.
    pub(super) architecture: &'static str,
    /// Values of a configuration that leaves them out: what its class in Transformers fills in.
    pub(super) defaults: &'static [(&'static str, f64)],
    /// Keys that go before everything but the architecture.
    pub(super) first: &'static [Rule],
    /// All other keys.
    pub(super) rules: &'static [&'static [Rule]],
    /// Which tokenizer it has.
    pub(super) vocabulary: Vocabulary,
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
        defaults: &[("rms_norm_eps", 1e-6), ("rope_theta", 10_000.0)],
        first: &[],
        rules: &[COMMON, HEAD_DIM_UNLESS_MIXTRAL, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
    },
    Conversion {
        architecture: "smollm3",
        defaults: &[("rms_norm_eps", 1e-6), ("rope_theta", 2_000_000.0)],
        first: &[],
        rules: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, VOCAB_AND_ROPE],
        vocabulary: Vocabulary::Llama,
    },
    Conversion {
        architecture: "qwen2",
        defaults: &[("rms_norm_eps", 1e-6), ("rope_theta", 10_000.0)],
        first: &[],
        rules: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
    },
    Conversion {
        architecture: "qwen3",
        defaults: &[("rms_norm_eps", 1e-6), ("rope_theta", 10_000.0)],
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
    },
    Conversion {
        architecture: "qwen3moe",
        defaults: &[("rms_norm_eps", 1e-6), ("rope_theta", 10_000.0)],
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
    },
    Conversion {
        architecture: "phi3",
        defaults: &[
            ("rms_norm_eps", 1e-5),
            ("rope_theta", 10_000.0),
            ("original_max_position_embeddings", 4096.0),
        ],
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
    },
    Conversion {
        architecture: "gemma2",
        defaults: &[
            ("rms_norm_eps", 1e-6),
            ("attn_logit_softcapping", 50.0),
            ("final_logit_softcapping", 30.0),
        ],
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
    },
    Conversion {
        architecture: "gemma3",
        defaults: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 1_000_000.0),
            ("rope_local_base_freq", 10_000.0),
        ],
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, &[FINAL_SOFTCAP, WINDOW]],
        vocabulary: Vocabulary::SentencePiece,
    },
    Conversion {
        architecture: "gemma3n",
        defaults: &[
            ("rms_norm_eps", 1e-6),
            ("rope_theta", 1_000_000.0),
            ("rope_local_base_freq", 10_000.0),
            ("final_logit_softcapping", 30.0),
        ],
        first: &[],
        rules: &[COMMON, HEAD_DIM, FILE_TYPE, &[FINAL_SOFTCAP, WINDOW], ALTUP],
        vocabulary: Vocabulary::SentencePiece,
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
    &["intermediate_size", "n_inner", "hidden_dim"],
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

fn f32_value(number: f64) -> Value {
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

/// The kind of rotary scaling as GGUF names it; `None` for none and for what becomes a tensor.
fn scaling(hparams: &Hparams<'_>) -> Result<Option<&'static str>, ConvertError> {
    let factor = hparams.rope.float(&["factor"])?;
    Ok(match hparams.rope.kind {
        Some("linear") => factor.map(|_| "linear"),
        Some("yarn") => factor.map(|_| "yarn"),
        Some("su" | "longrope") => Some("longrope"),
        _ => None,
    })
}

fn yarn(hparams: &Hparams<'_>, keys: &[&str]) -> Result<Option<Value>, ConvertError> {
    match scaling(hparams)? {
        Some("yarn") => Ok(hparams.rope.float(keys)?.map(f32_value)),
        _ => Ok(None),
    }
}

const ORIGINAL_CONTEXT: &[&str] = &["original_max_position_embeddings"];

fn original_context_length(hparams: &Hparams<'_>) -> Result<f64, ConvertError> {
    let stated = match hparams.rope.float(ORIGINAL_CONTEXT)? {
        None => hparams.float(ORIGINAL_CONTEXT)?,
        stated => stated,
    };
    stated.ok_or_else(|| missing(ORIGINAL_CONTEXT))
}

fn original_context(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let length = original_context_length(hparams)?;
    match (0.0..=f64::from(u32::MAX)).contains(&length) {
        true => Ok(Some(Value::U32(length as u32))),
        false => Err(missing(ORIGINAL_CONTEXT)),
    }
}

/// Phi-3: the part of a head that turns.
fn partial_rope_dims(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    const PART: &[&str] = &["partial_rotary_factor", "rope_pct", "rope_percent"];
    let part = match hparams.rope.float(PART)? {
        None => hparams.float(PART)?,
        stated => stated,
    };
    let hidden = hparams.need(&["hidden_size", "n_embd"])?;
    let heads = hparams.need(&["num_attention_heads", "n_head"])?;
    let turning = (part.unwrap_or(1.0) * f64::from(hidden)) as u32;
    Ok(turning.checked_div(heads).map(Value::U32))
}

/// Phi-3 with long factors: the softmax is scaled by sqrt(1 + ln(context / original) /
/// ln(original)) (`modeling_rope_utils.py`), for yarn by 1 + 0.1 ln(context / original).
fn long_attn_factor(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    if !hparams.rope.has_list("long_factor") {
        return Ok(None);
    }
    let original = original_context_length(hparams)?;
    let context = hparams.need(&["n_positions", "max_position_embeddings"])?;
    let stretch = f64::from(context) / original;
    let factor = match hparams.rope.kind {
        _ if stretch <= 1.0 => 1.0,
        Some("yarn") => 0.1 * stretch.ln() + 1.0,
        _ => (1.0 + stretch.ln() / original.ln()).sqrt(),
    };
    Ok(Some(f32_value(factor)))
}

/// Gemma 3n: the sparsity of each layer as a number of standard deviations.
fn sparsity_scale(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    const KEY: &str = "activation_sparsity_pattern";
    // Without a pattern the first ten layers keep 5 % (`configuration_gemma3n.py`).
    let Some(pattern) = hparams.get(KEY) else {
        let layers = 0..hparams.model.dims.blocks.min(4096);
        let scale = |layer| {
            if layer < 10 {
                inverse_normal(0.95)
            } else {
                inverse_normal(0.0)
            }
        };
        return Ok(Some(Value::F32s(layers.map(scale).collect())));
    };
    let share = |value: &Json| {
        let number = value.as_f64().filter(|share| (0.0..1.0).contains(share));
        number.ok_or_else(|| bad(KEY, value, "a share below 1"))
    };
    let shares = match pattern.as_array() {
        Some(items) => items.iter().map(share).collect::<Result<Vec<f64>, _>>()?,
        None => vec![share(pattern)?; hparams.model.dims.blocks.min(4096) as usize],
    };
    let scales = shares.into_iter().map(inverse_normal).collect();
    Ok(Some(Value::F32s(scales)))
}

fn window_pattern(hparams: &Hparams<'_>) -> Result<Option<Value>, ConvertError> {
    let windowed = hparams.model.layers.iter().map(|layer| {
        let attention = layer.mixer.attention.as_ref();
        Value::Bool(attention.is_some_and(|a| a.window.is_some()))
    });
    Ok(Some(Value::Array(windowed.collect())))
}

/// The value below which a standard normal variable falls with probability `share`: bisection on
/// the error function, exact to single precision.
fn inverse_normal(share: f64) -> f32 {
    if share <= 0.0 {
        return f32::NEG_INFINITY;
    }
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match normal_below(middle) < share {
            true => low = middle,
            false => high = middle,
        }
    }
    (0.5 * (low + high)) as f32
}

/// P(X < x) for a standard normal X: Marsaglia's series, x + x^3/3 + x^5/15 + ..., times the
/// density (J. Stat. Softw. 11(4), 2004); beyond 8 deviations it is 0 or 1 to double precision.
fn normal_below(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
}
