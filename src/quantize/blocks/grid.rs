//! Finds the grid again of weights that were `Q4_0` or `Q4_1` once and have been rounded to 16 bits since, as those of a
//! checkpoint that was trained for such a format: blocks that decode to exactly these 16 bits replace those that an
//! encoder wrote.
//!
//! The largest weight has one of few codes, and each gives a scale but for its rounding. A block lies on a grid if a
//! scale in half precision near one of these gives back every weight. That takes 32 coincidences, so weights without a
//! grid are left alone; a row whose first block that is not zero has none is not searched.

use super::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::legacy::{BLOCK, nibbles};
use super::rows;

/// How far a weight may be from a multiple of a scale that is not exact yet: 15 steps, each rounded twice by a bfloat16.
const NEAR: f32 = 0.06;

/// Halves that are tried around a scale, nearest first: the rounding of a bfloat16 hides three bits of one.
const AROUND: i32 = 12;

/// A rounding to 16 bits.
type Rounding = fn(f32) -> f32;

const ROUNDINGS: [Rounding; 2] = [
    |value| f16_to_f32(f32_to_f16(value)),
    |value| bf16_to_f32(f32_to_bf16(value)),
];

/// Rewrites the blocks of rows that lie on a grid of `Q4_0`.
pub(super) fn q4_0(values: &[f32], row: usize, out: &mut [u8]) {
    on_grids::<18>(values, row, out, |x, round, out| {
        let (d, codes) = symmetric(x, round)?;
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..].copy_from_slice(&nibbles(&codes));
        Some(())
    });
}

/// The same for `Q4_1`.
pub(super) fn q4_1(values: &[f32], row: usize, out: &mut [u8]) {
    on_grids::<20>(values, row, out, |x, round, out| {
        let (d, m, codes) = affine(x, round)?;
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..4].copy_from_slice(&m.to_le_bytes());
        out[4..].copy_from_slice(&nibbles(&codes));
        Some(())
    });
}

fn on_grids<const B: usize>(
    values: &[f32],
    row: usize,
    out: &mut [u8],
    rewrite: impl Fn(&[f32; BLOCK], Rounding, &mut [u8; B]) -> Option<()>,
) {
    for (values, out) in rows::rows(values, row, out) {
        let blocks = values.as_chunks().0.iter().zip(out.as_chunks_mut().0);
        let mut found = false;
        for (x, out) in blocks.filter(|(x, _)| x.iter().any(|&value| value != 0.0)) {
            let exact = ROUNDINGS
                .iter()
                .filter(|round| x.iter().all(|&value| round(value) == value));
            let here = exact
                .map(|&round| rewrite(x, round, out))
                .any(|f| f.is_some());
            if !here && !found {
                break;
            }
            found = true;
        }
    }
}

/// The multiples of `step` that weights are near, in `range`.
fn multiples(x: &[f32; BLOCK], from: f32, step: f32, range: (f32, f32)) -> Option<[f32; BLOCK]> {
    let mut found = [0.0; BLOCK];
    for (found, &value) in found.iter_mut().zip(x) {
        let times = (value - from) / step;
        *found = times.round();
        let near = (times - *found).abs() <= NEAR && (range.0..=range.1).contains(found);
        if !near {
            return None;
        }
    }
    Some(found)
}

/// The halves around `value`, nearest first.
fn halves_around(value: f32) -> impl Iterator<Item = u16> {
    let middle = i32::from(f32_to_f16(value));
    let steps = (0..=AROUND).flat_map(move |step| [middle + step, middle - step]);
    let halves = steps.filter_map(|bits| u16::try_from(bits).ok());
    halves.filter(|bits| bits & 0x7c00 != 0x7c00 && bits & 0x7fff != 0)
}

/// Scale and codes. The weight of largest magnitude has a negative multiple, as llama-quantize has it.
fn symmetric(x: &[f32; BLOCK], round: Rounding) -> Option<(u16, [u8; BLOCK])> {
    let extreme = x
        .iter()
        .fold(0.0f32, |a, &v| if a.abs() < v.abs() { v } else { a });
    for code in (1..=8).rev() {
        let scale = extreme / -(code as f32);
        let Some(multiples) = multiples(x, 0.0, scale, (-8.0, 7.0)) else {
            continue;
        };
        let mut scales = halves_around(scale);
        let exact = scales.find(|&d| {
            let d = f16_to_f32(d);
            x.iter()
                .zip(&multiples)
                .all(|(&x, &times)| round(times * d) == x)
        });
        if let Some(d) = exact {
            return Some((d, multiples.map(|times| (times + 8.0) as u8)));
        }
    }
    None
}

/// Scale, minimum and codes. The smallest weight has code 0.
fn affine(x: &[f32; BLOCK], round: Rounding) -> Option<(u16, u16, [u8; BLOCK])> {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| {
        (low.min(v), high.max(v))
    });
    for code in (1..=15).rev() {
        let scale = (high - low) / code as f32;
        let Some(codes) = multiples(x, low, scale, (0.0, 15.0)) else {
            continue;
        };
        let minima = halves_around(low).filter(|&m| round(f16_to_f32(m)) == low);
        for (m, minimum) in minima.map(|m| (m, f16_to_f32(m))) {
            let mut scales = halves_around((high - minimum) / code as f32);
            let exact = scales.find(|&d| {
                let d = f16_to_f32(d);
                let pairs = x.iter().zip(&codes);
                pairs
                    .into_iter()
                    .all(|(&x, &code)| round(code * d + minimum) == x)
            });
            if let Some(d) = exact {
                return Some((d, m, codes.map(|code| code as u8)));
            }
        }
    }
    None
}
