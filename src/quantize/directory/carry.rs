//! Everything beside the weights that a model directory needs: tokenizer, templates, generation
//! settings, licences and code are carried over unchanged.

use std::fs;
use std::path::Path;

use super::error::DirectoryError;
use crate::checkpoint::Checkpoint;

/// Ends of names of weights in any form, and of their indices.
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
    ".orinplan-partial",
];

/// Files that describe how the input was quantized, and the one that is written anew.
const STALE: &[&str] = &[
    "config.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "recipe.yaml",
];

/// The one folder that Transformers reads from a model's directory.
const TEMPLATES: &str = "additional_chat_templates";

/// Copies them to `output`, and gives their names in order. Hidden files and other folders stay.
pub(super) fn over(checkpoint: &Checkpoint, output: &Path) -> Result<Vec<String>, DirectoryError> {
    let Some(directory) = &checkpoint.directory else {
        return Ok(Vec::new());
    };
    let mut carried = copy(directory, output, "")?;
    let templates = directory.join(TEMPLATES);
    if templates.is_dir() {
        let to = output.join(TEMPLATES);
        fs::create_dir(&to).map_err(|source| DirectoryError::Io {
            path: to.clone(),
            source,
        })?;
        carried.extend(copy(&templates, &to, "additional_chat_templates/")?);
    }
    Ok(carried)
}

fn copy(from: &Path, to: &Path, prefix: &str) -> Result<Vec<String>, DirectoryError> {
    let failed = |path: &Path, source| DirectoryError::Io {
        path: path.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(from).map_err(|source| failed(from, source))? {
        let entry = entry.map_err(|source| failed(from, source))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = name.starts_with('.')
            || STALE.contains(&name.as_str())
            || WEIGHTS.iter().any(|end| name.ends_with(end));
        // Links are followed (the hub's cache is made of them); a broken one is no file.
        if !skipped && fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) {
            let path = to.join(entry.file_name());
            // Contents only: a read-only original must not make a copy that cannot be removed.
            let mut source = fs::File::open(entry.path()).map_err(|e| failed(&entry.path(), e))?;
            let mut target = fs::File::create(&path).map_err(|e| failed(&path, e))?;
            std::io::copy(&mut source, &mut target).map_err(|e| failed(&path, e))?;
            names.push(format!("{prefix}{name}"));
        }
    }
    names.sort();
    Ok(names)
}
