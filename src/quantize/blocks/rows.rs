//! Rows in, each cut into the blocks of its format and handed to that format's encoder. Sizes have
//! been checked.

use super::half::{f32_to_bf16, f32_to_f16};
use super::lanes::{LANES, Lanes};
use super::legacy::BLOCK;
use super::{Encoded, iq4, kquants, legacy, legacy_weighted};
use crate::dtype::Dtype;

/// Encodes checked rows. Inlined into functions that differ in the instructions they may use.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn encode<V: Lanes>(
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
        _ if not_finite == 0 => quantize::<V>(dtype, values, row, importance, out),
        _ => {
            let zeroed = |&v: &f32| if v.is_finite() { v } else { 0.0 };
            let values: Vec<f32> = values.iter().map(zeroed).collect();
            quantize::<V>(dtype, &values, row, importance, out);
        }
    }
    encoded
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn plain<const B: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; B]) {
    for (out, &value) in out.as_chunks_mut::<B>().0.iter_mut().zip(values) {
        *out = bytes(value);
    }
}

#[cfg_attr(not(debug_assertions), inline(always))]
fn quantize<V: Lanes>(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    match (dtype, importance) {
        (Dtype::Q8_0, _) => V::apart(
            #[inline(always)]
            || legacy::q8_0(values, out),
        ),
        (Dtype::Q4_0, None) => V::apart(
            #[inline(always)]
            || legacy::q4_0(values, out),
        ),
        (Dtype::Q4_1, None) => V::apart(
            #[inline(always)]
            || legacy::q4_1(values, out),
        ),
        (Dtype::Q5_0, None) => V::apart(
            #[inline(always)]
            || legacy::q5_0(values, out),
        ),
        (Dtype::Q5_1, None) => V::apart(
            #[inline(always)]
            || legacy::q5_1(values, out),
        ),
        (Dtype::Q4_0, Some(i)) => V::apart(
            #[inline(always)]
            || legacy_weighted::q4_0::<V>(values, row, i, out),
        ),
        (Dtype::Q4_1, Some(i)) => V::apart(
            #[inline(always)]
            || legacy_weighted::q4_1::<V>(values, row, i, out),
        ),
        (Dtype::Q5_0, Some(i)) => V::apart(
            #[inline(always)]
            || legacy_weighted::q5_0::<V>(values, row, i, out),
        ),
        (Dtype::Q5_1, Some(i)) => V::apart(
            #[inline(always)]
            || legacy_weighted::q5_1::<V>(values, row, i, out),
        ),
        (Dtype::Q2_K, i) => V::apart(
            #[inline(always)]
            || kquants::q2_k::<V>(values, row, i, out),
        ),
        (Dtype::Q3_K, i) => V::apart(
            #[inline(always)]
            || kquants::q3_k::<V>(values, row, i, out),
        ),
        (Dtype::Q4_K, i) => V::apart(
            #[inline(always)]
            || kquants::q4_k::<V>(values, row, i, out),
        ),
        (Dtype::Q5_K, i) => V::apart(
            #[inline(always)]
            || kquants::q5_k::<V>(values, row, i, out),
        ),
        (Dtype::Q6_K, i) => V::apart(
            #[inline(always)]
            || kquants::q6_k::<V>(values, row, i, out),
        ),
        (Dtype::IQ4_NL, i) => V::apart(
            #[inline(always)]
            || iq4::iq4_nl::<V>(values, row, i, out),
        ),
        (Dtype::IQ4_XS, i) => V::apart(
            #[inline(always)]
            || iq4::iq4_xs::<V>(values, row, i, out),
        ),
        // `check` lets no other format through.
        _ => {}
    }
}

/// The blocks of rows, each with the importance of its columns.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn blocks<'a, const N: usize, const B: usize>(
    values: &'a [f32],
    row: usize,
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; N], Option<&'a [f32]>, &'a mut [u8; B])> {
    let blocks = values
        .as_chunks::<N>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<B>().0);
    blocks.enumerate().map(move |(i, (x, out))| {
        let column = i * N % row.max(1);
        (x, importance.and_then(|i| i.get(column..column + N)), out)
    })
}

/// Blocks of 32 by the eight, as far as a row reaches: values, importance, and the place of blocks
/// of `B` bytes.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn groups<'a, const B: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32], Option<&'a [f32]>, &'a mut [[u8; B]])> {
    const GROUP: usize = BLOCK * LANES;
    let groups = row
        .chunks(GROUP)
        .zip(out.as_chunks_mut::<B>().0.chunks_mut(LANES));
    groups.enumerate().map(move |(g, (x, out))| {
        let columns = g * GROUP..g * GROUP + x.len();
        (x, importance.and_then(|i| i.get(columns)), out)
    })
}

/// Rows of values, each with its place.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn rows<'a>(
    values: &'a [f32],
    row: usize,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32], &'a mut [u8])> {
    let bytes = (out.len() * row).checked_div(values.len()).unwrap_or(0);
    values.chunks(row.max(1)).zip(out.chunks_mut(bytes.max(1)))
}
