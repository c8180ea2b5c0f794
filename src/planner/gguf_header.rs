//! The metadata that a GGUF made from a checkpoint would have, and its size.

use std::path::Path;

use super::error::PlanError;
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use crate::convert::ConvertError;
use crate::gguf::{self, Value};
use crate::model::{ModelSpec, accept};
use crate::quantize::{self, Readiness};
use crate::runtime::RuntimeProfile;
use crate::scheme::{Container, Rules, Scheme};

/// The metadata of a GGUF that would be made, or why there is none. A long tokenizer is read once.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// Key-value pairs, tokenizer included, or why there are none: no GGUF can be made, or the tokenizer of a model on a
    /// server was not fetched for a plan.
    pub(super) metadata: Result<Vec<(String, Value)>, Readiness>,
    /// Bytes of the metadata; 0 where it cannot be stated.
    pub(super) metadata_bytes: u64,
    /// Why it cannot, without the path of the checkpoint's directory, so that reports do not depend on that.
    pub(super) incomplete: Option<String>,
    /// Whether a Hugging Face checkpoint has weights and no tokenizer.
    pub(super) lacks_tokenizer: bool,
    /// Whether the runtime loads a GGUF that [`quantize`] would make of the checkpoint.
    pub(super) is_made: bool,
}

impl Default for GgufHeader {
    /// Without metadata, where no file's size is asked for.
    fn default() -> GgufHeader {
        GgufHeader {
            metadata: Ok(Vec::new()),
            metadata_bytes: 0,
            incomplete: None,
            lacks_tokenizer: false,
            is_made: false,
        }
    }
}

impl GgufHeader {
    /// The header for `model`, which `checkpoint` holds, and for `runtime`.
    ///
    /// # Errors
    /// [`PlanError::Convert`] where `runtime` loads a GGUF that [`quantize`] would make of the checkpoint, and its
    /// configuration or tokenizer is wrong; [`ConvertError::Lost`] and [`ConvertError::Refused`] also where only the configuration is here.
    pub fn of(
        checkpoint: &Checkpoint,
        model: &ModelSpec,
        runtime: &RuntimeProfile,
    ) -> Result<GgufHeader, PlanError> {
        let is_directory = checkpoint.format == SourceFormat::Safetensors;
        let loads_gguf = runtime.loads.reads(Container::Gguf);
        let is_planned = loads_gguf && model.assumed.is_none();
        let is_made = is_planned && is_directory;
        let lacks_tokenizer = is_directory && !checkpoint.has_tokenizer();
        // The file type is one number whatever it is: neither a size nor a refusal depends on it.
        if is_directory && checkpoint.leaves_tokenizer() {
            return Ok(GgufHeader {
                metadata: Err(Readiness::Ready { requantizes: false }),
                incomplete: Some("its tokenizer was not fetched".to_owned()),
                is_made,
                ..GgufHeader::default()
            });
        }
        match quantize::metadata(checkpoint, model, 0) {
            Ok(metadata) => Ok(GgufHeader {
                metadata_bytes: gguf::metadata_bytes(&metadata).0,
                metadata: Ok(metadata),
                incomplete: None,
                lacks_tokenizer,
                is_made,
            }),
            Err(error) if is_made && error.blames_checkpoint() => Err(error.into()),
            Err(error @ (ConvertError::Lost { .. } | ConvertError::Refused { .. }))
                if is_planned =>
            {
                Err(error.into())
            }
            Err(error) => {
                let directory = checkpoint.directory.as_deref().unwrap_or(Path::new(""));
                Ok(GgufHeader {
                    metadata: Err(quantize::refusal(&error)),
                    metadata_bytes: 0,
                    incomplete: Some(error.within(directory).to_string()),
                    lacks_tokenizer,
                    is_made,
                })
            }
        }
    }

    /// Merges of the tokenizer, 0 of one that has none; `None` where there is no tokenizer at hand.
    pub(super) fn merges(&self) -> Option<u64> {
        let metadata = self.metadata.as_ref().ok()?;
        let value = |key: &str| metadata.iter().find(|(own, _)| own == key).map(|(_, v)| v);
        value("tokenizer.ggml.tokens")?;
        let merges = value("tokenizer.ggml.merges").and_then(Value::array_len);
        Some(merges.unwrap_or(0))
    }

    /// Holds a GGUF to what llama.cpp runs, and the weights of another `checkpoint` to what every GGUF of it needs.
    ///
    /// # Errors
    /// [`PlanError::Accept`] for a GGUF that llama.cpp loads and does not run.
    /// [`PlanError::Quantize`] where the runtime loads a GGUF that [`quantize`] would make of the checkpoint, and none
    /// can be made because its weights are wrong.
    pub fn check(&self, checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), PlanError> {
        if let RawConfig::Gguf(metadata) = &checkpoint.config {
            accept::runs(&metadata.0, &model.architecture).map_err(|source| PlanError::Accept {
                model: checkpoint.name.clone(),
                source,
            })?;
        }
        match &self.metadata {
            Ok(metadata) if self.is_made => Ok(quantize::check(checkpoint, model, metadata)?),
            _ => Ok(()),
        }
    }

    /// Whether the file of `scheme` can be made of `checkpoint`; without a scheme, whether it can be run as it is. The
    /// tensors of a GGUF are planned once: that also holds the weights to what every GGUF needs.
    ///
    /// # Errors
    /// As [`GgufHeader::check`].
    pub(super) fn readiness(
        &self,
        checkpoint: &Checkpoint,
        model: &ModelSpec,
        scheme: Option<&'static Scheme>,
        rules: Rules,
    ) -> Result<Readiness, PlanError> {
        if scheme.is_none_or(|scheme| scheme.container != Container::Gguf) {
            self.check(checkpoint, model)?;
        }
        match quantize::readiness(checkpoint, model, scheme, rules, &self.metadata) {
            Err(error) if !self.is_made => Ok(quantize::refused(&error)),
            readiness => Ok(readiness?),
        }
    }
}
