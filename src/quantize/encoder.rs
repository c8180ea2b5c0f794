//! Encoders of output formats. In: rows of numbers. Out: the bytes of every stored part, and the decoded numbers.
//!
//! The bytes depend on the rows alone. Must not: do IO, or know where the parts are stored.

use super::blocks::half::bf16_to_f32;
use super::blocks::{self, BlockError};
use super::fp8::{self, e4m3_to_f32};
use super::int4;
use crate::dtype::Dtype;
use crate::scheme::{Groups, ZEROS_IN_WORD};

/// The encoder of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoder {
    /// ggml's block formats and plain floats, in one part.
    Ggml(Dtype),
    /// compressed-tensors' `pack-quantized`: codes, a scale for each group of a row, zero points where the scheme has them,
    /// and a record of the shape.
    Int4(Groups),
    /// compressed-tensors' `float-quantized`, in two parts: codes, a scale for each row.
    Fp8,
}

/// A stored part of an encoded tensor.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EncodedPart {
    /// The suffix of its name in place of `weight`; `None` for the tensor's own name.
    pub(super) suffix: Option<&'static str>,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
}

/// Buffers for encoded rows: their bytes, and the decoded values.
#[derive(Debug, Default)]
pub(super) struct EncodedRows {
    /// The codes, then the scales and the zero points if they are separate parts.
    pub(super) parts: [Vec<u8>; 3],
    /// The values that `parts` decode to.
    pub(super) decoded: Vec<f32>,
    scales: Vec<u16>,
    zeros: Vec<u8>,
}

impl Encoder {
    /// The encoder of a format, whose integers are in these `groups`.
    pub(super) fn of(dtype: Dtype, groups: Option<Groups>) -> Encoder {
        match (dtype, groups) {
            (Dtype::INT4, Some(groups)) => Encoder::Int4(groups),
            (Dtype::F8_E4M3, _) => Encoder::Fp8,
            (ggml, _) => Encoder::Ggml(ggml),
        }
    }

    /// The stored parts of a tensor of `shape`.
    pub(super) fn parts(self, shape: &[u64]) -> Vec<EncodedPart> {
        let part = |suffix, dtype, shape: &[u64]| EncodedPart {
            suffix,
            dtype,
            shape: shape.to_vec(),
        };
        match (self, shape) {
            (Encoder::Int4(groups), &[rows, columns]) => {
                let count = columns / groups.size.max(1);
                let zeros = [rows / ZEROS_IN_WORD, count];
                let zeros = part(Some("weight_zero_point"), Dtype::I32, &zeros);
                let mut parts = vec![
                    part(Some("weight_packed"), Dtype::I32, &[rows, columns / 8]),
                    part(Some("weight_scale"), Dtype::BF16, &[rows, count]),
                ];
                parts.extend(groups.zeros.then_some(zeros));
                parts.push(part(Some("weight_shape"), Dtype::I64, &[2]));
                parts
            }
            (Encoder::Fp8, &[rows, _]) => vec![
                part(None, Dtype::F8_E4M3, shape),
                part(Some("weight_scale"), Dtype::BF16, &[rows, 1]),
            ],
            (Encoder::Int4(_), _) => vec![part(None, Dtype::INT4, shape)],
            (Encoder::Fp8, _) => vec![part(None, Dtype::F8_E4M3, shape)],
            (Encoder::Ggml(dtype), _) => vec![part(None, dtype, shape)],
        }
    }

    /// The part that records the shape of a tensor of `rows` x `columns`, with its number, if the format has one.
    pub(super) fn record(self, rows: u64, columns: u64) -> Option<(usize, Vec<u8>)> {
        let record = [rows.to_le_bytes(), columns.to_le_bytes()];
        match self {
            Encoder::Int4(groups) => Some((2 + usize::from(groups.zeros), record.concat())),
            _ => None,
        }
    }

    /// So many rows are encoded together, because they share words of a part.
    pub(super) fn rows_together(self) -> u64 {
        match self {
            Encoder::Int4(groups) if groups.zeros => ZEROS_IN_WORD,
            _ => 1,
        }
    }

    /// Encodes `values`, whole rows of `columns` values, and counts those that are NaN or infinite.
    /// `importance` is the weight of errors in each column, for ggml's formats.
    ///
    /// # Errors
    /// [`BlockError`]: the format has no encoder, or its blocks do not divide the rows.
    pub(super) fn encode(
        self,
        values: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
        out: &mut EncodedRows,
    ) -> Result<u64, BlockError> {
        match self {
            Encoder::Ggml(dtype) => out.ggml(dtype, values, columns, importance),
            Encoder::Int4(groups) => Ok(out.int4(groups, values, columns.max(1))),
            Encoder::Fp8 => Ok(out.fp8(values, columns.max(1))),
        }
    }
}

impl EncodedRows {
    /// Takes blocks that are stored already, and the values that they decode to. Counts those that are NaN or infinite.
    pub(super) fn kept(&mut self, blocks: Vec<u8>, values: &[f32]) -> u64 {
        self.parts = [blocks, Vec::new(), Vec::new()];
        self.decoded.clear();
        self.decoded.extend_from_slice(values);
        values.iter().filter(|x| !x.is_finite()).count() as u64
    }

    fn ggml(
        &mut self,
        dtype: Dtype,
        values: &[f32],
        columns: usize,
        importance: Option<&[f32]>,
    ) -> Result<u64, BlockError> {
        let [codes, rest @ ..] = &mut self.parts;
        let rows = values.len() / columns.max(1);
        let bytes = dtype.row_bytes(columns as u64).0 as usize;
        codes.resize(rows * bytes, 0);
        rest.iter_mut().for_each(Vec::clear);
        let met = blocks::encode_rows(dtype, values, columns, importance, codes)?;
        self.decoded.resize(values.len(), 0.0);
        blocks::decode_rows(dtype, codes, columns, &mut self.decoded)?;
        Ok(met.not_finite)
    }

    fn int4(&mut self, form: Groups, values: &[f32], columns: usize) -> u64 {
        let size = form.size as usize;
        let (rows, groups) = (values.len() / columns, columns / size.max(1));
        self.parts[0].resize(rows * columns / 2, 0);
        self.scales.resize(rows * groups, 0);
        self.zeros
            .resize(if form.zeros { rows * groups } else { 0 }, 0);
        self.decoded.clear();
        let mut not_finite = 0;
        let outputs = self.parts[0].chunks_exact_mut((columns / 2).max(1));
        let outputs = outputs.zip(self.scales.chunks_exact_mut(groups.max(1)));
        let rows = values.chunks_exact(columns).zip(outputs);
        for (row, (values, (codes, scales))) in rows.enumerate() {
            let zeros = self.zeros.get_mut(row * groups..(row + 1) * groups);
            let zeros = zeros.unwrap_or_default();
            not_finite += int4::encode_row(values, size, codes, scales, zeros).not_finite;
            let codes = codes.chunks(size / 2).zip(scales.iter()).enumerate();
            for (group, (codes, &scale)) in codes {
                let zero = zeros.get(group).map_or(8.0, |&zero| f32::from(zero));
                let scale = bf16_to_f32(scale);
                let pairs = codes.iter().flat_map(|&byte| [byte & 15, byte >> 4]);
                let decoded = pairs.map(|code| (f32::from(code) - zero) * scale);
                self.decoded.extend(decoded);
            }
        }
        self.store_scales();
        self.store_zeros(groups);
        not_finite
    }

    /// Packs the zero points: a word holds those of one group of columns in eight rows, the first row in its lowest bits.
    fn store_zeros(&mut self, groups: usize) {
        self.parts[2].clear();
        let rows = ZEROS_IN_WORD as usize;
        for block in self.zeros.chunks_exact((groups * rows).max(1)) {
            for group in 0..groups {
                let codes = block.iter().skip(group).step_by(groups);
                let word = codes
                    .rev()
                    .fold(0u32, |word, &zero| word << 4 | u32::from(zero));
                self.parts[2].extend(word.to_le_bytes());
            }
        }
    }

    fn fp8(&mut self, values: &[f32], columns: usize) -> u64 {
        self.parts[0].resize(values.len(), 0);
        self.scales.clear();
        self.decoded.clear();
        let mut not_finite = 0;
        let rows = values.chunks_exact(columns);
        for (values, codes) in rows.zip(self.parts[0].chunks_exact_mut(columns)) {
            let (scale, met) = fp8::encode_row(values, codes);
            not_finite += met.not_finite;
            self.scales.push(scale);
            let scale = bf16_to_f32(scale);
            let decoded = codes.iter().map(|&code| e4m3_to_f32(code) * scale);
            self.decoded.extend(decoded);
        }
        self.store_scales();
        not_finite
    }

    fn store_scales(&mut self) {
        let bytes = self.scales.iter().flat_map(|scale| scale.to_le_bytes());
        self.parts[2].clear();
        self.parts[1].clear();
        self.parts[1].extend(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::EncodedRows;

    /// The zero points of sixteen rows of two groups, and the words that compressed-tensors 0.20.0 packs them into.
    #[test]
    fn zero_points_are_packed_down_the_rows() {
        let rows = [
            [0, 5],
            [10, 15],
            [4, 9],
            [14, 3],
            [8, 13],
            [2, 7],
            [12, 1],
            [6, 11],
        ];
        let mut out = EncodedRows {
            zeros: [rows, rows].concat().concat(),
            ..EncodedRows::default()
        };
        out.store_zeros(2);
        let words = out.parts[2].as_chunks::<4>().0.iter().copied();
        let words: Vec<u32> = words.map(u32::from_le_bytes).collect();
        assert_eq!(words, [0x6c28_e4a0, 0xb17d_39f5, 0x6c28_e4a0, 0xb17d_39f5]);
    }
}
