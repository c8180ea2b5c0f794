//! Llama 3.2 Vision: Llama 3.1 with blocks that attend to the patches of images instead of the text, in which they cache keys
//! and values of up to four tiles of 1601 patches. The embedding has rows for images that the head lacks.
//!
//! llama.cpp has no such architecture. vLLM had it up to 0.10.2, with the same cells for all blocks: a token of the text has a
//! cell in those that see images, and a patch one in those that see the text. Ollama's own engine has it, and makes its file
//! itself.
//!
//! Sources: `modeling_mllama.py` of Transformers; of vLLM `models/registry.py` (`_PREVIOUSLY_SUPPORTED_MODELS`: the last version),
//! `models/mllama.py` (the patches of an image are tokens of an encoder), `worker/cache_engine.py` of 0.6 to 0.10 (a block of
//! cells has keys and values of all `num_hidden_layers`); "Jenga" (SOSP 2025); `model/models/mllama` of Ollama.

use serde_json::Value as Json;

use super::common::*;
use crate::model::ModelError;
use crate::model::arch::{Arch, RowSite, Served, ServedBy, TensorRow};
use crate::model::hparams::HParams;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Cache, Layer};

pub(super) static MLLAMA: Arch = Arch {
    name: "mllama",
    classes: &["MllamaForConditionalGeneration"],
    model_types: &["mllama_text_model", "mllama"],
    in_llama_cpp: false,
    layers,
    tensors: &[ENDS, PRE_NORMS, ATTENTION_TO_EITHER, GATES, GATED_FFN],
    refusal: Some(
        "llama.cpp has no such architecture (Ollama's own engine has: `ollama run llama3.2-vision`)",
    ),
    served: Some(Served::By(ServedBy {
        runtime: "vllm",
        until: Some("0.10.2"),
        image_tokens,
    })),
    ..USUAL
};

/// Rows of the embedding behind those of the vocabulary.
const IMAGE_ROWS: u64 = 8;

/// The blocks that see images, where the configuration does not list them.
const USUAL_BLOCKS: [usize; 8] = [3, 8, 13, 18, 23, 28, 33, 38];

fn layers(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    const LISTED: &str = "cross_attention_layers";
    let mut layers = uniform(hparams)?;
    let wrong = || ModelError::BadValue {
        key: LISTED.to_owned(),
    };
    let listed = hparams.json(LISTED).filter(|list| !list.is_null());
    let listed = match listed {
        None => USUAL_BLOCKS.to_vec(),
        Some(list) => {
            let blocks = list.as_array().ok_or_else(wrong)?.iter();
            let block = |block: &Json| usize::try_from(block.as_u64()?).ok();
            blocks.map(block).collect::<Option<_>>().ok_or_else(wrong)?
        }
    };
    for block in listed {
        let layer = layers.get_mut(block).ok_or_else(wrong)?;
        if let Some(attention) = &mut layer.mixer.attention {
            attention.cache = Cache::Images;
        }
    }
    Ok(layers)
}

/// Patches of an image, with a class token for each tile.
fn image_tokens(config: &Json) -> Option<u64> {
    let vision = config.get("vision_config")?;
    let count = |key: &str, usual: u64| {
        let stated = vision.get(key).map_or(Some(usual), Json::as_u64);
        stated.filter(|&n| n > 0 && n < 1 << 20)
    };
    let side = count("image_size", 448)? / count("patch_size", 14)?;
    Some((side * side + 1) * count("max_num_tiles", 4)?)
}

fn sees_images(p: &RowSite<'_>) -> bool {
    let attention = p.layer.mixer.attention.as_ref();
    attention.is_some_and(|attention| attention.cache == Cache::Images)
}

const ENDS: &[TensorRow] = &[
    TensorRow::weight(R::TokenEmbedding, &["embed_tokens.weight"], |p| {
        vec![p.dims.vocab.saturating_add(IMAGE_ROWS), p.dims.hidden]
    }),
    TensorRow::weight(R::OutputNorm, &["norm.weight"], hidden),
    TensorRow::weight(R::Output, &["lm_head.weight"], vocab_rows),
];

const ATTENTION_TO_EITHER: &[TensorRow] = &[
    QUERY_PROJECTION.named(&[
        "layers.{}.self_attn.q_proj.weight",
        "layers.{}.cross_attn.q_proj.weight",
    ]),
    KEY_PROJECTION.named(&[
        "layers.{}.self_attn.k_proj.weight",
        "layers.{}.cross_attn.k_proj.weight",
    ]),
    VALUE_PROJECTION.named(&[
        "layers.{}.self_attn.v_proj.weight",
        "layers.{}.cross_attn.v_proj.weight",
    ]),
    OUTPUT_PROJECTION.named(&[
        "layers.{}.self_attn.o_proj.weight",
        "layers.{}.cross_attn.o_proj.weight",
    ]),
];

const GATES: &[TensorRow] = &[
    TensorRow::weight(
        R::AttnQNorm,
        &["layers.{}.cross_attn.q_norm.weight"],
        key_head,
    )
    .when(sees_images),
    TensorRow::weight(
        R::AttnKNorm,
        &["layers.{}.cross_attn.k_norm.weight"],
        key_head,
    )
    .when(sees_images),
    TensorRow::weight(
        R::CrossAttnGate,
        &["layers.{}.cross_attn_attn_gate"],
        |_| vec![1],
    )
    .part("")
    .when(sees_images),
    TensorRow::weight(R::CrossFfnGate, &["layers.{}.cross_attn_mlp_gate"], |_| {
        vec![1]
    })
    .part("")
    .when(sees_images),
];
