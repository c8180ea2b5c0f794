//! Memory for the bytes of weights, in large pages where the system has them.
//!
//! Decoding reads every weight once a token. With pages of 4 KiB the processor looks up an address for each of
//! them, and how fast it reads depends on where they happen to lie. A large page holds many tensors of a small
//! model: rooms that are mapped one after the other, before any is written, are one stretch of memory.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use memmap2::MmapMut;

use super::DecodeError;
use crate::units::Bytes;

/// The least that gets pages of its own: half a page is lost to each on average.
const MAPPED: usize = 64 << 10;

/// Zeroed memory that nobody shares yet.
pub(super) enum Room {
    Allocated(Vec<u8>),
    Mapped(MmapMut),
}

impl Room {
    /// Room for `len` bytes.
    ///
    /// Errors if there is not so much memory: a tensor's size lies within its file, but the file may be sparse and
    /// larger than memory.
    pub(super) fn new(len: usize) -> Result<Room, DecodeError> {
        let refused = || DecodeError::Memory {
            what: "a tensor",
            bytes: Bytes(len as u64),
        };
        if len >= MAPPED {
            let map = MmapMut::map_anon(len).map_err(|_| refused())?;
            // Advice: where there are no large pages the memory is as good.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Ok(Room::Mapped(map));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| refused())?;
        bytes.resize(len, 0);
        Ok(Room::Allocated(bytes))
    }
}

impl Deref for Room {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Room::Allocated(bytes) => bytes,
            Room::Mapped(map) => map,
        }
    }
}

impl DerefMut for Room {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Room::Allocated(bytes) => bytes,
            Room::Mapped(map) => map,
        }
    }
}

/// The bytes of a weight, or of one in a stack: a part of a room that others may share.
#[derive(Clone)]
pub(super) struct Buffer {
    room: Arc<Room>,
    range: Range<usize>,
}

impl Buffer {
    /// `count` buffers of equal size, one behind the other.
    pub(super) fn split(&self, count: usize) -> impl Iterator<Item = Buffer> {
        let each = self.len() / count.max(1);
        (0..count).map(move |index| {
            let start = self.range.start + index * each;
            Buffer {
                room: self.room.clone(),
                range: start..start + each,
            }
        })
    }
}

impl From<Room> for Buffer {
    fn from(room: Room) -> Buffer {
        let range = 0..room.len();
        let room = Arc::new(room);
        Buffer { room, range }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.room.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_room_are_what_was_written_there() {
        for len in [8, MAPPED - 4, MAPPED + 3 * 4096] {
            let mut room = Room::new(len).unwrap();
            assert!(room.iter().all(|byte| *byte == 0));
            for (index, byte) in room.iter_mut().enumerate() {
                *byte = (index % 251) as u8;
            }
            let written = room.to_vec();
            let parts: Vec<Buffer> = Buffer::from(room).split(2).collect();
            assert_eq!(parts.len(), 2);
            assert_eq!([&*parts[0], &*parts[1]].concat(), written);
            // Of a part too.
            let quarter = parts[1].split(2).last().unwrap();
            assert!(written.ends_with(&quarter));
        }
        assert_eq!(Buffer::from(Room::new(0).unwrap()).split(0).count(), 0);
        assert!(Room::new(usize::MAX / 2).is_err());
    }
}
