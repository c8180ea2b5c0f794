//! The directory to be written: made beside its place, and put there when it is whole.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Job;
use super::error::DirectoryError;
use crate::input;
use crate::quantize::OutputError;
use crate::quantize::output::{SUFFIX, check_space, directory, is_at, lock, sync_name};
use crate::units::Bytes;

/// A directory in the making; removed when it is dropped without [`Partial::commit`].
#[derive(Debug)]
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    /// Where a directory that is replaced waits for the end.
    old: PathBuf,
    /// Holds the lock that keeps a second run away.
    _lock: Option<fs::File>,
    done: bool,
}

impl Partial {
    /// Checks the target, cleans up what a killed run left, and makes an empty directory on a disk
    /// that has room for all of `job`.
    pub(super) fn create(
        target: &Path,
        job: &Job<'_>,
        overwrite: bool,
    ) -> Result<Partial, DirectoryError> {
        let Some(name) = target.file_name() else {
            return Err(place(target, "it has no name"));
        };
        if !directory(target).is_dir() {
            return Err(place(target, "its directory is not there"));
        }
        let beside = |end: &str| {
            let mut full = OsString::from(name);
            full.push(end);
            target.with_file_name(full)
        };
        let (path, old) = (beside(SUFFIX), beside(".orinplan-old"));
        let lock = claim(&path, target)?;
        let partial = Partial {
            target: target.to_owned(),
            path,
            old,
            _lock: lock,
            done: false,
        };
        if fs::symlink_metadata(target).is_err() && partial.old.is_dir() {
            // Killed between two renames: the old directory is the valid one.
            fs::rename(&partial.old, target).map_err(|e| failed(target, e))?;
        }
        if fs::symlink_metadata(target).is_ok() {
            check_replaced(target, job, overwrite)?;
        }
        remove(&partial.old)?;
        empty(&partial.path)?;
        check_space(target, job.bytes())?;
        Ok(partial)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a small text file.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), DirectoryError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|e| failed(&path, e))
    }

    /// Brings everything to the disk and the directory to its name.
    pub(super) fn commit(mut self) -> Result<(), DirectoryError> {
        for entry in fs::read_dir(&self.path).map_err(|e| failed(&self.path, e))? {
            let path = entry.map_err(|e| failed(&self.path, e))?.path();
            let synced = fs::File::open(&path).and_then(|file| file.sync_all());
            synced.map_err(|e| failed(&path, e))?;
        }
        let replaces = fs::symlink_metadata(&self.target).is_ok();
        if replaces {
            fs::rename(&self.target, &self.old).map_err(|e| failed(&self.target, e))?;
        }
        if let Err(error) = fs::rename(&self.path, &self.target) {
            if replaces {
                let back = fs::rename(&self.old, &self.target);
                back.map_err(|e| failed(&self.old, e))?;
            }
            return Err(failed(&self.target, error));
        }
        self.done = true;
        sync_name(&self.target);
        remove(&self.old)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // The error that led here is the one to report.
            let _ = remove(&self.path);
        }
    }
}

/// Only what such a job writes is replaced: a quantized model's directory with nothing else in it, and
/// never one that the input is in.
fn check_replaced(target: &Path, job: &Job<'_>, overwrite: bool) -> Result<(), DirectoryError> {
    let path = target.to_owned();
    let real = fs::canonicalize(target).map_err(|e| failed(target, e))?;
    let checkpoint = job.checkpoint;
    let inputs = checkpoint.files.iter().map(|f| f.path.as_path());
    let inputs = inputs.chain(checkpoint.directory.as_deref());
    // Both where an input is called and where its links lead.
    let mut places = inputs.flat_map(|input| {
        let parent = input
            .parent()
            .and_then(|parent| fs::canonicalize(parent).ok());
        let called = parent.and_then(|parent| Some(parent.join(input.file_name()?)));
        [called, fs::canonicalize(input).ok()].into_iter().flatten()
    });
    if places.any(|input| input.starts_with(&real)) {
        return Err(DirectoryError::OwnInput { path });
    }
    if !overwrite {
        return Err(OutputError::Exists { path }.into());
    }
    if !fs::symlink_metadata(target).is_ok_and(|m| m.is_dir()) {
        let entry = "no directory of its own".to_owned();
        return Err(DirectoryError::NotAModel { path, entry });
    }
    for entry in fs::read_dir(target).map_err(|e| failed(target, e))? {
        let entry = entry.map_err(|e| failed(target, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !job.may_hold(&name) {
            let entry = format!("`{name}`, which is not written there");
            return Err(DirectoryError::NotAModel { path, entry });
        }
    }
    match is_quantized(&target.join("config.json")) {
        true => Ok(()),
        false => Err(DirectoryError::NotAModel {
            path,
            entry: "no config.json of a compressed-tensors model".to_owned(),
        }),
    }
}

/// Whether a configuration says that its weights are packed as this program packs them.
fn is_quantized(config: &Path) -> bool {
    const LIMIT: Bytes = Bytes(16 << 20);
    let text = input::read_text(config, LIMIT).unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json.pointer("/quantization_config/quant_method")
        .is_some_and(|method| method == "compressed-tensors")
}

/// Makes the unfinished directory, or takes over one that a killed run left, for this run alone.
fn claim(path: &Path, target: &Path) -> Result<Option<fs::File>, DirectoryError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed(path, error));
        }
        _ => {}
    }
    // A link of that name is none of ours, and must not lead us to another directory.
    if !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        return Err(place(
            path,
            "what has this name is left by no run; remove it",
        ));
    }
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let open = fs::File::open(path).map_err(|e| failed(path, e))?;
    match lock(&open) && is_at(&open, path) {
        true => Ok(Some(open)),
        false => Err(OutputError::Busy {
            path: target.to_owned(),
        }
        .into()),
    }
}

fn empty(path: &Path) -> Result<(), DirectoryError> {
    for entry in fs::read_dir(path).map_err(|e| failed(path, e))? {
        let entry = entry.map_err(|e| failed(path, e))?;
        let removed = match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        removed.map_err(|e| failed(&entry.path(), e))?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), DirectoryError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    }
}

fn place(path: &Path, problem: &'static str) -> DirectoryError {
    let path = path.to_owned();
    OutputError::Place { path, problem }.into()
}

pub(super) fn failed(path: &Path, source: io::Error) -> DirectoryError {
    let path = path.to_owned();
    OutputError::Io { path, source }.into()
}
