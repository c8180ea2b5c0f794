//! Checks what an output directory may replace: only the directory of a quantized model with no other files in it, and
//! never one that contains the input.

use std::fs;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::input;
use crate::quantize::destination::{Destination, OutputError};
use crate::quantize::disk::entries;
use crate::units::Bytes;

/// Checks that the directory at the destination may be replaced by an output made from `checkpoint`: all its names must
/// satisfy `is_ours`.
pub(super) fn check(
    destination: &Destination<'_>,
    checkpoint: &Checkpoint,
    is_ours: impl Fn(&str) -> bool,
) -> Result<(), OutputError> {
    let target = destination.path;
    let path = target.to_owned();
    if target.file_name().is_none() {
        return Err(OutputError::place(target, "it has no name"));
    }
    let real = fs::canonicalize(target).map_err(|e| OutputError::io(target, e))?;
    if places(checkpoint).any(|input| input.starts_with(&real)) {
        return Err(OutputError::HoldsInput { path });
    }
    if !destination.overwrite {
        return Err(OutputError::Exists { path });
    }
    if !fs::symlink_metadata(target).is_ok_and(|m| m.is_dir()) {
        let entry = "no directory of its own".to_owned();
        return Err(OutputError::NotAModel { path, entry });
    }
    for entry in entries(target)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        let is_file = fs::symlink_metadata(&entry).is_ok_and(|m| m.is_file());
        if !is_ours(&name) || !is_file {
            let entry = format!("`{name}`, which is not written there");
            return Err(OutputError::NotAModel { path, entry });
        }
    }
    if !is_quantized(&target.join("config.json")) {
        let entry = "no config.json of a compressed-tensors model".to_owned();
        return Err(OutputError::NotAModel { path, entry });
    }
    Ok(())
}

/// The directories of the checkpoint's files, both by their paths and by the targets of links.
fn places(checkpoint: &Checkpoint) -> impl Iterator<Item = std::path::PathBuf> {
    let files = checkpoint.files.iter().map(|f| f.path.as_path());
    let inputs = files.chain(checkpoint.directory.as_deref());
    inputs.flat_map(|input| {
        let parent = input
            .parent()
            .and_then(|parent| fs::canonicalize(parent).ok());
        let called = parent.and_then(|parent| Some(parent.join(input.file_name()?)));
        [called, fs::canonicalize(input).ok()].into_iter().flatten()
    })
}

/// Whether a configuration states the quantization format that this program writes.
fn is_quantized(config: &Path) -> bool {
    const LIMIT: Bytes = Bytes(16 << 20);
    let text = input::read_text(config, LIMIT).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json.pointer("/quantization_config/quant_method")
        .is_some_and(|method| method == "compressed-tensors")
}
