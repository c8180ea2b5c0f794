//! A weight matrix on candle's device: blocks as candle's quantized tensor, floats as they are.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};

use super::super::DecodeError;
use super::super::buffer::Buffer;
use crate::dtype::Dtype;
use crate::quantize::blocks::{self, FOUR_BIT_LEVELS as LEVELS};
use half::f16;

/// A weight matrix `[rows, columns]`.
pub(in super::super) enum Matrix {
    Blocks(QMatMul),
    /// In F32, F16 or BF16. Activations are rounded to its type, as llama.cpp rounds them on a GPU.
    Floats(Tensor),
}

/// candle's name of a format.
fn candle_name(dtype: Dtype) -> Option<GgmlDType> {
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
    ///
    /// Errors if nothing multiplies its format, or the device has no room.
    pub(super) fn new(
        backend: &Device,
        name: &str,
        dtype: Dtype,
        [rows, columns]: [usize; 2],
        bytes: Buffer,
    ) -> Result<Matrix, DecodeError> {
        let (dtype, bytes) = if dtype == Dtype::MXFP4 {
            let (dtype, bytes) = widened(&bytes, columns)?;
            (dtype, Cow::Owned(bytes))
        } else {
            (dtype, Cow::Borrowed(&*bytes))
        };
        let floats = match dtype {
            Dtype::F32 => Some(DType::F32),
            Dtype::F16 => Some(DType::F16),
            Dtype::BF16 => Some(DType::BF16),
            _ => None,
        };
        if let Some(floats) = floats {
            let tensor = Tensor::from_raw_buffer(&bytes, floats, &[rows, columns], backend)?;
            return Ok(Matrix::Floats(tensor));
        }
        let format = candle_name(dtype).ok_or_else(|| DecodeError::Format {
            tensor: name.to_owned(),
            dtype,
        })?;
        let storage = QStorage::from_data(bytes, backend, format)?;
        let tensor = QTensor::new(storage, (rows, columns))?;
        Ok(Matrix::Blocks(QMatMul::QTensor(Arc::new(tensor))))
    }

    /// `[tokens, columns]` to `[tokens, rows]`.
    pub(super) fn multiply(&self, x: &Tensor) -> Result<Tensor, DecodeError> {
        Ok(match self {
            Matrix::Blocks(weights) => weights.forward(x)?,
            Matrix::Floats(weights) => {
                let x = x.to_dtype(weights.dtype())?;
                x.matmul(&weights.t()?)?.to_dtype(DType::F32)?
            }
        })
    }

    /// The rows with the numbers `ids`, as F32.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Tensor, DecodeError> {
        Ok(match self {
            Matrix::Blocks(weights) => weights.embedding(&Tensor::new(ids, &Device::Cpu)?)?,
            Matrix::Floats(weights) => {
                let ids = Tensor::new(ids, weights.device())?;
                weights.index_select(&ids, 0)?.to_dtype(DType::F32)?
            }
        })
    }
}

/// Four-bit floats, which candle does not have, as blocks of Q8_0 with the same values: twice a value is a whole number of
/// at most 12, and the scale a power of two. As floats where a scale is none of F16's.
fn widened(bytes: &[u8], columns: usize) -> Result<(Dtype, Vec<u8>), DecodeError> {
    const BLOCK: usize = 17;
    let scale = |block: &[u8]| {
        let exponent = i32::from(block.first().copied().unwrap_or(0)) - 128;
        (-24..=15)
            .contains(&exponent)
            .then(|| f16::from_f32(2f32.powi(exponent)))
    };
    let blocks = bytes.chunks_exact(BLOCK);
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for block in blocks {
        let codes = block.get(1..).unwrap_or_default();
        let doubled = |code: u8| LEVELS.get(usize::from(code)).copied().unwrap_or(0);
        let zero = codes
            .iter()
            .all(|pair| doubled(pair & 15) == 0 && doubled(pair >> 4) == 0);
        let Some(scale) = scale(block).or(zero.then_some(f16::ZERO)) else {
            let mut floats = vec![0.0f32; bytes.len() / BLOCK * 32];
            blocks::decode_rows(Dtype::MXFP4, bytes, columns, &mut floats).map_err(|error| {
                DecodeError::Hyperparameters {
                    what: error.to_string(),
                }
            })?;
            let bytes = floats.iter().flat_map(|x| x.to_le_bytes());
            return Ok((Dtype::F32, bytes.collect()));
        };
        out.extend(scale.to_le_bytes());
        out.extend(codes.iter().map(|pair| doubled(pair & 15) as u8));
        out.extend(codes.iter().map(|pair| doubled(pair >> 4) as u8));
    }
    Ok((Dtype::Q8_0, out))
}
