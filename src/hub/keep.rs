//! Fills the hub's own cache with files as they pass, in the layout that its clients share: `blobs/ETAG` holds the bytes,
//! `snapshots/COMMIT/PATH` links to it, and `refs/REVISION` names the commit.
//!
//! A file has its name in `blobs` when its digest was checked; until then it is `ETAG.orinplan-partial`. The clients' own
//! `ETAG.incomplete` they go on with by its length, and this one has holes.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::ListedFile;
use super::error::HubError;
use super::reference::is_inside;
use crate::input::write_all_at;

/// The folder of a model in the hub's cache.
#[derive(Debug)]
pub(super) struct Keep {
    /// `models--ORG--NAME`.
    folder: PathBuf,
    commit: String,
    /// The blobs that were begun; `None` for one that is complete.
    begun: Mutex<HashMap<PathBuf, Option<Arc<File>>>>,
}

impl Keep {
    /// Prepares the folder, and notes the commit of `revision`.
    pub(super) fn new(folder: PathBuf, revision: &str, commit: &str) -> Result<Keep, HubError> {
        let reference = folder.join("refs").join(revision);
        let snapshot = folder.join("snapshots").join(commit);
        for path in [&folder.join("blobs"), &snapshot] {
            fs::create_dir_all(path).map_err(|error| HubError::cache(path, error))?;
        }
        if is_inside(revision) && revision != commit {
            let parent = reference.parent().unwrap_or(&folder);
            let written = fs::create_dir_all(parent).and_then(|()| fs::write(&reference, commit));
            written.map_err(|error| HubError::cache(&reference, error))?;
        }
        Ok(Keep {
            folder,
            commit: commit.to_owned(),
            begun: Mutex::default(),
        })
    }

    /// Keeps a small file that is here.
    pub(super) fn small(&self, file: &ListedFile, bytes: &[u8]) -> Result<(), HubError> {
        self.write(file, 0, bytes)?;
        self.complete(file)
    }

    /// Keeps bytes of a file, unless it is complete.
    pub(super) fn write(&self, file: &ListedFile, at: u64, bytes: &[u8]) -> Result<(), HubError> {
        let Some(blob) = self.blob(file) else {
            return Ok(());
        };
        let partial = partial(&blob);
        let failed = |error| HubError::cache(&partial, error);
        let open = {
            let mut begun = self.begun();
            match begun.get(&blob) {
                Some(Some(file)) => file.clone(),
                Some(None) => return Ok(()),
                None => {
                    let opened = Arc::new(File::create(&partial).map_err(failed)?);
                    begun.insert(blob, Some(opened.clone()));
                    opened
                }
            }
        };
        write_all_at(&open, bytes, at).map_err(failed)
    }

    /// Gives a file its name, after its digest was checked.
    pub(super) fn complete(&self, file: &ListedFile) -> Result<(), HubError> {
        let Some(blob) = self.blob(file) else {
            return Ok(());
        };
        let written = self.begun().insert(blob.clone(), None).flatten();
        let Some(written) = written else {
            return Ok(());
        };
        let named = written
            .sync_all()
            .and_then(|()| fs::rename(partial(&blob), &blob));
        named.map_err(|error| HubError::cache(&blob, error))?;
        let link = self
            .folder
            .join("snapshots")
            .join(&self.commit)
            .join(&file.path);
        self.link(&link, &blob, &file.path)
            .map_err(|error| HubError::cache(&link, error))
    }

    /// A relative link, as the clients make it.
    fn link(&self, link: &Path, blob: &Path, path: &str) -> io::Result<()> {
        fs::create_dir_all(link.parent().unwrap_or(&self.folder))?;
        let _ = fs::remove_file(link);
        #[cfg(unix)]
        {
            let mut target = PathBuf::from("../..");
            for _ in 1..Path::new(path).components().count() {
                target.push("..");
            }
            target.push("blobs");
            target.push(blob.file_name().unwrap_or_default());
            std::os::unix::fs::symlink(target, link)
        }
        #[cfg(not(unix))]
        {
            let _ = path;
            fs::copy(blob, link).map(drop)
        }
    }

    /// Where the bytes of a file belong; `None` for a file without a tag that can be a name.
    fn blob(&self, file: &ListedFile) -> Option<PathBuf> {
        let etag = file.etag.as_ref()?;
        let is_hex = etag.len() >= 40 && etag.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hex.then(|| self.folder.join("blobs").join(etag))
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<PathBuf, Option<Arc<File>>>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        let begun = self.begun();
        let unfinished = begun.iter().filter(|(_, file)| file.is_some());
        unfinished.for_each(|(blob, _)| drop(fs::remove_file(partial(blob))));
    }
}

fn partial(blob: &Path) -> PathBuf {
    let mut name = blob.as_os_str().to_owned();
    name.push(".orinplan-partial");
    PathBuf::from(name)
}
