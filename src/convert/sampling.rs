//! The sampling settings of `generation_config.json`, as `general.sampling.*`.

use std::path::Path;

use serde_json::Value as Json;

use super::error::ConvertError;
use super::{Pairs, beside};
use crate::gguf::Value;
use crate::input;
use crate::units::Bytes;

/// The largest `generation_config.json` that is read. Real ones stay below 10 kB.
const LIMIT: Bytes = Bytes(1 << 20);

/// The type of a setting in GGUF.
enum SettingType {
    Text,
    I32,
    F32,
}

/// GGUF's name of each setting, its type, and its names in `generation_config.json`, of which the first found counts.
const SETTINGS: &[(&str, SettingType, &[&str])] = &[
    ("sequence", SettingType::Text, &["sequence"]),
    ("top_k", SettingType::I32, &["top_k"]),
    ("top_p", SettingType::F32, &["top_p"]),
    ("min_p", SettingType::F32, &["min_p"]),
    ("xtc_probability", SettingType::F32, &["xtc_probability"]),
    ("xtc_threshold", SettingType::F32, &["xtc_threshold"]),
    ("temp", SettingType::F32, &["temperature"]),
    ("penalty_last_n", SettingType::I32, &["penalty_last_n"]),
    (
        "penalty_repeat",
        SettingType::F32,
        &["penalty_repeat", "repetition_penalty"],
    ),
    ("mirostat", SettingType::I32, &["mirostat"]),
    ("mirostat_tau", SettingType::F32, &["mirostat_tau"]),
    ("mirostat_eta", SettingType::F32, &["mirostat_eta"]),
];

/// What `generation_config.json` states. A file that is not valid JSON (some published ones are not) states nothing.
fn stated(directory: Option<&Path>) -> Result<Option<Json>, ConvertError> {
    let Some(path) = directory.and_then(|directory| beside(directory, "generation_config.json"))
    else {
        return Ok(None);
    };
    let text = input::read_text(&path, LIMIT)?;
    Ok(serde_json::from_str::<Json>(&text).ok())
}

/// Adds the tokens that generation never writes.
pub(super) fn add_suppressed(
    pairs: &mut Pairs,
    directory: Option<&Path>,
) -> Result<(), ConvertError> {
    let config = stated(directory)?;
    let tokens = config
        .as_ref()
        .and_then(|config| config.get("suppress_tokens")?.as_array());
    let id = |token: &Json| i32::try_from(token.as_i64()?).ok().map(Value::I32);
    let tokens: Option<Vec<Value>> = tokens.into_iter().flatten().map(id).collect();
    if let Some(tokens) = tokens.filter(|tokens| !tokens.is_empty()) {
        pairs.set("tokenizer.ggml.suppress_tokens", Value::Array(tokens));
    }
    Ok(())
}

/// Adds every setting that is stated. One of another type is ignored.
pub(super) fn add(pairs: &mut Pairs, directory: Option<&Path>) -> Result<(), ConvertError> {
    let Some(config) = stated(directory)? else {
        return Ok(());
    };
    for (key, kind, names) in SETTINGS {
        let Some(stated) = names.iter().find_map(|name| config.get(name)) else {
            continue;
        };
        let value = match kind {
            SettingType::Text => stated.as_str().map(|text| Value::String(text.to_owned())),
            SettingType::I32 => stated
                .as_i64()
                .and_then(|n| i32::try_from(n).ok())
                .map(Value::I32),
            SettingType::F32 => stated.as_f64().map(|x| Value::F32(x as f32)),
        };
        if let Some(value) = value {
            pairs.set(&format!("general.sampling.{key}"), value);
        }
    }
    Ok(())
}
