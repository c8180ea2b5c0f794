//! What a checkpoint may hold beside the text model: each kind under a name, with the reason why it is
//! left out. What neither an architecture's rows nor this table account for is an error.

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
    /// How its names begin in a GGUF.
    gguf: &'static [&'static str],
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
    gguf: &[],
};

/// The second copy of a matrix that is used twice.
pub(super) const SECOND_COPY: Kind = Kind {
    name: "second copy of the tied embedding",
    reason: "it equals the first",
    tower: false,
    begins: &[],
    ends: &[],
    gguf: &[],
};

/// A second copy that nobody could compare.
pub(super) const UNSEEN_COPY: Kind = Kind {
    reason: "config.json ties the two, and a bare header holds no weights to compare",
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
        gguf: &["v."],
    },
    Kind {
        name: "audio tower",
        reason: OWN_FILE,
        tower: true,
        begins: &["audio_tower.", "audio_encoder."],
        ends: &[],
        gguf: &["a."],
    },
    Kind {
        name: "vision projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_vision."],
        ends: &[],
        gguf: &[],
    },
    Kind {
        name: "audio projector",
        reason: OWN_FILE,
        tower: true,
        begins: &["embed_audio."],
        ends: &[],
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
        gguf: &["mm.", "resampler."],
    },
    NEXT_TOKENS,
    Kind {
        name: "rotary frequencies",
        reason: COMPUTED,
        tower: false,
        begins: &["rotary_emb."],
        ends: &[
            ".rotary_emb.inv_freq",
            ".rotary_emb.cos_cached",
            ".rotary_emb.sin_cached",
        ],
        gguf: &[],
    },
    Kind {
        name: "attention masks",
        reason: COMPUTED,
        tower: false,
        begins: &[],
        ends: &[".masked_bias", ".attention.bias", ".attn.bias"],
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
        gguf: &[],
    },
];

/// The kind of the tensor that a Hugging Face checkpoint calls `name`, `bare` without the model's
/// prefix.
pub(super) fn of_hugging_face(name: &str, bare: &str) -> Option<&'static Kind> {
    TABLE.iter().find(|kind| {
        kind.begins.iter().any(|start| bare.starts_with(start))
            || kind.ends.iter().any(|end| name.ends_with(end))
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
