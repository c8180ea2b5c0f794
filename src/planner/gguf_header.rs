//! How large the metadata of a GGUF is that would be made from a checkpoint.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::gguf;
use crate::model::ModelSpec;
use crate::quantize;

/// What a GGUF made from the checkpoint would have before its tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufHeader {
    /// Bytes of the metadata, tokenizer included.
    pub metadata_bytes: u64,
    /// Why that is not all of it, if it is not.
    pub incomplete: Option<String>,
}

impl GgufHeader {
    /// Of `model`, which `checkpoint` holds.
    pub fn of(checkpoint: &Checkpoint, model: &ModelSpec) -> GgufHeader {
        // The file type is one number whatever it is, so the size does not depend on it.
        match quantize::metadata(checkpoint, model, 0) {
            Ok(metadata) => GgufHeader {
                metadata_bytes: gguf::metadata_bytes(&metadata).0,
                incomplete: None,
            },
            Err(error) => {
                // The same model gives the same report wherever it lies.
                let directory = checkpoint.directory.as_deref().unwrap_or(Path::new(""));
                GgufHeader {
                    metadata_bytes: 0,
                    incomplete: Some(error.within(directory).to_string()),
                }
            }
        }
    }
}
