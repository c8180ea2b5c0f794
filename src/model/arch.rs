//! What an architecture is, as data: how its blocks follow from the hyperparameters and which
//! tensors it has. One table entry per architecture, in the files of `families/`.

use serde_json::Value as Json;

use super::facts::Facts;
use super::pass::Recipe;
use super::role::TensorRole;
use super::spec::{Dims, Layer};
use super::{ModelError, families};

/// One architecture.
#[derive(Debug)]
pub(super) struct Arch {
    /// llama.cpp's name, which GGUF's `general.architecture` carries.
    pub name: &'static str,
    /// Names in `config.json`'s `architectures`.
    pub classes: &'static [&'static str],
    /// Names in `config.json`'s `model_type`.
    pub model_types: &'static [&'static str],
    /// What its forward pass does beyond what blocks and tensors say; `None` where the decoder does
    /// not run it.
    pub pass: Option<Recipe>,
    /// The blocks.
    pub layers: fn(&Facts<'_>) -> Result<Vec<Layer>, ModelError>,
    /// The tensors, in groups that architectures share.
    pub tensors: &'static [&'static [Row]],
}

/// An architecture that shares its Hugging Face class with another.
pub(super) struct Variant {
    /// The name of the one that lists the class.
    pub of: &'static str,
    /// What tells them apart in `config.json`.
    pub when: fn(&Json) -> bool,
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
    pub shape: fn(&Place<'_>) -> Vec<u64>,
    /// Whether the model has it, for a checkpoint without weights.
    pub when: fn(&Place<'_>) -> bool,
}

/// Where a row is being instantiated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Whole-model dimensions.
    pub dims: &'a Dims,
    /// Further dimensions that only tensor shapes need.
    pub extra: &'a Extra,
    /// The block; the first one for tensors outside of blocks.
    pub layer: &'a Layer,
}

/// Dimensions that only tensor shapes need, zero where the architecture lacks them.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub(super) struct Extra {
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

/// What a `config.json` says it describes.
#[derive(Debug)]
pub(super) struct StatedNames<'a> {
    /// `architectures`.
    pub classes: Vec<&'a str>,
    /// `model_type` of the text part of a multimodal model.
    pub text_type: Option<&'a str>,
    /// `model_type` of the whole.
    pub model_type: Option<&'a str>,
}

impl<'a> StatedNames<'a> {
    /// The name to call the model by: the type of its text part, else the class, else the type.
    pub(super) fn first(&self) -> Option<&'a str> {
        let class = self.classes.first().copied();
        self.text_type.or(class).or(self.model_type)
    }
}

impl Row {
    /// A weight whose Hugging Face name is `name` plus `.weight`.
    pub(super) const fn weight(
        role: TensorRole,
        names: &'static [&'static str],
        shape: fn(&Place<'_>) -> Vec<u64>,
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
        shape: fn(&Place<'_>) -> Vec<u64>,
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
    pub(super) const fn when(self, when: fn(&Place<'_>) -> bool) -> Row {
        Row { when, ..self }
    }

    /// The same row under a GGUF name that ends in `part`.
    pub(super) const fn part(self, part: &'static str) -> Row {
        Row { part, ..self }
    }
}

fn always(_: &Place<'_>) -> bool {
    true
}

/// Ends of the names of classes that write text.
const WRITERS: &[&str] = &["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];

/// Whether `class` is what Transformers would call the class of one of `arch`'s model types that
/// writes text: `Qwen2ForCausalLM` of `qwen2`.
fn is_usual(class: &str, arch: &Arch) -> bool {
    let bare = |name: &str| name.replace(['_', '-', '.'], "").to_lowercase();
    let stem = WRITERS.iter().find_map(|end| class.strip_suffix(end));
    stem.is_some_and(|stem| arch.model_types.iter().any(|name| bare(name) == bare(stem)))
}

/// Whether `class` writes text, by its name.
pub(super) fn writes(class: &str) -> bool {
    let ends = WRITERS.iter().chain(&["ChatModel"]);
    ends.into_iter().any(|end| class.ends_with(end))
}

/// Whether `class` wraps a text model that writes, with the name of any wrapper.
fn wraps(class: &str, _: &Arch) -> bool {
    writes(class)
}

impl Arch {
    /// The architecture that GGUF calls `name`.
    pub(super) fn of_gguf(name: &str) -> Option<&'static Arch> {
        Arch::all().find(|arch| arch.name == name)
    }

    /// The architecture of a `config.json`, by class and then by model type. `text_type` is the
    /// model type of a multimodal model's text part: the class is the wrapper's, which can hold
    /// text models of several kinds, so it counts only if its entry knows that type.
    ///
    /// A class that no entry lists computes something of its own, whatever its model type says,
    /// unless it is named as the model type's class for writing text is.
    pub(super) fn of_hugging_face(names: &StatedNames<'_>) -> Option<&'static Arch> {
        let known = |class: &&str| Arch::all().find(|a| a.classes.contains(class));
        let by_class = names.classes.iter().find_map(known);
        let by_type = |name: &str| Arch::all().find(|a| a.model_types.contains(&name));
        let writes = |usual: fn(&str, &Arch) -> bool, arch: &'static Arch| {
            let classes = &names.classes;
            let usual = classes.is_empty() || classes.iter().any(|class| usual(class, arch));
            usual.then_some(arch)
        };
        match names.text_type {
            Some(text) => by_class
                .filter(|a| a.model_types.contains(&text))
                .or_else(|| by_type(text).and_then(|a| writes(wraps, a))),
            None => by_class.or_else(|| {
                let arch = names.model_type.and_then(by_type)?;
                writes(is_usual, arch)
            }),
        }
    }

    /// The architecture that a configuration of this one's class is run as.
    pub(super) fn variant(&'static self, config: &Json) -> &'static Arch {
        let variant = families::VARIANTS
            .iter()
            .find(|v| v.of == self.name && (v.when)(config));
        variant.map_or(self, |v| v.arch)
    }

    /// Every known architecture.
    pub(super) fn all() -> impl Iterator<Item = &'static Arch> {
        families::ARCHITECTURES.iter().copied()
    }

    /// Every tensor row.
    pub(super) fn rows(&self) -> impl Iterator<Item = &'static Row> + use<> {
        self.tensors.iter().flat_map(|group| group.iter())
    }
}
