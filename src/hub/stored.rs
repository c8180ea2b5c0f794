//! A model of the hub in the hub's own cache on this machine. In: its name. Out: its files there, if none is missing.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use super::cache::ListedFile;
use super::choose::{self, Chosen, stem};
use super::reference::Repo;
use crate::checkpoint::{ModelFiles, Origin, RemoteModel, Stores};

/// What names the shards of a checkpoint.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// The most weight files of a model, and files of a folder that are looked at. The largest models have 163.
pub(super) const MOST_FILES: usize = 2048;
/// How deep the folders of a repository are looked through.
const DEPTH: usize = 3;

/// The model if the hub's own cache has all of it.
pub(super) fn find(stores: &Stores, text: &str, repo: &Repo) -> Option<RemoteModel> {
    let folder = stores.hub_revision(&repo.id, &repo.revision)?;
    let mut here = Vec::new();
    list_below(&folder, "", &mut here);
    let (place, name) = match choose::choose(repo, &here).ok()? {
        Chosen::Directory { weights, .. } => {
            let is_here = |named: &String| weights.iter().any(|file| file.path == *named);
            let named = named_files(&folder.join(INDEX)).unwrap_or_default();
            if weights.is_empty() || !named.iter().all(is_here) {
                return None;
            }
            (ModelFiles::Directory(folder), repo.id.clone())
        }
        Chosen::Safetensors(files) => {
            let first = files.first()?;
            (
                ModelFiles::Safetensors(folder.join(&first.path)),
                stem(&first.path).0.to_owned(),
            )
        }
        Chosen::Gguf { parts, projector } => {
            let first = parts.first()?;
            let place = ModelFiles::Gguf {
                model: folder.join(&first.path),
                projector: projector.map(|file| folder.join(file.path)),
                parameters: None,
            };
            (place, stem(&first.path).0.to_owned())
        }
    };
    Some(RemoteModel {
        name,
        origin: Origin::Hub(text.to_owned()),
        place,
        source: None,
    })
}

/// The files that an index of shards names; `None` if there is none that can be read.
pub(super) fn named_files(index: &Path) -> Option<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let text = std::fs::read_to_string(index).ok()?;
    let Index { weight_map } = serde_json::from_str(&text).ok()?;
    Some(weight_map.into_values().collect())
}

/// The files in a folder and those in it, with their paths below `prefix`. A link to nothing is left out.
fn list_below(folder: &Path, prefix: &str, files: &mut Vec<ListedFile>) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.take(MOST_FILES) {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let path = format!("{prefix}{name}");
        match std::fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() && path.matches('/').count() < DEPTH => {
                list_below(&entry.path(), &format!("{path}/"), files);
            }
            Ok(found) if found.is_file() => files.push(ListedFile {
                path,
                size: found.len(),
                sha256: None,
                etag: None,
            }),
            _ => {}
        }
    }
}
