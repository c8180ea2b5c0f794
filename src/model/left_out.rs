//! What a checkpoint may hold beside the text model: each kind under a name, with the reason why it is
//! left out. What neither an architecture's rows nor this table account for is an error.

use serde_json::Value as Json;

use super::hparams::text_config;
use super::loader::{Loader, LoaderRule};
use super::spec::LeftOut;
use crate::units::Bytes;

/// A kind of stored tensors that are knowingly left out.
#[derive(Debug)]
pub(super) struct Kind {
    /// What reports call it.
    pub name: &'static str,
    /// Why decoding text does without it.
    pub reason: &'static str,
    /// Whether runtimes can load it beside the text model, so that a plan counts it.
    pub tower: bool,
    /// How its names begin in a Hugging Face checkpoint, behind the model's prefix.
    begins: &'static [&'static str],
    /// How its names end there.
    ends: &'static [&'static str],
    /// Which shapes it has.
    shape: fn(&[u64]) -> bool,
    /// How its names begin in a GGUF.
    gguf: &'static [&'static str],
}

fn any(_: &[u64]) -> bool {
    true
}

/// A scalar, or numbers along one dimension.
fn is_vector(shape: &[u64]) -> bool {
    shape.iter().filter(|&&n| n != 1).count() <= 1
}

/// One square, of the places that see each other.
fn is_square(shape: &[u64]) -> bool {
    match shape {
        [before @ .., rows, columns] => rows == columns && before.iter().all(|&n| n == 1),
        _ => false,
    }
}

/// What a configuration says there is beside the text model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    towers: bool,
    ahead: bool,
}

/// Ends of classes that have nothing but text.
const TEXT_ONLY: &[&str] = &["ForCausalLM", "LMHeadModel"];

/// Parts of keys that only a configuration with towers has.
const OF_TOWERS: &[&str] = &["vision", "visual", "audio", "image", "img_", "video", "mm_"];

impl Beside {
    /// Whatever is known by its name.
    pub(super) const ANY: Beside = Beside {
        towers: true,
        ahead: true,
    };

    /// What `config` of an architecture says that llama.cpp loads so.
    pub(super) fn stated(config: &Json, loader: &Loader) -> Beside {
        let text = text_config(config);
        let nested = !std::ptr::eq(text, config);
        let keys = |part: &Json, is: &dyn Fn(&str, &Json) -> bool| {
            let pairs = part.as_object().into_iter().flatten();
            pairs.into_iter().any(|(key, value)| is(key, value))
        };
        let classes = config.get("architectures").and_then(Json::as_array);
        let mut classes = classes.into_iter().flatten().filter_map(Json::as_str);
        let of_text = |class: &str| TEXT_ONLY.iter().any(|end| class.ends_with(end));
        let text_only = classes.next().is_some_and(of_text) && classes.all(of_text);
        let tower = |key: &str, _: &Json| OF_TOWERS.iter().any(|part| key.contains(part));
        let further = |key: &str, value: &Json| {
            let names = ["nextn", "mtp"].iter().any(|part| key.contains(part));
            names && value.as_u64() != Some(0) && !value.is_null()
        };
        Beside {
            towers: nested || !text_only || keys(config, &tower),
            ahead: keys(config, &further)
                || keys(text, &further)
                || loader.has(LoaderRule::BlocksAheadUnsaid),
        }
    }

    fn has(self, kind: &Kind) -> bool {
        match (kind.tower, kind.name == NEXT_TOKENS.name) {
            (true, _) => self.towers,
            (_, true) => self.ahead,
            _ => true,
        }
    }
}

const OWN_FILE: &str = "runtimes load it from a file of its own";
const COMPUTED: &str = "runtimes compute it from the configuration";

/// Blocks and heads that predict tokens beyond the next one.
pub(super) const NEXT_TOKENS: Kind = Kind {
    name: "multi-token prediction head",
    reason: "it drafts tokens beyond the next one, and decoding does without",
    tower: false,
    begins: &["mtp."],
    ends: &[],
    shape: any,
    gguf: &[],
};

/// The second copy of a matrix that is used twice.
pub(super) const SECOND_COPY: Kind = Kind {
    name: "second copy of the tied embedding",
    reason: "it equals the first",
    tower: false,
    begins: &[],
    ends: &[],
    shape: any,
    gguf: &[],
};

/// A second copy that nobody could compare.
pub(super) const UNSEEN_COPY: Kind = Kind {
    reason: "config.json ties the two, and a bare header holds no weights to compare",
    ..SECOND_COPY
};

/// Biases that an architecture has no place for.
pub(super) const ZERO_BIAS: Kind = Kind {
    name: "biases of zeros",
    reason: "they add nothing",
    ..SECOND_COPY
};

/// Biases beside quantized weights that nobody could look at.
pub(super) const UNSEEN_BIAS: Kind = Kind {
    name: "biases beside quantized weights",
    reason: "GPTQ's tools write zeros there, and a bare header holds no numbers to look at",
    ..SECOND_COPY
};

const TABLE: &[Kind] = &[
    Kind {
        name: "vision tower",
        reason: OWN_FILE,
        tower: true,
        begins: &[
            "vision_tower.",
            "vision_model.",
            "visual.",
            "vision_encoder.",
            "vit.",
            "image_newline",
        ],
        ends: &[],
        shape: any,
        gguf: &["v."],
    },
    Kind {
        name: "audio tower",
        reason: OWN_FILE,
        tower: true,
        begins: &["audio_tower.", "audio_encoder."],
        ends: &[],
        shape: any,
        gguf: &["a."],
    },
    Kind {
        name: "vision projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_vision."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    Kind {
        name: "audio projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_audio."],
        ends: &[],
        shape: any,
        gguf: &[],
    },
    Kind {
        name: "projector",
        reason: OWN_FILE,
        tower: true,
        begins: &[
            "multi_modal_projector.",
            "mm_projector.",
            "vision_projection.",
            "connector.",
            "mlp1.",
        ],
        ends: &[],
        shape: any,
        gguf: &["mm.", "resampler."],
    },
    NEXT_TOKENS,
    Kind {
        name: "rotary frequencies",
        reason: COMPUTED,
        tower: false,
        begins: &["rotary_emb."],
        ends: &[".rotary_emb.inv_freq"],
        shape: is_vector,
        gguf: &[],
    },
    Kind {
        name: "rotary tables",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".rotary_emb.cos_cached", ".rotary_emb.sin_cached"],
        shape: any,
        gguf: &[],
    },
    Kind {
        name: "attention masks",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".attention.bias", ".attn.bias"],
        shape: is_square,
        gguf: &[],
    },
    Kind {
        name: "attention masks",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".masked_bias"],
        shape: is_vector,
        gguf: &[],
    },
    Kind {
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

/// The kind of the tensor of `shape` that a Hugging Face checkpoint calls `name`, `bare` without the
/// model's prefix, if its configuration says that there is `beside`.
pub(super) fn of_hugging_face(
    name: &str,
    bare: &str,
    shape: &[u64],
    beside: Beside,
) -> Option<&'static Kind> {
    TABLE.iter().find(|kind| {
        let named = kind.begins.iter().any(|start| bare.starts_with(start))
            || kind.ends.iter().any(|end| name.ends_with(end));
        named && (kind.shape)(shape) && beside.has(kind)
    })
}

/// The kind of the tensor that a GGUF calls `name`.
pub(super) fn of_gguf(name: &str) -> Option<&'static Kind> {
    let begins = |kind: &&Kind| kind.gguf.iter().any(|start| name.starts_with(start));
    TABLE.iter().find(begins)
}

/// Counts one tensor of `kind`.
pub(super) fn add(all: &mut Vec<LeftOut>, kind: &'static Kind, bytes: Bytes) {
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
