//! Whether a file can be made of a checkpoint as it lies there: what making it would say, with nothing
//! written. In: a checkpoint, its model and a scheme. Out: [`Readiness`].

use super::error::QuantizeError;
use super::job::Job;
use super::packed::{Files, PackedError};
use super::planned::Options;
use crate::checkpoint::Checkpoint;
use crate::convert::ConvertError;
use crate::model::ModelSpec;
use crate::scheme::{Rules, Scheme};

/// What stands between a checkpoint and the file to run. The texts say why, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing.
    Ready {
        /// It quantizes what is quantized already, which has to be allowed.
        requantizes: bool,
    },
    /// The weights are not there, only what describes them.
    NoWeights(String),
    /// The weights are there and the tokenizer is not.
    NoTokenizer(String),
    /// It cannot be made here.
    Refused(String),
}

/// What stands between `checkpoint` and `scheme`; without a scheme, and running it as it is.
pub fn readiness(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    scheme: Option<&'static Scheme>,
    rules: Rules,
) -> Readiness {
    if checkpoint.tensors.is_empty() {
        let name = checkpoint.name.clone();
        return Readiness::NoWeights(QuantizeError::NoWeights { name }.to_string());
    }
    let files = match Files::open(checkpoint) {
        Ok(files) => files,
        Err(PackedError::HeaderOnly { .. }) => {
            let why = "only the header of the weights is here; download the whole file";
            return Readiness::NoWeights(why.to_owned());
        }
        Err(error) => return Readiness::Refused(error.to_string()),
    };
    let ready = Readiness::Ready { requantizes: false };
    let Some(scheme) = scheme else {
        return ready;
    };
    let job = |allow_requantize| {
        let options = Options {
            rules,
            allow_requantize,
            ..Options::of(scheme)
        };
        Job::new(checkpoint, &files, model, &options).map(|_| ())
    };
    match job(false) {
        Ok(()) => ready,
        Err(QuantizeError::Requantize { .. }) => match job(true) {
            Ok(()) => Readiness::Ready { requantizes: true },
            Err(error) => refused(&error),
        },
        Err(error) => refused(&error),
    }
}

fn refused(error: &QuantizeError) -> Readiness {
    let why = error.to_string();
    match error {
        QuantizeError::Convert(ConvertError::NoTokenizer { .. }) => Readiness::NoTokenizer(why),
        _ => Readiness::Refused(why),
    }
}
