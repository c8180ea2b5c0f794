//! The chat template: in `tokenizer_config.json`, or in a file of its own.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::{CONFIG_LIMIT, object_beside};
use crate::convert::error::ConvertError;
use crate::convert::{Pairs, beside};
use crate::gguf::Value;
use crate::input;

/// Sets `tokenizer.chat_template` and, for named templates, `tokenizer.chat_template.NAME` and
/// their list. Nothing is set if there is no `tokenizer_config.json`.
pub(super) fn add(
    pairs: &mut Pairs,
    directory: &Path,
    config: &Map<String, Json>,
) -> Result<(), ConvertError> {
    if config.is_empty() {
        return Ok(());
    }
    let template = match config.get("chat_template") {
        Some(stated) => Some(stated.clone()),
        None => of_file(directory)?,
    };
    match template {
        Some(Json::String(text)) => pairs.set("tokenizer.chat_template", Value::String(text)),
        Some(Json::Array(choices)) => add_choices(pairs, &choices),
        _ => {}
    }
    Ok(())
}

/// The chat template that [`add`] takes for a model in `directory`: the default one, if there are several.
pub(in crate::convert) fn of(directory: &Path) -> Result<Option<String>, ConvertError> {
    let mut pairs = Pairs::default();
    let config = object_beside(directory, "tokenizer_config.json")?.unwrap_or_default();
    add(&mut pairs, directory, &config)?;
    Ok(pairs.0.into_iter().find_map(|(key, value)| match value {
        Value::String(text) if key == "tokenizer.chat_template" => Some(text),
        _ => None,
    }))
}

fn of_file(directory: &Path) -> Result<Option<Json>, ConvertError> {
    if let Some(path) = beside(directory, "chat_template.jinja") {
        return Ok(Some(Json::String(input::read_text(&path, CONFIG_LIMIT)?)));
    }
    let object = object_beside(directory, "chat_template.json")?;
    Ok(object.and_then(|mut object| object.remove("chat_template")))
}

/// Adds the templates of a list of `{name, template}`: the one called `default` without a suffix, the others
/// in the order of their names.
fn add_choices(pairs: &mut Pairs, choices: &[Json]) {
    let mut named: BTreeMap<String, &str> = BTreeMap::new();
    for choice in choices {
        let part = |key: &str| choice.get(key).and_then(Json::as_str);
        if let (Some(name), Some(template)) = (part("name"), part("template")) {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            named.insert(name.chars().map(plain).collect(), template);
        }
    }
    named.remove("");
    let default = named.remove("default");
    for (name, template) in &named {
        let key = format!("tokenizer.chat_template.{name}");
        pairs.0.push((key, Value::String((*template).to_owned())));
    }
    if !named.is_empty() {
        let names = named.keys().collect();
        pairs.set("tokenizer.chat_templates", Value::Strings(names));
    }
    if let Some(template) = default {
        pairs.text("tokenizer.chat_template", template);
    }
}
