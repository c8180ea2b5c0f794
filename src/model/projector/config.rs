//! The values of a `config.json` and of the processor's files beside it that describe a projector.

use std::fmt;

use serde_json::Value as Json;

use super::ProjectorError;
use crate::model::hparams::{encoder_part, text_config};

/// No dimension of a published encoder is near it, and products of a few stay far below 2^64.
const LIMIT: u64 = 1 << 16;

/// Where a value is stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// At the top level of `config.json`.
    Whole,
    /// In the description of the text model.
    Text,
    /// In that of the image encoder.
    Vision,
    /// In that of the audio encoder.
    Audio,
    /// In the processor's own files.
    Processor,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Whole | Part::Processor => "",
            Part::Text => " of the text part",
            Part::Vision => " of the vision part",
            Part::Audio => " of the audio part",
        })
    }
}

impl Part {
    /// The file that it is in.
    pub(super) fn file(self) -> &'static str {
        match self {
            Part::Processor => "preprocessor_config.json",
            _ => "config.json",
        }
    }

    /// The error for a value of this part.
    pub(super) fn wrong<T>(
        self,
        key: &'static str,
        problem: &'static str,
    ) -> Result<T, ProjectorError> {
        let part = self;
        Err(ProjectorError::Value { part, key, problem })
    }
}

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
        count(self.vision, Part::Vision, keys, or)
    }

    /// The same of the audio part.
    pub(super) fn audio_count(&self, key: &'static str, or: u64) -> Result<u64, ProjectorError> {
        count(self.audio.unwrap_or(&Json::Null), Part::Audio, &[key], or)
    }

    /// The same of the whole configuration.
    pub(super) fn whole_count(
        &self,
        keys: &[&'static str],
        or: u64,
    ) -> Result<u64, ProjectorError> {
        count(self.whole, Part::Whole, keys, or)
    }

    /// The side of a square that the vision part states, which some configurations give as a height and a width.
    pub(super) fn side(&self, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
        side(self.vision, Part::Vision, keys, or)
    }

    /// The same of the whole configuration.
    pub(super) fn whole_side(&self, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
        side(self.whole, Part::Whole, keys, or)
    }

    /// How many patches of a side a pixel shuffle merges: one over the ratio that `part` states, a half if it states none.
    pub(super) fn shuffled(&self, part: Part, key: &'static str) -> Result<u64, ProjectorError> {
        let of = if part == Part::Vision {
            self.vision
        } else {
            self.whole
        };
        let ratio = stated(of, &[key]).map_or(Some(0.5), Json::as_f64);
        let merged = ratio.map(|ratio| 1.0 / ratio);
        let merged = merged.filter(|n| n.fract() == 0.0 && (1.0..=64.0).contains(n));
        merged.map_or_else(
            || part.wrong(key, "is not one over a whole number"),
            |merged| Ok(merged as u64),
        )
    }

    /// The width of the text model.
    pub(super) fn text_width(&self) -> Result<u64, ProjectorError> {
        count(text_config(self.whole), Part::Text, &["hidden_size"], 0)
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

fn stated<'j>(of: &'j Json, keys: &[&'static str]) -> Option<&'j Json> {
    keys.iter()
        .find_map(|key| of.get(*key).filter(|v| !v.is_null()))
}

fn count(of: &Json, part: Part, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
    checked(stated(of, keys), part, keys, or)
}

fn side(of: &Json, part: Part, keys: &[&'static str], or: u64) -> Result<u64, ProjectorError> {
    let value = stated(of, keys);
    let Some(Json::Array(sides)) = value else {
        return checked(value, part, keys, or);
    };
    match sides.as_slice() {
        [height, width] if height == width => checked(Some(height), part, keys, or),
        _ => {
            let key = keys.first().copied().unwrap_or_default();
            part.wrong(key, "is not the side of a square")
        }
    }
}

fn checked(
    value: Option<&Json>,
    part: Part,
    keys: &[&'static str],
    or: u64,
) -> Result<u64, ProjectorError> {
    let key = keys.first().copied().unwrap_or_default();
    match value.map_or(Some(or), Json::as_u64) {
        None => part.wrong(key, "is not a whole number"),
        Some(0) => part.wrong(key, "is missing or zero"),
        Some(value) if value > LIMIT => part.wrong(key, "is larger than any model has"),
        Some(value) => Ok(value),
    }
}
