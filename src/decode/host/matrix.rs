//! A weight matrix in its stored format, and its products with rows of `f32`.
//!
//! In: the bytes of a tensor. Out: `out[t][r] = sum over c of x[t][c] x weight[r][c]`.

use super::super::DecodeError;
use super::super::buffer::Buffer;
use super::kernels::{self, ActivationFormat, Input, Stored};
use super::parallel::{chunk_size, parallel_chunks};
use crate::dtype::Dtype;
use crate::quantize::blocks;

/// A weight matrix `[rows, columns]`.
pub(in super::super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    dtype: Dtype,
    /// What activations are converted to for products.
    activations: ActivationFormat,
    /// As in the file.
    bytes: Buffer,
}

/// Rows that a thread takes at once in a pass of many tokens: they stay in its first cache while the
/// tokens go by.
const TILE_ROWS: usize = 16;

impl Matrix {
    /// Takes the bytes of tensor `name`, whose size belongs to its shape and type.
    ///
    /// Errors if nothing multiplies its format.
    pub(super) fn new(
        name: &str,
        dtype: Dtype,
        [rows, columns]: [usize; 2],
        bytes: Buffer,
    ) -> Result<Matrix, DecodeError> {
        let activations = kernels::activation_format(dtype).ok_or_else(|| DecodeError::Format {
            tensor: name.to_owned(),
            dtype,
        })?;
        Ok(Matrix {
            rows,
            columns,
            dtype,
            activations,
            bytes,
        })
    }

    /// The products of all rows of `input`: `[tokens, rows]`.
    pub(super) fn multiply(&self, input: &Input<'_>) -> Vec<f32> {
        input.prepare(self.activations);
        match input.tokens() {
            1 => self.vector(input),
            tokens => self.many(input, tokens),
        }
    }

    fn stored(&self) -> Stored<'_> {
        Stored {
            dtype: self.dtype,
            bytes: &self.bytes,
            width: self.bytes.len() / self.rows.max(1),
        }
    }

    fn vector(&self, input: &Input<'_>) -> Vec<f32> {
        let mut out = vec![0.0; self.rows];
        let size = chunk_size(self.rows, 4, 16);
        parallel_chunks(&mut out, size, |chunk, out| {
            kernels::products(self.stored().from(chunk * size), input, out);
        });
        out
    }

    /// Threads share out the rows, so the result is made row by row and turned around at the end.
    fn many(&self, input: &Input<'_>, tokens: usize) -> Vec<f32> {
        let mut by_row = vec![0.0; self.rows * tokens];
        parallel_chunks(&mut by_row, TILE_ROWS * tokens, |chunk, out| {
            kernels::products(self.stored().from(chunk * TILE_ROWS), input, out);
        });
        let mut out = vec![0.0; by_row.len()];
        let size = chunk_size(tokens, 1, 8);
        parallel_chunks(&mut out, size * self.rows, |chunk, out| {
            for (row, values) in by_row.chunks_exact(tokens).enumerate() {
                let values = values.get(chunk * size..).unwrap_or_default();
                for (out, value) in out.chunks_exact_mut(self.rows).zip(values) {
                    if let Some(out) = out.get_mut(row) {
                        *out = *value;
                    }
                }
            }
        });
        out
    }

    /// One row as F32, into `out`.
    ///
    /// Errors if the format has no decoder.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) -> Result<(), DecodeError> {
        let row = self.stored().row(row);
        let decoded = blocks::decode_rows(self.dtype, row, self.columns, out);
        decoded.map_err(|_| DecodeError::Format {
            tensor: "token_embd.weight".to_owned(),
            dtype: self.dtype,
        })
    }
}
