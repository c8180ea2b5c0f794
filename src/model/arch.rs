//! What an architecture is, as data: how its blocks follow from the hyperparameters and which
//! tensors it has. One table entry per architecture, in the files of `families/`.

use super::ModelError;
use super::conversion::Conversion;
use super::forward_spec::ArchTraits;
use super::hparams::HParams;
use super::loader::Loader;
use super::quirks::Quirks;
use super::role::TensorRole;
use super::spec::{Dims, Layer};

/// One architecture: everything that the program knows of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arch {
    /// llama.cpp's name, which GGUF's `general.architecture` carries.
    pub name: &'static str,
    /// Names in `config.json`'s `architectures`.
    pub classes: &'static [&'static str],
    /// Names in `config.json`'s `model_type`.
    pub model_types: &'static [&'static str],
    /// What its forward pass does beyond what blocks and tensors say; `None` where the decoder does
    /// not run it.
    pub forward: Option<ArchTraits>,
    /// The blocks.
    pub layers: fn(&HParams<'_>) -> Result<Vec<Layer>, ModelError>,
    /// The tensors, in groups that architectures share.
    pub tensors: &'static [&'static [Row]],
    /// How a Hugging Face checkpoint becomes a GGUF; `None` where that is not supported.
    pub conversion: Option<Conversion>,
    /// What plans and type rules need to know beyond blocks and tensors.
    pub quirks: Quirks,
    /// What llama.cpp asks of a GGUF.
    pub loader: Loader,
}

/// An architecture that shares its Hugging Face class with another.
pub(super) struct Variant {
    /// The name of the one that lists the class.
    pub of: &'static str,
    /// What tells them apart in `config.json`.
    pub when: fn(&HParams<'_>) -> bool,
    /// What it is then.
    pub arch: &'static Arch,
}

/// One tensor of an architecture: its role, its Hugging Face names, and its shape.
#[derive(Debug)]
pub(super) struct Row {
    /// What it is for.
    pub role: TensorRole,
    /// `weight`, `bias`, or empty for tensors whose GGUF name has no suffix.
    pub part: &'static str,
    /// Names in a Hugging Face checkpoint without the model's prefix; `{}` stands for the block's
    /// number and then for an expert's. The first is the usual one.
    pub names: &'static [&'static str],
    /// The GGUF shape, outermost first; experts first of all.
    pub shape: fn(&RowSite<'_>) -> Vec<u64>,
    /// Whether the model has it, for a checkpoint without weights.
    pub when: fn(&RowSite<'_>) -> bool,
}

/// Where a row is being instantiated.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowSite<'a> {
    /// Whole-model dimensions.
    pub dims: &'a Dims,
    /// Further dimensions that only tensor shapes need.
    pub params: &'a ShapeParams,
    /// The block; the first one for tensors outside of blocks.
    pub layer: &'a Layer,
}

/// Dimensions that only tensor shapes need, zero where the architecture lacks them.
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
    pub conv_bias: bool,
    pub ssm_norm: bool,
    pub shortconv_cache: u64,
    pub expert_latent: u64,
    pub rope_factors: u64,
    pub key_is_value: bool,
}

impl Row {
    /// A weight whose Hugging Face name is `name` plus `.weight`.
    pub(super) const fn weight(
        role: TensorRole,
        names: &'static [&'static str],
        shape: fn(&RowSite<'_>) -> Vec<u64>,
    ) -> Row {
        Row {
            role,
            part: "weight",
            names,
            shape,
            when: always,
        }
    }

    /// A bias.
    pub(super) const fn bias(
        role: TensorRole,
        names: &'static [&'static str],
        shape: fn(&RowSite<'_>) -> Vec<u64>,
    ) -> Row {
        Row {
            role,
            part: "bias",
            names,
            shape,
            when: always,
        }
    }

    /// The same row, present only where `when` holds.
    pub(super) const fn when(self, when: fn(&RowSite<'_>) -> bool) -> Row {
        Row { when, ..self }
    }

    /// The same row under a GGUF name that ends in `part`.
    pub(super) const fn part(self, part: &'static str) -> Row {
        Row { part, ..self }
    }
}

fn always(_: &RowSite<'_>) -> bool {
    true
}

impl Arch {
    /// Every tensor row.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.tensors.iter().flat_map(|group| group.iter())
    }
}
