//! The kernels against products of decoded weights in double precision, on what the encoders make.

use super::*;
use crate::quantize::blocks;

/// Numbers in (-1, 1) that look random.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

const COLUMNS: usize = 768;

fn stored(dtype: Dtype, bytes: &[u8]) -> Stored<'_> {
    let width = dtype.bytes(&[COLUMNS as u64]).unwrap().0 as usize;
    Stored {
        dtype,
        bytes,
        width,
    }
}

fn exact(x: &[f32], y: &[f32]) -> f64 {
    let pairs = x.iter().zip(y);
    pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

pub(super) type Fill = fn(&mut Tile, Stored<'_>, usize);
pub(super) type Multiply = fn(&[Tile], TileFormat, &Input<'_>, &mut OutputBlock<'_>);

/// How tiles are multiplied here, how processors with less do it, and the reference.
fn ways() -> Vec<(Fill, Multiply)> {
    let reference: (Fill, Multiply) = (
        |tile, rows, columns| tile.fill(rows, columns, 0),
        portable::multiply,
    );
    #[cfg(target_arch = "x86_64")]
    let less = native::AVX2.filter(|_| native::available());
    #[cfg(not(target_arch = "x86_64"))]
    let less = None;
    [(fill as Fill, multiply as Multiply), reference]
        .into_iter()
        .chain(less)
        .collect()
}

/// The products of `rows` with all tokens, `[tokens, rows]`, by way of tiles.
fn tiled_by((fill, multiply): (Fill, Multiply), rows: Stored<'_>, input: &Input<'_>) -> Vec<f32> {
    let format = tile_format(rows.dtype).unwrap();
    let count = rows.bytes.len() / rows.width;
    let tiles = (0..count).step_by(LANES).map(|first| {
        let mut tile = Tile::default();
        fill(&mut tile, rows.from(first), input.columns);
        tile
    });
    let panel: Vec<Tile> = tiles.collect();
    let mut out = vec![0.0; input.tokens() * count];
    let mut place = OutputBlock {
        first_token: 0,
        out: &mut out,
        rows: count,
        first_row: 0,
    };
    multiply(&panel, format, input, &mut place);
    out
}

/// A product of eight-bit activations is off by their rounding: about 1/254 of the largest for each
/// of the columns, in random directions.
#[test]
fn products_are_those_of_the_decoded_weights() {
    let activations = numbers(5 * COLUMNS, 1);
    for &dtype in blocks::FORMATS {
        let format = activation_format(dtype).unwrap();
        let bytes = dtype.bytes(&[COLUMNS as u64]).unwrap().0 as usize;
        let (mut row, mut decoded) = (vec![0; bytes], vec![0.0; COLUMNS]);
        blocks::encode_rows(dtype, &numbers(COLUMNS, 2), COLUMNS, None, &mut row).unwrap();
        blocks::decode_rows(dtype, &row, COLUMNS, &mut decoded).unwrap();
        let input = Input::new(&activations, COLUMNS);
        let tolerance = match format {
            ActivationFormat::Floats => 1e-4,
            _ => 0.1,
        };
        let twice = [row.as_slice(), &row].concat();
        for token in 0..input.tokens() {
            let exact = exact(&decoded, input.token(token));
            let mut out = [0.0; 2];
            products(stored(dtype, &twice), &input, token, &mut out);
            for out in out {
                let off = (f64::from(out) - exact).abs();
                assert!(off < tolerance, "{dtype:?}: {out} for {exact}");
            }
        }
    }
}

/// Extreme bytes must not overflow the 16-bit sums on the way.
#[test]
fn saturated_blocks_keep_their_sums() {
    let activations: Vec<f32> = (0..COLUMNS)
        .map(|i| if i % 3 == 0 { -1.0 } else { 1.0 })
        .collect();
    for (dtype, scale_at) in [
        (Dtype::Q4_0, vec![0]),
        (Dtype::Q4_1, vec![0, 2]),
        (Dtype::Q5_0, vec![0]),
        (Dtype::Q5_1, vec![0, 2]),
        (Dtype::IQ4_NL, vec![0]),
        (Dtype::IQ4_XS, vec![0]),
        (Dtype::Q2_K, vec![80, 82]),
        (Dtype::Q3_K, vec![108]),
        (Dtype::Q8_0, vec![0]),
        (Dtype::Q4_K, vec![0, 2]),
        (Dtype::Q5_K, vec![0, 2]),
        (Dtype::Q6_K, vec![208]),
    ] {
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let bytes = dtype.bytes(&[COLUMNS as u64]).unwrap().0 as usize;
            let mut row = vec![fill; bytes];
            // A half of one, so that the filling does not make infinities.
            for block in row.chunks_exact_mut(dtype.format().block_bytes as usize) {
                for &at in &scale_at {
                    block[at..at + 2].copy_from_slice(&[0x00, 0x3c]);
                }
            }
            let mut decoded = vec![0.0; COLUMNS];
            blocks::decode_rows(dtype, &row, COLUMNS, &mut decoded).unwrap();
            let input = Input::new(&activations, COLUMNS);
            let mut out = [0.0];
            products(stored(dtype, &row), &input, 0, &mut out);
            let tiled = ways().into_iter();
            let tiled = tiled.map(|way| tiled_by(way, stored(dtype, &row), &input)[0]);
            let exact = exact(&decoded, &activations);
            for out in tiled.chain([out[0]]) {
                let off = (f64::from(out) - exact).abs();
                assert!(
                    off <= 1e-3 * exact.abs() + 1.0,
                    "{dtype:?} {fill}: {out} for {exact}"
                );
            }
        }
    }
}

/// Numbers of rows and tokens that no group divides; both ways round activations alike, so that only sums differ.
#[test]
fn tiles_give_the_products_of_rows() {
    for &dtype in blocks::FORMATS {
        for (rows, tokens) in [(1, 1), (5, 3), (16, 13), (45, 25)] {
            let weights = numbers(rows * COLUMNS, 12);
            let mut bytes = vec![0; rows * dtype.bytes(&[COLUMNS as u64]).unwrap().0 as usize];
            blocks::encode_rows(dtype, &weights, COLUMNS, None, &mut bytes).unwrap();
            let activations = numbers(tokens * COLUMNS, 13);
            let input = Input::new(&activations, COLUMNS);
            for tiled in ways()
                .into_iter()
                .map(|way| tiled_by(way, stored(dtype, &bytes), &input))
            {
                for (token, tiled) in tiled.chunks_exact(rows).enumerate() {
                    let mut apart = vec![0.0; rows];
                    products(stored(dtype, &bytes), &input, token, &mut apart);
                    for (tiled, apart) in tiled.iter().zip(apart) {
                        let off = (tiled - apart).abs();
                        assert!(off < 1e-4, "{dtype:?}, {rows} rows: {tiled} for {apart}");
                    }
                }
            }
        }
    }
}

#[test]
fn the_portable_product_is_the_same() {
    let activations = numbers(COLUMNS, 3);
    let mut row = vec![0; Dtype::Q6_K.bytes(&[COLUMNS as u64]).unwrap().0 as usize];
    blocks::encode_rows(Dtype::Q6_K, &numbers(COLUMNS, 4), COLUMNS, None, &mut row).unwrap();
    let input = Input::new(&activations, COLUMNS);
    let (mut fast, mut slow) = ([0.0], [0.0]);
    products(stored(Dtype::Q6_K, &row), &input, 0, &mut fast);
    portable::products(stored(Dtype::Q6_K, &row), &input, 0, &mut slow);
    assert!((fast[0] - slow[0]).abs() < 0.1, "{fast:?} {slow:?}");
}

#[test]
fn exponentials_are_those_of_the_library() {
    let mut x: Vec<f32> = (0..100).map(|i| -0.9 * i as f32).collect();
    let exact: Vec<f64> = x.iter().map(|&x| f64::from(x).exp()).collect();
    let sum = exponentials(&mut x, 0.0);
    assert!((f64::from(sum) - exact.iter().sum::<f64>()).abs() < 1e-6);
    for (x, exact) in x.iter().zip(exact) {
        assert!(
            (f64::from(*x) - exact).abs() <= 4e-7 * exact + 1e-37,
            "{x} {exact}"
        );
    }
}

/// Non-linearities as they are defined, in double precision, where they bend and far out.
#[test]
fn activations_are_those_of_their_definitions() {
    let x: Vec<f32> = (-1203..=1203).map(|i| i as f32 * 0.083).collect();
    let definition = |activation: Activation, x: f64| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::ReluSquared => x.max(0.0).powi(2),
        Activation::ClampedSwiglu => {
            let gate = x.min(7.0);
            gate / (1.0 + (-1.702 * gate).exp())
        }
        Activation::Xielu(_) if x > 0.0 => 0.75 * x * x + 0.5 * x,
        Activation::Xielu(_) => 1.25 * (x.min(f64::from(-1e-6f32)).exp_m1() - x) + 0.5 * x,
    };
    for activation in [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::ReluSquared,
        Activation::ClampedSwiglu,
        Activation::Xielu(Xielu {
            positive: 0.75,
            negative: 1.25,
            slope: 0.5,
            start: -1e-6,
        }),
    ] {
        let mut out = x.clone();
        activate(&mut out, activation);
        for (x, out) in x.iter().zip(out) {
            let exact = definition(activation, f64::from(*x));
            let off = (f64::from(out) - exact).abs();
            assert!(
                off <= 1e-6 * exact.abs() + 1e-8,
                "{activation:?} of {x}: {out} for {exact}"
            );
        }
    }
}

#[test]
fn magnitudes_are_found_at_any_place_and_of_either_sign() {
    for at in [0, 7, 15, 16, 31, 32, 44] {
        for sign in [1.0, -1.0] {
            let mut values = numbers(45, 11);
            values[at] = sign * 1.5;
            values[(at + 1) % 45] = f32::NAN;
            assert_eq!(largest_magnitude(&values), 1.5, "{at}");
        }
    }
}

/// Counts that four rows at a time and whole registers do not divide.
#[test]
fn rows_of_floats_are_multiplied_and_added() {
    let (width, count) = (45, 7);
    let (x, rows) = (numbers(width, 5), numbers(width * count, 6));
    let mut out = vec![0.0; count];
    dots(&x, &rows, 0.5, &mut out);
    for (out, row) in out.iter().zip(rows.chunks_exact(width)) {
        assert!((f64::from(*out) - exact(&x, row) * 0.5).abs() < 1e-5);
    }
    let factors = numbers(count, 7);
    let mut sum = x.clone();
    add_rows(&mut sum, &factors, &rows);
    for (column, sum) in sum.iter().enumerate() {
        let values: Vec<f32> = rows.iter().skip(column).step_by(width).copied().collect();
        let expected = f64::from(x[column]) + exact(&values, &factors);
        assert!((f64::from(*sum) - expected).abs() < 1e-5);
    }
}

#[test]
fn halves_become_the_floats_they_are() {
    let halves: Vec<f16> = numbers(19, 8).into_iter().map(f16::from_f32).collect();
    let mut out = vec![0.0; 19];
    widen(&halves, &mut out);
    assert!(
        halves
            .iter()
            .zip(out)
            .all(|(half, out)| half.to_f32() == out)
    );
}

/// Rows that end within a register.
#[test]
fn rows_of_any_length_are_multiplied() {
    for columns in [1, 7, 8, 33, 45, 64, 75] {
        let (weights, x) = (numbers(columns, 9), numbers(columns, 10));
        let halves = weights.iter().map(|x| f16::from_f32(*x));
        let decoded: Vec<f32> = halves.clone().map(f16::to_f32).collect();
        let bytes: Vec<u8> = halves.flat_map(|half| half.to_le_bytes()).collect();
        let rows = Stored {
            dtype: Dtype::F16,
            bytes: &bytes,
            width: bytes.len(),
        };
        let mut out = [0.0];
        products(rows, &Input::new(&x, columns), 0, &mut out);
        assert!((f64::from(out[0]) - exact(&decoded, &x)).abs() < 1e-5);
    }
}
