//! The files that a run reads: no output takes the place of one, and one that changed meanwhile is
//! noticed before an output takes its name.
//!
//! In: paths, when they were just opened. Must not: read what is in them.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells that a file is still the one that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    changed: Option<SystemTime>,
    file: Option<(u64, u64)>,
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            bytes: metadata.len(),
            changed: metadata.modified().ok(),
            file: identity(&metadata),
        })
    }
}

/// A file that is not what it was when it was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: was changed while it was read; run again when it is complete", path.display())]
pub struct Changed {
    /// Which.
    pub path: PathBuf,
}

/// The files of a run.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    read: Vec<(PathBuf, Option<Stamp>)>,
    kept: Vec<PathBuf>,
}

impl Inputs {
    /// Files that are read, as they are now.
    pub fn read(paths: impl IntoIterator<Item = PathBuf>) -> Inputs {
        let stamped = paths.into_iter().map(|path| {
            let stamp = Stamp::of(&path);
            (path, stamp)
        });
        Inputs {
            read: stamped.collect(),
            kept: Vec::new(),
        }
    }

    /// And files that may change, but that no output may replace.
    #[must_use]
    pub fn keeping(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Inputs {
        self.kept.extend(paths);
        self
    }

    /// The file that `output` is, under whatever name: a link, or another way to it.
    pub fn same_as(&self, output: &Path) -> Option<&Path> {
        let mut kept = self.kept.iter().map(PathBuf::as_path);
        let read = self.read_as(output);
        read.or_else(|| kept.find(|input| same_file(output, input)))
    }

    /// The file that `output` is among those that are read.
    pub fn read_as(&self, output: &Path) -> Option<&Path> {
        let mut read = self.read.iter().map(|(path, _)| path.as_path());
        read.find(|input| same_file(output, input))
    }

    /// That every file that is read is still what it was.
    ///
    /// # Errors
    /// [`Changed`], with the first that is not.
    pub fn check(&self) -> Result<(), Changed> {
        let changed = |(path, stamp): &&(PathBuf, Option<Stamp>)| Stamp::of(path) != *stamp;
        match self.read.iter().find(changed) {
            Some((path, _)) => Err(Changed { path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// Whether two names lead to one file; one that is not there yet is in its directory already.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let found = (fs::metadata(a), fs::metadata(b));
    if let (Ok(a), Ok(b)) = &found
        && let (Some(a), Some(b)) = (identity(a), identity(b))
    {
        return a == b;
    }
    matches!((place(a), place(b)), (Some(a), Some(b)) if a == b)
}

/// A path without links, whether or not its last component is there.
fn place(path: &Path) -> Option<PathBuf> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let whole = fs::canonicalize(path);
    whole
        .or_else(|_| {
            Ok::<_, std::io::Error>(
                fs::canonicalize(parent)?.join(path.file_name().unwrap_or_default()),
            )
        })
        .ok()
}

/// Device and inode, where the system has them.
fn identity(metadata: &Metadata) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some((metadata.dev(), metadata.ino()))
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_noticed_and_one_beside_it_is_only_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["weights", "log"] {
            fs::write(at(name), "1").unwrap();
        }
        let inputs = Inputs::read([at("weights"), at("none")]).keeping([at("log")]);
        assert_eq!(inputs.check(), Ok(()));
        assert_eq!(inputs.same_as(&at("./log")), Some(at("log").as_path()));
        assert_eq!(inputs.same_as(&at("none")), Some(at("none").as_path()));
        assert_eq!(inputs.same_as(&at("report")), None);
        fs::write(at("log"), "22").unwrap();
        assert_eq!(inputs.check(), Ok(()));
        fs::write(at("weights"), "22").unwrap();
        let path = at("weights");
        assert_eq!(inputs.check(), Err(Changed { path }));
    }
}
