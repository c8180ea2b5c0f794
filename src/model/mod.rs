//! From a located checkpoint to one description of the model.
//!
//! In: a [`Checkpoint`]. Out: a [`ModelSpec`], which is of the same form for a Hugging Face directory and a GGUF. Must
//! not: read weights or know a device.

pub mod accept;
pub mod adapter;
mod arch;
mod arithmetic;
pub mod conversion;
mod defaults;
mod dims;
mod families;
mod forward_spec;
mod gguf;
mod gguf_rows;
mod hparams;
mod hugging_face;
mod kept;
mod left_out;
mod loader;
mod lookup;
mod members;
mod names;
mod packed;
pub mod packing;
pub mod projector;
mod quirks;
mod resolve_tensors;
mod role;
mod rows;
mod sorted;
mod spec;
mod stated;
mod tensor;
mod zero_biases;

use crate::checkpoint::{Checkpoint, OtherKind, RawConfig, Retrieval};
use crate::dtype::Dtype;
use crate::units::Bytes;

pub use families::tokenizers;
pub use forward_spec::{
    Activation, ForwardSpec, NormKind, Rope, RopeStyle, RotatedBlocks, Routing, Scores, Sparse,
    Temperature, Xielu, Yarn,
};
pub(crate) use hparams::{HParams, TEXT_PARTS, encoder_part};
pub use hparams::{Key, Number};
pub(crate) use kept::lost;
pub use left_out::PREDICTION_HEAD;
#[cfg(test)]
pub(crate) use lookup::quirks_of;
pub use lookup::{
    OnlyRuntime, ServedAlone, conversion_of, converted, refusal_of, served_alone, unknown_pass,
};
pub use names::{
    KnownArchitecture, architecture_names, known_architecture, known_architectures,
    refused_architectures,
};
pub use packed::{FoldedWeight, Member};
pub use projector::Projector;
pub use quirks::{EightyBlocks, GraphOrder, Quirks, TypeQuirks};
pub use role::{Category, DecodeAccess, QuantPolicy, ROLES, RoleInfo, TensorRole};
pub use spec::*;
pub use tensor::Tensor;

use dims::ROPE_TYPES;
use names::{known_names, may_write};

/// Why a checkpoint cannot be described as a model.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ModelError {
    /// The architecture has no entry in the table.
    #[error(
        "unknown architecture `{name}`{}: {}its KV cache is unknown; \
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
        /// The name in the checkpoint.
        name: String,
        /// The known name closest to it.
        nearest: Option<&'static str>,
        /// Bytes of its tensors.
        weights: Bytes,
    },
    /// The class is that of several architectures, and the table does not have this one.
    #[error(
        "`{name}` is known {known}; config.json says another: `--assume-kv {PLAIN}` plans it as a plain transformer at your own risk"
    )]
    UnknownVariant {
        /// The class.
        name: String,
        /// Which of it are known.
        known: &'static str,
    },
    /// No entry of the table has the name that `--assume-kv` gives.
    #[error("there is no architecture `{name}`; known: {}", known_names())]
    NoSuchArchitecture {
        /// The name.
        name: String,
    },
    /// Neither `architectures` nor `model_type` nor `general.architecture` is stated.
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
    /// A value that is not a finite number, or is negative, or is zero where it must be positive.
    #[error("`{key}` is not a usable number; use the configuration that belongs to these weights")]
    BadNumber {
        /// Its name.
        key: String,
    },
    /// A value that is neither true nor false where one of them is needed.
    #[error("`{key}` in the configuration is neither true nor false, without quotes")]
    BadFlag {
        /// Its name.
        key: String,
    },
    /// Rotary parameters that are no object.
    #[error(
        "`{key}` in the configuration is not an object of names and values; use the configuration that belongs to these weights"
    )]
    NoObject {
        /// Its name.
        key: String,
    },
    /// Values of the configuration that contradict each other.
    #[error(
        "{what} in the configuration; a value is wrong, or one is missing and its default does not match the others"
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
        /// The stored shape.
        found: Vec<u64>,
        /// The shape by the configuration.
        expected: Vec<u64>,
    },
    /// Sizes that overflow 64 bits.
    #[error("tensor `{tensor}` of shape {shape:?} is impossibly large")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A block of an unknown kind.
    #[error(
        "block {block} is of kind `{kind}` in config.json, which is not among `mamba`, `attention`, `mlp` and `moe`; \
         a newer version may know it"
    )]
    UnknownBlock {
        /// Its number.
        block: usize,
        /// The kind as stated.
        kind: String,
    },
    /// A value of the configuration that no runtime computes the architecture with.
    #[error(
        "`{key}` is {found} in config.json, and no supported runtime computes a {architecture} so: a plan or a file \
         would be another model's"
    )]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A stated activation that the architecture does not have.
    #[error(
        "`hidden_act` is `{found}`, but every supported runtime computes {expected} in the feed-forward of {architecture}; use the config.json that belongs to these weights"
    )]
    Activation {
        /// The activation in config.json.
        found: String,
        /// llama.cpp's name of the architecture.
        architecture: &'static str,
        /// The architecture's activation.
        expected: &'static str,
    },
    /// A model that turns texts into numbers, of an architecture that llama.cpp does not run such models of.
    #[error("{kind}")]
    Retrieval {
        /// What it is.
        kind: OtherKind,
    },
    /// An unknown type of rotary positions.
    #[error(
        "config.json has rotary positions of type `{found}`, which is not one of {}; a newer version may know it",
        ROPE_TYPES.join(", ")
    )]
    RopeType {
        /// The type in config.json.
        found: String,
    },
    /// Rotary parameters that lack one of their values.
    #[error(
        "config.json scales rotary positions without `rope_scaling.{key}`; use the config.json that belongs to these weights"
    )]
    RopeKey {
        /// The key that is missing.
        key: String,
    },
    /// A list of the blocks' kinds that is not one of this model.
    #[error("config.json: {what}; use the config.json that belongs to these weights")]
    BlockKinds {
        /// What is wrong with it.
        what: String,
    },
    /// A weight of integers without a scale.
    #[error(
        "tensor `{tensor}` is stored as {} without a scale, so its numbers are not weights; use the checkpoint \
         that has the scales, or the one that it was quantized from",
        found.name()
    )]
    Unscaled {
        /// The name in the checkpoint.
        tensor: String,
        /// Its type.
        found: Dtype,
    },
    /// A weight of floating-point numbers with a scale for codes beside it.
    #[error(
        "tensor `{tensor}` is stored as {} with a scale beside it, which only quantized tensors have: it is unclear whether to apply it; use the checkpoint that the scale belongs to, or one without it",
        found.name()
    )]
    ScaledWhole {
        /// The name in the checkpoint.
        tensor: String,
        /// Its type.
        found: Dtype,
    },
    /// Weights that are not quantized, though the configuration says so.
    #[error(
        "config.json says that the weights are quantized (`{method}`), but none of them is: remove `quantization_config` if they are the original's, or use the weights that it belongs to"
    )]
    NotQuantized {
        /// The method in config.json.
        method: String,
    },
    /// A bias is stored that the configuration denies.
    #[error(
        "`{tensor}` is stored, but config.json has `{key}` false: Transformers would leave it out, llama.cpp would add it; set `{key}` to true if the model was trained with it, or else remove it"
    )]
    DeniedBias {
        /// The bias.
        tensor: String,
        /// The key of the configuration.
        key: &'static str,
    },
    /// A tensor that the model needs is not stored.
    #[error(
        "tensor `{tensor}` is missing, but the configuration requires it; the model was saved without it, or \
         config.json and weights do not belong together"
    )]
    MissingTensor {
        /// The Hugging Face name.
        tensor: String,
    },
    /// A numbered tensor, such as an expert, has a number beyond the configured count.
    #[error(
        "tensor `{tensor}` is stored, but the configuration has {count} of its kind, counted from 0; config.json and \
         weights do not belong together"
    )]
    NumberBeyond {
        /// The name in the checkpoint.
        tensor: String,
        /// The configured count.
        count: u64,
    },
    /// Two stored tensors stand for the same tensor of the model.
    #[error(
        "tensors `{one}` and `{other}` are both stored, but the model has only one of them; keep the right one"
    )]
    StoredTwice {
        /// A name in the checkpoint.
        one: String,
        /// Another.
        other: String,
    },
    /// More blocks are stored than the configuration states.
    #[error(
        "config.json says {stated} blocks (`num_hidden_layers`), but {stored} are stored, `{tensor}` among them; \
         use the config.json that belongs to these weights"
    )]
    BlocksBeyond {
        /// Blocks by the configuration.
        stated: usize,
        /// Blocks by the highest number stored.
        stored: usize,
        /// The first tensor of those beyond.
        tensor: String,
    },
    /// Stored tensors that neither belong to the architecture nor are known to be left out.
    #[error(
        "`{}`{} stored, but {architecture} has no place for {}: a plan or a file without would be another model's; use the config.json that belongs to these weights (`orinplan inspect` lists them)",
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
    /// A tensor of a GGUF has another shape than its architecture.
    #[error(
        "tensor `{tensor}` has shape {found:?} where the metadata implies {expected:?}; metadata and weights do not belong together; convert the model again"
    )]
    GgufShape {
        /// Its name.
        tensor: String,
        /// The stored shape.
        found: Vec<u64>,
        /// The shape by the metadata.
        expected: Vec<u64>,
    },
    /// A tensor that the architecture needs is not in the GGUF.
    #[error(
        "tensor `{tensor}` is missing, but {architecture} needs it; convert or download the model again"
    )]
    GgufMissing {
        /// Its name.
        tensor: String,
        /// The architecture.
        architecture: String,
    },
    /// Tensors of a GGUF that its architecture does not have.
    #[error(
        "tensor `{tensor}`{} none of {architecture}'s with {blocks} blocks, and llama.cpp refuses a file with \
         tensors that it does not load",
        match count { 1 => " is".to_owned(), n => format!(" and {} more are", n - 1) }
    )]
    GgufStranger {
        /// The name of the first.
        tensor: String,
        /// The number of such tensors.
        count: usize,
        /// The architecture.
        architecture: String,
        /// The number of blocks by the metadata.
        blocks: usize,
    },
}

/// GGUF's name of the architecture of a plain transformer.
pub const PLAIN: &str = families::PLAIN;

/// How to describe a checkpoint whose architecture has no entry in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unknown {
    /// With [`ModelError::UnknownArchitecture`], which names the nearest known architecture.
    #[default]
    Refuse,
    /// With its weights only: [`ModelSpec::layers`] is empty and no cache can be planned.
    WeightsOnly,
    /// With every tensor under its own name, even if the architecture is known.
    Listed,
    /// As if it were this architecture (`--assume-kv llama`).
    Assume(&'static str),
}

/// Describes `checkpoint` as a model.
///
/// # Errors
/// [`ModelError`]: an architecture without an entry (unless `unknown` allows it), a configuration that lacks
/// a value that the architecture needs or states an impossible one, or tensors that contradict the configuration.
pub fn read(checkpoint: &Checkpoint, unknown: Unknown) -> Result<ModelSpec, ModelError> {
    if let Some(Retrieval { kind, attends, .. }) = &checkpoint.retrieval
        && unknown != Unknown::Listed
        && !lookup::retrieves(checkpoint, *attends)
    {
        let kind = kind.clone();
        return Err(ModelError::Retrieval { kind });
    }
    let model = match &checkpoint.config {
        RawConfig::HuggingFace(config) => hugging_face::read(checkpoint, config, unknown)?,
        RawConfig::Gguf(metadata) => gguf::read(checkpoint, metadata, unknown)?,
    };
    let retrieval = match &checkpoint.retrieval {
        None if model.is_encoder() => Some(Retrieval::encoder(&model.architecture)),
        stated => stated.clone(),
    };
    let model = ModelSpec {
        served_context: checkpoint.served_context,
        ..model
    };
    Ok(match retrieval {
        Some(retrieval) if unknown != Unknown::Listed => ModelSpec {
            retrieval: Some(retrieval),
            ..model
        },
        _ => model,
    })
}
