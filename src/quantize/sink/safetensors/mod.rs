//! The safetensors sink: a directory for vLLM and Transformers with compressed-tensors weights, their
//! configuration, and copies of the checkpoint's other files.
//!
//! [`predict`] computes from headers alone the exact size of what will be written. Must not: access directories other
//! than that of the checkpoint and the parent of the target.

mod carry;
mod config;
mod layout;
mod stacks;
mod target;

use std::fs::File;

use serde_json::Value as Json;

use super::{Sink, WeightFile, WeightFiles};
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use crate::model::ModelSpec;
use crate::note::Note;
use crate::quantize::destination::OutputError;
use crate::quantize::error::QuantizeError;
use crate::quantize::packed::Files;
use crate::quantize::partial::{OutputForm, Partial};
use crate::quantize::planned::{Options, PlannedTensor, Values};
use crate::quantize::source::Sources;
use crate::scheme::{Reason, Scheme, StoredWeight};
use crate::units::Bytes;
use stacks::Stacks;

pub use layout::{Prediction, Shard, predict, predict_shards};

const CONFIG: &str = "config.json";
const INDEX: &str = "model.safetensors.index.json";

/// The output directory of one model.
#[derive(Debug)]
pub(crate) struct Directory<'a> {
    checkpoint: &'a Checkpoint,
    prediction: Prediction,
    carried: Vec<carry::Carried>,
    /// The small files that are written, by name.
    texts: Vec<(&'static str, String)>,
}

/// Plans the directory of `options` for `model`, which was read from `checkpoint` with the open `files`.
///
/// # Errors
/// [`QuantizeError`]: a checkpoint that is not from Hugging Face, weights that are missing, names or layouts that
/// the format does not have.
pub(crate) fn plan<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    options: &Options<'a>,
) -> Result<(Directory<'a>, Vec<PlannedTensor<'a>>, Vec<Note>), QuantizeError> {
    let config = config(checkpoint)?;
    let scheme = options.scheme;
    let prediction = predict_shards(model, scheme, options.shard_bytes);
    prediction.check(model, scheme)?;
    let sources = Sources::new(checkpoint, files, model);
    let mut stacks = Stacks::new(checkpoint, model, &sources);
    let planned = |weight: &StoredWeight| {
        let stored = &model.stored[weight.source];
        let member = weight.member.and_then(|number| stored.members.get(number));
        let copied = sources.stored(stored).filter(|_| weight.verbatim);
        Ok(PlannedTensor {
            name: weight.name(model),
            shape: weight.shape.clone(),
            assigned: weight.assigned,
            importance: None,
            groups: scheme.groups,
            values: match (member, copied) {
                (Some(member), _) => stacks.values(stored, member)?,
                (None, Some(stored)) => Values::Copied(files, stored),
                (None, None) => Values::Rows(Box::new(sources.weight(stored, &weight.shape)?)),
            },
        })
    };
    let weights = prediction.weights.iter();
    let tensors = weights.map(planned).collect::<Result<_, QuantizeError>>()?;
    let ignored = config::ignored(model, &prediction);
    let mut texts = vec![(CONFIG, config::json(config, model, scheme, &ignored))];
    texts.extend(prediction.index().map(|text| (INDEX, text)));
    let mut notes = notes(model, scheme, &prediction);
    notes.extend((!checkpoint.has_tokenizer()).then_some(Note::NoTokenizer));
    notes.extend(Note::of_unread(&checkpoint.unread));
    let directory = Directory {
        checkpoint,
        carried: carry::list(checkpoint)?,
        texts,
        prediction,
    };
    Ok((directory, tensors, notes))
}

/// The `config.json` of a checkpoint, which must be a Hugging Face directory with weights.
pub(crate) fn config(checkpoint: &Checkpoint) -> Result<&Json, QuantizeError> {
    match (&checkpoint.config, checkpoint.format) {
        (RawConfig::HuggingFace(config), SourceFormat::Safetensors) => Ok(config),
        _ => Err(QuantizeError::NoSafetensors {
            name: checkpoint.name.clone(),
        }),
    }
}

/// Caveats that are known before a weight is read.
fn notes(model: &ModelSpec, scheme: &Scheme, prediction: &Prediction) -> Vec<Note> {
    let mut notes = Vec::new();
    let now = model.prequantized.clone();
    notes.extend(now.map(|now| Note::DoubleQuantization { now }));
    let fell =
        |weight: &&StoredWeight| matches!(weight.assigned.reason, Reason::ShapeFallback { .. });
    let fell = prediction.weights.iter().filter(fell);
    let tensors: Vec<String> = fell.map(|weight| weight.name(model).to_owned()).collect();
    if !tensors.is_empty() {
        let (group, words) = match scheme.groups {
            Some(groups) => (groups.size, groups.zeros),
            None => (scheme.base.format().block_elements, false),
        };
        notes.push(Note::KeptShape {
            tensors,
            group,
            words,
        });
    }
    let kept = |weight: &&StoredWeight| weight.stacked && weight.assigned.reason == Reason::Kept;
    let stacked = prediction.weights.iter().filter(kept);
    match stacked.count() {
        0 => {}
        tensors => notes.push(Note::KeptStacks { tensors }),
    }
    notes
}

impl Directory<'_> {
    /// Whether a directory of this kind may contain a file or folder of this name.
    fn may_hold(&self, name: &str) -> bool {
        let top = |path: &str| path.split('/').next() == Some(name);
        let weights = name.starts_with("model") && name.ends_with(".safetensors");
        let texts = [CONFIG, INDEX].contains(&name);
        weights || texts || self.carried.iter().any(|file| top(&file.name))
    }
}

impl Sink for Directory<'_> {
    fn weight_bytes(&self) -> Bytes {
        self.prediction.file_bytes()
    }

    fn bytes(&self) -> Bytes {
        let texts = self.texts.iter().map(|(_, text)| Bytes(text.len() as u64));
        let carried = self.carried.iter().map(|file| file.bytes);
        self.weight_bytes() + texts.chain(carried).sum()
    }

    fn form(&self) -> OutputForm<'_> {
        OutputForm::Directory(Box::new(|destination| {
            target::check(destination, self.checkpoint, |name| self.may_hold(name))
        }))
    }

    fn begin(
        &self,
        _: &[PlannedTensor<'_>],
        output: &Partial<'_>,
    ) -> Result<WeightFiles, QuantizeError> {
        let mut files = Vec::with_capacity(self.prediction.shards.len());
        for shard in &self.prediction.shards {
            let path = output.path().join(&shard.name);
            let file = File::create(&path).map_err(|e| OutputError::io(&path, e))?;
            let bytes = shard.bytes;
            files.push(WeightFile { path, file, bytes });
        }
        let places = self.prediction.places.clone();
        let weights = WeightFiles { files, places };
        for (number, shard) in self.prediction.shards.iter().enumerate() {
            weights.write_at(number, 0, &shard.header)?;
        }
        Ok(weights)
    }

    fn finish(&self, output: &Partial<'_>) -> Result<(), OutputError> {
        for (name, text) in &self.texts {
            output.write(name, text)?;
        }
        carry::over(&self.carried, output.path())
    }
}
