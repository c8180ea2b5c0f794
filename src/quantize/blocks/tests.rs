//! Tests of private code: lanes in arrays and lanes in registers give the same bytes.

use super::lanes::{Eight, LANES, Lanes, transpose};
use super::{FORMATS, decode_rows, dispatch, encode_rows};
use crate::dtype::Dtype;
use proptest::prelude::*;

/// Values of any size and sign, most of them of the sizes that weights have.
fn values(n: usize) -> impl Strategy<Value = Vec<f32>> {
    let weight = (-1.0f32..1.0, -8..2i32).prop_map(|(v, e)| v * 2f32.powi(e));
    proptest::collection::vec(
        prop_oneof![20 => weight, 1 => any::<f32>(), 1 => Just(0.0)],
        n,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_path_writes_the_same_bytes(x in values(512), w in values(512), with in any::<bool>()) {
        let w: Vec<f32> =
            w.iter().map(|v| if v.is_finite() { v.abs() } else { 1.0 }).collect();
        let w = with.then_some(&w[..]);
        for &dtype in FORMATS {
            let bytes = dtype.bytes(&[512]).map_or(0, |b| b.0 as usize);
            let (mut plain, mut fast) = (vec![0; bytes], vec![0xff; bytes]);
            dispatch::encode::<Eight>(dtype, &x, 512, w, &mut plain);
            prop_assert!(encode_rows(dtype, &x, 512, w, &mut fast).is_ok());
            prop_assert_eq!(plain, fast, "{}", dtype.name());
        }
    }

    #[test]
    fn larger_values_of_a_sub_block_decode_no_smaller(x in values(256), w in values(256)) {
        let w: Vec<f32> = w.iter().map(|v| v.abs().min(1e3)).map(|v| if v >= 0.0 { v } else { 0.0 }).collect();
        let x: Vec<f32> = x.iter().map(|v| if v.is_finite() { *v } else { 0.0 }).collect();
        // The vectors of a codebook are not every combination of levels.
        let codebook = |d: &Dtype| matches!(
            d, Dtype::IQ2_XXS | Dtype::IQ2_XS | Dtype::IQ2_S | Dtype::IQ3_XXS | Dtype::IQ3_S
        );
        for &dtype in FORMATS.iter().filter(|d| d.is_quantized() && !codebook(d)) {
            for w in [None, Some(&w[..])] {
                let mut bytes = vec![0; dtype.bytes(&[256]).map_or(0, |b| b.0 as usize)];
                prop_assert!(encode_rows(dtype, &x, 256, w, &mut bytes).is_ok());
                let mut y = vec![0.0; 256];
                prop_assert!(decode_rows(dtype, &bytes, 256, &mut y).is_ok());
                for (x, y) in x.chunks(16).zip(y.chunks(16)) {
                    let mut pairs: Vec<(f32, f32)> = x.iter().copied().zip(y.iter().copied()).collect();
                    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
                    for pair in pairs.windows(2) {
                        prop_assert!(pair[0].1 <= pair[1].1 || pair[0].0 == pair[1].0,
                            "{}: {:?}", dtype.name(), pair);
                    }
                }
            }
        }
    }
}

#[test]
fn sub_blocks_become_lanes() {
    let values: Vec<f32> = (0..100).map(|v| v as f32).collect();
    let lanes: [Eight; 16] = transpose(&values[..96]);
    for (k, vector) in lanes.iter().enumerate() {
        for lane in 0..LANES {
            let expected = if lane < 6 {
                (lane * 16 + k) as f32
            } else {
                0.0
            };
            assert_eq!(
                vector.to_array()[lane],
                expected,
                "value {k} of sub-block {lane}"
            );
        }
    }
}

#[test]
fn bytes_of_integers_are_two_s_complement() {
    let lanes = Eight::from_array([0.0, 1.0, -1.0, 127.0, -128.0, 63.0, -32.0, 5.0]);
    assert_eq!(lanes.to_bytes(), [0, 1, 255, 127, 128, 63, 224, 5]);
}
