//! Opens what the user typed: a path of any kind, a hub id or an Ollama tag.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::error::CheckpointError;
use super::index::Index;
use super::json;
use super::kind::{self, Companions, OtherKind};
use super::remote::{ModelFiles, RemoteModel};
use super::shards::{self, ShardName};
use super::stores::{self, Stores};
use super::{Checkpoint, Origin, gguf_files, hugging_face, retrieval};
use crate::foreign;
use crate::gguf;
use crate::input::{self, display_name};
use crate::nearest::nearest;
use crate::units::Bytes;

/// Opens a model by path, cached Hugging Face id or pulled Ollama tag.
///
/// A path that exists takes precedence, then what is in a local store; a server is asked last, if the stores have one. A directory is read as Transformers reads it: `model.safetensors`,
/// else the shards of its index, else its only `*.safetensors` file or set of shards; without any, its
/// only GGUF model with the projector beside it; without that, its `config.json` alone. Any shard stands for its set.
///
/// # Errors
/// [`CheckpointError::NoModel`] if nothing has that name, with the places that were searched and the nearest names;
/// `OtherKind` for an input that does not write text; another variant for files that are missing, wrong or contradict
/// each other.
pub fn open(model: &str) -> Result<Checkpoint, CheckpointError> {
    open_in(model, &Stores::from_env())
}

/// [`open`] with these stores instead of those of the environment.
///
/// # Errors
/// As [`open`].
pub fn open_in(model: &str, stores: &Stores) -> Result<Checkpoint, CheckpointError> {
    match open_any(model, stores)? {
        (checkpoint, Some(kind)) if checkpoint.retrieval.is_none() => Err(other_kind(model, kind)),
        (checkpoint, _) => Ok(checkpoint),
    }
}

/// [`open_in`] for callers that only list tensors: an input that does not write text is no error, and is returned with
/// its kind.
///
/// # Errors
/// As [`open_in`], without `OtherKind` for a checkpoint whose tensors can be listed.
pub fn open_any(
    model: &str,
    stores: &Stores,
) -> Result<(Checkpoint, Option<OtherKind>), CheckpointError> {
    let mut checkpoint = locate(model, stores)?;
    let mut companions = companions(checkpoint.directory.as_deref());
    if let Some(source) = &checkpoint.source
        && checkpoint.directory.is_some()
    {
        companions.files.extend(source.listing.iter().cloned());
    }
    let kind = kind::of(&checkpoint, &companions);
    checkpoint.retrieval = retrieval::of(&checkpoint, kind.as_ref());
    Ok((checkpoint, kind))
}

/// A checkpoint of a `config.json` that is at hand, without weights, called as `origin` says.
///
/// # Errors
/// `OtherKind` for a configuration of what does not write text.
pub fn configured(
    origin: Origin,
    config: Map<String, Value>,
) -> Result<Checkpoint, CheckpointError> {
    let opened = hugging_face::configured(origin.text().to_owned(), Value::Object(config));
    let mut checkpoint = Checkpoint { origin, ..opened };
    let kind = kind::of(&checkpoint, &Companions::default());
    checkpoint.retrieval = retrieval::of(&checkpoint, kind.as_ref());
    match kind {
        Some(kind) if checkpoint.retrieval.is_none() => Err(other_kind(checkpoint.name, kind)),
        _ => Ok(checkpoint),
    }
}

fn other_kind(path: impl Into<PathBuf>, kind: OtherKind) -> CheckpointError {
    let path = path.into();
    CheckpointError::OtherKind { path, kind }
}

/// The small files that describe a checkpoint. One that cannot be read is left out.
fn companions(directory: Option<&Path>) -> Companions {
    let Some(directory) = directory else {
        return Companions::default();
    };
    let files = stores::list(directory).unwrap_or_default();
    let read = |name: &str| {
        let path = directory.join(name);
        let listed = files.contains(&path);
        listed.then(|| json::read(&path, COMPANION_LIMIT).ok())?
    };
    Companions {
        adapter: read("adapter_config.json"),
        quantization: read("hf_quant_config.json"),
        files: files.iter().map(|path| display_name(path)).collect(),
    }
}

/// The largest companion read. Real ones stay below 64 KiB.
const COMPANION_LIMIT: Bytes = Bytes(4 << 20);

fn locate(model: &str, stores: &Stores) -> Result<Checkpoint, CheckpointError> {
    let path = Path::new(model);
    if fs::symlink_metadata(path).is_ok() {
        let opened = if path.is_dir() {
            open_directory(directory_name(path), path)?
        } else {
            open_file(path)?
        };
        let origin = Origin::Path(model.to_owned());
        return Ok(Checkpoint { origin, ..opened });
    }
    let ask = || match &stores.remote {
        Some(remote) if !is_path(model) => remote.find(model).map_err(CheckpointError::Remote),
        _ => Ok(None),
    };
    if let Some(cached) = in_hub_cache(model, stores) {
        // A part of it may be in the cache: small files alone, or what a download that broke off left.
        let is_whole = matches!(&cached, Ok(cached) if !cached.files.is_empty());
        if !is_whole && let Some(found) = ask()? {
            return open_remote(found);
        }
        return cached;
    }
    if let Some(found) = stores.ollama_blobs(model)? {
        let projector = found.projector.as_deref();
        let opened = gguf_files::open(model.to_owned(), &found.model, projector)?;
        return Ok(Checkpoint {
            origin: Origin::Ollama(model.to_owned()),
            served_context: stores::served_context(found.parameters.as_deref())?,
            ..opened
        });
    }
    match ask()? {
        Some(found) => open_remote(found),
        None => Err(no_model(model, stores)),
    }
}

/// The model of a hub id in the hub's own cache, if that has a folder for it.
fn in_hub_cache(model: &str, stores: &Stores) -> Option<Result<Checkpoint, CheckpointError>> {
    let snapshot = stores.hub_snapshot(model).transpose()?;
    let opened = snapshot.and_then(|path| open_directory(model.to_owned(), &path));
    let origin = Origin::Hub(model.to_owned());
    Some(opened.map(|opened| Checkpoint { origin, ..opened }))
}

/// Opens what was found on a server.
fn open_remote(found: RemoteModel) -> Result<Checkpoint, CheckpointError> {
    let RemoteModel {
        name,
        origin,
        place,
        source,
    } = found;
    let opened = match &place {
        ModelFiles::Directory(path) => open_directory(name, path)?,
        ModelFiles::Safetensors(path) => {
            hugging_face::open(name, parent(path), &shards::all(path)?, None)?
        }
        ModelFiles::Gguf {
            model,
            projector,
            parameters,
        } => Checkpoint {
            served_context: stores::served_context(parameters.as_deref())?,
            ..gguf_files::open(name, model, projector.as_deref())?
        },
    };
    let mut checkpoint = Checkpoint {
        origin,
        source,
        ..opened
    };
    // A header tells where the data ends, which need not be the end of its file.
    if let Some(source) = &checkpoint.source {
        for file in &mut checkpoint.files {
            file.bytes = source.weights.size(&file.path).unwrap_or(file.bytes);
        }
    }
    Ok(checkpoint)
}

/// Whether a name can only be meant as a path: it has the form of one, or its folder is there.
fn is_path(model: &str) -> bool {
    let path = Path::new(model);
    let in_place = path
        .parent()
        .is_some_and(|folder| folder != Path::new("") && folder.is_dir());
    in_place || model.is_empty() || model.starts_with(['/', '.', '~'])
}

/// The error for a model that was not found. The stores are not mentioned for a name that can only be a path.
fn no_model(model: &str, stores: &Stores) -> CheckpointError {
    let model = &foreign::without_secrets(model);
    let path = Path::new(model);
    let is_file = ["gguf", "safetensors", "json"]
        .iter()
        .any(|end| has_extension(path, end));
    let is_path = is_file || is_path(model);
    let names = stores.names();
    let nearest = match nearest(model, names.iter().map(String::as_str), 3).as_slice() {
        [] => String::new(),
        near => format!("; nearest are {}", near.join(", ")),
    };
    let shown = foreign::shell_path(model);
    let parts = model.split('/').count();
    let way_out = match (is_path || !nearest.is_empty(), parts, model.contains(':')) {
        (false, 2, false) => {
            let words = foreign::hub_words(model);
            format!("`hf download {words}` fetches it from Hugging Face")
        }
        (false, 1 | 2, true) => format!("`ollama pull {shown}` fetches it"),
        _ => "give a directory with config.json and *.safetensors, or a .safetensors, .gguf or config.json file".to_owned(),
    };
    CheckpointError::NoModel {
        model: model.to_owned(),
        looked: if is_path {
            String::new()
        } else {
            format!(", {}", stores.describe())
        },
        nearest,
        way_out,
    }
}

/// Ends of the names of files that describe a model or hold a part of it.
const PARTS: &[&str] = &["json", "jinja", "txt", "model", "safetensors", "gguf"];

/// The folder of a model's named chat templates.
const TEMPLATES: &str = "additional_chat_templates";

/// Refuses a model one of whose files is a git-LFS pointer: what it stands for would be left out in silence.
fn refuse_pointers(directory: &Path, files: &[PathBuf]) -> Result<(), CheckpointError> {
    let templates = stores::list(&directory.join(TEMPLATES)).unwrap_or_default();
    let all = files.iter().chain(&templates);
    for path in all.filter(|path| PARTS.iter().any(|end| has_extension(path, end))) {
        input::refuse_pointer(path)?;
    }
    Ok(())
}

fn open_directory(name: String, path: &Path) -> Result<Checkpoint, CheckpointError> {
    let files = stores::list(path).map_err(|source| CheckpointError::List {
        path: path.to_owned(),
        source,
    })?;
    refuse_pointers(path, &files)?;
    let with_extension = |extension: &str| -> Vec<PathBuf> {
        files
            .iter()
            .filter(|path| has_extension(path, extension))
            .cloned()
            .collect()
    };
    let safetensors = with_extension("safetensors");
    // An index without any weight file means that only the small files were downloaded: the config.json is planned.
    if !safetensors.is_empty() {
        let mut checkpoint = open_safetensors(name, path, &files, &safetensors)?;
        checkpoint.unread = unread(&checkpoint, &safetensors);
        return Ok(checkpoint);
    }
    let gguf = with_extension("gguf");
    if !gguf.is_empty() {
        let (models, projector) = gguf_files::models_and_projector(&gguf)?;
        return gguf_files::open(name, only_set(path, &models)?, projector.as_deref());
    }
    let config = path.join("config.json");
    let kind = kind::of_directory(path, &companions(Some(path)));
    let is_planned = |kind: &OtherKind| kind.retrieves.is_some() && files.contains(&config);
    if let Some(kind) = kind.filter(|kind| !is_planned(kind)) {
        return Err(other_kind(path, kind));
    }
    // Opening the index reports a git-LFS pointer; a real index belongs to weights that were not downloaded.
    for index in files.iter().filter(|path| Index::is_named(path)) {
        input::open(index)?;
    }
    if files.contains(&config) {
        return hugging_face::open_config(name, path, &config);
    }
    if let Some(kind) = stores::cache_folder(path) {
        return Err(other_kind(path, kind));
    }
    let path = path.to_owned();
    Err(if files.is_empty() {
        CheckpointError::EmptyFolder { path }
    } else {
        CheckpointError::NothingThere { path }
    })
}

/// Opens the weights that Transformers would take of those in a directory.
fn open_safetensors(
    name: String,
    directory: &Path,
    files: &[PathBuf],
    safetensors: &[PathBuf],
) -> Result<Checkpoint, CheckpointError> {
    let single = directory.join("model.safetensors");
    if safetensors.contains(&single) {
        return hugging_face::open(name, directory, &[single], None);
    }
    match find_index(directory, files) {
        Some(index) => open_with_index(name, directory, &Index::read(index)?),
        None => {
            let weights = shards::all(only_set(directory, safetensors)?)?;
            hugging_face::open(name, directory, &weights, None)
        }
    }
}

/// The names of those `files` that are no part of a checkpoint.
fn unread(checkpoint: &Checkpoint, files: &[PathBuf]) -> Vec<String> {
    let is_read = |path: &PathBuf| checkpoint.files.iter().any(|file| file.path == *path);
    let others = files.iter().filter(|path| !is_read(path));
    others.map(|path| display_name(path)).collect()
}

fn open_file(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let directory = parent(path);
    if has_extension(path, "safetensors") {
        let weights = shards::all(path)?;
        let index = path.with_file_name("model.safetensors.index.json");
        let index = if weights.len() > 1 && fs::symlink_metadata(&index).is_ok() {
            Some(Index::read(&index)?).filter(|index| index.lists(path))
        } else {
            None
        };
        return match index {
            Some(index) => open_with_index(file_name(path), directory, &index),
            None => hugging_face::open(file_name(path), directory, &weights, None),
        };
    }
    if Index::is_named(path) {
        return open_with_index(directory_name(directory), directory, &Index::read(path)?);
    }
    if has_extension(path, "json") {
        return hugging_face::open_config(config_name(path), directory, path);
    }
    // Ollama's blobs have no extension.
    if has_extension(path, "gguf") || gguf::starts_as_gguf(path)? {
        return gguf_files::open(file_name(path), path, None);
    }
    if let Some(kind) = kind::unread_file(path, &mut input::open(path)?.0) {
        return Err(other_kind(path, kind));
    }
    Err(CheckpointError::UnknownKind {
        path: path.to_owned(),
    })
}

/// `model.safetensors.index.json`, or else the only index of another name.
fn find_index<'a>(directory: &Path, files: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let usual = directory.join("model.safetensors.index.json");
    let mut named = files.iter().filter(|path| Index::is_named(path));
    match files.iter().find(|path| **path == usual) {
        Some(usual) => Some(usual),
        None => named.next().filter(|_| named.next().is_none()),
    }
}

fn open_with_index(
    name: String,
    directory: &Path,
    index: &Index,
) -> Result<Checkpoint, CheckpointError> {
    hugging_face::open(name, directory, &index.shards()?, Some(index))
}

/// The one file or set of shards among `files`.
fn only_set<'a>(directory: &Path, files: &'a [PathBuf]) -> Result<&'a Path, CheckpointError> {
    match files {
        [] => Err(CheckpointError::NothingThere {
            path: directory.to_owned(),
        }),
        [first, rest @ ..] if rest.iter().all(|other| shards::same_set(first, other)) => Ok(first),
        several => Err(CheckpointError::SeveralModels {
            path: directory.to_owned(),
            names: several.iter().map(|path| display_name(path)).collect(),
        }),
    }
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// The directory of a file; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The name of a directory; the real one for `.` and `..`.
fn directory_name(path: &Path) -> String {
    let real = || {
        path.canonicalize()
            .ok()
            .and_then(|path| path.file_name().map(ToOwned::to_owned))
    };
    let name = path.file_name().map(ToOwned::to_owned).or_else(real);
    name.map_or("model".to_owned(), |name| {
        name.to_string_lossy().into_owned()
    })
}

/// A file's name without extension, shard suffix and `.header`.
fn file_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix(".header").unwrap_or(&stem);
    ShardName::parse(stem)
        .map_or(stem, |shard| shard.stem)
        .to_owned()
}

/// The name of a model given by its configuration: for `config.json`, which every model has, that of its directory.
fn config_name(path: &Path) -> String {
    if path.ends_with("config.json") {
        directory_name(parent(path))
    } else {
        file_name(path)
    }
}
