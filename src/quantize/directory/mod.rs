//! A Hugging Face directory in, one for vLLM and Transformers out: compressed-tensors weights, their
//! configuration, and every other file as it is.
//!
//! [`predict`] says from headers alone what will be written, to the byte; a [`Job`] has also looked at
//! the checkpoint's files, and [`write()`] writes it. The files depend on the checkpoint and the scheme alone, not on the number of threads.
//! One block of rows a thread is in memory. Must not: change or need more than the checkpoint's
//! own directory and the target's parent.

mod carry;
mod config;
mod encode;
mod error;
mod layout;
mod target;

use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use error::DirectoryError;
pub use layout::{Prediction, SHARD_BYTES, Shard, predict, predict_shards};

use super::packed::Files;
use super::{Note, OutputError, Progress, Tally};
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use crate::dtype::Dtype;
use crate::inputs::Inputs;
use crate::model::{FoldedWeight, ModelSpec};
use crate::scheme::{Container, Reason, Scheme, StoredWeight};
use crate::units::Bytes;

/// A weight as it is or would be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Its name in the unquantized checkpoint.
    pub name: String,
    /// Outermost first.
    pub shape: Vec<u64>,
    /// The type it was given.
    pub dtype: Dtype,
    /// Every byte of it, scales included.
    pub bytes: Bytes,
    /// Why it has this type.
    pub reason: Reason,
    /// What was met on the way; of a weight that was copied nothing, since its values were not
    /// looked at. `None` before it is written.
    pub tally: Option<Tally>,
}

/// What is or would be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Every weight, in the order of the checkpoint.
    pub weights: Vec<Weight>,
    /// The weight files by name, with their sizes.
    pub files: Vec<(String, Bytes)>,
    /// Names of the files that are carried over.
    pub carried: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<Note>,
}

impl Summary {
    /// The sum of the weight files.
    pub fn file_bytes(&self) -> Bytes {
        self.files.iter().map(|(_, bytes)| *bytes).sum()
    }
}

/// A directory that is to be made: everything about it but the values of weights.
#[derive(Debug)]
pub struct Job<'a> {
    checkpoint: &'a Checkpoint,
    model: &'a ModelSpec,
    scheme: &'a Scheme,
    plan: Prediction,
    carried: Vec<carry::Carried>,
    /// The small files that are written anew.
    texts: Vec<(&'static str, String)>,
}

impl<'a> Job<'a> {
    /// `model`, read from `checkpoint`, in `scheme`, in files of at most `shard_bytes`
    /// ([`SHARD_BYTES`]).
    ///
    /// # Errors
    /// [`DirectoryError`]: a checkpoint or scheme of the other kind, weights that are not all there,
    /// names or layouts that the format has no place for.
    pub fn new(
        checkpoint: &'a Checkpoint,
        model: &'a ModelSpec,
        scheme: &'a Scheme,
        shard_bytes: u64,
    ) -> Result<Job<'a>, DirectoryError> {
        let (RawConfig::HuggingFace(config), SourceFormat::Safetensors) =
            (&checkpoint.config, checkpoint.format)
        else {
            let name = checkpoint.name.clone();
            return Err(DirectoryError::NoWeights { name });
        };
        if scheme.container != Container::Safetensors {
            return Err(DirectoryError::OtherContainer { scheme: scheme.id });
        }
        let plan = predict_shards(model, scheme, shard_bytes);
        plan.check(model, scheme)?;
        let files = Files::open(checkpoint)?;
        encode::open(checkpoint, &files, model, &plan)?;
        let ignore = config::ignored(model, &plan);
        let mut texts = vec![("config.json", config::json(config, model, scheme, &ignore))];
        texts.extend(
            plan.index()
                .map(|text| ("model.safetensors.index.json", text)),
        );
        Ok(Job {
            checkpoint,
            model,
            scheme,
            carried: carry::list(checkpoint)?,
            texts,
            plan,
        })
    }

    /// The sum of the tensors.
    pub fn tensor_bytes(&self) -> Bytes {
        self.plan.tensor_bytes()
    }

    /// How many weights there are.
    pub fn weights(&self) -> usize {
        self.plan.weights.len()
    }

    /// Every byte of every file.
    fn bytes(&self) -> Bytes {
        let texts = self.texts.iter().map(|(_, text)| Bytes(text.len() as u64));
        let carried = self.carried.iter().map(|file| file.bytes);
        self.plan.file_bytes() + texts.chain(carried).sum()
    }

    /// Whether a directory of this kind may hold a file or folder of this name.
    fn may_hold(&self, name: &str) -> bool {
        let top = |path: &str| path.split('/').next() == Some(name);
        let weights = name.starts_with("model") && name.ends_with(".safetensors");
        let texts = ["config.json", "model.safetensors.index.json"].contains(&name);
        weights || texts || self.carried.iter().any(|file| top(&file.name))
    }

    /// What [`write()`] would write.
    pub fn planned(&self) -> Summary {
        self.summary(&[])
    }

    fn notes(&self, weights: &[Weight]) -> Vec<Note> {
        let mut notes = error::notes(self.model, self.scheme, &self.plan, weights);
        notes.extend((!self.checkpoint.has_tokenizer()).then_some(Note::NoTokenizer));
        notes
    }

    fn summary(&self, tallies: &[Tally]) -> Summary {
        let weights = self.model.stored.iter().zip(&self.plan.weights);
        let weight =
            |(index, (logical, planned)): (usize, (&FoldedWeight, &StoredWeight))| Weight {
                name: logical.name.clone(),
                shape: planned.shape.clone(),
                dtype: planned.assigned.dtype,
                bytes: planned.assigned.bytes,
                reason: planned.assigned.reason,
                tally: tallies.get(index).copied(),
            };
        let weights: Vec<Weight> = weights.enumerate().map(weight).collect();
        let shards = self.plan.shards.iter();
        Summary {
            notes: self.notes(&weights),
            files: shards.map(|s| (s.name.clone(), s.bytes)).collect(),
            weights,
            carried: self.carried.iter().map(|file| file.name.clone()).collect(),
        }
    }
}

/// Writes the directory of `job` to `output`.
///
/// It is made beside `output` under the name `NAME.orinplan-partial` and renamed when all of it is on
/// the disk. On an error, or once `cancel` is true, that is removed; one that stays behind when
/// the process is killed is removed by the next run. `overwrite` lets it replace a model's directory
/// that is there already; `inputs` must not change meanwhile; at least one thread encodes.
///
/// # Errors
/// [`DirectoryError`]: a target that is there (or is no model's directory, or holds the input), a
/// disk that is full, weights that cannot be read, or `cancel`.
pub fn write(
    job: &Job<'_>,
    output: &Path,
    overwrite: bool,
    inputs: &Inputs,
    threads: usize,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Summary, DirectoryError> {
    let files = Files::open(job.checkpoint)?;
    let sources = encode::open(job.checkpoint, &files, job.model, &job.plan)?;
    let partial = target::Partial::create(output, job, overwrite)?;
    let tallies = encode::run(
        &sources,
        &job.plan,
        partial.path(),
        threads,
        cancel,
        progress,
    )?;
    for (name, text) in &job.texts {
        partial.write(name, text)?;
    }
    carry::over(&job.carried, partial.path())?;
    inputs.check().map_err(OutputError::from)?;
    partial.commit()?;
    Ok(job.summary(&tallies))
}
