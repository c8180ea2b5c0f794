//! GPTQ and AWQ: weights stored with one row for each input, so that a row of the weight (an output)
//! is a column of the file.

use std::ops::Range;

use super::bits::in_words;
use super::error::PackedError;
use super::files::{Part, decode};

/// A weight of `[outputs, inputs]` stored by inputs.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    /// Codes: packed along the inputs (GPTQ) or along the outputs (AWQ).
    pub(super) codes: Part<'a>,
    /// `[groups, outputs packed in words]`; without, codes are symmetric around their middle.
    pub(super) zeros: Option<Part<'a>>,
    /// `[groups, outputs]`.
    pub(super) scales: Part<'a>,
    /// The group of each input.
    pub(super) groups: Vec<u32>,
    pub(super) bits: u32,
    pub(super) method: Method,
}

/// Who packed it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Method {
    /// Along the inputs. Stored zero points are too small by this.
    Gptq { zero_offset: u32 },
    /// Along the outputs, in an order of its own.
    Awq,
}

/// The nibble of a word that holds output `8 n + k` is `AWQ_NIBBLE[k]`.
const AWQ_NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Columns<'_> {
    pub(super) fn read(&self, rows: Range<u64>, out: &mut Vec<f32>) -> Result<(), PackedError> {
        let (inputs, count) = (self.groups.len(), (rows.end - rows.start) as usize);
        let bits = u64::from(self.bits);
        // Outputs as they lie in words: which words hold those of `rows`.
        let (first, last) = match self.method {
            Method::Awq => (rows.start / 8, rows.end.div_ceil(8)),
            Method::Gptq { .. } => (rows.start * bits / 32, (rows.end * bits).div_ceil(32)),
        };
        let along_outputs = |words: &[u32], output: u64| match self.method {
            Method::Awq => {
                let word = words.get((output / 8 - first) as usize).copied();
                (word.unwrap_or(0) >> (4 * AWQ_NIBBLE[(output % 8) as usize])) & 15
            }
            Method::Gptq { .. } => {
                let position = output * bits - first * 32;
                let at = |index: u64| words.get(index as usize).copied().unwrap_or(0);
                let line = position / 32;
                in_words(at(line), || at(line + 1), (position % 32) as u32, self.bits)
            }
        };
        let lines = self.scales.shape().first().copied().unwrap_or(0);
        let scales = strip(&self.scales, lines, rows.clone())?;
        let mut scale_values = Vec::new();
        if !decode(self.scales.dtype(), &scales, &mut scale_values) {
            return Err(self.scales.unexpected("a float type"));
        }
        let middle = (1u32 << (self.bits - 1)) as f32;
        let mut zero_values = vec![middle; scale_values.len()];
        if let Some(zeros) = &self.zeros {
            let words = words(&strip(zeros, lines, first..last)?);
            let width = (last - first) as usize;
            let offset = match self.method {
                Method::Gptq { zero_offset } => zero_offset,
                Method::Awq => 0,
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
            Method::Awq => {
                let words = words(&strip(&self.codes, inputs as u64, first..last)?);
                let width = ((last - first) as usize).max(1);
                for (input, line) in words.chunks_exact(width).enumerate() {
                    for (row, output) in rows.clone().enumerate() {
                        if let Some(value) = out.get_mut(row * inputs + input) {
                            *value = along_outputs(line, output) as f32;
                        }
                    }
                }
            }
            Method::Gptq { .. } => {
                let lines = self.codes.shape().first().copied().unwrap_or(0);
                let words = words(&strip(&self.codes, lines, rows.clone())?);
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

/// Columns `columns` of the first `lines` lines of a matrix, line by line.
fn strip(part: &Part<'_>, lines: u64, columns: Range<u64>) -> Result<Vec<u8>, PackedError> {
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
