//! The divergence to expect of a format on a model that was not measured, from the models that were.
//!
//! In: the measurements. Out: an expected value with a range, and how many measurements are behind it; nothing for a
//! format that was never measured.
//!
//! A measured divergence is taken as
//!
//! ```text
//! ln kld = format + size x ln(parameters / 10^9) + matrix (with an importance matrix) + model + error
//! ```
//!
//! fitted by least squares over all rows, with `model`, the deviation of one model, drawn towards zero as in a mixed model:
//! by the ratio of the variance of errors to that of the deviations. A model that was not measured gets the mean of the
//! others' deviations, weighted by how similar they are; what is unknown about its own widens the range.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use super::effects::{Effects, Observation, sums};
use super::{Basis, EIGHT_OF_TEN, PriorEvidence, Quality, QualityRow, rows};
use crate::evidence::csv::Grade;

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

/// The fit to a table of measurements.
#[derive(Debug)]
pub struct Prior {
    formats: Vec<Group>,
    models: Vec<Group>,
    effects: Effects,
}

/// Rows of one format or of one model.
type Group = Vec<&'static QualityRow>;

/// How far apart models are: halving or doubling the size counts as 0.35, another architecture as 1, another model as 0.5.
const SIZE_DISTANCE: f64 = 0.5;
const ARCHITECTURE_DISTANCE: f64 = 1.0;
const MODEL_DISTANCE: f64 = 0.5;

/// The weight of a measured model in its own prediction, beside one for the mean of all models.
const OWN_WEIGHT: f64 = 20.0;

/// The fit to the built-in measurements.
pub fn prior() -> &'static Prior {
    static PRIOR: LazyLock<Prior> = LazyLock::new(|| Prior::fit(rows().iter()));
    &PRIOR
}

impl Prior {
    /// Fits `rows`; those of grade C are left out, and those of grade B count half.
    pub fn fit(rows: impl Iterator<Item = &'static QualityRow>) -> Prior {
        let rows: Vec<&QualityRow> = rows.filter(|row| row.grade != Grade::C).collect();
        let formats = groups(&rows, |row| &row.format);
        let models = groups(&rows, |row| &row.model);
        let place = |groups: &[Group], row: &QualityRow| {
            groups
                .iter()
                .position(|group| group.contains(&row))
                .unwrap_or_default()
        };
        let observations = rows.iter().map(|row| Observation {
            log: row.kld.ln(),
            format: place(&formats, row),
            model: place(&models, row),
            size: size(row.parameters),
            matrix: f64::from(u8::from(row.is_weighted())),
            weight: if row.grade == Grade::A { 1.0 } else { 0.5 },
        });
        let effects = Effects::fit(observations.collect(), formats.len(), models.len());
        Prior {
            formats,
            models,
            effects,
        }
    }

    /// The divergence to expect of the format with this id, made without an importance matrix. `own` are measurements of
    /// this very model, as formats with their divergence. `None` for a format that was never measured.
    pub fn expect(&self, asked: Asked<'_>, format: &str, own: &[(String, f64)]) -> Option<Quality> {
        let effects = &self.effects;
        let (rows, effect) = self.format(format)?;
        let by_size = effects.of_size(size(asked.parameters));
        let deviations = self.models.iter().zip(&effects.models);
        let others = deviations.map(|(rows, value)| (*value, similarity(rows, asked)));
        let own: Vec<f64> = own
            .iter()
            .filter_map(|(format, kld)| {
                Some(kld.max(f64::MIN_POSITIVE).ln() - by_size - self.format(format)?.1)
            })
            .collect();
        let own = own
            .iter()
            .map(|value| (*value, OWN_WEIGHT / own.len() as f64));
        let (sum, count) = sums(others.chain(own));
        let centre = (effect + by_size + sum / (count + 1.0)).exp();
        let of_format = effects.within * (1.0 + 1.0 / rows.len() as f64);
        let spread = (EIGHT_OF_TEN * (of_format + effects.between / (1.0 + count)).sqrt()).exp();
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
fn groups(rows: &[&'static QualityRow], key: impl Fn(&QualityRow) -> &String) -> Vec<Group> {
    let mut groups: BTreeMap<&String, Group> = BTreeMap::new();
    for row in rows {
        groups.entry(key(row)).or_default().push(row);
    }
    groups.into_values().collect()
}

/// The weight of a measured model in the prediction for another one, beside one for the mean of all models.
fn similarity(rows: &Group, asked: Asked<'_>) -> f64 {
    let share = rows
        .first()
        .map_or(0.0, |row| (-distance(row, asked)).exp());
    (share / (1.0 - share)).min(OWN_WEIGHT)
}

/// How different the model of a row is from the one asked for.
fn distance(row: &QualityRow, asked: Asked<'_>) -> f64 {
    let unlike = |differs: bool, distance: f64| if differs { distance } else { 0.0 };
    SIZE_DISTANCE * (size(row.parameters) - size(asked.parameters)).abs()
        + unlike(
            row.architecture != asked.architecture,
            ARCHITECTURE_DISTANCE,
        )
        + unlike(row.model != asked.model, MODEL_DISTANCE)
}

fn size(parameters: u64) -> f64 {
    (parameters.max(1) as f64 / 1e9).ln()
}
