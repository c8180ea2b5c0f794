//! Fills in what a `config.json` leaves out, once for planner and converter: sizes from the shapes of stored weights,
//! other values from the configuration class in Transformers.
//!
//! The defaults are data (`families/defaults.json`, by model type, written by `defaults.py` beside it). Transformers
//! writes every key of its class at the top level of a file, but in a nested part often only those that differ from the
//! class. So a size that is missing at the top level was lost, which is an error; in a nested part it has the value of
//! the class.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value as Json};

use super::arch::Arch;
use super::hparams::{Key, TEXT_PARTS, json_lookup, text_config};
use super::lookup::StatedNames;
use super::sorted::{ParsedWeight, Sorted};
use super::{ModelError, families};

/// The values of the configuration classes by model type. A test checks the form of the file.
static DEFAULTS: LazyLock<Map<String, Json>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("families/defaults.json")).unwrap_or_default()
});

/// Sizes in which models of one family differ, so that a default is no substitute.
const SIZES: &[Key] = &[
    Key::Blocks,
    Key::Hidden,
    Key::Vocab,
    Key::Heads,
    Key::KvHeads,
    Key::Ffn,
    Key::Window,
    Key::Experts,
    Key::ExpertsUsed,
    Key::ExpertFfn,
    Key::SharedExpertFfn,
    Key::SharedExperts,
    Key::LeadingDense,
    Key::QLora,
    Key::SsmInner,
    Key::SsmHeads,
];

/// The rotary parameters, in files of Transformers 4 and 5.
const ROTARY: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// The object in which some classes keep their configuration whole, and its parts with the names that they have elsewhere.
const WHOLE: &str = "config";
const WHOLE_PARTS: [(&str, &str); 2] = [("text", "text_config"), ("vision", "vision_config")];

/// The configuration with the parts of such an object where others have theirs; a part that is left out has the values of its
/// class.
pub(super) fn with_parts(config: &Json) -> Cow<'_, Json> {
    let classes = config.get("architectures").and_then(Json::as_array);
    let mut classes = classes.into_iter().flatten().filter_map(Json::as_str);
    let Some(whole) = config.get(WHOLE).filter(|whole| whole.is_object()) else {
        return Cow::Borrowed(config);
    };
    if !classes.any(|class| families::WHOLE_IN_ONE.contains(&class)) {
        return Cow::Borrowed(config);
    }
    let mut parted = config.clone();
    if let Some(object) = parted.as_object_mut() {
        for (part, usual) in WHOLE_PARTS {
            let stated = whole.get(part).filter(|part| part.is_object());
            let stated = stated.cloned().unwrap_or(Json::Object(Map::new()));
            object.entry(usual).or_insert(stated);
        }
    }
    Cow::Owned(parted)
}

/// `config` with the values that it leaves out.
///
/// Without `names` the architecture is assumed, and no values of a class are filled in.
///
/// # Errors
/// [`ModelError::MissingKey`] for one of [`SIZES`] that neither the file nor the shapes of the weights give, although
/// its class has it.
pub(super) fn filled(
    config: &Json,
    arch: &Arch,
    names: Option<&StatedNames<'_>>,
    shapes: &StoredShapes<'_>,
) -> Result<Json, ModelError> {
    let mut filled = config.clone();
    let nested = !std::ptr::eq(text_config(config), config);
    let class = names.and_then(|names| of_class(arch, names));
    let of_class = |key: Key| {
        let mut names = key.hugging_face().iter();
        names.find(|name| class.is_some_and(|class| class.contains_key(**name)))
    };
    for (key, value) in shapes.sizes(config) {
        // A head width that equals hidden size / heads need not be stated.
        let together = shapes
            .heads(config)
            .and_then(|heads| heads.checked_mul(value));
        let follows = together == shapes.hidden(config);
        if key == Key::HeadDim && of_class(key).is_none() && follows {
            continue;
        }
        if let Some(name) = key.hugging_face().first() {
            insert(&mut filled, name, value);
        }
    }
    for &key in SIZES.iter().filter(|_| !nested) {
        if let (Some(name), false) = (of_class(key), states(&filled, key)) {
            return Err(ModelError::MissingKey {
                key: (*name).to_owned(),
            });
        }
    }
    for (name, default) in class.into_iter().flatten() {
        let stated = match Key::named(name) {
            Some(key) => states(&filled, key),
            // Transformers 4 has the same under another name.
            None if name == "rope_parameters" => ROTARY
                .iter()
                .any(|name| json_lookup(&filled, name).is_some()),
            None => json_lookup(&filled, name).is_some(),
        };
        if !stated {
            insert(&mut filled, name, default.clone());
        }
    }
    Ok(filled)
}

/// The defaults of the stated configuration class, else of the architecture's first class that has any.
fn of_class(arch: &Arch, names: &StatedNames<'_>) -> Option<&'static Map<String, Json>> {
    let stated = names.text_type.or(names.model_type).into_iter();
    let mut types = stated.chain(arch.model_types.iter().copied());
    types.find_map(|name| DEFAULTS.get(name)?.as_object())
}

/// Whether `config` states `key` under any of its names; `null` counts as stated, but for the context, which no model is
/// without.
fn states(config: &Json, key: Key) -> bool {
    let counts = |value: &Json| key != Key::Context || !value.is_null();
    let mut names = key.hugging_face().iter();
    names.any(|name| json_lookup(config, name).is_some_and(counts))
}

/// The number that `config` states for `key`.
fn number(config: &Json, key: Key) -> Option<u64> {
    let mut names = key.hugging_face().iter();
    names.find_map(|name| json_lookup(config, name)?.as_u64())
}

/// Inserts a value into the part of the configuration that describes the text model.
fn insert(config: &mut Json, name: &str, value: impl Into<Json>) {
    let nested = TEXT_PARTS
        .iter()
        .find(|part| config.pointer(part).is_some_and(Json::is_object));
    let part = match nested {
        Some(part) => config.pointer_mut(part),
        None => Some(config),
    };
    if let Some(object) = part.and_then(Json::as_object_mut) {
        object.insert(name.to_owned(), value.into());
    }
}

/// Sizes that follow from the shapes of stored weights if all blocks agree.
pub(super) struct StoredShapes<'a>(pub(super) &'a Sorted);

/// Matrices with a dimension that is a size: the key, the name pattern, and the dimension.
const SIZED_MATRICES: &[(Key, &str, usize)] = &[
    (Key::Hidden, "embed_tokens.weight", 1),
    (Key::Hidden, "lm_head.weight", 1),
    (Key::Vocab, "embed_tokens.weight", 0),
    (Key::Vocab, "lm_head.weight", 0),
    (Key::Ffn, "layers.{}.mlp.gate_proj.weight", 0),
    (Key::Ffn, "layers.{}.mlp.down_proj.weight", 1),
    (Key::Ffn, "layers.{}.feed_forward.gate_proj.weight", 0),
    (Key::Ffn, "layers.{}.mixer.down_proj.weight", 1),
    (Key::Ffn, "blocks.{}.mlp.fc1.weight", 0),
    (Key::Experts, "layers.{}.mlp.gate.weight", 0),
    (Key::Experts, "layers.{}.mlp.router.weight", 0),
    (Key::Experts, "layers.{}.router.proj.weight", 0),
    (Key::Experts, "layers.{}.mixer.gate.weight", 0),
    (Key::Experts, "layers.{}.feed_forward.gate.weight", 0),
    (Key::Experts, "layers.{}.block_sparse_moe.gate.weight", 0),
    (
        Key::Experts,
        "layers.{}.block_sparse_moe.router.layer.weight",
        0,
    ),
];

impl StoredShapes<'_> {
    /// Keys that `config` does not state, with their values from the shapes.
    fn sizes(&self, config: &Json) -> Vec<(Key, u64)> {
        let mut found: Vec<(Key, u64)> = Vec::new();
        let mut add = |key: Key, value: Option<u64>| {
            let known = states(config, key) || found.iter().any(|(known, _)| *known == key);
            found.extend(value.filter(|_| !known).map(|value| (key, value)));
        };
        for &(key, pattern, dimension) in SIZED_MATRICES {
            add(key, self.common(pattern, dimension));
        }
        add(Key::Blocks, self.blocks(config));
        let head_dim = self.head_dim(config);
        add(Key::HeadDim, head_dim);
        if let Some(dim) = head_dim.filter(|&dim| dim > 0) {
            let heads = |pattern, dimension| Some(self.common(pattern, dimension)? / dim);
            add(Key::Heads, heads("layers.{}.self_attn.o_proj.weight", 1));
            add(Key::KvHeads, heads("layers.{}.self_attn.k_proj.weight", 0));
        }
        found
    }

    /// The number of query heads, as stated or from the shapes.
    fn heads(&self, config: &Json) -> Option<u64> {
        let told = || {
            let width = self.common("layers.{}.self_attn.o_proj.weight", 1)?;
            width.checked_div(self.head_dim(config)?)
        };
        number(config, Key::Heads).or_else(told)
    }

    /// The hidden size, as stated or from the shapes.
    fn hidden(&self, config: &Json) -> Option<u64> {
        number(config, Key::Hidden).or_else(|| self.common("embed_tokens.weight", 1))
    }

    /// A dimension of the matrices with this name pattern, if it is the same in all of them.
    fn common(&self, pattern: &str, dimension: usize) -> Option<u64> {
        self.same(pattern, |shape| match shape {
            [_, _] => shape.get(dimension).copied(),
            _ => None,
        })
    }

    fn same(&self, pattern: &str, of: impl Fn(&[u64]) -> Option<u64>) -> Option<u64> {
        let entries = self.0.text.iter().filter(|entry| entry.pattern == pattern);
        let mut values = entries.map(|entry| of(&entry.logical.shape));
        let first = values.next()??;
        values.all(|value| value == Some(first)).then_some(first)
    }

    /// The number of stored blocks without those for multi-token prediction; without weights, the length of
    /// `layer_types`.
    fn blocks(&self, config: &Json) -> Option<u64> {
        let last = self.0.text.iter().filter_map(ParsedWeight::block).max();
        let listed = || {
            let kinds = json_lookup(config, "layer_types")?.as_array()?;
            Some(kinds.len() as u64)
        };
        let Some(last) = last else {
            return listed();
        };
        let further = number(config, Key::NextnLayers).unwrap_or(0);
        (u64::from(last) + 1).checked_sub(further)
    }

    /// Elements of a head: as stated, from the norm on each head, or from the output projection and the stated heads.
    fn head_dim(&self, config: &Json) -> Option<u64> {
        if let Some(stated) = number(config, Key::HeadDim) {
            return Some(stated);
        }
        let output = self.common("layers.{}.self_attn.o_proj.weight", 1);
        // A norm over all heads together is as wide as the output projection, and says nothing about one head.
        let norm = ["q_norm", "q_layernorm"].iter().find_map(|norm| {
            let pattern = format!("layers.{{}}.self_attn.{norm}.weight");
            self.same(&pattern, |shape| shape.last().copied())
        });
        norm.filter(|&dim| output.is_none_or(|output| dim < output))
            .or_else(|| output?.checked_div(number(config, Key::Heads)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_defaults_are_read_and_name_their_source() {
        let source = DEFAULTS.get("source").and_then(Json::as_array);
        assert!(source.is_some_and(|lines| lines.len() >= 2));
        for (name, class) in DEFAULTS.iter().filter(|(name, _)| *name != "source") {
            let class = class.as_object().expect(name);
            let plain = |value: &Json| value.is_number() || value.is_boolean();
            let rotary = |key: &str| key == "rope_parameters";
            assert!(class.iter().all(|(key, value)| plain(value) || rotary(key)));
            let known = Arch::all().any(|arch| arch.model_types.contains(&name.as_str()));
            assert!(known, "{name}");
        }
        // Every architecture with a model type has defaults.
        for arch in Arch::all().filter(|arch| !arch.model_types.is_empty()) {
            assert!(
                arch.model_types
                    .iter()
                    .any(|name| DEFAULTS.contains_key(*name)),
                "{}",
                arch.name
            );
        }
    }
}
