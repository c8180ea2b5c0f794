//! Reading weights that are stored row by row: floats, bytes or packed codes, with scales (and zero points or biases)
//! in tensors of their own.

use std::ops::Range;

use super::bits::{E2M1, code, in_words};
use super::error::PackedError;
use super::files::{TensorReader, decode};
use super::grid::{Grid, MatrixStack};
use crate::dtype::Dtype;

/// Codes that share a scale in MXFP4.
const BLOCK: usize = 32;

/// A weight whose rows lie one behind the other in the file.
#[derive(Debug)]
pub(super) struct RowLayout<'a> {
    pub(super) codes: TensorReader<'a>,
    pub(super) format: CodeFormat,
    pub(super) stack: MatrixStack,
    /// Bytes of a stored row.
    pub(super) row_bytes: u64,
    pub(super) scale: Option<Grid<'a>>,
    /// A factor on all scales, one for each matrix or one for all.
    pub(super) global: Option<GlobalScale>,
    pub(super) shift: CodeShift<'a>,
    /// The group of each column, where columns were reordered before grouping.
    pub(super) groups: Option<Vec<u32>>,
}

/// How the codes of a row are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CodeFormat {
    /// Each is a float of this type.
    Float(Dtype),
    /// Each is a signed byte.
    Byte,
    /// Each has `bits` bits; its value is the code minus `offset`.
    Bits { bits: u32, offset: f32 },
    /// Four-bit floats (E2M1), two to a byte, the low nibble first.
    FourBitFloat,
}

/// A factor on all scales: one value, or one for each matrix.
#[derive(Debug)]
pub(super) enum GlobalScale {
    /// Scales are multiplied by it.
    Times(Vec<f32>),
    /// Scales are divided by it.
    Over(Vec<f32>),
}

/// What is added to or subtracted from codes besides the scale.
#[derive(Debug)]
pub(super) enum CodeShift<'a> {
    None,
    /// Zero points, subtracted from codes before the scale.
    Zero(Grid<'a>),
    /// Zero points packed along the rows: codes of `bits` bits, with the same offset as the weight's codes.
    PackedZero {
        part: TensorReader<'a>,
        bits: u32,
        groups: u64,
    },
    /// Biases, added after the scale.
    Bias(Grid<'a>),
}

impl RowLayout<'_> {
    pub(super) fn read(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<(), PackedError> {
        let columns = self.stack.columns as usize;
        let stored = self.codes.bytes(
            rows.start.saturating_mul(self.row_bytes),
            (rows.end - rows.start).saturating_mul(self.row_bytes),
        )?;
        match self.format {
            CodeFormat::Float(dtype) => {
                if !decode(dtype, &stored, out) {
                    return Err(self.codes.unexpected("a float type"));
                }
            }
            CodeFormat::Byte => out.extend(stored.iter().map(|&b| f32::from(b as i8))),
            CodeFormat::FourBitFloat => {
                let pair = |&b: &u8| [E2M1[usize::from(b & 15)], E2M1[usize::from(b >> 4)]];
                out.extend(stored.iter().flat_map(pair));
            }
            CodeFormat::Bits { bits, offset } => {
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
            CodeShift::None => (None, None),
            CodeShift::Zero(grid) => (Some(grid.read(rows)?), None),
            CodeShift::PackedZero { part, bits, groups } => {
                (Some(packed_zeros(part, *bits, *groups, rows)?), None)
            }
            CodeShift::Bias(grid) => (None, Some(grid.read(rows)?)),
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

    /// The blocks of `rows` as ggml stores MXFP4: the exponent of the scale, then code `i` below code `i + 16`. `None` for
    /// other codes or scales.
    pub(super) fn four_bit_blocks(&self, rows: Range<u64>) -> Result<Option<Vec<u8>>, PackedError> {
        let Some(scale) = self.scale.as_ref().filter(|scale| {
            let plain = self.global.is_none() && self.groups.is_none();
            plain && scale.block_columns == BLOCK as u64 && scale.is_exponents()
        }) else {
            return Ok(None);
        };
        let (CodeFormat::FourBitFloat, CodeShift::None) = (self.format, &self.shift) else {
            return Ok(None);
        };
        let codes = self.codes.bytes(
            rows.start.saturating_mul(self.row_bytes),
            (rows.end - rows.start).saturating_mul(self.row_bytes),
        )?;
        let scales = scale.read(rows)?;
        let (blocks, _) = codes.as_chunks::<{ BLOCK / 2 }>();
        let mut out = Vec::with_capacity(blocks.len() * (1 + BLOCK / 2));
        for (block, scale) in blocks.iter().zip(scales) {
            // A power of two by its exponent, which is 0 for the smallest and all ones for what is no number.
            out.push((scale.to_bits() >> 23) as u8);
            let (low, high) = block.split_at(BLOCK / 4);
            for (low, high) in low.iter().zip(high) {
                out.push(low & 15 | high << 4);
                out.push(low >> 4 | high & 0xF0);
            }
        }
        Ok(Some(out))
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
                    GlobalScale::Times(values) => *scale *= of(values),
                    GlobalScale::Over(values) => *scale /= of(values),
                }
            }
        }
        Ok(scales)
    }
}

/// Zero points of `rows`: column by column, codes of consecutive rows follow one another in words.
fn packed_zeros(
    part: &TensorReader<'_>,
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
