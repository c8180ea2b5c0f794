//! Products of tiles with NEON and its products of bytes.
//!
//! Safety: every function that is compiled for these instructions is called from `arm64` alone, which asks the processor
//! first.
#![allow(unsafe_code)]

use std::arch::aarch64::*;

use super::super::blocks::at;
use super::super::dispatch::{self, OutputBlock};
use super::super::tile::{Codes, Lanes, QuantizedInput, Tile, TileFormat, four_quants};
use super::super::{Input, Stored};
use super::load::{dot4, load, load_floats};

dispatch::tiles!("neon,dotprod", 1 x 4, 6);

/// The rows of a tile, four in a register.
const QUARTERS: [usize; 4] = [0, 4, 8, 12];

#[inline]
#[target_feature(enable = "neon")]
fn store(sums: [float32x4_t; 4]) -> Lanes {
    let mut lanes = Lanes::ZERO;
    for (lanes, sums) in lanes.0.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
        // SAFETY: 16 bytes are written to a reference to 16.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), sums) };
    }
    lanes
}

#[inline]
#[target_feature(enable = "neon")]
fn quarters(lanes: &Lanes) -> [float32x4_t; 4] {
    QUARTERS.map(|first| load_floats(at(&lanes.0, first)))
}

#[inline]
#[target_feature(enable = "neon")]
fn code_quarters(codes: &Codes) -> [int8x16_t; 4] {
    let bytes = codes.0.as_flattened();
    QUARTERS.map(|first| vreinterpretq_s8_u8(load(at(bytes, 4 * first))))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn ints<const R: usize, const T: usize, const N: usize, const MINIMA: bool>(
    tiles: [&Tile; R],
    y: [&[QuantizedInput<N>]; T],
) -> [[Lanes; R]; T] {
    let parts = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..parts]);
    let products = tiles.map(|tile| {
        let codes = &tile.codes[..parts * (N / 4)];
        let (scales, minima) = (&tile.scales[..parts], &tile.minima[..parts]);
        let mut sums = [[vdupq_n_f32(0.0); 4]; T];
        for part in 0..parts {
            let codes = &codes[part * (N / 4)..(part + 1) * (N / 4)];
            let mut whole = [[vdupq_n_s32(0); 4]; T];
            for (four, codes) in codes.iter().enumerate() {
                let weights = code_quarters(codes);
                for t in 0..T {
                    let quants = vdupq_n_s32(four_quants(&y[t][part], four));
                    let quants = vreinterpretq_s8_s32(quants);
                    for quarter in 0..4 {
                        whole[t][quarter] = dot4(whole[t][quarter], weights[quarter], quants);
                    }
                }
            }
            let (scales, minima) = (quarters(&scales[part]), quarters(&minima[part]));
            for t in 0..T {
                let y = &y[t][part];
                for quarter in 0..4 {
                    let sum = &mut sums[t][quarter];
                    let factor = vmulq_n_f32(scales[quarter], y.scale);
                    *sum = vfmaq_f32(*sum, vcvtq_f32_s32(whole[t][quarter]), factor);
                    if MINIMA {
                        *sum = vfmsq_n_f32(*sum, minima[quarter], y.sum);
                    }
                }
            }
        }
        sums.map(|sums| store(sums))
    });
    std::array::from_fn(|t| std::array::from_fn(|r| products[r][t]))
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn floats<const R: usize, const T: usize>(tiles: [&Tile; R], y: [&[f32]; T]) -> [[Lanes; R]; T] {
    let columns = y.iter().map(|y| y.len()).min().unwrap_or(0);
    let y = y.map(|y| &y[..columns]);
    let products = tiles.map(|tile| {
        let weights = &tile.floats[..columns];
        let mut sums = [[vdupq_n_f32(0.0); 4]; T];
        for (column, weights) in weights.iter().enumerate() {
            let weights = quarters(weights);
            for t in 0..T {
                for quarter in 0..4 {
                    let sum = sums[t][quarter];
                    sums[t][quarter] = vfmaq_n_f32(sum, weights[quarter], y[t][column]);
                }
            }
        }
        sums.map(|sums| store(sums))
    });
    std::array::from_fn(|t| std::array::from_fn(|r| products[r][t]))
}
