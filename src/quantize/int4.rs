//! Groups of 128 weights as four-bit integers with one BF16 scale each (W4A16, symmetric), as
//! compressed-tensors' `pack-quantized` stores them.
//!
//! In: a row of values. Out: words of eight codes, lowest bits first, and scales. A code `q` from
//! 0 to 15 has the value `(q - 8) x scale`. The bytes depend on the row alone. Must not: do IO.

use super::blocks::Encoded;
use super::blocks::half::bf16_to_f32;
use super::fp8::scale_bits;

/// Weights that share a scale.
pub const GROUP: usize = 128;

/// Number of scales that are tried, in steps of BF16 (128 per octave): from `largest / 7`, which represents the largest
/// value exactly, down to `largest / 14`.
const REACH: u16 = 128;
/// The first pass tries every eighth scale, the second all between the neighbours of its best.
const STRIDE: u16 = 8;

/// Independent partial sums, which the compiler can compute in vectors.
const LANES: usize = 8;

/// Adding 1.5 x 2^23 leaves no fraction bits: rounding to nearest even for magnitudes below 2^22.
const ROUND: f32 = 12_582_912.0;

/// Encodes a row: writes 64 bytes to `packed` and one BF16 value to `scales` for each 128 `values`. A rest that does
/// not fill a group is not encoded; callers pass rows that 128 divides.
///
/// The scale of a group is the BF16 number between `largest / 14` and `largest / 7` (`largest` being the largest
/// magnitude) with the smallest squared error, searched in two passes and including `largest / 7.5`, the scale of plain
/// rounding. A group of zeros has the scale 1. NaN and infinities are counted and encoded as 0.
pub fn encode_row(values: &[f32], packed: &mut [u8], scales: &mut [u16]) -> Encoded {
    let mut not_finite = 0;
    let groups = values.as_chunks::<GROUP>().0;
    let outputs = packed.as_chunks_mut::<{ GROUP / 2 }>().0;
    for ((group, bytes), scale) in groups.iter().zip(outputs).zip(scales) {
        let mut clean = *group;
        let mut largest = 0f32;
        for value in &mut clean {
            if !value.is_finite() {
                not_finite += 1;
                *value = 0.0;
            }
            largest = largest.max(value.abs());
        }
        *scale = search(&clean, largest);
        let inverse = 1.0 / bf16_to_f32(*scale);
        for (byte, pair) in bytes.iter_mut().zip(clean.as_chunks::<2>().0) {
            let [low, high] = pair.map(|value| (rounded(value, inverse) + 8.0) as u8);
            *byte = low | high << 4;
        }
    }
    Encoded { not_finite }
}

/// The BF16 bits of the best scale.
fn search(values: &[f32; GROUP], largest: f32) -> u16 {
    if largest == 0.0 {
        return scale_bits(0.0);
    }
    let top = scale_bits(largest / 7.0);
    let bottom = top.saturating_sub(REACH).max(scale_bits(f32::MIN_POSITIVE));
    // Start with the scale of plain rounding, so that the result is never worse.
    let mut best = scale_bits(largest / 7.5);
    let mut least = error(values, best, largest);
    let mut consider = |bits: u16, best: &mut u16| {
        let error = error(values, bits, largest);
        if error < least {
            (least, *best) = (error, bits);
        }
    };
    for bits in (bottom..=top).step_by(usize::from(STRIDE)) {
        consider(bits, &mut best);
    }
    let (low, high) = (best.saturating_sub(STRIDE - 1), best + (STRIDE - 1));
    for bits in low.max(bottom)..=high.min(top) {
        consider(bits, &mut best);
    }
    best
}

/// The sum of squared errors with the scale of these bits, relative to the square of `largest`.
fn error(values: &[f32; GROUP], bits: u16, largest: f32) -> f32 {
    let scale = bf16_to_f32(bits);
    let inverse = 1.0 / scale;
    let mut sums = [0f32; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let off = value * inverse - rounded(value, inverse);
            *sum += off * off;
        }
    }
    let step = scale / largest;
    sums.iter().sum::<f32>() * step * step
}

/// The nearest integer from -8 to 7 in units of the scale, ties to even.
#[inline(always)]
fn rounded(value: f32, inverse: f32) -> f32 {
    let scaled = value * inverse;
    let low = if scaled < -8.0 { -8.0 } else { scaled };
    let clamped = if low > 7.0 { 7.0 } else { low };
    (clamped + ROUND) - ROUND
}
