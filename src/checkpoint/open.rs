//! From what a user typed to a checkpoint: a path of any kind, a hub id or an Ollama tag.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::CheckpointError;
use super::index::Index;
use super::json;
use super::kind::{self, Companions, Kind};
use super::shards::{self, ShardName, display_name};
use super::stores::{self, Stores};
use super::{Checkpoint, Origin, gguf_files, hugging_face};
use crate::foreign;
use crate::input;
use crate::nearest::nearest;
use crate::units::Bytes;

/// Opens a model by path, cached Hugging Face id or pulled Ollama tag.
///
/// A path that exists comes first. A directory is read as Transformers reads it: `model.safetensors`,
/// else the shards of its index, else the only (or only set of) `*.safetensors`; without any, its
/// one GGUF model with the projector beside it; without that, its `config.json` alone. One shard of
/// a set stands for the set.
///
/// # Errors
/// [`CheckpointError`], for a model that is not there with what was looked at and the nearest names.
pub fn open(model: &str) -> Result<Checkpoint, CheckpointError> {
    open_in(model, &Stores::from_env())
}

/// [`open`] with the stores given.
///
/// # Errors
/// As [`open`].
pub fn open_in(model: &str, stores: &Stores) -> Result<Checkpoint, CheckpointError> {
    match open_any(model, stores)? {
        (checkpoint, None) => Ok(checkpoint),
        (_, Some(kind)) => Err(other_kind(model, kind)),
    }
}

/// [`open_in`] for whoever only looks: another kind than a model that writes text is no error, and comes with
/// what it is.
///
/// # Errors
/// As [`open_in`].
pub fn open_any(
    model: &str,
    stores: &Stores,
) -> Result<(Checkpoint, Option<Kind>), CheckpointError> {
    let checkpoint = locate(model, stores)?;
    let kind = kind::of(&checkpoint, &companions(checkpoint.directory.as_deref()));
    Ok((checkpoint, kind))
}

fn other_kind(path: impl Into<PathBuf>, kind: Kind) -> CheckpointError {
    let path = path.into();
    CheckpointError::OtherKind { path, kind }
}

/// The small files that say what a checkpoint is. One that cannot be read says nothing.
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
        let opened = match path.is_dir() {
            true => open_directory(directory_name(path), path)?,
            false => open_file(path)?,
        };
        let origin = Origin::Path(model.to_owned());
        return Ok(Checkpoint { origin, ..opened });
    }
    if let Some(snapshot) = stores.hub_snapshot(model)? {
        let opened = open_directory(model.to_owned(), &snapshot)?;
        let origin = Origin::Hub(model.to_owned());
        return Ok(Checkpoint { origin, ..opened });
    }
    if let Some(found) = stores.ollama_blobs(model)? {
        let projector = found.projector.as_deref();
        let opened = gguf_files::open(model.to_owned(), &found.model, projector)?;
        let origin = Origin::Ollama(model.to_owned());
        return Ok(Checkpoint { origin, ..opened });
    }
    Err(no_model(model, stores))
}

/// What to say of a model that is not there: of what can only be a path not where else it was looked for.
fn no_model(model: &str, stores: &Stores) -> CheckpointError {
    let path = Path::new(model);
    let in_place = path
        .parent()
        .is_some_and(|folder| folder != Path::new("") && folder.is_dir());
    let is_file = ["gguf", "safetensors", "json"]
        .iter()
        .any(|end| has_extension(path, end));
    let is_path = in_place || is_file || model.is_empty() || model.starts_with(['/', '.', '~']);
    let names = stores.names();
    let nearest = match nearest(model, names.iter().map(String::as_str), 3).as_slice() {
        [] => String::new(),
        near => format!("; nearest are {}", near.join(", ")),
    };
    let shown = foreign::shell_path(model);
    let parts = model.split('/').count();
    let way_out = match (is_path || !nearest.is_empty(), parts, model.contains(':')) {
        (false, 2, false) => format!("`hf download {shown}` fetches it from Hugging Face"),
        (false, 1 | 2, true) => format!("`ollama pull {shown}` fetches it"),
        _ => "give a directory with config.json and *.safetensors, or a .safetensors, .gguf or config.json file".to_owned(),
    };
    CheckpointError::NoModel {
        model: model.to_owned(),
        looked: match is_path {
            true => String::new(),
            false => format!(", {}", stores.describe()),
        },
        nearest,
        way_out,
    }
}

fn open_directory(name: String, path: &Path) -> Result<Checkpoint, CheckpointError> {
    let files = stores::list(path).map_err(|source| CheckpointError::List {
        path: path.to_owned(),
        source,
    })?;
    let with_extension = |extension: &str| -> Vec<PathBuf> {
        files
            .iter()
            .filter(|path| has_extension(path, extension))
            .cloned()
            .collect()
    };
    let safetensors = with_extension("safetensors");
    let single = path.join("model.safetensors");
    if safetensors.contains(&single) {
        return hugging_face::open(name, path, &[single], None);
    }
    // An index without a single weight file is what stays of a checkpoint of which only the small
    // files were fetched: its config.json is enough to plan with.
    if !safetensors.is_empty() {
        return match find_index(path, &files) {
            Some(index) => open_with_index(name, path, &Index::read(index)?),
            None => {
                let weights = shards::all(only_set(path, &safetensors)?)?;
                hugging_face::open(name, path, &weights, None)
            }
        };
    }
    let gguf = with_extension("gguf");
    if !gguf.is_empty() {
        let (models, projector) = gguf_files::sort_out(&gguf)?;
        return gguf_files::open(name, only_set(path, &models)?, projector.as_deref());
    }
    if let Some(kind) = kind::of_directory(path, &companions(Some(path))) {
        return Err(other_kind(path, kind));
    }
    // An index that is only a pointer says so; a real one is of weights that were not fetched.
    for index in files.iter().filter(|path| Index::is_named(path)) {
        input::open(index)?;
    }
    let config = path.join("config.json");
    match files.contains(&config) {
        true => hugging_face::open_config(name, path, &config),
        false => Err(CheckpointError::NothingThere {
            path: path.to_owned(),
        }),
    }
}

fn open_file(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let directory = parent(path);
    if has_extension(path, "safetensors") {
        let weights = shards::all(path)?;
        let index = path.with_file_name("model.safetensors.index.json");
        let index = match weights.len() > 1 && fs::symlink_metadata(&index).is_ok() {
            true => Some(Index::read(&index)?).filter(|index| index.lists(path)),
            false => None,
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
    if has_extension(path, "gguf") || starts_as_gguf(path)? {
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

/// Ollama's blobs have no extension.
fn starts_as_gguf(path: &Path) -> Result<bool, CheckpointError> {
    let (file, _): (File, u64) = input::open(path)?;
    let mut magic = Vec::new();
    let read = file.take(4).read_to_end(&mut magic);
    read.map_err(|source| input::OpenError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(magic == b"GGUF")
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

/// `.` and `..` are called by the directory's real name.
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

/// A file's name without extension, shard suffix and the mark of a bare header.
fn file_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_suffix(".header").unwrap_or(&stem);
    ShardName::parse(stem)
        .map_or(stem, |shard| shard.stem)
        .to_owned()
}

/// Every model has a `config.json`; its directory tells them apart.
fn config_name(path: &Path) -> String {
    if path.ends_with("config.json") {
        directory_name(parent(path))
    } else {
        file_name(path)
    }
}
