//! The weights of a model on a server, as [`RemoteWeights`]: read by position, fetched ahead where it is known what will be
//! read.
//!
//! Must not: fetch weights for a plan.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Purpose;
use super::ahead::Ahead;
use super::client::Patience;
use super::digest::Digest;
use super::weight_files::WeightFiles;
use crate::checkpoint::{FileRange, RemoteWeights};
use crate::units::Bytes;

/// The weights of a model, for who reads them.
#[derive(Debug)]
pub(super) struct ServerWeights {
    files: Arc<WeightFiles>,
    purpose: Purpose,
    ahead: Mutex<Option<Arc<Ahead>>>,
}

impl ServerWeights {
    pub(super) fn new(files: WeightFiles, purpose: Purpose) -> ServerWeights {
        ServerWeights {
            files: Arc::new(files),
            purpose,
            ahead: Mutex::new(None),
        }
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Arc<Ahead>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RemoteWeights for ServerWeights {
    fn size(&self, file: &Path) -> Option<Bytes> {
        Some(Bytes(self.files.get(file)?.file.size))
    }

    fn shown(&self, file: &Path) -> String {
        let found = self.files.get(file);
        found.map_or_else(String::new, |found| found.file.address.to_string())
    }

    fn read(&self, path: &Path, start: u64, out: &mut [u8]) -> io::Result<()> {
        if self.purpose == Purpose::Plan {
            return Err(io::Error::other("a plan reads only headers"));
        }
        let file = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let ahead = self.ahead().clone();
        match ahead {
            Some(ahead) => ahead.read(path, &file, start, out),
            None => {
                let read = file
                    .file
                    .read(&self.files.client, Patience::WORK, start, out);
                read.map_err(|error| Arc::new(error).of_reading())
            }
        }
    }

    fn fetch_ahead(&self, ranges: Vec<FileRange>) {
        *self.ahead() = Some(Arc::new(Ahead::new(&self.files, ranges)));
    }

    fn verify(&self, path: &Path, content: &mut dyn io::Read) -> io::Result<bool> {
        let file = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if file.listed.sha256.is_none() {
            return Ok(false);
        }
        let mut digest = Digest::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = content.read(&mut buffer)?;
            match buffer.get(..count) {
                None | Some([]) => break,
                Some(bytes) => digest.update(bytes),
            }
        }
        let checked = self.files.check(&file, digest.finish());
        checked.map_err(|error| Arc::new(error).of_reading())?;
        Ok(true)
    }

    fn finish(&self) -> io::Result<Vec<String>> {
        let ahead = self.ahead().clone();
        ahead.map_or_else(|| Ok(Vec::new()), |ahead| ahead.finish())
    }
}
