//! Writes reports and saved predictions: whole or not at all, and never over a part of a model.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::checkpoint::Checkpoint;
use crate::inputs::Inputs;
use crate::quantize;
use crate::report;
use crate::scheme::TYPE_LIST;

/// The small files beside weights that are read with them.
const COMPANIONS: [&str; 12] = [
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.json",
    "chat_template.jinja",
];

/// What a run on `checkpoint` reads: weights, the small files beside them, and `others`. An output replaces none of
/// these, nor any other file in their folder except GGUF files, which may be earlier outputs.
pub(super) fn inputs(checkpoint: &Checkpoint, others: impl IntoIterator<Item = PathBuf>) -> Inputs {
    let weights = checkpoint.files.iter().map(|file| file.path.clone());
    let directory = checkpoint.directory.as_deref();
    let companions = directory.iter().flat_map(|directory| {
        let paths = COMPANIONS.iter().map(|name| directory.join(name));
        paths.filter(|path| path.exists())
    });
    let beside = directory.map(std::fs::read_dir);
    let beside = beside.into_iter().flatten().flatten().flatten();
    let beside = beside
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none_or(|extension| extension != "gguf"));
    Inputs::read(weights.chain(companions).chain(others)).keeping(beside)
}

/// Checks that `path` is none of the files that are read.
pub(super) fn check_no_input(path: &Path, inputs: &Inputs) -> anyhow::Result<()> {
    match inputs.read_as(path) {
        Some(input) => bail!(
            "{}: is {}, which is an input; give the output another name",
            path.display(),
            input.display()
        ),
        None => Ok(()),
    }
}

/// Checks that the directory of an output is there, before the work that makes it.
pub(super) fn check_directory(path: &Path) -> anyhow::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if directory.is_some_and(|directory| !directory.is_dir()) {
        bail!(
            "cannot write {}: its directory does not exist",
            path.display()
        );
    }
    Ok(())
}

/// Checks that a report may be written to `path`: nothing is there, or a file that is no part of a model.
fn check(path: &Path, inputs: &Inputs) -> anyhow::Result<()> {
    let shown = path.display();
    check_no_input(path, inputs)?;
    check_directory(path)?;
    let is_model = ["gguf", "safetensors"].iter().any(|extension| {
        path.extension()
            .is_some_and(|found| found.eq_ignore_ascii_case(extension))
    });
    if is_model {
        bail!(
            "{shown}: has the name of a model file, but the output is a report; choose another name"
        );
    }
    match std::fs::metadata(path) {
        Ok(there) if there.is_file() && is_foreign(path)? => bail!(
            "{shown}: already exists, and is not a report of this program; choose another name, or remove it"
        ),
        _ => Ok(()),
    }
}

/// Whether a file holds anything that this program did not write: weights, a configuration, notes.
fn is_foreign(path: &Path) -> anyhow::Result<bool> {
    /// The schema is among a document's first bytes.
    const BEGIN: u64 = 4096;
    let mut begin = Vec::new();
    let file = std::fs::File::open(path);
    file.and_then(|file| file.take(BEGIN).read_to_end(&mut begin))
        .with_context(|| format!("{} exists, but cannot be read", path.display()))?;
    let text = String::from_utf8_lossy(&begin);
    let is_ours = text.contains("\"schema\": \"orinplan.")
        || text.starts_with(TYPE_LIST)
        || report::fit::is_report(&text)
        || report::html::is_page(&text);
    Ok(!text.trim().is_empty() && !is_ours)
}

/// Checks that a report may be written to every one of `paths`, and that no two are the same file.
pub(super) fn check_all(paths: &[&Path], inputs: &Inputs) -> anyhow::Result<()> {
    for (index, path) in paths.iter().enumerate() {
        check(path, inputs)?;
        let mut before = paths.iter().take(index);
        if before.any(|other| crate::inputs::same_file(path, other)) {
            bail!(
                "{}: is named for two outputs; give each its own",
                path.display()
            );
        }
    }
    Ok(())
}

/// Writes a report to a file, or prints it.
pub(super) fn deliver(path: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match path {
        Some(path) => write_file(path, text),
        None => super::print(text),
    }
}

/// The name of an output while it is written.
pub(super) fn partial(path: &Path) -> anyhow::Result<PathBuf> {
    let name = path
        .file_name()
        .with_context(|| format!("{} is not a file name", path.display()))?;
    let mut partial = name.to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(path.with_file_name(partial))
}

/// Writes a file whole or not at all: under another name first, synced to the disk, then renamed. What is there and is
/// no regular file, such as `/dev/null`, is written to and not replaced.
pub(super) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let shown = path.display();
    let partial = partial(path)?;
    let is_special = std::fs::metadata(path).is_ok_and(|there| !there.is_file());
    let written = if is_special {
        std::fs::write(path, text)
    } else {
        write_synced(&partial, text).and_then(|()| std::fs::rename(&partial, path))
    };
    match &written {
        Err(_) => drop(std::fs::remove_file(&partial)),
        Ok(()) => quantize::sync_name(path),
    }
    if matches!(&written, Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        bail!("cannot write {shown}: its directory does not exist");
    }
    written.with_context(|| format!("cannot write {shown}"))
}

fn write_synced(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A file in the folder for temporary files that has lost its name already: nothing is left of it whatever happens.
pub(super) fn unnamed() -> anyhow::Result<(std::fs::File, PathBuf)> {
    let path = std::env::temp_dir().join(format!("orinplan-predictions-{}", std::process::id()));
    let options = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .to_owned();
    let file = options
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    std::fs::remove_file(&path)?;
    Ok((file, path))
}
