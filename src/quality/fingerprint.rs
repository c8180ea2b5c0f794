//! A number for the weights of a checkpoint, from samples of its files.

use crate::checkpoint::Checkpoint;
use crate::input::{self, OpenError};

/// Pieces of each file that are read, and bytes in each.
const PIECES: u64 = 64;
const PIECE: u64 = 4096;

/// A number for bytes: FNV-1a of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(pub u64);

impl Default for Fingerprint {
    fn default() -> Fingerprint {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// That of no bytes.
    pub fn new() -> Fingerprint {
        Fingerprint::default()
    }

    /// That of the bytes before, and these.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Fingerprint {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Fingerprint(bytes.iter().fold(self.0, step))
    }
}

/// A number that other weights are unlikely to have: of the size of each file and of pieces spread over it.
///
/// # Errors
/// [`OpenError`]: a file cannot be read.
pub fn fingerprint(checkpoint: &Checkpoint) -> Result<u64, OpenError> {
    let mut hash = Fingerprint::new();
    let mut piece = vec![0; PIECE as usize];
    for file in &checkpoint.files {
        let (open, bytes) = input::open(&file.path)?;
        hash = hash.with(&bytes.to_le_bytes());
        for index in 0..PIECES {
            let last = bytes.saturating_sub(PIECE);
            let part = piece
                .get_mut(..PIECE.min(bytes) as usize)
                .unwrap_or_default();
            let read = input::read_exact_at(&open, part, last / PIECES * index);
            read.map_err(|source| OpenError::Io {
                path: file.path.clone(),
                source,
            })?;
            hash = hash.with(part);
        }
    }
    Ok(hash.0)
}
