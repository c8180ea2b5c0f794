//! The errors of opening a checkpoint, each with what the user can do about it.

use std::path::PathBuf;

use super::kind::OtherKind;
use crate::input::{in_words, one_line};
use crate::units::counted;
use crate::{gguf, input, safetensors};

/// Why a checkpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be opened.
    #[error(transparent)]
    Open(#[from] input::OpenError),
    /// A model on a server cannot be had.
    #[error(transparent)]
    Remote(super::remote::RemoteError),
    /// A GGUF file is wrong.
    #[error(transparent)]
    Gguf(#[from] gguf::ReadError),
    /// A safetensors file is wrong.
    #[error(transparent)]
    Safetensors(#[from] safetensors::ReadError),
    #[error("{}: is not the expected JSON: {}", path.display(), in_words(&one_line(source).to_string()))]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{}: cannot be listed: {source}", path.display())]
    List {
        path: PathBuf,
        source: std::io::Error,
    },

    #[error(
        "there is no model `{}`: no file or directory of that name{looked}{}; {way_out}",
        one_line(model),
        one_line(nearest)
    )]
    NoModel {
        model: String,
        looked: String,
        nearest: String,
        way_out: String,
    },
    /// An input of another kind than a model that writes text.
    #[error("{}: {kind}", path.display())]
    OtherKind { path: PathBuf, kind: OtherKind },
    #[error("{}: is neither a .safetensors, .gguf nor .json file, and lacks the GGUF magic", path.display())]
    UnknownKind { path: PathBuf },
    #[error("{}: is an empty folder; download the model into it, or give the folder that holds it", path.display())]
    EmptyFolder { path: PathBuf },
    #[error("{}: has no *.safetensors, no *.gguf and no config.json; give the folder or the file of the model", path.display())]
    NothingThere { path: PathBuf },
    #[error("{}: holds several models; give the file of one: {}", path.display(), names.join(", "))]
    SeveralModels { path: PathBuf, names: Vec<String> },

    #[error("{}: is missing, although {by} names it; download it, or give a config.json to plan without weights", path.display())]
    MissingShard { path: PathBuf, by: String },
    #[error("{}: its name says shard {number} of {count}, but shards count from 1 to {count}", path.display())]
    ShardNumber {
        path: PathBuf,
        number: u32,
        count: u32,
    },
    #[error("{}: `{key}` is {found}, but the file's name says {expected}", path.display())]
    Split {
        path: PathBuf,
        key: &'static str,
        found: String,
        expected: u64,
    },
    #[error("{}: is one of {count} parts by `split.count`, but is not named NAME-00001-of-{count:05}.gguf; restore its name", path.display())]
    SplitName { path: PathBuf, count: u64 },
    #[error("{}: `split.tensors.count` promises {}, but all parts together have {found}", path.display(), counted(*promised, "tensor", "tensors"))]
    SplitTensors {
        path: PathBuf,
        promised: u64,
        found: usize,
    },
    /// Metadata that a split needs has the wrong type.
    #[error("{}: {source}", path.display())]
    Metadata {
        path: PathBuf,
        source: gguf::MetadataError,
    },
    #[error("tensor `{}` is both in {} and in {}", one_line(name), first.display(), second.display())]
    DuplicateTensor {
        name: String,
        first: PathBuf,
        second: PathBuf,
    },

    #[error("{}: tensor `{}` is in `{}`, which is not a plain file name inside the directory", path.display(), one_line(tensor), one_line(shard))]
    IndexPath {
        path: PathBuf,
        tensor: String,
        shard: String,
    },
    #[error("{}: tensor `{}` should be in `{}`, but is not there", path.display(), one_line(tensor), one_line(shard))]
    IndexTensor {
        path: PathBuf,
        tensor: String,
        shard: String,
    },
    #[error("{}: names no tensor", path.display())]
    IndexEmpty { path: PathBuf },

    #[error("{}: {}; download the model again", path.display(), one_line(problem))]
    Cache { path: PathBuf, problem: String },
}
