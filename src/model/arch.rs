//! The form of an architecture's entry: how its blocks follow from the hyperparameters, which tensors it has, how it is
//! converted and loaded. The entries are in the files of `families/`.

use serde_json::Value as Json;

use super::ModelError;
use super::conversion::Conversion;
use super::forward_spec::ArchTraits;
use super::hparams::HParams;
use super::loader::Loader;
use super::quirks::Quirks;
use super::role::TensorRole;
use super::spec::{Dims, Layer};
use crate::checkpoint::Attends;

/// One architecture: everything that the program knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arch {
    /// llama.cpp's name, which GGUF's `general.architecture` carries.
    pub name: &'static str,
    /// Names in `config.json`'s `architectures`.
    pub classes: &'static [&'static str],
    /// Names in `config.json`'s `model_type`.
    pub model_types: &'static [&'static str],
    /// Whether llama.cpp has it, so that its name may stand in a GGUF.
    pub in_llama_cpp: bool,
    /// Properties of its forward pass that do not follow from blocks and tensors; `None` if the decoder does not run it.
    pub forward: Option<ArchTraits>,
    /// The rule for its blocks.
    pub layers: fn(&HParams<'_>) -> Result<Vec<Layer>, ModelError>,
    /// The tokens of the longest text that it was made for; 0 if that is not stated.
    pub context: fn(&HParams<'_>) -> Result<u64, ModelError>,
    /// Rows at the beginning of its table of positions that no token uses.
    pub skipped_positions: fn(&HParams<'_>) -> Result<u64, ModelError>,
    /// Its tensors, in groups that architectures share.
    pub tensors: &'static [&'static [TensorRow]],
    /// How a Hugging Face checkpoint is converted to a GGUF; `None` if that is not supported.
    pub conversion: Option<Conversion>,
    /// Why no GGUF is made of it, where that lies in llama.cpp.
    pub refusal: Option<&'static str>,
    /// What serves it, where that is not all that read its files.
    pub served: Option<Served>,
    /// The tokens that a token attends to in models of it that turn texts into numbers; `None` if llama.cpp does not run
    /// such models of it.
    pub retrieval: Option<Attends>,
    /// Its special cases in runtimes.
    pub quirks: Quirks,
    /// What llama.cpp's loader reads and needs.
    pub loader: Loader,
}

impl Arch {
    /// Its special cases in runtimes, with what its forward pass says of the graph.
    pub(super) fn all_quirks(&self) -> Quirks {
        match &self.forward {
            Some(traits) => self.quirks.rotated(traits.rotated),
            None => self.quirks,
        }
    }
}

/// What serves an architecture.
#[derive(Clone, Copy, Debug)]
pub(super) enum Served {
    /// One runtime alone.
    By(ServedBy),
    /// The runtimes that load a GGUF of it: none reads its checkpoint.
    AsGguf,
    /// No runtime here: why not those that read its files, and what runs it.
    Elsewhere(&'static str),
}

/// The one runtime that serves an architecture.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServedBy {
    /// Its id.
    pub runtime: &'static str,
    /// Its last version that does, where newer ones do not.
    pub until: Option<&'static str>,
    /// Tokens of its cache that an image takes beside the text, by the configuration.
    pub image_tokens: fn(&Json) -> Option<u64>,
}

/// An architecture that shares its Hugging Face class with another.
pub(super) struct Variant {
    /// The name of the architecture that lists the class.
    pub of: &'static str,
    /// Whether a `config.json` is of this variant.
    pub when: fn(&HParams<'_>) -> bool,
    /// The entry of the variant; or, where the table has none, what the class is known as.
    pub arch: Result<&'static Arch, &'static str>,
}

/// One tensor of an architecture: its role, its Hugging Face names, and its shape.
#[derive(Debug)]
pub(super) struct TensorRow {
    /// Its role.
    pub role: TensorRole,
    /// The suffix of its GGUF name: `weight`, `bias`, or empty for none.
    pub part: &'static str,
    /// Names in a Hugging Face checkpoint without the model's prefix; `{}` stands for the block's
    /// number and then for an expert's. The first is the usual one.
    pub names: &'static [&'static str],
    /// The shape in a GGUF, outermost dimension first, which is the expert in a stack of experts.
    pub shape: fn(&RowSite<'_>) -> Vec<u64>,
    /// Whether a model has the tensor, by its configuration.
    pub when: fn(&RowSite<'_>) -> bool,
    /// How it is made from what is stored.
    pub parts: RowParts,
}

/// How the tensor of a row is made from what is stored under its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowParts {
    /// From one of them, or from one for each expert; rows of the same name share what is stored.
    Usual,
    /// From all of them, in their order.
    Stacked,
    /// From one of them, all of which another row has too.
    Copied,
    /// From as many as its first dimension says, whatever their numbers are.
    Scattered,
}

/// The place where a row is instantiated: the model, and one of its blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowSite<'a> {
    /// Whole-model dimensions.
    pub dims: &'a Dims,
    /// Further dimensions that only tensor shapes need.
    pub params: &'a ShapeParams,
    /// The block; the first one for tensors outside of blocks.
    pub layer: &'a Layer,
    /// Its number.
    pub block: u64,
}

/// Dimensions that only tensor shapes need; 0 if the architecture does not have them.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub(super) struct ShapeParams {
    pub tied: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub q_lora: u64,
    pub kv_lora: u64,
    pub nope_dim: u64,
    pub rope_dim: u64,
    pub mla_value_dim: u64,
    pub per_layer_vocab: u64,
    pub laurel_rank: u64,
    pub conv_kernel: u64,
    pub state_size: u64,
    pub ssm_groups: u64,
    pub ssm_heads: u64,
    pub ssm_inner: u64,
    pub time_step_rank: u64,
    pub conv_bias: bool,
    pub ssm_norm: bool,
    pub shortconv_cache: u64,
    pub expert_latent: u64,
    pub rope_factors: u64,
    pub key_is_value: bool,
    pub token_types: u64,
    pub skipped_positions: u64,
    pub labels: u64,
    pub ranks: Ranks,
    pub sharing: Vec<Sharing>,
}

/// A transformer that several blocks use in turn, each with adapters of its own, and one of them stores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sharing {
    /// The block that stores it.
    pub block: u64,
    /// The number of blocks that use it.
    pub users: u64,
    /// The rank of the adapters.
    pub rank: u64,
    /// Whether queries, keys and values have adapters too.
    pub adapts_attention: bool,
}

/// Ranks of the pairs of matrices that decays, rates, values and gates are computed with; 0 without such pairs.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub(super) struct Ranks {
    pub decay: u64,
    pub rate: u64,
    pub value: u64,
    pub gate: u64,
}

impl TensorRow {
    /// A weight with these Hugging Face names.
    pub(super) const fn weight(
        role: TensorRole,
        names: &'static [&'static str],
        shape: fn(&RowSite<'_>) -> Vec<u64>,
    ) -> TensorRow {
        TensorRow {
            role,
            part: "weight",
            names,
            shape,
            when: always,
            parts: RowParts::Usual,
        }
    }

    /// A bias with these Hugging Face names.
    pub(super) const fn bias(
        role: TensorRole,
        names: &'static [&'static str],
        shape: fn(&RowSite<'_>) -> Vec<u64>,
    ) -> TensorRow {
        TensorRow {
            role,
            part: "bias",
            names,
            shape,
            when: always,
            parts: RowParts::Usual,
        }
    }

    /// The same row, made from all that is stored under its names, in their order.
    pub(super) const fn stacked(self) -> TensorRow {
        TensorRow {
            parts: RowParts::Stacked,
            ..self
        }
    }

    /// The same row, made from all that is stored under its name with any number.
    pub(super) const fn scattered(self) -> TensorRow {
        TensorRow {
            parts: RowParts::Scattered,
            ..self
        }
    }

    /// The same row as a copy of what another row has.
    pub(super) const fn copied(self) -> TensorRow {
        TensorRow {
            parts: RowParts::Copied,
            ..self
        }
    }

    /// The same row, present only where `when` holds.
    pub(super) const fn when(self, when: fn(&RowSite<'_>) -> bool) -> TensorRow {
        TensorRow { when, ..self }
    }

    /// The same row under other Hugging Face names.
    pub(super) const fn named(self, names: &'static [&'static str]) -> TensorRow {
        TensorRow { names, ..self }
    }

    /// The same row under a GGUF name that ends in `part`.
    pub(super) const fn part(self, part: &'static str) -> TensorRow {
        TensorRow { part, ..self }
    }
}

fn always(_: &RowSite<'_>) -> bool {
    true
}

impl Arch {
    /// Every tensor row.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'static TensorRow> + use<> {
        self.tensors.iter().flat_map(|group| group.iter())
    }
}
