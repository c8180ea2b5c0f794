//! A file that appears whole or not at all: written beside its place, then renamed.
//!
//! In: a destination and the exact size. Out: an empty file that is locked while it is written.
//! Must not: touch the target before the new file is on the disk. Directories are made in the same
//! way by `directory/target.rs`, which shares what is said here of places, locks and free space.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::Destination;
use crate::inputs::Changed;
use crate::units::Bytes;

/// What unfinished files are called, behind the target's name.
pub(super) const SUFFIX: &str = ".orinplan-partial";

/// A destination that cannot or must not be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // each field is named and explained by the message above it
pub enum OutputError {
    #[error("{}: is there already; choose another name, or replace it with --overwrite", path.display())]
    Exists { path: PathBuf },
    #[error("{}: is {}, which is read; the output needs a name of its own", path.display(), input.display())]
    OwnInput { path: PathBuf, input: PathBuf },
    #[error("{}: is no place for a file: {problem}", path.display())]
    Place {
        path: PathBuf,
        problem: &'static str,
    },
    /// An input that is not what it was.
    #[error(transparent)]
    Changed(#[from] Changed),
    #[error("{}: another run is writing it; wait for that to end", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {needed} are needed ({} bytes), and {free} are free on that disk", path.display(), needed.0)]
    Space {
        path: PathBuf,
        needed: Bytes,
        free: Bytes,
    },
    #[error("{}: cannot be written: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// An unfinished file. Dropped before [`Partial::commit`], it is removed.
pub(super) struct Partial<'a> {
    destination: &'a Destination<'a>,
    path: PathBuf,
    file: File,
    committed: bool,
}

impl<'a> Partial<'a> {
    /// Makes the unfinished file for `bytes` bytes, in place of what a killed run left there.
    pub(super) fn create(
        destination: &'a Destination<'a>,
        bytes: Bytes,
    ) -> Result<Partial<'a>, OutputError> {
        check(destination)?;
        let target = destination.path;
        let Some(name) = target.file_name() else {
            return Err(OutputError::Place {
                path: target.to_owned(),
                problem: "it has no name",
            });
        };
        let mut partial = OsString::from(name);
        partial.push(SUFFIX);
        let path = target.with_file_name(partial);
        let io = |source| OutputError::Io {
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        // A link of that name is none of ours, and must not lead us to another file.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            &mut options,
            rustix::fs::OFlags::NOFOLLOW.bits() as i32,
        );
        let file = options.open(&path).map_err(io)?;
        if !lock(&file) || !path.is_file() || !is_at(&file, &path) {
            return Err(OutputError::Busy {
                path: target.to_owned(),
            });
        }
        let partial = Partial {
            destination,
            path: path.clone(),
            file,
            committed: false,
        };
        partial.file.set_len(0).map_err(io)?;
        check_space(target, bytes)?;
        Ok(partial)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file on the disk and then under its name.
    pub(super) fn commit(mut self) -> Result<(), OutputError> {
        let target = self.destination.path;
        let io = |source| OutputError::Io {
            path: target.to_owned(),
            source,
        };
        self.file.sync_all().map_err(io)?;
        // Someone may have made the target meanwhile, or changed what it was made from.
        check(self.destination)?;
        self.destination.inputs.check()?;
        fs::rename(&self.path, target).map_err(io)?;
        self.committed = true;
        sync_name(target);
        Ok(())
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// That the target may be made.
fn check(destination: &Destination<'_>) -> Result<(), OutputError> {
    let path = destination.path;
    let place = |problem| OutputError::Place {
        path: path.to_owned(),
        problem,
    };
    if !directory(path).is_dir() {
        return Err(place("its directory is not there"));
    }
    let Ok(there) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if let Some(input) = destination.inputs.same_as(path) {
        return Err(OutputError::OwnInput {
            path: path.to_owned(),
            input: input.to_owned(),
        });
    }
    if there.is_dir() {
        return Err(place("it is a directory; name a file in it"));
    }
    if !(there.is_file() || there.is_symlink()) {
        return Err(place("it is a device or a pipe"));
    }
    match destination.overwrite {
        true => Ok(()),
        false => Err(OutputError::Exists {
            path: path.to_owned(),
        }),
    }
}

/// That `bytes` can be written beside `target`, as far as the system says.
pub(super) fn check_space(target: &Path, bytes: Bytes) -> Result<(), OutputError> {
    match free_space(directory(target)) {
        Some(free) if free < bytes => Err(OutputError::Space {
            path: target.to_owned(),
            needed: bytes,
            free,
        }),
        _ => Ok(()),
    }
}

/// Brings a new name to the disk, which its directory holds; where that cannot be had, it soon will
/// be there.
pub(crate) fn sync_name(target: &Path) {
    if let Ok(directory) = File::open(directory(target)) {
        let _ = directory.sync_all();
    }
}

/// Where `path` lies.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether the open file (or directory) still has this name.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (file.metadata(), fs::symlink_metadata(path)) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    path.exists() && file.metadata().is_ok()
}

/// Takes the file for this run alone. Where locks cannot be had (some network disks), it is taken
/// without.
pub(crate) fn lock(file: &File) -> bool {
    #[cfg(unix)]
    {
        use rustix::fs::{FlockOperation, flock};
        let locked = flock(file, FlockOperation::NonBlockingLockExclusive);
        !matches!(locked, Err(rustix::io::Errno::WOULDBLOCK))
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        true
    }
}

/// Bytes that a file in `directory` may take; `None` where the system does not say.
fn free_space(directory: &Path) -> Option<Bytes> {
    #[cfg(unix)]
    {
        let disk = rustix::fs::statvfs(directory).ok()?;
        Some(Bytes(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }
    #[cfg(not(unix))]
    {
        let _ = directory;
        None
    }
}
