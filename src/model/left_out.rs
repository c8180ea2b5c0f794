//! The table of tensors that a checkpoint may hold beside those of the text model, each kind with the reason why it is
//! left out. A tensor that is neither in the rows of its architecture nor in this table is an error.

use serde_json::Value as Json;

use super::hparams::text_config;
use super::loader::{Loader, LoaderRule};
use super::spec::LeftOut;
use crate::units::Bytes;

/// A kind of stored tensors that is left out.
#[derive(Debug)]
pub(super) struct LeftOutKind {
    /// Its name in reports.
    pub name: &'static str,
    /// Why decoding text does not need it.
    pub reason: &'static str,
    /// Whether it is a tower that runtimes can load beside the text model, so that a plan counts it.
    pub tower: bool,
    /// Prefixes of its tensor names in a Hugging Face checkpoint, after the model's own prefix.
    begins: &'static [&'static str],
    /// Suffixes of its tensor names there.
    ends: &'static [&'static str],
    /// Whether a tensor of it may have this shape.
    shape: fn(&[u64]) -> bool,
    /// Prefixes of its tensor names in a GGUF.
    gguf: &'static [&'static str],
}

fn any(_: &[u64]) -> bool {
    true
}

/// Whether at most one dimension is not 1.
fn is_vector(shape: &[u64]) -> bool {
    shape.iter().filter(|&&n| n != 1).count() <= 1
}

/// Whether it is one square matrix, as an attention mask is.
fn is_square(shape: &[u64]) -> bool {
    match shape {
        [before @ .., rows, columns] => rows == columns && before.iter().all(|&n| n == 1),
        _ => false,
    }
}

/// The parts of a checkpoint beside the text model that its configuration allows for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Auxiliary {
    towers: bool,
    ahead: bool,
    /// Whether what heads of training are made of is a part of the model's own head.
    classifies: bool,
}

/// Ends of class names without towers.
const TEXT_ONLY: &[&str] = &["ForCausalLM", "LMHeadModel"];

/// Parts of keys that only configurations of models with towers have.
const OF_TOWERS: &[&str] = &["vision", "visual", "audio", "image", "img_", "video", "mm_"];

impl Auxiliary {
    /// All kinds of the table.
    pub(super) const ANY: Auxiliary = Auxiliary {
        towers: true,
        ahead: true,
        classifies: false,
    };

    /// The parts that `config` states, for an architecture with this `loader`.
    pub(super) fn stated(config: &Json, loader: &Loader) -> Auxiliary {
        let text = text_config(config);
        let nested = !std::ptr::eq(text, config);
        let keys = |part: &Json, is: &dyn Fn(&str, &Json) -> bool| {
            let pairs = part.as_object().into_iter().flatten();
            pairs.into_iter().any(|(key, value)| is(key, value))
        };
        let classes = config.get("architectures").and_then(Json::as_array);
        let mut classes = classes.into_iter().flatten().filter_map(Json::as_str);
        let of_text = |class: &str| TEXT_ONLY.iter().any(|end| class.ends_with(end));
        let classifies = classes
            .clone()
            .any(|class| class.ends_with("ForSequenceClassification"));
        let text_only = classes.next().is_some_and(of_text) && classes.all(of_text);
        let tower = |key: &str, _: &Json| OF_TOWERS.iter().any(|part| key.contains(part));
        let further = |key: &str, value: &Json| {
            let names = ["nextn", "mtp"].iter().any(|part| key.contains(part));
            names && value.as_u64() != Some(0) && !value.is_null()
        };
        Auxiliary {
            towers: nested || !text_only || keys(config, &tower),
            ahead: keys(config, &further)
                || keys(text, &further)
                || loader.has(LoaderRule::BlocksAheadUnsaid),
            classifies,
        }
    }

    fn has(self, kind: &LeftOutKind) -> bool {
        match kind.name {
            _ if kind.tower => self.towers,
            PREDICTION_HEAD => self.ahead,
            TRAINING_HEAD => !self.classifies,
            _ => true,
        }
    }
}

const OWN_FILE: &str = "runtimes load it from a file of its own";
const COMPUTED: &str = "runtimes compute it from the configuration";

/// The name of blocks that predict further tokens.
pub const PREDICTION_HEAD: &str = "multi-token prediction head";

/// The name of what stands between a text's vector and a head.
const TRAINING_HEAD: &str = "head of training";

/// Blocks and heads that predict tokens beyond the next one.
pub(super) const NEXT_TOKENS: LeftOutKind = LeftOutKind {
    name: PREDICTION_HEAD,
    reason: "it drafts tokens beyond the next one, and decoding does without",
    tower: false,
    begins: &[
        "mtp.",
        "mtp_block.",
        "mtp_emb_norm.",
        "mtp_hidden_norm.",
        "mtp_linear_proj.",
    ],
    ends: &[],
    shape: any,
    gguf: &[],
};

/// The second copy of a tied embedding.
pub(super) const SECOND_COPY: LeftOutKind = LeftOutKind {
    name: "second copy of the tied embedding",
    reason: "it equals the first",
    tower: false,
    begins: &[],
    ends: &[],
    shape: any,
    gguf: &[],
};

/// A second copy that could not be compared, since the weights are not at hand.
pub(super) const UNSEEN_COPY: LeftOutKind = LeftOutKind {
    reason: "config.json ties the two, and a bare header holds no weights to compare",
    ..SECOND_COPY
};

/// Numbers that a GGUF has among its keys.
pub(super) const KEY_NUMBERS: LeftOutKind = LeftOutKind {
    name: "parameters of activations",
    reason: "a GGUF states them among its keys",
    ..SECOND_COPY
};

/// Tensors that llama.cpp's converter leaves out.
pub(super) const DROPPED: LeftOutKind = LeftOutKind {
    name: "biases behind experts",
    reason: "llama.cpp computes without them",
    ..SECOND_COPY
};

/// Biases of zeros that the architecture does not have.
pub(super) const ZERO_BIAS: LeftOutKind = LeftOutKind {
    name: "biases of zeros",
    reason: "they add nothing",
    ..SECOND_COPY
};

/// Biases beside quantized weights that could not be read, since the weights are not at hand.
pub(super) const UNSEEN_BIAS: LeftOutKind = LeftOutKind {
    name: "biases beside quantized weights",
    reason: "GPTQ's tools write zeros there, and a bare header holds no numbers to look at",
    ..SECOND_COPY
};

const TABLE: &[LeftOutKind] = &[
    LeftOutKind {
        name: "vision tower",
        reason: OWN_FILE,
        tower: true,
        begins: &[
            "vision_tower.",
            "vision_model.",
            "vision.",
            "visual.",
            "vision_encoder.",
            "vision_embedder.",
            "embed_tokens_extend.image_embed.img_processor.",
            "vpm.",
            "vit.",
            "image_newline",
            "sam_model.",
            "view_seperator",
        ],
        ends: &[],
        shape: any,
        gguf: &["v."],
    },
    LeftOutKind {
        name: "audio tower",
        reason: OWN_FILE,
        tower: true,
        begins: &[
            "audio_tower.",
            "audio_encoder.",
            "embed_tokens_extend.audio_embed.encoder.",
        ],
        ends: &[],
        shape: any,
        gguf: &["a."],
    },
    LeftOutKind {
        name: "vision projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_vision.", "embed_tokens_extend.image_embed."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "audio projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_audio.", "embed_tokens_extend.audio_embed."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "projector",
        reason: OWN_FILE,
        tower: true,
        begins: &[
            "multi_modal_projector.",
            "mm_projector.",
            "vision_projection.",
            "connector.",
            "projector.",
            "merger.",
            "resampler.",
            "mlp1.",
        ],
        ends: &[],
        shape: any,
        gguf: &["mm.", "resampler."],
    },
    NEXT_TOKENS,
    LeftOutKind {
        name: "adapters for images and sounds",
        reason: "text alone is computed without them",
        tower: false,
        begins: &[],
        ends: &[
            ".lora_A.vision.weight",
            ".lora_B.vision.weight",
            ".lora_A.speech.weight",
            ".lora_B.speech.weight",
        ],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "regions of an image",
        reason: "text is computed without them, and no runtime here points or detects",
        tower: false,
        begins: &["region."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "speech output",
        reason: "it speaks what the text model writes, and no runtime here does",
        tower: false,
        begins: &["talker.", "token2wav."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "value mix of the first block",
        reason: "its values are those that later blocks mix with",
        tower: false,
        begins: &["layers.0.attn.v_lora."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: TRAINING_HEAD,
        reason: "a text's vector does without it",
        tower: false,
        begins: &["pooler.dense."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "numbers of positions",
        reason: COMPUTED,
        tower: false,
        begins: &["embeddings.position_ids"],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "rotary frequencies",
        reason: COMPUTED,
        tower: false,
        begins: &["rotary_emb."],
        ends: &[".rotary_emb.inv_freq"],
        shape: is_vector,
        gguf: &[],
    },
    LeftOutKind {
        name: "rotary tables",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".rotary_emb.cos_cached", ".rotary_emb.sin_cached"],
        shape: any,
        gguf: &[],
    },
    LeftOutKind {
        name: "attention masks",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".attention.bias", ".attn.bias"],
        shape: is_square,
        gguf: &[],
    },
    LeftOutKind {
        name: "attention masks",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".masked_bias"],
        shape: is_vector,
        gguf: &[],
    },
    LeftOutKind {
        name: "scales of an FP8 cache",
        reason: "the cache has its type from the runtime",
        tower: false,
        begins: &[],
        ends: &[
            ".k_scale",
            ".v_scale",
            ".q_scale",
            ".kv_scale",
            ".k_zero_point",
            ".v_zero_point",
        ],
        shape: is_vector,
        gguf: &[],
    },
];

/// The kind of a tensor of a Hugging Face checkpoint; `bare` is its name without the model's prefix. Only kinds that
/// `beside` allows are found.
pub(super) fn of_hugging_face(
    name: &str,
    bare: &str,
    shape: &[u64],
    beside: Auxiliary,
) -> Option<&'static LeftOutKind> {
    TABLE.iter().find(|kind| {
        let named = kind.begins.iter().any(|start| bare.starts_with(start))
            || kind.ends.iter().any(|end| name.ends_with(end));
        named && (kind.shape)(shape) && beside.has(kind)
    })
}

/// The kind of the tensor `name` of a GGUF.
pub(super) fn of_gguf(name: &str) -> Option<&'static LeftOutKind> {
    let begins = |kind: &&LeftOutKind| kind.gguf.iter().any(|start| name.starts_with(start));
    TABLE.iter().find(begins)
}

/// Counts one tensor of `kind`.
pub(super) fn add(all: &mut Vec<LeftOut>, kind: &'static LeftOutKind, bytes: Bytes) {
    match all.iter_mut().find(|known| known.name == kind.name) {
        Some(known) => {
            known.tensors += 1;
            known.bytes += bytes;
        }
        None => all.push(LeftOut {
            name: kind.name,
            reason: kind.reason,
            tensors: 1,
            bytes,
        }),
    }
}
