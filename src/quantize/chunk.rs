//! A few rows of one tensor, from stored weights to encoded blocks: the unit that a worker takes.
//! The bytes hang on the rows alone, not on where a chunk begins.

use std::ops::Range;

use super::blocks::{self, BlockError};
use super::job::{Job, Planned, Values};
use super::source;
use super::tally::plain_deviation;
use super::{QuantizeError, Tally};
use crate::dtype::Dtype;

/// Weights in a chunk, unless a single row has more: 1 MiB as `f32`.
const WEIGHTS: u64 = 1 << 18;

/// From here up F16 has no finite number.
const F16_LIMIT: f32 = 65520.0;

/// Rows of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chunk {
    /// Index into [`Job::tensors`].
    pub(super) tensor: usize,
    /// Its rows, never of two matrices of a stack.
    rows: Range<u64>,
    /// Whether the tensor ends with it.
    pub(super) last: bool,
}

/// Memory that a worker uses again for each chunk.
#[derive(Default)]
pub(super) struct Scratch {
    source: source::Scratch,
    values: Vec<f32>,
    decoded: Vec<f32>,
}

/// Every chunk of the file, in its order.
pub(super) fn chunks(job: &Job<'_>) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    for (tensor, planned) in job.tensors.iter().enumerate() {
        let (rows, columns) = extent(planned);
        let matrix = match planned.tensor.shape.as_slice() {
            &[_, rows, _] if rows > 0 => rows,
            _ => rows.max(1),
        };
        let step = (WEIGHTS / columns.max(1)).clamp(1, matrix);
        let mut start = 0;
        while start < rows {
            let end = (start + step).min(rows).min((start / matrix + 1) * matrix);
            chunks.push(Chunk {
                tensor,
                rows: start..end,
                last: end == rows,
            });
            start = end;
        }
    }
    chunks
}

/// Rows and columns as the values come.
fn extent(planned: &Planned<'_>) -> (u64, u64) {
    match &planned.values {
        Values::Copied(rows) | Values::Stored(rows) => (rows.rows, rows.columns),
        Values::Table(table) => (1, table.len() as u64),
    }
}

/// Encodes `chunk` into `out`.
pub(super) fn encode(
    job: &Job<'_>,
    chunk: &Chunk,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) -> Result<Tally, QuantizeError> {
    let Some(planned) = job.tensors.get(chunk.tensor) else {
        return Ok(Tally::default());
    };
    match &planned.values {
        Values::Copied(rows) => {
            rows.copy(chunk.rows.clone(), out)?;
            return Ok(Tally::default());
        }
        Values::Stored(rows) => {
            let Scratch { source, values, .. } = scratch;
            rows.read(chunk.rows.clone(), source, values)?;
        }
        Values::Table(table) => table.clone_into(&mut scratch.values),
    }
    let (_, columns) = extent(planned);
    let row = columns as usize;
    let block = |source: BlockError| QuantizeError::Block {
        tensor: planned.tensor.name.clone(),
        source,
    };
    let dtype = planned.assigned.dtype;
    let bytes = dtype.bytes(&[scratch.values.len() as u64 / columns, columns]);
    out.resize(bytes.map_or(0, |bytes| bytes.0 as usize), 0);
    let importance = importance(planned, chunk, row);
    let values = scratch.values.as_slice();
    let encoded = blocks::encode_rows(dtype, values, row, importance, out).map_err(block)?;
    let mut tally = Tally {
        not_finite: encoded.not_finite,
        ..Tally::default()
    };
    if planned.tensor.shape.len() > 1 {
        let zeros = |row: &&[f32]| row.iter().all(|&value| value == 0.0);
        tally.zero_rows = values.chunks(row).filter(zeros).count() as u64;
    }
    if dtype == Dtype::F16 {
        let beyond = |value: &&f32| value.is_finite() && value.abs() >= F16_LIMIT;
        tally.overflow = values.iter().filter(beyond).count() as u64;
    }
    scratch.decoded.resize(values.len(), 0.0);
    let decoded = scratch.decoded.as_mut_slice();
    blocks::decode_rows(dtype, out, row, decoded).map_err(block)?;
    tally.deviation = match importance {
        Some(_) => blocks::deviation(dtype, values, decoded, row, importance),
        None => plain_deviation(values, decoded),
    };
    Ok(tally)
}

/// What errors cost in the matrix that `chunk` is part of.
fn importance<'a>(planned: &Planned<'a>, chunk: &Chunk, row: usize) -> Option<&'a [f32]> {
    let all = planned.importance?;
    let matrix = match planned.tensor.shape.as_slice() {
        &[_, rows, _] if rows > 0 => (chunk.rows.start / rows) as usize,
        _ => 0,
    };
    all.get(matrix * row..(matrix + 1) * row)
}
