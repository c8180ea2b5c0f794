//! GGUF checkpoints: a model in one file or split into several, with a projector beside it.
//!
//! In: paths. Out: a [`Checkpoint`] with the metadata of the first part, so that its located arrays are in `files[0]`.
//! Must not: read tensor data.

use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::{Checkpoint, CheckpointFile, RawConfig, SourceFormat, StoredTensor, shards};
use crate::gguf::{self, Header, Metadata};
use crate::units::Bytes;

/// Opens the model that `path` is (or is a part of), followed by the tensors of `projector`.
///
/// # Errors
/// [`CheckpointError`]: a part that is missing, that cannot be read or contradicts its name, or a tensor in two parts.
pub(super) fn open(
    name: String,
    path: &Path,
    projector: Option<&Path>,
) -> Result<Checkpoint, CheckpointError> {
    let mut parts = Vec::new();
    for path in shards::all(path)? {
        let header = gguf::read_header(&path)?;
        parts.push((path, header));
    }
    check_split(&parts)?;
    if let Some(path) = projector {
        parts.push((path.to_owned(), gguf::read_header(path)?));
    }
    let (mut config, mut files, mut tensors) = (None, Vec::new(), Vec::new());
    let mut beside = None;
    for (file, (path, header)) in parts.into_iter().enumerate() {
        files.push(CheckpointFile {
            path,
            bytes: Bytes(header.file_bytes),
        });
        tensors.extend(header.tensors.into_iter().map(|tensor| StoredTensor {
            name: tensor.name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            file,
            offset: tensor.offset,
            bytes: tensor.bytes,
        }));
        match config {
            None => config = Some(header.metadata),
            Some(_) if projector.is_some() => beside = Some(header.metadata),
            Some(_) => {}
        }
    }
    let config = RawConfig::Gguf(config.unwrap_or_default());
    let format = SourceFormat::Gguf;
    let checkpoint = Checkpoint {
        files,
        tensors,
        projector: beside,
        ..Checkpoint::of(name, format, config)
    };
    checkpoint.files_by_tensor()?;
    Ok(checkpoint)
}

/// Checks the metadata of split files: `split.no` counts from 0 in the order of the names, `split.count` is the number
/// of files, and `split.tensors.count` the number of all their tensors.
fn check_split(parts: &[(PathBuf, Header)]) -> Result<(), CheckpointError> {
    if let [(path, header)] = parts {
        return match split_key(path, header, "split.count")? {
            Some(count) if count > 1 => Err(CheckpointError::SplitName {
                path: path.clone(),
                count,
            }),
            _ => Ok(()),
        };
    }
    for (number, (path, header)) in parts.iter().enumerate() {
        for (key, expected) in [("split.count", parts.len()), ("split.no", number)] {
            let (path, expected) = (path.clone(), expected as u64);
            let found = split_key(&path, header, key)?;
            if found != Some(expected) {
                let found = found.map_or("missing".to_owned(), |n| n.to_string());
                return Err(CheckpointError::Split {
                    path,
                    key,
                    found,
                    expected,
                });
            }
        }
    }
    let found = parts.iter().map(|(_, header)| header.tensors.len()).sum();
    for (path, header) in parts {
        match split_key(path, header, "split.tensors.count")? {
            Some(promised) if promised != found as u64 => {
                return Err(CheckpointError::SplitTensors {
                    path: path.clone(),
                    promised,
                    found,
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn split_key(path: &Path, header: &Header, key: &str) -> Result<Option<u64>, CheckpointError> {
    let metadata = header.metadata.u64(key);
    metadata.map_err(|source| CheckpointError::Metadata {
        path: path.to_owned(),
        source,
    })
}

/// The models and the projector among a directory's GGUF files, each split model by its first part.
///
/// Metadata tells projectors from models. Of several projectors (the same weights in F16 and F32 are common) the
/// smallest is taken, of equal ones the first by name.
pub(super) fn models_and_projector(
    files: &[PathBuf],
) -> Result<(Vec<PathBuf>, Option<PathBuf>), CheckpointError> {
    let (mut models, mut projectors): (Vec<PathBuf>, Vec<_>) = (Vec::new(), Vec::new());
    for path in files {
        // One part of a split model stands for all; opening it reports parts that are missing.
        if models.iter().any(|model| shards::same_set(model, path)) {
            continue;
        }
        let header = gguf::read_header(path)?;
        if is_projector(&header.metadata) {
            projectors.push((header.file_bytes, path.clone()));
        } else {
            models.push(path.clone());
        }
    }
    // Without a model, a projector is returned in its place, for the error that names what it is.
    if models.is_empty() {
        return Ok((projectors.into_iter().map(|(_, path)| path).collect(), None));
    }
    let smallest = projectors.into_iter().min_by_key(|(bytes, _)| *bytes);
    Ok((models, smallest.map(|(_, path)| path)))
}

fn is_projector(metadata: &Metadata) -> bool {
    let says = |key, value| metadata.str(key).is_ok_and(|found| found == Some(value));
    says("general.architecture", "clip") || says("general.type", "mmproj")
}
