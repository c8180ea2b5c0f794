//! Rows of activations, and the eight-bit blocks that they are quantized to for products: made for the
//! first matrix that needs them and kept for the others that read the same rows.

use std::sync::OnceLock;

use super::super::parallel::{chunk_size, parallel_chunks};
use super::ActivationFormat;
use super::tile::{QuantizedInput, TileFormat};

/// 256 activations with one scale, as ggml's `block_q8_K` has them.
#[derive(Clone)]
#[repr(C)]
pub(in super::super) struct Block256 {
    pub(super) quants: [i8; 256],
    /// Sums of 16 quants each.
    pub(super) sums16: [i16; 16],
    /// Sums of 32 quants each.
    pub(super) sums32: [i16; 8],
    pub(super) scale: f32,
}

/// 32 activations with one scale, as ggml's `block_q8_0` and `block_q8_1` have them.
#[derive(Clone)]
#[repr(C)]
pub(in super::super) struct Block32 {
    pub(super) quants: [i8; 32],
    pub(super) scale: f32,
    /// The scale times the sum of the quants.
    pub(super) sum: f32,
    /// The same as `Q8_1` keeps it, which minima of weights are multiplied with: in half precision, of the
    /// scale before it was rounded.
    pub(super) half_sum: f32,
}

/// `[tokens, columns]` activations.
pub(in super::super) struct Input<'a> {
    rows: &'a [f32],
    pub(in super::super) columns: usize,
    blocks256: OnceLock<Vec<Block256>>,
    blocks32: OnceLock<Vec<Block32>>,
    /// Of blocks of 256.
    sixteens: OnceLock<Vec<QuantizedInput<16>>>,
    /// Of blocks of 256, and of blocks of 32.
    thirty_twos: [OnceLock<Vec<QuantizedInput<32>>>; 2],
}

impl<'a> Input<'a> {
    /// Rows of `columns` each, end to end.
    pub(in super::super) fn new(rows: &'a [f32], columns: usize) -> Input<'a> {
        Input {
            rows,
            columns: columns.max(1),
            blocks256: OnceLock::new(),
            blocks32: OnceLock::new(),
            sixteens: OnceLock::new(),
            thirty_twos: [OnceLock::new(), OnceLock::new()],
        }
    }

    /// How many rows.
    pub(in super::super) fn tokens(&self) -> usize {
        self.rows.len() / self.columns
    }

    /// One row.
    pub(super) fn token(&self, token: usize) -> &'a [f32] {
        let start = token * self.columns;
        self.rows
            .get(start..start + self.columns)
            .unwrap_or_default()
    }

    /// One row in blocks of 256.
    pub(super) fn blocks256(&self, token: usize) -> &[Block256] {
        let zero = Block256 {
            quants: [0; 256],
            sums16: [0; 16],
            sums32: [0; 8],
            scale: 0.0,
        };
        let all = self
            .blocks256
            .get_or_init(|| quantized(self.rows, zero, quantize256));
        part(all, self.columns / 256, token)
    }

    /// One row in blocks of 32.
    pub(super) fn blocks32(&self, token: usize) -> &[Block32] {
        let zero = Block32 {
            quants: [0; 32],
            scale: 0.0,
            sum: 0.0,
            half_sum: 0.0,
        };
        let all = self
            .blocks32
            .get_or_init(|| quantized(self.rows, zero, quantize32));
        part(all, self.columns / 32, token)
    }

    /// One row of blocks of 256 in parts of 16.
    pub(super) fn sixteens(&self, token: usize) -> &[QuantizedInput<16>] {
        let all = self.sixteens.get_or_init(|| self.parts256());
        part(all, self.columns / 16, token)
    }

    /// One row in parts of 32, of the blocks of `format`.
    pub(super) fn thirty_twos(
        &self,
        format: ActivationFormat,
        token: usize,
    ) -> &[QuantizedInput<32>] {
        let [of256, of32] = &self.thirty_twos;
        let all = match format {
            ActivationFormat::Block256 => of256.get_or_init(|| self.parts256()),
            _ => of32.get_or_init(|| {
                self.blocks32(0);
                let blocks = self.blocks32.get().map(Vec::as_slice).unwrap_or_default();
                let part = |block: &Block32| {
                    QuantizedInput::new(&block.quants, block.scale, |_| block.half_sum)
                };
                blocks.iter().map(part).collect()
            }),
        };
        part(all, self.columns / 32, token)
    }

    fn parts256<const N: usize>(&self) -> Vec<QuantizedInput<N>> {
        self.blocks256(0);
        let blocks = self.blocks256.get().map(Vec::as_slice).unwrap_or_default();
        let parts = blocks.iter().flat_map(|block| {
            let quants = block.quants.as_chunks::<N>().0.iter();
            quants.map(|quants| {
                QuantizedInput::new(quants, block.scale, |sum| block.scale * sum as f32)
            })
        });
        parts.collect()
    }

    /// Makes what tiles of `format` are multiplied with; within a product one thread alone would make it.
    pub(in super::super) fn prepare_tiles(&self, format: TileFormat) {
        match format {
            TileFormat::Floats => {}
            TileFormat::Codes16 { .. } => drop(self.sixteens(0)),
            TileFormat::Codes32 { activations, .. } => drop(self.thirty_twos(activations, 0)),
        }
    }

    /// Makes the blocks of `format` with all threads; within a product one thread alone would make them.
    pub(in super::super) fn prepare(&self, format: ActivationFormat) {
        match format {
            ActivationFormat::Block256 => drop(self.blocks256(0)),
            ActivationFormat::Block32 => drop(self.blocks32(0)),
            ActivationFormat::Floats => {}
        }
    }
}

fn part<T>(all: &[T], blocks: usize, token: usize) -> &[T] {
    all.get(token * blocks..(token + 1) * blocks)
        .unwrap_or_default()
}

/// All rows in blocks of `N`.
fn quantized<const N: usize, B: Clone + Send>(
    rows: &[f32],
    zero: B,
    quantize: impl Fn(&[f32; N], &mut B) + Sync,
) -> Vec<B> {
    let values = rows.as_chunks::<N>().0;
    let mut blocks = vec![zero; values.len()];
    let size = if rows.len() < 1 << 14 {
        blocks.len()
    } else {
        chunk_size(blocks.len(), 2, 1)
    };
    parallel_chunks(&mut blocks, size, |chunk, blocks| {
        let values = values.get(chunk * size..).unwrap_or_default();
        for (block, values) in blocks.iter_mut().zip(values) {
            quantize(values, block);
        }
    });
    blocks
}

/// The value of largest magnitude becomes -127, as in ggml's `quantize_row_q8_K_ref`.
fn quantize256(values: &[f32; 256], block: &mut Block256) {
    let largest = super::largest_magnitude(values);
    let peak = values.iter().find(|value| value.abs() == largest);
    let peak = peak.copied().unwrap_or(0.0);
    let inverse = if peak == 0.0 { 0.0 } else { -127.0 / peak };
    block.scale = if peak == 0.0 { 0.0 } else { 1.0 / inverse };
    super::round(values, inverse, &mut block.quants);
    let (sixteens, _) = block.quants.as_chunks::<16>();
    for (sum, quants) in block.sums16.iter_mut().zip(sixteens) {
        *sum = quants.iter().map(|&quant| i16::from(quant)).sum();
    }
    let (pairs, _) = block.sums16.as_chunks::<2>();
    for (sum, [a, b]) in block.sums32.iter_mut().zip(pairs) {
        *sum = a + b;
    }
}

/// The largest magnitude becomes 127; the scale is what a half keeps of it, as in ggml's
/// `quantize_row_q8_0` and `quantize_row_q8_1`.
fn quantize32(values: &[f32; 32], block: &mut Block32) {
    let largest = super::largest_magnitude(values);
    let scale = largest / 127.0;
    let inverse = if largest == 0.0 { 0.0 } else { 127.0 / largest };
    block.scale = half::f16::from_f32(scale).to_f32();
    super::round(values, inverse, &mut block.quants);
    let sum: i32 = block.quants.iter().map(|&quant| i32::from(quant)).sum();
    block.sum = block.scale * sum as f32;
    block.half_sum = half::f16::from_f32(scale * sum as f32).to_f32();
}
