//! The form of `profiles/catalog.toml`: sources by name, shapes by name, and models that name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::error::CatalogError;
use super::published::{Day, Published};
use super::{Entry, Task};
use crate::nearest;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// Addresses by short name.
    sources: BTreeMap<String, String>,
    /// What models of the same dimensions share.
    shapes: BTreeMap<String, Shape>,
    models: Vec<Model>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    parameters: Published,
    #[serde(default)]
    towers: u64,
    #[serde(default)]
    left_out: u64,
    sources: Vec<String>,
    #[serde(default)]
    unconfirmed: bool,
    /// `config.json` as text: TOML has no null.
    config: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    id: String,
    shape: String,
    released: Day,
    license: String,
    tasks: Vec<Task>,
    sources: Vec<String>,
    #[serde(default)]
    unconfirmed: bool,
    /// Values that differ from those of the shape.
    #[serde(default)]
    config: Option<String>,
}

/// The entries of a catalogue.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, CatalogError> {
    let file: File = toml::from_str(text).map_err(|error| CatalogError::Form(error.to_string()))?;
    let mut entries = Vec::with_capacity(file.models.len());
    let mut ids = BTreeSet::new();
    for model in &file.models {
        if !ids.insert(&model.id) {
            return Err(CatalogError::Twice(model.id.clone()));
        }
        entries.push(entry(model, &file)?);
    }
    let shapes: BTreeSet<&String> = file.models.iter().map(|model| &model.shape).collect();
    let of_shapes = file.shapes.values().flat_map(|shape| &shape.sources);
    let of_models = file.models.iter().flat_map(|model| &model.sources);
    let sources: BTreeSet<&String> = of_shapes.chain(of_models).collect();
    all_used("shape", file.shapes.keys(), &shapes)?;
    all_used("source", file.sources.keys(), &sources)?;
    Ok(entries)
}

fn entry(model: &Model, file: &File) -> Result<Entry, CatalogError> {
    let shape = named(&model.id, "shape", &model.shape, &file.shapes)?;
    let mut sources: Vec<String> = Vec::new();
    let own = model.sources.iter().map(|source| (&model.id, source));
    let of_shape = shape.sources.iter().map(|source| (&model.shape, source));
    for (by, source) in of_shape.chain(own) {
        let address = named(by, "source", source, &file.sources)?;
        if !sources.contains(address) {
            sources.push(address.clone());
        }
    }
    let mut config = object(&model.shape, &shape.config)?;
    if let Some(own) = &model.config {
        overlay(&mut config, object(&model.id, own)?);
    }
    Ok(Entry {
        id: model.id.clone(),
        shape: model.shape.clone(),
        parameters: shape.parameters,
        towers: shape.towers,
        left_out: shape.left_out,
        license: model.license.clone(),
        released: model.released.clone(),
        tasks: model.tasks.clone(),
        sources,
        is_confirmed: !model.unconfirmed && !shape.unconfirmed,
        config,
    })
}

/// What `by` calls `name`, among those that are there.
fn named<'a, T>(
    by: &str,
    what: &'static str,
    name: &str,
    all: &'a BTreeMap<String, T>,
) -> Result<&'a T, CatalogError> {
    all.get(name).ok_or_else(|| CatalogError::Unknown {
        by: by.to_owned(),
        what,
        name: name.to_owned(),
        hint: nearest::hint(name, all.keys().map(String::as_str)),
    })
}

fn all_used<'a>(
    what: &'static str,
    mut names: impl Iterator<Item = &'a String>,
    used: &BTreeSet<&String>,
) -> Result<(), CatalogError> {
    match names.find(|name| !used.contains(name)) {
        Some(name) => Err(CatalogError::Unused {
            what,
            name: name.clone(),
        }),
        None => Ok(()),
    }
}

fn object(of: &str, text: &str) -> Result<Map<String, Json>, CatalogError> {
    serde_json::from_str(text).map_err(|error| CatalogError::Config {
        of: of.to_owned(),
        why: error.to_string(),
    })
}

/// Puts the values of `over` into `under`, part by part where both have an object.
fn overlay(under: &mut Map<String, Json>, over: Map<String, Json>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Json::Object(under)), Json::Object(over)) => overlay(under, over),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
models = [
    { id = "a/b", shape = "s", released = "2025-04", license = "MIT", tasks = ["chat"], sources = ["x"], config = '{"t": {"n": 2}}' },
]
[sources]
x = "https://example.org"
[shapes]
s = { parameters = "1.5B", sources = ["x"], config = '{"t": {"n": 1, "m": null}, "k": 3}' }
"#;

    #[test]
    fn a_model_states_what_differs_from_its_shape() {
        let entries = parse(SMALL).unwrap();
        let config = Json::Object(entries[0].config.clone());
        assert_eq!(
            config,
            serde_json::json!({"t": {"n": 2, "m": null}, "k": 3})
        );
        assert_eq!(entries[0].sources, ["https://example.org"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |from: &str, to: &str| {
            assert!(SMALL.contains(from), "{from}");
            parse(&SMALL.replace(from, to)).unwrap_err().to_string()
        };
        for (from, to, message) in [
            (
                r#"shape = "s""#,
                r#"shape = "t""#,
                "`a/b` names the shape `t`, which does not exist",
            ),
            (
                r#"sources = ["x"], config = '{"t": {"n": 1"#,
                r#"sources = ["y"], config = '{"t": {"n": 1"#,
                "`s` names the source `y`, which does not exist",
            ),
            (
                "x = \"https",
                "z = \"http\"\nx = \"https",
                "nothing names the source `z`",
            ),
            (
                "config = '{\"t\": {\"n\": 2}}'",
                "config = '[1]'",
                "a/b: `config` is not a JSON object",
            ),
            ("1.5B", "1.5", "`1.5` is not a number of parameters"),
            ("2025-04", "April", "`April` is neither a day"),
            ("[\"chat\"]", "[\"talk\"]", "unknown variant `talk`"),
            ("license", "licence", "unknown field `licence`"),
        ] {
            let said = refused(from, to);
            assert!(said.contains(message), "{said}");
        }
        let (line, twice) = SMALL
            .split_once(" },\n]")
            .map(|(a, b)| {
                (
                    a,
                    format!("{a} }},\n{} }},\n]{b}", a.lines().last().unwrap()),
                )
            })
            .unwrap();
        assert!(line.contains("a/b"));
        assert_eq!(
            parse(&twice).unwrap_err(),
            CatalogError::Twice("a/b".to_owned())
        );
    }
}
