//! Encoders of output formats. In: rows of numbers. Out: the bytes of every stored part, and the decoded numbers.
//!
//! The bytes depend on the rows alone. Must not: do IO, or know where the parts are stored.

use super::blocks::half::bf16_to_f32;
use super::blocks::{self, BlockError};
use super::fp8::{self, e4m3_to_f32};
use super::int4;
use crate::dtype::Dtype;

/// The encoder of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoder {
    /// ggml's block formats and plain floats, in one part.
    Ggml(Dtype),
    /// compressed-tensors' `pack-quantized`, in three parts: codes, a scale for each group of a row, a record of the
    /// shape.
    Int4,
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
    /// The codes, and the scales if they are a separate part.
    pub(super) parts: [Vec<u8>; 2],
    /// The values that `parts` decode to.
    pub(super) decoded: Vec<f32>,
    scales: Vec<u16>,
}

impl Encoder {
    /// The encoder of a format.
    pub(super) fn of(dtype: Dtype) -> Encoder {
        match dtype {
            Dtype::INT4 => Encoder::Int4,
            Dtype::F8_E4M3 => Encoder::Fp8,
            ggml => Encoder::Ggml(ggml),
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
            (Encoder::Int4, &[rows, columns]) => vec![
                part(Some("weight_packed"), Dtype::I32, &[rows, columns / 8]),
                part(
                    Some("weight_scale"),
                    Dtype::BF16,
                    &[rows, columns / int4::GROUP as u64],
                ),
                part(Some("weight_shape"), Dtype::I64, &[2]),
            ],
            (Encoder::Fp8, &[rows, _]) => vec![
                part(None, Dtype::F8_E4M3, shape),
                part(Some("weight_scale"), Dtype::BF16, &[rows, 1]),
            ],
            (Encoder::Int4, _) => vec![part(None, Dtype::INT4, shape)],
            (Encoder::Fp8, _) => vec![part(None, Dtype::F8_E4M3, shape)],
            (Encoder::Ggml(dtype), _) => vec![part(None, dtype, shape)],
        }
    }

    /// The part that records the shape of a tensor of `rows` x `columns`, if the format has one.
    pub(super) fn record(self, rows: u64, columns: u64) -> Option<Vec<u8>> {
        let record = [rows.to_le_bytes(), columns.to_le_bytes()];
        (self == Encoder::Int4).then(|| record.concat())
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
            Encoder::Int4 => Ok(out.int4(values, columns.max(1))),
            Encoder::Fp8 => Ok(out.fp8(values, columns.max(1))),
        }
    }
}

impl EncodedRows {
    /// Takes blocks that are stored already, and the values that they decode to. Counts those that are NaN or infinite.
    pub(super) fn kept(&mut self, blocks: Vec<u8>, values: &[f32]) -> u64 {
        self.parts = [blocks, Vec::new()];
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
        let [codes, scales] = &mut self.parts;
        let rows = values.len() / columns.max(1);
        let bytes = dtype.row_bytes(columns as u64).0 as usize;
        codes.resize(rows * bytes, 0);
        scales.clear();
        let met = blocks::encode_rows(dtype, values, columns, importance, codes)?;
        self.decoded.resize(values.len(), 0.0);
        blocks::decode_rows(dtype, codes, columns, &mut self.decoded)?;
        Ok(met.not_finite)
    }

    fn int4(&mut self, values: &[f32], columns: usize) -> u64 {
        let (rows, groups) = (values.len() / columns, columns / int4::GROUP);
        self.parts[0].resize(rows * columns / 2, 0);
        self.scales.resize(rows * groups, 0);
        self.decoded.clear();
        let mut not_finite = 0;
        let outputs = self.parts[0].chunks_exact_mut((columns / 2).max(1));
        let outputs = outputs.zip(self.scales.chunks_exact_mut(groups.max(1)));
        for (values, (codes, scales)) in values.chunks_exact(columns).zip(outputs) {
            not_finite += int4::encode_row(values, codes, scales).not_finite;
            for (group, &scale) in codes.chunks(int4::GROUP / 2).zip(scales.iter()) {
                let scale = bf16_to_f32(scale);
                let pairs = group.iter().flat_map(|&byte| [byte & 15, byte >> 4]);
                let decoded = pairs.map(|code| (f32::from(code) - 8.0) * scale);
                self.decoded.extend(decoded);
            }
        }
        self.store_scales();
        not_finite
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
        self.parts[1].clear();
        self.parts[1].extend(bytes);
    }
}
