//! The weights of a checkpoint as rows of `f32`, whatever they are packed in.
//!
//! In: a located checkpoint and one logical weight of it. Out: any range of its rows. Only the rows asked for and
//! tables of one value per column are held in memory. The value of a weight in each layout:
//!
//! | layout | value | source |
//! |---|---|---|
//! | FP8 | `code x scale` of its block, row or tensor | Transformers' `finegrained_fp8`, compressed-tensors |
//! | compressed-tensors integers | `(code - zero) x scale` | `compressed_tensors` |
//! | MXFP4, NVFP4 | `code x scale`, over the global scale (times `weight_scale_2` for ModelOpt) | OCP MX, ModelOpt |
//! | GPTQ | `(code - zero) x scale`, stored zeros one too small before `gptq_v2` | AutoGPTQ, GPTQModel |
//! | AWQ | `(code - zero) x scale`, nibbles in the order 0 2 4 6 1 3 5 7 | AutoAWQ |
//! | bitsandbytes | `map[code] x absmax`, or `code x SCB / 127` | bitsandbytes |
//! | MLX | `code x scale + bias` | MLX |
//!
//! All products are in single precision, where runtimes often round to 16 bits.

mod bits;
mod bitsandbytes;
mod columns;
mod error;
mod files;
mod grid;
mod layout;
mod parts;
mod row_layouts;
mod rows;

use crate::dtype::elements;
use std::ops::Range;

pub use error::PackedError;
pub use files::Files;

use crate::checkpoint::Checkpoint;
use crate::model::FoldedWeight;

/// One weight, ready to be read.
#[derive(Debug)]
pub struct Weight<'a> {
    shape: Vec<u64>,
    layout: Layout<'a>,
}

#[derive(Debug)]
enum Layout<'a> {
    Rows(rows::RowLayout<'a>),
    Columns(columns::ColumnLayout<'a>),
    BitsAndBytes(bitsandbytes::BitsAndBytesLayout<'a>),
}

impl<'a> Weight<'a> {
    /// Opens one of [`crate::model::ModelSpec::stored`]. Reads the small tensors that describe the packing
    /// (shape records, group indices, maps of codes), and checks the shapes of all parts.
    ///
    /// # Errors
    /// [`PackedError`]: `Layout` for a packing that is not known, `Missing` for a part that is not stored, `Shape`,
    /// `Content` or `Group` for parts that contradict each other, `Read` for a file that cannot be read.
    pub fn open(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        weight: &FoldedWeight,
    ) -> Result<Weight<'a>, PackedError> {
        layout::open(checkpoint, files, weight)
    }

    /// Opens the stored tensor `index` of the checkpoint: F64, F32, F16, BF16 or an eight-bit float without scale.
    ///
    /// # Errors
    /// [`PackedError::Layout`] for another type, [`PackedError::Missing`] for an index beyond the checkpoint's tensors.
    pub fn plain(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        index: usize,
    ) -> Result<Weight<'a>, PackedError> {
        layout::plain(checkpoint, files, index)
    }

    /// The shape of the unpacked weight, outermost dimension first.
    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    /// Values in a row: the last dimension; 1 for a scalar.
    pub fn columns(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the last.
    pub fn rows(&self) -> u64 {
        let outer = self.shape.split_last().map_or(&[][..], |(_, outer)| outer);
        elements(outer)
    }

    /// Whether a row of the weight is a column of the stored tensor (GPTQ, AWQ).
    pub(super) fn is_by_columns(&self) -> bool {
        matches!(self.layout, Layout::Columns(_))
    }

    /// The blocks of `rows` as ggml stores MXFP4, if the weight has its codes and scales.
    ///
    /// # Errors
    /// [`PackedError::Read`] if the bytes cannot be read from the file.
    pub(super) fn four_bit_blocks(&self, rows: Range<u64>) -> Result<Option<Vec<u8>>, PackedError> {
        match &self.layout {
            Layout::Rows(layout) if rows.end <= self.rows() => layout.four_bit_blocks(rows),
            _ => Ok(None),
        }
    }

    /// Replaces the contents of `out` by the values of `rows`, row by row ([`Weight::columns`] values each). Memory use
    /// is proportional to the rows asked for.
    ///
    /// # Errors
    /// [`PackedError::Rows`] for rows beyond [`Weight::rows`], [`PackedError::Read`] if the bytes cannot be read from
    /// the file, [`PackedError::Content`] if they are of another type than the layout needs.
    pub fn read(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<(), PackedError> {
        out.clear();
        if rows.end > self.rows() {
            return Err(PackedError::Rows {
                asked: rows.end,
                rows: self.rows(),
            });
        }
        if rows.is_empty() || self.columns() == 0 {
            return Ok(());
        }
        match &self.layout {
            Layout::Rows(layout) => layout.read(rows, out),
            Layout::Columns(layout) => layout.read(rows, out),
            Layout::BitsAndBytes(layout) => layout.read(rows, self.columns(), out),
        }
    }
}
