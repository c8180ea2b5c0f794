//! Products of tiles with AVX2.
//!
//! Safety: every function that is compiled for these instructions is called from `x86` alone, which asks the processor
//! first.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::super::blocks::at;
use super::super::dispatch::{self, OutputBlock};
use super::super::tile::{Lanes, QuantizedInput, Tile, TileFormat, four_quants};
use super::super::{Input, Stored};
use super::load::{dot4, load, load_floats};

dispatch::tiles!("avx2,fma,f16c", 1 x 4, 6);

/// The halves of a tile's rows.
const HALVES: [usize; 2] = [0, 8];

#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: [__m256; 2]) -> Lanes {
    let mut lanes = Lanes::ZERO;
    for (lanes, sums) in lanes.0.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
        // SAFETY: 32 bytes are written to a reference to 32.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums) };
    }
    lanes
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn ints<const R: usize, const T: usize, const N: usize, const MINIMA: bool>(
    tiles: [&Tile; R],
    y: [&[QuantizedInput<N>]; T],
) -> [[Lanes; R]; T] {
    let parts = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..parts]);
    let products = tiles.map(|tile| {
        let codes = &tile.codes[..parts * (N / 4)];
        let (scales, minima) = (&tile.scales[..parts], &tile.minima[..parts]);
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        for part in 0..parts {
            let codes = &codes[part * (N / 4)..(part + 1) * (N / 4)];
            let mut whole = [[_mm256_setzero_si256(); 2]; T];
            for (four, codes) in codes.iter().enumerate() {
                let codes = codes.0.as_flattened();
                for (half, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
                    let weights = load(codes);
                    let magnitudes = _mm256_sign_epi8(weights, weights);
                    for t in 0..T {
                        let quants = _mm256_set1_epi32(four_quants(&y[t][part], four));
                        let turned = _mm256_sign_epi8(quants, weights);
                        let products = dot4(magnitudes, turned);
                        whole[t][half] = _mm256_add_epi32(whole[t][half], products);
                    }
                }
            }
            for (half, first) in HALVES.into_iter().enumerate() {
                let scale = load_floats(at(&scales[part].0, first));
                let minimum = load_floats(at(&minima[part].0, first));
                for t in 0..T {
                    let y = &y[t][part];
                    let factor = _mm256_mul_ps(scale, _mm256_set1_ps(y.scale));
                    let whole = _mm256_cvtepi32_ps(whole[t][half]);
                    let sum = _mm256_fmadd_ps(whole, factor, sums[t][half]);
                    sums[t][half] = if MINIMA {
                        _mm256_fnmadd_ps(minimum, _mm256_set1_ps(y.sum), sum)
                    } else {
                        sum
                    };
                }
            }
        }
        sums.map(|sums| store(sums))
    });
    std::array::from_fn(|t| std::array::from_fn(|r| products[r][t]))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn floats<const R: usize, const T: usize>(tiles: [&Tile; R], y: [&[f32]; T]) -> [[Lanes; R]; T] {
    let columns = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..columns]);
    let products = tiles.map(|tile| {
        let weights = &tile.floats[..columns];
        let mut sums = [[_mm256_setzero_ps(); 2]; T];
        for (column, weights) in weights.iter().enumerate() {
            let low = load_floats(at(&weights.0, 0));
            let high = load_floats(at(&weights.0, 8));
            for t in 0..T {
                let y = _mm256_set1_ps(y[t][column]);
                sums[t][0] = _mm256_fmadd_ps(low, y, sums[t][0]);
                sums[t][1] = _mm256_fmadd_ps(high, y, sums[t][1]);
            }
        }
        sums.map(|sums| store(sums))
    });
    std::array::from_fn(|t| std::array::from_fn(|r| products[r][t]))
}
