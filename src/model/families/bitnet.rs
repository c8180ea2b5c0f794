//! BitNet b1.58: weights of three values, a norm before each output projection.
//!
//! The first models store floats and round them as they run: the mean magnitude of a matrix times -1, 0 or 1. Inputs of
//! matrices are rounded to eight bits, by token, which llama.cpp does not do where a format stores floats. Microsoft's 2B 4T
//! squares a ReLU where they and llama.cpp's graph have SiLU, so that a GGUF of it computes another model.
//!
//! Sources: `modeling_bitnet.py` and `utils_quant.py` beside the first weights; `modeling_bitnet.py` and `integrations/bitnet.py`
//! of Transformers; `src/models/bitnet.cpp` (`LLM_FFN_SILU`) and `conversion/bitnet.py` of llama.cpp, whose class takes both
//! names; `layers/quantization/__init__.py` and `models/registry.py` of vLLM, which have neither the method nor the class.

use super::common::*;
use super::keys::*;
use crate::model::arch::{Arch, Served, TensorRow};
use crate::model::conversion::{Conversion, KeyRule, Vocabulary, WeightRule, WeightTransform};
use crate::model::forward_spec::PLAIN;
use crate::model::hparams::Number;
use crate::model::loader::{Loader, LoaderRule};
use crate::model::role::TensorRole as R;

/// The first models, of 0.7 to 3.3 B.
pub(super) static BITNET: Arch = Arch {
    name: "bitnet",
    classes: &["BitnetForCausalLM"],
    // They state that of Llama, whose tokenizer they have.
    model_types: &["llama"],
    forward: Some(PLAIN),
    tensors: &[
        EMBEDDING_AND_HEAD,
        PRE_NORMS,
        ATTENTION,
        GATED_FFN,
        SUB_NORMS,
    ],
    conversion: Some(Conversion {
        keys: &[COMMON, HEAD_DIM, FILE_TYPE, UNSCALED],
        vocabulary: Vocabulary::SentencePieceOrByteLevel,
        weights: &[WeightRule {
            roles: &[
                R::AttnQ,
                R::AttnK,
                R::AttnV,
                R::AttnOutput,
                R::FfnUp,
                R::FfnDown,
                R::FfnGate,
            ],
            transform: WeightTransform::Ternary,
        }],
        ..Conversion::USUAL
    }),
    served: Some(Served::AsGguf),
    loader: Loader {
        rules: &[LoaderRule::NoHead, LoaderRule::NoBiases],
        ..Loader::USUAL
    },
    ..USUAL
};

/// BitNet b1.58 2B 4T.
pub(super) static BITNET_2B: Arch = Arch {
    classes: &["BitNetForCausalLM"],
    model_types: &["bitnet"],
    in_llama_cpp: false,
    forward: None,
    conversion: None,
    refusal: Some(
        "llama.cpp computes SiLU in the feed-forward of bitnet where the published model squares a ReLU",
    ),
    served: Some(Served::Elsewhere(
        "vLLM knows neither its class nor its quantization (`bitnet`); Transformers and bitnet.cpp run it",
    )),
    ..BITNET
};

const UNSCALED: &[KeyRule] = &[
    KeyRule::Text {
        key: "rope.scaling.type",
        text: "linear",
    },
    KeyRule::Fixed(Number::RopeFactor, 1.0),
];

const SUB_NORMS: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnSubNorm,
        &[
            "layers.{}.self_attn.attn_sub_norm.weight",
            "layers.{}.self_attn.inner_attn_ln.weight",
        ],
        |p| vec![query_width(p)],
    ),
    TensorRow::weight(
        R::FfnSubNorm,
        &[
            "layers.{}.mlp.ffn_sub_norm.weight",
            "layers.{}.mlp.ffn_layernorm.weight",
        ],
        |p| vec![inner(p)],
    ),
];
