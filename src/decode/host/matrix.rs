//! A weight matrix in its stored format, and its products with rows of `f32`.
//!
//! In: the bytes of a tensor. Out: `out[t][r] = sum over c of x[t][c] x weight[r][c]`. Formats with
//! kernels of our own on this processor keep the bytes of the file; the others are candle's, which
//! repacks some of them beside the original at their first product.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::super::DecodeError;
use super::super::buffer::Buffer;
use super::kernels::{self, Input, Stored};
use super::parallel::{chunk_size, parallel_chunks};
use crate::dtype::Dtype;
use crate::quantize::blocks;

/// A weight matrix `[rows, columns]`.
pub(in super::super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    dtype: Dtype,
    weights: Weights,
}

enum Weights {
    /// As in the file.
    Stored(Buffer),
    Candle(QMatMul),
}

/// candle's name of a format.
pub(in super::super) fn candle_name(dtype: Dtype) -> Option<GgmlDType> {
    Some(match dtype {
        Dtype::F32 => GgmlDType::F32,
        Dtype::F16 => GgmlDType::F16,
        Dtype::BF16 => GgmlDType::BF16,
        Dtype::Q4_0 => GgmlDType::Q4_0,
        Dtype::Q4_1 => GgmlDType::Q4_1,
        Dtype::Q5_0 => GgmlDType::Q5_0,
        Dtype::Q5_1 => GgmlDType::Q5_1,
        Dtype::Q8_0 => GgmlDType::Q8_0,
        Dtype::Q2_K => GgmlDType::Q2K,
        Dtype::Q3_K => GgmlDType::Q3K,
        Dtype::Q4_K => GgmlDType::Q4K,
        Dtype::Q5_K => GgmlDType::Q5K,
        Dtype::Q6_K => GgmlDType::Q6K,
        _ => return None,
    })
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
        let weights = match candle_name(dtype) {
            Some(_) if kernels::available(dtype) => Weights::Stored(bytes),
            Some(format) => {
                let storage = QStorage::from_data(Cow::Borrowed(&bytes), &Device::Cpu, format)?;
                let tensor = QTensor::new(storage, (rows, columns))?;
                Weights::Candle(QMatMul::QTensor(tensor.into()))
            }
            None => {
                return Err(DecodeError::Format {
                    tensor: name.to_owned(),
                    dtype,
                });
            }
        };
        Ok(Matrix {
            rows,
            columns,
            dtype,
            weights,
        })
    }

    /// The products of all rows of `input`: `[tokens, rows]`.
    pub(super) fn multiply(&self, input: &Input<'_>) -> Result<Vec<f32>, DecodeError> {
        match &self.weights {
            Weights::Candle(weights) => {
                let shape = (input.tokens(), self.columns);
                let x = Tensor::from_slice(input.rows(), shape, &Device::Cpu)?;
                Ok(weights.forward(&x)?.flatten_all()?.to_vec1()?)
            }
            Weights::Stored(bytes) => {
                if let Some(format) = kernels::activation_format(self.dtype) {
                    input.prepare(format);
                }
                Ok(match input.tokens() {
                    1 => self.vector(bytes, input),
                    tokens => self.many(bytes, input, tokens),
                })
            }
        }
    }

    fn stored<'b>(&self, bytes: &'b [u8]) -> Stored<'b> {
        Stored {
            dtype: self.dtype,
            bytes,
            width: bytes.len() / self.rows.max(1),
        }
    }

    fn vector(&self, bytes: &[u8], input: &Input<'_>) -> Vec<f32> {
        let mut out = vec![0.0; self.rows];
        let size = chunk_size(self.rows, 4, 16);
        parallel_chunks(&mut out, size, |chunk, out| {
            kernels::products(self.stored(bytes).from(chunk * size), input, out);
        });
        out
    }

    /// Threads share out the rows, so the result is made row by row and turned around at the end.
    fn many(&self, bytes: &[u8], input: &Input<'_>, tokens: usize) -> Vec<f32> {
        let mut by_row = vec![0.0; self.rows * tokens];
        parallel_chunks(&mut by_row, TILE_ROWS * tokens, |chunk, out| {
            kernels::products(self.stored(bytes).from(chunk * TILE_ROWS), input, out);
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
        let data = match &self.weights {
            Weights::Stored(bytes) => Cow::Borrowed(&**bytes),
            Weights::Candle(QMatMul::QTensor(tensor)) => tensor.data()?,
            Weights::Candle(_) => Cow::Borrowed(&[][..]),
        };
        let row = self.stored(&data).row(row);
        let decoded = blocks::decode_rows(self.dtype, row, self.columns, out);
        decoded.map_err(|_| DecodeError::Format {
            tensor: "token_embd.weight".to_owned(),
            dtype: self.dtype,
        })
    }
}
