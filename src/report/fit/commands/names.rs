//! Paths in the commands: those of the model as the user gave them, and names of new files in the current directory.

use std::path::Path;

use super::super::Report;
use crate::checkpoint::{Origin, SourceFormat};
use crate::foreign::{hub_words, shell_path};
use crate::plan::Plan;

/// The model's name without the owner of a hub id, as part of a file's name.
pub(super) fn base(report: &Report<'_>) -> String {
    let name = report.model.name.as_str();
    let base = name.rsplit('/').next().unwrap_or(name);
    base.replace(':', "-")
}

/// The name of a GGUF to be made.
pub(super) fn new_gguf(report: &Report<'_>, scheme: &str) -> String {
    format!("{}-{}.gguf", base(report), scheme.to_uppercase())
}

/// The name of a directory to be made.
pub(super) fn new_directory(report: &Report<'_>, scheme: &str) -> String {
    format!("{}-{scheme}", base(report))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The plan's GGUF: the one that was given (of a split one the first part), or a name for a new one. `None` for a model in
/// Ollama's store, whose file name is a digest.
pub(super) fn gguf(report: &Report<'_>, plan: &Plan) -> Option<String> {
    if !plan.assignment.is_stored() {
        return Some(new_gguf(report, &plan.assignment.scheme));
    }
    let within_reach = !matches!(report.checkpoint.origin, Origin::Ollama(_));
    let given = report.checkpoint.files.first().filter(|_| within_reach);
    given.map(|file| match report.checkpoint.source {
        Some(_) => fetched(&file.path),
        None => text(&file.path),
    })
}

/// The name that a file of a server gets here, of which the header is kept.
fn fetched(header: &Path) -> String {
    let name = header.file_name().unwrap_or_default().to_string_lossy();
    name.replace(".header.", ".")
}

/// The directory of a Hugging Face checkpoint.
pub(super) fn directory(report: &Report<'_>) -> String {
    let directory = report.checkpoint.directory.as_deref();
    text(directory.unwrap_or(Path::new(".")))
}

/// The directory of a Hugging Face checkpoint as a word of a shell; one on a server is downloaded first.
pub(super) fn directory_word(report: &Report<'_>) -> String {
    match (&report.checkpoint.source, &report.checkpoint.origin) {
        (Some(_), Origin::Hub(id)) => format!(r#""$(hf download {})""#, hub_words(id)),
        _ => shell_path(&directory(report)),
    }
}

/// The projector file of a GGUF with towers, which is listed after the model's files.
pub(super) fn given_projector(report: &Report<'_>) -> Option<String> {
    let checkpoint = report.checkpoint;
    let has_one = checkpoint.format == SourceFormat::Gguf
        && checkpoint.files.len() > 1
        && !report.model.towers.is_empty();
    let last = checkpoint.files.last().filter(|_| has_one);
    last.map(|file| text(&file.path))
}

/// The name of the projector's file that a Hugging Face checkpoint with towers is converted to.
pub(super) fn new_projector(report: &Report<'_>) -> Option<String> {
    let has_towers = !report.model.towers.is_empty() || report.model.projector.is_some();
    let has_towers = has_towers && !report.workload.text_only;
    let wanted = has_towers && report.checkpoint.format != SourceFormat::Gguf;
    wanted.then(|| format!("mmproj-{}.gguf", base(report)))
}

/// The projector file to load with the model, if its towers are used.
pub(super) fn projector(report: &Report<'_>) -> Option<String> {
    let given = given_projector(report).filter(|_| !report.workload.text_only);
    given.or_else(|| new_projector(report))
}
