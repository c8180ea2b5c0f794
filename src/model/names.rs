//! The names of architectures for people: those that are known, and the one nearest to a name that is not.

use super::arch::{Arch, Served};
use super::families::VARIANTS;
use super::{ModelError, lookup};
use crate::checkpoint::Checkpoint;
use crate::nearest::nearest;

/// Every name that files have for a known architecture: GGUF's, and the classes and model types of
/// Transformers.
pub fn architecture_names() -> impl Iterator<Item = &'static str> {
    Arch::all().flat_map(|arch| {
        let published = arch.classes.iter().chain(arch.model_types).copied();
        std::iter::once(arch.name).chain(published)
    })
}

/// What the program does with models of an architecture.
#[derive(Clone, Copy, Debug)]
pub struct KnownArchitecture {
    /// llama.cpp's name.
    pub name: &'static str,
    /// Classes of Hugging Face.
    pub classes: &'static [&'static str],
    /// Names in `config.json`'s `model_type`.
    pub model_types: &'static [&'static str],
    /// Whether llama.cpp has it.
    pub in_llama_cpp: bool,
    /// Whether it is planned for some runtime.
    pub plans: bool,
    /// Whether a checkpoint is converted to a GGUF.
    pub converts: bool,
    /// Whether the decoder runs it.
    pub decodes: bool,
}

/// Every entry of the table, in its order.
pub fn known_architectures() -> impl Iterator<Item = KnownArchitecture> {
    Arch::all().map(|arch| KnownArchitecture {
        name: arch.name,
        classes: arch.classes,
        model_types: arch.model_types,
        in_llama_cpp: arch.in_llama_cpp,
        plans: !matches!(arch.served, Some(Served::Elsewhere(_))),
        converts: arch.conversion.is_some(),
        decodes: arch.forward.is_some(),
    })
}

/// The entries of which no GGUF is made because of llama.cpp, those of variants included: classes of Hugging Face, and why.
pub fn refused_architectures() -> impl Iterator<Item = (&'static [&'static str], &'static str)> {
    let variants = VARIANTS.iter().filter_map(|variant| variant.arch.ok());
    let entries = Arch::all().chain(variants);
    entries.filter_map(|arch| Some((arch.classes, arch.refusal?)))
}

/// llama.cpp's names of the known architectures, for a message. Each appears once: llama.cpp runs several entries
/// of the table under one name.
pub(super) fn known_names() -> String {
    let known = Arch::all().filter(|arch| arch.in_llama_cpp);
    let mut names: Vec<&str> = known.map(|arch| arch.name).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// The error for a checkpoint whose configuration states the architecture `name`, which the table does not have.
pub(super) fn unknown_architecture(checkpoint: &Checkpoint, name: &str) -> ModelError {
    ModelError::UnknownArchitecture {
        name: name.to_owned(),
        nearest: nearest_architecture(name),
        weights: checkpoint.tensors.iter().map(|tensor| tensor.bytes).sum(),
    }
}

/// llama.cpp's name of the architecture called `name` in any case, for `--assume-kv`.
///
/// # Errors
/// [`ModelError::NoSuchArchitecture`] with the known names.
pub fn known_architecture(name: &str) -> Result<&'static str, ModelError> {
    let found = Arch::of_gguf(&name.to_ascii_lowercase()).map(|arch| arch.name);
    found.ok_or_else(|| ModelError::NoSuchArchitecture {
        name: name.to_owned(),
    })
}

/// llama.cpp's name of the known architecture closest to `name`, if any is close. The common ends of class names
/// (`ForCausalLM`) are not compared.
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
        nearest(stem(name), names.iter().copied(), 1)
            .first()
            .copied()
    };
    // `llama4` should lead to `llama` and not to `gemma4`: names of the same family are compared first.
    let kin: Vec<&'static str> = names().filter(|n| family(n) == family(name)).collect();
    let nearest = near(kin).or_else(|| near(names().collect()))?;
    let nearest = known.iter().find(|k| k.0 == nearest).map(|k| k.1);
    nearest.filter(|nearest| *nearest != name)
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

/// Whether a model of this class, model type or GGUF architecture may generate text: the name of a class that does
/// something else ends in what it does.
pub(super) fn may_write(name: &str) -> bool {
    let is_class = name.starts_with(|first: char| first.is_ascii_uppercase());
    !is_class || lookup::writes(name)
}

/// The name of a class without what the model is used for.
fn stem(class: &str) -> &str {
    let end = CLASS_ENDS.iter().find_map(|end| class.strip_suffix(end));
    end.unwrap_or(class)
}
