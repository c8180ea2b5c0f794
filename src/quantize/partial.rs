//! An output that appears whole or not at all: made beside its place under another name, then put there.
//!
//! In: a destination and the form of the output. Out: an unfinished file or directory, locked while it
//! is written. Must not: touch the target before all of the new output is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::destination::{Destination, OutputError};
use super::disk::{
    beside, check_space, directory, empty, entries, exchange, is_at, lock, remove, sync_name,
};
use crate::units::Bytes;

/// What unfinished outputs are called, behind the target's name.
pub(super) const SUFFIX: &str = ".orinplan-partial";

/// What a directory that is being replaced is called, where a disk cannot swap two names in one step.
const OLD: &str = ".orinplan-old";

/// What an output is.
pub(super) enum Form<'a> {
    /// One file.
    File,
    /// A directory, with the rule for what it may replace.
    Directory(MayReplace<'a>),
}

/// Whether what is at a destination's place may be replaced.
pub(super) type MayReplace<'a> = Box<dyn Fn(&Destination<'_>) -> Result<(), OutputError> + 'a>;

/// An unfinished output. Dropped before [`Partial::commit`], it is removed.
pub(super) struct Partial<'a> {
    destination: &'a Destination<'a>,
    form: Form<'a>,
    path: PathBuf,
    /// Holds the lock that keeps a second run away; of a file it is the file itself. Directories are
    /// opened on Unix alone.
    held: Option<File>,
    committed: bool,
}

impl<'a> Partial<'a> {
    /// Makes the unfinished output on a disk that has room for `bytes` bytes, in place of what a killed
    /// run left there.
    pub(super) fn create(
        destination: &'a Destination<'a>,
        form: Form<'a>,
        bytes: Bytes,
    ) -> Result<Partial<'a>, OutputError> {
        let target = destination.path;
        check(destination, &form)?;
        if target.file_name().is_none() {
            return Err(OutputError::place(target, "it has no name"));
        }
        let path = beside(target, SUFFIX);
        let held = match form {
            Form::File => Some(claim_file(&path, target)?),
            Form::Directory(_) => claim_directory(&path, target)?,
        };
        let partial = Partial {
            destination,
            form,
            path,
            held,
            committed: false,
        };
        partial.recover()?;
        check(destination, &partial.form)?;
        partial.clear()?;
        check_space(target, bytes)?;
        Ok(partial)
    }

    /// What the unfinished output is called.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The unfinished file, open for writing.
    pub(super) fn file(&self) -> Result<File, OutputError> {
        let missing = || Err(io::ErrorKind::NotFound.into());
        let file = self.held.as_ref().map_or_else(missing, File::try_clone);
        file.map_err(|e| OutputError::io(&self.path, e))
    }

    /// Writes a small file of an unfinished directory.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), OutputError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|e| OutputError::io(&path, e))
    }

    /// Puts the output on the disk and then under its name.
    pub(super) fn commit(mut self) -> Result<(), OutputError> {
        let target = self.destination.path;
        self.sync()?;
        // Someone may have made the target meanwhile, or changed what it was made from.
        check(self.destination, &self.form)?;
        self.destination.inputs.check()?;
        let replaces_directory =
            matches!(self.form, Form::Directory(_)) && fs::symlink_metadata(target).is_ok();
        if replaces_directory {
            return self.replace_directory();
        }
        fs::rename(&self.path, target).map_err(|e| OutputError::io(target, e))?;
        self.committed = true;
        sync_name(target);
        Ok(())
    }

    /// Puts the directory in the place of the one that is there, and removes that.
    fn replace_directory(&mut self) -> Result<(), OutputError> {
        let target = self.destination.path;
        // A run that begins now must not take the old directory for what a killed run left.
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
        self.committed = true;
        sync_name(target);
        remove(&old)
    }

    /// Gives a directory its name back that a run killed between two renames has left without.
    fn recover(&self) -> Result<(), OutputError> {
        let target = self.destination.path;
        let old = beside(target, OLD);
        let is_left = matches!(self.form, Form::Directory(_)) && old.is_dir();
        if is_left && fs::symlink_metadata(target).is_err() {
            fs::rename(&old, target).map_err(|e| OutputError::io(target, e))?;
        }
        Ok(())
    }

    /// Removes what a killed run left.
    fn clear(&self) -> Result<(), OutputError> {
        match self.form {
            Form::File => {
                let emptied = self.file()?.set_len(0);
                emptied.map_err(|e| OutputError::io(&self.path, e))
            }
            Form::Directory(_) => {
                remove(&beside(self.destination.path, OLD))?;
                empty(&self.path)
            }
        }
    }

    /// Brings everything to the disk.
    fn sync(&self) -> Result<(), OutputError> {
        let sync = |file: io::Result<File>, path: &Path| {
            let synced = file.and_then(|file| file.sync_all());
            synced.map_err(|e| OutputError::io(path, e))
        };
        match self.form {
            Form::File => sync(Ok(self.file()?), self.destination.path),
            Form::Directory(_) => {
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
        if !self.committed {
            // The error that led here is the one to report.
            let _ = match self.form {
                Form::File => fs::remove_file(&self.path),
                Form::Directory(_) => fs::remove_dir_all(&self.path),
            };
        }
    }
}

/// That the target may be made.
fn check(destination: &Destination<'_>, form: &Form<'_>) -> Result<(), OutputError> {
    let path = destination.path;
    if !directory(path).is_dir() {
        return Err(OutputError::place(path, "its directory is not there"));
    }
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    match form {
        Form::File => check_file(destination, &there),
        Form::Directory(may_replace) => may_replace(destination),
    }
}

/// That a file may take the place of what is there.
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
    if destination.overwrite {
        Ok(())
    } else {
        let path = path.to_owned();
        Err(OutputError::Exists { path })
    }
}

/// Makes the unfinished file, or takes over one that a killed run left, for this run alone.
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

/// The same for the unfinished directory.
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
            "what has this name is left by no run; remove it",
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
