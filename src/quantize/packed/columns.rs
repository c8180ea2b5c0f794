//! GPTQ and AWQ: weights stored with one row for each input, so that a row of the weight (an output) is a column of the
//! stored tensor.

use std::ops::Range;

use serde_json::Value as Json;

use super::bits::in_words;
use super::error::PackedError;
use super::files::{TensorReader, decode};
use super::parts::PackedParts;
use super::{Layout, Weight};
use crate::dtype::Dtype;
use crate::model::packing::{ByInputs, Companion};

/// A weight of shape `[outputs, inputs]` whose codes are stored by inputs.
#[derive(Debug)]
pub(super) struct ColumnLayout<'a> {
    /// Codes: packed along the inputs (GPTQ) or along the outputs (AWQ).
    codes: TensorReader<'a>,
    /// `[groups, outputs packed in words]`; `None` where codes are symmetric around the middle of their range.
    zeros: Option<TensorReader<'a>>,
    /// `[groups, outputs]`.
    scales: TensorReader<'a>,
    /// The group of each input.
    groups: Vec<u32>,
    bits: u32,
    method: PackMethod,
}

/// The tool's way of packing codes into words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum PackMethod {
    /// Along the inputs. Stored zero points are smaller than the real ones by `zero_offset`.
    Gptq { zero_offset: u32 },
    /// Along the outputs, in the order of [`AWQ_NIBBLE`].
    Awq,
}

/// Opens a weight of GPTQ or AWQ: checks its shapes and settings, and reads the group of each input.
pub(super) fn open<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let codes = parts.weight;
    let text = |key: &str| {
        parts
            .setting(key)
            .and_then(Json::as_str)
            .unwrap_or_default()
    };
    let format = text("packing_format");
    let method_known = match text("quant_method") {
        "" | "gptq" | "awq" => true,
        _ => format.ends_with("auto_gptq") || format.ends_with("auto_awq"),
    };
    if !method_known {
        return Err(codes.unknown(format!("of the method `{}`", text("quant_method"))));
    }
    let scales = parts.need(Companion::Scales)?;
    let (&[lines, stored], &[groups, outputs]) = (codes.shape(), scales.shape()) else {
        return Err(codes.wrong_shape(&parts.shape));
    };
    let wrong = || codes.wrong_shape(&[outputs, lines]);
    let zeros = parts.find(Companion::Zeros);
    let ByInputs {
        inputs,
        bits,
        along_inputs: is_gptq,
        ..
    } = ByInputs::new(
        [lines, stored],
        Some(scales.shape()),
        zeros.as_ref().map(|zeros| zeros.shape()),
        parts.number("bits"),
    );
    let sizes = if is_gptq {
        (1..=8).contains(&bits) && outputs.saturating_mul(bits) % 32 == 0
    } else {
        outputs.is_multiple_of(8) && stored == outputs / 8
    };
    if !sizes || codes.dtype() != Dtype::I32 || inputs == 0 || outputs == 0 {
        return Err(wrong());
    }
    if let Some(zeros) = zeros
        && (zeros.shape() != [groups, outputs.saturating_mul(bits) / 32]
            || zeros.dtype() != Dtype::I32)
    {
        return Err(zeros.wrong_shape(&[outputs, inputs]));
    }
    let method = match (is_gptq, text("checkpoint_format"), text("version")) {
        (true, "marlin", _) => return Err(codes.unknown("GPTQ repacked for Marlin")),
        (true, "gptq_v2", _) => PackMethod::Gptq { zero_offset: 0 },
        (true, ..) => PackMethod::Gptq { zero_offset: 1 },
        (false, _, "" | "gemm" | "GEMM") => PackMethod::Awq,
        (false, _, other) => return Err(codes.unknown(format!("AWQ of version `{other}`"))),
    };
    let size = parts
        .number("group_size")
        .filter(|&size| inputs.div_ceil(size.max(1)) == groups);
    let size = size
        .unwrap_or_else(|| inputs.div_ceil(groups.max(1)))
        .max(1);
    let groups = match parts.groups(inputs, groups)? {
        Some(groups) => groups,
        None => (0..inputs).map(|input| (input / size) as u32).collect(),
    };
    let bits = bits as u32;
    let layout = ColumnLayout {
        codes,
        zeros,
        scales,
        groups,
        bits,
        method,
    };
    let shape = vec![outputs, inputs];
    Ok(Weight {
        shape,
        layout: Layout::Columns(layout),
    })
}

/// The nibble of a word that holds output `8 n + k` is `AWQ_NIBBLE[k]`.
const AWQ_NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl ColumnLayout<'_> {
    pub(super) fn read(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<(), PackedError> {
        let (inputs, count) = (self.groups.len(), (rows.end - rows.start) as usize);
        let bits = u64::from(self.bits);
        // Where outputs are packed into words, the words that hold those of `rows`.
        let (first, last) = match self.method {
            PackMethod::Awq => (rows.start / 8, rows.end.div_ceil(8)),
            PackMethod::Gptq { .. } => (rows.start * bits / 32, (rows.end * bits).div_ceil(32)),
        };
        let along_outputs = |words: &[u32], output: u64| match self.method {
            PackMethod::Awq => {
                let word = words.get((output / 8 - first) as usize).copied();
                (word.unwrap_or(0) >> (4 * AWQ_NIBBLE[(output % 8) as usize])) & 15
            }
            PackMethod::Gptq { .. } => {
                let position = output * bits - first * 32;
                let at = |index: u64| words.get(index as usize).copied().unwrap_or(0);
                let line = position / 32;
                in_words(at(line), || at(line + 1), (position % 32) as u32, self.bits)
            }
        };
        let lines = self.scales.shape().first().copied().unwrap_or(0);
        let scales = read_columns(&self.scales, lines, rows.clone())?;
        let mut scale_values = Vec::new();
        if !decode(self.scales.dtype(), &scales, &mut scale_values) {
            return Err(self.scales.unexpected("a float type"));
        }
        let middle = (1u32 << (self.bits - 1)) as f32;
        let mut zero_values = vec![middle; scale_values.len()];
        if let Some(zeros) = &self.zeros {
            let words = words(&read_columns(zeros, lines, first..last)?);
            let width = (last - first) as usize;
            let offset = match self.method {
                PackMethod::Gptq { zero_offset } => zero_offset,
                PackMethod::Awq => 0,
            };
            let lines = words.chunks_exact(width.max(1));
            for (line, values) in lines.zip(zero_values.chunks_exact_mut(count.max(1))) {
                for (output, value) in rows.clone().zip(values) {
                    *value = (along_outputs(line, output) + offset) as f32;
                }
            }
        }
        out.resize(inputs * count, 0.0);
        match self.method {
            PackMethod::Awq => {
                let words = words(&read_columns(&self.codes, inputs as u64, first..last)?);
                let width = ((last - first) as usize).max(1);
                for (input, line) in words.chunks_exact(width).enumerate() {
                    for (row, output) in rows.clone().enumerate() {
                        if let Some(value) = out.get_mut(row * inputs + input) {
                            *value = along_outputs(line, output) as f32;
                        }
                    }
                }
            }
            PackMethod::Gptq { .. } => {
                let lines = self.codes.shape().first().copied().unwrap_or(0);
                let words = words(&read_columns(&self.codes, lines, rows.clone())?);
                for (row, values) in out.chunks_exact_mut(inputs.max(1)).enumerate() {
                    let at = |line: usize| words.get(line * count + row).copied().unwrap_or(0);
                    for (input, value) in values.iter_mut().enumerate() {
                        let position = input * self.bits as usize;
                        let line = position / 32;
                        let shift = (position % 32) as u32;
                        *value = in_words(at(line), || at(line + 1), shift, self.bits) as f32;
                    }
                }
            }
        }
        for (row, values) in out.chunks_exact_mut(inputs.max(1)).enumerate() {
            for (value, &group) in values.iter_mut().zip(&self.groups) {
                let at = group as usize * count + row;
                if let (Some(zero), Some(scale)) = (zero_values.get(at), scale_values.get(at)) {
                    *value = (*value - zero) * scale;
                }
            }
        }
        Ok(())
    }
}

/// The bytes of columns `columns` in the first `lines` stored rows, row by row.
fn read_columns(
    part: &TensorReader<'_>,
    lines: u64,
    columns: Range<u64>,
) -> Result<Vec<u8>, PackedError> {
    let size = part.dtype().format().block_bytes;
    let line = part
        .shape()
        .last()
        .copied()
        .unwrap_or(0)
        .saturating_mul(size);
    let (start, wide) = (columns.start * size, (columns.end - columns.start) * size);
    if wide == line {
        return part.bytes(0, lines.saturating_mul(line));
    }
    let mut bytes = Vec::new();
    for number in 0..lines {
        bytes.extend(part.bytes(number.saturating_mul(line).saturating_add(start), wide)?);
    }
    Ok(bytes)
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let chunks = bytes.as_chunks::<4>().0;
    chunks.iter().map(|&w| u32::from_le_bytes(w)).collect()
}
