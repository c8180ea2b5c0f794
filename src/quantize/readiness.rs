//! Whether an output can be made from a checkpoint: a job is planned, and nothing is written. In: a checkpoint, its
//! model and a scheme. Out: [`Readiness`].

use super::error::QuantizeError;
use super::job::Job;
use super::packed::{Files, PackedError};
use super::planned::Options;
use super::sink::gguf;
use crate::checkpoint::Checkpoint;
use crate::convert::ConvertError;
use crate::gguf::Value;
use crate::model::ModelSpec;
use crate::scheme::{Container, Rules, SCHEMES, Scheme};

/// Whether an output can be made from a checkpoint. The texts say why not, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// It can be made.
    Ready {
        /// Whether it quantizes weights that are quantized already, which has to be allowed.
        requantizes: bool,
    },
    /// There is only the configuration or bare headers, and no weights.
    NoWeights(String),
    /// The weights are there, and the tokenizer is missing.
    NoTokenizer(String),
    /// It cannot be made here.
    Refused(String),
}

/// Whether `scheme` can be made from `checkpoint`; without a scheme, whether the checkpoint can be run as it is.
/// `metadata` is [`metadata()`](super::metadata()) of the checkpoint for any file type, passed so that a long tokenizer
/// is read only once.
///
/// # Errors
/// [`QuantizeError`], where a GGUF is to be made and the checkpoint is wrong: no other would be made of it either, as
/// [`check`] says.
pub fn readiness(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    scheme: Option<&'static Scheme>,
    rules: Rules,
    metadata: &Result<Vec<(String, Value)>, Readiness>,
) -> Result<Readiness, QuantizeError> {
    if checkpoint.tensors.is_empty() {
        let name = checkpoint.name.clone();
        let why = QuantizeError::NoWeights { name }.to_string();
        return Ok(Readiness::NoWeights(why));
    }
    let files = match Files::open(checkpoint) {
        Ok(files) => files,
        Err(PackedError::HeaderOnly { .. }) => {
            let why = "this is only the header of the weights; download the whole file";
            return Ok(Readiness::NoWeights(why.to_owned()));
        }
        Err(error) => return Ok(Readiness::Refused(error.to_string())),
    };
    let ready = Readiness::Ready { requantizes: false };
    let Some(scheme) = scheme else {
        return Ok(ready);
    };
    if scheme.container == Container::Safetensors {
        let job = Job::new(checkpoint, &files, model, &Options::of(scheme));
        return Ok(job.map_or_else(|error| refused(&error), |_| ready));
    }
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(refusal) => return Ok(refusal.clone()),
    };
    let job = |allow_requantize| {
        let options = Options {
            rules,
            importance_follows: scheme.needs_importance(),
            allow_requantize,
            ..Options::of(scheme)
        };
        gguf::tensors(checkpoint, &files, model, &options, metadata).map(drop)
    };
    let (planned, requantizes) = match job(false) {
        Err(QuantizeError::Requantize { .. }) => (job(true), true),
        planned => (planned, false),
    };
    match planned {
        Ok(()) => Ok(Readiness::Ready { requantizes }),
        Err(error) if error.blames_checkpoint() => Err(error),
        Err(error) => Ok(refused(&error)),
    }
}

/// Checks `checkpoint`, whose metadata as a GGUF is `metadata`, for errors that every scheme would fail with.
///
/// # Errors
/// [`QuantizeError`] if the checkpoint itself is wrong. A checkpoint that this program just does not read or convert is
/// no error.
pub fn check(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    metadata: &[(String, Value)],
) -> Result<(), QuantizeError> {
    let whole = SCHEMES.iter().find(|scheme| scheme.id == "f16");
    let (Some(scheme), Ok(files)) = (whole, Files::open(checkpoint)) else {
        return Ok(());
    };
    let options = Options {
        allow_requantize: true,
        ..Options::of(scheme)
    };
    match gguf::tensors(checkpoint, &files, model, &options, metadata) {
        Err(error) if error.blames_checkpoint() => Err(error),
        _ => Ok(()),
    }
}

/// The readiness for any GGUF of a checkpoint whose metadata cannot be made.
pub fn refusal(error: &ConvertError) -> Readiness {
    let why = error.to_string();
    match error {
        ConvertError::NoTokenizer { .. } | ConvertError::NoVocabulary { .. } => {
            Readiness::NoTokenizer(why)
        }
        _ => Readiness::Refused(why),
    }
}

/// What stands between a checkpoint and the file that cannot be made for `error`.
pub fn refused(error: &QuantizeError) -> Readiness {
    match error {
        QuantizeError::Convert(error) => refusal(error),
        _ => Readiness::Refused(error.to_string()),
    }
}
