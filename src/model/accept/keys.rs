//! The metadata keys that llama.cpp reads of each architecture: in which form, and whether it does without.
//!
//! Source: `load_hparams` in `src/llama-model.cpp` and `load_arch_hparams` in `src/models/*.cpp` of llama.cpp
//! (build 11434). Keys that a runtime does not read may be of any type.

use Form::{Count, Flag, Float, PerBlock, Sections, Text, Window, WindowOfEachBlock};
use Of::{All, But, Only};

/// How a value is read: by its exact type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A number of 32 bits.
    Count,
    Float,
    Flag,
    Text,
    /// A number, or one for each block.
    PerBlock,
    /// How many rotary pairs turn with each of four positions.
    Sections,
    /// The period of windowed blocks, or a flag for each block.
    Window,
    /// A flag for each block.
    WindowOfEachBlock,
}

/// Which architectures.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    All,
    Only(&'static [&'static str]),
    But(&'static [&'static str]),
}

impl Of {
    pub(super) fn has(self, architecture: &str) -> bool {
        match self {
            All => true,
            Only(names) => names.contains(&architecture),
            But(names) => !names.contains(&architecture),
        }
    }
}

/// Keys behind the architecture's name that are read alike.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) of: Of,
    /// Whether no file is loaded without them.
    pub(super) needed: bool,
    pub(super) form: Form,
    pub(super) names: &'static [&'static str],
}

const fn needed(of: Of, form: Form, names: &'static [&'static str]) -> Keys {
    Keys {
        of,
        needed: true,
        form,
        names,
    }
}

const fn read(of: Of, form: Form, names: &'static [&'static str]) -> Keys {
    Keys {
        of,
        needed: false,
        form,
        names,
    }
}

pub(super) const EPSILON: &str = "attention.layer_norm_rms_epsilon";
pub(super) const LAYER_EPSILON: &str = "attention.layer_norm_epsilon";
pub(super) const SECTIONS: &str = "rope.dimension_sections";
pub(super) const ROTATED: &str = "rope.dimension_count";
pub(super) const WINDOW_ROTATED: &str = "rope.dimension_count_swa";

/// Blocks of state-space models and delta nets.
const RECURRENT: Of = Only(&[
    "qwen3next",
    "qwen35",
    "qwen35moe",
    "granitehybrid",
    "nemotron_h",
    "nemotron_h_moe",
    "falcon-h1",
]);
pub(super) const DELTA_NETS: Of = Only(&["qwen3next", "qwen35", "qwen35moe"]);
const GRANITES: Of = Only(&["granite", "granitemoe", "granitehybrid"]);
pub(super) const NEMOTRONS: Of = Only(&["nemotron_h", "nemotron_h_moe"]);
/// Those that place tokens in three dimensions.
pub(super) const SECTIONED: Of = Only(&["qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"]);
/// Those that need a windowed block where there is a window.
pub(super) const WINDOWED: Of =
    Only(&["gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "olmo2"]);
/// Those whose windows have a pattern.
const PATTERNED: Of = Only(&["gemma2", "gemma3", "gemma3n", "gpt-oss", "olmo2"]);

pub(super) const KEYS: &[Keys] = &[
    needed(
        All,
        Count,
        &["block_count", "context_length", "embedding_length"],
    ),
    read(
        All,
        Count,
        &[
            "embedding_length_out",
            "pooling_type",
            "nextn_predict_layers",
            "expert_count",
            "expert_group_count",
            "expert_group_used_count",
            "attention.key_length",
            "attention.value_length",
            "attention.key_length_swa",
            "attention.value_length_swa",
            ROTATED,
            WINDOW_ROTATED,
            "rope.scaling.original_context_length",
        ],
    ),
    read(
        All,
        PerBlock,
        &[
            "expert_used_count",
            "feed_forward_length",
            "attention.head_count",
            "attention.head_count_kv",
        ],
    ),
    read(
        All,
        Float,
        &[
            "rope.freq_base",
            "rope.scaling.factor",
            "rope.scaling.attn_factor",
            "rope.scaling.alpha",
        ],
    ),
    read(All, Flag, &["attention.causal", "rope.scaling.finetuned"]),
    read(All, Text, &["rope.scaling.type"]),
    // Norms. Qwen2-VL's loader reads no epsilon.
    needed(
        But(&["qwen2vl", "nemotron_h", "nemotron_h_moe"]),
        Float,
        &[EPSILON],
    ),
    read(NEMOTRONS, Float, &[EPSILON]),
    needed(NEMOTRONS, Float, &[LAYER_EPSILON]),
    // Windows.
    needed(
        Only(&["gemma3n", "gemma4", "gpt-oss"]),
        Count,
        &["attention.sliding_window"],
    ),
    read(
        Only(&["gemma2", "gemma3", "olmo2", "phi3", "lfm2"]),
        Count,
        &["attention.sliding_window"],
    ),
    read(PATTERNED, Window, &["attention.sliding_window_pattern"]),
    needed(
        Only(&["gemma4"]),
        WindowOfEachBlock,
        &["attention.sliding_window_pattern"],
    ),
    read(
        Only(&["gemma2", "gemma3", "gemma3n", "gemma4", "gpt-oss", "olmo2"]),
        Float,
        &["rope.freq_base_swa"],
    ),
    read(
        Only(&["gemma2", "gemma3", "gemma4"]),
        Float,
        &["final_logit_softcapping"],
    ),
    read(Only(&["gemma2"]), Float, &["attn_logit_softcapping"]),
    needed(
        Only(&["gemma4"]),
        Count,
        &[
            "embedding_length_per_layer_input",
            "attention.key_length_swa",
            "attention.value_length_swa",
        ],
    ),
    read(Only(&["gemma4"]), Count, &["attention.shared_kv_layers"]),
    // Rotary positions.
    needed(SECTIONED, Sections, &[SECTIONS]),
    read(Only(&["glm4"]), Sections, &[SECTIONS]),
    read(
        Only(&["mistral3"]),
        Float,
        &[
            "attention.temperature_scale",
            "rope.scaling.yarn_beta_fast",
            "rope.scaling.yarn_beta_slow",
            "rope.scaling.yarn_log_multiplier",
        ],
    ),
    read(
        Only(&["qwen3vl", "qwen3vlmoe"]),
        Count,
        &["n_deepstack_layers"],
    ),
    // Granite's multipliers.
    needed(Only(&["granite", "granitemoe"]), Float, &["logit_scale"]),
    read(Only(&["granitehybrid"]), Float, &["logit_scale"]),
    read(
        GRANITES,
        Float,
        &["residual_scale", "embedding_scale", "attention.scale"],
    ),
    // Experts.
    needed(
        Only(&["gpt-oss", "deepseek2", "lfm2moe"]),
        PerBlock,
        &["expert_feed_forward_length"],
    ),
    // Without it llama.cpp takes a share of another width, which no published file has.
    needed(
        Only(&["qwen3moe", "qwen3vlmoe"]),
        PerBlock,
        &["expert_feed_forward_length"],
    ),
    read(
        Only(&[
            "qwen2moe",
            "qwen3next",
            "qwen35moe",
            "gemma4",
            "nemotron_h",
            "nemotron_h_moe",
        ]),
        PerBlock,
        &["expert_feed_forward_length"],
    ),
    read(
        Only(&[
            "qwen2moe",
            "qwen3next",
            "qwen35moe",
            "granite",
            "granitemoe",
            "granitehybrid",
            "nemotron_h",
            "nemotron_h_moe",
        ]),
        Count,
        &["expert_shared_feed_forward_length"],
    ),
    read(
        Only(&["deepseek2", "lfm2moe"]),
        Count,
        &["leading_dense_block_count"],
    ),
    needed(Only(&["lfm2moe"]), Count, &["expert_gating_func"]),
    // Latent attention.
    needed(
        Only(&["deepseek2"]),
        Count,
        &["attention.kv_lora_rank", "expert_shared_count"],
    ),
    read(
        Only(&["deepseek2"]),
        Count,
        &[
            "vocab_size",
            "attention.key_length_mla",
            "attention.value_length_mla",
            "attention.temperature_length",
            "expert_gating_func",
        ],
    ),
    read(
        Only(&["deepseek2"]),
        Float,
        &[
            "expert_weights_scale",
            "rope.scaling.yarn_log_multiplier",
            "attention.temperature_scale",
        ],
    ),
    read(Only(&["deepseek2"]), Flag, &["expert_weights_norm"]),
    // Recurrent blocks.
    needed(
        RECURRENT,
        Count,
        &[
            "ssm.conv_kernel",
            "ssm.inner_size",
            "ssm.state_size",
            "ssm.time_step_rank",
            "ssm.group_count",
        ],
    ),
    read(DELTA_NETS, PerBlock, &["attention.recurrent_layers"]),
    needed(Only(&["lfm2", "lfm2moe"]), Count, &["shortconv.l_cache"]),
    read(
        NEMOTRONS,
        Count,
        &["moe_latent_size", "expert_shared_count"],
    ),
    read(NEMOTRONS, Float, &["expert_weights_scale"]),
    read(NEMOTRONS, Flag, &["expert_weights_norm"]),
    read(Only(&["llama"]), Count, &["vocab_size"]),
];

/// Whether the loader of `architecture` reads `key`.
pub(super) fn reads(architecture: &str, key: &str) -> bool {
    let has = |keys: &Keys| keys.of.has(architecture) && keys.names.contains(&key);
    KEYS.iter().any(has)
}

/// Those that route every block, or all but the leading ones, and load no file without experts.
pub(super) const ROUTED: Of = Only(&["qwen2moe", "qwen3moe", "qwen3vlmoe", "qwen3next", "lfm2moe"]);

/// Those whose pass turns a head as a whole, or ends the program.
pub(super) const TURNED_WHOLE: Of = Only(&[
    "llama",
    "mistral3",
    "smollm3",
    "qwen2",
    "qwen2vl",
    "qwen2moe",
    "qwen3",
    "qwen3moe",
    "qwen3vl",
    "qwen3vlmoe",
    "granite",
    "granitemoe",
    "olmo2",
    "gpt-oss",
]);

/// Those whose keys may be of another width than their values.
pub(super) const UNEVEN_HEADS: Of = Only(&["deepseek2"]);

/// What llama.cpp knows as `rope.scaling.type`.
pub(super) const ROPE_SCALINGS: &[&str] = &["none", "linear", "yarn", "longrope"];
