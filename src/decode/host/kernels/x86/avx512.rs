//! Products of tiles with AVX-512 and its products of bytes (VNNI), which take the codes as unsigned.
//!
//! Safety: every function that is compiled for these instructions is called from `x86` alone, which asks the processor
//! first.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::dispatch::{self, Place};
use super::super::tile::{Codes, Lanes, Part, Tile, TileFormat};
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
fn store(sums: __m512) -> Lanes {
    let mut lanes = Lanes::ZERO;
    // SAFETY: 64 bytes are written to a reference to 64.
    unsafe { _mm512_storeu_ps(lanes.0.as_mut_ptr(), sums) };
    lanes
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn ints<const R: usize, const T: usize, const N: usize, const MINIMA: bool>(
    tiles: [&Tile; R],
    y: [&[Part<N>]; T],
) -> [[Lanes; R]; T] {
    let parts = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..parts]);
    let codes = tiles.map(|tile| &tile.codes[..parts * (N / 4)]);
    let scales = tiles.map(|tile| &tile.scales[..parts]);
    let minima = tiles.map(|tile| &tile.minima[..parts]);
    let mut sums = [[_mm512_setzero_ps(); R]; T];
    for part in 0..parts {
        let mut whole = y.map(|y| [_mm512_set1_epi32(y[part].excess); R]);
        let codes = codes.map(|codes| &codes[part * (N / 4)..(part + 1) * (N / 4)]);
        for four in 0..N / 4 {
            let weights = codes.map(|codes| load_codes(&codes[four]));
            for t in 0..T {
                let quants = y[t][part].quants.as_chunks::<4>().0[four];
                let quants = _mm512_set1_epi32(i32::from_le_bytes(quants.map(|q| q as u8)));
                for r in 0..R {
                    whole[t][r] = _mm512_dpbusd_epi32(whole[t][r], weights[r], quants);
                }
            }
        }
        for r in 0..R {
            let scale = load(&scales[r][part]);
            for t in 0..T {
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(y[t][part].scale));
                let whole = _mm512_cvtepi32_ps(whole[t][r]);
                sums[t][r] = _mm512_fmadd_ps(whole, factor, sums[t][r]);
            }
            if MINIMA {
                let minimum = load(&minima[r][part]);
                for t in 0..T {
                    let sum = _mm512_set1_ps(y[t][part].sum);
                    sums[t][r] = _mm512_fnmadd_ps(minimum, sum, sums[t][r]);
                }
            }
        }
    }
    sums.map(|sums| sums.map(|sums| store(sums)))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn floats<const R: usize, const T: usize>(tiles: [&Tile; R], y: [&[f32]; T]) -> [[Lanes; R]; T] {
    let columns = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..columns]);
    let weights = tiles.map(|tile| &tile.floats[..columns]);
    let mut sums = [[_mm512_setzero_ps(); R]; T];
    for column in 0..columns {
        let weights = weights.map(|weights| load(&weights[column]));
        for t in 0..T {
            let y = _mm512_set1_ps(y[t][column]);
            for r in 0..R {
                sums[t][r] = _mm512_fmadd_ps(weights[r], y, sums[t][r]);
            }
        }
    }
    sums.map(|sums| sums.map(|sums| store(sums)))
}
