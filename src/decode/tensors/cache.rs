//! Keys and values on candle's device: floats, or the blocks of a quantized cache as tensors of their parts.
//!
//! In: rows of F32, one for each token and head. Out: rows of F32 again. The numbers of a block are those of ggml's, and
//! so is its size; only the order of its bits is another, since each part is a tensor of its own.

use candle_core::{D, DType, Device, Tensor, WithDType};
use half::{bf16, f16};

use super::super::DecodeError;
use crate::dtype::Dtype;
use crate::units::Bytes;

type Result<T> = std::result::Result<T, DecodeError>;

/// Elements that share a scale.
const BLOCK: usize = 32;

/// Keys or values of one block of the model, `[heads, cells, width]`.
pub(super) struct Cells {
    format: CellFormat,
    heads: usize,
    width: usize,
    /// What a cell consists of: `[heads, cells, elements]` each.
    parts: Vec<Tensor>,
}

/// How a cell is stored.
#[derive(Clone, Copy)]
enum CellFormat {
    Floats(DType),
    /// `code x scale + minimum`, in blocks.
    Codes(Codes),
}

/// Codes of so many bits, from 0 on.
#[derive(Clone, Copy)]
struct Codes {
    bits: u32,
    /// Whether the minimum is stored; else it is minus half the range.
    has_minimum: bool,
}

impl CellFormat {
    fn of(dtype: Dtype) -> Result<CellFormat> {
        let codes = |bits, has_minimum| CellFormat::Codes(Codes { bits, has_minimum });
        Ok(match dtype {
            Dtype::F32 => CellFormat::Floats(DType::F32),
            Dtype::F16 => CellFormat::Floats(DType::F16),
            Dtype::BF16 => CellFormat::Floats(DType::BF16),
            Dtype::Q8_0 => codes(8, false),
            Dtype::Q5_0 => codes(5, false),
            Dtype::Q5_1 => codes(5, true),
            Dtype::Q4_0 => codes(4, false),
            Dtype::Q4_1 => codes(4, true),
            _ => return Err(DecodeError::KvType { dtype }),
        })
    }

    /// The type of each part of a cell of `width` elements, and its length.
    fn parts(self, width: usize) -> Vec<(DType, usize)> {
        match self {
            CellFormat::Floats(dtype) => vec![(dtype, width)],
            CellFormat::Codes(codes) => {
                let blocks = width / BLOCK;
                let mut parts = vec![(DType::F16, blocks)];
                if codes.has_minimum {
                    parts.push((DType::F16, blocks));
                }
                match codes.bits {
                    8 => parts.push((DType::U8, width)),
                    bits => {
                        parts.push((DType::U8, width / 2));
                        if bits == 5 {
                            parts.push((DType::U8, width / 8));
                        }
                    }
                }
                parts
            }
        }
    }
}

/// A tensor of zeros. Memory that cannot be allocated is an error; candle would abort.
fn zeroed<T: WithDType>(backend: &Device, shape: [usize; 3]) -> Result<Tensor> {
    let [heads, cells, width] = shape;
    let count = heads.checked_mul(cells).and_then(|n| n.checked_mul(width));
    let size = std::mem::size_of::<T>();
    let refused = DecodeError::Memory {
        what: "the cache",
        bytes: Bytes(count.unwrap_or(usize::MAX).saturating_mul(size) as u64),
    };
    let mut zeros: Vec<T> = Vec::new();
    match (count, backend) {
        (Some(count), Device::Cpu) if zeros.try_reserve_exact(count).is_ok() => {
            zeros.resize(count, T::zero());
            Ok(Tensor::from_vec(zeros, &shape, backend)?)
        }
        (None, _) | (_, Device::Cpu) => Err(refused),
        (Some(_), _) => Tensor::zeros(&shape, T::DTYPE, backend).map_err(|_| refused),
    }
}

impl Cells {
    /// Errors if there is no cache of `dtype`, or the device has not so much memory.
    pub(super) fn new(
        backend: &Device,
        dtype: Dtype,
        [heads, cells, width]: [usize; 3],
    ) -> Result<Cells> {
        let format = CellFormat::of(dtype)?;
        let parts = format.parts(width).into_iter().map(|(dtype, len)| {
            let shape = [heads, cells, len];
            match dtype {
                DType::F32 => zeroed::<f32>(backend, shape),
                DType::F16 => zeroed::<f16>(backend, shape),
                DType::BF16 => zeroed::<bf16>(backend, shape),
                _ => zeroed::<u8>(backend, shape),
            }
        });
        Ok(Cells {
            format,
            heads,
            width,
            parts: parts.collect::<Result<_>>()?,
        })
    }

    pub(super) fn bytes(&self) -> Bytes {
        let part = |part: &Tensor| (part.elem_count() * part.dtype().size_in_bytes()) as u64;
        Bytes(self.parts.iter().map(part).sum())
    }

    pub(super) fn heads(&self) -> usize {
        self.heads
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Writes `[tokens, heads x width]` from `position` on; a position lives in cell `position mod cells`.
    pub(super) fn write(&mut self, rows: &Tensor, position: usize) -> Result<()> {
        let tokens = rows.dim(0)?;
        let rows = rows.reshape((tokens, self.heads, self.width))?;
        let rows = rows.transpose(0, 1)?.contiguous()?;
        let encoded = match self.format {
            CellFormat::Floats(dtype) => vec![rows.to_dtype(dtype)?],
            CellFormat::Codes(codes) => codes.encode(&rows)?,
        };
        for (part, rows) in self.parts.iter().zip(&encoded) {
            let cells = part.dim(1)?;
            let first = position % cells.max(1);
            let until_end = tokens.min(cells - first);
            part.slice_set(&rows.narrow(1, 0, until_end)?.contiguous()?, 1, first)?;
            if until_end < tokens {
                let rest = rows.narrow(1, until_end, tokens - until_end)?;
                part.slice_set(&rest.contiguous()?, 1, 0)?;
            }
        }
        Ok(())
    }

    /// The first `filled` cells of `count` heads from `head` on: `[count, filled, width]` in F32.
    pub(super) fn read(&self, head: usize, count: usize, filled: usize) -> Result<Tensor> {
        let part = |part: &Tensor| {
            let some = part.narrow(0, head, count)?.narrow(1, 0, filled)?;
            some.to_dtype(DType::F32)?.contiguous()
        };
        let parts = self.parts.iter().map(part);
        let parts = parts.collect::<candle_core::Result<Vec<Tensor>>>()?;
        match self.format {
            CellFormat::Floats(_) => Ok(Tensor::cat(&parts, D::Minus1)?),
            CellFormat::Codes(codes) => codes.decode(&parts),
        }
    }
}

impl Codes {
    /// One more than the largest code.
    fn range(self) -> f64 {
        f64::from(1u32 << self.bits)
    }

    /// Rows `[heads, tokens, width]` as ggml quantizes them (`quantize_row_q*_ref`), part by part.
    fn encode(self, rows: &Tensor) -> Result<Vec<Tensor>> {
        let (heads, tokens, width) = rows.dims3()?;
        let blocks = rows.reshape((heads, tokens, width / BLOCK, BLOCK))?;
        let largest = blocks.max_keepdim(D::Minus1)?;
        let smallest = blocks.min_keepdim(D::Minus1)?;
        let half = self.range() / 2.0;
        let (scale, minimum) = if self.has_minimum {
            let scale = ((&largest - &smallest)? / (self.range() - 1.0))?;
            (scale, smallest.clone())
        } else {
            let below = smallest.neg()?;
            let scale = if self.bits == 8 {
                (largest.maximum(&below)? / 127.0)?
            } else {
                // The number of the largest magnitude gets the code that has no opposite.
                let is_below = below.gt(&largest)?;
                (is_below.where_cond(&smallest, &largest)? / -half)?
            };
            let minimum = (&scale * -half)?;
            (scale, minimum)
        };
        // A block of zeros has no scale to divide by.
        let divisor = (&scale + scale.eq(0f64)?.to_dtype(DType::F32)?)?;
        let codes = if self.has_minimum {
            blocks.broadcast_sub(&minimum)?.broadcast_div(&divisor)?
        } else {
            (blocks.broadcast_div(&divisor)? + half)?
        };
        let codes = (codes + 0.5)?.floor()?.clamp(0.0, self.range() - 1.0)?;
        let part = |part: &Tensor, dtype| {
            let all = part.reshape((heads, tokens, ()))?;
            all.to_dtype(dtype)?.contiguous()
        };
        let mut parts = vec![part(&scale, DType::F16)?];
        if self.has_minimum {
            parts.push(part(&minimum, DType::F16)?);
        }
        if self.bits == 8 {
            parts.push(part(&codes, DType::U8)?);
            return Ok(parts);
        }
        let fifth = (&codes / 16.0)?.floor()?;
        let low = (&codes - (&fifth * 16.0)?)?;
        let [first, second] = [0, BLOCK / 2].map(|start| low.narrow(D::Minus1, start, BLOCK / 2));
        parts.push(part(&(first? + (second? * 16.0)?)?, DType::U8)?);
        if self.bits == 5 {
            let eights = fifth.reshape((heads, tokens, width / 8, 8))?;
            let packed = eights.broadcast_mul(&powers(rows.device())?)?;
            parts.push(part(&packed.sum_keepdim(D::Minus1)?, DType::U8)?);
        }
        Ok(parts)
    }

    /// The numbers of cells whose parts are `[heads, cells, elements]` in F32.
    fn decode(self, parts: &[Tensor]) -> Result<Tensor> {
        let mut parts = parts.iter();
        let missing = || DecodeError::Candle("a part of the cache is missing".to_owned());
        let mut next = || parts.next().ok_or_else(missing);
        let scale = next()?;
        let (heads, cells, count) = scale.dims3()?;
        let of_block = |tensor: &Tensor, each: usize| tensor.reshape((heads, cells, count, each));
        let minimum = if self.has_minimum {
            next()?.clone()
        } else {
            (scale * (self.range() / -2.0))?
        };
        let mut codes = of_block(next()?, if self.bits == 8 { BLOCK } else { BLOCK / 2 })?;
        if self.bits < 8 {
            let second = (&codes / 16.0)?.floor()?;
            let first = (&codes - (&second * 16.0)?)?;
            codes = Tensor::cat(&[first, second], D::Minus1)?;
        }
        if self.bits == 5 {
            let bytes = next()?.reshape((heads, cells, count * BLOCK / 8, 1))?;
            let shifted = bytes.broadcast_div(&powers(bytes.device())?)?.floor()?;
            let bits = (&shifted - ((&shifted / 2.0)?.floor()? * 2.0)?)?;
            codes = (codes + (of_block(&bits, BLOCK)? * 16.0)?)?;
        }
        let scaled = codes.broadcast_mul(&of_block(scale, 1)?)?;
        let numbers = scaled.broadcast_add(&of_block(&minimum, 1)?)?;
        Ok(numbers.reshape((heads, cells, count * BLOCK))?)
    }
}

/// The values of the bits of a byte.
fn powers(backend: &Device) -> Result<Tensor> {
    let powers: Vec<f32> = (0..8u8).map(|bit| f32::from(1u8 << bit)).collect();
    Ok(Tensor::from_vec(powers, 8, backend)?)
}
