//! 16-bit weights that were `Q4_0` or `Q4_1` once come back; others are encoded as ggml encodes them.

use orinplan::dtype::Dtype;
use orinplan::quantize::blocks::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};

use super::streams::{bell, heavy, importance};
use super::{decode, encode};

fn in_half(values: &[f32]) -> Vec<f32> {
    values.iter().map(|&v| f16_to_f32(f32_to_f16(v))).collect()
}

fn in_bfloat(values: &[f32]) -> Vec<f32> {
    values
        .iter()
        .map(|&v| bf16_to_f32(f32_to_bf16(v)))
        .collect()
}

const ROW: usize = 1024;

#[test]
fn blocks_rounded_to_16_bits_come_back() {
    let w = importance(61, ROW);
    for dtype in [Dtype::Q4_0, Dtype::Q4_1] {
        for importance in [None, Some(&w[..])] {
            for x in [bell(60, 8 * ROW), heavy(60, 8 * ROW)] {
                let blocks = encode(dtype, &x, ROW, importance);
                let decoded = decode(dtype, &blocks, x.len(), ROW);
                let (half, bfloat) = (in_half(&decoded), in_bfloat(&decoded));
                let name = format!("{} {}", dtype.name(), importance.is_some());
                // Only ggml's blocks without importance say how they were made.
                let again = encode(dtype, &half, ROW, None);
                if importance.is_none() {
                    assert!(again == blocks, "{name}: other blocks");
                }
                if importance.is_none() || dtype == Dtype::Q4_0 {
                    let back = |x: &[f32], bytes: &[u8]| decode(dtype, bytes, x.len(), ROW);
                    assert!(in_half(&back(&half, &again)) == half, "{name} in half");
                    let again = encode(dtype, &bfloat, ROW, None);
                    assert!(
                        in_bfloat(&back(&bfloat, &again)) == bfloat,
                        "{name} in bfloat"
                    );
                }
            }
        }
    }
}

/// Of no row: the bytes are those of values that have no 16-bit form, but for what rounding changed.
#[test]
fn weights_without_a_grid_do_not_come_back() {
    for dtype in [Dtype::Q4_0, Dtype::Q4_1] {
        for x in [in_half(&bell(62, 8 * ROW)), in_bfloat(&bell(62, 8 * ROW))] {
            let back = decode(dtype, &encode(dtype, &x, ROW, None), x.len(), ROW);
            for (x, back) in x.chunks(32).zip(back.chunks(32)) {
                assert!(
                    in_half(back) != x && in_bfloat(back) != x,
                    "{}",
                    dtype.name()
                );
            }
        }
    }
}
