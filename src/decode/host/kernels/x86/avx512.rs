//! Products of tiles with AVX-512 and its products of bytes (VNNI), which take the codes as unsigned.
//!
//! Safety: every function that is compiled for these instructions is called from `x86` alone, which asks the processor
//! first.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::dispatch::{self, OutputBlock};
use super::super::tile::{Codes, Lanes, QuantizedInput, Tile, TileFormat, four_quants};
use super::super::{Input, Stored};

dispatch::tiles!("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni", 2 x 6, 12);

/// Two's complement as unsigned bytes that are 128 larger.
pub(super) const FLIP: u8 = 0x80;

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &Lanes) -> __m512 {
    // SAFETY: 64 bytes are read from a reference to 64.
    unsafe { _mm512_loadu_ps(lanes.0.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes(codes: &Codes) -> __m512i {
    // SAFETY: 64 bytes are read from a reference to 64.
    unsafe { _mm512_loadu_si512(codes.0.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const R: usize, const T: usize>(sums: &[[__m512; R]; T]) -> [[Lanes; R]; T] {
    let mut lanes = [[Lanes::ZERO; R]; T];
    for t in 0..T {
        for r in 0..R {
            // SAFETY: 64 bytes are written to a reference to 64.
            unsafe { _mm512_storeu_ps(lanes[t][r].0.as_mut_ptr(), sums[t][r]) };
        }
    }
    lanes
}

// Registers are filled in plain loops: a closure that an array's `map` calls is compiled for these instructions and `map`
// is not, so that it can stay a call, and registers go through memory.

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[allow(clippy::needless_range_loop)] // of numbers of columns, tokens and tiles alike
fn ints<const R: usize, const T: usize, const N: usize, const MINIMA: bool>(
    tiles: [&Tile; R],
    y: [&[QuantizedInput<N>]; T],
) -> [[Lanes; R]; T] {
    let mut parts = usize::MAX;
    let mut codes: [&[[Codes; 4]]; R] = [&[]; R];
    for r in 0..R {
        codes[r] = tiles[r].codes.as_chunks::<4>().0;
        parts = parts.min(codes[r].len() / (N / 16));
        parts = parts.min(tiles[r].scales.len()).min(tiles[r].minima.len());
    }
    for y in y {
        parts = parts.min(y.len());
    }
    let mut sums = [[_mm512_setzero_ps(); R]; T];
    for part in 0..parts {
        let mut whole = [[_mm512_setzero_si512(); R]; T];
        for t in 0..T {
            whole[t] = [_mm512_set1_epi32(y[t][part].excess); R];
        }
        for sixteen in 0..N / 16 {
            for four in 0..4 {
                let mut weights = [_mm512_setzero_si512(); R];
                for r in 0..R {
                    weights[r] = load_codes(&codes[r][part * (N / 16) + sixteen][four]);
                }
                for t in 0..T {
                    let quants = four_quants(&y[t][part], 4 * sixteen + four);
                    let quants = _mm512_set1_epi32(quants);
                    for r in 0..R {
                        whole[t][r] = _mm512_dpbusd_epi32(whole[t][r], weights[r], quants);
                    }
                }
            }
        }
        for r in 0..R {
            let scale = load(&tiles[r].scales[part]);
            for t in 0..T {
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(y[t][part].scale));
                let whole = _mm512_cvtepi32_ps(whole[t][r]);
                sums[t][r] = _mm512_fmadd_ps(whole, factor, sums[t][r]);
            }
            if MINIMA {
                let minimum = load(&tiles[r].minima[part]);
                for t in 0..T {
                    let sum = _mm512_set1_ps(y[t][part].sum);
                    sums[t][r] = _mm512_fnmadd_ps(minimum, sum, sums[t][r]);
                }
            }
        }
    }
    store(&sums)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats<const R: usize, const T: usize>(tiles: [&Tile; R], y: [&[f32]; T]) -> [[Lanes; R]; T] {
    let mut columns = usize::MAX;
    for y in y {
        columns = columns.min(y.len());
    }
    for tile in tiles {
        columns = columns.min(tile.floats.len());
    }
    let mut sums = [[_mm512_setzero_ps(); R]; T];
    for column in 0..columns {
        let mut weights = [_mm512_setzero_ps(); R];
        for r in 0..R {
            weights[r] = load(&tiles[r].floats[column]);
        }
        for t in 0..T {
            let y = _mm512_set1_ps(y[t][column]);
            for r in 0..R {
                sums[t][r] = _mm512_fmadd_ps(weights[r], y, sums[t][r]);
            }
        }
    }
    store(&sums)
}
