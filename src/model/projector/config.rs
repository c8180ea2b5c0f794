//! The values of a `config.json` and of the processor's files beside it that describe a projector.

use serde_json::Value as Json;

use super::ProjectorError;
use crate::model::hparams::{encoder_part, text_config};

/// No dimension of a published encoder is near it, and products of a few stay far below 2^64.
const LIMIT: u64 = 1 << 16;

/// The configuration of a projector.
#[derive(Debug)]
pub struct ProjectorConfig<'a> {
    /// `config.json`.
    pub whole: &'a Json,
    /// Its `vision_config`.
    pub vision: &'a Json,
    /// Its `audio_config`, if it has one.
    pub audio: Option<&'a Json>,
    /// `preprocessor_config.json` and `processor_config.json` in one; null without them.
    pub processor: Json,
}

impl<'a> ProjectorConfig<'a> {
    /// The configuration of the projector of a `config.json`.
    ///
    /// # Errors
    /// [`ProjectorError::NoVision`] without a vision part.
    pub fn new(whole: &'a Json, processor: Json) -> Result<ProjectorConfig<'a>, ProjectorError> {
        let vision = encoder_part(whole, "vision_config").filter(|part| part.is_object());
        let vision = vision.ok_or(ProjectorError::NoVision)?;
        let has_keys = |part: &&Json| part.as_object().is_some_and(|keys| !keys.is_empty());
        Ok(ProjectorConfig {
            whole,
            vision,
            audio: encoder_part(whole, "audio_config").filter(has_keys),
            processor,
        })
    }

    /// What the configuration says that the model is.
    pub(super) fn model_type(&self) -> &str {
        let name = self.whole.get("model_type").and_then(Json::as_str);
        name.unwrap_or_default()
    }

    /// The first of `keys` that the vision part states, else `or`.
    pub(super) fn count(&self, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
        count(self.vision, keys, or)
    }

    /// The same of the audio part.
    pub(super) fn audio_count(&self, key: &'static str, or: u64) -> Result<u64, ProjectorError> {
        count(self.audio.unwrap_or(&Json::Null), &[key], or)
    }

    /// The same of the whole configuration.
    pub(super) fn whole_count(
        &self,
        keys: &[&'static str],
        or: u64,
    ) -> Result<u64, ProjectorError> {
        count(self.whole, keys, or)
    }

    /// The width of the text model.
    pub(super) fn text_width(&self) -> Result<u64, ProjectorError> {
        count(text_config(self.whole), &["hidden_size"], 0)
            .or_else(|_| self.whole_count(&["hidden_size"], 0))
    }

    /// The first of `keys` in `part` as the number that is written.
    pub fn number(&self, part: &Json, key: &str, or: f64) -> f32 {
        part.get(key).and_then(Json::as_f64).unwrap_or(or) as f32
    }

    /// A list of three numbers of the processor.
    pub fn colours(&self, key: &'static str) -> Option<Vec<f32>> {
        let list = self.processor.get(key)?.as_array()?;
        let numbers: Vec<f32> = list
            .iter()
            .filter_map(Json::as_f64)
            .map(|n| n as f32)
            .collect();
        (numbers.len() == list.len() && numbers.len() >= 3).then_some(numbers)
    }
}

fn count(part: &Json, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
    let key = keys.first().copied().unwrap_or_default();
    let stated = keys
        .iter()
        .find_map(|key| part.get(*key).filter(|v| !v.is_null()));
    // Some configurations give a height and a width.
    let value = match stated {
        Some(Json::Array(sides)) => sides.first(),
        other => other,
    };
    let value = match value {
        None => or,
        Some(value) => value.as_u64().ok_or(ProjectorError::Value {
            key,
            problem: "is not a whole number",
        })?,
    };
    match value {
        0 => Err(ProjectorError::Value {
            key,
            problem: "is missing or zero",
        }),
        value if value > LIMIT => Err(ProjectorError::Value {
            key,
            problem: "is larger than any model has",
        }),
        value => Ok(value),
    }
}
