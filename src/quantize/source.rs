//! A tensor's values as rows of `f32`, in the order in which the file to be made has them: read from
//! where they are stored, a few rows at a time, never the whole tensor.
//!
//! In: a tensor's stored parts and what conversion does to them. Out: rows. Must not: encode.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;

use super::QuantizeError;
use super::blocks;
use crate::checkpoint::{Checkpoint, SourceFormat, StoredTensor};
use crate::convert::{self, Change};
use crate::dtype::{self, Dtype};
use crate::input::read_exact_at;
use crate::model::{ModelSpec, Tensor, TensorRole};

/// The open files of a checkpoint.
pub(super) struct Files<'a> {
    files: Vec<(PathBuf, File)>,
    tensors: &'a [StoredTensor],
}

/// Rows that lie one behind the other in a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    /// Index into the checkpoint's tensors.
    stored: usize,
    /// The first of them.
    first: u64,
    /// How many.
    rows: u64,
}

/// The rows of a tensor: stored parts end to end, then rows of zeros.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rows {
    parts: Vec<Part>,
    /// Rows of the tensor, those of zeros among them.
    pub(super) rows: u64,
    /// Values in each.
    pub(super) columns: u64,
    change: Change,
    /// Rows of a head, for [`Change::RotaryPairs`].
    head: u64,
}

impl<'a> Files<'a> {
    pub(super) fn open(checkpoint: &'a Checkpoint) -> Result<Files<'a>, QuantizeError> {
        let open = |path: &PathBuf| match File::open(path) {
            Ok(file) => Ok((path.clone(), file)),
            Err(source) => Err(QuantizeError::Open {
                path: path.clone(),
                source,
            }),
        };
        let files = checkpoint.files.iter().map(|file| open(&file.path));
        Ok(Files {
            files: files.collect::<Result<_, _>>()?,
            tensors: &checkpoint.tensors,
        })
    }

    /// Bytes `range` of a stored tensor, into `bytes`.
    fn read(
        &self,
        tensor: &StoredTensor,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), QuantizeError> {
        bytes.resize((range.end - range.start) as usize, 0);
        let Some((path, file)) = self.files.get(tensor.file) else {
            return Err(QuantizeError::NoWeights {
                name: tensor.name.clone(),
            });
        };
        read_exact_at(file, bytes, tensor.offset + range.start).map_err(|source| {
            QuantizeError::Read {
                path: path.clone(),
                tensor: tensor.name.clone(),
                source,
            }
        })
    }
}

impl Rows {
    /// Where the rows of `tensor` come from.
    pub(super) fn locate(
        checkpoint: &Checkpoint,
        model: &ModelSpec,
        tensor: &Tensor,
    ) -> Result<Rows, QuantizeError> {
        let change = match checkpoint.format {
            SourceFormat::Gguf => Change::None,
            _ => convert::change(model, tensor)?,
        };
        let elements = tensor.elements();
        // A vector is one row, unless its elements are dealt like rows.
        let columns = match (change, tensor.shape.as_slice()) {
            (Change::RotaryPairs, [_]) => 1,
            _ => tensor.row(),
        };
        let sizes = |found| QuantizeError::Sizes {
            tensor: tensor.name.clone(),
            found,
            expected: elements,
            shape: tensor.shape.clone(),
        };
        if columns == 0 || elements == 0 {
            return Err(sizes(0));
        }
        let rows = elements / columns;
        let mut parts = Vec::new();
        let mut found = 0u64;
        for &index in &tensor.sources {
            let stored = checkpoint.tensors.get(index as usize);
            let stored = stored.ok_or_else(|| sizes(found))?;
            if !readable(stored.dtype) {
                return Err(QuantizeError::StoredAs {
                    tensor: stored.name.clone(),
                    found: stored.dtype.name(),
                });
            }
            let weights = dtype::elements(&stored.shape);
            if !weights.is_multiple_of(columns) || !stored.dtype.divides(columns) {
                return Err(sizes(weights));
            }
            found = found.saturating_add(weights);
            parts.push(Part {
                stored: index as usize,
                first: 0,
                rows: weights / columns,
            });
        }
        let held = found / columns;
        let padded = matches!(
            tensor.role,
            TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
        );
        let half = match tensor.role {
            TensorRole::FfnGateExperts => Some(0),
            TensorRole::FfnUpExperts => Some(1),
            _ => None,
        };
        match (parts.as_slice(), tensor.shape.as_slice(), half) {
            _ if held == rows || held < rows && padded && held > 0 => {}
            // Gate and up projection of each expert stored as one matrix, the gate first.
            (&[whole], &[experts, inner, _], Some(half)) if held == rows * 2 => {
                let part = |expert| Part {
                    first: (2 * expert + half) * inner,
                    rows: inner,
                    ..whole
                };
                parts = (0..experts).map(part).collect();
            }
            _ => return Err(sizes(found)),
        }
        let attention = tensor.layer.and_then(|layer| {
            let layer = model.layers.get(layer as usize)?;
            layer.mixer.attention.as_ref()
        });
        let head = attention.map_or(0, |a| a.key_dim);
        if change == Change::RotaryPairs
            && (head == 0 || !head.is_multiple_of(2) || !rows.is_multiple_of(head))
        {
            return Err(sizes(found));
        }
        Ok(Rows {
            parts,
            rows,
            columns,
            change,
            head,
        })
    }

    /// Rows `range` as they are stored: bytes of one format, for a tensor that keeps it.
    pub(super) fn copy(
        &self,
        files: &Files<'_>,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), QuantizeError> {
        let Some((stored, first)) = self
            .place(range.start)
            .and_then(|(part, first)| Some((files.tensors.get(part.stored)?, first)))
        else {
            bytes.clear();
            return Ok(());
        };
        let row = self.row_bytes(stored.dtype);
        let end = first + (range.end - range.start);
        files.read(stored, first * row..end * row, bytes)
    }

    /// Rows `range` as numbers, into `values`; `bytes` is scratch space.
    pub(super) fn read(
        &self,
        files: &Files<'_>,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
        values: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        values.resize((range.end - range.start) as usize * columns, 0.0);
        let mut row = range.start;
        let mut left = values.as_mut_slice();
        while row < range.end {
            let (run, stored) = match self.place(self.source_row(row)) {
                None => (range.end - row, None),
                Some((part, first)) => {
                    let run = match self.change {
                        Change::RotaryPairs => 1,
                        _ => (range.end - row).min(part.first + part.rows - first),
                    };
                    (run, files.tensors.get(part.stored).map(|s| (s, first)))
                }
            };
            let (here, rest) = left.split_at_mut((run as usize * columns).min(left.len()));
            match stored {
                None => here.fill(0.0),
                Some((stored, first)) => {
                    let row_bytes = self.row_bytes(stored.dtype);
                    files.read(stored, first * row_bytes..(first + run) * row_bytes, bytes)?;
                    decode(stored, bytes, columns, here)?;
                }
            }
            left = rest;
            row += run;
        }
        if self.change == Change::AddOne {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(())
    }

    fn source_row(&self, row: u64) -> u64 {
        match self.change {
            Change::RotaryPairs => convert::rotary_source(row, self.head),
            _ => row,
        }
    }

    /// The part that holds row `row`, and the row's place in the stored tensor.
    fn place(&self, mut row: u64) -> Option<(&Part, u64)> {
        for part in &self.parts {
            if row < part.rows {
                return Some((part, part.first + row));
            }
            row -= part.rows;
        }
        None
    }

    fn row_bytes(&self, dtype: Dtype) -> u64 {
        dtype.bytes(&[self.columns]).map_or(0, |bytes| bytes.0)
    }
}

/// Whether values of `dtype` can be read as numbers, or copied.
fn readable(dtype: Dtype) -> bool {
    dtype == Dtype::F64 || dtype.format().ggml_id.is_some()
}

/// Whether values of `dtype` can be read as numbers.
pub(super) fn decodable(dtype: Dtype) -> bool {
    dtype == Dtype::F64 || blocks::FORMATS.contains(&dtype)
}

fn decode(
    stored: &StoredTensor,
    bytes: &[u8],
    row: usize,
    values: &mut [f32],
) -> Result<(), QuantizeError> {
    if stored.dtype == Dtype::F64 {
        for (value, bytes) in values.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *value = f64::from_le_bytes(*bytes) as f32;
        }
        return Ok(());
    }
    blocks::decode_rows(stored.dtype, bytes, row, values).map_err(|source| QuantizeError::Block {
        tensor: stored.name.clone(),
        source,
    })
}
