//! The formats that are encoded and decoded here, and checks of the sizes of rows and blocks.

use crate::dtype::Dtype;

/// What encoding found that the format cannot represent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The number of NaN and infinite values. F32, F16 and BF16 keep them; block formats encode
    /// them as 0, and encode the other values of the block as if they were 0.
    pub not_finite: u64,
}

/// Why rows were not encoded or decoded. Nothing is written in this case.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum BlockError {
    /// There is no encoder or decoder.
    #[error("{} has no encoder or decoder here; formats: {}", .0.name(), supported())]
    Unsupported(Dtype),
    /// A row must be a whole number of blocks.
    #[error("a row of {row} values is not a multiple of the {block}-value blocks of {}", .dtype.name())]
    Row {
        /// The format.
        dtype: Dtype,
        /// Values in a row.
        row: usize,
        /// Values in a block.
        block: u64,
    },
    /// Values must be whole rows.
    #[error("{values} values are not a multiple of rows of {row}")]
    Values {
        /// How many values were given, or are to be decoded.
        values: usize,
        /// Values in a row.
        row: usize,
    },
    /// The encoded form has exactly one size.
    #[error("{values} values in {} take {need} bytes, not {have}", .dtype.name())]
    Bytes {
        /// The format.
        dtype: Dtype,
        /// Values.
        values: usize,
        /// Bytes that they take.
        need: u64,
        /// Bytes that were given.
        have: usize,
    },
    /// Importance is given per column.
    #[error("{have} importance values for rows of {row}; there must be one for each column")]
    Importance {
        /// Importance values.
        have: usize,
        /// Values in a row.
        row: usize,
    },
    /// Importance is a mean square.
    #[error("the importance of column {column} is {value}; it must be finite and not below 0")]
    ImportanceValue {
        /// The column, from 0.
        column: usize,
        /// Its importance.
        value: f32,
    },
}

/// The formats that can be encoded and decoded.
pub const FORMATS: &[Dtype] = &[
    Dtype::F32,
    Dtype::F16,
    Dtype::BF16,
    Dtype::Q4_0,
    Dtype::Q4_1,
    Dtype::Q5_0,
    Dtype::Q5_1,
    Dtype::Q8_0,
    Dtype::Q2_K,
    Dtype::Q3_K,
    Dtype::Q4_K,
    Dtype::Q5_K,
    Dtype::Q6_K,
    Dtype::IQ4_NL,
    Dtype::IQ4_XS,
    Dtype::IQ2_XXS,
    Dtype::IQ2_XS,
    Dtype::IQ2_S,
    Dtype::IQ3_XXS,
    Dtype::IQ3_S,
    Dtype::MXFP4,
    Dtype::TQ1_0,
    Dtype::TQ2_0,
];

/// The formats that are decoded alone.
const DECODED: &[Dtype] = &[
    Dtype::IQ1_S,
    Dtype::IQ1_M,
    Dtype::NVFP4,
    Dtype::Q1_0,
    Dtype::Q2_0,
];

/// Whether there is a decoder for `dtype`.
pub fn is_decoded(dtype: Dtype) -> bool {
    FORMATS.contains(&dtype) || DECODED.contains(&dtype)
}

fn supported() -> String {
    FORMATS
        .iter()
        .map(|d| d.name())
        .collect::<Vec<_>>()
        .join(", ")
}

/// Checks the sizes that encoding and decoding share.
pub(super) fn check(
    dtype: Dtype,
    values: usize,
    row: usize,
    bytes: usize,
) -> Result<(), BlockError> {
    if !is_decoded(dtype) {
        return Err(BlockError::Unsupported(dtype));
    }
    let block = dtype.format().block_elements;
    if row == 0 && values != 0 || row != 0 && !values.is_multiple_of(row) {
        return Err(BlockError::Values { values, row });
    }
    if !dtype.divides(row as u64) {
        return Err(BlockError::Row { dtype, row, block });
    }
    let need = (values as u64 / block).saturating_mul(dtype.format().block_bytes);
    if need != bytes as u64 {
        return Err(BlockError::Bytes {
            dtype,
            values,
            need,
            have: bytes,
        });
    }
    Ok(())
}
