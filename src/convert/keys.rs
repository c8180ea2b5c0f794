//! The value of one metadata key of a GGUF, by the rule in the architecture's entry.

use serde_json::Value as Json;

use super::derived_keys::{derived, f32_value};
use super::error::ConvertError;
use super::source_config::{SourceConfig, as_count, bad, missing};
use crate::gguf::Value;
use crate::model::conversion::{Conversion, KeyRule};
use crate::model::{ModelSpec, ServedAlone, conversion_of, converted, refusal_of, served_alone};

/// What to do with a model that no GGUF is made of.
const CHECKPOINT: &str = "plan and quantize it for a runtime that reads the checkpoint itself (`--runtime vllm`, `--scheme fp8`)";

/// The conversion of `model`.
///
/// # Errors
/// [`ConvertError::Refused`] where there is to be none, [`ConvertError::Unsupported`] with the names of the architectures that have a conversion.
pub(super) fn conversion(model: &ModelSpec) -> Result<&'static Conversion, ConvertError> {
    conversion_of(model).ok_or_else(|| {
        if let Some(why) = refusal_of(model) {
            let class = model.config.get("architectures");
            let class = class.and_then(|classes| classes.get(0)?.as_str());
            return ConvertError::Refused {
                name: model.name.clone(),
                class: class.unwrap_or(&model.architecture).to_owned(),
                why,
                instead: match served_alone(model) {
                    Some(ServedAlone::Elsewhere(what)) => what,
                    _ => CHECKPOINT,
                },
            };
        }
        let supported: Vec<&str> = converted().collect();
        ConvertError::Unsupported {
            architecture: model.architecture.clone(),
            supported: supported.join(", "),
        }
    })
}

/// The value of a key, if the model has one.
pub(super) fn value(
    rule: &KeyRule,
    source: &SourceConfig<'_>,
    file_type: u32,
) -> Result<Option<Value>, ConvertError> {
    match *rule {
        KeyRule::Count { from, or, .. } => match source.stated(from) {
            Some((name, value)) => count_value(name, value).map(Some),
            None => match or(source.model).or(from.default()).map(u32::try_from) {
                None => Ok(None),
                Some(Ok(count)) => Ok(Some(Value::U32(count))),
                Some(Err(_)) => Err(missing(from.hugging_face())),
            },
        },
        KeyRule::Number(number) => Ok(source.number(number)?.map(f32_value)),
        KeyRule::Fixed(_, number) => Ok(Some(f32_value(number))),
        KeyRule::Flag { from, or, .. } => {
            let stated = from.and_then(|name| source.get(name)?.as_bool());
            Ok(Some(Value::Bool(stated.unwrap_or(or))))
        }
        KeyRule::Derived(what) => derived(what, source),
        KeyRule::Text { text, .. } => Ok(Some(Value::String(text.to_owned()))),
        KeyRule::Stored { tensors, .. } => source
            .stored_numbers(tensors)
            .map(|all| Some(Value::F32s(all))),
        KeyRule::FileType => Ok(Some(Value::U32(file_type))),
    }
}

fn count_value(name: &str, value: &Json) -> Result<Value, ConvertError> {
    let Some(items) = value.as_array() else {
        return as_count(name, value).map(Value::U32);
    };
    let one = |item: &Json| {
        let count = as_count(name, item)?;
        i32::try_from(count).map_err(|_| bad(name, item, "a whole number of 31 bits"))
    };
    items
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map(Value::I32s)
}
