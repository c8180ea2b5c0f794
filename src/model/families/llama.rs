//! Llama and its close relatives: Llama 2 and 3, TinyLlama, SmolLM2, Mistral, DeepSeek-R1 distills,
//! Mixtral, Mistral 3, InternLM 3, SmolLM3, Phi-3.
//!
//! Sources: `modeling_llama.py`, `modeling_mixtral.py`, `modeling_ministral3.py`, `modeling_smollm3.py`,
//! `modeling_phi3.py` of Transformers; `src/models/llama.cpp`, `mistral3.cpp`, `smollm3.cpp`, `phi3.cpp`
//! of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{OPTIONAL_WINDOW, RMS_NORM};
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{Conversion, Derived, KeyRule, Vocabulary};
use crate::model::forward_spec::{ArchTraits, PLAIN, RopeStyle, RotatedBlocks};
use crate::model::hparams::{Key, Number};
use crate::model::loader::{Loader, LoaderKeys, LoaderRule, ValueForm, read};
use crate::model::quirks::{EightyBlocks, GraphOrder, Quirks};
use crate::model::role::TensorRole as R;
use crate::model::spec::ModelSpec;

/// What llama.cpp's loader of Llama reads; those of its relatives differ in the keys.
pub(super) const LLAMA_LOADER: Loader = Loader {
    keys: &[RMS_NORM, LLAMA_LOADED],
    rules: &[LoaderRule::WholeHeads],
    biases: &[R::AttnOutput, R::FfnGate, R::FfnUp, R::FfnDown],
    optional: &[R::FfnGateExperts],
    rope_tables: &[R::RopeFreqs, R::RopeFactorsLong, R::RopeFactorsShort],
    ..Loader::USUAL
};

const LLAMA_FORWARD: ArchTraits = ArchTraits {
    rope: RopeStyle::Norm,
    ..PLAIN
};

/// llama.cpp runs Mistral and Mixtral as `llama`, without their sliding window.
pub(super) static LLAMA: Arch = Arch {
    name: super::PLAIN,
    classes: &[
        "LlamaForCausalLM",
        "LLaMAForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
        "InternLM3ForCausalLM",
    ],
    model_types: &["llama", "mistral", "mixtral", "internlm3"],
    forward: Some(LLAMA_FORWARD),
    layers: uniform,
    tensors: LLAMA_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_UNLESS_MIXTRAL, FILE_TYPE, VOCAB_AND_ROPE],
        ..LLAMA_CONVERSION
    }),
    quirks: Quirks::NONE
        .mlc_template("llama-3")
        .eighty_blocks(EightyBlocks::Grouped),
    loader: LLAMA_LOADER,
    ..USUAL
};

const LLAMA_LOADED: &[LoaderKeys] = &[read(ValueForm::Count, &["vocab_size"])];

const LLAMA_TENSORS: &[&[TensorRow]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    QKV_BIAS,
    OUTPUT_BIAS,
    GATED_FFN,
    GATED_FFN_BIAS,
    MIXTRAL_EXPERTS,
    ROPE_FREQS,
];

const LLAMA_CONVERSION: Conversion = Conversion {
    vocabulary: Vocabulary::Llama,
    weights: ROTARY_PAIRS,
    ..Conversion::USUAL
};

/// The configuration classes of Llama and Mistral fill in the width of a head, that of Mixtral does not.
const HEAD_DIM_UNLESS_MIXTRAL: &[KeyRule] = &[
    KeyRule::count(Key::HeadDim).or(key_dim_unless_mixtral),
    KeyRule::count_from(Key::ValueDim, Key::HeadDim).or(key_dim_unless_mixtral),
];

fn key_dim_unless_mixtral(model: &ModelSpec) -> Option<u64> {
    match model.dims.experts {
        0 => key_dim(model),
        _ => None,
    }
}

/// The text part of Mistral Small 3.1 and of Ministral 3.
pub(super) static MISTRAL3: Arch = Arch {
    name: "mistral3",
    classes: &["Mistral3ForConditionalGeneration", "Ministral3ForCausalLM"],
    model_types: &["mistral3", "ministral3", "mistral"],
    forward: Some(LLAMA_FORWARD),
    layers: uniform,
    tensors: LLAMA_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, VOCAB_AND_ROPE, MINISTRAL3],
        ..LLAMA_CONVERSION
    }),
    quirks: Quirks::NONE.mlc_template("mistral_default"),
    loader: Loader {
        keys: &[RMS_NORM, MINISTRAL3_LOADED],
        ..LLAMA_LOADER
    },
    ..USUAL
};

const MINISTRAL3_LOADED: &[LoaderKeys] = &[read(
    ValueForm::Float,
    &[
        "attention.temperature_scale",
        "rope.scaling.yarn_beta_fast",
        "rope.scaling.yarn_beta_slow",
        "rope.scaling.yarn_log_multiplier",
    ],
)];

/// Rotary parameters that Ministral 3 states and the text part of Mistral Small 3 does not.
const MINISTRAL3: &[KeyRule] = &[
    KeyRule::Derived(Derived::RopeNumber {
        number: Number::YarnLogMultiplier,
        model_type: "ministral3",
    }),
    KeyRule::Derived(Derived::RopeNumber {
        number: Number::TemperatureScale,
        model_type: "ministral3",
    }),
];

/// Mixtral's names for the tensors of [`EXPERTS`]: `w1` is the gate, `w3` the up and `w2` the down projection.
pub(super) const MIXTRAL_EXPERTS: &[TensorRow] = &[
    TensorRow::weight(
        R::FfnRouter,
        &[
            "layers.{}.block_sparse_moe.gate.weight",
            "layers.{}.mlp.gate.weight",
        ],
        |p| vec![experts(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w1.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w3.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    TensorRow::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.block_sparse_moe.experts.{}.w2.weight",
            "layers.{}.mlp.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

pub(super) static SMOLLM3: Arch = Arch {
    name: "smollm3",
    classes: &["SmolLM3ForCausalLM"],
    model_types: &["smollm3"],
    forward: Some(ArchTraits {
        rotated: RotatedBlocks::NotEach(4),
        ..LLAMA_FORWARD
    }),
    layers: uniform,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        OUTPUT_BIAS,
        GATED_FFN,
        GATED_FFN_BIAS,
        ROPE_FREQS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, VOCAB_AND_ROPE],
        ..LLAMA_CONVERSION
    }),
    quirks: Quirks::NONE.mlc_template("chatml"),
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

/// Phi-3.5 and Phi-4-mini. llama.cpp disables their sliding window.
pub(super) static PHI3: Arch = Arch {
    name: "phi3",
    classes: &["Phi3ForCausalLM"],
    model_types: &["phi3", "phi4"],
    forward: Some(PLAIN),
    layers: uniform,
    tensors: &[EMBEDDING_AND_HEAD, PRE_NORMS, FUSED, ROPE_FACTORS],
    conversion: Some(Conversion {
        first: &[KeyRule::Derived(Derived::LongRopeAttnFactor)],
        keys: &[PHI3_KEYS],
        vocabulary: Vocabulary::Phi3,
        ..Conversion::USUAL
    }),
    quirks: PHI3_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_WINDOW],
        rules: &[LoaderRule::BothRopeTables],
        rope_tables: &[R::RopeFactorsLong, R::RopeFactorsShort],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) const PHI3_QUIRKS: Quirks = Quirks {
    graph: GraphOrder {
        residual_first_feed_forward: true,
        ..Quirks::NONE.graph
    },
    ..Quirks::NONE.mlc_template("phi-3")
};

pub(super) const PHI3_KEYS: &[KeyRule] = &[
    CONTEXT,
    KeyRule::Derived(Derived::OriginalContext),
    HIDDEN,
    FFN,
    BLOCKS,
    HEADS,
    KV_HEADS,
    RMS_EPSILON,
    KeyRule::Derived(Derived::RopeDims(1.0)),
    ROPE_BASE,
    KeyRule::FileType,
    KeyRule::count(Key::Window).or(|_| Some(0)),
];

const FUSED: &[TensorRow] = &[FUSED_HEADS, OUTPUT_OF_FUSED, FUSED_GATE, DOWN_OF_FUSED];

pub(super) const FUSED_HEADS: TensorRow =
    TensorRow::weight(R::AttnQkv, &["layers.{}.self_attn.qkv_proj.weight"], |p| {
        vec![
            query_width(p) + key_width(p) + value_width(p),
            p.dims.hidden,
        ]
    });

pub(super) const OUTPUT_OF_FUSED: TensorRow =
    TensorRow::weight(R::AttnOutput, &["layers.{}.self_attn.o_proj.weight"], |p| {
        vec![p.dims.hidden, query_width(p)]
    });

pub(super) const FUSED_GATE: TensorRow =
    TensorRow::weight(R::FfnUp, &["layers.{}.mlp.gate_up_proj.weight"], |p| {
        vec![2 * inner(p), p.dims.hidden]
    });

pub(super) const DOWN_OF_FUSED: TensorRow =
    TensorRow::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    });
