//! A checkpoint on disk, located and never loaded: its tensors with type, shape, file and offset, and the raw
//! configuration beside them.
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
mod remote;
mod retrieval;
mod same;
mod shards;
mod stores;
mod unique_json;

use std::collections::HashMap;
use std::path::PathBuf;

pub use error::CheckpointError;
pub use kind::{Attends, OtherKind, is_quantized_as_it_runs};
pub use open::{configured, open, open_any, open_in};
pub use remote::{
    FileRange, ModelFiles, Remote, RemoteError, RemoteModel, RemoteWeights, Source, header_path,
};
pub use retrieval::{Pooling, Retrieval};
pub use shards::is_part;
#[cfg(feature = "hub")]
pub(crate) use shards::{ShardName, same_set};
pub use stores::Stores;
#[cfg(feature = "hub")]
pub(crate) use stores::hub_folder;

use crate::dtype::Dtype;
use crate::gguf::Metadata;
use crate::units::Bytes;

/// The files that a checkpoint consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFormat {
    /// Hugging Face safetensors, one file or shards.
    Safetensors,
    /// GGUF, one file or split.
    Gguf,
    /// A `config.json` without weights.
    Config,
}

/// The name by which the user asked for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A path, as typed.
    Path(String),
    /// A hub id, whose snapshot is in the Hugging Face cache.
    Hub(String),
    /// An Ollama tag.
    Ollama(String),
}

impl Origin {
    /// The name as typed.
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

/// The configuration as stored in the files.
#[derive(Clone, Debug)]
pub enum RawConfig {
    /// `config.json` (an object), or an empty object for a lone `.safetensors` file.
    HuggingFace(serde_json::Value),
    /// GGUF key-value metadata.
    Gguf(Metadata),
}

/// One stored tensor and its position.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTensor {
    /// The name in the file.
    pub name: String,
    /// The element format in the file.
    pub dtype: Dtype,
    /// Outermost dimension first, the elements of a row last (GGUF's `ne` reversed).
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
    /// Its path.
    pub path: PathBuf,
    /// Its size on disk.
    pub bytes: Bytes,
}

/// A located checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The last component of the path, or the id as typed; never an absolute path.
    pub name: String,
    /// How the user named it. Saved predictions leave it out, so that a model gives the same prediction in any
    /// directory.
    pub origin: Origin,
    /// The format of the files.
    pub format: SourceFormat,
    /// The raw configuration. Long arrays of GGUF metadata are not read; they are located in `files[0]`.
    pub config: RawConfig,
    /// The weight files, in shard order.
    pub files: Vec<CheckpointFile>,
    /// Every tensor, in file order; empty for [`SourceFormat::Config`].
    pub tensors: Vec<StoredTensor>,
    /// The directory with the tokenizer and the other small files, if there is one.
    pub directory: Option<PathBuf>,
    /// The metadata of the projector beside a GGUF, which is in the last of the files.
    pub projector: Option<Metadata>,
    /// Where the weights are read from, if only headers and small files are on this machine.
    pub source: Option<Source>,
    /// What it is, if it turns texts into numbers and writes none.
    pub retrieval: Option<Retrieval>,
    /// Names of weight files that lie beside it and are no part of it.
    pub unread: Vec<String>,
    /// The tokens of context that it is served with by default: `num_ctx` of an Ollama tag.
    pub served_context: Option<u64>,
}

/// Files that hold a tokenizer; every runtime of Hugging Face directories needs one of them.
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
    /// A checkpoint of a configuration alone: without files, tensors and a directory.
    pub fn of(name: impl Into<String>, format: SourceFormat, config: RawConfig) -> Checkpoint {
        Checkpoint {
            name: name.into(),
            origin: Origin::default(),
            format,
            config,
            files: Vec::new(),
            tensors: Vec::new(),
            directory: None,
            projector: None,
            source: None,
            retrieval: None,
            unread: Vec::new(),
            served_context: None,
        }
    }

    /// Whether [`Checkpoint::directory`] holds a tokenizer.
    pub fn has_tokenizer(&self) -> bool {
        let directory = self.directory.as_deref();
        directory.is_some_and(|directory| {
            let mut paths = TOKENIZERS.iter().map(|name| directory.join(name));
            paths.any(|path| path.exists())
        })
    }

    /// What the files of a Hugging Face directory say of its images: `preprocessor_config.json` and
    /// `processor_config.json`, the later over the earlier, with the parts for images at the top, as llama.cpp's converter
    /// reads them; null without the files.
    ///
    /// # Errors
    /// [`CheckpointError`] for a file that cannot be read or is no JSON object.
    pub fn processor(&self) -> Result<serde_json::Value, CheckpointError> {
        match &self.directory {
            Some(directory) => hugging_face::processor(directory),
            None => Ok(serde_json::Value::Null),
        }
    }

    /// Whether there is a tokenizer on the server that was not fetched, since a plan goes without.
    pub fn leaves_tokenizer(&self) -> bool {
        let on_server = self.source.as_ref().is_some_and(|source| {
            let mut names = source.listing.iter();
            names.any(|name| TOKENIZERS.contains(&name.as_str()))
        });
        on_server && !self.has_tokenizer()
    }

    /// The file of each tensor, as an index into [`Checkpoint::files`].
    ///
    /// # Errors
    /// [`CheckpointError::DuplicateTensor`] if a name occurs twice. A checkpoint from [`open()`] never has such names.
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
