//! A weight matrix in its stored format, and its products with rows of `f32`.
//!
//! In: the bytes of a tensor. Out: `out[t][r] = sum over c of x[t][c] x weight[r][c]`.

use super::super::DecodeError;
use super::super::buffer::Buffer;
use super::kernels::{self, ActivationFormat, Input, LANES, OutputBlock, Stored, Tile, TileFormat};
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
    tiles: TileFormat,
    /// As in the file.
    bytes: Buffer,
}

/// Tokens from which on a product is made of tiles; for fewer it does not pay to unpack rows beside each other.
const MANY: usize = 4;

/// Bytes of the tiles that are unpacked at a time, which tokens are then multiplied with: part of the second cache.
const PANEL: usize = 1 << 20;

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
        let formats = kernels::activation_format(dtype).zip(kernels::tile_format(dtype));
        let (activations, tiles) = formats.ok_or_else(|| DecodeError::Format {
            tensor: name.to_owned(),
            dtype,
        })?;
        Ok(Matrix {
            rows,
            columns,
            dtype,
            activations,
            tiles,
            bytes,
        })
    }

    /// The products of all rows of `input`: `[tokens, rows]`.
    pub(super) fn multiply(&self, input: &Input<'_>) -> Vec<f32> {
        input.prepare(self.activations);
        match input.tokens() {
            tokens @ MANY.. => self.many(input, tokens),
            tokens => self.few(input, tokens),
        }
    }

    fn stored(&self) -> Stored<'_> {
        Stored {
            dtype: self.dtype,
            bytes: &self.bytes,
            width: self.bytes.len() / self.rows.max(1),
        }
    }

    /// Token by token, threads share out the rows.
    fn few(&self, input: &Input<'_>, tokens: usize) -> Vec<f32> {
        let mut out = vec![0.0; tokens * self.rows];
        let size = chunk_size(self.rows, 4, 16);
        for (token, out) in out.chunks_exact_mut(self.rows.max(1)).enumerate() {
            parallel_chunks(out, size, |chunk, out| {
                kernels::products(self.stored().from(chunk * size), input, token, out);
            });
        }
        out
    }

    /// Unpacks rows panel by panel, all threads together; then each multiplies some tokens with the panel.
    fn many(&self, input: &Input<'_>, tokens: usize) -> Vec<f32> {
        let mut out = vec![0.0; tokens * self.rows];
        input.prepare_tiles(self.tiles);
        let tile_bytes = match self.tiles {
            TileFormat::Floats => 4 * LANES * self.columns,
            _ => LANES * self.columns,
        };
        let each = (PANEL / tile_bytes.max(1)).clamp(2, 64).next_multiple_of(2);
        let mut panel = Vec::new();
        panel.resize_with(each.min(self.rows.div_ceil(LANES)), Tile::default);
        let chunk = chunk_size(tokens, 4, 12) * self.rows;
        for first_row in (0..self.rows).step_by(each * LANES) {
            let left = (self.rows - first_row).div_ceil(LANES);
            let panel = panel.get_mut(..each.min(left)).unwrap_or_default();
            parallel_chunks(panel, 1, |index, tiles| {
                let rows = self.stored().from(first_row + index * LANES);
                for tile in tiles {
                    kernels::fill(tile, rows, self.columns);
                }
            });
            parallel_chunks(&mut out, chunk, |index, out| {
                let mut place = OutputBlock {
                    first_token: index * chunk / self.rows.max(1),
                    out,
                    rows: self.rows,
                    first_row,
                };
                kernels::multiply(panel, self.tiles, input, &mut place);
            });
        }
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
