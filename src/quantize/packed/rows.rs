//! Weights stored row by row: floats, bytes or packed codes, with scales (and zero points or biases)
//! in grids beside them.

use std::ops::Range;

use super::bits::{E2M1, code, in_words};
use super::error::PackedError;
use super::files::{Part, decode};
use super::grid::{Grid, Stack};
use crate::dtype::Dtype;

/// A weight whose rows lie one behind the other.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    pub(super) codes: Part<'a>,
    pub(super) kind: Codes,
    pub(super) stack: Stack,
    /// Bytes of a stored row.
    pub(super) row_bytes: u64,
    pub(super) scale: Option<Grid<'a>>,
    /// What all scales are multiplied with or divided by, for each matrix or for all.
    pub(super) global: Option<Global>,
    pub(super) shift: Shift<'a>,
    /// The group of each column, where columns were reordered before grouping.
    pub(super) groups: Option<Vec<u32>>,
}

/// How a row's bytes become numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Codes {
    /// A float each.
    Float(Dtype),
    /// A signed byte each.
    Byte,
    /// This many bits each, less an offset.
    Bits { bits: u32, offset: f32 },
    /// Four-bit floats, the low nibble first.
    FourBitFloat,
}

/// A factor beyond the scales.
#[derive(Debug)]
pub(super) enum Global {
    Times(Vec<f32>),
    Over(Vec<f32>),
}

/// What lies between codes and values besides a factor.
#[derive(Debug)]
pub(super) enum Shift<'a> {
    None,
    /// Subtracted from codes.
    Zero(Grid<'a>),
    /// The same, packed along the rows: codes of `bits` with the offset of the weight's.
    PackedZero {
        part: Part<'a>,
        bits: u32,
        groups: u64,
    },
    /// Added to products.
    Bias(Grid<'a>),
}

impl Rows<'_> {
    pub(super) fn read(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<(), PackedError> {
        let columns = self.stack.columns as usize;
        let stored = self.codes.bytes(
            rows.start.saturating_mul(self.row_bytes),
            (rows.end - rows.start).saturating_mul(self.row_bytes),
        )?;
        match self.kind {
            Codes::Float(dtype) => {
                if !decode(dtype, &stored, out) {
                    return Err(self.codes.unexpected("a float type"));
                }
            }
            Codes::Byte => out.extend(stored.iter().map(|&b| f32::from(b as i8))),
            Codes::FourBitFloat => {
                let pair = |&b: &u8| [E2M1[usize::from(b & 15)], E2M1[usize::from(b >> 4)]];
                out.extend(stored.iter().flat_map(pair));
            }
            Codes::Bits { bits, offset } => {
                for row in stored.chunks_exact((self.row_bytes as usize).max(1)) {
                    let words: Vec<u32> = row
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|&w| u32::from_le_bytes(w))
                        .collect();
                    out.extend((0..columns).map(|c| code(&words, c, bits) as f32 - offset));
                }
            }
        }
        let Some(scale) = &self.scale else {
            return Ok(());
        };
        let scales = self.scales(scale, rows.clone())?;
        let (zeros, biases) = match &self.shift {
            Shift::None => (None, None),
            Shift::Zero(grid) => (Some(grid.read(rows)?), None),
            Shift::PackedZero { part, bits, groups } => {
                (Some(packed_zeros(part, *bits, *groups, rows)?), None)
            }
            Shift::Bias(grid) => (None, Some(grid.read(rows)?)),
        };
        let width = scale.columns as usize;
        let of_row = |values: &Option<Vec<f32>>, row: usize| -> Option<Vec<f32>> {
            values
                .as_ref()?
                .get(row * width..(row + 1) * width)
                .map(<[f32]>::to_vec)
        };
        for (row, values) in out.chunks_exact_mut(columns.max(1)).enumerate() {
            let scales = scales
                .get(row * width..(row + 1) * width)
                .unwrap_or_default();
            let (zeros, biases) = (of_row(&zeros, row), of_row(&biases, row));
            let apply = |value: &mut f32, group: usize| {
                let of = |v: &Option<Vec<f32>>| v.as_ref().and_then(|v| v.get(group).copied());
                let scale = scales.get(group).copied().unwrap_or(f32::NAN);
                *value = (*value - of(&zeros).unwrap_or(0.0)) * scale;
                if let Some(bias) = of(&biases) {
                    *value += bias;
                }
            };
            match &self.groups {
                Some(groups) => {
                    for (value, &group) in values.iter_mut().zip(groups) {
                        apply(value, group as usize);
                    }
                }
                None => {
                    let block = (scale.block_columns as usize).max(1);
                    for (group, chunk) in values.chunks_mut(block).enumerate() {
                        chunk.iter_mut().for_each(|value| apply(value, group));
                    }
                }
            }
        }
        Ok(())
    }

    /// The scales of `rows` with the global factor.
    fn scales(&self, grid: &Grid<'_>, rows: Range<u64>) -> Result<Vec<f32>, PackedError> {
        let mut scales = grid.read(rows.clone())?;
        let Some(global) = &self.global else {
            return Ok(scales);
        };
        let width = (grid.columns as usize).max(1);
        for (row, scales) in rows.zip(scales.chunks_exact_mut(width)) {
            let matrix = (row / self.stack.rows.max(1)) as usize;
            let of = |values: &[f32]| match values {
                [one] => *one,
                each => each.get(matrix).copied().unwrap_or(f32::NAN),
            };
            for scale in scales {
                match global {
                    Global::Times(values) => *scale *= of(values),
                    Global::Over(values) => *scale /= of(values),
                }
            }
        }
        Ok(scales)
    }
}

/// Zero points of `rows`: column by column, codes of consecutive rows follow one another in words.
fn packed_zeros(
    part: &Part<'_>,
    bits: u32,
    groups: u64,
    rows: Range<u64>,
) -> Result<Vec<f32>, PackedError> {
    let word = |row: u64| row * u64::from(bits) / 32;
    let (first, last) = (word(rows.start), word(rows.end) + 1);
    let last = last.min(part.shape().first().copied().unwrap_or(0));
    let words = part.words(first * groups, last.saturating_sub(first) * groups)?;
    let offset = (1u32 << (bits - 1)) as f32;
    let mut zeros = Vec::with_capacity(((rows.end - rows.start) * groups) as usize);
    for row in rows {
        let position = row * u64::from(bits) - first * 32;
        for group in 0..groups {
            let at = |line: u64| {
                let index = (line * groups + group) as usize;
                words.get(index).copied().unwrap_or(0)
            };
            let line = position / 32;
            let code = in_words(at(line), || at(line + 1), (position % 32) as u32, bits);
            zeros.push(code as f32 - offset);
        }
    }
    Ok(zeros)
}
