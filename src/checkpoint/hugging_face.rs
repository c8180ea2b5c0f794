//! Hugging Face checkpoints: `config.json` beside safetensors files, one or several with an index.
//!
//! In: the weight files in order. Out: a [`Checkpoint`]. Must not: read weights or interpret the
//! configuration.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::CheckpointError;
use super::index::Index;
use super::json;
use super::unique_json::UniqueObject;
use super::{Checkpoint, CheckpointFile, RawConfig, SourceFormat, StoredTensor};
use crate::safetensors;
use crate::units::Bytes;

/// The largest `config.json` read. Real ones stay below 1 MiB.
const CONFIG_LIMIT: Bytes = Bytes(16 << 20);

/// Opens a checkpoint whose weight files are `weights`, in this order; an `index` is checked against them.
///
/// # Errors
/// [`CheckpointError`]: a file that cannot be read, a tensor in two files, or an index that contradicts them.
pub(super) fn open(
    name: String,
    directory: &Path,
    weights: &[PathBuf],
    index: Option<&Index>,
) -> Result<Checkpoint, CheckpointError> {
    let mut checkpoint = Checkpoint {
        directory: Some(directory.to_owned()),
        ..Checkpoint::of(
            name,
            SourceFormat::Safetensors,
            RawConfig::HuggingFace(read_config_beside(directory)?),
        )
    };
    for path in weights {
        let header = safetensors::read_header(path)?;
        let file = checkpoint.files.len();
        let bytes = Bytes(header.file_bytes);
        checkpoint.files.push(CheckpointFile {
            path: path.clone(),
            bytes,
        });
        checkpoint
            .tensors
            .extend(header.tensors.into_iter().map(|tensor| StoredTensor {
                name: tensor.name,
                dtype: tensor.dtype,
                shape: tensor.shape,
                file,
                offset: tensor.offset,
                bytes: tensor.bytes,
            }));
    }
    let files = checkpoint.files_by_tensor()?;
    if let Some(index) = index {
        index.check(&checkpoint.files, &files)?;
    }
    let mut wrapped = false;
    for tensor in &mut checkpoint.tensors {
        wrapped |= unwrap(tensor);
    }
    if wrapped {
        checkpoint.files_by_tensor()?;
    }
    Ok(checkpoint)
}

/// Parts of tensor names that training wrappers leave behind: `torch.compile`, fully sharded data parallelism and
/// activation checkpointing.
const WRAPPERS: &[&str] = &[
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
];

/// The prefix that `DistributedDataParallel` puts before every name.
const DISTRIBUTED: &str = "module.";

/// Removes the names of wrappers from a tensor's name; returns whether there were any.
fn unwrap(tensor: &mut StoredTensor) -> bool {
    let mut wrapped = false;
    for wrapper in WRAPPERS {
        if tensor.name.contains(wrapper) {
            tensor.name = tensor.name.replace(wrapper, "");
            wrapped = true;
        }
    }
    if let Some(bare) = tensor.name.strip_prefix(DISTRIBUTED) {
        tensor.name = bare.to_owned();
        wrapped = true;
    }
    wrapped
}

/// Opens a `config.json` without weights.
pub(super) fn open_config(
    name: String,
    directory: &Path,
    path: &Path,
) -> Result<Checkpoint, CheckpointError> {
    Ok(Checkpoint {
        directory: Some(directory.to_owned()),
        ..configured(name, read_config(path)?)
    })
}

/// A checkpoint of a `config.json` that was read already, without weights.
pub(super) fn configured(name: String, config: Value) -> Checkpoint {
    Checkpoint::of(name, SourceFormat::Config, RawConfig::HuggingFace(config))
}

fn read_config_beside(directory: &Path) -> Result<Value, CheckpointError> {
    let path = directory.join("config.json");
    match fs::symlink_metadata(&path) {
        Ok(_) => read_config(&path),
        Err(_) => Ok(Value::Object(serde_json::Map::new())),
    }
}

fn read_config(path: &Path) -> Result<Value, CheckpointError> {
    let UniqueObject(object) = json::read(path, CONFIG_LIMIT)?;
    Ok(Value::Object(object))
}

/// The files that describe how images are prepared, each with the part that is moved to its top.
const PROCESSORS: [(&str, &str); 2] = [
    ("preprocessor_config.json", "media_proc_cfg"),
    ("processor_config.json", "image_processor"),
];

/// What those files in `directory` say, the later over the earlier; null without them.
pub(super) fn processor(directory: &Path) -> Result<Value, CheckpointError> {
    let mut all = Value::Null;
    for (file, part) in PROCESSORS {
        let path = directory.join(file);
        if fs::symlink_metadata(&path).is_err() {
            continue;
        }
        let UniqueObject(mut object) = json::read(&path, CONFIG_LIMIT)?;
        if let Some(Value::Object(inner)) = object.get(part).cloned() {
            object.extend(inner);
        }
        match &mut all {
            Value::Object(known) => known.extend(object),
            _ => all = Value::Object(object),
        }
    }
    Ok(all)
}
