//! System calls for files and directories: names, locks, free space.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::destination::OutputError;
use crate::units::Bytes;

/// Checks that the disk of `target` has room for `bytes`, if the system reports its free space.
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

/// Swaps the names of two directories atomically; false if the system or the file system cannot.
pub(super) fn exchange(one: &Path, other: &Path) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (one, other);
        false
    }
}

/// Writes the name of a new file to the disk by syncing its directory. Errors are ignored: the name is written later.
pub(crate) fn sync_name(target: &Path) {
    if let Ok(directory) = File::open(directory(target)) {
        let _ = directory.sync_all();
    }
}

/// `path` with `end` appended to its name.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(end);
    path.with_file_name(name)
}

/// The directory of `path`.
pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The entries of a directory.
pub(super) fn entries(path: &Path) -> Result<Vec<PathBuf>, OutputError> {
    let found = fs::read_dir(path).and_then(|entries| {
        let paths = entries.map(|entry| Ok(entry?.path()));
        paths.collect()
    });
    found.map_err(|e| OutputError::io(path, e))
}

pub(super) fn empty(path: &Path) -> Result<(), OutputError> {
    for entry in entries(path)? {
        let is_dir = fs::symlink_metadata(&entry).is_ok_and(|there| there.is_dir());
        let removed = if is_dir {
            fs::remove_dir_all(&entry)
        } else {
            fs::remove_file(&entry)
        };
        removed.map_err(|e| OutputError::io(&entry, e))?;
    }
    Ok(())
}

pub(super) fn remove(directory: &Path) -> Result<(), OutputError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(OutputError::io(directory, error))
        }
        _ => Ok(()),
    }
}

/// Whether `path` still leads to the open file (or directory).
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(a), Ok(b)) = (file.metadata(), fs::symlink_metadata(path)) {
        use std::os::unix::fs::MetadataExt;
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    path.exists() && file.metadata().is_ok()
}

/// Locks the file for this run; false if another run has the lock. File systems without locks (some network disks)
/// count as locked.
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

/// Free bytes for a file in `directory`; `None` if the system does not report them.
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
