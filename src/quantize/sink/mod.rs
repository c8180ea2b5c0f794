//! Output formats. A [`Sink`] says before a weight is read which files there will be, how large they are
//! and where the parts of each tensor lie; workers then fill the places in. A further output format is
//! one more sink.

pub(super) mod gguf;
pub mod safetensors;

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::destination::OutputError;
use super::error::QuantizeError;
use super::partial::{Form, Partial};
use super::planned::Planned;
use crate::units::Bytes;

/// An output format, laid out for one model.
pub(super) trait Sink: Debug {
    /// The exact size of the weight files together.
    fn weight_bytes(&self) -> Bytes;

    /// Every byte that is written, small files among them.
    fn bytes(&self) -> Bytes;

    /// Whether it is a file or a directory, and what it may replace.
    fn form(&self) -> Form<'_>;

    /// Makes the weight files in an unfinished output, whole but for the values of `tensors`.
    ///
    /// # Errors
    /// [`QuantizeError`]: what stands before the values cannot be read or written.
    fn begin(
        &self,
        tensors: &[Planned<'_>],
        output: &Partial<'_>,
    ) -> Result<WeightFiles, QuantizeError>;

    /// Adds what stands beside the weight files.
    ///
    /// # Errors
    /// [`OutputError`]: it cannot be read or written.
    fn finish(&self, output: &Partial<'_>) -> Result<(), OutputError>;
}

/// The weight files of an output, open, with the place of every tensor in them.
#[derive(Debug)]
pub(super) struct WeightFiles {
    pub(super) files: Vec<WeightFile>,
    /// One for each tensor of the output.
    pub(super) places: Vec<TensorPlace>,
}

/// A weight file that is being filled.
#[derive(Debug)]
pub(super) struct WeightFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Its exact size in the end.
    pub(super) bytes: Bytes,
}

/// Where the parts of one tensor begin: its codes, and what belongs to them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorPlace {
    /// The number of the weight file.
    pub(super) file: usize,
    /// From the start of that file, part by part.
    pub(super) offsets: Vec<u64>,
}

impl WeightFiles {
    /// Writes bytes of one part of a tensor, `at` so many bytes from the part's beginning.
    pub(super) fn write(
        &self,
        tensor: usize,
        part: usize,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), OutputError> {
        let place = self.places.get(tensor);
        match place.and_then(|place| Some((place.file, place.offsets.get(part)?))) {
            Some((file, offset)) => self.write_at(file, offset.saturating_add(at), bytes),
            None => Err(OutputError::io(
                Path::new(""),
                io::ErrorKind::NotFound.into(),
            )),
        }
    }

    /// Writes bytes from a place in one of the files on.
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

    /// Gives every file its size: the last tensor may have padding behind it.
    pub(super) fn finish(self) -> Result<(), OutputError> {
        self.files.iter().try_for_each(|weights| {
            let sized = weights.file.set_len(weights.bytes.0);
            sized.map_err(|e| OutputError::io(&weights.path, e))
        })
    }
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let wrote = std::os::windows::fs::FileExt::seek_write(file, bytes, position)?;
        bytes = bytes.get(wrote..).unwrap_or_default();
        position += wrote as u64;
    }
    Ok(())
}
