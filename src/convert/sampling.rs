//! The sampling that `generation_config.json` recommends, as `general.sampling.*`.

use std::path::Path;

use serde_json::Value as Json;

use super::error::ConvertError;
use super::{Pairs, beside};
use crate::gguf::Value;
use crate::input;
use crate::units::Bytes;

/// Real ones stay below 10 kB.
const LIMIT: Bytes = Bytes(1 << 20);

/// What a setting is stored as.
enum Kind {
    Text,
    I32,
    F32,
}

/// GGUF's name, its type, and the names in `generation_config.json`, the first found counts.
const SETTINGS: &[(&str, Kind, &[&str])] = &[
    ("sequence", Kind::Text, &["sequence"]),
    ("top_k", Kind::I32, &["top_k"]),
    ("top_p", Kind::F32, &["top_p"]),
    ("min_p", Kind::F32, &["min_p"]),
    ("xtc_probability", Kind::F32, &["xtc_probability"]),
    ("xtc_threshold", Kind::F32, &["xtc_threshold"]),
    ("temp", Kind::F32, &["temperature"]),
    ("penalty_last_n", Kind::I32, &["penalty_last_n"]),
    (
        "penalty_repeat",
        Kind::F32,
        &["penalty_repeat", "repetition_penalty"],
    ),
    ("mirostat", Kind::I32, &["mirostat"]),
    ("mirostat_tau", Kind::F32, &["mirostat_tau"]),
    ("mirostat_eta", Kind::F32, &["mirostat_eta"]),
];

/// Adds every setting that is stated. Published files are not all valid JSON: such a file, and a
/// setting of another type, says nothing.
pub(super) fn add(pairs: &mut Pairs, directory: Option<&Path>) -> Result<(), ConvertError> {
    let Some(path) = directory.and_then(|directory| beside(directory, "generation_config.json"))
    else {
        return Ok(());
    };
    let text = input::read_text(&path, LIMIT)?;
    let Ok(config) = serde_json::from_str::<Json>(&text) else {
        return Ok(());
    };
    for (key, kind, names) in SETTINGS {
        let Some(stated) = names.iter().find_map(|name| config.get(name)) else {
            continue;
        };
        let value = match kind {
            Kind::Text => stated.as_str().map(|text| Value::String(text.to_owned())),
            Kind::I32 => stated
                .as_i64()
                .and_then(|n| i32::try_from(n).ok())
                .map(Value::I32),
            Kind::F32 => stated.as_f64().map(|x| Value::F32(x as f32)),
        };
        if let Some(value) = value {
            pairs.set(&format!("general.sampling.{key}"), value);
        }
    }
    Ok(())
}
