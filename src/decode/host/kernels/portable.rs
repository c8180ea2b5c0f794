//! Products in plain loops: for processors without a kernel, and the reference of the others.

use super::dispatch::OutputBlock;
use super::tile::{LANES, Lanes, QuantizedInput, Tile, TileFormat};
use super::{Input, Stored};
use crate::quantize::blocks;

/// See [`super::products`]: the rows as floats, with the activations as floats.
pub(super) fn products(rows: Stored<'_>, input: &Input<'_>, token: usize, out: &mut [f32]) {
    let columns = input.columns;
    let mut weights = vec![0.0; columns];
    for (row, out) in rows.rows().zip(out) {
        let decoded = blocks::decode_rows(rows.dtype, row, columns, &mut weights);
        debug_assert!(decoded.is_ok(), "formats with kernels have decoders");
        *out = super::dot(&weights, input.token(token));
    }
}

/// See [`super::multiply`].
pub(super) fn multiply(
    panel: &[Tile],
    format: TileFormat,
    input: &Input<'_>,
    place: &mut OutputBlock<'_>,
) {
    for (index, tile) in panel.iter().enumerate() {
        for token in 0..place.tokens() {
            let own = place.first_token + token;
            let lanes = match format {
                TileFormat::Floats => floats(tile, input.token(own)),
                TileFormat::Codes16 { .. } => ints(tile, input.sixteens(own)),
                TileFormat::Codes32 { activations, .. } => {
                    ints(tile, input.thirty_twos(activations, own))
                }
            };
            place.put(token, index, &lanes);
        }
    }
}

/// The products of a tile with a token.
fn ints<const N: usize>(tile: &Tile, y: &[QuantizedInput<N>]) -> Lanes {
    let mut sums = Lanes::ZERO;
    let parts = tile.codes.chunks_exact(N / 4).zip(y);
    for ((codes, y), (scales, minima)) in parts.zip(tile.scales.iter().zip(&tile.minima)) {
        let mut whole = [0i32; LANES];
        for (codes, y) in codes.iter().zip(y.quants.as_chunks::<4>().0) {
            for (whole, codes) in whole.iter_mut().zip(&codes.0) {
                for (code, y) in codes.iter().zip(y) {
                    *whole += i32::from(*code as i8) * i32::from(*y);
                }
            }
        }
        let factors = scales.0.iter().zip(&minima.0);
        for ((sum, whole), (scale, minimum)) in sums.0.iter_mut().zip(whole).zip(factors) {
            *sum += whole as f32 * scale * y.scale - minimum * y.sum;
        }
    }
    sums
}

/// The same of floats.
fn floats(tile: &Tile, y: &[f32]) -> Lanes {
    let mut sums = Lanes::ZERO;
    for (weights, y) in tile.floats.iter().zip(y) {
        for (sum, weight) in sums.0.iter_mut().zip(&weights.0) {
            *sum += weight * y;
        }
    }
    sums
}
