//! `model.safetensors.index.json`: which tensor is in which file of a directory.
//!
//! Each tensor must be in the shard that the index names, and shards must be plain files inside the directory. A tensor
//! of a listed shard that the index does not mention is part of the model, since Transformers loads it too; a file that
//! the index does not list is ignored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::CheckpointFile;
use super::error::CheckpointError;
use super::json;
use super::remote::{header_path, there};
use crate::input::display_name;
use crate::units::Bytes;

/// The largest index read; DeepSeek-V3's has 9 MB.
const INDEX_LIMIT: Bytes = Bytes(64 << 20);
const SUFFIX: &str = ".safetensors.index.json";

/// An index whose every shard name stays inside its directory.
pub(super) struct Index {
    path: PathBuf,
    weight_map: BTreeMap<String, String>,
}

/// The index as JSON; its other entries are not needed.
#[derive(serde::Deserialize)]
struct WireIndex {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Whether `path` has the name of an index.
    pub(super) fn is_named(path: &Path) -> bool {
        display_name(path).ends_with(SUFFIX)
    }

    /// Reads the index at `path`.
    ///
    /// # Errors
    /// [`CheckpointError::Open`] if it cannot be read, `Json` for another form, `IndexPath` for a shard outside the
    /// directory, `IndexEmpty` if it names no tensor.
    pub(super) fn read(path: &Path) -> Result<Index, CheckpointError> {
        let WireIndex { weight_map } = json::read(path, INDEX_LIMIT)?;
        let path = path.to_owned();
        if weight_map.is_empty() {
            return Err(CheckpointError::IndexEmpty { path });
        }
        // Backslashes and drive letters separate components on Windows; they are refused on every system.
        let inside = |shard: &str| {
            let parts = Path::new(shard).components();
            !shard.is_empty()
                && !shard.contains(['\\', ':', '\0'])
                && parts
                    .into_iter()
                    .all(|part| matches!(part, Component::Normal(_)))
        };
        match weight_map.iter().find(|(_, shard)| !inside(shard)) {
            Some((tensor, shard)) => {
                let (tensor, shard) = (tensor.clone(), shard.clone());
                Err(CheckpointError::IndexPath {
                    path,
                    tensor,
                    shard,
                })
            }
            None => Ok(Index { path, weight_map }),
        }
    }

    /// Whether `path` is one of the shards.
    pub(super) fn lists(&self, path: &Path) -> bool {
        self.weight_map
            .values()
            .any(|shard| self.path.with_file_name(shard) == path)
    }

    /// The paths of the shards, in the order of their names.
    ///
    /// # Errors
    /// [`CheckpointError::MissingShard`] for the first that does not exist.
    pub(super) fn shards(&self) -> Result<Vec<PathBuf>, CheckpointError> {
        let names: BTreeSet<&String> = self.weight_map.values().collect();
        names.into_iter().map(|shard| self.shard(shard)).collect()
    }

    fn shard(&self, name: &str) -> Result<PathBuf, CheckpointError> {
        let path = self.path.with_file_name(name);
        match there(&path) {
            Some(path) => Ok(path),
            None => Err(CheckpointError::MissingShard {
                path,
                by: display_name(&self.path),
            }),
        }
    }

    /// Checks that each tensor is in the file that the index names.
    ///
    /// # Errors
    /// [`CheckpointError::IndexTensor`] for the first that is not.
    pub(super) fn check(
        &self,
        files: &[CheckpointFile],
        file_by_tensor: &HashMap<&str, usize>,
    ) -> Result<(), CheckpointError> {
        for (tensor, shard) in &self.weight_map {
            let file = file_by_tensor
                .get(tensor.as_str())
                .and_then(|&file| files.get(file));
            let named = self.path.with_file_name(shard);
            let is_named =
                |file: &CheckpointFile| file.path == named || file.path == header_path(&named);
            if !file.is_some_and(is_named) {
                let (tensor, shard) = (tensor.clone(), shard.clone());
                return Err(CheckpointError::IndexTensor {
                    path: self.path.clone(),
                    tensor,
                    shard,
                });
            }
        }
        Ok(())
    }
}
