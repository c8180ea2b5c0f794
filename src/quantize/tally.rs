//! What is counted while a tensor is encoded: its quantization error, and values and rows that need a note.

use super::blocks::Deviation;
use super::blocks::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::note::Note;

/// The counts of one tensor or a part of it; those of parts can be added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// The error of the decoded tensor against the source.
    pub deviation: Deviation,
    /// NaN and infinite weights of the source.
    pub not_finite: u64,
    /// Finite weights of the source that became infinite in F16.
    pub overflow: u64,
    /// Rows that contain only zeros.
    pub zero_rows: u64,
    /// Parts with a weight that does not come back in 16 bits.
    pub altered: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.deviation += other.deviation;
        self.not_finite += other.not_finite;
        self.overflow += other.overflow;
        self.zero_rows += other.zero_rows;
        self.altered += other.altered;
    }
}

/// Whether every one of `values` comes back from `decoded` in the 16 bits that it has: in half precision, or as a
/// bfloat16. It ends at the first that does not.
pub(super) fn comes_back(values: &[f32], decoded: &[f32]) -> bool {
    let same = |round: fn(f32) -> f32| {
        let mut pairs = values.iter().zip(decoded);
        pairs.all(|(&value, &decoded)| round(decoded) == value)
    };
    same(|value| f16_to_f32(f32_to_f16(value))) || same(|value| bf16_to_f32(f32_to_bf16(value)))
}

/// A note for each kind of finding, with the tensors that have it. `quantized` tells for each tensor whether it was
/// encoded with fewer than 16 bits.
pub(super) fn notes<'a>(tallies: impl Iterator<Item = (&'a str, bool, Tally)>) -> Vec<Note> {
    let (mut kept, mut of) = (Vec::new(), 0);
    let (mut not_finite, mut overflow, mut zero_rows) = (Vec::new(), Vec::new(), Vec::new());
    for (name, quantized, tally) in tallies {
        if quantized {
            of += 1;
            if tally.altered == 0 && tally.deviation.value > 0.0 {
                kept.push(name.to_owned());
            }
        }
        for (count, list) in [
            (tally.not_finite, &mut not_finite),
            (tally.overflow, &mut overflow),
            (tally.zero_rows, &mut zero_rows),
        ] {
            if count > 0 {
                list.push((name.to_owned(), count));
            }
        }
    }
    let found = |tensors: Vec<_>| (!tensors.is_empty()).then_some(tensors);
    let notes = [
        found(not_finite).map(|tensors| Note::NotFinite { tensors }),
        found(overflow).map(|tensors| Note::Overflow { tensors }),
        found(zero_rows).map(|tensors| Note::ZeroRows { tensors }),
        (!kept.is_empty()).then_some(Note::Lossless { tensors: kept, of }),
    ];
    notes.into_iter().flatten().collect()
}

/// The unweighted error of `decoded` against `values`; values that are not finite are left out, and the weighted sums
/// stay 0. It gives the result of [`super::blocks::deviation`] in a
/// tenth of the time: squares are summed in eight lanes of `f32`, a few at a time, and in `f64`
/// if they are too small or too large for that.
pub(super) fn plain_deviation(values: &[f32], decoded: &[f32]) -> Deviation {
    const FEW: usize = 64;
    let mut sum = Deviation::default();
    for (values, decoded) in values.chunks(FEW).zip(decoded.chunks(FEW)) {
        let (mut value, mut error) = ([0f32; 8], [0f32; 8]);
        let lanes = values.as_chunks::<8>();
        for (x, y) in lanes.0.iter().zip(decoded.as_chunks::<8>().0) {
            for lane in 0..8 {
                let off = x[lane] - y[lane];
                value[lane] += x[lane] * x[lane];
                error[lane] += off * off;
            }
        }
        let (value, error) = (value.iter().sum::<f32>(), error.iter().sum::<f32>());
        if lanes.1.is_empty() && value > 1e-30 && value.is_finite() && error.is_finite() {
            sum.value += f64::from(value);
            sum.error += f64::from(error);
            continue;
        }
        for (&x, &y) in values.iter().zip(decoded).filter(|(x, _)| x.is_finite()) {
            let (x, y) = (f64::from(x), f64::from(y));
            sum.value += x * x;
            sum.error += (x - y) * (x - y);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::quantize::blocks::deviation;

    #[test]
    fn the_fast_sum_is_the_slow_one() {
        let wave = |i: usize| (i as f32 * 0.37).sin();
        for scale in [1.0, 1e-30, 1e25, 0.0] {
            let mut values: Vec<f32> = (0..1000).map(|i| wave(i) * scale).collect();
            let decoded: Vec<f32> = values.iter().map(|x| x * 0.99).collect();
            values[77] = f32::NAN;
            let (fast, slow) = (
                plain_deviation(&values, &decoded),
                deviation(Dtype::Q8_0, &values, &decoded, 1000, None),
            );
            assert!((fast.relative() - slow.relative()).abs() < 1e-6, "{scale}");
            let off = (fast.value - slow.value).abs();
            assert!(off <= 1e-6 * slow.value, "{scale}");
        }
    }
}
