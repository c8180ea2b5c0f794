//! Headers and small files of models on servers, kept in the user's cache: a folder for each state of a model, with a
//! record of the files that the server has.
//!
//! ```text
//! orinplan/models/HOST/MODEL/VERSION/            files, and headers as NAME.header.EXT
//! orinplan/models/HOST/MODEL/VERSION/.record     JSON: every file of the model with its size and digest
//! orinplan/models/HOST/MODEL/.refs/main          the version that a branch had when it was last asked for
//! ```
//!
//! Files appear whole, under the lock of the cache, and the oldest folders are removed beyond a size. Must not: hold an
//! address with a query, a token, or a file that a server names outside of its folder.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::error::HubError;
use super::reference::is_inside;
use crate::checkpoint::header_path;
use crate::input;
use crate::quantize;
use crate::units::Bytes;

/// What the cache may hold. The headers of a model take some 100 kB, the tokenizer and the header of a GGUF 10 MB.
const LIMIT: u64 = 1 << 30;
const RECORD: &str = ".record";
const RECORD_LIMIT: Bytes = Bytes(64 << 20);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A file of a model on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListedFile {
    /// Its path in the repository, which stays inside of it.
    pub(super) path: String,
    pub(super) size: u64,
    /// Its SHA-256, where the server states that.
    pub(super) sha256: Option<String>,
    /// The tag of its contents: its name in the hub's cache.
    pub(super) etag: Option<String>,
}

/// What is kept of the files of a model.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: String,
    files: Vec<ListedFile>,
}

const SCHEMA: &str = "orinplan.hub/1";

/// The cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    root: PathBuf,
}

/// The folder of one state of a model.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    root: PathBuf,
    pub(super) folder: PathBuf,
}

impl Cache {
    /// The cache below the user's folder for caches.
    pub(super) fn below(caches: &Path) -> Cache {
        Cache {
            root: caches.join("orinplan/models"),
        }
    }

    fn model(&self, host: &str, model: &str) -> PathBuf {
        let folder = model.replace('/', "--");
        self.root
            .join(host.replace([':', '/', '\\'], "_"))
            .join(folder)
    }

    pub(super) fn snapshot(&self, host: &str, model: &str, version: &str) -> Snapshot {
        let version = version.replace(['/', '\\', ':'], "_");
        Snapshot {
            root: self.root.clone(),
            folder: self.model(host, model).join(version),
        }
    }

    /// The version that `revision` had when it was last asked for.
    pub(super) fn known(&self, host: &str, model: &str, revision: &str) -> Option<String> {
        let path = self.reference(host, model, revision);
        let version = input::read_text(&path, Bytes(1 << 10)).ok()?;
        Some(version.trim().to_owned()).filter(|version| is_inside(version))
    }

    /// Keeps the version that `revision` has.
    pub(super) fn keep(
        &self,
        host: &str,
        model: &str,
        revision: &str,
        version: &str,
    ) -> Result<(), HubError> {
        if self.known(host, model, revision).as_deref() == Some(version) {
            return Ok(());
        }
        let path = self.reference(host, model, revision);
        let _lock = lock(&self.root)?;
        write(&path, version.as_bytes())
    }

    fn reference(&self, host: &str, model: &str, revision: &str) -> PathBuf {
        let name = revision.replace(['/', '\\', ':'], "--");
        self.model(host, model).join(".refs").join(name)
    }
}

impl Snapshot {
    /// Every file of the model, if that was kept.
    pub(super) fn listing(&self) -> Option<Vec<ListedFile>> {
        let text = input::read_text(&self.folder.join(RECORD), RECORD_LIMIT).ok()?;
        let record: Record = serde_json::from_str(&text).ok()?;
        let is_sound =
            record.schema == SCHEMA && record.files.iter().all(|file| is_inside(&file.path));
        is_sound.then_some(record.files)
    }

    /// Where a file is kept, or its header.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub(super) fn header(&self, path: &str) -> PathBuf {
        header_path(&self.path(path))
    }

    /// Keeps the listing and these files, and removes the oldest folders if the cache grew too large.
    pub(super) fn keep(
        &self,
        listing: &[ListedFile],
        files: &[(PathBuf, Vec<u8>)],
    ) -> Result<(), HubError> {
        let _lock = lock(&self.root)?;
        for (path, bytes) in files {
            write(path, bytes)?;
        }
        let record = Record {
            schema: SCHEMA.to_owned(),
            files: listing.to_vec(),
        };
        let text = serde_json::to_vec(&record).unwrap_or_default();
        write(&self.folder.join(RECORD), &text)?;
        prune(&self.root, &self.folder, LIMIT);
        Ok(())
    }

    /// Notes that the folder was used, so that it is not the next that is removed.
    pub(super) fn touch(&self) {
        if let Ok(record) = File::options().append(true).open(self.folder.join(RECORD)) {
            let _ = record.set_modified(SystemTime::now());
        }
    }
}

/// Removes the folders that were not used for longest, until the cache takes at most `limit`. What cannot be removed
/// stays.
fn prune(root: &Path, current: &Path, limit: u64) {
    let folders = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    };
    let models = folders(root).into_iter().flat_map(|host| folders(&host));
    let versions = models.flat_map(|model| folders(&model));
    let mut used: Vec<(SystemTime, u64, PathBuf)> = versions
        .filter_map(|folder| {
            let record = fs::metadata(folder.join(RECORD)).ok()?;
            Some((record.modified().ok()?, size(&folder), folder))
        })
        .collect();
    used.sort();
    let mut total: u64 = used.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, folder) in used {
        if total <= limit {
            return;
        }
        if folder != current && fs::remove_dir_all(&folder).is_ok() {
            total -= bytes;
        }
    }
}

/// Bytes of the files in a folder and below.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// Locks the cache, as long as the returned file is open.
fn lock(root: &Path) -> Result<File, HubError> {
    fs::create_dir_all(root).map_err(|error| HubError::cache(root, error))?;
    let folder = File::open(root).map_err(|error| HubError::cache(root, error))?;
    let since = Instant::now();
    while !quantize::lock(&folder) {
        if since.elapsed() > LONGEST_WAIT {
            return Err(HubError::cache(root, io::ErrorKind::WouldBlock.into()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(folder)
}

/// Writes a file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    let failed = |error| HubError::cache(path, error);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        fs::rename(&partial, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folders_that_were_not_used_for_longest_go_first() {
        let caches = tempfile::tempdir().unwrap();
        let cache = Cache::below(caches.path());
        let snapshots: Vec<Snapshot> = ["a", "b", "c"]
            .iter()
            .map(|version| cache.snapshot("host", "org/name", version))
            .collect();
        for (age, snapshot) in snapshots.iter().enumerate() {
            let file = (snapshot.path("x"), vec![0; 1000]);
            snapshot.keep(&[], &[file]).unwrap();
            let record = File::options()
                .append(true)
                .open(snapshot.folder.join(RECORD));
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(100 - age as u64);
            record.unwrap().set_modified(time).unwrap();
        }
        prune(&cache.root, &snapshots[2].folder, 2200);
        let kept: Vec<bool> = snapshots.iter().map(|s| s.folder.is_dir()).collect();
        assert_eq!(kept, [true, false, true]);
        assert_eq!(snapshots[0].listing(), Some(Vec::new()));
        assert_eq!(snapshots[1].listing(), None);
    }

    #[test]
    fn a_branch_is_remembered_with_its_version() {
        let caches = tempfile::tempdir().unwrap();
        let cache = Cache::below(caches.path());
        assert_eq!(cache.known("host:80", "o/n", "refs/pr/1"), None);
        cache.keep("host:80", "o/n", "refs/pr/1", "abc").unwrap();
        let known = cache.known("host:80", "o/n", "refs/pr/1");
        assert_eq!(known.as_deref(), Some("abc"));
    }
}
