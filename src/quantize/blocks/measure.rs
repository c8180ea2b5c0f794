//! Measures the error of decoded values against the originals.

use crate::dtype::Dtype;

/// Sums of squares over values and their errors; those of several parts of a tensor can be added.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Sum of squares of the values.
    pub value: f64,
    /// Sum of squares of the errors.
    pub error: f64,
    /// Sum of squares of the values, each times its weight in ggml's search for the format.
    pub weighted_value: f64,
    /// The same sum over the errors.
    pub weighted_error: f64,
}

impl Deviation {
    /// Root mean square of the errors divided by that of the values; 0 if all values are 0.
    pub fn relative(&self) -> f64 {
        ratio(self.error, self.value)
    }

    /// The same ratio with ggml's weights.
    pub fn weighted(&self) -> f64 {
        ratio(self.weighted_error, self.weighted_value)
    }
}

impl Deviation {
    /// The bits of the sums, by which they can be stored and keep their value.
    pub(crate) fn to_bits(self) -> [u64; 4] {
        let sums = [
            self.value,
            self.error,
            self.weighted_value,
            self.weighted_error,
        ];
        sums.map(f64::to_bits)
    }

    /// The sums that have these bits.
    pub(crate) fn from_bits(bits: [u64; 4]) -> Deviation {
        let [value, error, weighted_value, weighted_error] = bits.map(f64::from_bits);
        Deviation {
            value,
            error,
            weighted_value,
            weighted_error,
        }
    }
}

fn ratio(error: f64, value: f64) -> f64 {
    if error == 0.0 {
        0.0
    } else {
        (error / value).sqrt()
    }
}

impl std::ops::AddAssign for Deviation {
    fn add_assign(&mut self, other: Deviation) {
        self.value += other.value;
        self.error += other.error;
        self.weighted_value += other.weighted_value;
        self.weighted_error += other.weighted_error;
    }
}

/// The error of `decoded` against `values`, rows of `row` values each, that were encoded as `dtype`.
///
/// The weight of a value's square error is what ggml's search (`quantize_row_*_impl` and `_ref` of
/// `ggml-quants.c`) gives it. Without importance: `x^2` (`Q3_K`, `Q6_K`, `IQ*`), `|x|` plus
/// the root mean square of the 32 values around (`Q4_K`, `Q5_K`), `|x|` (`Q2_K`). With it:
/// importance times `sqrt(x^2 + s)`, `s` being the mean square of the row (`Q4_0` to `Q5_1`), of
/// the block (`Q2_K`, `IQ2_*`) or twice that of the block; `Q6_K` takes the importance alone, and so do `MXFP4` and
/// `TQ*` here, for which ggml has no search. Other formats without a search weight all values equally. Values that are
/// not finite are left out.
///
/// Slices of different lengths are compared over the shorter length.
pub fn deviation(
    dtype: Dtype,
    values: &[f32],
    decoded: &[f32],
    row: usize,
    importance: Option<&[f32]>,
) -> Deviation {
    let row = row.max(1);
    let mut sum = Deviation::default();
    for (values, decoded) in values.chunks(row).zip(decoded.chunks(row)) {
        let span = match (dtype, importance) {
            (Dtype::Q4_K | Dtype::Q5_K, None) => 32,
            (Dtype::Q4_0 | Dtype::Q4_1 | Dtype::Q5_0 | Dtype::Q5_1, Some(_)) => row,
            _ => dtype.format().block_elements as usize,
        };
        let spans = values.chunks(span).zip(decoded.chunks(span)).enumerate();
        for (i, (values, decoded)) in spans {
            let importance = importance.map(|all| all.get(i * span..).unwrap_or_default());
            sum += one_span(dtype, values, decoded, importance);
        }
    }
    sum
}

fn one_span(
    dtype: Dtype,
    values: &[f32],
    decoded: &[f32],
    importance: Option<&[f32]>,
) -> Deviation {
    let mean = mean_square(values);
    let mut sum = Deviation::default();
    for (i, (&x, &y)) in values.iter().zip(decoded).enumerate() {
        let (x, y) = (f64::from(x), f64::from(y));
        if !x.is_finite() {
            continue;
        }
        let importance = importance.and_then(|all| all.get(i)).map(|&v| f64::from(v));
        let weight = match (dtype, importance) {
            (Dtype::Q3_K | Dtype::Q6_K, None) => x * x,
            (
                Dtype::IQ2_XXS
                | Dtype::IQ2_XS
                | Dtype::IQ2_S
                | Dtype::IQ3_XXS
                | Dtype::IQ3_S
                | Dtype::IQ4_NL
                | Dtype::IQ4_XS,
                None,
            ) => x * x,
            (Dtype::Q4_K | Dtype::Q5_K, None) => x.abs() + mean.sqrt(),
            (Dtype::Q2_K, None) => x.abs(),
            (Dtype::Q6_K | Dtype::MXFP4 | Dtype::TQ1_0 | Dtype::TQ2_0, Some(v)) => v,
            (
                Dtype::Q4_0
                | Dtype::Q4_1
                | Dtype::Q5_0
                | Dtype::Q5_1
                | Dtype::Q2_K
                | Dtype::IQ2_XXS
                | Dtype::IQ2_XS
                | Dtype::IQ2_S,
                Some(v),
            ) => v * (x * x + mean).sqrt(),
            (
                Dtype::Q3_K
                | Dtype::Q4_K
                | Dtype::Q5_K
                | Dtype::IQ3_XXS
                | Dtype::IQ3_S
                | Dtype::IQ4_NL
                | Dtype::IQ4_XS,
                Some(v),
            ) => v * (x * x + 2.0 * mean).sqrt(),
            _ => 1.0,
        };
        let error = (x - y) * (x - y);
        sum += Deviation {
            value: x * x,
            error,
            weighted_value: weight * x * x,
            weighted_error: weight * error,
        };
    }
    sum
}

fn mean_square(values: &[f32]) -> f64 {
    let finite = || {
        values
            .iter()
            .map(|&v| f64::from(v))
            .filter(|v| v.is_finite())
    };
    let count = finite().count().max(1);
    finite().map(|v| v * v).sum::<f64>() / count as f64
}
