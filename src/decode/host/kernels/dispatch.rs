//! From a format to its kernel: the same for every processor, compiled for the instructions of each.

use super::tile::{LANES, Lanes};

/// Where the products of a panel of tiles with some tokens belong: a range of columns of `out`, whose rows are tokens.
pub(in super::super) struct OutputBlock<'a> {
    /// Of the activations.
    pub(in super::super) first_token: usize,
    pub(in super::super) out: &'a mut [f32],
    /// Columns of `out`: rows of the matrix.
    pub(in super::super) rows: usize,
    /// The first of the panel's.
    pub(in super::super) first_row: usize,
}

impl OutputBlock<'_> {
    pub(super) fn tokens(&self) -> usize {
        self.out.len() / self.rows.max(1)
    }

    /// The products of one of the tokens with a tile of the panel; those that do not exist are passed over.
    #[inline(always)]
    pub(super) fn put(&mut self, token: usize, tile: usize, lanes: &Lanes) {
        let first = self.first_row + tile * LANES;
        let start = token * self.rows + first;
        match self.out.get_mut(start..start + LANES) {
            Some(out) if first + LANES <= self.rows => out.copy_from_slice(&lanes.0),
            _ => {
                let own = token * self.rows..(token + 1) * self.rows;
                let out = self.out.get_mut(own).and_then(|out| out.get_mut(first..));
                let out = out.into_iter().flatten();
                out.zip(&lanes.0).for_each(|(out, lane)| *out = *lane);
            }
        }
    }
}

/// Defines `products` (see [`super::products`]; false where there is no kernel) for a processor with
/// `$features`, which `available` tells. In scope: a function for each format, from a row and a token.
macro_rules! products {
    ($features:literal) => {
        pub(super) fn products(
            rows: Stored<'_>,
            input: &Input<'_>,
            token: usize,
            out: &mut [f32],
        ) -> bool {
            // SAFETY: the processor has the instructions.
            available() && unsafe { of_token(rows, input, token, out) }
        }

        #[target_feature(enable = $features)]
        fn of_token(rows: Stored<'_>, input: &Input<'_>, token: usize, out: &mut [f32]) -> bool {
            let by256 = || input.blocks256(token);
            let by32 = || input.blocks32(token);
            let floats = || input.token(token);
            match rows.dtype {
                Dtype::Q2_K => each(rows, by256(), out, |row, y| q2_k(row, y)),
                Dtype::Q3_K => each(rows, by256(), out, |row, y| q3_k(row, y)),
                Dtype::Q4_K => each(rows, by256(), out, |row, y| q4_k(row, y)),
                Dtype::Q5_K => each(rows, by256(), out, |row, y| q5_k(row, y)),
                Dtype::Q6_K => each(rows, by256(), out, |row, y| q6_k(row, y)),
                Dtype::IQ4_XS => each(rows, by256(), out, |row, y| iq4_xs(row, y)),
                Dtype::Q4_0 => each(rows, by32(), out, |row, y| q4_0(row, y)),
                Dtype::Q4_1 => each(rows, by32(), out, |row, y| q4_1(row, y)),
                Dtype::Q5_0 => each(rows, by32(), out, |row, y| q5_0(row, y)),
                Dtype::Q5_1 => each(rows, by32(), out, |row, y| q5_1(row, y)),
                Dtype::Q8_0 => each(rows, by32(), out, |row, y| q8_0(row, y)),
                Dtype::IQ4_NL => each(rows, by32(), out, |row, y| iq4_nl(row, y)),
                Dtype::F32 => each(rows, floats(), out, |row, y| f32s(row, y)),
                Dtype::F16 => each(rows, floats(), out, |row, y| f16s(row, y)),
                Dtype::BF16 => each(rows, floats(), out, |row, y| bf16s(row, y)),
                dtype => return unpacked(dtype, rows, input, token, out),
            }
            true
        }

        /// Formats without a function of their own: the codes that blocks are unpacked to, with the activations of tiles.
        #[inline]
        #[target_feature(enable = $features)]
        fn unpacked(
            dtype: Dtype,
            rows: Stored<'_>,
            input: &Input<'_>,
            token: usize,
            out: &mut [f32],
        ) -> bool {
            use $crate::decode::host::kernels::tile::{TileFormat as F, tile_format, unpacked};
            match tile_format(dtype) {
                Some(F::Codes16 { .. }) => {
                    let y = input.sixteens(token);
                    each(rows, y, out, |row, y| unpacked(dtype, row, y));
                }
                Some(F::Codes32 { activations, .. }) => {
                    let y = input.thirty_twos(activations, token);
                    each(rows, y, out, |row, y| unpacked(dtype, row, y));
                }
                _ => return false,
            }
            true
        }

        /// `out[row] = product(row, y)`.
        #[inline]
        #[target_feature(enable = $features)]
        fn each<Y: ?Sized>(
            rows: Stored<'_>,
            y: &Y,
            out: &mut [f32],
            product: impl Fn(&[u8], &Y) -> f32,
        ) {
            for (row, out) in rows.rows().zip(out) {
                *out = product(row, y);
            }
        }
    };
}
pub(super) use products;

/// Defines `fill` (see [`super::Tile::fill`]) and `tiles` (see [`super::multiply`]) for a processor with `$features`, which
/// the caller has asked for. In scope: `ints`, `[[Lanes; R]; T]` from `R` tiles and the parts of `T` tokens, and
/// `floats`, the same with activations as they are.
macro_rules! tiles {
    ($features:literal, $tiles:literal x $int_tokens:literal, $float_tokens:literal) => {
        #[target_feature(enable = $features)]
        pub(super) fn fill(tile: &mut Tile, rows: Stored<'_>, columns: usize, flip: u8) {
            tile.fill(rows, columns, flip);
        }

        #[target_feature(enable = $features)]
        pub(super) fn tiles(
            panel: &[Tile],
            format: TileFormat,
            input: &Input<'_>,
            place: &mut OutputBlock<'_>,
        ) {
            use $crate::decode::host::kernels::tile::TileFormat as F;
            match format {
                F::Floats => each_tile::<_, $tiles, $float_tokens>(
                    panel,
                    place,
                    |token| input.token(token),
                    |tiles, y| floats(tiles, y),
                ),
                F::Codes16 { minima: false, .. } => each_tile::<_, $tiles, $int_tokens>(
                    panel,
                    place,
                    |token| input.sixteens(token),
                    |tiles, y| ints::<$tiles, $int_tokens, 16, false>(tiles, y),
                ),
                F::Codes16 { minima: true, .. } => each_tile::<_, $tiles, $int_tokens>(
                    panel,
                    place,
                    |token| input.sixteens(token),
                    |tiles, y| ints::<$tiles, $int_tokens, 16, true>(tiles, y),
                ),
                F::Codes32 {
                    activations,
                    minima: false,
                } => each_tile::<_, $tiles, $int_tokens>(
                    panel,
                    place,
                    |token| input.thirty_twos(activations, token),
                    |tiles, y| ints::<$tiles, $int_tokens, 32, false>(tiles, y),
                ),
                F::Codes32 {
                    activations,
                    minima: true,
                } => each_tile::<_, $tiles, $int_tokens>(
                    panel,
                    place,
                    |token| input.thirty_twos(activations, token),
                    |tiles, y| ints::<$tiles, $int_tokens, 32, true>(tiles, y),
                ),
            }
        }

        /// `R` tiles and `T` tokens at a time; what is left over is multiplied with repetitions of the last.
        #[inline]
        #[target_feature(enable = $features)]
        fn each_tile<Y: Copy, const R: usize, const T: usize>(
            panel: &[Tile],
            place: &mut OutputBlock<'_>,
            y: impl Fn(usize) -> Y,
            product: impl Fn([&Tile; R], [Y; T]) -> [[Lanes; R]; T],
        ) {
            for (index, tiles) in panel.chunks(R).enumerate() {
                let own: [&Tile; R] = std::array::from_fn(|r| &tiles[r.min(tiles.len() - 1)]);
                for first in (0..place.tokens()).step_by(T) {
                    let last = place.tokens() - 1;
                    let tokens: [Y; T] =
                        std::array::from_fn(|t| y(place.first_token + (first + t).min(last)));
                    for (t, lanes) in product(own, tokens).iter().enumerate() {
                        for (r, lanes) in lanes.iter().take(tiles.len()).enumerate() {
                            place.put(first + t, R * index + r, lanes);
                        }
                    }
                }
            }
        }
    };
}
pub(super) use tiles;
