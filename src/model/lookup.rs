//! Finds the architecture of a file by the names in its configuration, and properties of an architecture by GGUF's
//! name. In: names. Out: entries of the table.

use serde_json::Value as Json;

use super::arch::{Arch, Served};
use super::conversion::Conversion;
use super::families;
use super::hparams::{HParams, text_config};
use super::loader::Loader;
use super::spec::ModelSpec;
use crate::checkpoint::{Attends, Checkpoint, RawConfig};

/// The names of the architecture in a `config.json`.
#[derive(Debug)]
pub(super) struct StatedNames<'a> {
    /// `architectures`.
    pub classes: Vec<&'a str>,
    /// `architectures` of the text part of a multimodal model.
    pub text_classes: Vec<&'a str>,
    /// `model_type` of the text part of a multimodal model.
    pub text_type: Option<&'a str>,
    /// `model_type` of the whole.
    pub model_type: Option<&'a str>,
}

impl<'a> StatedNames<'a> {
    /// Those in `config`.
    pub(super) fn of(config: &'a Json) -> StatedNames<'a> {
        let classes = |part: &'a Json| -> Vec<&'a str> {
            let stated = part.get("architectures").and_then(Json::as_array);
            let stated = stated.into_iter().flatten();
            stated.filter_map(Json::as_str).collect()
        };
        let own_type = |part: &'a Json| part.get("model_type").and_then(Json::as_str);
        let text = text_config(config);
        let text = Some(text).filter(|text| !std::ptr::eq(*text, config));
        StatedNames {
            classes: classes(config),
            text_classes: text.map(classes).unwrap_or_default(),
            text_type: text.and_then(own_type),
            model_type: own_type(config),
        }
    }

    /// The name to use in messages about an architecture that is not known: the type of the text part, unless it is known
    /// and what surrounds it is not; else the class, else the type.
    pub(super) fn first(&self) -> Option<&'a str> {
        let is_known = |name: &&str| Arch::all().any(|arch| arch.model_types.contains(name));
        let text = self.text_type.filter(|name| !is_known(name));
        let class = self.classes.first().copied();
        text.or(class).or(self.text_type).or(self.model_type)
    }
}

/// Ends of the names of classes that write text.
const WRITERS: &[&str] = &["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];

/// Whether `class` is Transformers' usual name for a class that writes text of one of `arch`'s model types:
/// `Qwen2ForCausalLM` for `qwen2`.
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

/// Whether `class` may wrap a text model of any architecture.
fn wraps(class: &str, _: &Arch) -> bool {
    writes(class)
}

impl Arch {
    /// The architecture with GGUF's name `name`.
    pub(super) fn of_gguf(name: &str) -> Option<&'static Arch> {
        Arch::all().find(|arch| arch.name == name && arch.in_llama_cpp)
    }

    /// The architecture of a `config.json`, by class and then by model type. In a multimodal model the class is that of
    /// the wrapper, which may hold text models of several architectures: it decides only if its entry lists the model
    /// type of the text part. Then the text part's own class decides, if it states one that is known, else its type.
    ///
    /// A class that no entry lists may compute something else than its model type, so the model type decides only if
    /// the class has the usual name for it.
    pub(super) fn of_hugging_face(names: &StatedNames<'_>) -> Option<&'static Arch> {
        let known = |class: &&str| Arch::all().find(|a| a.classes.contains(class));
        let by_class = names.classes.iter().find_map(known);
        let by_text_class = names.text_classes.iter().find_map(known);
        let by_type = |name: &str| Arch::all().find(|a| a.model_types.contains(&name));
        let writes = |usual: fn(&str, &Arch) -> bool, arch: &'static Arch| {
            let classes = &names.classes;
            let usual = classes.is_empty() || classes.iter().any(|class| usual(class, arch));
            usual.then_some(arch)
        };
        match names.text_type {
            Some(text) => by_class
                .filter(|a| a.model_types.contains(&text))
                .or(by_text_class)
                .or_else(|| by_type(text).and_then(|a| writes(wraps, a))),
            None => by_class.or_else(|| {
                let arch = names.model_type.and_then(by_type)?;
                writes(is_usual, arch)
            }),
        }
    }

    /// The variant of this architecture that a configuration of its class selects, else itself; or what the class is known
    /// as, where the table does not have the variant.
    pub(super) fn variant(&'static self, config: &Json) -> Result<&'static Arch, &'static str> {
        let hparams = HParams::of_config(config);
        let variant = families::VARIANTS
            .iter()
            .find(|v| v.of == self.name && (v.when)(&hparams));
        variant.map_or(Ok(self), |v| v.arch)
    }

    /// Every known architecture.
    pub(super) fn all() -> impl Iterator<Item = &'static Arch> {
        families::ARCHITECTURES.iter().copied()
    }
}

/// Whether `checkpoint`, which turns texts into numbers, is of an architecture that llama.cpp runs such models of whose
/// tokens attend to what it says.
pub(super) fn retrieves(checkpoint: &Checkpoint, stated: Attends) -> bool {
    let arch = match &checkpoint.config {
        RawConfig::HuggingFace(config) => Arch::of_hugging_face(&StatedNames::of(config)),
        RawConfig::Gguf(metadata) => {
            let name = metadata.str("general.architecture").ok().flatten();
            name.and_then(Arch::of_gguf)
        }
    };
    let attends = arch.and_then(|arch| arch.retrieval);
    attends == Some(Attends::All) || attends == Some(stated)
}

/// The conversion of `model`, by the entry of its `config.json` or else by GGUF's name of its architecture, if there is
/// one. Several entries may have the same name in GGUF.
pub fn conversion_of(model: &ModelSpec) -> Option<&'static Conversion> {
    let name = model.architecture.as_str();
    let own = own_entry(model);
    if own.is_some_and(|arch| arch.refusal.is_some()) {
        return None;
    }
    let conversion = own.and_then(|arch| arch.conversion.as_ref());
    conversion.or_else(|| Arch::of_gguf(name)?.conversion.as_ref())
}

/// The entry of the `config.json` of `model`.
fn own_entry(model: &ModelSpec) -> Option<&'static Arch> {
    let own = Arch::of_hugging_face(&StatedNames::of(&model.config));
    let own = own.and_then(|arch| arch.variant(&model.config).ok());
    own.filter(|arch| arch.name == model.architecture)
}

/// Why no GGUF is made of `model`, where that lies in llama.cpp.
pub fn refusal_of(model: &ModelSpec) -> Option<&'static str> {
    own_entry(model)?.refusal
}

/// What serves a model, where that is not all runtimes that read its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServedAlone {
    /// One runtime.
    By(OnlyRuntime),
    /// The runtimes that load a GGUF of it.
    AsGguf,
    /// No runtime here, with the reason.
    Elsewhere(&'static str),
}

/// The one runtime that serves a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnlyRuntime {
    /// Its id.
    pub id: &'static str,
    /// Its last version that serves the model, where newer ones do not.
    pub until: Option<&'static str>,
    /// Tokens of its cache that an image takes beside the text.
    pub image_tokens: Option<u64>,
}

/// What alone serves `model`, if that is not all runtimes that read its files.
pub fn served_alone(model: &ModelSpec) -> Option<ServedAlone> {
    Some(match own_entry(model)?.served? {
        Served::AsGguf => ServedAlone::AsGguf,
        Served::Elsewhere(why) => ServedAlone::Elsewhere(why),
        Served::By(one) => ServedAlone::By(OnlyRuntime {
            id: one.runtime,
            until: one.until,
            image_tokens: (one.image_tokens)(&model.config),
        }),
    })
}

/// What is said of an architecture that the decoder does not run.
pub(super) const UNKNOWN_PASS: &str = "its forward pass is not known";

/// Why the decoder runs no GGUF that is made of `model`, where that lies in the architecture.
pub fn unknown_pass(model: &ModelSpec) -> Option<&'static str> {
    let arch = own_entry(model).or_else(|| Arch::of_gguf(&model.architecture));
    let is_known = arch.is_some_and(|arch| arch.forward.is_some());
    (!is_known).then_some(UNKNOWN_PASS)
}

/// GGUF's names of all architectures that have a conversion.
pub fn converted() -> impl Iterator<Item = &'static str> {
    Arch::all()
        .filter(|arch| arch.conversion.is_some())
        .map(|arch| arch.name)
}

/// How llama.cpp loads the architecture with GGUF's name `name`.
pub(super) fn loader(name: &str) -> Option<&'static Loader> {
    Arch::of_gguf(name).map(|arch| &arch.loader)
}

/// The quirks of the architecture with GGUF's name `name`.
#[cfg(test)]
pub(crate) fn quirks_of(name: &str) -> super::Quirks {
    Arch::of_gguf(name).map_or(super::Quirks::NONE, Arch::all_quirks)
}
