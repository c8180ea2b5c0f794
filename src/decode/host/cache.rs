//! Keys and values of the tokens so far, in one of llama.cpp's cache types, allocated once.
//!
//! In: rows of `f32`, one for each token and head. Out: rows of `f32` again. A windowed block's
//! cache is a ring: a position lives in cell `position mod cells`.

use std::sync::atomic::{AtomicBool, Ordering};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::super::DecodeError;
use super::kernels::widen;
use super::parallel::{chunk_size, parallel_chunks};
use crate::dtype::Dtype;
use crate::quantize::blocks;
use crate::units::Bytes;

/// Keys or values: `[heads, cells, width]`, so that a head's cells lie one behind the other.
pub(in super::super) struct Cells {
    pub(super) heads: usize,
    pub(super) cells: usize,
    pub(super) width: usize,
    store: Store,
}

enum Store {
    F16(Vec<f16>),
    /// Cells as ggml encodes them, `cell` bytes each.
    Encoded {
        dtype: Dtype,
        cell: usize,
        bytes: Vec<u8>,
    },
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
    /// Errors if there is not so much memory. A format that is not cached, or whose blocks do not divide the
    /// width, is the caller's to refuse.
    pub(super) fn new(
        dtype: Dtype,
        [heads, cells, width]: [usize; 3],
    ) -> Result<Cells, DecodeError> {
        let count = |each: usize| heads.checked_mul(cells).and_then(|n| n.checked_mul(each));
        let store = match dtype {
            Dtype::F16 => Store::F16(zeroed(f16::ZERO, count(width))?),
            _ => {
                let cell = dtype.row_bytes(width as u64).0 as usize;
                let bytes = zeroed(0, count(cell))?;
                Store::Encoded { dtype, cell, bytes }
            }
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
            Store::Encoded { bytes, .. } => bytes.len() as u64,
        })
    }

    /// Stores `rows`, `[tokens, heads, width]`, from `position` on.
    ///
    /// Errors for what is not a number, which blocks cannot hold.
    pub(super) fn write(&mut self, position: usize, rows: &[f32]) -> Result<(), DecodeError> {
        let (heads, cells, width) = (self.heads.max(1), self.cells.max(1), self.width.max(1));
        // The cell of each row.
        let places = (0..rows.len() / width).map(|row| {
            let (token, head) = (row / heads, row % heads);
            head * cells + (position + token) % cells
        });
        match &mut self.store {
            Store::F16(cells) => {
                for (place, row) in places.zip(rows.chunks_exact(width)) {
                    if let Some(cell) = cells.get_mut(place * width..(place + 1) * width) {
                        cell.convert_from_f32_slice(row);
                    }
                }
            }
            Store::Encoded { dtype, cell, bytes } => {
                let encoded = encoded(*dtype, rows, width)?;
                let cell = (*cell).max(1);
                for (place, row) in places.zip(encoded.chunks_exact(cell)) {
                    if let Some(bytes) = bytes.get_mut(place * cell..(place + 1) * cell) {
                        bytes.copy_from_slice(row);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads `out.len() / width` cells of a head from `cell` on.
    pub(super) fn read(&self, head: usize, cell: usize, out: &mut [f32]) {
        let first = head * self.cells + cell;
        let last = first + out.len() / self.width.max(1);
        match &self.store {
            Store::F16(cells) => {
                let range = first * self.width..last * self.width;
                widen(cells.get(range).unwrap_or_default(), out);
            }
            Store::Encoded { dtype, cell, bytes } => {
                let some = bytes.get(first * cell..last * cell).unwrap_or_default();
                let decoded = blocks::decode_rows(*dtype, some, self.width, out);
                debug_assert!(decoded.is_ok(), "{decoded:?}");
            }
        }
    }
}

/// `rows` of `width` elements in `dtype`. The threads share them out.
fn encoded(dtype: Dtype, rows: &[f32], width: usize) -> Result<Vec<u8>, DecodeError> {
    let cell = (dtype.row_bytes(width as u64).0 as usize).max(1);
    let mut out = vec![0; rows.len() / width * cell];
    let size = chunk_size(rows.len() / width, 1, 64);
    let failed = AtomicBool::new(false);
    parallel_chunks(&mut out, size * cell, |chunk, out| {
        let rows = rows.get(chunk * size * width..).unwrap_or_default();
        let rows = rows.get(..out.len() / cell * width).unwrap_or_default();
        match blocks::encode_rows(dtype, rows, width, None, out) {
            Ok(met) if met.not_finite == 0 => {}
            _ => failed.store(true, Ordering::Relaxed),
        }
    });
    if failed.into_inner() {
        return Err(DecodeError::NotFinite);
    }
    Ok(out)
}
