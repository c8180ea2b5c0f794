//! Copies the other files of a model directory unchanged: tokenizer, templates, generation settings, licences and code.

use std::fs;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::quantize::destination::OutputError;
use crate::quantize::disk::entries;
use crate::quantize::partial::SUFFIX;
use crate::units::Bytes;

/// Suffixes of weight files of any format, and of their indices.
const WEIGHTS: &[&str] = &[
    ".safetensors",
    ".index.json",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".gguf",
    ".h5",
    ".msgpack",
    ".onnx",
    ".onnx_data",
    ".npz",
    SUFFIX,
];

/// Files that describe how the input was quantized, and `config.json`, which is written anew.
const STALE: &[&str] = &[
    "config.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "recipe.yaml",
];

/// The one folder that Transformers reads from a model's directory.
const TEMPLATES: &str = "additional_chat_templates";

/// A file that is copied.
#[derive(Debug)]
pub(super) struct Carried {
    from: PathBuf,
    /// Its path relative to the directory.
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// The files to copy, sorted by name. Hidden files and other folders are not copied.
pub(super) fn list(checkpoint: &Checkpoint) -> Result<Vec<Carried>, OutputError> {
    let Some(directory) = &checkpoint.directory else {
        return Ok(Vec::new());
    };
    let mut carried = files(directory, "")?;
    let templates = directory.join(TEMPLATES);
    if templates.is_dir() {
        carried.extend(files(&templates, &format!("{TEMPLATES}/"))?);
    }
    Ok(carried)
}

fn files(from: &Path, prefix: &str) -> Result<Vec<Carried>, OutputError> {
    let mut found = Vec::new();
    for entry in entries(from)? {
        let name = entry.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let skipped = name.starts_with('.')
            || STALE.contains(&name.as_str())
            || WEIGHTS.iter().any(|end| name.ends_with(end));
        // Links are followed (the hub's cache consists of them); a dangling one is skipped.
        let file = fs::metadata(&entry).ok().filter(|m| m.is_file());
        if let Some(file) = file.filter(|_| !skipped) {
            found.push(Carried {
                from: entry,
                name: format!("{prefix}{name}"),
                bytes: Bytes(file.len()),
            });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Copies the contents of the files to `output`, without their permissions: a copy must not become read-only and
/// impossible to remove.
pub(super) fn over(carried: &[Carried], output: &Path) -> Result<(), OutputError> {
    for file in carried {
        let path = output.join(&file.name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| OutputError::io(folder, e))?;
        }
        let source = fs::File::open(&file.from);
        let mut source = source.map_err(|e| OutputError::io(&file.from, e))?;
        let copied = fs::File::create(&path).and_then(|mut to| std::io::copy(&mut source, &mut to));
        copied.map_err(|e| OutputError::io(&path, e))?;
    }
    Ok(())
}
