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

/// A product of eight-bit activations is off by their rounding: about 1/254 of the largest for each
/// of the columns, in random directions.
#[test]
fn products_are_those_of_the_decoded_weights() {
    let formats = [
        Dtype::F32,
        Dtype::F16,
        Dtype::BF16,
        Dtype::Q4_0,
        Dtype::Q5_0,
        Dtype::Q8_0,
        Dtype::Q4_K,
        Dtype::Q5_K,
        Dtype::Q6_K,
    ];
    let activations = numbers(5 * COLUMNS, 1);
    for dtype in formats {
        let against = against(dtype).unwrap();
        let bytes = dtype.bytes(&[COLUMNS as u64]).unwrap().0 as usize;
        let (mut row, mut decoded) = (vec![0; bytes], vec![0.0; COLUMNS]);
        blocks::encode_rows(dtype, &numbers(COLUMNS, 2), COLUMNS, None, &mut row).unwrap();
        blocks::decode_rows(dtype, &row, COLUMNS, &mut decoded).unwrap();
        let input = Input::new(&activations, COLUMNS);
        let tolerance = match against {
            Against::Floats => 1e-4,
            _ => 0.1,
        };
        for (first, count) in [(0, GROUP), (1, GROUP), (4, 1)] {
            let mut out = vec![0.0; count];
            products(dtype, &row, &input, first, &mut out);
            for (index, out) in out.iter().enumerate() {
                let token = input.token(first + index);
                let pairs = decoded.iter().zip(token);
                let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                let off = (f64::from(*out) - exact).abs();
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
        (Dtype::Q5_0, vec![0]),
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
            products(dtype, &row, &input, 0, &mut out);
            let pairs = decoded.iter().zip(&activations);
            let exact: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let off = (f64::from(out[0]) - exact).abs();
            assert!(
                off <= 1e-3 * exact.abs() + 1.0,
                "{dtype:?} {fill}: {} for {exact}",
                out[0]
            );
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
    products(Dtype::Q6_K, &row, &input, 0, &mut fast);
    portable(Dtype::Q6_K, &row, &input, 0, &mut slow);
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
