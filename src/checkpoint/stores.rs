//! Models that are already on this machine, in the Hugging Face cache and Ollama's store.
//!
//! In: a hub id or an Ollama tag. Out: paths. Must not: download, or follow a name out of the stores.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::error::CheckpointError;
use super::json;
use super::kind::OtherKind;
use super::remote::Remote;
use crate::input;
use crate::units::Bytes;

/// The directories of the two model stores.
#[derive(Clone, Debug, Default)]
pub struct Stores {
    /// The Hugging Face hub cache, with `models--ORG--NAME` folders.
    pub hub: Option<PathBuf>,
    /// Ollama's model stores, each with `manifests` and `blobs`, in the order in which they are searched.
    pub ollama: Vec<PathBuf>,
    /// What is asked for a model that none of them has.
    pub remote: Option<Arc<dyn Remote>>,
}

/// Ollama manifests have about 1 kB.
const MANIFEST_LIMIT: Bytes = Bytes(1 << 20);

impl Stores {
    /// The stores that the environment names, or their default places: `HF_HUB_CACHE`,
    /// `HF_HOME/hub`, `~/.cache/huggingface/hub`; `OLLAMA_MODELS`, or `~/.ollama/models` and the
    /// Linux service's `/usr/share/ollama/.ollama/models`.
    pub fn from_env() -> Stores {
        Stores::from_variables(|name| env::var_os(name), env::home_dir())
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Stores {
        let set = |name: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let cache = || set("XDG_CACHE_HOME").or_else(|| in_home(".cache"));
        let hub = set("HF_HUB_CACHE")
            .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
            .or_else(|| cache().map(|cache| cache.join("huggingface/hub")));
        let ollama = match set("OLLAMA_MODELS") {
            Some(path) => vec![path],
            None => in_home(".ollama/models")
                .into_iter()
                .chain([PathBuf::from("/usr/share/ollama/.ollama/models")])
                .collect(),
        };
        Stores {
            hub,
            ollama,
            remote: None,
        }
    }

    /// The snapshot directory of a hub id at a branch, tag or commit, if it is in the cache.
    #[cfg(feature = "hub")]
    pub(crate) fn hub_revision(&self, id: &str, revision: &str) -> Option<PathBuf> {
        let folder = self.hub.as_ref()?.join(hub_folder(id));
        let snapshots = folder.join("snapshots");
        let named = input::read_text(&folder.join("refs").join(revision), Bytes(1 << 10));
        let commit = named.map_or(revision.to_owned(), |commit| commit.trim().to_owned());
        let is_plain = is_plain(&commit) && !revision.contains("..");
        Some(snapshots.join(commit)).filter(|snapshot| is_plain && snapshot.is_dir())
    }

    /// The snapshot directory of a hub id: the one that `refs/main` names, or the only one.
    ///
    /// # Errors
    /// [`CheckpointError::Cache`] if the model's folder exists and has no such snapshot.
    pub(super) fn hub_snapshot(&self, id: &str) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(hub) = &self.hub else {
            return Ok(None);
        };
        if id.matches('/').count() > 1 || !id.split('/').all(is_plain) {
            return Ok(None);
        }
        let folder = hub.join(hub_folder(id));
        if !folder.is_dir() {
            return Ok(None);
        }
        let snapshots = folder.join("snapshots");
        let broken = |problem: &str| CheckpointError::Cache {
            path: folder.clone(),
            problem: problem.into(),
        };
        let main = folder.join("refs/main");
        if fs::symlink_metadata(&main).is_ok() {
            let revision = input::read_text(&main, Bytes(1 << 10))?;
            let revision = revision.trim();
            if !is_plain(revision) {
                return Err(broken("refs/main names no revision"));
            }
            let snapshot = snapshots.join(revision);
            if snapshot.is_dir() {
                return Ok(Some(snapshot));
            }
        }
        match list(&snapshots).unwrap_or_default().as_slice() {
            [only] => Ok(Some(only.clone())),
            [] => Err(broken("the cache has no snapshot of this model")),
            _ => Err(broken(
                "the cache has several snapshots and refs/main names none of them",
            )),
        }
    }

    /// The model of an Ollama tag and its projector, if it has one.
    ///
    /// # Errors
    /// [`CheckpointError::Cache`] if the tag has a manifest and a file of the model is missing or wrong.
    pub(super) fn ollama_blobs(&self, tag: &str) -> Result<Option<OllamaModel>, CheckpointError> {
        let Some(path) = manifest_path(tag) else {
            return Ok(None);
        };
        for store in &self.ollama {
            let manifest = store.join("manifests").join(&path);
            if manifest.is_file() {
                return read_manifest(store, &manifest).map(Some);
            }
        }
        Ok(None)
    }

    /// The hub id or tag of every model in the stores.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in self
            .hub
            .iter()
            .flat_map(|hub| list(hub).unwrap_or_default())
        {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            names.extend(
                name.strip_prefix(HUB_FOLDER)
                    .map(|id| id.replace("--", "/")),
            );
        }
        for manifests in self.ollama.iter().map(|store| store.join("manifests")) {
            // HOST/NAMESPACE/MODEL/TAG; the defaults of the first two are left out of the name.
            let mut folders = vec![manifests.clone()];
            for _ in 0..4 {
                folders = folders
                    .iter()
                    .flat_map(|folder| list(folder).unwrap_or_default())
                    .collect();
            }
            names.extend(folders.iter().filter_map(|path| {
                let path = path.strip_prefix(&manifests).ok()?.to_str()?;
                let (model, tag) = path.rsplit_once('/')?;
                let model = model.strip_prefix("registry.ollama.ai/").unwrap_or(model);
                Some(format!(
                    "{}:{tag}",
                    model.strip_prefix("library/").unwrap_or(model)
                ))
            }));
        }
        names
    }

    /// The places that were searched, for a message.
    pub(super) fn describe(&self) -> String {
        let shown = |path: &PathBuf| path.display().to_string();
        let hub = self.hub.as_ref();
        let hub = hub.map(|path| format!("not in the hub cache {}", shown(path)));
        let ollama: Vec<String> = self.ollama.iter().map(shown).collect();
        let ollama =
            (!ollama.is_empty()).then(|| format!("not in Ollama's store {}", ollama.join(" or ")));
        let looked: Vec<String> = hub.into_iter().chain(ollama).collect();
        if looked.is_empty() {
            "and no model store is known".to_owned()
        } else {
            looked.join(", ")
        }
    }
}

/// The files of an Ollama model.
pub(super) struct OllamaModel {
    pub(super) model: PathBuf,
    pub(super) projector: Option<PathBuf>,
    pub(super) parameters: Option<PathBuf>,
}

/// The context in the parameters of an Ollama tag, if they state one.
pub(super) fn served_context(parameters: Option<&Path>) -> Result<Option<u64>, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Parameters {
        num_ctx: Option<u64>,
    }
    let read = parameters.map(|path| json::read(path, MANIFEST_LIMIT));
    let Parameters { num_ctx } = read.transpose()?.unwrap_or(Parameters { num_ctx: None });
    Ok(num_ctx.filter(|tokens| *tokens > 0))
}

/// `[HOST/][NAMESPACE/]MODEL[:TAG]` as a path below `manifests`.
fn manifest_path(tag: &str) -> Option<PathBuf> {
    let (model, tag) = match tag.rsplit_once(':') {
        Some((model, tag)) if !tag.contains('/') => (model, tag),
        _ => (tag, "latest"),
    };
    let parts: Vec<&str> = model.split('/').chain([tag]).collect();
    let defaults: &[&str] = match parts.len() {
        2 => &["registry.ollama.ai", "library"],
        3 => &["registry.ollama.ai"],
        4 => &[],
        _ => return None,
    };
    parts
        .iter()
        .all(|part| is_plain(part))
        .then(|| defaults.iter().chain(&parts).collect())
}

#[derive(serde::Deserialize)]
struct Manifest {
    layers: Vec<ManifestLayer>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestLayer {
    media_type: String,
    digest: String,
    size: Option<u64>,
}

fn read_manifest(store: &Path, path: &Path) -> Result<OllamaModel, CheckpointError> {
    let Manifest { layers } = json::read(path, MANIFEST_LIMIT)?;
    let blob = |kind: &str| -> Result<Option<PathBuf>, CheckpointError> {
        let kind = format!("application/vnd.ollama.image.{kind}");
        let mut found = layers.iter().filter(|layer| layer.media_type == kind);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(layer), None) => blob_path(store, path, layer).map(Some),
            (Some(_), Some(_)) => Err(broken(path, format!("has several layers of type {kind}"))),
        }
    };
    if layers
        .iter()
        .any(|layer| layer.media_type.ends_with(".adapter"))
    {
        let kind = OtherKind::new(
            "an Ollama tag that applies a LoRA adapter to its model",
            "merge the adapter into the model, and give the merged model",
        );
        let path = path.to_owned();
        return Err(CheckpointError::OtherKind { path, kind });
    }
    match blob("model")? {
        Some(model) => Ok(OllamaModel {
            model,
            projector: blob("projector")?,
            parameters: blob("params")?,
        }),
        None => Err(broken(path, "has no GGUF model layer".to_owned())),
    }
}

fn blob_path(
    store: &Path,
    manifest: &Path,
    layer: &ManifestLayer,
) -> Result<PathBuf, CheckpointError> {
    let hex = layer.digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(broken(
            manifest,
            format!("has the digest `{}`, which is not a SHA-256", layer.digest),
        ));
    }
    let path = store.join("blobs").join(format!("sha256-{hex}"));
    let (_, bytes) = input::open(&path)?;
    match layer.size {
        Some(size) if size != bytes => Err(broken(
            &path,
            format!("has {bytes} bytes, but its manifest says {size}"),
        )),
        _ => Ok(path),
    }
}

fn broken(path: &Path, problem: String) -> CheckpointError {
    CheckpointError::Cache {
        path: path.to_owned(),
        problem,
    }
}

/// What a folder of the hub cache is that holds no model itself: that of a model, `models--ORG--NAME`, or one in it.
pub(super) fn cache_folder(path: &Path) -> Option<OtherKind> {
    let whole = path.canonicalize().ok()?;
    let within = whole.ancestors().take(2);
    let (folder, id) = within.into_iter().find_map(|folder| {
        let id = folder.file_name()?.to_str()?.strip_prefix(HUB_FOLDER)?;
        Some((folder, id.replace("--", "/")))
    })?;
    let snapshot = match list(&folder.join("snapshots")).ok()?.as_slice() {
        [only] => only.display().to_string(),
        [] => return None,
        _ => format!("one of those in {}", folder.join("snapshots").display()),
    };
    Some(OtherKind::new(
        format!("a folder of the Hugging Face cache, which holds snapshots of `{id}`"),
        format!("give the model's name, or the folder of its snapshot: {snapshot}"),
    ))
}

/// The folder of a model in the hub cache.
pub(crate) fn hub_folder(id: &str) -> String {
    format!("{HUB_FOLDER}{}", id.replace('/', "--"))
}

/// The beginning of the names of models' folders in the hub cache.
const HUB_FOLDER: &str = "models--";

/// Whether `name` is one plain path component.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains('\0')
}

/// The entries of a directory, sorted by name.
pub(super) fn list(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_come_before_the_usual_places() {
        let check = |variables: &[(&str, &str)], hub: &str, ollama: &[&str]| {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            };
            let stores = Stores::from_variables(variable, Some("/home/me".into()));
            assert_eq!(stores.hub, Some(hub.into()), "{variables:?}");
            assert_eq!(
                stores.ollama,
                ollama.iter().map(PathBuf::from).collect::<Vec<_>>()
            );
        };
        let usual = [
            "/home/me/.ollama/models",
            "/usr/share/ollama/.ollama/models",
        ];
        check(&[], "/home/me/.cache/huggingface/hub", &usual);
        check(&[("XDG_CACHE_HOME", "/c")], "/c/huggingface/hub", &usual);
        check(
            &[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")],
            "/h/hub",
            &usual,
        );
        check(&[("HF_HOME", "/h"), ("HF_HUB_CACHE", "/x")], "/x", &usual);
        check(
            &[("HF_HOME", ""), ("OLLAMA_MODELS", "/o")],
            "/home/me/.cache/huggingface/hub",
            &["/o"],
        );
        let homeless = Stores::from_variables(|_| None, None);
        assert_eq!(homeless.hub, None);
    }
}
