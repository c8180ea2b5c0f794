//! Calls the encoder of a format for checked rows.

use super::formats::Encoded;
use super::half::{f32_to_bf16, f32_to_f16};
use super::lanes::Lanes;
use super::{codebook, float4, grid, iq4, kquants, legacy, legacy_weighted, ternary};
use crate::dtype::Dtype;

/// Encodes checked rows. Inlined into functions that are compiled for different instructions.
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
        _ if not_finite == 0 => {
            quantize::<V>(dtype, values, row, importance, out);
            match dtype {
                Dtype::Q4_0 => grid::q4_0(values, row, out),
                Dtype::Q4_1 => grid::q4_1(values, row, out),
                _ => {}
            }
        }
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
        (Dtype::Q8_0, _) => V::outlined(
            #[inline(always)]
            || legacy::q8_0(values, out),
        ),
        (Dtype::Q4_0, None) => V::outlined(
            #[inline(always)]
            || legacy::q4_0(values, out),
        ),
        (Dtype::Q4_1, None) => V::outlined(
            #[inline(always)]
            || legacy::q4_1(values, out),
        ),
        (Dtype::Q5_0, None) => V::outlined(
            #[inline(always)]
            || legacy::q5_0(values, out),
        ),
        (Dtype::Q5_1, None) => V::outlined(
            #[inline(always)]
            || legacy::q5_1(values, out),
        ),
        (Dtype::Q4_0, Some(i)) => V::outlined(
            #[inline(always)]
            || legacy_weighted::q4_0::<V>(values, row, i, out),
        ),
        (Dtype::Q4_1, Some(i)) => V::outlined(
            #[inline(always)]
            || legacy_weighted::q4_1::<V>(values, row, i, out),
        ),
        (Dtype::Q5_0, Some(i)) => V::outlined(
            #[inline(always)]
            || legacy_weighted::q5_0::<V>(values, row, i, out),
        ),
        (Dtype::Q5_1, Some(i)) => V::outlined(
            #[inline(always)]
            || legacy_weighted::q5_1::<V>(values, row, i, out),
        ),
        (Dtype::Q2_K, i) => V::outlined(
            #[inline(always)]
            || kquants::q2_k::<V>(values, row, i, out),
        ),
        (Dtype::Q3_K, i) => V::outlined(
            #[inline(always)]
            || kquants::q3_k::<V>(values, row, i, out),
        ),
        (Dtype::Q4_K, i) => V::outlined(
            #[inline(always)]
            || kquants::q4_k::<V>(values, row, i, out),
        ),
        (Dtype::Q5_K, i) => V::outlined(
            #[inline(always)]
            || kquants::q5_k::<V>(values, row, i, out),
        ),
        (Dtype::Q6_K, i) => V::outlined(
            #[inline(always)]
            || kquants::q6_k::<V>(values, row, i, out),
        ),
        (Dtype::IQ4_NL, i) => V::outlined(
            #[inline(always)]
            || iq4::iq4_nl::<V>(values, row, i, out),
        ),
        (Dtype::IQ4_XS, i) => V::outlined(
            #[inline(always)]
            || iq4::iq4_xs::<V>(values, row, i, out),
        ),
        (Dtype::IQ2_XXS, i) => V::outlined(
            #[inline(always)]
            || codebook::iq2_xxs::<V>(values, row, i, out),
        ),
        (Dtype::IQ2_XS, i) => V::outlined(
            #[inline(always)]
            || codebook::iq2_xs::<V>(values, row, i, out),
        ),
        (Dtype::IQ2_S, i) => V::outlined(
            #[inline(always)]
            || codebook::iq2_s::<V>(values, row, i, out),
        ),
        (Dtype::IQ3_XXS, i) => V::outlined(
            #[inline(always)]
            || codebook::iq3_xxs::<V>(values, row, i, out),
        ),
        (Dtype::IQ3_S, i) => V::outlined(
            #[inline(always)]
            || codebook::iq3_s::<V>(values, row, i, out),
        ),
        (Dtype::MXFP4, i) => V::outlined(
            #[inline(always)]
            || float4::mxfp4::<V>(values, row, i, out),
        ),
        (Dtype::TQ1_0, i) => V::outlined(
            #[inline(always)]
            || ternary::tq1_0::<V>(values, row, i, out),
        ),
        (Dtype::TQ2_0, i) => V::outlined(
            #[inline(always)]
            || ternary::tq2_0::<V>(values, row, i, out),
        ),
        // `check` lets no other format through.
        _ => {}
    }
}
