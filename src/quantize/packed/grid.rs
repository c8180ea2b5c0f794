//! One value (a scale, a zero point, a bias) for each block of a weight, stored as a small matrix.

use std::ops::Range;

use super::error::PackedError;
use super::files::TensorReader;
use crate::dtype::{Dtype, elements};

/// A weight as a stack of matrices.
#[derive(Clone, Copy, Debug)]
pub(super) struct MatrixStack {
    /// Rows of one matrix.
    pub(super) rows: u64,
    pub(super) columns: u64,
    pub(super) matrices: u64,
}

impl MatrixStack {
    pub(super) fn of(shape: &[u64]) -> MatrixStack {
        let (columns, outer) = shape.split_last().map_or((1, &[][..]), |(c, o)| (*c, o));
        let (rows, outer) = outer.split_last().map_or((1, &[][..]), |(r, o)| (*r, o));
        MatrixStack {
            rows,
            columns,
            matrices: elements(outer),
        }
    }

    fn all_rows(self) -> u64 {
        self.rows.saturating_mul(self.matrices)
    }
}

/// One value for each block of a weight.
#[derive(Debug)]
pub(super) struct Grid<'a> {
    part: TensorReader<'a>,
    /// Whether the values are stored as signed bytes instead of floats.
    integers: bool,
    stack: MatrixStack,
    /// Rows of the grid for each matrix; 0 if all matrices share one value.
    rows: u64,
    /// Rows of the weight that share a row of the grid.
    block_rows: u64,
    /// Values in a row of the grid.
    pub(super) columns: u64,
    /// Columns of the weight that share a value.
    pub(super) block_columns: u64,
}

impl<'a> Grid<'a> {
    /// Fits the grid to a weight of shape `weight`: a scalar, a value per matrix, per row, or per block. Where sizes
    /// leave the block open, the first of `hints` that fits decides.
    ///
    /// # Errors
    /// [`PackedError::Shape`] for a shape that fits none of these.
    pub(super) fn new(
        part: TensorReader<'a>,
        weight: &[u64],
        hints: &[u64],
    ) -> Result<Grid<'a>, PackedError> {
        let stack = MatrixStack::of(weight);
        let shape = part.shape();
        let (rows, columns) = match shape {
            _ if part.elements() == 1 => (0, 1),
            // One value per row, or per matrix of a stack.
            &[n] | &[n, 1] if n == stack.all_rows() => (stack.rows, 1),
            &[n] | &[n, 1] | &[n, 1, 1] if n == stack.matrices => (1, 1),
            &[columns] if stack.all_rows() == 1 => (1, columns),
            &[.., rows, columns]
                if shape.len() == weight.len()
                    && MatrixStack::of(shape).matrices == stack.matrices =>
            {
                (rows, columns)
            }
            _ => return Err(part.wrong_shape(weight)),
        };
        let block = |size, parts| block(size, parts, hints).ok_or_else(|| part.wrong_shape(weight));
        Ok(Grid {
            part,
            integers: part.dtype() == Dtype::I8,
            stack,
            rows,
            block_rows: block(stack.rows, rows.max(1))?,
            columns,
            block_columns: block(stack.columns, columns)?,
        })
    }

    /// Whether the values are powers of two, each stored as its exponent.
    pub(super) fn is_exponents(&self) -> bool {
        matches!(self.part.dtype(), Dtype::U8 | Dtype::F8_E8M0)
    }

    /// The grid's values for `rows` of the weight, a row of [`Grid::columns`] for each.
    pub(super) fn read(&self, rows: Range<u64>) -> Result<Vec<f32>, PackedError> {
        let at = |row: u64| {
            let matrix = row / self.stack.rows.max(1);
            matrix * self.rows + row % self.stack.rows.max(1) / self.block_rows.max(1)
        };
        // Consecutive rows of the weight use the same row of the grid or the next one.
        let first = at(rows.start);
        let count = at(rows.end.saturating_sub(1)).saturating_sub(first) + 1;
        let (start, count) = (first * self.columns, count * self.columns);
        let values = if self.integers {
            let bytes = self.part.bytes(start, count)?;
            bytes.iter().map(|&b| f32::from(b as i8)).collect()
        } else {
            self.part.floats(start, count)?
        };
        let columns = self.columns as usize;
        let mut out = Vec::with_capacity((rows.end - rows.start) as usize * columns);
        for row in rows {
            let from = (at(row) - first) as usize * columns;
            out.extend_from_slice(values.get(from..from + columns).unwrap_or_default());
        }
        Ok(out)
    }
}

/// The number of elements in a block, where `size` elements share `parts` values: all blocks have one size, and the last
/// may be short. `None` where no size fits.
fn block(size: u64, parts: u64, hints: &[u64]) -> Option<u64> {
    let fits = |block: u64| block > 0 && size.div_ceil(block) == parts;
    if parts == 1 {
        return Some(size.max(1));
    }
    let hint = hints.iter().copied().find(|&hint| fits(hint));
    let even = || (parts > 0 && size.is_multiple_of(parts)).then(|| size / parts);
    let power = || (0..32).map(|shift| 1 << shift).find(|&block| fits(block));
    hint.or_else(even).or_else(power).filter(|&b| fits(b))
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn blocks_follow_from_sizes_or_hints() {
        for (size, parts, hints, expected) in [
            (4096, 32, &[][..], Some(128)),
            (576, 5, &[128], Some(128)),
            (576, 5, &[], Some(128)),
            (100, 1, &[], Some(100)),
            (100, 100, &[], Some(1)),
            // 9 values of 576 could be blocks of 64 to 71: an even split comes first.
            (576, 9, &[], Some(64)),
            (3, 4, &[], None),
            (3, 0, &[], None),
        ] {
            assert_eq!(block(size, parts, hints), expected, "{size} / {parts}");
        }
    }
}
