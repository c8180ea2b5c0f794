//! Sixteen rows of weights, unpacked side by side, which many tokens are multiplied with: a row is unpacked once for all
//! of them, and what is read of a tile serves several tokens, what is read of a token several rows.

use super::blocks::at;
use super::{ActivationFormat, Stored, activation_format};
use crate::dtype::Dtype;
use crate::quantize::blocks;

/// Rows of a tile.
pub(in super::super) const LANES: usize = 16;

/// A number of each row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(in super::super) struct Lanes(pub(in super::super) [f32; LANES]);

impl Lanes {
    pub(in super::super) const ZERO: Lanes = Lanes([0.0; LANES]);
}

/// `N` activations with one scale, as tiles are multiplied with them.
#[derive(Clone)]
#[repr(C)]
pub(in super::super) struct QuantizedInput<const N: usize> {
    pub(super) quants: [i8; N],
    pub(super) scale: f32,
    /// What minima of weights are multiplied with.
    pub(super) sum: f32,
    /// The sum of the quants times -128: what is to be added where weights are 128 too large.
    pub(super) excess: i32,
}

impl<const N: usize> QuantizedInput<N> {
    pub(super) fn new(quants: &[i8; N], scale: f32, sum: impl Fn(i32) -> f32) -> QuantizedInput<N> {
        let whole: i32 = quants.iter().map(|&quant| i32::from(quant)).sum();
        QuantizedInput {
            quants: *quants,
            scale,
            sum: sum(whole),
            excess: -128 * whole,
        }
    }
}

/// Quants `4 x four` to `4 x four + 3`, as the bytes of a number.
#[inline(always)]
pub(super) fn four_quants<const N: usize>(part: &QuantizedInput<N>, four: usize) -> i32 {
    let [a, b, c, d] = *at(&part.quants, 4 * four);
    i32::from_le_bytes([a as u8, b as u8, c as u8, d as u8])
}

/// The codes of four columns of each row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Codes(pub(super) [[u8; 4]; LANES]);

/// Rows of weights: floats, or `scale x code - minimum`, several columns with the same scale and minimum.
#[derive(Default)]
pub(in super::super) struct Tile {
    pub(super) floats: Vec<Lanes>,
    pub(super) codes: Vec<Codes>,
    pub(super) scales: Vec<Lanes>,
    pub(super) minima: Vec<Lanes>,
}

/// How the weights of a format are multiplied in tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum TileFormat {
    Floats,
    /// Sixteen columns share scale and minimum.
    Codes16 {
        activations: ActivationFormat,
        minima: bool,
    },
    /// Thirty-two columns.
    Codes32 {
        activations: ActivationFormat,
        minima: bool,
    },
}

/// How rows of `dtype` are multiplied in tiles.
pub(in super::super) fn tile_format(dtype: Dtype) -> Option<TileFormat> {
    let activations = activation_format(dtype)?;
    Some(match dtype {
        Dtype::F32 | Dtype::F16 | Dtype::BF16 => TileFormat::Floats,
        Dtype::Q3_K | Dtype::Q6_K | Dtype::IQ1_M | Dtype::IQ2_XS | Dtype::IQ2_S => {
            TileFormat::Codes16 {
                activations,
                minima: false,
            }
        }
        Dtype::Q2_K => TileFormat::Codes16 {
            activations,
            minima: true,
        },
        Dtype::Q4_1 | Dtype::Q5_1 | Dtype::Q4_K | Dtype::Q5_K => TileFormat::Codes32 {
            activations,
            minima: true,
        },
        _ => TileFormat::Codes32 {
            activations,
            minima: false,
        },
    })
}

/// The product of a row with a token, where `N` columns share scale and minimum.
#[inline(always)]
pub(super) fn unpacked<const N: usize>(dtype: Dtype, row: &[u8], y: &[QuantizedInput<N>]) -> f32 {
    let (mut sum, mut parts) = (0.0, y.iter());
    blocks::unpack(dtype, row, |codes, scales, minima| {
        let factors = scales.iter().zip(minima);
        for ((codes, (scale, minimum)), y) in
            codes.as_chunks::<N>().0.iter().zip(factors).zip(&mut parts)
        {
            let products = codes.iter().zip(&y.quants);
            let whole: i32 = products
                .map(|(&code, &y)| i32::from(code) * i32::from(y))
                .sum();
            sum += whole as f32 * scale * y.scale - minimum * y.sum;
        }
    });
    sum
}

/// Floats decoded at a time: with their places in the tile they stay in the first cache.
const COLUMNS: usize = 256;

impl Tile {
    /// Takes the first rows of `rows`, `columns` wide. Lanes without a row keep what they had. `flip` changes codes to
    /// what the processor multiplies.
    #[inline(always)]
    pub(super) fn fill(&mut self, rows: Stored<'_>, columns: usize, flip: u8) {
        match activation_format(rows.dtype) {
            Some(ActivationFormat::Floats) => self.fill_floats(rows, columns),
            Some(_) => self.fill_codes(rows, columns, flip),
            None => {}
        }
    }

    #[inline(always)]
    fn fill_codes(&mut self, rows: Stored<'_>, columns: usize, flip: u8) {
        self.codes.resize(columns / 4, Codes([[0; 4]; LANES]));
        for lane in 0..LANES {
            let (mut group, mut part) = (0, 0);
            blocks::unpack(rows.dtype, rows.row(lane), |codes, scales, minima| {
                let places = self.codes.get_mut(group..).unwrap_or_default();
                let fours = codes.as_chunks::<4>().0;
                for (place, four) in places.iter_mut().zip(fours) {
                    place.0[lane] = four.map(|code| code as u8 ^ flip);
                }
                group += fours.len();
                let end = part + scales.len();
                if self.scales.len() < end {
                    self.scales.resize(end, Lanes::ZERO);
                    self.minima.resize(end, Lanes::ZERO);
                }
                for (place, scale) in self.scales[part..end].iter_mut().zip(scales) {
                    place.0[lane] = *scale;
                }
                for (place, minimum) in self.minima[part..end].iter_mut().zip(minima) {
                    place.0[lane] = *minimum;
                }
                part = end;
            });
        }
    }

    #[inline(always)]
    fn fill_floats(&mut self, rows: Stored<'_>, columns: usize) {
        self.floats.resize(columns, Lanes::ZERO);
        let mut decoded = [0.0; COLUMNS];
        let step = COLUMNS * rows.width / columns.max(1);
        for (index, places) in self.floats.chunks_mut(COLUMNS).enumerate() {
            for lane in 0..LANES {
                let Some(bytes) = rows.row(lane).chunks(step.max(1)).nth(index) else {
                    continue;
                };
                let decoded = &mut decoded[..places.len()];
                let done = blocks::decode_rows(rows.dtype, bytes, places.len(), decoded);
                debug_assert!(done.is_ok(), "floats have a decoder");
                for (place, value) in places.iter_mut().zip(decoded) {
                    place.0[lane] = *value;
                }
            }
        }
    }

    /// Takes rows of floats, `width` wide, end to end.
    pub(in super::super) fn take_rows(&mut self, rows: &[f32], width: usize) {
        self.floats.resize(width, Lanes::ZERO);
        for (lane, row) in rows.chunks_exact(width).take(LANES).enumerate() {
            for (place, value) in self.floats.iter_mut().zip(row) {
                place.0[lane] = *value;
            }
        }
    }

    /// Takes the columns of such rows from `first` on: a column becomes a lane.
    pub(in super::super) fn take_columns(&mut self, rows: &[f32], width: usize, first: usize) {
        let rows = rows.chunks_exact(width);
        self.floats.resize(rows.len(), Lanes::ZERO);
        for (place, row) in self.floats.iter_mut().zip(rows) {
            let row = row.get(first..width.min(first + LANES)).unwrap_or_default();
            for (lane, value) in place.0.iter_mut().zip(row) {
                *lane = *value;
            }
        }
    }
}
