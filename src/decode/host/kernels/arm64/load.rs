//! Reading memory into registers, and what has no intrinsic in every compiler that builds this.
//!
//! Safety: memory is read from references to arrays of exactly the size that is read; the assembly
//! computes from registers into registers.
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use half::f16;

use super::super::blocks::at;

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load(bytes: &[u8; 16]) -> uint8x16_t {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_signed(bytes: &[i8; 16]) -> int8x16_t {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { vld1q_s8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_words(words: &[i16; 8]) -> int16x8_t {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { vld1q_s16(words.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
pub(super) fn load_floats(floats: &[f32; 4]) -> float32x4_t {
    // SAFETY: 16 bytes are read from a reference to 16.
    unsafe { vld1q_f32(floats.as_ptr()) }
}

/// `sum` and in each lane the four products of its bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn dot4(sum: int32x4_t, x: int8x16_t, y: int8x16_t) -> int32x4_t {
    let mut out = sum;
    // SAFETY: reads and writes the registers that are named; the processor has `dotprod`.
    unsafe {
        asm!(
            "sdot {out:v}.4s, {x:v}.16b, {y:v}.16b",
            out = inout(vreg) out,
            x = in(vreg) x,
            y = in(vreg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    out
}

/// Four halves as floats.
#[inline]
#[target_feature(enable = "neon")]
fn widen(halves: uint16x4_t) -> float32x4_t {
    let out: float32x4_t;
    // SAFETY: reads and writes the registers that are named, with an instruction of every arm64.
    unsafe {
        asm!(
            "fcvtl {out:v}.4s, {halves:v}.4h",
            out = lateout(vreg) out,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    out
}

/// Eight halves as floats.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn eight_halves(bytes: &[u8; 16]) -> [float32x4_t; 2] {
    let halves = vreinterpretq_u16_u8(load(bytes));
    [widen(vget_low_u16(halves)), widen(vget_high_u16(halves))]
}

/// The half at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn half(bytes: &[u8], at: usize) -> f32 {
    let bits = u16::from_le_bytes(*self::at(bytes, at));
    vgetq_lane_f32::<0>(widen(vdup_n_u16(bits)))
}

/// See [`super::widen`].
#[target_feature(enable = "neon")]
pub(super) fn widen_all(halves: &[f16], out: &mut [f32]) {
    let (fours, rest) = halves.as_chunks::<4>();
    let (wide, wide_rest) = out.as_chunks_mut::<4>();
    for (halves, out) in fours.iter().zip(wide) {
        // SAFETY: 8 bytes are read from a reference to 4 halves, which are 16 bits each.
        let halves = unsafe { vld1_u16(halves.as_ptr().cast()) };
        // SAFETY: 16 bytes are written to a reference to 4 floats.
        unsafe { vst1q_f32(out.as_mut_ptr(), widen(halves)) };
    }
    for (half, out) in rest.iter().zip(wide_rest) {
        *out = half.to_f32();
    }
}
