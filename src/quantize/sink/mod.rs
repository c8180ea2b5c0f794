//! Output formats. A [`Sink`] lays out, before a weight is read, which files there will be, how large they are
//! and where the parts of each tensor are; workers then write the parts to their places. A new output format is a new
//! sink.

pub(super) mod gguf;
pub mod safetensors;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::destination::OutputError;
use super::error::QuantizeError;
use super::partial::{OutputForm, Partial};
use super::planned::PlannedTensor;
use crate::input::write_all_at;
use crate::units::Bytes;

/// The output of one model in one format.
pub(super) trait Sink: Debug {
    /// The exact size of the weight files together.
    fn weight_bytes(&self) -> Bytes;

    /// The exact size of all files, small ones included.
    fn bytes(&self) -> Bytes;

    /// Whether the output is a file or a directory, and what it may replace.
    fn form(&self) -> OutputForm<'_>;

    /// Creates the weight files in an unfinished output, complete except for the values of `tensors`.
    ///
    /// # Errors
    /// [`QuantizeError`]: headers and metadata cannot be read or written.
    fn begin(
        &self,
        tensors: &[PlannedTensor<'_>],
        output: &Partial<'_>,
    ) -> Result<WeightFiles, QuantizeError>;

    /// Adds the small files beside the weight files.
    ///
    /// # Errors
    /// [`OutputError`]: a file cannot be read or written.
    fn finish(&self, output: &Partial<'_>) -> Result<(), OutputError>;
}

/// Where workers put the parts of encoded tensors.
pub(super) trait Places: Sync {
    /// Takes bytes of one part of a tensor, at byte offset `at` of the part.
    ///
    /// # Errors
    /// [`OutputError`]: there is no such place, or its file cannot be written.
    fn write(&self, tensor: usize, part: usize, at: u64, bytes: &[u8]) -> Result<(), OutputError>;
}

/// The open weight files of an output, with the place of every tensor in them.
#[derive(Debug)]
pub(super) struct WeightFiles {
    pub(super) files: Vec<WeightFile>,
    /// The places of the tensors, in the order of the output.
    pub(super) places: Vec<TensorPlace>,
}

/// A weight file that is being written.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Its exact final size.
    pub(super) bytes: Bytes,
}

/// Where the parts of one tensor begin: its codes, scales and other parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorPlace {
    /// The index of the weight file.
    pub(super) file: usize,
    /// Byte offsets from the start of that file, part by part.
    pub(super) offsets: Vec<u64>,
}

impl Places for WeightFiles {
    fn write(&self, tensor: usize, part: usize, at: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let place = self.places.get(tensor);
        match place.and_then(|place| Some((place.file, place.offsets.get(part)?))) {
            Some((file, offset)) => self.write_at(file, offset.saturating_add(at), bytes),
            None => Err(no_place()),
        }
    }
}

/// The memory of a tensor that has one part.
impl Places for Mutex<&mut [u8]> {
    fn write(&self, _: usize, part: usize, at: u64, bytes: &[u8]) -> Result<(), OutputError> {
        let mut memory = self.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = usize::try_from(at).ok().filter(|_| part == 0);
        let place = behind.and_then(|at| memory.get_mut(at..)?.get_mut(..bytes.len()));
        place.ok_or_else(no_place)?.copy_from_slice(bytes);
        Ok(())
    }
}

fn no_place() -> OutputError {
    OutputError::io(Path::new(""), io::ErrorKind::NotFound.into())
}

impl WeightFiles {
    /// Writes bytes at an offset of one of the files.
    pub(super) fn write_at(
        &self,
        file: usize,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), OutputError> {
        self.files.get(file).map_or(Ok(()), |weights| {
            let written = write_all_at(&weights.file, bytes, position);
            written.map_err(|e| OutputError::io(&weights.path, e))
        })
    }

    /// Sets the size of every file, since padding may follow the last tensor.
    pub(super) fn finish(self) -> Result<(), OutputError> {
        self.files.iter().try_for_each(|weights| {
            let sized = weights.file.set_len(weights.bytes.0);
            sized.map_err(|e| OutputError::io(&weights.path, e))
        })
    }
}
