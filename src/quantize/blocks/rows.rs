//! Rows in, each cut into the blocks of its format and handed to that format's encoder. Sizes have
//! been checked.

use super::half::{f32_to_bf16, f32_to_f16};
use super::lanes::LANES;
use super::legacy::BLOCK;
use super::{Encoded, kquants, legacy, legacy_weighted};
use crate::dtype::Dtype;

/// Encodes checked rows. Inlined into functions that differ in the instructions they may use.
#[inline(always)]
pub(super) fn encode(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Encoded {
    let not_finite = values.iter().map(|v| u64::from(!v.is_finite())).sum();
    let encoded = Encoded { not_finite };
    match dtype {
        Dtype::F32 => plain(values, out, f32::to_le_bytes),
        Dtype::F16 => plain(values, out, |v| f32_to_f16(v).to_le_bytes()),
        Dtype::BF16 => plain(values, out, |v| f32_to_bf16(v).to_le_bytes()),
        _ if not_finite == 0 => quantize(dtype, values, row, importance, out),
        _ => {
            let zeroed = |&v: &f32| if v.is_finite() { v } else { 0.0 };
            let values: Vec<f32> = values.iter().map(zeroed).collect();
            quantize(dtype, &values, row, importance, out);
        }
    }
    encoded
}

#[inline(always)]
fn plain<const B: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; B]) {
    for (out, &value) in out.as_chunks_mut::<B>().0.iter_mut().zip(values) {
        *out = bytes(value);
    }
}

#[inline(always)]
fn quantize(dtype: Dtype, values: &[f32], row: usize, importance: Option<&[f32]>, out: &mut [u8]) {
    match (dtype, importance) {
        (Dtype::Q8_0, _) => alone(values, out, legacy::q8_0),
        (Dtype::Q4_0, None) => alone(values, out, legacy::q4_0),
        (Dtype::Q4_1, None) => alone(values, out, legacy::q4_1),
        (Dtype::Q5_0, None) => alone(values, out, legacy::q5_0),
        (Dtype::Q5_1, None) => alone(values, out, legacy::q5_1),
        (Dtype::Q4_0, Some(i)) => {
            weighted::<18>(values, row, i, out, legacy_weighted::q4_0, legacy::q4_0)
        }
        (Dtype::Q4_1, Some(i)) => {
            weighted::<20>(values, row, i, out, legacy_weighted::q4_1, legacy::q4_1)
        }
        (Dtype::Q5_0, Some(i)) => {
            weighted::<22>(values, row, i, out, legacy_weighted::q5_0, legacy::q5_0)
        }
        (Dtype::Q5_1, Some(i)) => {
            weighted::<24>(values, row, i, out, legacy_weighted::q5_1, legacy::q5_1)
        }
        (Dtype::IQ4_NL, i) => groups(values, row, i, out, 18, kquants::iq4_nl),
        (Dtype::Q2_K, i) => searched(values, row, i, out, kquants::q2_k),
        (Dtype::Q3_K, i) => searched(values, row, i, out, kquants::q3_k),
        (Dtype::Q4_K, i) => searched(values, row, i, out, kquants::q4_k),
        (Dtype::Q5_K, i) => searched(values, row, i, out, kquants::q5_k),
        (Dtype::Q6_K, i) => searched(values, row, i, out, kquants::q6_k),
        (Dtype::IQ4_XS, i) => searched(values, row, i, out, kquants::iq4_xs),
        // `check` lets no other format through.
        _ => {}
    }
}

/// Blocks that depend on nothing but their own values.
#[inline(always)]
fn alone<const N: usize, const B: usize>(
    values: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32; N], &mut [u8; B]),
) {
    let blocks = values.as_chunks::<N>().0;
    for (x, out) in blocks.iter().zip(out.as_chunks_mut::<B>().0) {
        encode(x, out);
    }
}

/// Blocks that depend on their values and the importance of their columns.
#[inline(always)]
fn searched<const N: usize, const B: usize>(
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
    encode: impl Fn(&[f32; N], Option<&[f32]>, &mut [u8; B]),
) {
    let blocks = values.as_chunks::<N>().0;
    for (i, (x, out)) in blocks.iter().zip(out.as_chunks_mut::<B>().0).enumerate() {
        let column = i * N % row.max(1);
        encode(x, importance.and_then(|i| i.get(column..column + N)), out);
    }
}

/// Blocks of 32 by the eight, as far as a row reaches; `bytes` in a block.
#[inline(always)]
fn groups(
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
    bytes: usize,
    encode: impl Fn(&[f32], Option<&[f32]>, &mut [u8]),
) {
    const GROUP: usize = BLOCK * LANES;
    let row_bytes = row / BLOCK * bytes;
    for (values, out) in values
        .chunks(row.max(1))
        .zip(out.chunks_mut(row_bytes.max(1)))
    {
        for (g, (x, out)) in values
            .chunks(GROUP)
            .zip(out.chunks_mut(LANES * bytes))
            .enumerate()
        {
            let column = g * GROUP;
            encode(
                x,
                importance.and_then(|i| i.get(column..column + x.len())),
                out,
            );
        }
    }
}

/// The same, for ggml's search with the mean square of the whole row. Where that is beyond `f32`
/// the search has nothing to compare, and importance is left aside.
#[inline(always)]
fn weighted<const B: usize>(
    values: &[f32],
    row: usize,
    importance: &[f32],
    out: &mut [u8],
    encode: impl Fn(&[f32], &[f32], f32, &mut [u8]),
    plain: impl Fn(&[f32; BLOCK], &mut [u8; B]),
) {
    let row_bytes = row / BLOCK * B;
    for (values, out) in values
        .chunks(row.max(1))
        .zip(out.chunks_mut(row_bytes.max(1)))
    {
        let mean_square = legacy_weighted::mean_square(values);
        if mean_square.is_finite() {
            groups(
                values,
                row,
                Some(importance),
                out,
                B,
                |x, importance, out| {
                    encode(x, importance.unwrap_or_default(), mean_square, out);
                },
            );
        } else {
            alone(values, out, &plain);
        }
    }
}
