//! The beginnings of weight files: read from a server range by range, as far as the header goes and not much farther.
//!
//! In: a file on a server. Out: the bytes of its header, which was read strictly against the size of the whole file. Must
//! not: fetch weights on purpose.

use std::io::{self, Read, Seek, SeekFrom};

use super::client::{Client, Patience};
use super::error::HubError;
use super::ranges::RemoteFile;
use crate::units::Bytes;
use crate::{gguf, safetensors};

/// The longest header that is fetched. The largest known takes about 50 MiB.
const LIMIT: u64 = 64 << 20;

/// The two containers of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    Gguf,
    Safetensors,
}

impl Container {
    /// By the end of a file's name.
    pub(super) fn of(path: &str) -> Option<Container> {
        let (_, end) = path.rsplit_once('.')?;
        match end.to_ascii_lowercase().as_str() {
            "gguf" => Some(Container::Gguf),
            "safetensors" => Some(Container::Safetensors),
            _ => None,
        }
    }
}

/// Fetches the header of `file`, beginning with a range of `first` bytes.
pub(super) fn fetch(
    client: &Client,
    file: &RemoteFile,
    container: Container,
    first: u64,
) -> Result<Vec<u8>, HubError> {
    let mut reader = Beginning {
        client,
        file,
        first,
        doubles: container == Container::Gguf,
        bytes: Vec::new(),
        at: 0,
        failed: None,
    };
    let address = file.address.to_string();
    let read = match container {
        Container::Gguf => match gguf::read_header_from(&mut reader) {
            Ok(header) => Ok(header.header_bytes),
            Err(problem) => Err(HubError::Gguf { address, problem }),
        },
        Container::Safetensors => match safetensors::read_header_from(&mut reader) {
            Ok(header) => Ok(header.data_offset),
            Err(problem) => Err(HubError::Safetensors { address, problem }),
        },
    };
    // The cause comes before what a reader made of it.
    if let Some(error) = reader.failed {
        return Err(error);
    }
    let mut bytes = reader.bytes;
    bytes.truncate(read? as usize);
    Ok(bytes)
}

/// The beginning of a file, fetched as far as it is read.
struct Beginning<'a> {
    client: &'a Client,
    file: &'a RemoteFile,
    first: u64,
    /// Whether each range is as long as all before it: how far a header goes is not known before it is read. Otherwise
    /// the reader asks for just what it needs.
    doubles: bool,
    bytes: Vec<u8>,
    at: u64,
    failed: Option<HubError>,
}

impl Beginning<'_> {
    /// Fetches on to `end` at least, if that is not there yet.
    fn reach(&mut self, end: u64) -> Result<(), HubError> {
        let have = self.bytes.len() as u64;
        if end <= have {
            return Ok(());
        }
        if end > LIMIT {
            return Err(HubError::TooLarge {
                address: self.file.address.to_string(),
                limit: Bytes(LIMIT),
            });
        }
        let step = match have {
            0 => self.first,
            _ if self.doubles => 2 * have,
            _ => 0,
        };
        let end = end.max(step).min(LIMIT).min(self.file.size);
        self.bytes.resize(end as usize, 0);
        let new = self.bytes.get_mut(have as usize..).unwrap_or_default();
        self.file.read(self.client, Patience::PLAN, have, new)
    }
}

impl Read for Beginning<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.size.saturating_sub(self.at);
        let wanted = (out.len() as u64).min(left);
        let have = (self.bytes.len() as u64).saturating_sub(self.at);
        // A buffered reader asks for more than it needs: what is there is enough for it.
        let end = match have {
            0 if self.doubles => self.at + wanted.min(1),
            0 => self.at + wanted,
            have => self.at + wanted.min(have),
        };
        if let Err(error) = self.reach(end) {
            self.failed.get_or_insert(error);
            return Err(io::ErrorKind::Other.into());
        }
        let from = self.bytes.get(self.at as usize..).unwrap_or_default();
        let count = from.len().min(wanted as usize);
        if let (Some(to), Some(from)) = (out.get_mut(..count), from.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Beginning<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
