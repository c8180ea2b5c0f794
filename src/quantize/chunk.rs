//! The unit of work of a worker: a few rows of one tensor are read, encoded and written to their place in the output.
//! The bytes depend on the rows alone, not on where a chunk begins.

use std::ops::Range;

use super::blocks;
use super::blocks::half::F16_OVERFLOW;
use super::encoder::{EncodedRows, Encoder};
use super::error::QuantizeError;
use super::planned::{PlannedTensor, Values};
use super::sink::Places;
use super::tally::{Tally, comes_back, plain_deviation};
use super::tensor_rows::{ReadBuffers, TensorRows};
use crate::dtype::Dtype;
use crate::units::Bytes;

/// Weights in a chunk (1 MiB as `f32`), unless a single row has more.
const WEIGHTS: u64 = 1 << 18;

/// The same for weights that are packed by columns, where reading a few rows costs as much as reading many.
const WEIGHTS_BY_COLUMNS: u64 = 1 << 20;

/// Bytes in a chunk of a tensor that is copied.
const COPIED: u64 = 1 << 20;

/// A range of rows of a tensor, or of bytes of a tensor that is copied.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chunk {
    /// The index of the tensor.
    pub(super) tensor: usize,
    /// Its number among the chunks of the tensor.
    pub(super) number: usize,
    /// Rows of one matrix of a stack, or bytes.
    range: Range<u64>,
    /// Whether it is the last chunk of its tensor.
    pub(super) last: bool,
}

/// Buffers that a worker reuses for each chunk.
#[derive(Default)]
pub(super) struct WorkerBuffers {
    read: ReadBuffers,
    values: Vec<f32>,
    encoded: EncodedRows,
}

/// Every chunk of the output, in order.
pub(super) fn chunks(tensors: &[PlannedTensor<'_>]) -> impl Iterator<Item = Chunk> {
    let tensors = tensors.iter().enumerate();
    tensors.flat_map(|(tensor, planned)| {
        let (count, step, matrix) = match &planned.values {
            Values::Copied(_, stored) => (stored.bytes.0, COPIED, stored.bytes.0.max(1)),
            Values::Rows(rows) => {
                let step = rows_of_chunk(planned, rows);
                (rows.rows, step, planned.matrix_rows(rows.rows))
            }
            Values::Member(rows, range) => {
                let count = range.end.saturating_sub(range.start);
                (count, rows_of_chunk(planned, rows), count.max(1))
            }
            Values::Table(_) => (1, 1, 1),
        };
        let mut start = 0;
        let numbers = 0..;
        let ranges = std::iter::from_fn(move || {
            let end = count
                .min((start / matrix + 1) * matrix)
                .min(start + step.max(1));
            let range = start..end;
            start = end;
            (!range.is_empty()).then_some(range)
        });
        numbers.zip(ranges).map(move |(number, range)| Chunk {
            tensor,
            number,
            last: range.end == count,
            range,
        })
    })
}

/// The number of rows in a chunk of `planned`, which are read from `rows`.
fn rows_of_chunk(planned: &PlannedTensor<'_>, rows: &TensorRows<'_>) -> u64 {
    let weights = if rows.is_by_columns() {
        WEIGHTS_BY_COLUMNS
    } else {
        WEIGHTS
    };
    let together = planned.encoder().rows_together();
    let step = weights / rows.columns.max(1);
    step.next_multiple_of(together).max(together)
}

/// Every chunk in the order in which what it is made of is stored, so that files are read from their beginning to their
/// end. For sources that are slow to jump in; chunks of `done` tensors are left out.
pub(super) fn chunks_as_stored(
    tensors: &[PlannedTensor<'_>],
    done: impl Fn(usize) -> bool,
) -> Vec<Chunk> {
    let position = |chunk: &Chunk| {
        let planned = tensors.get(chunk.tensor)?;
        match &planned.values {
            Values::Copied(_, stored) => Some((stored.file, stored.offset + chunk.range.start)),
            Values::Rows(rows) => rows.position(chunk.range.start),
            Values::Member(rows, range) => rows.position(range.start + chunk.range.start),
            Values::Table(_) => None,
        }
    };
    let mut all: Vec<Chunk> = chunks(tensors)
        .filter(|chunk| !done(chunk.tensor))
        .collect();
    all.sort_by_cached_key(position);
    all
}

/// Reads and encodes a chunk of `planned`, and puts it into `output`. Returns its tally and the number of bytes written.
pub(super) fn write(
    planned: &PlannedTensor<'_>,
    chunk: &Chunk,
    output: &impl Places,
    scratch: &mut WorkerBuffers,
) -> Result<(Tally, Bytes), QuantizeError> {
    let WorkerBuffers {
        read,
        values,
        encoded,
    } = scratch;
    let range = chunk.range.clone();
    let mut written = Bytes(0);
    let mut put = |part, at, bytes: &[u8]| {
        written += Bytes(bytes.len() as u64);
        output.write(chunk.tensor, part, at, bytes)
    };
    let (rows, columns) = match &planned.values {
        Values::Copied(files, stored) => {
            let [bytes, ..] = &mut encoded.parts;
            bytes.resize((range.end - range.start) as usize, 0);
            files.read(stored, range.start, bytes)?;
            put(0, range.start, bytes)?;
            return Ok((Tally::default(), written));
        }
        Values::Rows(rows) => {
            rows.read(range.clone(), read, values)?;
            (rows.rows, rows.columns)
        }
        Values::Member(rows, of) => {
            rows.read(of.start + range.start..of.start + range.end, read, values)?;
            (of.end - of.start, rows.columns)
        }
        Values::Table(table) => {
            table.clone_into(values);
            (1, table.len() as u64)
        }
    };
    let encoder = planned.encoder();
    let importance = importance(planned, range.start, rows, columns as usize);
    let kept = match &planned.values {
        Values::Rows(rows) if encoder == Encoder::Ggml(Dtype::MXFP4) => {
            rows.four_bit_blocks(range.clone())?
        }
        _ => None,
    };
    let not_finite = match kept {
        Some(blocks) => encoded.kept(blocks, values),
        None => {
            let not_finite = encoder.encode(values, columns as usize, importance, encoded);
            not_finite.map_err(|source| QuantizeError::Block {
                tensor: planned.name.to_owned(),
                source,
            })?
        }
    };
    let parts = encoded.parts.iter().enumerate();
    for (part, bytes) in parts.filter(|(_, bytes)| !bytes.is_empty()) {
        // Parts of which several rows share a word have whole words for the rows of a chunk.
        let before = range.start * bytes.len() as u64 / (range.end - range.start).max(1);
        put(part, before, bytes)?;
    }
    if range.start == 0
        && let Some((part, record)) = encoder.record(rows, columns)
    {
        put(part, 0, &record)?;
    }
    let tally = Tally {
        not_finite,
        ..tally(
            planned,
            columns as usize,
            importance,
            values,
            &encoded.decoded,
        )
    };
    Ok((tally, written))
}

/// The tally of rows before and after encoding.
fn tally(
    planned: &PlannedTensor<'_>,
    columns: usize,
    importance: Option<&[f32]>,
    values: &[f32],
    decoded: &[f32],
) -> Tally {
    let dtype = planned.assigned.dtype;
    let mut tally = Tally {
        deviation: match importance {
            Some(_) => blocks::deviation(dtype, values, decoded, columns, importance),
            None => plain_deviation(values, decoded),
        },
        ..Tally::default()
    };
    if dtype.is_quantized() && !comes_back(values, decoded) {
        tally.altered = 1;
    }
    if planned.shape.len() > 1 {
        let zeros = |row: &&[f32]| row.iter().all(|&value| value == 0.0);
        tally.zero_rows = values.chunks(columns.max(1)).filter(zeros).count() as u64;
    }
    if dtype == Dtype::F16 {
        let beyond = |value: &&f32| value.is_finite() && value.abs() >= F16_OVERFLOW;
        tally.overflow = values.iter().filter(beyond).count() as u64;
    }
    tally
}

/// The importance of the columns in the matrix that contains row `first`, where a matrix has `rows` rows.
fn importance<'a>(
    planned: &PlannedTensor<'a>,
    first: u64,
    rows: u64,
    columns: usize,
) -> Option<&'a [f32]> {
    let all = planned.importance?;
    let matrix = (first / planned.matrix_rows(rows)) as usize;
    all.get(matrix * columns..(matrix + 1) * columns)
}
