//! The encoders and decoders compiled for AVX2, with lanes in its registers; the only unsafe code of `quantize`.
//!
//! AVX2 instructions may only run on a processor that has them. The entry points [`encode`] and [`decode`] check
//! that first. [`Avx2`] is private and used only by `with_avx2`, which only [`encode`]
//! calls: wherever code for that type runs or a value of it exists, the processor has AVX2. Every
//! operation below is inlined into a function that was compiled for AVX2.
#![allow(unsafe_code)]

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::dispatch;
use super::formats::Encoded;
use super::lanes::{LANES, Lanes};
use crate::dtype::Dtype;

/// Encodes checked rows, if the processor has AVX2.
pub(super) fn encode(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Option<Encoded> {
    if !std::arch::is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: `with_avx2` requires AVX2 and nothing else, and the processor was just seen to have it.
    Some(unsafe { with_avx2(dtype, values, row, importance, out) })
}

#[target_feature(enable = "avx2")]
fn with_avx2(
    dtype: Dtype,
    values: &[f32],
    row: usize,
    importance: Option<&[f32]>,
    out: &mut [u8],
) -> Encoded {
    dispatch::encode::<Avx2>(dtype, values, row, importance, out)
}

/// Decodes checked rows, if the processor has AVX2; says whether it did.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    let there = std::arch::is_x86_feature_detected!("avx2");
    if there {
        // SAFETY: `decode_with_avx2` requires AVX2 and nothing else, and `there` says that the processor has it.
        unsafe { decode_with_avx2(dtype, bytes, out) };
    }
    there
}

#[target_feature(enable = "avx2")]
fn decode_with_avx2(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    super::decode::decode(dtype, bytes, out);
}

/// [`Lanes::outlined`], compiled for AVX2.
#[target_feature(enable = "avx2")]
#[inline(never)]
fn outlined<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Eight lanes in a register; one exists only where the processor has AVX2.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
struct Avx2(__m256);

macro_rules! operator {
    ($($trait:ident $method:ident $instruction:ident;)*) => {$(
        impl $trait for Avx2 {
            type Output = Avx2;
            #[inline(always)]
            fn $method(self, other: Avx2) -> Avx2 {
                // SAFETY: the instruction takes any bits and needs AVX, part of AVX2, without which `self`
                // would not exist.
                Avx2(unsafe { $instruction(self.0, other.0) })
            }
        }
    )*};
}

operator! { Add add _mm256_add_ps; Sub sub _mm256_sub_ps; Mul mul _mm256_mul_ps; Div div _mm256_div_ps; }

impl Neg for Avx2 {
    type Output = Avx2;
    #[inline(always)]
    fn neg(self) -> Avx2 {
        // SAFETY: both instructions take any bits and need AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_xor_ps(self.0, _mm256_set1_ps(-0.0)) })
    }
}

impl Lanes for Avx2 {
    #[inline(always)]
    fn from_array(values: [f32; LANES]) -> Avx2 {
        // SAFETY: the load reads eight `f32` from anywhere, and the array has eight; AVX2 is there, since code
        // for this type runs in `with_avx2` alone.
        Avx2(unsafe { _mm256_loadu_ps(values.as_ptr()) })
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut values = [0.0; LANES];
        // SAFETY: the store writes eight `f32` to anywhere, and the array has eight; AVX2 is there, since `self`
        // exists.
        unsafe { _mm256_storeu_ps(values.as_mut_ptr(), self.0) };
        values
    }

    #[inline(always)]
    fn splat(value: f32) -> Avx2 {
        // SAFETY: any value may be spread; AVX2 is there, since code for this type runs in `with_avx2` alone.
        Avx2(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    fn max(self, other: Avx2) -> Avx2 {
        // SAFETY: the instruction takes any bits and needs AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn min(self, other: Avx2) -> Avx2 {
        // SAFETY: the instruction takes any bits and needs AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_min_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn abs(self) -> Avx2 {
        // SAFETY: both instructions take any bits and need AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0) })
    }

    #[inline(always)]
    fn sqrt(self) -> Avx2 {
        // SAFETY: the instruction takes any bits and needs AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_sqrt_ps(self.0) })
    }

    #[inline(always)]
    fn select_lt(self, limit: Avx2, yes: Avx2, no: Avx2) -> Avx2 {
        // SAFETY: both instructions take any bits and need AVX, part of AVX2, without which `self` would not exist.
        Avx2(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, limit.0)) })
    }

    #[inline(always)]
    fn outlined<R>(work: impl FnOnce() -> R) -> R {
        // SAFETY: `outlined` requires AVX2 and nothing else, and code for this type runs in `with_avx2` alone.
        unsafe { outlined(work) }
    }

    #[inline(always)]
    fn transpose(rows: [Avx2; LANES]) -> [Avx2; LANES] {
        let [a, b, c, d, e, f, g, h] = rows.map(|row| row.0);
        // SAFETY: shuffles take any bits and need AVX, part of AVX2, without which `rows` would not exist.
        unsafe {
            // Pairs of rows, then fours, then the halves of the registers.
            let (ab, ab2) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let (cd, cd2) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let (ef, ef2) = (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f));
            let (gh, gh2) = (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h));
            let low = [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xee>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ab2, cd2),
                _mm256_shuffle_ps::<0xee>(ab2, cd2),
            ];
            let high = [
                _mm256_shuffle_ps::<0x44>(ef, gh),
                _mm256_shuffle_ps::<0xee>(ef, gh),
                _mm256_shuffle_ps::<0x44>(ef2, gh2),
                _mm256_shuffle_ps::<0xee>(ef2, gh2),
            ];
            [
                Avx2(_mm256_permute2f128_ps::<0x20>(low[0], high[0])),
                Avx2(_mm256_permute2f128_ps::<0x20>(low[1], high[1])),
                Avx2(_mm256_permute2f128_ps::<0x20>(low[2], high[2])),
                Avx2(_mm256_permute2f128_ps::<0x20>(low[3], high[3])),
                Avx2(_mm256_permute2f128_ps::<0x31>(low[0], high[0])),
                Avx2(_mm256_permute2f128_ps::<0x31>(low[1], high[1])),
                Avx2(_mm256_permute2f128_ps::<0x31>(low[2], high[2])),
                Avx2(_mm256_permute2f128_ps::<0x31>(low[3], high[3])),
            ]
        }
    }
}
