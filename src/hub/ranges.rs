//! Reads a file on a server by position: each read is a request for a range, whose answer must be that range and nothing
//! else.
//!
//! In: an address and the size that the server states. Out: bytes. What the address redirects to is kept, so that a file
//! costs one redirect.

use std::io::Read;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::address::Address;
use super::client::{Answer, Client, Patience, Target};
use super::error::HubError;
use super::failure::broken;

/// A file on a server.
#[derive(Debug)]
pub(super) struct RemoteFile {
    pub(super) address: Address,
    /// Its size in bytes.
    pub(super) size: u64,
    /// The tag of its contents, where the address alone does not pin them.
    pub(super) etag: Option<String>,
    /// Where its address redirected to.
    located: Mutex<Option<Target>>,
}

/// What a server says about a file.
pub(super) struct Stated {
    pub(super) size: u64,
    pub(super) etag: Option<String>,
}

impl RemoteFile {
    pub(super) fn new(address: Address, size: u64, etag: Option<String>) -> RemoteFile {
        RemoteFile {
            address,
            size,
            etag,
            located: Mutex::new(None),
        }
    }

    /// Size and tag of the file at an address, from an answer to a request for its first byte.
    pub(super) fn stated(client: &Client, address: &Address) -> Result<Stated, HubError> {
        client.retried(Patience::PLAN, |_| {
            let answer = client.get(&address.clone().into(), &[("range", "bytes=0-0")])?;
            let answer = client.accepted(answer)?;
            let (_, total) = content_range(&answer, address)?;
            let etag = etag(&answer);
            Ok(Stated { size: total, etag })
        })
    }

    /// Fills `out` with the bytes from `start` on. A connection that breaks goes on where it broke.
    pub(super) fn read(
        &self,
        client: &Client,
        patience: Patience,
        start: u64,
        out: &mut [u8],
    ) -> Result<(), HubError> {
        let end = start.saturating_add(out.len() as u64);
        if end > self.size {
            return Err(self.answer(format!(
                "bytes up to {end} were requested, but it has {}",
                self.size
            )));
        }
        if out.is_empty() {
            return Ok(());
        }
        client.retried(patience, |done| {
            let answer = self.ask(client, start + *done..end)?;
            let address = answer.at.address.clone();
            let mut body = client.body(answer);
            while let Some(rest) = out.get_mut(*done as usize..)
                && !rest.is_empty()
            {
                match body.read(rest).map_err(|error| broken(&address, &error))? {
                    0 => {
                        let problem = format!("{} bytes are missing", rest.len());
                        let address = address.to_string();
                        return Err(HubError::Broken { address, problem });
                    }
                    n => *done += n as u64,
                }
            }
            Ok(())
        })
    }

    /// The answer to a request for `range`, of exactly that range.
    fn ask(&self, client: &Client, range: Range<u64>) -> Result<Answer, HubError> {
        let wanted = format!("bytes={}-{}", range.start, range.end - 1);
        let known = self.located().clone();
        let start = known.clone().unwrap_or_else(|| self.address.clone().into());
        let mut answer = client.get(&start, &[("range", &wanted)])?;
        // An address with a signature holds for a time only.
        if known.is_some() && matches!(answer.status, 400..=404 | 410) {
            answer = client.get(&self.address.clone().into(), &[("range", &wanted)])?;
        }
        let at = answer.at.clone();
        if answer.status == 416 {
            return Err(self.changed("it is shorter now".to_owned()));
        }
        let answer = client.accepted(answer).inspect_err(|error| {
            if error.transient().is_none() {
                self.located().take();
            }
        })?;
        let (found, total) = content_range(&answer, &self.address)?;
        if total != self.size {
            return Err(self.changed(format!("it had {} bytes and now has {total}", self.size)));
        }
        if found != range {
            return Err(self.answer(format!(
                "bytes {}..{} were requested, but {}..{} were sent",
                range.start, range.end, found.start, found.end
            )));
        }
        let length: Option<u64> = answer.header("content-length").and_then(|n| n.parse().ok());
        if let Some(length) = length.filter(|&length| length != range.end - range.start) {
            return Err(self.answer(format!(
                "{} bytes were requested, but {length} were sent",
                range.end - range.start
            )));
        }
        if let (Some(known), Some(now)) = (&self.etag, etag(&answer))
            && *known != now
        {
            return Err(self.changed("its ETag differs".to_owned()));
        }
        if at.address != self.address {
            *self.located() = Some(at);
        }
        Ok(answer)
    }

    fn located(&self) -> std::sync::MutexGuard<'_, Option<Target>> {
        self.located.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, problem: String) -> HubError {
        let address = self.address.to_string();
        HubError::Changed { address, problem }
    }

    fn answer(&self, problem: String) -> HubError {
        let address = self.address.to_string();
        HubError::Answer { address, problem }
    }
}

/// The range of an answer and the size of the whole file: `bytes 0-99/1000`.
fn content_range(answer: &Answer, address: &Address) -> Result<(Range<u64>, u64), HubError> {
    if answer.status != 206 {
        let address = address.to_string();
        return Err(HubError::NoRanges { address });
    }
    let text = answer.header("content-range").unwrap_or_default();
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let total: u64 = total.parse().ok()?;
        (first <= last && last < total).then_some((first..last + 1, total))
    };
    parse().ok_or_else(|| HubError::Answer {
        address: address.to_string(),
        problem: format!("`{text}` is not a range of a file of known size"),
    })
}

/// The tag of an answer's contents, weak or strong.
fn etag(answer: &Answer) -> Option<String> {
    let tag = answer.header("etag")?;
    Some(tag.trim_start_matches("W/").trim_matches('"').to_owned())
}
