//! A checkpoint on disk, located but never loaded: which tensors, of which type and shape, at
//! which offset of which file, and the raw configuration beside them.
//!
//! In: a path, a hub id or an Ollama tag. Out: a [`Checkpoint`]. Must not: read weights, know an
//! architecture, or allocate more than a file's size justifies.
#![warn(clippy::indexing_slicing)]

mod error;
mod gguf_files;
mod hugging_face;
mod index;
mod json;
mod kind;
mod open;
mod python_json;
mod same;
mod shards;
mod stores;

use std::collections::HashMap;
use std::path::PathBuf;

pub use error::CheckpointError;
pub use kind::Kind;
pub use open::{open, open_any, open_in};
pub use stores::Stores;

use crate::dtype::Dtype;
use crate::gguf::Metadata;
use crate::units::Bytes;

/// Where a checkpoint came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// Hugging Face safetensors, one file or shards.
    Safetensors,
    /// GGUF, one file or split.
    Gguf,
    /// A `config.json` without weights.
    Config,
}

/// How a model was named by whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A path, as it was given.
    Path(String),
    /// A hub id, whose snapshot is in the Hugging Face cache.
    Hub(String),
    /// An Ollama tag.
    Ollama(String),
}

impl Origin {
    /// What was given.
    pub fn text(&self) -> &str {
        let (Origin::Path(text) | Origin::Hub(text) | Origin::Ollama(text)) = self;
        text
    }
}

impl Default for Origin {
    fn default() -> Origin {
        Origin::Path(String::new())
    }
}

/// The configuration as it stands in the files.
#[derive(Clone, Debug)]
pub enum RawConfig {
    /// `config.json` (an object), or an empty object for a lone `.safetensors` file.
    HuggingFace(serde_json::Value),
    /// GGUF key-value metadata.
    Gguf(Metadata),
}

/// One tensor where it lies.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: String,
    /// The element format in the file.
    pub dtype: Dtype,
    /// Outermost dimension first, rows last (GGUF's `ne` reversed).
    pub shape: Vec<u64>,
    /// Index into [`Checkpoint::files`].
    pub file: usize,
    /// Byte offset from the start of that file.
    pub offset: u64,
    /// Exact size; `offset + bytes` lies within the file.
    pub bytes: Bytes,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckpointFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: Bytes,
}

/// A checkpoint, located.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The last component of the path, or the id that was given; never an absolute path.
    pub name: String,
    /// What it was asked for by. Saved predictions leave it out: the same model gives the same ones
    /// wherever it lies.
    pub origin: Origin,
    /// What kind of files these are.
    pub format: SourceFormat,
    /// The raw configuration. A long array of GGUF metadata lies in `files[0]`.
    pub config: RawConfig,
    /// The weight files, in shard order.
    pub files: Vec<CheckpointFile>,
    /// Every tensor, in file order; empty for [`SourceFormat::Config`].
    pub tensors: Vec<StoredTensor>,
    /// The directory with the tokenizer and its companions, if there is one.
    pub directory: Option<PathBuf>,
}

/// Files that hold a tokenizer, one of which every runtime of Hugging Face directories needs.
const TOKENIZERS: &[&str] = &[
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
    "tiktoken.model",
    "spiece.model",
];

impl Checkpoint {
    /// Whether a tokenizer lies in [`Checkpoint::directory`].
    pub fn has_tokenizer(&self) -> bool {
        let directory = self.directory.as_deref();
        directory.is_some_and(|directory| {
            let mut paths = TOKENIZERS.iter().map(|name| directory.join(name));
            paths.any(|path| path.exists())
        })
    }

    /// Which file each tensor is in, as an index into [`Checkpoint::files`].
    ///
    /// # Errors
    /// [`CheckpointError::DuplicateTensor`] if two files hold one name. Every checkpoint that was
    /// opened has passed this.
    pub fn files_by_tensor(&self) -> Result<HashMap<&str, usize>, CheckpointError> {
        let path = |file: usize| {
            self.files
                .get(file)
                .map(|f| f.path.clone())
                .unwrap_or_default()
        };
        let mut files = HashMap::with_capacity(self.tensors.len());
        for StoredTensor { name, file, .. } in &self.tensors {
            if let Some(first) = files.insert(name.as_str(), *file) {
                let (first, second) = (path(first), path(*file));
                return Err(CheckpointError::DuplicateTensor {
                    name: name.clone(),
                    first,
                    second,
                });
            }
        }
        Ok(files)
    }
}
