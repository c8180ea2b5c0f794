//! Qwen 2, 2.5 and 3, dense and with experts, and the text parts of Qwen-VL and Qwen2.5-Omni.
//!
//! Sources: `modeling_qwen2.py`, `modeling_qwen2_moe.py`, `modeling_qwen3.py`, `modeling_qwen3_moe.py`,
//! `modeling_qwen2_5_vl.py`, `modeling_qwen2_5_omni.py`, `modeling_qwen3_vl*.py` of Transformers; `src/models/qwen2*.cpp`, `qwen3*.cpp`
//! of llama.cpp.

use super::common::*;
use super::keys::*;
use super::loader_keys::{
    DEEPSTACK, NEEDS_EXPERT_WIDTH, NEEDS_SECTIONS, OPTIONAL_EXPERT_WIDTH, RMS_NORM,
    SHARED_EXPERT_WIDTH,
};
use crate::checkpoint::Attends;
use crate::model::ModelError;
use crate::model::arch::{Arch, TensorRow};
use crate::model::conversion::{
    Conversion, Derived, KeyRule, Vocabulary, WeightRule, WeightTransform,
};
use crate::model::forward_spec::{ArchTraits, PLAIN, Routing};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::{Loader, LoaderRule};
use crate::model::quirks::{EightyBlocks, Quirks};
use crate::model::role::TensorRole as R;
use crate::model::spec::{FeedForward, Layer};

pub(super) static QWEN2: Arch = Arch {
    name: "qwen2",
    // The latter is one class of several architectures, of which `minicpm_v` finds the others.
    classes: &["Qwen2ForCausalLM", "MiniCPMV"],
    model_types: &["qwen2"],
    forward: Some(PLAIN),
    tensors: QWEN2_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, POOLING],
        ..QWEN_CONVERSION
    }),
    retrieval: Some(Attends::AsUsual),
    quirks: QWEN_QUIRKS.eighty_blocks(EightyBlocks::Always),
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        biases: &[R::Output],
        ..Loader::USUAL
    },
    ..USUAL
};

const QWEN_QUIRKS: Quirks = Quirks::NONE.mlc_template("qwen2");

const QWEN_CONVERSION: Conversion = Conversion {
    keys: &[COMMON, HEAD_DIM, FILE_TYPE],
    vocabulary: Vocabulary::SentencePieceOrByteLevel,
    ..Conversion::USUAL
};

/// The text part of Qwen2-VL, Qwen2.5-VL and Qwen2.5-Omni.
pub(super) static QWEN2VL: Arch = Arch {
    name: "qwen2vl",
    classes: &[
        "Qwen2VLForConditionalGeneration",
        "Qwen2_5_VLForConditionalGeneration",
        "Qwen2_5OmniModel",
        "Qwen2_5OmniForConditionalGeneration",
    ],
    model_types: &[
        "qwen2_vl",
        "qwen2_vl_text",
        "qwen2_5_vl",
        "qwen2_5_vl_text",
        "qwen2_5_omni",
        "qwen2_5_omni_text",
    ],
    // A text has one position in all three sections of a rotation.
    forward: Some(PLAIN),
    tensors: QWEN2_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE],
        ..QWEN_CONVERSION
    }),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        keys: &[NEEDS_SECTIONS],
        rules: &[LoaderRule::RopeSections, LoaderRule::WholeHeads],
        biases: &[R::Output],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) static QWEN2MOE: Arch = Arch {
    name: "qwen2moe",
    classes: &["Qwen2MoeForCausalLM"],
    model_types: &["qwen2_moe"],
    forward: Some(ArchTraits {
        routing: Routing {
            normalized: false,
            ..PLAIN.routing
        },
        ..PLAIN
    }),
    layers: qwen2moe_layers,
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        ALWAYS_QKV_BIAS,
        GATED_FFN,
        EXPERTS,
        SHARED_EXPERT,
        SHARED_EXPERT_ROUTER,
    ],
    conversion: Some(Conversion {
        keys: &[
            COMMON,
            HEAD_DIM_IF_STATED,
            FILE_TYPE,
            EXPERT_WIDTH,
            &[KeyRule::count(Key::SharedExpertFfn)],
        ],
        vocabulary: Vocabulary::ByteLevel,
        ..QWEN_CONVERSION
    }),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, OPTIONAL_EXPERT_WIDTH, SHARED_EXPERT_WIDTH],
        rules: &[
            LoaderRule::NeedsHead,
            LoaderRule::WholeHeads,
            LoaderRule::Routed,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

pub(super) static QWEN3: Arch = Arch {
    name: "qwen3",
    classes: &["Qwen3ForCausalLM"],
    model_types: &["qwen3"],
    forward: Some(ArchTraits {
        ranks_by_shares: true,
        ..PLAIN
    }),
    tensors: &[
        RANKING,
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        QKV_BIAS,
        QK_NORM,
        GATED_FFN,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, POOLING, ANSWERS],
        weights: &[WeightRule {
            roles: &[R::ClassHead],
            transform: WeightTransform::RowsOfTokens(YES_OR_NO),
        }],
        rank_template: Some(QUESTION),
        ..QWEN_CONVERSION
    }),
    retrieval: Some(Attends::AsUsual),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        rules: &[LoaderRule::WholeHeads],
        optional: &[R::ClassHead],
        ..Loader::USUAL
    },
    ..USUAL
};

/// A reranker is asked a question, and the shares of two answers say how well a document fits.
const YES_OR_NO: &[&str] = &["yes", "no"];

const ANSWERS: &[KeyRule] = &[
    KeyRule::Derived(Derived::RankPooling),
    KeyRule::Derived(Derived::Labels(YES_OR_NO)),
];

const QUESTION: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

const RANKING: &[TensorRow] =
    &[
        TensorRow::weight(R::ClassHead, &[], |p| vec![p.params.labels, p.dims.hidden])
            .when(|p| p.params.labels > 0),
    ];

pub(super) static QWEN3MOE: Arch = Arch {
    name: "qwen3moe",
    classes: &["Qwen3MoeForCausalLM"],
    model_types: &["qwen3_moe"],
    forward: Some(PLAIN),
    tensors: QWEN3_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM_IF_STATED, FILE_TYPE, EXPERT_WIDTH],
        vocabulary: Vocabulary::ByteLevel,
        ..QWEN_CONVERSION
    }),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_EXPERT_WIDTH],
        rules: &[LoaderRule::WholeHeads, LoaderRule::Routed],
        ..Loader::USUAL
    },
    ..USUAL
};

const EXPERT_WIDTH: &[KeyRule] = &[KeyRule::count(Key::ExpertFfn)];

/// The text part of Qwen3-VL.
pub(super) static QWEN3VL: Arch = Arch {
    name: "qwen3vl",
    classes: &["Qwen3VLForConditionalGeneration"],
    model_types: &["qwen3_vl", "qwen3_vl_text"],
    forward: Some(PLAIN),
    tensors: QWEN3_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, DEEPSTACK_LAYERS],
        ..QWEN_CONVERSION
    }),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_SECTIONS, DEEPSTACK],
        rules: &[LoaderRule::RopeSections, LoaderRule::WholeHeads],
        ..Loader::USUAL
    },
    ..USUAL
};

const DEEPSTACK_LAYERS: &[KeyRule] = &[KeyRule::Derived(Derived::DeepstackLayers)];

/// The text part of Qwen3-VL with experts.
pub(super) static QWEN3VLMOE: Arch = Arch {
    name: "qwen3vlmoe",
    classes: &["Qwen3VLMoeForConditionalGeneration"],
    model_types: &["qwen3_vl_moe", "qwen3_vl_moe_text"],
    forward: Some(PLAIN),
    tensors: QWEN3_TENSORS,
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, EXPERT_WIDTH, DEEPSTACK_LAYERS],
        vocabulary: Vocabulary::ByteLevel,
        weights: STACKED_IN_COLUMNS,
        ..QWEN_CONVERSION
    }),
    quirks: QWEN_QUIRKS,
    loader: Loader {
        keys: &[RMS_NORM, NEEDS_SECTIONS, DEEPSTACK, NEEDS_EXPERT_WIDTH],
        rules: &[
            LoaderRule::RopeSections,
            LoaderRule::WholeHeads,
            LoaderRule::Routed,
        ],
        ..Loader::USUAL
    },
    ..USUAL
};

const QWEN2_TENSORS: &[&[TensorRow]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    ALWAYS_QKV_BIAS,
    GATED_FFN,
];

const QWEN3_TENSORS: &[&[TensorRow]] = &[
    EMBEDDING_AND_HEAD,
    PRE_NORMS,
    ATTENTION,
    QKV_BIAS,
    QK_NORM,
    GATED_FFN,
    EXPERTS,
];

/// The weight of the shared expert's output: a projection to one number, so a vector in GGUF.
pub(super) const SHARED_EXPERT_ROUTER: &[TensorRow] = &[TensorRow::weight(
    R::FfnSharedRouter,
    &["layers.{}.mlp.shared_expert_gate.weight"],
    |p| vec![1, p.dims.hidden],
)
.when(has_shared_expert)];

fn qwen2moe_layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    let mut layers = uniform(hparams)?;
    fill_expert_widths(hparams, &mut layers)?;
    Ok(layers)
}

/// Old GGUF files lack the widths of the experts: then the dense width is that of the shared expert, and divided by the
/// experts per token that of a routed one.
pub(super) fn fill_expert_widths(
    hparams: &HParams<'_>,
    layers: &mut [Layer],
) -> Result<(), ModelError> {
    let stated = hparams.get(Key::ExpertFfn)?.is_some();
    let dense = hparams.or_zero(Key::Ffn)?;
    for layer in layers {
        if let FeedForward::Experts {
            used,
            inner,
            shared_inner,
            ..
        } = &mut layer.feed_forward
        {
            if !stated {
                *inner = dense / *used;
            }
            if *shared_inner == 0 {
                *shared_inner = dense;
            }
        }
    }
    Ok(())
}
