//! The weight files of a model on a server, and what is done with bytes of them that pass: they are compared with the
//! digests that the server states, and kept in the hub's own cache if that is wished.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::cache::ListedFile;
use super::client::Client;
use super::error::HubError;
use super::keep::Keep;
use super::ranges::RemoteFile;

/// A weight file on a server.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) file: RemoteFile,
    pub(super) listed: ListedFile,
    /// Whether its contents were compared with its digest.
    checked: AtomicBool,
}

/// The weight files of a model, by the paths of their headers.
#[derive(Debug)]
pub(super) struct WeightFiles {
    pub(super) client: Arc<Client>,
    files: HashMap<PathBuf, Arc<WeightFile>>,
    keep: Option<Keep>,
}

impl WeightFile {
    pub(super) fn new(file: RemoteFile, listed: ListedFile) -> WeightFile {
        WeightFile {
            file,
            listed,
            checked: AtomicBool::new(false),
        }
    }

    pub(super) fn checked(&self) -> bool {
        self.checked.load(Ordering::Relaxed)
    }
}

impl WeightFiles {
    pub(super) fn new(
        client: Arc<Client>,
        files: HashMap<PathBuf, Arc<WeightFile>>,
        keep: Option<Keep>,
    ) -> WeightFiles {
        WeightFiles {
            client,
            files,
            keep,
        }
    }

    pub(super) fn get(&self, path: &Path) -> Option<Arc<WeightFile>> {
        self.files.get(path).cloned()
    }

    /// Whether whole files are kept in the hub's cache.
    pub(super) fn keeps_source(&self) -> bool {
        self.keep.is_some()
    }

    /// Notes bytes that were fetched.
    pub(super) fn pass(&self, file: &WeightFile, at: u64, bytes: &[u8]) -> Result<(), HubError> {
        let keep = self.keep.as_ref();
        keep.map_or(Ok(()), |keep| keep.write(&file.listed, at, bytes))
    }

    /// Compares the digest of a file's contents with the one that is stated.
    pub(super) fn check(&self, file: &WeightFile, found: String) -> Result<(), HubError> {
        match &file.listed.sha256 {
            Some(expected) if *expected != found => Err(HubError::Digest {
                file: file.file.address.to_string(),
                expected: expected.clone(),
                found,
            }),
            _ => {
                file.checked.store(true, Ordering::Relaxed);
                let keep = self.keep.as_ref();
                keep.map_or(Ok(()), |keep| keep.complete(&file.listed))
            }
        }
    }
}
