//! Outputs that appear complete or not at all: written beside the target under another name, then renamed.
//!
//! In: a destination and the form of the output. Out: an unfinished file or directory, locked while it
//! is written. Must not: touch the target before the whole output is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::destination::{Destination, OutputError};
use super::disk::{
    beside, check_space, directory, empty, entries, exchange, is_at, lock, remove, sync_name,
};
use crate::checkpoint;
use crate::gguf::starts_as_gguf;
use crate::input;
use crate::units::Bytes;

/// The suffix of unfinished outputs, after the name of the target.
pub(super) const SUFFIX: &str = ".orinplan-partial";

/// The suffix of a directory that is being replaced, on file systems that cannot swap two names atomically.
const OLD: &str = ".orinplan-old";

/// Whether an output is a file or a directory.
pub(super) enum OutputForm<'a> {
    /// One file.
    File,
    /// A directory, with the rule for what it may replace.
    Directory(MayReplace<'a>),
}

/// Checks whether the directory that exists at a destination may be replaced.
pub(super) type MayReplace<'a> = Box<dyn Fn(&Destination<'_>) -> Result<(), OutputError> + 'a>;

impl Destination<'_> {
    /// Checks that a file may be written there, before the work for it begins; it is checked again when it is written.
    ///
    /// # Errors
    /// [`OutputError`]: the place is taken, or is none for a file.
    pub fn check_file(&self) -> Result<(), OutputError> {
        check(self, &OutputForm::File)
    }
}

/// An unfinished output. It is removed if it is dropped before [`Partial::commit`], unless it is to stay.
pub(super) struct Partial<'a> {
    destination: &'a Destination<'a>,
    form: OutputForm<'a>,
    path: PathBuf,
    /// The locked file (for a directory, the directory), which keeps a second run away. Directories can be
    /// opened on Unix only.
    held: Option<File>,
    /// Whether it stays when it is dropped.
    stays: Arc<AtomicBool>,
}

/// What becomes of an unfinished output that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leftover {
    /// It is replaced.
    Replace,
    /// It is gone on with.
    GoOn,
}

impl<'a> Partial<'a> {
    /// Creates the unfinished output after checking that the disk has room for `bytes`, or takes over what an earlier run
    /// left.
    pub(super) fn create(
        destination: &'a Destination<'a>,
        form: OutputForm<'a>,
        bytes: Bytes,
        leftover: Leftover,
    ) -> Result<Partial<'a>, OutputError> {
        let target = destination.path;
        check(destination, &form)?;
        if target.file_name().is_none() {
            return Err(OutputError::place(target, "it has no name"));
        }
        let path = beside(target, SUFFIX);
        let held = match form {
            OutputForm::File => Some(claim_file(&path, target)?),
            OutputForm::Directory(_) => claim_directory(&path, target)?,
        };
        let partial = Partial {
            destination,
            form,
            path,
            held,
            stays: Arc::new(AtomicBool::new(false)),
        };
        partial.recover()?;
        check(destination, &partial.form)?;
        let there = match leftover {
            Leftover::Replace => {
                partial.clear()?;
                Bytes(0)
            }
            Leftover::GoOn => {
                partial.stay();
                let metadata = fs::metadata(&partial.path);
                Bytes(metadata.map_or(0, |metadata| metadata.len()))
            }
        };
        check_space(target, Bytes(bytes.0.saturating_sub(there.0)))?;
        Ok(partial)
    }

    /// Leaves the unfinished output when this ends: it can be gone on with.
    fn stay(&self) {
        self.stays.store(true, Ordering::Relaxed);
    }

    /// Whether the unfinished output stays when this ends.
    pub(super) fn stays(&self) -> Arc<AtomicBool> {
        self.stays.clone()
    }

    /// The path of the unfinished output.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The unfinished file, open for writing.
    pub(super) fn file(&self) -> Result<File, OutputError> {
        let missing = || Err(io::ErrorKind::NotFound.into());
        let file = self.held.as_ref().map_or_else(missing, File::try_clone);
        file.map_err(|e| OutputError::io(&self.path, e))
    }

    /// Writes a small file into an unfinished directory.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), OutputError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|e| OutputError::io(&path, e))
    }

    /// Syncs the output to the disk and then renames it to the target.
    pub(super) fn commit(self) -> Result<(), OutputError> {
        let target = self.destination.path;
        self.sync()?;
        // The target may have been created meanwhile, or an input changed.
        check(self.destination, &self.form)?;
        self.destination.inputs.check()?;
        let replaces_directory =
            matches!(self.form, OutputForm::Directory(_)) && fs::symlink_metadata(target).is_ok();
        if replaces_directory {
            return self.replace_directory();
        }
        fs::rename(&self.path, target).map_err(|e| OutputError::io(target, e))?;
        self.stay();
        sync_name(target);
        Ok(())
    }

    /// Replaces the existing directory by the new one, and removes it.
    fn replace_directory(&self) -> Result<(), OutputError> {
        let target = self.destination.path;
        // The old directory stays locked, so that a run that starts now does not take it for the rest of a killed run.
        let replaced = File::open(target).ok();
        let _ = replaced.as_ref().map(lock);
        let old = if exchange(&self.path, target) {
            self.path.clone()
        } else {
            let old = beside(target, OLD);
            fs::rename(target, &old).map_err(|e| OutputError::io(target, e))?;
            if let Err(error) = fs::rename(&self.path, target) {
                fs::rename(&old, target).map_err(|e| OutputError::io(&old, e))?;
                return Err(OutputError::io(target, error));
            }
            old
        };
        self.stay();
        sync_name(target);
        remove(&old)
    }

    /// Restores the name of a directory if a run was killed between the two renames.
    fn recover(&self) -> Result<(), OutputError> {
        let target = self.destination.path;
        let old = beside(target, OLD);
        let is_left = matches!(self.form, OutputForm::Directory(_)) && old.is_dir();
        if is_left && fs::symlink_metadata(target).is_err() {
            fs::rename(&old, target).map_err(|e| OutputError::io(target, e))?;
        }
        Ok(())
    }

    /// Removes the rest of a killed run.
    fn clear(&self) -> Result<(), OutputError> {
        match self.form {
            OutputForm::File => {
                let emptied = self.file()?.set_len(0);
                emptied.map_err(|e| OutputError::io(&self.path, e))
            }
            OutputForm::Directory(_) => {
                remove(&beside(self.destination.path, OLD))?;
                empty(&self.path)
            }
        }
    }

    /// Syncs all files to the disk.
    fn sync(&self) -> Result<(), OutputError> {
        let sync = |file: io::Result<File>, path: &Path| {
            let synced = file.and_then(|file| file.sync_all());
            synced.map_err(|e| OutputError::io(path, e))
        };
        match self.form {
            OutputForm::File => sync(Ok(self.file()?), self.destination.path),
            OutputForm::Directory(_) => {
                for path in entries(&self.path)? {
                    sync(File::open(&path), &path)?;
                }
                Ok(())
            }
        }
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.stays.load(Ordering::Relaxed) {
            // An error of the removal is ignored: the error that caused it is reported.
            let _ = match self.form {
                OutputForm::File => fs::remove_file(&self.path),
                OutputForm::Directory(_) => fs::remove_dir_all(&self.path),
            };
        }
    }
}

/// Checks that the target may be written.
fn check(destination: &Destination<'_>, form: &OutputForm<'_>) -> Result<(), OutputError> {
    let path = destination.path;
    if !directory(path).is_dir() {
        return Err(OutputError::place(path, "directory does not exist"));
    }
    if let (OutputForm::File, Some(problem)) = (form, is_misread(path)) {
        return Err(OutputError::place(path, problem));
    }
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    match form {
        OutputForm::File => check_file(destination, &there),
        OutputForm::Directory(may_replace) => may_replace(destination),
    }
}

/// What readers would take a file of this name for, where that is not a whole model.
fn is_misread(path: &Path) -> Option<&'static str> {
    if input::is_header_only(path) {
        return Some(
            "readers treat a file called .header. as one without weights; choose another name",
        );
    }
    checkpoint::is_part(path).then_some(
        "readers treat a file called -00001-of-00002 as a part of a model; choose another name",
    )
}

/// Checks that a file may replace what exists at the target.
fn check_file(destination: &Destination<'_>, there: &fs::Metadata) -> Result<(), OutputError> {
    let path = destination.path;
    if let Some(input) = destination.inputs.same_as(path) {
        return Err(OutputError::OwnInput {
            path: path.to_owned(),
            input: input.to_owned(),
        });
    }
    if there.is_dir() {
        return Err(OutputError::place(
            path,
            "it is a directory; name a file in it",
        ));
    }
    if !(there.is_file() || there.is_symlink()) {
        return Err(OutputError::place(path, "it is a device or a pipe"));
    }
    if !destination.overwrite {
        let path = path.to_owned();
        return Err(OutputError::Exists { path });
    }
    let is_named = path
        .extension()
        .is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if !is_named && !starts_as_gguf(path).unwrap_or(false) {
        let path = path.to_owned();
        return Err(OutputError::NotGguf { path });
    }
    Ok(())
}

/// Creates the unfinished file, or takes over that of a killed run, and locks it.
fn claim_file(path: &Path, target: &Path) -> Result<File, OutputError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // A link of that name was not made by this program, and is not followed.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOFOLLOW.bits() as i32,
    );
    let file = options.open(path).map_err(|e| OutputError::io(path, e))?;
    if lock(&file) && path.is_file() && is_at(&file, path) {
        Ok(file)
    } else {
        let path = target.to_owned();
        Err(OutputError::Busy { path })
    }
}

/// Creates the unfinished directory, or takes over that of a killed run, and locks it.
fn claim_directory(path: &Path, target: &Path) -> Result<Option<File>, OutputError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(OutputError::io(path, error));
        }
        _ => {}
    }
    // A link of that name was not made by this program, and is not followed.
    if !fs::symlink_metadata(path).is_ok_and(|there| there.is_dir()) {
        return Err(OutputError::place(
            path,
            "the file of this name is not from an earlier run; remove it",
        ));
    }
    if cfg!(not(unix)) {
        return Ok(None);
    }
    let open = File::open(path).map_err(|e| OutputError::io(path, e))?;
    if lock(&open) && is_at(&open, path) {
        Ok(Some(open))
    } else {
        let path = target.to_owned();
        Err(OutputError::Busy { path })
    }
}
