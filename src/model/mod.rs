//! From a located checkpoint to one description of the model.
//!
//! In: a [`Checkpoint`]. Out: a [`ModelSpec`]. Must not: read weights or know a device. Whether the
//! checkpoint is a Hugging Face directory or a GGUF is forgotten here.

pub mod accept;
mod arch;
mod arithmetic;
pub mod conversion;
mod defaults;
mod families;
mod forward_spec;
mod gguf;
mod gguf_rows;
mod hparams;
mod hugging_face;
mod left_out;
mod loader;
mod lookup;
mod packed;
pub mod packing;
mod quirks;
mod resolve_tensors;
mod role;
mod rows;
mod sorted;
mod spec;
mod zero_biases;

use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::Dtype;
use crate::units::Bytes;

pub use families::tokenizers;
pub use forward_spec::{Activation, ForwardSpec, Rope, RopeStyle, Sparse, Yarn};
pub(crate) use hparams::{HParams, TEXT_PARTS};
pub use hparams::{Key, Number};
#[cfg(test)]
pub(crate) use lookup::quirks_of;
pub use lookup::{conversion_of, converted};
pub use packed::FoldedWeight;
pub use quirks::{EightyBlocks, GraphOrder, Quirks, TypeQuirks};
pub use role::{Category, DecodeAccess, QuantPolicy, ROLES, RoleInfo, TensorRole};
pub use spec::*;

use arch::{Arch, ShapeParams};

/// Why a checkpoint cannot be described as a model.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// The architecture has no table entry.
    #[error(
        "architecture `{name}` is not known{}: {}the cache that its blocks need cannot be told; \
         {}`orinplan inspect` lists its tensors",
        nearest.map(|n| format!(" (the nearest known one is `{n}`)")).unwrap_or_default(),
        if weights.0 > 0 { format!("its weights take {weights}, but ") } else { String::new() },
        if may_write(name) {
            format!("`--assume-kv {PLAIN}` plans it as a plain transformer at your own risk, and ")
        } else {
            String::new()
        }
    )]
    UnknownArchitecture {
        /// What the checkpoint says it is.
        name: String,
        /// The known name closest to it.
        nearest: Option<&'static str>,
        /// Bytes of its tensors, which are exact all the same.
        weights: Bytes,
    },
    /// No table entry has the name that `--assume-kv` gives.
    #[error("there is no architecture `{name}`; known are {}", known_names())]
    NoSuchArchitecture {
        /// The name.
        name: String,
    },
    /// Neither `architectures` nor `model_type` nor `general.architecture` is there.
    #[error(
        "the configuration names no architecture: `architectures` or `model_type` is missing from config.json; put the model's config.json beside its weights"
    )]
    NoArchitecture,
    /// A value that the architecture needs is missing, zero or null.
    #[error(
        "the configuration lacks `{key}`, or it is zero; the file may be cut short or belong to another model"
    )]
    MissingKey {
        /// Its name.
        key: String,
    },
    /// A value that is not a whole, non-negative number of a plausible size.
    #[error("`{key}` in the configuration is not a plausible whole number")]
    BadValue {
        /// Its name.
        key: String,
    },
    /// A value that is not a finite number, or is negative, or zero where that has no meaning.
    #[error(
        "`{key}` is no number that a model computes with; take the configuration that belongs to these weights"
    )]
    BadNumber {
        /// Its name.
        key: String,
    },
    /// Values of the configuration that cannot be of one model.
    #[error(
        "{what} in the configuration; a value is wrong, or one is missing and its default does not go with the others"
    )]
    Contradiction {
        /// The keys with their values.
        what: String,
    },
    /// A stored tensor contradicts the configuration.
    #[error(
        "tensor `{tensor}` has shape {found:?} where the configuration implies {expected:?}; config.json and weights do not belong together"
    )]
    ShapeMismatch {
        /// The name in the checkpoint.
        tensor: String,
        /// What is stored.
        found: Vec<u64>,
        /// What was expected.
        expected: Vec<u64>,
    },
    /// Sizes that overflow 64 bits.
    #[error("tensor `{tensor}` of shape {shape:?} is too large to exist")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A block of a kind that no architecture of its family has.
    #[error(
        "block {block} is of kind `{kind}` in config.json, which is not among `mamba`, `attention`, `mlp` and `moe`; \
         a newer version may know it"
    )]
    UnknownBlock {
        /// Its number.
        block: usize,
        /// What the configuration calls it.
        kind: String,
    },
    /// An activation that the architecture's feed-forward does not have.
    #[error(
        "`hidden_act` is `{found}`, and the feed-forward of {architecture} computes {expected} in every runtime that is \
         planned here; take the config.json that belongs to these weights"
    )]
    Activation {
        /// What config.json says.
        found: String,
        /// llama.cpp's name.
        architecture: &'static str,
        /// What it has.
        expected: &'static str,
    },
    /// A way to stretch rotary positions that no runtime here has.
    #[error(
        "the rotary positions are of type `{found}` in config.json, which is none of {}; a newer version may know it",
        ROPE_TYPES.join(", ")
    )]
    RopeType {
        /// What config.json says.
        found: String,
    },
    /// A weight of integers without the scale that makes numbers of them.
    #[error(
        "tensor `{tensor}` is stored as {} without a scale, so its numbers are no weights; take the checkpoint \
         that has the scales, or the one that it was quantized from",
        found.name()
    )]
    Unscaled {
        /// The name in the checkpoint.
        tensor: String,
        /// How it is stored.
        found: Dtype,
    },
    /// A tensor the model cannot do without is not among the stored ones.
    #[error(
        "tensor `{tensor}` is missing, and the configuration calls for it; the model was saved without it, or \
         config.json and weights do not belong together"
    )]
    MissingTensor {
        /// The Hugging Face name.
        tensor: String,
    },
    /// One of several that are numbered, such as an expert, has a number too many.
    #[error(
        "tensor `{tensor}` is stored, and the configuration counts {count} of its kind, from 0; config.json and \
         weights do not belong together"
    )]
    NumberBeyond {
        /// The name in the checkpoint.
        tensor: String,
        /// How many there should be.
        count: u64,
    },
    /// Two stored tensors are one and the same of the model's.
    #[error(
        "tensors `{one}` and `{other}` are stored, and the model has one of them; keep the right one"
    )]
    StoredTwice {
        /// A name in the checkpoint.
        one: String,
        /// Another.
        other: String,
    },
    /// More blocks are stored than the configuration states.
    #[error(
        "config.json says {stated} blocks (`num_hidden_layers`), and {stored} are stored, `{tensor}` among them; \
         take the config.json that belongs to these weights"
    )]
    BlocksBeyond {
        /// Blocks by the configuration.
        stated: usize,
        /// Blocks by the highest number stored.
        stored: usize,
        /// The first tensor of those beyond.
        tensor: String,
    },
    /// Stored tensors that are neither the model's nor known to be left out.
    #[error(
        "`{}`{} stored, and {architecture} has no place for {}: a plan or a file without would be another \
         model's; take the config.json that belongs to these weights (`orinplan inspect` lists them)",
        tensors.join("`, `"),
        match count.saturating_sub(tensors.len()) {
            0 if *count == 1 => " is".to_owned(),
            0 => " are".to_owned(),
            more => format!(" and {more} more are"),
        },
        if *count == 1 { "it" } else { "them" }
    )]
    Unaccounted {
        /// The first of them.
        tensors: Vec<String>,
        /// How many there are.
        count: usize,
        /// llama.cpp's name of the architecture.
        architecture: &'static str,
    },
    /// A tensor of a GGUF that its architecture has in another shape.
    #[error(
        "tensor `{tensor}` has shape {found:?} where the metadata implies {expected:?}; metadata and weights do \
         not belong together, make the file anew"
    )]
    GgufShape {
        /// Its name.
        tensor: String,
        /// What is stored.
        found: Vec<u64>,
        /// What was expected.
        expected: Vec<u64>,
    },
    /// A tensor that a GGUF lacks.
    #[error(
        "tensor `{tensor}` is missing, and {architecture} needs it; make the file anew, or download it again"
    )]
    GgufMissing {
        /// Its name.
        tensor: String,
        /// The architecture.
        architecture: String,
    },
    /// Tensors of a GGUF that its architecture has no place for.
    #[error(
        "tensor `{tensor}`{} none of {architecture}'s with {blocks} blocks, and llama.cpp refuses a file with \
         tensors that it does not load",
        match count { 1 => " is".to_owned(), n => format!(" and {} more are", n - 1) }
    )]
    GgufStranger {
        /// The first.
        tensor: String,
        /// How many.
        count: usize,
        /// The architecture.
        architecture: String,
        /// Blocks by the metadata.
        blocks: usize,
    },
}

/// GGUF's name of the architecture of a plain transformer.
pub const PLAIN: &str = families::PLAIN;

/// Every name that files have for a known architecture: GGUF's, and the classes and model types of
/// Transformers.
pub fn architecture_names() -> impl Iterator<Item = &'static str> {
    Arch::all().flat_map(|arch| {
        let published = arch.classes.iter().chain(arch.model_types).copied();
        std::iter::once(arch.name).chain(published)
    })
}

/// Each once: several entries may be run as the same architecture.
fn known_names() -> String {
    let mut names: Vec<&str> = Arch::all().map(|arch| arch.name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// The error for a checkpoint that calls itself `name`.
fn unknown_architecture(checkpoint: &Checkpoint, name: &str) -> ModelError {
    ModelError::UnknownArchitecture {
        name: name.to_owned(),
        nearest: nearest_architecture(name),
        weights: checkpoint.tensors.iter().map(|tensor| tensor.bytes).sum(),
    }
}

/// How to read a checkpoint whose architecture has no table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// An error that names the nearest known architecture.
    #[default]
    Refuse,
    /// Weights only: [`ModelSpec::layers`] is empty and no cache can be planned.
    WeightsOnly,
    /// Every tensor under its own name, whether the architecture is known or not.
    Listed,
    /// As if its blocks were those of this architecture (`--assume-kv llama`).
    Assume(&'static str),
}

/// Describes `checkpoint` as a model.
///
/// # Errors
///
/// An architecture without a table entry (unless `unknown` allows it), a configuration that lacks
/// what the architecture needs, or tensors that contradict the configuration.
pub fn read(checkpoint: &Checkpoint, unknown: Unknown) -> Result<ModelSpec, ModelError> {
    match &checkpoint.config {
        RawConfig::HuggingFace(config) => hugging_face::read(checkpoint, config, unknown),
        RawConfig::Gguf(metadata) => gguf::read(checkpoint, metadata, unknown),
    }
}

/// Dimensions and blocks by the rules of `arch`.
fn shape(arch: &Arch, hparams: &HParams<'_>) -> Result<(Dims, Vec<Layer>), ModelError> {
    let layers = (arch.layers)(hparams)?;
    let experts = hparams.or_zero(Key::Experts)?;
    if hparams.or_zero(Key::ExpertsUsed)? > experts && experts > 0 {
        return Err(ModelError::BadValue {
            key: hparams.name(Key::ExpertsUsed),
        });
    }
    let dims = Dims {
        hidden: hparams.need(Key::Hidden)?,
        vocab: hparams.or_zero(Key::Vocab)?,
        blocks: layers.len() as u64,
        context: hparams.or_zero(Key::Context)?,
        per_layer_embedding: hparams.or_zero(Key::PerLayerDim)?,
        streams: hparams.get(Key::Streams)?.unwrap_or(1).max(1),
        experts,
    };
    Ok((dims, layers))
}

/// What `rope_type` may be (`modeling_rope_utils.py` of Transformers, and older names of the same).
const ROPE_TYPES: &[&str] = &[
    "default",
    "linear",
    "dynamic",
    "llama3",
    "yarn",
    "longrope",
    "su",
    "proportional",
    "mrope",
    "deepseek_yarn",
];

/// Dimensions that only the shapes of tensors need; `head_dim` is that of the blocks that see the
/// whole context.
fn shape_params(
    hparams: &HParams<'_>,
    tied: bool,
    head_dim: u64,
) -> Result<ShapeParams, ModelError> {
    let flag = |name| hparams.flag(name).unwrap_or(false);
    let rope = hparams
        .json("rope_scaling")
        .filter(|rope| rope.is_object())
        .or_else(|| hparams.json("rope_parameters"));
    // Models with windowed blocks state one set of parameters for each kind of block.
    let rope = rope.map(|rope| rope.get("full_attention").unwrap_or(rope));
    let rope_type = rope
        .and_then(|r| r.get("rope_type").or_else(|| r.get("type")))
        .and_then(|t| t.as_str());
    if let Some(found) = rope_type.filter(|found| !ROPE_TYPES.contains(found)) {
        return Err(ModelError::RopeType {
            found: found.to_owned(),
        });
    }
    let long =
        |rope: &serde_json::Value| rope.get("long_factor").is_some_and(|list| list.is_array());
    if matches!(rope_type, Some("longrope" | "su")) && !rope.is_some_and(long) {
        return Err(ModelError::MissingKey {
            key: "rope_scaling.long_factor".to_owned(),
        });
    }
    let scaled = |rope: &serde_json::Value| rope.get("factor").is_some() || long(rope);
    if rope_type.is_none() && rope.is_some_and(scaled) {
        return Err(ModelError::MissingKey {
            key: "rope_scaling.rope_type".to_owned(),
        });
    }
    let rope_factors = match rope_type {
        Some("llama3" | "proportional") => head_dim / 2,
        Some("longrope" | "su" | "yarn") => rope
            .and_then(|r| r.get("long_factor")?.as_array().map(|a| a.len() as u64))
            .unwrap_or(0),
        _ => 0,
    };
    Ok(ShapeParams {
        tied,
        attention_bias: flag("attention_bias") || flag("use_bias"),
        mlp_bias: flag("mlp_bias") || flag("use_bias"),
        q_lora: hparams.or_zero(Key::QLora)?,
        kv_lora: hparams.or_zero(Key::KvLora)?,
        nope_dim: nope_dim(hparams)?,
        rope_dim: hparams.or_zero(Key::RopeDim)?,
        mla_value_dim: hparams.or_zero(Key::MlaValueDim)?,
        per_layer_vocab: hparams.or_zero(Key::PerLayerVocab)?,
        laurel_rank: hparams.or_zero(Key::LaurelRank)?,
        conv_kernel: hparams.or_zero(Key::ConvKernel)?,
        state_size: hparams.or_zero(Key::StateSize)?,
        ssm_groups: hparams.or_zero(Key::SsmGroups)?,
        ssm_heads: hparams.or_zero(Key::SsmHeads)?,
        ssm_inner: families::ssm_inner(hparams)?,
        conv_bias: ["mamba_conv_bias", "use_conv_bias"]
            .iter()
            .all(|name| hparams.flag(name) != Some(false)),
        ssm_norm: flag("mamba_rms_norm"),
        shortconv_cache: hparams.or_zero(Key::ShortconvCache)?,
        expert_latent: hparams.or_zero(Key::ExpertLatent)?,
        rope_factors,
        key_is_value: flag("attention_k_eq_v"),
    })
}

/// Width of the part of a head without positions, which a GGUF states as the rest of a head.
fn nope_dim(hparams: &HParams<'_>) -> Result<u64, ModelError> {
    if hparams.is_hugging_face() {
        return hparams.or_zero(Key::NopeDim);
    }
    let head = match hparams.get(Key::MlaKeyDim)? {
        Some(head) => head,
        None => hparams.or_zero(Key::HeadDim)?,
    };
    Ok(head.saturating_sub(hparams.or_zero(Key::RopeDim)?))
}

/// The table entry called `name`, for `--assume-kv`.
///
/// # Errors
/// [`ModelError::NoSuchArchitecture`] with the known names.
pub fn known_architecture(name: &str) -> Result<&'static str, ModelError> {
    let found = Arch::of_gguf(&name.to_ascii_lowercase()).map(|arch| arch.name);
    found.ok_or_else(|| ModelError::NoSuchArchitecture {
        name: name.to_owned(),
    })
}

/// llama.cpp's name of the known architecture closest to `name`, if any is close. What all class
/// names end in says nothing about closeness.
fn nearest_architecture(name: &str) -> Option<&'static str> {
    let known = Arch::all().flat_map(|a| {
        let names = a.classes.iter().chain(a.model_types).map(|name| stem(name));
        std::iter::once(a.name)
            .chain(names)
            .map(move |n| (n, a.name))
    });
    let known: Vec<(&'static str, &'static str)> = known.collect();
    let names = || known.iter().map(|k| k.0);
    let near = |names: Vec<&'static str>| {
        let near = crate::nearest::nearest(stem(name), names.iter().copied(), 1);
        near.first().copied()
    };
    // Another generation of a family is nearer than another family of the same generation.
    let kin: Vec<&'static str> = names().filter(|n| family(n) == family(name)).collect();
    let nearest = near(kin).or_else(|| near(names().collect()))?;
    known.iter().find(|k| k.0 == nearest).map(|k| k.1)
}

/// The letters that a name begins with, in lower case: `llama` of `llama4_text`.
fn family(name: &str) -> String {
    let letters = stem(name).chars().take_while(char::is_ascii_alphabetic);
    letters.collect::<String>().to_lowercase()
}

/// Ends of class names that say what a model is used for, not what it is.
const CLASS_ENDS: &[&str] = &[
    "ForCausalLM",
    "ForConditionalGeneration",
    "LMHeadModel",
    "Model",
];

/// Whether a model of this class, model type or GGUF architecture may be a decoder: classes that do something else
/// say so at their end.
fn may_write(name: &str) -> bool {
    let is_class = name.starts_with(|first: char| first.is_ascii_uppercase());
    !is_class || lookup::writes(name)
}

fn stem(class: &str) -> &str {
    let end = CLASS_ENDS.iter().find_map(|end| class.strip_suffix(end));
    end.unwrap_or(class)
}
