//! Memory for the bytes of weights, in large pages where the system has them.
//!
//! Decoding reads every weight once a token. With pages of 4 KiB the processor looks up an address for each of
//! them, and how fast it reads depends on where they happen to lie. A large page holds many tensors of a small
//! model: allocations that are mapped one after the other, before any is written, are one stretch of memory.

use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use memmap2::MmapMut;

use super::DecodeError;
use crate::units::Bytes;

/// The least that gets pages of its own: half a page is lost to each on average.
const MAPPED: usize = 64 << 10;

/// Zeroed memory with one owner.
pub(super) enum Allocation {
    Heap(Vec<u8>),
    Mapped(MmapMut),
}

impl Allocation {
    /// Allocates `len` bytes.
    ///
    /// Errors if there is not so much memory: a tensor's size lies within its file, but the file may be sparse and
    /// larger than memory.
    pub(super) fn new(len: usize) -> Result<Allocation, DecodeError> {
        let refused = || DecodeError::Memory {
            what: "a tensor",
            bytes: Bytes(len as u64),
        };
        if len >= MAPPED {
            let map = MmapMut::map_anon(len).map_err(|_| refused())?;
            // Advice: where there are no large pages the memory is as good.
            #[cfg(target_os = "linux")]
            let _ = map.advise(memmap2::Advice::HugePage);
            return Ok(Allocation::Mapped(map));
        }
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| refused())?;
        bytes.resize(len, 0);
        Ok(Allocation::Heap(bytes))
    }
}

impl Deref for Allocation {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Allocation::Heap(bytes) => bytes,
            Allocation::Mapped(map) => map,
        }
    }
}

impl DerefMut for Allocation {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Allocation::Heap(bytes) => bytes,
            Allocation::Mapped(map) => map,
        }
    }
}

/// The bytes of a weight, or of one in a stack: a part of an allocation that others may share.
#[derive(Clone)]
pub(super) struct Buffer {
    allocation: Arc<Allocation>,
    range: Range<usize>,
}

impl Buffer {
    /// `count` buffers of equal size, one behind the other.
    pub(super) fn split(&self, count: usize) -> impl Iterator<Item = Buffer> {
        let each = self.len() / count.max(1);
        (0..count).map(move |index| {
            let start = self.range.start + index * each;
            Buffer {
                allocation: self.allocation.clone(),
                range: start..start + each,
            }
        })
    }
}

impl From<Allocation> for Buffer {
    fn from(allocation: Allocation) -> Buffer {
        let range = 0..allocation.len();
        let allocation = Arc::new(allocation);
        Buffer { allocation, range }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.allocation.get(self.range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_an_allocation_are_what_was_written_there() {
        for len in [8, MAPPED - 4, MAPPED + 3 * 4096] {
            let mut allocation = Allocation::new(len).unwrap();
            assert!(allocation.iter().all(|byte| *byte == 0));
            for (index, byte) in allocation.iter_mut().enumerate() {
                *byte = (index % 251) as u8;
            }
            let written = allocation.to_vec();
            let parts: Vec<Buffer> = Buffer::from(allocation).split(2).collect();
            assert_eq!(parts.len(), 2);
            assert_eq!([&*parts[0], &*parts[1]].concat(), written);
            // Of a part too.
            let quarter = parts[1].split(2).last().unwrap();
            assert!(written.ends_with(&quarter));
        }
        assert_eq!(
            Buffer::from(Allocation::new(0).unwrap()).split(0).count(),
            0
        );
        assert!(Allocation::new(usize::MAX / 2).is_err());
    }
}
