//! Groups of weights as four-bit integers with one BF16 scale each (W4A16), symmetric or with a zero point, as
//! compressed-tensors' `pack-quantized` stores them.
//!
//! In: a row of values. Out: words of eight codes, lowest bits first, scales, and zero points. A code `q` from
//! 0 to 15 has the value `(q - z) x scale`; `z` is 8 in the symmetric form. The bytes depend on the row alone. Must not:
//! do IO.

use super::blocks::Encoded;
use super::blocks::half::bf16_to_f32;
use super::fp8::scale_bits;

/// The largest group.
const LARGEST: usize = 128;

/// The code of zero in the symmetric form.
const MIDDLE: u8 = 8;

/// Number of scales that are tried, in steps of BF16 (128 per octave): from `largest / 7`, which represents the largest
/// value exactly, down to `largest / 14`.
const REACH: u16 = 128;
/// The same with a zero point: from `span / 15`, which represents all values, down to 0.7 of it.
const REACH_OF_SPAN: u16 = 64;
/// The first pass tries every eighth scale, the second all between the neighbours of its best.
const STRIDE: u16 = 8;

/// The largest finite BF16 number.
const FINITE: u16 = 0x7f7f;

/// Independent partial sums, which the compiler can compute in vectors.
const LANES: usize = 8;

/// Adding 1.5 x 2^23 leaves no fraction bits: rounding to nearest even for magnitudes below 2^22.
const ROUND: f32 = 12_582_912.0;

/// The levels of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Levels {
    /// The scale's BF16 bits.
    scale: u16,
    /// The code of zero, less 8.
    zero: f32,
}

/// Encodes a row: writes half a byte to `packed` for each of `values`, one BF16 value to `scales` for each `group` of them,
/// and to `zeros` the code of zero of each group. With `zeros` empty, that code is 8 in all groups. A rest that does not
/// fill a group is not encoded; callers pass rows that `group`, 128 at most, divides.
///
/// The scale of a symmetric group is the BF16 number between `largest / 14` and `largest / 7` (`largest` being the largest
/// magnitude) with the smallest squared error, searched in two passes and including `largest / 7.5`, the scale of plain
/// rounding. With zero points, scales between 0.7 and 1.06 of `span / 15` are tried with each zero point that may be best
/// (`span` being from the smallest value or zero to the largest value or zero); the error is never larger than that of the
/// symmetric group. A group of zeros has the scale 1. NaN and infinities are counted and encoded as 0.
pub fn encode_row(
    values: &[f32],
    group: usize,
    packed: &mut [u8],
    scales: &mut [u16],
    zeros: &mut [u8],
) -> Encoded {
    let group = group.clamp(LANES, LARGEST);
    let mut not_finite = 0;
    let mut clean = [0f32; LARGEST];
    let groups = values.chunks_exact(group).zip(scales);
    let groups = groups.zip(packed.chunks_exact_mut(group / 2));
    let mut zeros = zeros.iter_mut();
    for ((values, scale), bytes) in groups {
        let clean = &mut clean[..group];
        for (clean, &value) in clean.iter_mut().zip(values) {
            let finite = value.is_finite();
            not_finite += u64::from(!finite);
            *clean = if finite { value } else { 0.0 };
        }
        let mut levels = symmetric(clean);
        if let Some(zero) = zeros.next() {
            levels = shifted(clean, levels);
            *zero = (levels.zero + f32::from(MIDDLE)) as u8;
        }
        *scale = levels.scale;
        write_codes(clean, levels, bytes);
    }
    Encoded { not_finite }
}

/// Writes the codes of `values`, two to a byte.
fn write_codes(values: &[f32], levels: Levels, bytes: &mut [u8]) {
    let scale = bf16_to_f32(levels.scale);
    for (byte, pair) in bytes.iter_mut().zip(values.as_chunks::<2>().0) {
        // Divided, not multiplied with the inverse: compressed-tensors has the same codes to the last tie.
        let [low, high] = pair.map(|value| {
            let code = rounded(value / scale + levels.zero);
            (code + f32::from(MIDDLE)) as u8
        });
        *byte = low | high << 4;
    }
}

/// The best levels whose zero is in the middle.
fn symmetric(values: &[f32]) -> Levels {
    let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    if largest == 0.0 {
        return Levels {
            scale: scale_bits(0.0),
            zero: 0.0,
        };
    }
    let top = scale_bits(largest / 7.0);
    // Start with the scale of plain rounding, so that the result is never worse.
    let mut best = Best::new(values, scale_bits(largest / 7.5), 0.0);
    for scale in (floor(top, REACH)..=top).step_by(usize::from(STRIDE)) {
        best.consider(scale, 0.0);
    }
    best.refine(floor(top, REACH), top);
    best.levels
}

/// The best levels with any zero, none of which is worse than `symmetric`.
fn shifted(values: &[f32], symmetric: Levels) -> Levels {
    let least = values.iter().fold(0f32, |least, &x| least.min(x));
    let most = values.iter().fold(0f32, |most, &x| most.max(x));
    if least == most {
        return symmetric;
    }
    let plain = scale_bits(most / 15.0 - least / 15.0);
    let (bottom, top) = (floor(plain, REACH_OF_SPAN), (plain + STRIDE).min(FINITE));
    let mut best = Best::new(values, symmetric.scale, symmetric.zero);
    for scale in (bottom..=top).step_by(usize::from(STRIDE)) {
        let step = bf16_to_f32(scale);
        // The first and the last level at the ends of the span; between them fewer levels than values would need.
        let ends = [-8.0 - least / step, 7.0 - most / step];
        let [one, other] = ends.map(|zero| zero.clamp(-8.0, 7.0).round_ties_even() as i8);
        for zero in one.min(other)..=one.max(other) {
            best.consider(scale, f32::from(zero));
        }
    }
    best.refine(bottom, top);
    best.levels
}

/// The scale that is `reach` steps below `top`, or the smallest normal one.
fn floor(top: u16, reach: u16) -> u16 {
    top.saturating_sub(reach).max(scale_bits(f32::MIN_POSITIVE))
}

/// The best levels so far for some values.
struct Best<'a> {
    values: &'a [f32],
    levels: Levels,
    error: f32,
    /// What errors are relative to, so that their squares do not overflow.
    unit: f32,
}

impl<'a> Best<'a> {
    fn new(values: &'a [f32], scale: u16, zero: f32) -> Best<'a> {
        let unit = values.iter().fold(0f32, |most, x| most.max(x.abs()));
        let levels = Levels { scale, zero };
        Best {
            values,
            levels,
            error: error(values, levels, unit),
            unit,
        }
    }

    fn consider(&mut self, scale: u16, zero: f32) {
        let levels = Levels { scale, zero };
        let error = error(self.values, levels, self.unit);
        if error < self.error {
            (self.error, self.levels) = (error, levels);
        }
    }

    /// Tries the scales around the best one.
    fn refine(&mut self, bottom: u16, top: u16) {
        let Levels { scale, zero } = self.levels;
        let (low, high) = (scale.saturating_sub(STRIDE - 1), scale + (STRIDE - 1));
        for scale in low.max(bottom)..=high.min(top) {
            self.consider(scale, zero);
        }
    }
}

/// The sum of squared errors with these levels, relative to the square of `unit`.
fn error(values: &[f32], levels: Levels, unit: f32) -> f32 {
    let scale = bf16_to_f32(levels.scale);
    let inverse = 1.0 / scale;
    let mut sums = [0f32; LANES];
    for chunk in values.as_chunks::<LANES>().0 {
        for (sum, &value) in sums.iter_mut().zip(chunk) {
            let place = value * inverse + levels.zero;
            let off = place - rounded(place);
            *sum += off * off;
        }
    }
    let step = scale / unit;
    sums.iter().sum::<f32>() * step * step
}

/// The nearest integer from -8 to 7, ties to even.
#[inline(always)]
fn rounded(place: f32) -> f32 {
    let low = if place < -8.0 { -8.0 } else { place };
    let clamped = if low > 7.0 { 7.0 } else { low };
    (clamped + ROUND) - ROUND
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sixty-four values with many ties, as a row of the record below has them.
    fn values() -> Vec<f32> {
        let value = |i: i32| (i * 37 % 101 - 40) as f32 / 16.0;
        (192..256).map(value).collect()
    }

    /// The words that compressed-tensors 0.20.0 packs from these values with these scales and zero points.
    #[test]
    fn codes_are_those_of_compressed_tensors() {
        let levels = [(0.5f32, 6.0), (0.40625, -5.0)];
        let mut bytes = [0u8; 32];
        for ((values, bytes), (scale, zero)) in
            values().chunks(32).zip(bytes.chunks_mut(16)).zip(levels)
        {
            let scale = (scale.to_bits() >> 16) as u16;
            write_codes(values, Levels { scale, zero }, bytes);
        }
        let words = bytes.as_chunks::<4>().0.iter().copied();
        let words: Vec<u32> = words.map(u32::from_le_bytes).collect();
        let theirs: [u32; 8] = [
            0xffbf_eafd,
            0xffaf_e9fc,
            0xfe9f_dffc,
            0xfdff_cffb,
            0x71b5_0930,
            0x50a4_082c,
            0x4093_071b,
            0x3072_c60a,
        ];
        assert_eq!(words, theirs);
    }

    fn squared(values: &[f32], group: usize, with_zeros: bool) -> f64 {
        let mut packed = vec![0; values.len() / 2];
        let mut scales = vec![0; values.len() / group];
        let mut zeros = vec![0; if with_zeros { scales.len() } else { 0 }];
        encode_row(values, group, &mut packed, &mut scales, &mut zeros);
        let codes = packed.iter().flat_map(|&byte| [byte & 15, byte >> 4]);
        let error = |(i, (code, &value)): (usize, (u8, &f32))| {
            let zero = zeros.get(i / group).copied().unwrap_or(MIDDLE);
            let decoded = (f32::from(code) - f32::from(zero)) * bf16_to_f32(scales[i / group]);
            f64::from(decoded - value).powi(2)
        };
        codes.zip(values).enumerate().map(error).sum()
    }

    #[test]
    fn zero_points_and_smaller_groups_never_lose_more() {
        for offset in [-3.0f32, -0.4, 0.0, 0.25, 1.0, 50.0] {
            let value = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0;
            let row: Vec<f32> = (0..256).map(|i| value(i) - 0.5 + offset).collect();
            for group in [32, 64, 128] {
                let (plain, shifted) = (squared(&row, group, false), squared(&row, group, true));
                assert!(shifted <= plain * 1.000_001, "{offset} {group}");
                // Values on one side of zero need all codes there; at 50, all of them are nearest to a single level.
                if (0.4..10.0).contains(&offset.abs()) {
                    assert!(shifted < plain * 0.8, "{offset} {group}: {shifted} {plain}");
                }
            }
            assert!(
                squared(&row, 32, true) < squared(&row, 128, true),
                "{offset}"
            );
        }
    }

    #[test]
    fn any_row_is_encoded() {
        for row in [
            [0.0f32; 32],
            [f32::MAX; 32],
            [f32::NAN; 32],
            [f32::MIN_POSITIVE / 4.0; 32],
            std::array::from_fn(|i| if i % 2 == 0 { f32::MAX } else { f32::MIN }),
        ] {
            let (mut packed, mut scales, mut zeros) = ([0; 16], [0; 1], [0; 1]);
            let met = encode_row(&row, 32, &mut packed, &mut scales, &mut zeros);
            assert_eq!(
                met.not_finite,
                row.iter().filter(|x| !x.is_finite()).count() as u64
            );
            assert!(zeros[0] < 16 && bf16_to_f32(scales[0]).is_normal());
        }
    }
}
