//! Fetches ranges of files ahead of who reads them: blocks in the order of the files, over several connections, as many
//! as a window of memory holds. What passes is hashed on the way, so that a file is compared with the digest that its
//! server states.
//!
//! A reader waits for a block that is on its way, fetches one itself that nobody fetches yet, and reads past the window
//! what is in no block. So it never waits for room in the window.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::client::Patience;
use super::digest::Digest;
use super::error::HubError;
use super::weight_files::{WeightFile, WeightFiles};
use crate::checkpoint::FileRange;

/// Bytes of a block: long enough that a round trip between two is a small part.
const BLOCK: u64 = 2 << 20;
/// Bytes that are held for readers to come, or on their way.
const WINDOW: u64 = 32 << 20;
/// Connections that fetch.
const CONNECTIONS: usize = 8;
/// Blocks that a reader may fall behind the others before what it left is dropped.
const BEHIND: usize = 64;
/// A file of which at least this part is read is fetched whole, so that it can be compared with its digest.
const WORTH_CHECKING: f64 = 0.75;

/// Blocks that are fetched ahead.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Arc<WeightFiles>,
    blocks: Vec<Block>,
    /// Of each file its blocks, as a range of `blocks`.
    of_file: BTreeMap<PathBuf, Range<usize>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct Block {
    file: Arc<WeightFile>,
    range: Range<u64>,
    /// Bytes of it that will be read.
    wanted: u64,
}

impl Block {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

#[derive(Debug, Default)]
struct State {
    /// The next block to fetch.
    next: usize,
    slots: BTreeMap<usize, Slot>,
    /// The furthest block of which something was read.
    read_to: usize,
    /// The blocks of each file that are still to be hashed, by the number of the first, with what was hashed so far.
    hashes: BTreeMap<usize, Hash>,
    /// Whether nothing more is fetched ahead.
    ended: bool,
    /// Why nothing of this may be used: what passed is not what the server states.
    failure: Option<Arc<HubError>>,
}

#[derive(Debug)]
enum Slot {
    Fetching,
    Failed(Arc<HubError>),
    Here {
        bytes: Arc<Vec<u8>>,
        unread: u64,
        hashed: bool,
    },
}

/// The digest of a file that is passing.
struct Hash {
    /// The next block to hash.
    next: usize,
    end: usize,
    /// `None` while a thread goes on with it.
    digest: Option<Digest>,
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "blocks {}..{} to hash", self.next, self.end)
    }
}

impl Ahead {
    /// Begins to fetch `ranges`.
    pub(super) fn new(files: &Arc<WeightFiles>, ranges: Vec<FileRange>) -> Ahead {
        let mut by_file: Vec<(PathBuf, Vec<Range<u64>>)> = Vec::new();
        for FileRange { file, range } in ranges {
            match by_file.iter_mut().find(|(path, _)| *path == file) {
                Some((_, ranges)) => ranges.push(range),
                None => by_file.push((file, vec![range])),
            }
        }
        let mut blocks = Vec::new();
        let mut of_file = BTreeMap::new();
        let mut hashes = BTreeMap::new();
        for (path, ranges) in by_file {
            let Some(file) = files.get(&path) else {
                continue;
            };
            let wanted = merged(ranges);
            let first = blocks.len();
            let (fetched, digest) = match whole(files, &file, &path, &wanted) {
                Some((range, digest)) => (vec![range], Some(digest)),
                None => (wanted.clone(), None),
            };
            for range in fetched {
                blocks.extend(split(range).map(|range| Block {
                    file: file.clone(),
                    wanted: wanted.iter().map(|wanted| overlap(wanted, &range)).sum(),
                    range,
                }));
            }
            if let Some(digest) = digest {
                let hash = Hash {
                    next: first,
                    end: blocks.len(),
                    digest: Some(digest),
                };
                hashes.insert(first, hash);
            }
            of_file.insert(path, first..blocks.len());
        }
        let shared = Arc::new(Shared {
            files: files.clone(),
            blocks,
            of_file,
            state: Mutex::new(State {
                hashes,
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        for _ in 0..CONNECTIONS {
            let shared = shared.clone();
            thread::spawn(move || shared.fetch_all());
        }
        Ahead { shared }
    }

    /// Fills `out` with the bytes of `file` from `start` on.
    pub(super) fn read(
        &self,
        path: &Path,
        file: &WeightFile,
        mut start: u64,
        mut out: &mut [u8],
    ) -> io::Result<()> {
        let shared = &self.shared;
        while !out.is_empty() {
            let end = start + out.len() as u64;
            let (found, end) = match shared.find(path, start) {
                Ok((number, range)) => (Some((number, range.start)), end.min(range.end)),
                Err(next) => (None, end.min(next)),
            };
            let (here, rest) = out.split_at_mut((end - start) as usize);
            let bytes = match found {
                Some((number, _)) => shared.wait(number)?,
                None => None,
            };
            if let Some(((number, first), bytes)) = found.zip(bytes) {
                let at = (start - first) as usize;
                let from = bytes.get(at..at + here.len()).unwrap_or_default();
                here.copy_from_slice(from);
                shared.was_read(number, here.len() as u64);
            } else {
                let read = file
                    .file
                    .read(&shared.files.client, Patience::WORK, start, here);
                read.map_err(|error| Arc::new(error).of_reading())?;
            }
            start = end;
            out = rest;
        }
        Ok(())
    }

    /// Waits until everything has passed. Returns the files whose digest could not be checked.
    ///
    /// # Errors
    /// Where a digest is another, or something could not be fetched.
    pub(super) fn finish(&self) -> io::Result<Vec<String>> {
        let shared = &self.shared;
        let mut state = shared.lock();
        let is_busy = |state: &State| {
            let fetching = state
                .slots
                .values()
                .any(|slot| matches!(slot, Slot::Fetching));
            state.failed().is_none()
                && (state.next < shared.blocks.len() || fetching || !state.hashes.is_empty())
        };
        // Nobody reads any more: what is hashed makes room.
        while is_busy(&state) {
            state.drop_slots(|hashed, _| hashed);
            shared.changed.notify_all();
            state = shared.wait_for_change(state);
        }
        state.ended = true;
        shared.changed.notify_all();
        if let Some(failure) = state.failed() {
            return Err(failure.of_reading());
        }
        let read = shared.of_file.values().filter(|blocks| !blocks.is_empty());
        let unchecked = read.filter_map(|blocks| {
            let file = &shared.blocks.get(blocks.start)?.file;
            match (file.checked(), &file.listed.sha256) {
                (true, _) => None,
                (false, None) => Some(format!(
                    "{} (its server states no SHA-256)",
                    file.listed.path
                )),
                (false, Some(_)) => {
                    Some(format!("{} (only a part of it was read)", file.listed.path))
                }
            }
        });
        Ok(unchecked.collect())
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_change<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let woken = self.changed.wait(state);
        woken.unwrap_or_else(PoisonError::into_inner)
    }

    /// The number and range of the block that holds byte `at` of a file, or where the next block begins.
    fn find(&self, path: &Path, at: u64) -> Result<(usize, Range<u64>), u64> {
        let numbers = self.of_file.get(path).cloned().unwrap_or_default();
        let blocks = self.blocks.get(numbers.clone()).unwrap_or_default();
        let behind = blocks.partition_point(|block| block.range.end <= at);
        match blocks.get(behind) {
            Some(block) if block.range.start <= at => {
                Ok((numbers.start + behind, block.range.clone()))
            }
            Some(block) => Err(block.range.start),
            None => Err(u64::MAX),
        }
    }

    /// The work of a connection.
    fn fetch_all(&self) {
        loop {
            let mut state = self.lock();
            let number = loop {
                if state.ended || state.failure.is_some() || state.next >= self.blocks.len() {
                    return;
                }
                if state.slots.contains_key(&state.next) {
                    state.next += 1;
                } else if state.held_ahead(&self.blocks) < WINDOW {
                    break state.next;
                } else {
                    state = self.wait_for_change(state);
                }
            };
            state.next = number + 1;
            state.slots.insert(number, Slot::Fetching);
            drop(state);
            self.fetch(number);
        }
    }

    /// Fetches a block that is reserved, and hashes as far as blocks are here in order.
    fn fetch(&self, number: usize) {
        let Some(block) = self.blocks.get(number) else {
            return;
        };
        let mut bytes = vec![0; block.length() as usize];
        let client = &self.files.client;
        let read = block
            .file
            .file
            .read(client, Patience::WORK, block.range.start, &mut bytes);
        let kept = read.and_then(|()| self.files.pass(&block.file, block.range.start, &bytes));
        let mut state = self.lock();
        match kept {
            Ok(()) => {
                let hashed = !state
                    .hashes
                    .values()
                    .any(|hash| (hash.next..hash.end).contains(&number));
                let slot = Slot::Here {
                    bytes: Arc::new(bytes),
                    unread: block.wanted,
                    hashed,
                };
                state.slots.insert(number, slot);
            }
            Err(error) => {
                let error = Arc::new(error);
                if matches!(*error, HubError::Changed { .. }) {
                    state.failure.get_or_insert(error.clone());
                }
                // What is here already may still be used.
                state.ended = true;
                state.slots.insert(number, Slot::Failed(error));
            }
        }
        self.hash(state, number);
        self.changed.notify_all();
    }

    /// Goes on with the digest of the file of a block.
    fn hash<'a>(&'a self, mut state: MutexGuard<'a, State>, number: usize) {
        let found = state.hashes.range(..=number).next_back();
        let Some(first) = found
            .filter(|(_, hash)| number < hash.end)
            .map(|(first, _)| *first)
        else {
            self.drop_read(&mut state);
            return;
        };
        loop {
            let Some(hash) = state.hashes.get_mut(&first) else {
                return;
            };
            let (next, end) = (hash.next, hash.end);
            if next == end {
                let digest = hash.digest.take();
                state.hashes.remove(&first);
                if let (Some(digest), Some(block)) = (digest, self.blocks.get(first))
                    && let Err(error) = self.files.check(&block.file, digest.finish())
                {
                    state.failure.get_or_insert(Arc::new(error));
                }
                return;
            }
            let Some(Slot::Here { bytes, .. }) = state.slots.get(&next) else {
                return;
            };
            let bytes = bytes.clone();
            let hash = state.hashes.get_mut(&first);
            let Some(mut digest) = hash.and_then(|hash| hash.digest.take()) else {
                return;
            };
            drop(state);
            digest.update(&bytes);
            state = self.lock();
            if let Some(hash) = state.hashes.get_mut(&first) {
                hash.digest = Some(digest);
                hash.next = next + 1;
            }
            if let Some(Slot::Here { hashed, .. }) = state.slots.get_mut(&next) {
                *hashed = true;
            }
            self.drop_read(&mut state);
        }
    }

    fn drop_read(&self, state: &mut State) {
        state.drop_slots(|hashed, unread| hashed && unread == 0);
        self.changed.notify_all();
    }

    /// The bytes of a block; `None` where it was dropped already.
    fn wait(&self, number: usize) -> io::Result<Option<Arc<Vec<u8>>>> {
        let mut state = self.lock();
        loop {
            if let Some(failure) = &state.failure {
                return Err(failure.clone().of_reading());
            }
            match state.slots.get(&number) {
                Some(Slot::Here { bytes, .. }) => return Ok(Some(bytes.clone())),
                Some(Slot::Fetching) => state = self.wait_for_change(state),
                Some(Slot::Failed(error)) => return Err(error.clone().of_reading()),
                None if number < state.next => return Ok(None),
                None => {
                    state.slots.insert(number, Slot::Fetching);
                    drop(state);
                    self.fetch(number);
                    state = self.lock();
                }
            }
        }
    }

    /// Notes that bytes of a block were read, and drops what is done with.
    fn was_read(&self, number: usize, count: u64) {
        let mut state = self.lock();
        if let Some(Slot::Here { unread, .. }) = state.slots.get_mut(&number) {
            *unread = unread.saturating_sub(count);
        }
        state.read_to = state.read_to.max(number);
        let late = number.saturating_sub(BEHIND);
        for (_, slot) in state.slots.range_mut(..late) {
            if let Slot::Here { unread, .. } = slot {
                *unread = 0;
            }
        }
        self.drop_read(&mut state);
    }
}

impl State {
    /// Why this cannot be finished.
    fn failed(&self) -> Option<Arc<HubError>> {
        let mut slots = self.slots.values();
        let of_block = slots.find_map(|slot| match slot {
            Slot::Failed(error) => Some(error.clone()),
            _ => None,
        });
        self.failure.clone().or(of_block)
    }

    /// Bytes of the blocks before the next one that no reader has come to or no digest has passed. Each of them goes on
    /// without the next one; a block after it does not, if a digest waits for the next one.
    fn held_ahead(&self, blocks: &[Block]) -> u64 {
        let before = self.slots.range(..self.next);
        let ahead = before.filter(|(number, slot)| {
            **number >= self.read_to || !matches!(slot, Slot::Here { hashed: true, .. })
        });
        let lengths = ahead.filter_map(|(number, _)| blocks.get(*number).map(Block::length));
        lengths.sum()
    }

    /// Drops the slots of which `done` says so, by whether they are hashed and how much of them is unread.
    fn drop_slots(&mut self, done: impl Fn(bool, u64) -> bool) {
        self.slots.retain(
            |_, slot| !matches!(slot, Slot::Here { unread, hashed, .. } if done(*hashed, *unread)),
        );
    }
}

/// The range of a file that has to be fetched for its digest, which begins with its header, if that is worth it.
fn whole(
    files: &WeightFiles,
    file: &WeightFile,
    path: &Path,
    wanted: &[Range<u64>],
) -> Option<(Range<u64>, Digest)> {
    file.listed.sha256.as_ref()?;
    let header = std::fs::read(path).ok()?;
    let (start, size) = (header.len() as u64, file.file.size);
    let read: u64 = wanted.iter().map(|range| range.end - range.start).sum();
    let is_worth =
        files.keeps_source() || read as f64 >= WORTH_CHECKING * size.saturating_sub(start) as f64;
    let mut digest = Digest::new();
    digest.update(&header);
    if !is_worth || start >= size || files.pass(file, 0, &header).is_err() {
        return None;
    }
    Some((start..size, digest))
}

/// Ranges in order, those that touch as one.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

fn split(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    let starts = range.step_by(BLOCK as usize);
    starts.map(move |start| start..end.min(start + BLOCK))
}

#[cfg(test)]
mod tests;
