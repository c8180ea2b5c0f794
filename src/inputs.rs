//! The files that a run reads: no output may replace one of them, and a change to one of them during the run is an
//! error before the output gets its name.
//!
//! In: paths of files that were just opened. Must not: read their contents.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What identifies a file and its state: size, time of change, device and inode.
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

/// A file that changed after it was opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: changed while it was read; run again when it is complete", path.display())]
pub struct Changed {
    /// The file.
    pub path: PathBuf,
}

/// The files of a run.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    read: Vec<(PathBuf, Option<Stamp>)>,
    kept: Vec<PathBuf>,
}

impl Inputs {
    /// The files that a run reads, in their present state.
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

    /// Adds files that may change during the run, and that no output may replace either.
    #[must_use]
    pub fn keeping(mut self, paths: impl IntoIterator<Item = PathBuf>) -> Inputs {
        self.kept.extend(paths);
        self
    }

    /// The input that `output` would replace, whether by the same path, another path or a link.
    pub fn same_as(&self, output: &Path) -> Option<&Path> {
        let mut kept = self.kept.iter().map(PathBuf::as_path);
        let read = self.read_as(output);
        read.or_else(|| kept.find(|input| same_file(output, input)))
    }

    /// The same among the files that are read only.
    pub fn read_as(&self, output: &Path) -> Option<&Path> {
        let mut read = self.read.iter().map(|(path, _)| path.as_path());
        read.find(|input| same_file(output, input))
    }

    /// Checks that no file that is read has changed.
    ///
    /// # Errors
    /// [`Changed`] with the first file that has.
    pub fn check(&self) -> Result<(), Changed> {
        let changed = |(path, stamp): &&(PathBuf, Option<Stamp>)| Stamp::of(path) != *stamp;
        match self.read.iter().find(changed) {
            Some((path, _)) => Err(Changed { path: path.clone() }),
            None => Ok(()),
        }
    }
}

/// Whether two paths lead to the same file. A file that does not exist yet is compared by its directory and name.
pub fn same_file(a: &Path, b: &Path) -> bool {
    let found = (fs::metadata(a), fs::metadata(b));
    if let (Ok(a), Ok(b)) = &found
        && let (Some(a), Some(b)) = (identity(a), identity(b))
    {
        return a == b;
    }
    matches!((place(a), place(b)), (Some(a), Some(b)) if a == b)
}

/// A path with links resolved, whether or not its last component exists.
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
