//! What a cache of keys and values in fewer than 16 bits costs: as it was measured of the very model, else as the rows of
//! `profiles/quality.csv` let expect that measured other models with such a cache, all else alike.
//!
//! In: the types of keys and values. Out: a [`Quality`] to add to that of a format; nothing for a type that nobody
//! measured.

use super::measured::is_wide;
use super::prior::{distance, similarity};
use super::{
    Asked, Basis, EIGHT_OF_TEN, MeasuredQuality, PriorEvidence, Quality, QualityRow, rows,
};
use crate::dtype::Dtype;
use crate::evidence::csv::Grade;
use crate::model::{Cache, ModelSpec};

/// What a cache costs a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CacheCosts {
    /// What was measured of this model, by the types of keys and values.
    measured: Vec<([Dtype; 2], Quality)>,
}

/// What a row counts beside its similarity: the mean of all rows is the guide for a model that is like none.
const MEAN_WEIGHT: f64 = 0.5;

/// The least deviation of a logarithm: two models that agree are no promise for a third.
const LEAST_DEVIATION: f64 = 0.5;

impl CacheCosts {
    /// With what was measured of the model, if there is a file of it.
    pub fn of(measured: Option<&MeasuredQuality>) -> CacheCosts {
        CacheCosts {
            measured: measured.map_or_else(Vec::new, MeasuredQuality::caches),
        }
    }

    /// The divergence that keys and values in these types add; `None` where that was never measured.
    pub fn of_types(&self, model: &ModelSpec, kv_types: [Dtype; 2]) -> Option<Quality> {
        let mut attention = model
            .layers
            .iter()
            .filter_map(|layer| layer.mixer.attention.as_ref());
        if !attention.any(|own| matches!(own.cache, Cache::Own | Cache::Images)) {
            return Some(Quality::original());
        }
        let mut measured = self.measured.iter();
        if let Some((_, cost)) = measured.find(|(types, _)| *types == kv_types) {
            return Some(cost.clone());
        }
        let asked = Asked::of(model);
        // Half of what a cache costs is put down to the keys, half to the values.
        let [keys, values] = kv_types.map(|dtype| one_type(asked, dtype));
        let (keys, values) = (keys?.halved(), values?.halved());
        Some(if keys.kld < values.kld {
            keys.after(&values).with_basis(values.basis)
        } else {
            values.after(&keys).with_basis(keys.basis)
        })
    }
}

impl Quality {
    fn halved(self) -> Quality {
        Quality {
            kld: self.kld / 2.0,
            low: self.low / 2.0,
            high: self.high / 2.0,
            ..self
        }
    }

    fn with_basis(self, basis: Basis) -> Quality {
        Quality { basis, ..self }
    }
}

/// What keys and values of one type cost.
fn one_type(asked: Asked<'_>, dtype: Dtype) -> Option<Quality> {
    if !dtype.is_quantized() {
        return is_wide(dtype).then(Quality::original);
    }
    let fitted = rows().iter().filter(|row| row.grade != Grade::C);
    let all: Vec<(Dtype, &QualityRow)> =
        fitted.filter_map(|row| Some((row.cache()?, row))).collect();
    let own = || {
        all.iter()
            .filter(|(of, _)| *of == dtype)
            .map(|(_, row)| *row)
    };
    let count = own().count();
    if count == 0 {
        return None;
    }
    let weights = own().map(|row| (row.kld.ln(), MEAN_WEIGHT + similarity(row, asked)));
    let (sum, weight) = weights.fold((0.0, 0.0), |(sum, all), (log, weight)| {
        (sum + weight * log, all + weight)
    });
    let centre = (sum / weight).exp();
    let variance = deviation(&all).powi(2) * (1.0 + 1.0 / count as f64);
    let spread = (EIGHT_OF_TEN * variance.sqrt()).exp();
    let nearest = own().min_by(|a, b| distance(a, asked).total_cmp(&distance(b, asked)));
    Some(Quality {
        kld: centre,
        low: centre / spread,
        high: centre * spread,
        basis: Basis::Prior(PriorEvidence {
            measurements: count,
            models: count,
            nearest: nearest?,
        }),
    })
}

/// The standard deviation of the logarithms from the means of their types, over all types.
fn deviation(all: &[(Dtype, &QualityRow)]) -> f64 {
    let (mut squares, mut free) = (0.0, 0.0);
    let mut types: Vec<Dtype> = all.iter().map(|(dtype, _)| *dtype).collect();
    types.sort_unstable();
    types.dedup();
    for dtype in types {
        let logs = all.iter().filter(|(of, _)| *of == dtype);
        let logs: Vec<f64> = logs.map(|(_, row)| row.kld.ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len().max(1) as f64;
        squares += logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>();
        free += logs.len() as f64 - 1.0;
    }
    if free > 0.0 {
        (squares / free).sqrt().max(LEAST_DEVIATION)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked<'_> = Asked {
        model: "another",
        architecture: "llama",
        parameters: 1_000_000_000,
    };

    #[test]
    fn fewer_bits_in_the_cache_cost_more() {
        let kld = |dtype| one_type(ASKED, dtype).unwrap().kld;
        let types = [Dtype::F16, Dtype::Q8_0, Dtype::Q5_1, Dtype::Q4_0];
        assert!(types.map(kld).is_sorted_by(|a, b| a < b));
        assert_eq!(kld(Dtype::BF16), 0.0);
        let q4 = one_type(ASKED, Dtype::Q4_0).unwrap();
        assert!(q4.low < 0.056 && 0.056 < q4.high, "{q4:?}");
        assert_eq!(one_type(ASKED, Dtype::IQ4_NL), None, "nobody measured it");
    }

    #[test]
    fn the_model_that_was_measured_counts_most() {
        let of = |model: &str, architecture: &str, parameters| {
            let asked = Asked {
                model,
                architecture,
                parameters,
            };
            one_type(asked, Dtype::Q4_0).unwrap().kld
        };
        let small = of("SmolLM2-135M-Instruct", "llama", 134_515_008);
        let gemma = of("gemma-3-270m-it", "gemma3", 268_098_176);
        assert!(small < gemma, "{small} {gemma}");
    }
}
