//! A weight matrix on candle's device: blocks as candle's quantized tensor, floats as they are.

use std::borrow::Cow;
use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{DType, Device, Module, Tensor};

use super::super::DecodeError;
use super::super::buffer::Buffer;
use crate::dtype::Dtype;
use crate::quantize::blocks::{self, FOUR_BIT_LEVELS, IQ4_LEVELS};
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
        let unknown = || DecodeError::Format {
            tensor: name.to_owned(),
            dtype,
        };
        let (dtype, bytes) = match dtype {
            _ if candle_name(dtype).is_some() => (dtype, Cow::Borrowed(&*bytes)),
            Dtype::IQ4_NL => (Dtype::Q8_0, Cow::Owned(four_bit_levels(&bytes))),
            Dtype::MXFP4 => match four_bit_floats(&bytes) {
                Some(bytes) => (Dtype::Q8_0, Cow::Owned(bytes)),
                None => {
                    let floats = decoded(dtype, &bytes, columns, f32::to_le_bytes);
                    (Dtype::F32, Cow::Owned(floats.ok_or_else(unknown)?))
                }
            },
            _ => {
                let half = |value| f16::from_f32(value).to_le_bytes();
                let halves = decoded(dtype, &bytes, columns, half);
                (Dtype::F16, Cow::Owned(halves.ok_or_else(unknown)?))
            }
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
        let format = candle_name(dtype).ok_or_else(unknown)?;
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

/// Weights in a block of the formats that become blocks of Q8_0.
const BLOCK: usize = 32;

/// A block of Q8_0 whose values are `levels` of the codes of 16 bytes, the low halves first, times `scale`.
fn block_of(scale: [u8; 2], codes: &[u8], levels: &[i8; 16], out: &mut Vec<u8>) {
    let level = |code: u8| levels.get(usize::from(code)).copied().unwrap_or(0) as u8;
    out.extend(scale);
    out.extend(codes.iter().map(|pair| level(pair & 15)));
    out.extend(codes.iter().map(|pair| level(pair >> 4)));
}

/// IQ4_NL as Q8_0 with the same values: its levels are whole numbers of eight bits.
fn four_bit_levels(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for block in bytes.chunks_exact(2 + BLOCK / 2) {
        if let Some((scale, codes)) = block.split_first_chunk() {
            block_of(*scale, codes, &IQ4_LEVELS, &mut out);
        }
    }
    out
}

/// Four-bit floats as Q8_0 with the same values: twice a value is a whole number of at most 12, and the scale a power of
/// two. `None` where a scale is none of F16's.
fn four_bit_floats(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() * 2);
    for block in bytes.chunks_exact(1 + BLOCK / 2) {
        let (exponent, codes) = block.split_first()?;
        let exponent = i32::from(*exponent) - 128;
        let is_zero = |code: u8| FOUR_BIT_LEVELS.get(usize::from(code)) == Some(&0);
        let scale = if (-24..=15).contains(&exponent) {
            f16::from_f32(2f32.powi(exponent))
        } else if codes.iter().all(|p| is_zero(p & 15) && is_zero(p >> 4)) {
            f16::ZERO
        } else {
            return None;
        };
        block_of(scale.to_le_bytes(), codes, &FOUR_BIT_LEVELS, &mut out);
    }
    Some(out)
}

/// Blocks as floats, each as `number` stores it. `None` for a format that has no decoder.
fn decoded<const N: usize>(
    dtype: Dtype,
    bytes: &[u8],
    columns: usize,
    number: impl Fn(f32) -> [u8; N],
) -> Option<Vec<u8>> {
    let row = dtype.row_bytes(columns as u64).0 as usize;
    let mut floats = vec![0.0; columns];
    let mut out = Vec::with_capacity(bytes.len().checked_div(row)? * columns * N);
    for bytes in bytes.chunks_exact(row) {
        blocks::decode_rows(dtype, bytes, columns, &mut floats).ok()?;
        out.extend(floats.iter().flat_map(|value| number(*value)));
    }
    Some(out)
}
