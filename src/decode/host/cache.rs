//! Keys and values of the tokens so far, in F16 or Q8_0, allocated once.
//!
//! In: rows of `f32`, one for each token and head. Out: rows of `f32` again. A windowed block's
//! cache is a ring: a position lives in cell `position mod cells`.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::DecodeError;
use super::kernels::{largest_magnitude, widen};
use crate::dtype::Dtype;
use crate::units::Bytes;

/// Elements that share a scale in Q8_0.
const BLOCK: usize = 32;

/// Keys or values: `[heads, cells, width]`, so that a head's cells lie one behind the other.
pub(in super::super) struct Cells {
    pub(super) heads: usize,
    pub(super) cells: usize,
    pub(super) width: usize,
    store: Store,
}

enum Store {
    F16(Vec<f16>),
    Q8_0 { scales: Vec<f16>, quants: Vec<i8> },
}

/// `count` elements, zeroed.
fn zeroed<T: Clone>(zero: T, count: Option<usize>) -> Result<Vec<T>, DecodeError> {
    let size = std::mem::size_of::<T>();
    let refused = DecodeError::Memory {
        what: "the cache",
        bytes: Bytes(count.unwrap_or(usize::MAX).saturating_mul(size) as u64),
    };
    let mut out = Vec::new();
    match count {
        Some(count) if out.try_reserve_exact(count).is_ok() => out.resize(count, zero),
        _ => return Err(refused),
    }
    Ok(out)
}

impl Cells {
    /// Allocates the cache of one block.
    ///
    /// Errors if there is no cache of `dtype`, or not so much memory. A width that Q8_0 does not
    /// divide is the caller's to refuse.
    pub(super) fn new(
        dtype: Dtype,
        [heads, cells, width]: [usize; 3],
    ) -> Result<Cells, DecodeError> {
        let count = heads.checked_mul(cells).and_then(|n| n.checked_mul(width));
        let store = match dtype {
            Dtype::F16 => Store::F16(zeroed(f16::ZERO, count)?),
            Dtype::Q8_0 => Store::Q8_0 {
                scales: zeroed(f16::ZERO, count.map(|n| n / BLOCK))?,
                quants: zeroed(0, count)?,
            },
            _ => return Err(DecodeError::KvType { dtype }),
        };
        Ok(Cells {
            heads,
            cells,
            width,
            store,
        })
    }

    /// Its size.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(match &self.store {
            Store::F16(cells) => cells.len() as u64 * 2,
            Store::Q8_0 { scales, quants } => scales.len() as u64 * 2 + quants.len() as u64,
        })
    }

    /// Stores `rows`, `[tokens, heads, width]`, from `position` on.
    pub(super) fn write(&mut self, position: usize, rows: &[f32]) {
        let (heads, cells, width) = (self.heads, self.cells.max(1), self.width.max(1));
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let (token, head) = (index / heads.max(1), index % heads.max(1));
            let start = (head * cells + (position + token) % cells) * width;
            match &mut self.store {
                Store::F16(cells) => {
                    if let Some(cell) = cells.get_mut(start..start + width) {
                        cell.convert_from_f32_slice(row);
                    }
                }
                Store::Q8_0 { scales, quants } => {
                    let scales = scales.get_mut(start / BLOCK..).unwrap_or_default();
                    let quants = quants.get_mut(start..start + width).unwrap_or_default();
                    let blocks = quants.chunks_exact_mut(BLOCK).zip(scales);
                    for ((quants, scale), row) in blocks.zip(row.chunks_exact(BLOCK)) {
                        *scale = quantize(row, quants);
                    }
                }
            }
        }
    }

    /// Reads `out.len() / width` cells of a head from `cell` on.
    pub(super) fn read(&self, head: usize, cell: usize, out: &mut [f32]) {
        let start = (head * self.cells + cell) * self.width;
        let range = start..start + out.len();
        match &self.store {
            Store::F16(cells) => {
                widen(cells.get(range).unwrap_or_default(), out);
            }
            Store::Q8_0 { scales, quants } => {
                let quants = quants.get(range).unwrap_or_default();
                let scales = scales.get(start / BLOCK..).unwrap_or_default();
                let blocks = quants.chunks_exact(BLOCK).zip(scales);
                for ((quants, scale), out) in blocks.zip(out.chunks_exact_mut(BLOCK)) {
                    let scale = scale.to_f32();
                    for (out, quant) in out.iter_mut().zip(quants) {
                        *out = f32::from(*quant) * scale;
                    }
                }
            }
        }
    }
}

/// Q8_0 as ggml makes it: the largest magnitude becomes 127.
fn quantize(row: &[f32], quants: &mut [i8]) -> f16 {
    let scale = largest_magnitude(row) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    for (quant, x) in quants.iter_mut().zip(row) {
        *quant = (x * inverse).round() as i8;
    }
    f16::from_f32(scale)
}
