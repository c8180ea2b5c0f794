//! Writes a file of a server as it is, compared with the digest that the server states.

use std::sync::atomic::{AtomicBool, Ordering};

use super::destination::{Destination, OutputError};
use super::error::QuantizeError;
use super::packed::PackedError;
use super::partial::{Leftover, OutputForm, Partial};
use super::pool::Progress;
use crate::checkpoint::{Checkpoint, FileRange};
use crate::units::Bytes;

/// Bytes that are written at a time.
const PIECE: u64 = 1 << 20;

/// Fetches the only file of `checkpoint`, which is on a server. It gets its name when it is complete and on the disk.
/// Returns whether it was compared with a digest.
///
/// # Errors
/// [`QuantizeError`]: the checkpoint is on no server or has several files, the destination cannot or must not be written,
/// the file cannot be fetched or has another digest, or `cancel` became true.
pub fn fetch(
    checkpoint: &Checkpoint,
    destination: &Destination<'_>,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<bool, QuantizeError> {
    let (Some(source), [file]) = (&checkpoint.source, checkpoint.files.as_slice()) else {
        let name = checkpoint.name.clone();
        return Err(QuantizeError::NotOneFile { name });
    };
    let failed = |source| QuantizeError::Weights(PackedError::Source(source));
    let partial = Partial::create(destination, OutputForm::File, file.bytes, Leftover::Replace)?;
    let mut out = partial.file()?;
    source.weights.fetch_ahead(vec![FileRange {
        file: file.path.clone(),
        range: 0..file.bytes.0,
    }]);
    let mut bytes = Vec::new();
    let mut start = 0;
    while start < file.bytes.0 {
        if cancel.load(Ordering::Relaxed) {
            return Err(QuantizeError::Interrupted);
        }
        bytes.resize(PIECE.min(file.bytes.0 - start) as usize, 0);
        source
            .weights
            .read(&file.path, start, &mut bytes)
            .map_err(failed)?;
        std::io::Write::write_all(&mut out, &bytes)
            .map_err(|error| OutputError::io(destination.path, error))?;
        start += bytes.len() as u64;
        progress(Progress {
            bytes: Bytes(start),
            tensors: 0,
        });
    }
    let unchecked = source.weights.finish().map_err(failed)?;
    partial.commit()?;
    Ok(unchecked.is_empty())
}
