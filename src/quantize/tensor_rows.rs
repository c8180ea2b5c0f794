//! The rows of one tensor as `f32`, in the order in which the output has them, read from where they are stored: a few
//! rows at a time, never the whole tensor.
//!
//! In: stored weights, plain or packed, and what conversion does to them. Out: values. Must not: encode.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::blocks::{self, half};
use super::error::QuantizeError;
use super::packed::{Files, Weight};
use crate::checkpoint::StoredTensor;
use crate::convert::{Change, Permutation, Turn, ValueChange};
use crate::dtype::Dtype;

/// A stored weight that rows are read from.
#[derive(Debug)]
pub(super) enum RowSource<'a> {
    /// Numbers or ggml's blocks in one stored tensor.
    Stored(&'a StoredTensor),
    /// A packed weight of several stored tensors.
    Packed(Box<Weight<'a>>),
}

/// Consecutive rows of a stored weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RowRun {
    /// Index into [`TensorRows::sources`].
    pub(super) source: usize,
    /// The first row.
    pub(super) first: u64,
    /// The number of rows.
    pub(super) rows: u64,
    /// Every so many stored rows, one is of the run.
    pub(super) every: u64,
}

/// The rows of a tensor: runs of stored rows, one after the other, then rows of zeros.
#[derive(Debug)]
pub(super) struct TensorRows<'a> {
    pub(super) files: &'a Files,
    pub(super) sources: Vec<RowSource<'a>>,
    /// The stored tensors that each source consists of.
    pub(super) stored: Vec<Vec<&'a StoredTensor>>,
    pub(super) runs: Vec<RowRun>,
    /// The number of rows, rows of zeros included.
    pub(super) rows: u64,
    /// The number of values in a row.
    pub(super) columns: u64,
    pub(super) change: Change,
    /// The stored rows, blocks of which are transposed: each block has as many rows as this tensor columns.
    pub(super) transposed: Option<Box<TensorRows<'a>>>,
    pub(super) magnitude: Magnitude,
}

/// The mean magnitude of all values of a tensor, which is read once for it when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Magnitude(Mutex<Option<f32>>);

/// Values that are read at a time for the mean magnitude of a tensor.
const MEASURED: u64 = 1 << 18;

/// The least magnitude that values are rounded to (`weight_quant` of llama.cpp's `conversion/bitnet.py`).
const LEAST_MAGNITUDE: f32 = 1e-5;

/// `ln(1 + e^x)`, computed in double precision and then rounded, so that the result is machine-independent: the last bit of
/// PyTorch's depends on the processor, and on where in a tensor the value stands. `x` itself above 20, as there.
fn softplus(x: f32) -> f32 {
    if x > 20.0 {
        return x;
    }
    f64::from(x).exp().ln_1p() as f32
}

/// Buffers that are reused from one call to the next.
#[derive(Default)]
pub(super) struct ReadBuffers {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl<'a> TensorRows<'a> {
    /// The stored tensor that these rows are identical to; `None` if they come from several, or are changed or padded.
    pub(super) fn as_stored(&self) -> Option<(&'a Files, &'a StoredTensor)> {
        let unchanged = self.change == Change::default();
        match (self.sources.as_slice(), self.runs.as_slice()) {
            (&[RowSource::Stored(stored)], &[run])
                if unchanged && run.rows == self.rows && run.every == 1 =>
            {
                Some((self.files, stored))
            }
            _ => None,
        }
    }

    /// Where a row is stored: the index of its file, and about which byte of it.
    pub(super) fn position(&self, row: u64) -> Option<(usize, u64)> {
        if let Some(stored) = &self.transposed {
            let every = self.change.turn.map_or(1, |turn| turn.every).max(1);
            let width = (stored.columns / every).max(1);
            return stored.position(row / width * self.columns);
        }
        let row = self.change.rows.map_or(row, |order| order.source(row));
        let (run, first) = self.place(row)?;
        let stored = self.stored.get(run.source)?.first()?;
        let part = match self.sources.get(run.source)? {
            RowSource::Stored(stored) => {
                first.saturating_mul(stored.dtype.row_bytes(self.columns).0)
            }
            RowSource::Packed(weight) => {
                let share = first as f64 / weight.rows().max(1) as f64;
                (stored.bytes.as_f64() * share) as u64
            }
        };
        Some((stored.file, stored.offset.saturating_add(part)))
    }

    /// Whether a row is spread over the stored tensor, so that reading a few rows costs as much as reading many.
    pub(super) fn is_by_columns(&self) -> bool {
        let by_columns = |source: &RowSource<'_>| match source {
            RowSource::Stored(_) => false,
            RowSource::Packed(weight) => weight.is_by_columns(),
        };
        self.transposed.is_some() || self.sources.iter().any(by_columns)
    }

    /// Reads rows `range` into `values`.
    pub(super) fn read(
        &self,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        if let Some(stored) = &self.transposed {
            return self.read_transposed(stored, range, buffers, values);
        }
        self.in_order(range, buffers, values)?;
        match self.change.value {
            ValueChange::None => {}
            ValueChange::Add(more) => values.iter_mut().for_each(|value| *value += more),
            ValueChange::UnitRows => values.chunks_exact_mut(columns).for_each(|row| {
                let squares = row.iter().map(|x| f64::from(*x).powi(2));
                let norm = squares.sum::<f64>().sqrt().max(1e-12);
                row.iter_mut()
                    .for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }),
            ValueChange::NegatedExp => {
                // Computed in double precision and then rounded, so that the result is machine-independent.
                let decay = |value: &mut f32| *value = -f64::from(*value).exp() as f32;
                values.iter_mut().for_each(decay);
            }
            ValueChange::Softplus => values
                .iter_mut()
                .for_each(|value| *value = softplus(*value)),
            ValueChange::Ternary => {
                // The converter divides by the reciprocal, in single precision, whose last bits a file keeps.
                let (reciprocal, round) = (1.0 / self.magnitude(buffers)?, self.rounding());
                let ternary = |x: f32| (x * reciprocal).round_ties_even().clamp(-1.0, 1.0);
                values
                    .iter_mut()
                    .for_each(|x| *x = round(ternary(*x) / reciprocal));
            }
        }
        Ok(())
    }

    /// The mean magnitude of all values.
    fn magnitude(&self, buffers: &mut ReadBuffers) -> Result<f32, QuantizeError> {
        let mut found = self
            .magnitude
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = *found {
            return Ok(found);
        }
        let step = (MEASURED / self.columns.max(1)).max(1);
        let (mut sum, mut values) = (0.0, Vec::new());
        for first in (0..self.rows).step_by(step as usize) {
            self.in_order(first..self.rows.min(first + step), buffers, &mut values)?;
            sum += values.iter().map(|x| f64::from(x.abs())).sum::<f64>();
        }
        let count = self.rows.saturating_mul(self.columns);
        let mean = (sum as f32 / count as f32).max(LEAST_MAGNITUDE);
        *found = Some(mean);
        Ok(mean)
    }

    /// Reads rows `range` in the order of the output, each value times its factors.
    fn in_order(
        &self,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let (columns, range_start) = (self.columns as usize, range.start);
        if let Some((weight, rows)) = self.of_one_weight(&range) {
            weight.read(rows, values)?;
        } else {
            values.resize((range.end - range.start) as usize * columns, 0.0);
            match self.change.rows {
                None => self.stored(range, buffers, values)?,
                Some(order) => self.reordered(order, range, buffers, values)?,
            }
        }
        if let Some(order) = self.change.columns {
            let mut stored = vec![0.0f32; columns];
            for row in values.chunks_exact_mut(columns) {
                stored.copy_from_slice(row);
                for (value, place) in row.iter_mut().zip(0..) {
                    let source = stored.get(order.source(place) as usize);
                    *value = source.copied().unwrap_or_default();
                }
            }
        }
        self.scale(range_start, values);
        Ok(())
    }

    /// To the precision that llama.cpp's converter computes with: half precision where that is stored, single precision else.
    fn rounding(&self) -> fn(f32) -> f32 {
        match self.sources.first() {
            Some(RowSource::Stored(stored)) if stored.dtype == Dtype::F16 => {
                |x: f32| half::f16_to_f32(half::f32_to_f16(x))
            }
            _ => |x: f32| x,
        }
    }

    /// Multiplies rows from `first` on with their factors.
    fn scale(&self, first: u64, values: &mut [f32]) {
        let Change {
            factors,
            row_factors,
            ..
        } = &self.change;
        if factors.is_empty() && row_factors.is_empty() {
            return;
        }
        let round = self.rounding();
        let rows = values.chunks_exact_mut((self.columns as usize).max(1));
        for (row, number) in rows.zip(first..) {
            let own = row_factors
                .iter()
                .filter(|(rows, _)| rows.contains(&number));
            for &factor in factors.iter().chain(own.map(|(_, factor)| factor)) {
                row.iter_mut().for_each(|x| *x = round(*x * factor as f32));
            }
        }
    }

    /// Reads rows `range` from the blocks of `stored` that they are columns of.
    fn read_transposed(
        &self,
        stored: &TensorRows<'_>,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut Vec<f32>,
    ) -> Result<(), QuantizeError> {
        let turn = self.change.turn.unwrap_or(Turn { first: 0, every: 1 });
        let (height, all) = (self.columns, stored.columns.max(1));
        let width = (all / turn.every.max(1)).max(1);
        values.clear();
        let mut block = Vec::new();
        let mut row = range.start;
        while row < range.end {
            let number = row / width;
            stored.read(number * height..(number + 1) * height, buffers, &mut block)?;
            let end = range.end.min((number + 1) * width);
            for column in row % width..row % width + (end - row) {
                let column = column * turn.every + turn.first;
                let column = block.iter().skip(column as usize);
                values.extend(column.step_by(all as usize));
            }
            row = end;
        }
        Ok(())
    }

    /// The blocks of rows `range` as ggml stores MXFP4, if they are four-bit floats with the same scales and conversion
    /// changes none of them.
    pub(super) fn four_bit_blocks(
        &self,
        range: Range<u64>,
    ) -> Result<Option<Vec<u8>>, QuantizeError> {
        let change = Change {
            turn: None,
            slices: None,
            ..self.change.clone()
        };
        if change != Change::default() || self.transposed.is_some() {
            return Ok(None);
        }
        let mut out = Vec::new();
        let mut row = range.start;
        while row < range.end {
            let Some((run, first)) = self.place(row) else {
                return Ok(None);
            };
            let every = run.every.max(1);
            let count = (range.end - row).min(run.rows - (first - run.first) / every);
            let Some(RowSource::Packed(weight)) = self.sources.get(run.source) else {
                return Ok(None);
            };
            let span = count.saturating_sub(1) * every + 1;
            let Some(mut blocks) = weight.four_bit_blocks(first..first + span)? else {
                return Ok(None);
            };
            let width = blocks.len() / span.max(1) as usize;
            pick(&mut blocks, width, every as usize);
            out.extend(blocks);
            row += count;
        }
        Ok(Some(out))
    }

    /// The packed weight that holds all of `range` in order, and the range of its rows: it can be read directly into
    /// the values.
    fn of_one_weight(&self, range: &Range<u64>) -> Option<(&Weight<'a>, Range<u64>)> {
        let (run, first) = self.place(range.start)?;
        let end = first + (range.end - range.start);
        match self.sources.get(run.source)? {
            RowSource::Packed(weight)
                if self.change.rows.is_none() && run.every == 1 && end <= run.first + run.rows =>
            {
                Some((weight, first..end))
            }
            _ => None,
        }
    }

    /// Reads rows `range` of a reordered tensor. Rows that are stored next to each other are read together, since with
    /// weights packed by columns one row costs as much as many.
    fn reordered(
        &self,
        order: Permutation,
        range: Range<u64>,
        buffers: &mut ReadBuffers,
        values: &mut [f32],
    ) -> Result<(), QuantizeError> {
        let columns = self.columns as usize;
        let places = range
            .zip(0..)
            .map(|(row, place)| (order.source(row), place));
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

    /// Reads rows `range` in their stored order into `values`.
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
            let (count, source, every) = match self.place(row) {
                None => (range.end - row, None, 1),
                Some((run, first)) => {
                    let left = run.rows - (first - run.first) / run.every.max(1);
                    let source = self.sources.get(run.source).map(|s| (s, first));
                    ((range.end - row).min(left), source, run.every.max(1))
                }
            };
            let (here, rest) = left.split_at_mut((count as usize * columns).min(left.len()));
            // Rows between those of the run are read too.
            let span = count.saturating_sub(1) * every + 1;
            match source {
                None => here.fill(0.0),
                Some((RowSource::Stored(stored), first)) => {
                    let row_bytes = stored.dtype.row_bytes(self.columns).0;
                    let bytes = &mut buffers.bytes;
                    bytes.resize((span * row_bytes) as usize, 0);
                    self.files.read(stored, first * row_bytes, bytes)?;
                    pick(bytes, row_bytes as usize, every as usize);
                    decode(stored, bytes, columns, here)?;
                }
                Some((RowSource::Packed(weight), first)) => {
                    weight.read(first..first + span, &mut buffers.values)?;
                    pick(&mut buffers.values, columns, every as usize);
                    here.copy_from_slice(buffers.values.get(..here.len()).unwrap_or_default());
                }
            }
            left = rest;
            row += count;
        }
        Ok(())
    }

    /// The run that holds row `row`, and the index of the row in the stored weight.
    fn place(&self, mut row: u64) -> Option<(&RowRun, u64)> {
        for run in &self.runs {
            if row < run.rows {
                return Some((run, run.first + row * run.every));
            }
            row -= run.rows;
        }
        None
    }
}

/// Moves each `every`-th row of `width` elements to the front, and drops the rest.
fn pick<T: Copy>(rows: &mut Vec<T>, width: usize, every: usize) {
    if every <= 1 || width == 0 {
        return;
    }
    let count = (rows.len() / width).div_ceil(every);
    for row in 1..count {
        let from = row * every * width;
        rows.copy_within(from..from + width, row * width);
    }
    rows.truncate(count * width);
}

/// Whether values of `dtype` can be read as numbers.
pub(super) fn decodable(dtype: Dtype) -> bool {
    dtype == Dtype::F64 || blocks::is_decoded(dtype)
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
