//! The open weight files of a checkpoint, read by position: threads share them without a lock.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::error::PackedError;
use crate::checkpoint::{Checkpoint, FileRange, Source, StoredTensor};
use crate::dtype::{Dtype, elements};
use crate::input;
use crate::quantize::blocks::half::{bf16_to_f32, f16_to_f32};
use crate::quantize::fp8::{e4m3_to_f32, e5m2_to_f32, e8m0_to_f32};

/// The open weight files of a checkpoint.
#[derive(Debug)]
pub struct Files {
    files: Vec<(PathBuf, Where)>,
    /// The model's source, if that is a server.
    source: Option<Source>,
}

/// Where a weight file is.
#[derive(Debug)]
enum Where {
    Here(File),
    OnServer,
}

impl Files {
    /// Opens every weight file of `checkpoint`.
    ///
    /// # Errors
    /// [`PackedError::Open`] for a file that is not there any more or cannot be read,
    /// [`PackedError::HeaderOnly`] for one named as a bare header, which holds no weights.
    pub fn open(checkpoint: &Checkpoint) -> Result<Files, PackedError> {
        let open = |path: &PathBuf| {
            if checkpoint.source.is_some() {
                return Ok((path.clone(), Where::OnServer));
            }
            if input::is_header_only(path) {
                return Err(PackedError::HeaderOnly { path: path.clone() });
            }
            Ok((path.clone(), Where::Here(input::open(path)?.0)))
        };
        let files: Result<_, PackedError> =
            checkpoint.files.iter().map(|f| open(&f.path)).collect();
        Ok(Files {
            files: files?,
            source: checkpoint.source.clone(),
        })
    }

    /// Fills `out` with the bytes of `tensor` from `offset` on.
    ///
    /// # Errors
    /// [`PackedError::Read`] if the file ends before that or the system refuses.
    pub fn read(
        &self,
        tensor: &StoredTensor,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), PackedError> {
        let failed = |path: PathBuf, source| PackedError::Read {
            path,
            tensor: tensor.name.clone(),
            source,
        };
        let Some((path, file)) = self.files.get(tensor.file) else {
            return Err(failed(PathBuf::new(), io::ErrorKind::NotFound.into()));
        };
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > tensor.bytes.0) {
            return Err(failed(path.clone(), io::ErrorKind::UnexpectedEof.into()));
        }
        let position = tensor.offset.saturating_add(offset);
        match (file, &self.source) {
            (Where::Here(file), _) => input::read_exact_at(file, out, position)
                .map_err(|source| failed(path.clone(), source)),
            (Where::OnServer, Some(source)) => {
                let read = source.weights.read(path, position, out);
                read.map_err(|source| PackedError::Fetch {
                    tensor: tensor.name.clone(),
                    source,
                })
            }
            (Where::OnServer, None) => Err(failed(path.clone(), io::ErrorKind::NotFound.into())),
        }
    }

    /// The server that the files are on, if they are on one.
    pub(in crate::quantize) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    /// Announces to a server that `tensors` will be read, in the order in which they are stored.
    pub(in crate::quantize) fn fetch_ahead<'a>(
        &self,
        tensors: impl Iterator<Item = &'a StoredTensor>,
    ) {
        let Some(source) = &self.source else {
            return;
        };
        let ranges = as_stored(tensors).into_iter().filter_map(|tensor| {
            let (path, _) = self.files.get(tensor.file)?;
            Some(FileRange {
                file: path.clone(),
                range: tensor.offset..tensor.offset.saturating_add(tensor.bytes.0),
            })
        });
        source.weights.fetch_ahead(ranges.collect());
    }

    /// Waits until what was announced has passed, and its digests were checked. Returns the names of files whose digest
    /// could not be checked, each with the reason.
    pub(in crate::quantize) fn finish(&self) -> Result<Vec<String>, PackedError> {
        let finished = self.source.as_ref().map(|source| source.weights.finish());
        let finished = finished.transpose().map_err(PackedError::Source)?;
        Ok(finished.unwrap_or_default())
    }
}

/// Tensors in the order in which files and the bytes in them are read.
fn as_stored<'a>(tensors: impl Iterator<Item = &'a StoredTensor>) -> Vec<&'a StoredTensor> {
    let mut tensors: Vec<&StoredTensor> = tensors.collect();
    tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
    tensors
}

/// Reads one stored tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct TensorReader<'a> {
    pub(super) files: &'a Files,
    pub(super) tensor: &'a StoredTensor,
}

impl<'a> TensorReader<'a> {
    pub(super) fn shape(&self) -> &'a [u64] {
        &self.tensor.shape
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    /// Elements of the whole tensor.
    pub(super) fn elements(&self) -> u64 {
        elements(self.shape())
    }

    pub(super) fn bytes(&self, offset: u64, count: u64) -> Result<Vec<u8>, PackedError> {
        // The tensor's size bounds the allocation, whatever shapes say; the byte more makes the read fail.
        let count = count.min(self.tensor.bytes.0.saturating_add(1));
        let mut bytes = vec![0; count as usize];
        self.files.read(self.tensor, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Elements `start..start + count`, counted in row-major order, as floats; U8 is taken as E8M0.
    pub(super) fn floats(&self, start: u64, count: u64) -> Result<Vec<f32>, PackedError> {
        let size = self.dtype().format().block_bytes;
        let bytes = self.bytes(start.saturating_mul(size), count.saturating_mul(size))?;
        let mut out = Vec::new();
        if decode(self.dtype(), &bytes, &mut out) {
            Ok(out)
        } else {
            Err(self.unexpected("a float type"))
        }
    }

    /// All elements as integers.
    pub(super) fn integers(&self) -> Result<Vec<i64>, PackedError> {
        let bytes = self.bytes(0, self.tensor.bytes.0)?;
        Ok(match self.dtype() {
            Dtype::I64 => map(&bytes, i64::from_le_bytes),
            Dtype::I32 => map(&bytes, |b| i64::from(i32::from_le_bytes(b))),
            Dtype::U8 => map(&bytes, |[b]| i64::from(b)),
            _ => return Err(self.unexpected("I64 or I32")),
        })
    }

    /// Words `start..start + count` of a tensor of 32-bit words.
    pub(super) fn words(&self, start: u64, count: u64) -> Result<Vec<u32>, PackedError> {
        let bytes = self.bytes(start.saturating_mul(4), count.saturating_mul(4))?;
        Ok(map(&bytes, u32::from_le_bytes))
    }

    pub(super) fn unexpected(&self, expected: &str) -> PackedError {
        PackedError::Content {
            tensor: self.tensor.name.clone(),
            what: self.dtype().name().to_owned(),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn wrong_shape(&self, weight: &[u64]) -> PackedError {
        PackedError::Shape {
            tensor: self.tensor.name.clone(),
            found: self.shape().to_vec(),
            weight: weight.to_vec(),
        }
    }

    pub(super) fn unknown(&self, what: impl Into<String>) -> PackedError {
        PackedError::Layout {
            tensor: self.tensor.name.clone(),
            what: what.into(),
        }
    }
}

/// Whether [`decode`] decodes the type as a float type of its own.
pub(super) fn is_float(dtype: Dtype) -> bool {
    decode(dtype, &[], &mut Vec::new()) && dtype != Dtype::U8
}

/// Appends the values of `bytes`; false for a type that is no float. U8 is decoded as E8M0, since files store E8M0
/// scales as plain bytes.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut Vec<f32>) -> bool {
    match dtype {
        Dtype::F64 => out.extend(each(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::F32 => out.extend(each(bytes, f32::from_le_bytes)),
        Dtype::F16 => out.extend(each(bytes, |b| f16_to_f32(u16::from_le_bytes(b)))),
        Dtype::BF16 => out.extend(each(bytes, |b| bf16_to_f32(u16::from_le_bytes(b)))),
        Dtype::F8_E4M3 => table(bytes, e4m3_to_f32, out),
        Dtype::F8_E5M2 => table(bytes, e5m2_to_f32, out),
        Dtype::F8_E8M0 | Dtype::U8 => table(bytes, e8m0_to_f32, out),
        _ => return false,
    }
    true
}

fn each<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(move |&chunk| value(chunk))
}

fn map<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    each(bytes, value).collect()
}

/// Appends `value` of each byte, looked up in a table of all 256.
pub(super) fn table(bytes: &[u8], value: impl Fn(u8) -> f32, out: &mut Vec<f32>) {
    let values: [f32; 256] = std::array::from_fn(|code| value(code as u8));
    out.extend(bytes.iter().map(|&byte| values[usize::from(byte)]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;

    /// A final norm is written first, and stored in the last of many files.
    #[test]
    fn what_is_fetched_ahead_is_in_the_order_of_files() {
        let tensor = |name: &str, file, offset| StoredTensor {
            name: name.to_owned(),
            dtype: Dtype::BF16,
            shape: vec![8],
            file,
            offset,
            bytes: Bytes(16),
        };
        let written = [
            tensor("norm", 2, 96),
            tensor("embedding", 0, 64),
            tensor("up", 0, 16),
            tensor("down", 1, 32),
        ];
        let names = as_stored(written.iter())
            .into_iter()
            .map(|t| t.name.as_str());
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["up", "embedding", "down", "norm"]
        );
    }
}
