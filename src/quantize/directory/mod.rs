//! A Hugging Face directory in, one for vLLM and Transformers out: compressed-tensors weights, their
//! configuration, and every other file as it is.
//!
//! [`predict`] says from headers alone what will be written, to the byte; [`write_safetensors`]
//! writes it. The files depend on the checkpoint and the scheme alone, not on the number of threads.
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

pub use error::{DirectoryError, Note};
pub use layout::{Prediction, SHARD_BYTES, Shard, predict, predict_shards};

use super::packed::Files;
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::scheme::{Container, Reason, Scheme};
use crate::units::Bytes;

/// How to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// Replace a model directory that is there already.
    pub overwrite: bool,
    /// How many threads encode; at least one does.
    pub threads: usize,
    /// The most bytes of tensors in one file, if one tensor has no more ([`SHARD_BYTES`]).
    pub shard_bytes: u64,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Bytes of tensors written.
    pub written: Bytes,
    /// Bytes of tensors in all.
    pub total: Bytes,
}

/// A weight as it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
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
    /// Root mean square of what quantization changed, relative to that of the weights; `None`
    /// for a weight that was not quantized.
    pub error: Option<f64>,
    /// NaN and infinities that became 0 in quantized weights.
    pub not_finite: u64,
    /// Rows of nothing but zeros in quantized weights.
    pub zero_rows: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Every weight, in the order of the checkpoint.
    pub weights: Vec<Written>,
    /// The weight files by name, with their sizes.
    pub files: Vec<(String, Bytes)>,
    /// Names of the files that were carried over.
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

/// Writes `model`, read from `checkpoint`, in `scheme` to the directory `output`.
///
/// It is made beside `output` under the name `NAME.orinplan-partial` and renamed when all of it is on
/// the disk. On an error, or once `cancel` is true, that is removed; one that stays behind when
/// the process is killed is removed by the next run.
///
/// # Errors
/// [`DirectoryError`]: a checkpoint or scheme of the other kind, a target that is there (or is no
/// model's directory, or holds the input), weights that cannot be read, a disk that is full.
pub fn write_safetensors(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    scheme: &Scheme,
    output: &Path,
    options: &Options,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Summary, DirectoryError> {
    let (RawConfig::HuggingFace(config), SourceFormat::Safetensors) =
        (&checkpoint.config, checkpoint.format)
    else {
        let name = checkpoint.name.clone();
        return Err(DirectoryError::NoWeights { name });
    };
    if scheme.container != Container::Safetensors {
        return Err(DirectoryError::OtherContainer { scheme: scheme.id });
    }
    let plan = predict_shards(model, scheme, options.shard_bytes);
    plan.check(model, scheme)?;
    let files = Files::open(checkpoint)?;
    let sources = encode::open(checkpoint, &files, model, &plan)?;

    let partial = target::Partial::create(output, checkpoint, options.overwrite)?;
    let tallies = encode::run(
        &sources,
        &plan,
        partial.path(),
        options.threads,
        cancel,
        progress,
    )?;
    let ignore = config::ignored(model, &plan);
    partial.write("config.json", &config::json(config, scheme, &ignore))?;
    if let Some(index) = plan.index() {
        partial.write("model.safetensors.index.json", &index)?;
    }
    let carried = carry::over(checkpoint, partial.path())?;
    let weights: Vec<Written> = tallies
        .into_iter()
        .zip(model.stored.iter().zip(&plan.weights))
        .map(|(tally, (logical, weight))| tally.written(logical, weight))
        .collect();
    partial.commit()?;
    Ok(Summary {
        notes: error::notes(model, scheme, &plan, &weights),
        files: plan
            .shards
            .iter()
            .map(|s| (s.name.clone(), s.bytes))
            .collect(),
        weights,
        carried,
    })
}
