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
use crate::convert::{self, Change, Deal, ValueChange};
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
            SourceFormat::Gguf => Change::default(),
            _ => convert::change(checkpoint, model, tensor)?,
        };
        let elements = tensor.elements();
        // A vector is one row, unless its elements are dealt like rows.
        let columns = match (change.rows, tensor.shape.as_slice()) {
            (Some(_), [_]) => 1,
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
        match (parts.as_slice(), &change.cuts) {
            _ if held == rows || held < rows && padded && held > 0 => {}
            // A matrix that this tensor shares with others.
            (&[whole], Some(cuts)) if cuts.period > 0 && held.is_multiple_of(cuts.period) => {
                let periods = 0..held / cuts.period;
                let part = |range: &Range<u64>, period| Part {
                    first: period * cuts.period + range.start,
                    rows: range.end - range.start,
                    ..whole
                };
                let ranges = cuts.ranges.iter();
                let cut = ranges.flat_map(|range| periods.clone().map(move |n| part(range, n)));
                parts = cut.collect();
                if parts.iter().map(|part| part.rows).sum::<u64>() != rows {
                    return Err(sizes(found));
                }
            }
            _ => return Err(sizes(found)),
        }
        let whole = |deal: Option<Deal>, places| deal.is_none_or(|deal| deal.divides(places));
        if !whole(change.rows, rows) || !whole(change.columns, columns) {
            return Err(sizes(found));
        }
        Ok(Rows {
            parts,
            rows,
            columns,
            change,
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
                    let together = self.change.rows.map_or(u64::MAX, |deal| deal.together(row));
                    let run = (range.end - row).min(part.first + part.rows - first);
                    (
                        run.min(together),
                        files.tensors.get(part.stored).map(|s| (s, first)),
                    )
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
        if let Some(deal) = self.change.columns {
            let mut stored = vec![0.0f32; columns];
            for row in values.chunks_exact_mut(columns) {
                stored.copy_from_slice(row);
                for (value, place) in row.iter_mut().zip(0..) {
                    let source = stored.get(deal.source(place) as usize);
                    *value = source.copied().unwrap_or_default();
                }
            }
        }
        match self.change.value {
            ValueChange::None => {}
            ValueChange::AddOne => values.iter_mut().for_each(|value| *value += 1.0),
            ValueChange::NegatedExp => {
                // In double precision: the nearest single one does not hang on the machine.
                let decay = |value: &mut f32| *value = -f64::from(*value).exp() as f32;
                values.iter_mut().for_each(decay);
            }
        }
        Ok(())
    }

    fn source_row(&self, row: u64) -> u64 {
        self.change.rows.map_or(row, |deal| deal.source(row))
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
