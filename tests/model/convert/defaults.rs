//! Each key of each family's configuration is dropped in turn. What comes out is what Transformers'
//! own class makes of it (`tests/data/class_defaults.py`), or the model is refused by that key's
//! name; never another model.

use std::path::Path;

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::{convert, model};
use serde_json::{Map, Value as Json, json};

use super::build::{self, QWEN2};

/// Keys that a message calls by another of their names, or by what it lacks of them.
const ALSO: &[(&str, &str)] = &[
    ("layers_block_type", "hybrid_override_pattern"),
    ("rope_parameters", "mscale_all_dim"),
];

/// All that the plan and the written file take from a configuration, or the refusal.
fn described(config: Json, directory: &Path) -> Result<String, String> {
    let checkpoint = Checkpoint {
        directory: Some(directory.to_owned()),
        ..Checkpoint::of(
            "model",
            SourceFormat::Config,
            RawConfig::HuggingFace(config),
        )
    };
    let model = model::read(&checkpoint, model::Unknown::Refuse).map_err(|e| e.to_string())?;
    let metadata = convert::metadata(&checkpoint, &model, 0);
    let changes: Vec<_> = model
        .tensors
        .iter()
        .map(|t| convert::change(&checkpoint, &model, t))
        .collect();
    let metadata = match metadata {
        Ok(pairs) => format!("{pairs:?} {changes:?}"),
        Err(error) if error.to_string().contains(", which conversion needs") => {
            return Err(error.to_string());
        }
        // No conversion, or no tokenizer of the kind: the same with and without the key.
        Err(error) => error.to_string(),
    };
    let tensors: Vec<_> = model.tensors.iter().map(|t| (&t.name, &t.shape)).collect();
    Ok(format!(
        "{} {:?} {:?} {tensors:?} {} {metadata}",
        model.architecture, model.dims, model.layers, model.tied
    ))
}

/// The configuration as it is, or as the text part of a wrapper's.
fn placed(text: &Map<String, Json>, nested: bool) -> Json {
    if nested {
        json!({
            "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "text_config": text,
        })
    } else {
        Json::Object(text.clone())
    }
}

/// Blocks that all have one width are listed by the class, and written once.
fn one_for_all(value: &Json) -> Json {
    match value.as_array().map(Vec::as_slice) {
        Some([first, rest @ ..]) if first.is_u64() && rest.iter().all(|v| v == first) => {
            first.clone()
        }
        _ => value.clone(),
    }
}

/// What each class makes of a small configuration, and a directory with a tokenizer.
fn cases() -> (Map<String, Json>, build::Fixture) {
    let data = serde_json::from_str(include_str!("../../data/class_defaults.json")).unwrap();
    let tokenizer = build::byte_level(QWEN2).to_string();
    let fixture = build::Fixture::new(&json!({})).with("tokenizer.json", tokenizer);
    (data, fixture)
}

#[test]
fn a_key_that_is_dropped_means_what_its_class_makes_of_it() {
    let (data, fixture) = cases();
    let directory = fixture.path();
    let (mut same, mut refused, mut wrong) = (0, 0, Vec::new());
    for (kind, case) in data.iter().filter(|(kind, _)| *kind != "source") {
        let whole = case["config"].as_object().unwrap();
        for nested in [false, true] {
            let full = described(placed(whole, nested), &directory);
            assert!(full.is_ok(), "{kind}: {full:?}");
            for key in whole.keys().filter(|key| *key != "model_type") {
                let mut dropped = whole.clone();
                dropped.remove(key);
                let found = described(placed(&dropped, nested), &directory);
                let expected = case["without"].get(key).map(|value| {
                    dropped.insert(key.clone(), one_for_all(value));
                    described(placed(&dropped, nested), &directory)
                });
                let also = ALSO
                    .iter()
                    .find(|(name, _)| name == key)
                    .map(|(_, other)| *other);
                match (found, expected) {
                    // Other keys may say as much as before.
                    (Ok(found), _) if Ok(&found) == full.as_ref() => same += 1,
                    (Ok(found), Some(Ok(expected))) if found == expected => same += 1,
                    (Err(error), _)
                        if error.contains(&format!("`{key}`"))
                            || also.is_some_and(|also| error.contains(&format!("`{also}`"))) =>
                    {
                        refused += 1;
                    }
                    (found, expected) => wrong.push(format!(
                        "{kind} without {key}, nested {nested}:\n  {found:?}\n  {expected:?}\n"
                    )),
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        same > 700 && refused > 100,
        "{same} the same, {refused} refused"
    );
}

/// Planner and converter read the same names: a value under any of the names that its row has is
/// planned and written as under the usual one.
#[test]
fn a_key_means_the_same_by_each_of_its_names() {
    let (data, fixture) = cases();
    let directory = fixture.path();
    let (mut same, mut wrong) = (0, Vec::new());
    for (kind, case) in data.iter().filter(|(kind, _)| *kind != "source") {
        let whole = case["config"].as_object().unwrap();
        let full = described(placed(whole, false), &directory);
        let stated = |name: &&str| whole.contains_key(*name);
        for names in model::Key::ALL.iter().map(|key| key.hugging_face()) {
            let Some(usual) = names.iter().copied().find(stated) else {
                continue;
            };
            for other in names.iter().filter(|name| !stated(name)) {
                let mut renamed = whole.clone();
                let value = renamed.remove(usual).unwrap();
                renamed.insert((*other).to_owned(), value);
                if described(placed(&renamed, false), &directory) == full {
                    same += 1;
                } else {
                    wrong.push(format!("{kind}: {usual} as {other}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(same > 500, "{same} the same");
}
