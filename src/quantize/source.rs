//! A tensor's values as rows of `f32`, in the order in which the file to be made has them: read from
//! where they are stored, a few rows at a time, never the whole tensor.
//!
//! In: a tensor's stored weights, plain or packed, and what conversion does to them. Out: rows. Must
//! not: encode.

use std::collections::HashMap;
use std::ops::Range;

use super::blocks;
use super::error::QuantizeError;
use super::packed::{Files, Weight};
use crate::checkpoint::{Checkpoint, SourceFormat, StoredTensor};
use crate::convert::{self, Change, Permutation, ValueChange};
use crate::dtype::{self, Dtype};
use crate::model::{FoldedWeight, ModelSpec, Tensor, TensorRole};

/// Where the tensors of a model come from.
pub(super) struct Sources<'a> {
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    /// Stored weights by the first of their parts; none for a GGUF, whose tensors have one part.
    weights: HashMap<u32, &'a FoldedWeight>,
}

/// A stored weight.
#[derive(Debug)]
enum Source<'a> {
    /// Numbers or ggml's blocks, as they lie in the file.
    Stored(&'a StoredTensor),
    /// Codes with scales, from several tensors.
    Packed(Box<Weight<'a>>),
}

/// Rows that lie one behind the other in a stored weight.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// Index into [`TensorRows::sources`].
    source: usize,
    /// The first of them.
    first: u64,
    /// How many.
    rows: u64,
}

/// The rows of a tensor: runs of stored weights end to end, then rows of zeros.
#[derive(Debug)]
pub(super) struct TensorRows<'a> {
    files: &'a Files,
    sources: Vec<Source<'a>>,
    runs: Vec<Run>,
    /// Rows of the tensor, those of zeros among them.
    pub(super) rows: u64,
    /// Values in each.
    pub(super) columns: u64,
    change: Change,
}

/// Memory that is used again from one call to the next.
#[derive(Default)]
pub(super) struct ReadBuffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
    ) -> Sources<'a> {
        let first = |weight: &'a FoldedWeight| Some((*weight.sources.first()?, weight));
        Sources {
            checkpoint,
            files,
            model,
            weights: model.stored.iter().filter_map(first).collect(),
        }
    }

    /// Where the rows of a whole stored weight come from, which must have this shape.
    pub(super) fn weight(
        &self,
        weight: &FoldedWeight,
        shape: &[u64],
    ) -> Result<TensorRows<'a>, QuantizeError> {
        let opened = Weight::open(self.checkpoint, self.files, weight)?;
        if opened.shape() != shape {
            return Err(QuantizeError::Shape {
                tensor: weight.name.clone(),
                found: opened.shape().to_vec(),
                expected: shape.to_vec(),
            });
        }
        let (rows, columns) = (opened.rows(), opened.columns());
        let stored = self.stored(weight).filter(|tensor| decodable(tensor.dtype));
        let source = stored.map_or(Source::Packed(Box::new(opened)), Source::Stored);
        Ok(TensorRows {
            files: self.files,
            sources: vec![source],
            runs: vec![Run {
                source: 0,
                first: 0,
                rows,
            }],
            rows,
            columns,
            change: Change::default(),
        })
    }

    /// The tensor that a weight is stored in, if that is all of it.
    pub(super) fn stored(&self, weight: &FoldedWeight) -> Option<&'a StoredTensor> {
        match weight.sources.as_slice() {
            &[index] => self.checkpoint.tensors.get(index as usize),
            _ => None,
        }
    }

    /// The stored weights of `tensor`, in their order.
    fn of(&self, tensor: &Tensor) -> Result<Vec<Source<'a>>, QuantizeError> {
        let from_gguf = self.checkpoint.format == SourceFormat::Gguf;
        let mut sources = Vec::new();
        for index in &tensor.sources {
            let weight = self.weights.get(index);
            // Scales and the like come with the weight that they belong to.
            let Some(stored) = self.checkpoint.tensors.get(*index as usize) else {
                continue;
            };
            let alone = weight.is_some_and(|weight| weight.sources.len() == 1);
            match weight {
                _ if (from_gguf || alone) && readable(stored.dtype) => {
                    sources.push(Source::Stored(stored));
                }
                Some(weight) => {
                    let weight = Weight::open(self.checkpoint, self.files, weight)?;
                    sources.push(Source::Packed(Box::new(weight)));
                }
                None if from_gguf => {
                    return Err(QuantizeError::StoredAs {
                        tensor: stored.name.clone(),
                        found: stored.dtype.name(),
                    });
                }
                None => {}
            }
        }
        Ok(sources)
    }

    /// Where the rows of `tensor` come from.
    pub(super) fn rows(&self, tensor: &Tensor) -> Result<TensorRows<'a>, QuantizeError> {
        let change = match self.checkpoint.format {
            SourceFormat::Gguf => Change::default(),
            _ => convert::change(self.checkpoint, self.model, tensor)?,
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
        let sources = self.of(tensor)?;
        let mut runs = Vec::new();
        let mut found = 0u64;
        for (source, stored) in sources.iter().enumerate() {
            let (weights, whole) = match stored {
                Source::Stored(stored) => {
                    let weights = dtype::elements(&stored.shape);
                    let whole = weights.is_multiple_of(columns) && stored.dtype.divides(columns);
                    (weights, whole)
                }
                Source::Packed(weight) => {
                    let weights = dtype::elements(weight.shape());
                    (weights, weight.columns() == columns)
                }
            };
            if !whole {
                return Err(sizes(weights));
            }
            found = found.saturating_add(weights);
            runs.push(Run {
                source,
                first: 0,
                rows: weights / columns,
            });
        }
        let held = found / columns;
        let padded = matches!(
            tensor.role,
            TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
        );
        match (runs.as_slice(), &change.slices) {
            _ if held == rows || held < rows && padded && held > 0 => {}
            // A matrix that this tensor shares with others.
            (&[whole], Some(cuts)) if cuts.period > 0 && held.is_multiple_of(cuts.period) => {
                let periods = 0..held / cuts.period;
                let run = |range: &Range<u64>, period| Run {
                    first: period * cuts.period + range.start,
                    rows: range.end - range.start,
                    ..whole
                };
                let ranges = cuts.ranges.iter();
                let cut = ranges.flat_map(|range| periods.clone().map(move |n| run(range, n)));
                runs = cut.collect();
                if runs.iter().map(|run| run.rows).sum::<u64>() != rows {
                    return Err(sizes(found));
                }
            }
            _ => return Err(sizes(found)),
        }
        let whole =
            |deal: Option<Permutation>, places| deal.is_none_or(|deal| deal.divides(places));
        if !whole(change.rows, rows) || !whole(change.columns, columns) {
            return Err(sizes(found));
        }
        Ok(TensorRows {
            files: self.files,
            sources,
            runs,
            rows,
            columns,
            change,
        })
    }
}

impl<'a> TensorRows<'a> {
    /// The stored tensor that these rows are, as it lies in its file; `None` where they are put together,
    /// changed or padded.
    pub(super) fn as_stored(&self) -> Option<(&'a Files, &'a StoredTensor)> {
        let unchanged = self.change == Change::default();
        match (self.sources.as_slice(), self.runs.as_slice()) {
            (&[Source::Stored(stored)], &[run]) if unchanged && run.rows == self.rows => {
                Some((self.files, stored))
            }
            _ => None,
        }
    }

    /// Whether a row is spread over the file, so that a few cost as much to find as many.
    pub(super) fn is_by_columns(&self) -> bool {
        let by_columns = |source: &Source<'_>| match source {
            Source::Stored(_) => false,
            Source::Packed(weight) => weight.is_by_columns(),
        };
        self.sources.iter().any(by_columns)
    }

    /// Rows `range` as numbers, into `values`.
    pub(super) fn read(
        &self,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        if let Some((weight, rows)) = self.of_one_weight(&range) {
            weight.read(rows, values)?;
        } else {
            values.resize((range.end - range.start) as usize * columns, 0.0);
            match self.change.rows {
                None => self.stored(range, buffers, values)?,
                Some(deal) => self.dealt(deal, range, buffers, values)?,
            }
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
                // Computed in double precision and then rounded, so that every machine gets the same value.
                let decay = |value: &mut f32| *value = -f64::from(*value).exp() as f32;
                values.iter_mut().for_each(decay);
            }
        }
        Ok(())
    }

    /// The packed weight that all of `range` is taken from in order, and which of its rows these are: it
    /// fills the values itself.
    fn of_one_weight(&self, range: &Range<u64>) -> Option<(&Weight<'a>, Range<u64>)> {
        let (run, first) = self.place(range.start)?;
        let end = first + (range.end - range.start);
        match self.sources.get(run.source)? {
            Source::Packed(weight) if self.change.rows.is_none() && end <= run.first + run.rows => {
                Some((weight, first..end))
            }
            _ => None,
        }
    }

    /// Rows `range` in another order than they are stored in. Rows that are neighbours there are read
    /// together: packed by columns, one row costs as much as many.
    fn dealt(
        &self,
        deal: Permutation,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut [f32],
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        let places = range.zip(0..).map(|(row, place)| (deal.source(row), place));
        let mut places: Vec<(u64, usize)> = places.collect();
        places.sort_unstable();
        let mut rows = Vec::new();
        for run in places.chunk_by(|(one, _), (next, _)| one + 1 == *next) {
            let first = run.first().map_or(0, |(source, _)| *source);
            rows.resize(run.len() * columns, 0.0);
            self.stored(first..first + run.len() as u64, buffers, &mut rows)?;
            for ((_, place), row) in run.iter().zip(rows.chunks_exact(columns)) {
                let start = place * columns;
                if let Some(to) = values.get_mut(start..start + columns) {
                    to.copy_from_slice(row);
                }
            }
        }
        Ok(())
    }

    /// Rows `range` in the order in which they are stored, into `values`.
    fn stored(
        &self,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut [f32],
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        let mut row = range.start;
        let mut left = values;
        while row < range.end {
            let (count, source) = match self.place(row) {
                None => (range.end - row, None),
                Some((run, first)) => {
                    let count = (range.end - row).min(run.first + run.rows - first);
                    (count, self.sources.get(run.source).map(|s| (s, first)))
                }
            };
            let (here, rest) = left.split_at_mut((count as usize * columns).min(left.len()));
            match source {
                None => here.fill(0.0),
                Some((Source::Stored(stored), first)) => {
                    let row_bytes = stored.dtype.row_bytes(self.columns).0;
                    let bytes = &mut buffers.bytes;
                    bytes.resize((count * row_bytes) as usize, 0);
                    self.files.read(stored, first * row_bytes, bytes)?;
                    decode(stored, bytes, columns, here)?;
                }
                Some((Source::Packed(weight), first)) => {
                    weight.read(first..first + count, &mut buffers.values)?;
                    here.copy_from_slice(buffers.values.get(..here.len()).unwrap_or_default());
                }
            }
            left = rest;
            row += count;
        }
        Ok(())
    }

    /// The run that holds row `row`, and the row's place in the stored tensor.
    fn place(&self, mut row: u64) -> Option<(&Run, u64)> {
        for run in &self.runs {
            if row < run.rows {
                return Some((run, run.first + row));
            }
            row -= run.rows;
        }
        None
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
