//! From a format to its kernel: the same for every processor, compiled for the instructions of each.

/// Tokens whose products with one row are taken at once, so that it is unpacked once for them.
pub(super) const GROUP: usize = 4;

/// Defines `products` (see [`super::products`]; false where there is no kernel) for a processor with
/// `$features`, which `available` tells. In scope: a function for each format, `[f32; T]` from a row and
/// `T` tokens.
macro_rules! products {
    ($features:literal) => {
        pub(super) fn products(rows: Stored<'_>, input: &Input<'_>, out: &mut [f32]) -> bool {
            if !available() {
                return false;
            }
            let tokens = input.tokens();
            let whole = tokens - tokens % GROUP;
            let groups = (0..whole).step_by(GROUP).all(|first| {
                // SAFETY: the processor has the instructions.
                unsafe { group::<GROUP>(rows, input, first, out) }
            });
            groups
                && (whole..tokens).all(|token| {
                    // SAFETY: the processor has the instructions.
                    unsafe { group::<1>(rows, input, token, out) }
                })
        }

        /// The products of all rows with the `T` tokens from `first` on.
        #[target_feature(enable = $features)]
        fn group<const T: usize>(
            rows: Stored<'_>,
            input: &Input<'_>,
            first: usize,
            out: &mut [f32],
        ) -> bool {
            let tokens: [usize; T] = std::array::from_fn(|index| first + index);
            let by256 = || tokens.map(|token| input.blocks256(token));
            let by32 = || tokens.map(|token| input.blocks32(token));
            let floats = || tokens.map(|token| input.token(token));
            let place = (first, input.tokens());
            match rows.dtype {
                Dtype::Q2_K => each(rows, place, by256(), out, |row, y| q2_k::<T>(row, y)),
                Dtype::Q3_K => each(rows, place, by256(), out, |row, y| q3_k::<T>(row, y)),
                Dtype::Q4_K => each(rows, place, by256(), out, |row, y| q4_k::<T>(row, y)),
                Dtype::Q5_K => each(rows, place, by256(), out, |row, y| q5_k::<T>(row, y)),
                Dtype::Q6_K => each(rows, place, by256(), out, |row, y| q6_k::<T>(row, y)),
                Dtype::IQ4_XS => each(rows, place, by256(), out, |row, y| iq4_xs::<T>(row, y)),
                Dtype::Q4_0 => each(rows, place, by32(), out, |row, y| q4_0::<T>(row, y)),
                Dtype::Q4_1 => each(rows, place, by32(), out, |row, y| q4_1::<T>(row, y)),
                Dtype::Q5_0 => each(rows, place, by32(), out, |row, y| q5_0::<T>(row, y)),
                Dtype::Q5_1 => each(rows, place, by32(), out, |row, y| q5_1::<T>(row, y)),
                Dtype::Q8_0 => each(rows, place, by32(), out, |row, y| q8_0::<T>(row, y)),
                Dtype::IQ4_NL => each(rows, place, by32(), out, |row, y| iq4_nl::<T>(row, y)),
                Dtype::F32 => each(rows, place, floats(), out, |row, y| f32s::<T>(row, y)),
                Dtype::F16 => each(rows, place, floats(), out, |row, y| f16s::<T>(row, y)),
                Dtype::BF16 => each(rows, place, floats(), out, |row, y| bf16s::<T>(row, y)),
                _ => return false,
            }
            true
        }

        /// `out[row][first..first + T] = product(row, y)`, where `out` has `tokens` a row.
        #[inline]
        #[target_feature(enable = $features)]
        fn each<Y: Copy, const T: usize>(
            rows: Stored<'_>,
            (first, tokens): (usize, usize),
            y: Y,
            out: &mut [f32],
            product: impl Fn(&[u8], Y) -> [f32; T],
        ) {
            for (row, out) in rows.rows().zip(out.chunks_exact_mut(tokens)) {
                if let Some(out) = out.get_mut(first..first + T) {
                    out.copy_from_slice(&product(row, y));
                }
            }
        }
    };
}
pub(super) use products;
