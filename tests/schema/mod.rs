//! Holds documents to `docs/schema`: the part of JSON Schema that is used there. A keyword that is not known here is an
//! error, so that none stands there in vain, and a key without a description too.

pub(crate) mod page;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use serde_json::Value as Json;

/// The schemas by what they are called in documents: `orinplan.fit/1`.
static SCHEMAS: LazyLock<BTreeMap<String, Json>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == "json"));
    let schema = |path: &Path| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let name = |schema: &Json| {
        schema["properties"]["schema"]["const"]
            .as_str()
            .map(str::to_owned)
    };
    files
        .map(|path| schema(&path))
        .map(|schema: Json| (name(&schema).unwrap(), schema))
        .collect()
});

/// A document that the program wrote, or a list of them, as its schema describes it.
#[track_caller]
pub(crate) fn document(text: &str) -> Json {
    let found: Json = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let alone = std::slice::from_ref(&found);
    for document in found.as_array().map_or(alone, Vec::as_slice) {
        let wrong = wrong(document);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
    found
}

/// Where a document is not as its schema describes it.
pub(crate) fn wrong(document: &Json) -> Vec<String> {
    let name = document["schema"].as_str().unwrap();
    match SCHEMAS.get(name) {
        Some(root) => Schema { root }.wrong(root, document, name),
        None => vec![format!("docs/schema has no {name}")],
    }
}

/// A schema, for the references in its parts.
struct Schema<'a> {
    root: &'a Json,
}

impl Schema<'_> {
    /// What is wrong with `value` by `schema`, a part of this one.
    fn wrong(&self, schema: &Json, value: &Json, at: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (keyword, rule) in schema.as_object().unwrap() {
            let holds = match keyword.as_str() {
                "$schema" | "$defs" | "title" | "description" => true,
                "type" => match rule {
                    Json::Array(types) => types.iter().any(|one| is(one, value)),
                    one => is(one, value),
                },
                "const" => value == rule,
                "enum" => rule.as_array().unwrap().contains(value),
                "minimum" => value.as_f64() >= rule.as_f64() || !value.is_number(),
                "$ref" => {
                    let place = rule.as_str().unwrap().strip_prefix('#').unwrap();
                    let part = self
                        .root
                        .pointer(place)
                        .unwrap_or_else(|| panic!("{place}"));
                    wrong.extend(self.wrong(part, value, at));
                    true
                }
                "anyOf" => {
                    let mut each = rule.as_array().unwrap().iter();
                    each.any(|one| self.wrong(one, value, at).is_empty())
                }
                "items" => {
                    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                        wrong.extend(self.wrong(rule, item, &format!("{at}[{index}]")));
                    }
                    true
                }
                "maxProperties" => value
                    .as_object()
                    .is_none_or(|pairs| Some(pairs.len() as u64) <= rule.as_u64()),
                "required" => value.as_object().is_none_or(|pairs| {
                    let mut keys = rule.as_array().unwrap().iter();
                    keys.all(|key| pairs.contains_key(key.as_str().unwrap()))
                }),
                "properties" => {
                    for (key, inner) in value.as_object().into_iter().flatten() {
                        let at = format!("{at}.{key}");
                        match rule.get(key) {
                            Some(rule) => wrong.extend(self.wrong(rule, inner, &at)),
                            None => wrong.push(format!("{at} is not described")),
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    for (key, inner) in value.as_object().into_iter().flatten() {
                        wrong.extend(self.wrong(rule, inner, &format!("{at}.{key}")));
                    }
                    true
                }
                other => panic!("{at}: the keyword {other} is not known here"),
            };
            if !holds {
                wrong.push(format!("{at}: {value} breaks {keyword} {rule}"));
            }
        }
        wrong
    }
}

fn is(name: &Json, value: &Json) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    }
}
