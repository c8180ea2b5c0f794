//! A `config.json` as the converter reads it: hyperparameters by the table of `model`, and rotary parameters in one
//! form.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::ConvertError;
use crate::checkpoint::Checkpoint;
use crate::model::{HParams, Key, ModelSpec, Number};

/// Hyperparameters of the text model.
pub(super) struct SourceConfig<'a> {
    hparams: HParams<'a>,
    /// The checkpoint, where numbers may be read from its weights.
    weights: Option<&'a Checkpoint>,
    pub(super) model: &'a ModelSpec,
    /// Rotary parameters of the blocks with full attention.
    pub(super) rope: RopeParameters<'a>,
    /// The rotary base of windowed blocks, if it differs.
    pub(super) window_rope_base: Option<f64>,
}

/// Rotary parameters: those of `rope_parameters` (Transformers 5) or `rope_scaling`, and those that older
/// configurations state at the top level.
pub(super) struct RopeParameters<'a> {
    scaling: Option<&'a Map<String, Json>>,
    /// `linear`, `yarn`, `longrope`, `llama3`, ...
    pub(super) kind: Option<&'a str>,
    /// The rotary base.
    pub(super) base: Option<f64>,
}

impl<'a> SourceConfig<'a> {
    /// Reads the configuration of `model`.
    pub(super) fn new(model: &'a ModelSpec) -> Result<SourceConfig<'a>, ConvertError> {
        let mut source = SourceConfig {
            hparams: HParams::of_config(&model.config),
            weights: None,
            model,
            rope: RopeParameters {
                scaling: None,
                kind: None,
                base: None,
            },
            window_rope_base: None,
        };
        let all = ["rope_parameters", "rope_scaling"]
            .into_iter()
            .find_map(|key| source.get(key)?.as_object());
        let of = |layers: &str| all.and_then(|all| all.get(layers)?.as_object());
        let full = of("full_attention").or(all);
        let base = |map: Option<&Map<String, Json>>| map?.get("rope_theta")?.as_f64();
        let kind = full.and_then(|map| map.get("rope_type").or_else(|| map.get("type")));
        let rope = RopeParameters {
            scaling: full,
            kind: kind.and_then(Json::as_str),
            base: base(full).or(source.number(Number::RopeBase)?),
        };
        let window = base(of("sliding_attention")).or(source.number(Number::WindowRopeBase)?);
        source.window_rope_base = window;
        source.rope = rope;
        Ok(source)
    }

    /// The same with the weights of `checkpoint`.
    pub(super) fn with_weights(self, checkpoint: &'a Checkpoint) -> SourceConfig<'a> {
        SourceConfig {
            weights: Some(checkpoint),
            ..self
        }
    }

    /// The numbers that the blocks store under the name `pattern`, in their order.
    pub(super) fn stored_numbers(&self, pattern: &str) -> Result<Vec<f32>, ConvertError> {
        let number = |block: u64| {
            let suffix = pattern.replace("{}", &block.to_string());
            let missing = || ConvertError::Number {
                tensor: suffix.clone(),
            };
            let mut stored = self.model.stored.iter();
            let is_it = |name: &str| {
                let rest = name.strip_suffix(suffix.as_str());
                rest.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
            };
            let weight = stored.find(|weight| is_it(&weight.name));
            let source = weight.and_then(|weight| weight.sources.first());
            let source = source.ok_or_else(missing)?;
            let checkpoint = self.weights.ok_or_else(missing)?;
            let tensor = checkpoint.tensors.get(*source as usize);
            let number = tensor.and_then(|tensor| checkpoint.number(tensor));
            number.ok_or_else(missing)
        };
        (0..self.model.dims.blocks).map(number).collect()
    }

    /// The folder of the checkpoint.
    pub(super) fn directory(&self) -> Option<&'a Path> {
        self.weights?.directory.as_deref()
    }

    /// A value that is stated and not null.
    pub(super) fn get(&self, key: &str) -> Option<&'a Json> {
        self.hparams.json(key).filter(|value| !value.is_null())
    }

    /// The name under which `key` is stated, and its value.
    pub(super) fn stated(&self, key: Key) -> Option<(&'static str, &'a Json)> {
        self.hparams.stated(key.hugging_face())
    }

    /// A number, if it is stated.
    pub(super) fn number(&self, number: Number) -> Result<Option<f64>, ConvertError> {
        self.float(number.hugging_face())
    }

    /// A number under the first of `names` that is stated.
    pub(super) fn float(&self, names: &[&str]) -> Result<Option<f64>, ConvertError> {
        let stated = self.hparams.stated(names);
        stated.map(|(name, value)| float(name, value)).transpose()
    }

    /// A count that must be stated.
    pub(super) fn need(&self, key: Key) -> Result<u32, ConvertError> {
        match self.stated(key) {
            Some((name, value)) => as_count(name, value),
            None => Err(missing(key.hugging_face())),
        }
    }
}

fn float(name: &str, value: &Json) -> Result<f64, ConvertError> {
    value.as_f64().ok_or_else(|| bad(name, value, "a number"))
}

impl RopeParameters<'_> {
    /// A number of the rotary parameters.
    pub(super) fn number(&self, number: Number) -> Result<Option<f64>, ConvertError> {
        self.float(number.hugging_face())
    }

    /// A number of the rotary parameters under the first of `keys` that is stated.
    pub(super) fn float(&self, keys: &[&str]) -> Result<Option<f64>, ConvertError> {
        let found = keys
            .iter()
            .find_map(|key| Some((*key, self.scaling?.get(*key).filter(|v| !v.is_null())?)));
        found.map(|(key, value)| float(key, value)).transpose()
    }

    /// A list of the rotary parameters.
    pub(super) fn list(&self, key: &str) -> Option<&[Json]> {
        let list = self.scaling?.get(key)?.as_array()?;
        Some(list.as_slice())
    }

    /// Whether there is such a list and it is not empty.
    pub(super) fn has_list(&self, key: &str) -> bool {
        self.list(key).is_some_and(|list| !list.is_empty())
    }
}

/// `value` as a count of 32 bits; whole floating-point numbers count.
pub(super) fn as_count(key: &str, value: &Json) -> Result<u32, ConvertError> {
    let whole = value
        .as_u64()
        .or_else(|| {
            let float = value.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0)?;
            (float < 2f64.powi(53)).then_some(float as u64)
        })
        .and_then(|n| u32::try_from(n).ok());
    whole.ok_or_else(|| bad(key, value, "a whole number of 32 bits"))
}

pub(super) fn missing(keys: &[&str]) -> ConvertError {
    ConvertError::MissingKey {
        key: keys.first().copied().unwrap_or_default().to_owned(),
    }
}

pub(super) fn bad(key: &str, value: &Json, expected: &'static str) -> ConvertError {
    let found = match value {
        Json::Null => "null".to_owned(),
        Json::Bool(b) => b.to_string(),
        Json::Number(n) => n.to_string(),
        Json::String(text) => format!("`{}`", text.chars().take(80).collect::<String>()),
        Json::Array(items) => format!("an array of {}", items.len()),
        Json::Object(_) => "an object".to_owned(),
    };
    ConvertError::BadValue {
        key: key.to_owned(),
        found,
        expected,
    }
}
