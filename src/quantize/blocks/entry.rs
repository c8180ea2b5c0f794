//! The entry points: check the arguments and select the fastest code that the processor can run. The bytes are the same
//! with each.

use super::formats::{BlockError, Encoded, FORMATS, check};
use super::lanes::Eight;
use super::{decode, dispatch};
use crate::dtype::Dtype;

/// Encodes `values`, rows of `row` values each, as `dtype` into `out`.
///
/// `importance` has one number per column, the weight of errors in that column (the mean square of the activations that
/// it is multiplied with, as in an importance matrix); formats without a search (F32, F16, BF16, Q8_0) ignore it.
///
/// NaN and infinities are counted in the result, see [`Encoded`]. In F16 finite values from 65520
/// up become infinite, as IEEE 754 rounds them. In block formats values beyond the range of the largest
/// scale are clamped to it.
///
/// # Errors
/// [`BlockError`]: there is no encoder for `dtype`; `values` is not a whole number of rows, or a row not a
/// whole number of blocks; `out` is not exactly as long as the encoded form; `importance` has
/// another length than a row, or a number that is negative or not finite.
pub fn encode_rows(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Result<Encoded, BlockError> {
    if !FORMATS.contains(&dtype) {
        return Err(BlockError::Unsupported(dtype));
    }
    check(dtype, values.len(), row, out.len())?;
    if let Some(importance) = importance {
        if importance.len() != row {
            return Err(BlockError::Importance {
                have: importance.len(),
                row,
            });
        }
        if let Some(column) = importance
            .iter()
            .position(|v| !(v.is_finite() && *v >= 0.0))
        {
            return Err(BlockError::ImportanceValue {
                column,
                value: importance[column],
            });
        }
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(encoded) = super::avx2::encode(dtype, values, row, importance, out) {
        return Ok(encoded);
    }
    Ok(dispatch::encode::<Eight>(
        dtype, values, row, importance, out,
    ))
}

/// Decodes rows of `row` values each, stored as `dtype` in `bytes`, into `out`.
///
/// # Errors
/// [`BlockError`] if there is no decoder for `dtype` or `bytes`, `row` and `out` do not fit together.
pub fn decode_rows(
    dtype: Dtype,
    bytes: &[u8],
    row: usize,
    out: &mut [f32],
) -> Result<(), BlockError> {
    check(dtype, out.len(), row, bytes.len())?;
    #[cfg(target_arch = "x86_64")]
    if super::avx2::decode(dtype, bytes, out) {
        return Ok(());
    }
    decode::decode(dtype, bytes, out);
    Ok(())
}
