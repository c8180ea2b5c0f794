//! A weight matrix in its stored format, and its products with rows of `f32`.
//!
//! In: the bytes of a tensor. Out: `out[t][r] = sum over c of x[t][c] x weight[r][c]`.

use std::borrow::Cow;

use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::DecodeError;
use crate::dtype::Dtype;
use crate::quantize::blocks;
use crate::units::Bytes;

/// A weight matrix `[rows, columns]`.
pub(super) struct Matrix {
    pub(super) rows: usize,
    pub(super) columns: usize,
    dtype: Dtype,
    weight: candle_core::quantized::QMatMul,
    store: std::sync::Arc<QTensor>,
}

/// candle's name of a format.
fn ggml(dtype: Dtype) -> Option<GgmlDType> {
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

impl Matrix {
    /// Takes the bytes of tensor `name`, whose size belongs to its shape and type.
    pub(super) fn new(
        name: &str,
        dtype: Dtype,
        [rows, columns]: [usize; 2],
        bytes: Vec<u8>,
    ) -> Result<Matrix, DecodeError> {
        let Some(format) = ggml(dtype) else {
            return Err(DecodeError::Format {
                tensor: name.to_owned(),
                dtype,
            });
        };
        let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, format)?;
        let store = std::sync::Arc::new(QTensor::new(storage, (rows, columns))?);
        Ok(Matrix {
            rows,
            columns,
            dtype,
            weight: candle_core::quantized::QMatMul::QTensor(store.clone()),
            store,
        })
    }

    /// What it takes in memory.
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(self.store.storage_size_in_bytes() as u64)
    }

    /// The products of all rows of `x`: `[tokens, rows]`.
    pub(super) fn multiply(&self, x: &[f32]) -> Result<Vec<f32>, DecodeError> {
        let tokens = x.len() / self.columns.max(1);
        let x = Tensor::from_slice(x, (tokens, self.columns), &Device::Cpu)?;
        Ok(self.weight.forward(&x)?.flatten_all()?.to_vec1()?)
    }

    /// One row as F32, into `out`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) -> Result<(), DecodeError> {
        let data = self.store.data()?;
        let bytes = data.len() / self.rows.max(1);
        let stored = data.get(row * bytes..(row + 1) * bytes).unwrap_or_default();
        let decoded = blocks::decode_rows(self.dtype, stored, self.columns, out);
        decoded.map_err(|_| DecodeError::Format {
            tensor: "token_embd.weight".to_owned(),
            dtype: self.dtype,
        })
    }
}
