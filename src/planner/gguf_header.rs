//! What a GGUF made from a checkpoint would have before its tensors.

use std::path::Path;

use super::error::PlanError;
use crate::checkpoint::{Checkpoint, SourceFormat};
use crate::gguf::{self, Value};
use crate::model::ModelSpec;
use crate::quantize::{self, Readiness};
use crate::runtime::RuntimeProfile;

/// The metadata of a GGUF that would be made, or why there is none. A long tokenizer is read once.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// Key-value pairs, tokenizer included, or what stands between the checkpoint and any GGUF.
    pub(super) metadata: Result<Vec<(String, Value)>, Readiness>,
    /// Bytes of the metadata; 0 where it cannot be stated.
    pub(super) metadata_bytes: u64,
    /// Why it cannot, without the checkpoint's directory: the same model gives the same report wherever it lies.
    pub(super) incomplete: Option<String>,
    /// Whether weights of a Hugging Face checkpoint lie there without a tokenizer.
    pub(super) lacks_tokenizer: bool,
}

impl Default for GgufHeader {
    /// Of no metadata, where no file's size is asked for.
    fn default() -> GgufHeader {
        GgufHeader {
            metadata: Ok(Vec::new()),
            metadata_bytes: 0,
            incomplete: None,
            lacks_tokenizer: false,
        }
    }
}

impl GgufHeader {
    /// Of `model`, which `checkpoint` holds, for `runtime`.
    ///
    /// # Errors
    /// [`PlanError::Convert`] and [`PlanError::Quantize`] where `runtime` loads a GGUF that
    /// [`quantize`] makes, and none would be made of the checkpoint because that is wrong.
    pub fn of(
        checkpoint: &Checkpoint,
        model: &ModelSpec,
        runtime: &RuntimeProfile,
    ) -> Result<GgufHeader, PlanError> {
        let is_directory = checkpoint.format == SourceFormat::Safetensors;
        let loads_gguf = runtime.loads.files.iter().any(|file| file == "gguf");
        let is_made = loads_gguf && is_directory && model.assumed.is_none();
        let lacks_tokenizer = is_directory && !checkpoint.has_tokenizer();
        // The file type is one number whatever it is: neither a size nor a refusal depends on it.
        match quantize::metadata(checkpoint, model, 0) {
            Ok(metadata) => {
                if is_made {
                    quantize::check(checkpoint, model, &metadata)?;
                }
                Ok(GgufHeader {
                    metadata_bytes: gguf::metadata_bytes(&metadata).0,
                    metadata: Ok(metadata),
                    incomplete: None,
                    lacks_tokenizer,
                })
            }
            Err(error) if is_made && error.blames_checkpoint() => Err(error.into()),
            Err(error) => {
                let directory = checkpoint.directory.as_deref().unwrap_or(Path::new(""));
                Ok(GgufHeader {
                    metadata: Err(quantize::refusal(&error)),
                    metadata_bytes: 0,
                    incomplete: Some(error.within(directory).to_string()),
                    lacks_tokenizer,
                })
            }
        }
    }
}
