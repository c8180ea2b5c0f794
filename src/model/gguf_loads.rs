//! What llama.cpp's loaders take, and what they need, where that is not an architecture's rows: biases, scales,
//! rotary tables, heads, blocks that predict ahead.
//!
//! Data alone, by llama.cpp's names of architectures. Source: `load_arch_tensors` in `src/models/*.cpp`,
//! `create_tensor_qkv` and the scales of `load_tensors` in `src/llama-model.cpp` (build 11434).

use super::role::TensorRole as R;

/// Architectures that a table's row is of.
type Names = &'static [&'static str];

/// Architectures whose head is the embedding, whatever a file holds.
pub(super) const HEADLESS: Names = &["gemma", "gemma2"];

/// Those that need a head of their own.
const HEADED: Names = &["qwen2moe", "gpt-oss", "olmo2"];

/// Those that know blocks behind the last, which predict further tokens.
pub(super) const AHEAD: Names = &[
    "glm4",
    "deepseek2",
    "qwen3next",
    "qwen35",
    "qwen35moe",
    "nemotron_h",
    "nemotron_h_moe",
];

/// Those of them that need such a block's tensors where metadata counts it. Build 11434 needs them of the others too,
/// 11549 does not.
pub(super) const AHEAD_NEEDED: Names = &["glm4", "deepseek2"];

/// What such a block begins with.
pub(super) const AHEAD_NEEDS: &[R] = &[R::NextnProj, R::NextnEmbeddingNorm, R::NextnHiddenNorm];

/// Those whose projections are loaded without biases, which all others may have on query, key and value.
const UNBIASED: Names = &["gemma4", "deepseek2"];

/// Biases that are loaded where a file has them. Those of other roles are as the rows say.
const BIASES: &[(&[R], Names)] = &[
    (
        &[R::AttnOutput],
        &[
            "llama",
            "mistral3",
            "granite",
            "granitemoe",
            "granitehybrid",
            "nemotron_h",
            "nemotron_h_moe",
            "falcon-h1",
            "gpt-oss",
        ],
    ),
    (
        &[R::FfnGate],
        &[
            "llama",
            "mistral3",
            "granite",
            "granitemoe",
            "granitehybrid",
            "falcon-h1",
        ],
    ),
    (
        &[R::FfnUp, R::FfnDown],
        &[
            "llama",
            "mistral3",
            "granite",
            "granitemoe",
            "granitehybrid",
            "falcon-h1",
            "nemotron_h",
            "nemotron_h_moe",
        ],
    ),
    (&[R::Output], &["qwen2", "qwen2vl"]),
];

/// Biases without which no file is loaded.
const NEEDED_BIASES: &[(&[R], Names)] = &[
    (
        &[
            R::AttnOutput,
            R::FfnRouter,
            R::FfnGateExperts,
            R::FfnUpExperts,
            R::FfnDownExperts,
        ],
        &["gpt-oss"],
    ),
    (&[R::FfnRouterBias], &["lfm2moe", "nemotron_h_moe"]),
    (
        &[R::SsmConv1d],
        &["granitehybrid", "nemotron_h", "nemotron_h_moe", "falcon-h1"],
    ),
    (
        &[R::SsmDt],
        &[
            "qwen3next",
            "qwen35",
            "qwen35moe",
            "granitehybrid",
            "nemotron_h",
            "nemotron_h_moe",
            "falcon-h1",
        ],
    ),
];

/// Weights of the rows that a file may lack.
const OPTIONAL: &[(&[R], Names)] = &[
    (&[R::AttnV, R::LayerOutScale], &["gemma4"]),
    (
        &[R::FfnGateExperts],
        &[
            "llama",
            "mistral3",
            "granite",
            "granitemoe",
            "granitehybrid",
        ],
    ),
];

/// Rotary tables that are loaded.
const ROTARY_TABLES: &[(&[R], Names)] = &[
    (
        &[R::RopeFreqs],
        &[
            "llama",
            "mistral3",
            "granite",
            "granitemoe",
            "granitehybrid",
            "falcon-h1",
            "gemma4",
        ],
    ),
    (
        &[R::RopeFactorsLong, R::RopeFactorsShort],
        &["phi3", "llama", "mistral3", "granite", "granitemoe"],
    ),
];

/// Those whose rotary table is as long as half a head, however much of it turns.
pub(super) const TABLE_OF_WHOLE_HEADS: Names = &["gemma4"];

/// Weights that may have a scale of their own, and one of their input.
const SCALED: &[R] = &[
    R::AttnQ,
    R::AttnK,
    R::AttnV,
    R::AttnOutput,
    R::AttnQkv,
    R::AttnGate,
    R::FfnGate,
    R::FfnUp,
    R::FfnDown,
    R::FfnGateShared,
    R::FfnUpShared,
    R::FfnDownShared,
    R::FfnGateExperts,
    R::FfnUpExperts,
    R::FfnDownExperts,
    R::SsmIn,
    R::SsmOut,
    R::SsmAlpha,
    R::SsmBeta,
    R::NextnProj,
    R::NextnHead,
];

/// Ends of their names.
pub(super) const SCALES: &[&str] = &[".scale", ".input_scale"];

fn lists(table: &[(&[R], Names)], role: R, architecture: &str) -> bool {
    let row =
        |(roles, names): &(&[R], Names)| roles.contains(&role) && names.contains(&architecture);
    table.iter().any(row)
}

/// Whether the bias of `role` is loaded; `None` where the rows decide.
pub(super) fn bias(architecture: &str, role: R) -> Option<bool> {
    match role {
        R::AttnQ | R::AttnK | R::AttnV | R::AttnQkv => Some(!UNBIASED.contains(&architecture)),
        R::AttnOutput | R::FfnGate | R::FfnUp | R::FfnDown | R::Output => {
            Some(lists(BIASES, role, architecture))
        }
        _ => None,
    }
}

/// Whether a file must hold the bias of `role`.
pub(super) fn needs_bias(architecture: &str, role: R) -> bool {
    lists(NEEDED_BIASES, role, architecture)
}

/// Whether a file may lack the weight of `role`.
pub(super) fn is_optional(architecture: &str, role: R) -> bool {
    lists(OPTIONAL, role, architecture)
}

/// Whether a file must hold a head even though it could be the embedding.
pub(super) fn needs_head(architecture: &str) -> bool {
    HEADED.contains(&architecture)
}

/// Whether the rotary table of `role` is loaded.
pub(super) fn rotary_table(architecture: &str, role: R) -> bool {
    lists(ROTARY_TABLES, role, architecture)
}

/// How many numbers the scale of a weight of `role` has, if it is loaded.
pub(super) fn scale(role: R, experts: u64) -> Option<u64> {
    let stacked = matches!(
        role,
        R::FfnGateExperts | R::FfnUpExperts | R::FfnDownExperts
    );
    let numbers = if stacked { experts } else { 1 };
    SCALED.contains(&role).then_some(numbers)
}
