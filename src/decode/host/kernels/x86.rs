//! The kernels with AVX2, FMA and F16C; with `load` the only unsafe code of the decoder.
//!
//! Safety: every function that is compiled for these instructions is called from `products` and the
//! functions at the top alone, which ask the processor first ([`available`]).
#![allow(unsafe_code)]

mod avx512;
mod load;
mod rows;
mod tiles;

use std::arch::x86_64::*;

use half::f16;

use load::{load_floats, total};
use rows::*;

use super::blocks::at;
use super::dispatch::{self, OutputBlock};
use super::tile::{Tile, TileFormat};
use super::{Input, Stored};
use crate::dtype::Dtype;
use crate::model::Activation;

/// Whether the processor has what the kernels need.
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
}

dispatch::products!("avx2,fma,f16c");

/// Whether the processor has what the products of tiles with 512 bits need.
fn avx512() -> bool {
    available()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// See [`super::instructions`].
pub(super) fn instructions() -> Option<&'static str> {
    match (avx512(), available()) {
        (true, _) => Some("AVX-512 VNNI"),
        (_, true) => Some("AVX2"),
        _ => None,
    }
}

/// See [`super::fill`].
pub(super) fn fill(tile: &mut Tile, rows: Stored<'_>, columns: usize) -> bool {
    if avx512() {
        // SAFETY: the processor has the instructions.
        unsafe { avx512::fill(tile, rows, columns, avx512::FLIP) };
    } else if available() {
        // SAFETY: the processor has the instructions.
        unsafe { tiles::fill(tile, rows, columns, 0) };
    } else {
        return false;
    }
    true
}

/// See [`super::multiply`].
pub(super) fn multiply(
    panel: &[Tile],
    format: TileFormat,
    input: &Input<'_>,
    place: &mut OutputBlock<'_>,
) -> bool {
    if avx512() {
        // SAFETY: the processor has the instructions.
        unsafe { avx512::tiles(panel, format, input, place) };
    } else if available() {
        // SAFETY: the processor has the instructions.
        unsafe { tiles::tiles(panel, format, input, place) };
    } else {
        return false;
    }
    true
}

/// The two with AVX2, where the processor would do better: for the tests of what others do.
#[cfg(test)]
pub(super) const AVX2: Option<(super::tests::Fill, super::tests::Multiply)> = Some((
    |tile, rows, columns| {
        assert!(available());
        // SAFETY: the processor has the instructions.
        unsafe { tiles::fill(tile, rows, columns, 0) };
    },
    |panel, format, input, place| {
        assert!(available());
        // SAFETY: the processor has the instructions.
        unsafe { tiles::tiles(panel, format, input, place) };
    },
));

/// See [`super::dots`].
pub(super) fn dots(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { dots_avx2(x, rows, factor, out) };
        return true;
    }
    false
}

/// See [`super::add_rows`].
pub(super) fn add_rows(out: &mut [f32], factors: &[f32], rows: &[f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { add_rows_avx2(out, factors, rows) };
        return true;
    }
    false
}

/// See [`super::widen`].
pub(super) fn widen(halves: &[f16], out: &mut [f32]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { widen_avx2(halves, out) };
        return true;
    }
    false
}

/// See [`super::exponentials`].
pub(super) fn exponentials(x: &mut [f32], shift: f32) -> Option<f32> {
    // SAFETY: the processor has the instructions.
    available().then(|| unsafe { exponentials_avx2(x, shift) })
}

/// See [`super::activate`].
pub(super) fn activate(x: &mut [f32], activation: Activation) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { activate_avx2(x, activation) };
        return true;
    }
    false
}

/// See [`super::round`].
pub(super) fn round(values: &[f32], factor: f32, out: &mut [i8]) -> bool {
    if available() {
        // SAFETY: the processor has the instructions.
        unsafe { round_avx2(values, factor, out) };
        return true;
    }
    false
}

/// Four rows at a time, so that `x` is read once for them.
#[target_feature(enable = "avx2,fma,f16c")]
fn dots_avx2(x: &[f32], rows: &[f32], factor: f32, out: &mut [f32]) {
    let width = x.len().max(1);
    let (fours, rest) = out.as_chunks_mut::<4>();
    let (four_rows, rest_rows) = rows.split_at((4 * width * fours.len()).min(rows.len()));
    for (out, rows) in fours.iter_mut().zip(four_rows.chunks_exact(4 * width)) {
        let (first, second) = rows.split_at(2 * width);
        let ((a, b), (c, d)) = (first.split_at(width), second.split_at(width));
        *out = against_rows(x, [a, b, c, d]).map(|sum| sum * factor);
    }
    for (out, row) in rest.iter_mut().zip(rest_rows.chunks_exact(width)) {
        let [sum] = against_rows(x, [row]);
        *out = sum * factor;
    }
}

/// The products of `x` with rows as long.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn against_rows<const N: usize>(x: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let (pairs, rest) = x.as_chunks::<16>();
    let parts = rows.map(|row| row.as_chunks::<16>());
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for (index, x) in pairs.iter().enumerate() {
        let x = [load_floats(at(x, 0)), load_floats(at(x, 8))];
        for (sums, (pairs, _)) in sums.iter_mut().zip(&parts) {
            let y: &[f32; 16] = &pairs[index];
            sums[0] = _mm256_fmadd_ps(x[0], load_floats(at(y, 0)), sums[0]);
            sums[1] = _mm256_fmadd_ps(x[1], load_floats(at(y, 8)), sums[1]);
        }
    }
    std::array::from_fn(|n| {
        let rest: f32 = rest.iter().zip(parts[n].1).map(|(x, y)| x * y).sum();
        total(_mm256_add_ps(sums[n][0], sums[n][1])) + rest
    })
}

#[target_feature(enable = "avx2,fma,f16c")]
fn add_rows_avx2(out: &mut [f32], factors: &[f32], rows: &[f32]) {
    super::add_rows_lanes(out, factors, rows, f32::mul_add);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn widen_avx2(halves: &[f16], out: &mut [f32]) {
    let (eights, rest) = halves.as_chunks::<8>();
    let (wide, wide_rest) = out.as_chunks_mut::<8>();
    for (halves, out) in eights.iter().zip(wide) {
        // SAFETY: 16 bytes are read from a reference to 8 halves.
        let halves = unsafe { _mm_loadu_si128(halves.as_ptr().cast()) };
        // SAFETY: 32 bytes are written to a reference to 8 floats.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves)) };
    }
    for (half, out) in rest.iter().zip(wide_rest) {
        *out = half.to_f32();
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn exponentials_avx2(x: &mut [f32], shift: f32) -> f32 {
    super::exponentials_lanes(x, shift)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn activate_avx2(x: &mut [f32], activation: Activation) {
    super::activate_lanes(x, activation);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn round_avx2(values: &[f32], factor: f32, out: &mut [i8]) {
    super::round_lanes(values, factor, out);
}
