//! The divergence to expect of a format on a model that was not measured, from the models that were.
//!
//! In: the measurements. Out: an expected value with a range, and how many measurements are behind it; nothing for a
//! format that was never measured.
//!
//! A measured divergence is taken as
//!
//! ```text
//! ln kld = format + size x ln(parameters) + matrix (with an importance matrix) + series + error
//! ```
//!
//! fitted by least squares over all rows. A series is what was measured together, of one model by the same hand on the same
//! text; its deviation is drawn towards zero as in a mixed model, by the ratio of the variance of errors to that of the
//! deviations. A model that was not measured gets the mean of the deviations, weighted by how similar their models and
//! texts are; what is unknown about its own widens the range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::effects::{Effects, Observation, sums};
use super::{Basis, EIGHT_OF_TEN, PriorEvidence, Quality, QualityRow, rows};
use crate::evidence::csv::Grade;
use crate::model::ModelSpec;

/// The model whose quality is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its name.
    pub model: &'a str,
    /// llama.cpp's name of its architecture.
    pub architecture: &'a str,
    /// Its number of weights.
    pub parameters: u64,
}

impl<'a> Asked<'a> {
    /// Of a model.
    pub fn of(model: &'a ModelSpec) -> Asked<'a> {
        Asked {
            model: &model.name,
            architecture: &model.architecture,
            parameters: model.parameters,
        }
    }
}

/// The fit to a table of measurements.
#[derive(Debug)]
pub struct Prior {
    formats: Vec<Group>,
    series: Vec<Group>,
    effects: Effects,
}

/// Rows of one format or of one series.
type Group = Vec<&'static QualityRow>;

/// How far apart a measurement and a model are: twice or half the size counts as 0.35, another architecture as 1, another
/// model as 0.5, another text than most figures are of as 1.
const SIZE_DISTANCE: f64 = 0.5;
const ARCHITECTURE_DISTANCE: f64 = 1.0;
const MODEL_DISTANCE: f64 = 0.5;
const TEXT_DISTANCE: f64 = 1.0;

/// The most that a series counts, beside one for the mean of all: what several hands measured of one model differs as much
/// as what they measured of similar ones.
const MOST_SIMILAR: f64 = 4.0;

/// What a user's own measurements of the model count.
const OWN_WEIGHT: f64 = 20.0;

/// The fit to the built-in measurements.
pub fn prior() -> &'static Prior {
    static PRIOR: LazyLock<Prior> = LazyLock::new(|| {
        let of_formats = rows().iter().filter(|row| row.cache().is_none());
        Prior::fit(of_formats)
    });
    &PRIOR
}

impl Prior {
    /// Fits `rows`; those of grade C are left out, and those of grade B count half.
    pub fn fit(rows: impl Iterator<Item = &'static QualityRow>) -> Prior {
        let rows: Vec<&QualityRow> = rows.filter(|row| row.grade != Grade::C).collect();
        let formats = groups(&rows, |row| row.format.as_str());
        let series = groups(&rows, |row| row.series());
        let place = |groups: &[Group], row: &QualityRow| {
            groups
                .iter()
                .position(|group| group.contains(&row))
                .unwrap_or_default()
        };
        let observations = rows.iter().map(|row| Observation {
            log: row.kld.ln(),
            format: place(&formats, row),
            series: place(&series, row),
            size: size(row.parameters),
            matrix: f64::from(u8::from(row.is_weighted())),
            weight: if row.grade == Grade::A { 1.0 } else { 0.5 },
        });
        let effects = Effects::fit(observations.collect(), formats.len(), series.len());
        Prior {
            formats,
            series,
            effects,
        }
    }

    /// The divergence to expect of the format with this id, made without an importance matrix. `own` are measurements of
    /// this very model, as formats with their divergence. `None` for a format that was never measured.
    pub fn expect(&self, asked: Asked<'_>, format: &str, own: &[(String, f64)]) -> Option<Quality> {
        let effects = &self.effects;
        let (rows, effect) = self.format(format)?;
        let by_size = effects.of_size(size(asked.parameters));
        let own: Vec<f64> = own
            .iter()
            .filter(|(_, kld)| *kld > 0.0)
            .filter_map(|(format, kld)| Some(kld.ln() - by_size - self.format(format)?.1))
            .collect();
        let own = own
            .iter()
            .map(|value| (*value, OWN_WEIGHT / own.len() as f64));
        let series = self.series.iter().zip(&effects.series);
        let series = series.filter_map(|(rows, value)| {
            let row = rows.first()?;
            Some((*value, similarity(row, asked)))
        });
        let (own, series) = (sums(own), sums(series));
        let deviation = (own.0 + series.0) / (1.0 + own.1 + series.1);
        let centre = (effect + by_size + deviation).exp();
        // Other files say what to expect of this one, and not how far it is from that.
        let of_model = effects.between / (1.0 + own.1);
        let of_format = effects.within * (1.0 + 1.0 / rows.len() as f64);
        let spread = (EIGHT_OF_TEN * (of_format + of_model).sqrt()).exp();
        let models: BTreeSet<&str> = rows.iter().map(|row| row.model.as_str()).collect();
        let by_distance =
            |a: &&&QualityRow, b: &&&QualityRow| distance(a, asked).total_cmp(&distance(b, asked));
        Some(Quality {
            kld: centre,
            low: centre / spread,
            high: centre * spread,
            basis: Basis::Prior(PriorEvidence {
                measurements: rows.len(),
                models: models.len(),
                nearest: rows.iter().min_by(by_distance)?,
            }),
        })
    }

    /// The rows of a format, and its effect.
    fn format(&self, id: &str) -> Option<(&Group, f64)> {
        let is = |rows: &Group| rows.first().is_some_and(|row| row.format == id);
        let at = self.formats.iter().position(is)?;
        Some((self.formats.get(at)?, *self.effects.formats.get(at)?))
    }
}

/// The rows by what `key` says of them.
fn groups(rows: &[&'static QualityRow], key: impl Fn(&QualityRow) -> &str) -> Vec<Group> {
    let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    groups.into_values().collect()
}

/// The weight of a series in the prediction for a model, beside one for the mean of all series.
pub(super) fn similarity(row: &QualityRow, asked: Asked<'_>) -> f64 {
    let share = (-distance(row, asked)).exp();
    (share / (1.0 - share)).min(MOST_SIMILAR)
}

/// How different the model of a row is from the one asked for.
pub(super) fn distance(row: &QualityRow, asked: Asked<'_>) -> f64 {
    let unlike = |differs: bool, distance: f64| if differs { distance } else { 0.0 };
    SIZE_DISTANCE * (size(row.parameters) - size(asked.parameters)).abs()
        + unlike(
            row.architecture != asked.architecture,
            ARCHITECTURE_DISTANCE,
        )
        + unlike(!row.model.eq_ignore_ascii_case(asked.model), MODEL_DISTANCE)
        + unlike(!row.is_usual_text(), TEXT_DISTANCE)
}

fn size(parameters: u64) -> f64 {
    (parameters.max(1) as f64 / 1e9).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(row: &QualityRow) -> Asked<'_> {
        Asked {
            model: &row.model,
            architecture: &row.architecture,
            parameters: row.parameters,
        }
    }

    const LLAMA_8B: Asked<'_> = Asked {
        model: "another",
        architecture: "llama",
        parameters: 8_030_261_248,
    };

    /// Each model is predicted by the fit to all others.
    #[test]
    fn the_range_holds_most_of_what_was_measured_of_models_left_out() {
        let of_formats = || rows().iter().filter(|row| row.cache().is_none());
        let plain = of_formats().filter(|row| row.grade != Grade::C && !row.is_weighted());
        let (mut inside, mut all) = (0, 0);
        for row in plain {
            let others = of_formats().filter(|other| other.model != row.model);
            let Some(expected) = Prior::fit(others).expect(asked(row), &row.format, &[]) else {
                continue;
            };
            all += 1;
            inside += usize::from((expected.low..=expected.high).contains(&row.kld));
        }
        assert!(all >= 25, "{all}");
        let share = f64::from(inside as u32) / f64::from(all as u32);
        assert!((0.7..=0.95).contains(&share), "{inside} of {all}");
    }

    /// Within a family of formats, more bits are never expected to lose more.
    #[test]
    fn more_bits_lose_less() {
        let families = [
            &[
                "q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m",
                "q6_k", "q8_0",
            ][..],
            &["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"],
            &["int4", "fp8"],
        ];
        for family in families {
            let kld = |format: &&str| prior().expect(LLAMA_8B, format, &[]).unwrap().kld;
            let klds: Vec<f64> = family.iter().map(kld).collect();
            assert!(klds.is_sorted_by(|a, b| a > b), "{family:?}: {klds:?}");
        }
    }

    #[test]
    fn a_smaller_model_is_expected_to_lose_more() {
        let small = Asked {
            parameters: 500_000_000,
            ..LLAMA_8B
        };
        let kld = |asked| prior().expect(asked, "q4_k_m", &[]).unwrap().kld;
        assert!(kld(small) > 1.2 * kld(LLAMA_8B));
    }

    #[test]
    fn what_was_measured_of_the_model_itself_moves_and_narrows_the_rest() {
        let expect = |own: &[(String, f64)]| prior().expect(LLAMA_8B, "q5_k_m", own).unwrap();
        let before = expect(&[]);
        let q4 = prior().expect(LLAMA_8B, "q4_k_m", &[]).unwrap().kld;
        let after = expect(&[("q4_k_m".to_owned(), 3.0 * q4)]);
        let moved = after.kld / before.kld;
        assert!((2.0..=3.0).contains(&moved), "{moved}");
        assert!(after.high / after.low < before.high / before.low);
    }

    #[test]
    fn a_format_that_was_never_measured_has_no_expectation() {
        assert_eq!(prior().expect(LLAMA_8B, "bf16", &[]), None);
        assert_eq!(prior().expect(LLAMA_8B, "mxfp4", &[]), None);
    }
}
