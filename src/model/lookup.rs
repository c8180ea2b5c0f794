//! Which architecture a file is of: the entry by the names that files have for it, and what others ask
//! of an entry by GGUF's name. In: names. Out: entries of the table.

use serde_json::Value as Json;

use super::arch::Arch;
use super::conversion::Conversion;
use super::families;
use super::hparams::HParams;
use super::loader::Loader;

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
        let hparams = HParams::of_config(config);
        let variant = families::VARIANTS
            .iter()
            .find(|v| v.of == self.name && (v.when)(&hparams));
        variant.map_or(self, |v| v.arch)
    }

    /// Every known architecture.
    pub(super) fn all() -> impl Iterator<Item = &'static Arch> {
        families::ARCHITECTURES.iter().copied()
    }
}

/// The conversion of the architecture that GGUF calls `name`, if it has one.
pub fn conversion_of(name: &str) -> Option<&'static Conversion> {
    Arch::of_gguf(name)?.conversion.as_ref()
}

/// GGUF's names of all architectures that are converted.
pub fn converted() -> impl Iterator<Item = &'static str> {
    Arch::all()
        .filter(|arch| arch.conversion.is_some())
        .map(|arch| arch.name)
}

/// How llama.cpp loads the architecture that GGUF calls `name`.
pub(super) fn loader(name: &str) -> Option<&'static Loader> {
    Arch::of_gguf(name).map(|arch| &arch.loader)
}

/// The quirks of the architecture that GGUF calls `name`.
#[cfg(test)]
pub(crate) fn quirks_of(name: &str) -> super::Quirks {
    Arch::of_gguf(name).map_or(super::Quirks::NONE, |arch| arch.quirks)
}
