//! What runs say about the parameters of a speed model: a Gaussian update in natural logarithms of time.
//!
//! In: how far each run was off and what its time consists of, and how far boards, models and runs differ ([`Widths`]). Out:
//! [`Posterior`]. Pure arithmetic.
//!
//! The logarithm of the measured over the predicted time of a run is
//!
//! ```text
//! common + sum over parameters of  share x change  + error of its model + noise
//! ```
//!
//! `share` is the elasticity of the predicted time to the parameter. `common` and the changes belong to the board, the
//! error to all runs of one model there, the noise to one run alone; each is normal around 0 with a width of its own. So
//! several runs of one model are not as many models. Three sets of widths are weighed against each other by the runs: see
//! `BELIEFS`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The elasticities of a predicted decode time to the parameters of the speed model; they sum to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Reading weights and state from memory.
    pub bandwidth: f64,
    /// Unpacking and multiplying them.
    pub arithmetic: f64,
    /// Attention over cached keys and values.
    pub cache: f64,
    /// Kernel launches.
    pub launch: f64,
    /// Work on the host.
    pub host: f64,
}

impl Shares {
    /// Whether each is a share.
    pub(super) fn are_shares(&self) -> bool {
        let values = self.values();
        let sum: f64 = values.iter().sum();
        values.iter().all(|share| (0.0..=1.0).contains(share)) && (sum - 1.0).abs() < 1e-3
    }

    fn values(&self) -> [f64; 5] {
        [
            self.bandwidth,
            self.arithmetic,
            self.cache,
            self.launch,
            self.host,
        ]
    }
}

/// What a time depends on: the factor common to all of it, then the parameters in the order of [`Shares`].
pub const TERMS: usize = 6;

type Vector = [f64; TERMS];

/// The weight of each term in a time of these shares; without shares only that of the common factor.
pub fn weights(shares: Option<Shares>) -> [f64; TERMS] {
    let shares = shares.unwrap_or_default().values();
    let mut weights = [1.0; TERMS];
    for (weight, share) in weights.iter_mut().skip(1).zip(shares) {
        *weight = share;
    }
    weights
}

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Standard deviations of what boards, models and runs differ by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Widths {
    /// Of the terms of a board.
    pub(super) terms: [f64; TERMS],
    /// Of the error of a model.
    pub(super) model: f64,
    /// Of a run alone; above 0.
    pub(super) run: f64,
}

/// Ranges reach this many standard deviations: 92 % of a normal distribution lie between.
pub(super) const REACH: f64 = 1.75;

impl Widths {
    /// The variance of a time with these weights before any run.
    fn variance(&self, weights: &Vector) -> f64 {
        let terms = weights.iter().zip(&self.terms);
        let terms: f64 = terms.map(|(weight, width)| (weight * width).powi(2)).sum();
        terms + self.model.powi(2) + self.run.powi(2)
    }
}

/// One run: the logarithm of the measured over the predicted time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    pub(super) model: &'a str,
    pub(super) shares: Option<Shares>,
    pub(super) off: f64,
}

/// A belief about boards, models and runs before any run.
struct Belief {
    /// How likely it is.
    odds: f64,
    /// By how much all of a board's time differs at least, where runs do not say what it consists of (prompts).
    whole: f64,
    /// By how much each parameter of a board differs at least.
    parts: f64,
    /// How many times their widths models and runs scatter.
    scatter: f64,
}

/// Most boards, models and runs differ as the published ones do; that is the first. But a board may be unlike them all
/// (another memory clock, another build), and a model may be one that the speed model does not fit. Runs that are far off
/// are then one or the other: those of one model say little about which, while models that are off alike speak of the
/// board, and runs that contradict each other of scatter. A board is unlike others in its parts, not in all of its time at
/// once: a common factor as wide as they are would be taken for slow memory together with slow launches. How often either is
/// so is a belief: no place of the published rows is unlike the others, and with these odds three of their runs seldom make
/// the predictions of other models worse (docs/speed.md).
const BELIEFS: [Belief; 3] = [
    Belief {
        odds: 0.7,
        whole: 0.0,
        parts: 0.0,
        scatter: 1.0,
    },
    Belief {
        odds: 0.1,
        whole: 0.15,
        parts: 0.25,
        scatter: 1.0,
    },
    Belief {
        odds: 0.2,
        whole: 0.0,
        parts: 0.0,
        scatter: 3.0,
    },
];

/// What is believed of a board after its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    widths: Widths,
    /// Each of [`BELIEFS`] with its probability.
    cases: Vec<(f64, Case)>,
    /// How many runs it rests on.
    pub runs: usize,
    /// How many models.
    pub models: usize,
    /// The weights of the runs, on average.
    typical: Vector,
}

impl Posterior {
    /// The belief after `samples`; `None` if there is none.
    pub(super) fn new(widths: Widths, samples: &[Sample<'_>]) -> Option<Posterior> {
        if samples.is_empty() {
            return None;
        }
        let mut groups: BTreeMap<&str, Vec<(Vector, f64)>> = BTreeMap::new();
        for sample in samples {
            let group = groups.entry(sample.model).or_default();
            group.push((weights(sample.shares), sample.off));
        }
        let by_parts = samples.iter().all(|sample| sample.shares.is_some());
        let cases = BELIEFS.iter().map(|belief| {
            let mut terms = widths.terms;
            let [whole, parts @ ..] = &mut terms;
            if !by_parts {
                *whole = whole.max(belief.whole);
            }
            for width in parts.iter_mut().filter(|width| **width > 0.0) {
                *width = width.max(belief.parts);
            }
            let widths = Widths {
                terms,
                model: widths.model * belief.scatter,
                run: widths.run * belief.scatter,
            };
            let case = Case::new(widths, &groups);
            (belief.odds.ln() + case.evidence, case)
        });
        let mut cases: Vec<(f64, Case)> = cases.collect();
        let most = cases.iter().map(|(odds, _)| *odds).fold(f64::MIN, f64::max);
        let total: f64 = cases.iter().map(|(odds, _)| (odds - most).exp()).sum();
        for (odds, _) in &mut cases {
            *odds = (*odds - most).exp() / total;
        }
        let all = groups.values().flatten();
        Some(Posterior {
            cases,
            runs: samples.len(),
            models: groups.len(),
            typical: mean(all.map(|(weights, _)| weights)),
            widths,
        })
    }

    /// What is believed of a term: its mean and its standard deviation, in logarithms; `None` where it cannot change.
    pub(super) fn term(&self, term: usize) -> Option<(f64, f64)> {
        let known = self.widths.terms[term] > 0.0 && self.typical[term] > 0.0;
        known.then(|| self.together(|case| (case.mean[term], case.covariance[term][term].max(0.0))))
    }

    /// The mean of each term.
    pub(super) fn means(&self) -> Vector {
        std::array::from_fn(|term| {
            let cases = self.cases.iter();
            cases.map(|(odds, case)| odds * case.mean[term]).sum()
        })
    }

    /// The error of a model's time that its own runs show; 0 without any.
    pub(super) fn of_model(&self, model: &str) -> f64 {
        let cases = self.cases.iter();
        cases.map(|(odds, case)| odds * case.of_model(model)).sum()
    }

    /// The mean and the standard deviation of another model's time whose shares are those of the runs.
    pub(super) fn typical(&self) -> (f64, f64) {
        self.together(|case| case.outlook(&self.typical, None))
    }

    /// A side of a range, in logarithms, after the runs. It narrows as the standard deviation of the time does, and no
    /// further than that deviation itself reaches; runs never widen it.
    pub fn side(&self, model: &str, shares: Option<Shares>, side: f64) -> f64 {
        let weights = weights(shares);
        let (_, after) = self.together(|case| case.outlook(&weights, Some(model)));
        let before = self.widths.variance(&weights).sqrt();
        let narrowed = side * (after / before).min(1.0);
        narrowed.max(side.min(REACH * after))
    }

    /// The mean and the standard deviation over all cases, from those of each: the mean and the variance.
    fn together(&self, of: impl Fn(&Case) -> (f64, f64)) -> (f64, f64) {
        let each: Vec<(f64, (f64, f64))> = self
            .cases
            .iter()
            .map(|(odds, case)| (*odds, of(case)))
            .collect();
        let middle: f64 = each.iter().map(|(odds, (mean, _))| odds * mean).sum();
        let variance: f64 = each
            .iter()
            .map(|(odds, (mean, variance))| odds * (variance + (mean - middle).powi(2)))
            .sum();
        (middle, variance.sqrt())
    }
}

/// What the runs of one model say about its own error.
#[derive(Clone, Debug, PartialEq)]
struct OfModel {
    /// The share of it that they tell: 1 where they were without noise.
    known: f64,
    /// How far they are off, on average.
    off: f64,
    /// Their weights, on average.
    weights: Vector,
}

/// The update under one belief.
#[derive(Clone, Debug, PartialEq)]
struct Case {
    widths: Widths,
    mean: Vector,
    covariance: [Vector; TERMS],
    models: BTreeMap<String, OfModel>,
    /// The logarithm of the density of the runs, up to a constant.
    evidence: f64,
}

impl Case {
    fn new(widths: Widths, groups: &BTreeMap<&str, Vec<(Vector, f64)>>) -> Case {
        let (run, model) = (widths.run.powi(2), widths.model.powi(2));
        // In units of the prior widths, so that a width of zero needs no case of its own.
        let scaled = |weights: &Vector| -> Vector {
            std::array::from_fn(|term| weights[term] * widths.terms[term])
        };
        let mut precision: [Vector; TERMS] =
            std::array::from_fn(|row| std::array::from_fn(|column| f64::from(row == column)));
        let mut toward = [0.0; TERMS];
        let mut add = |weights: &Vector, off: f64, factor: f64| {
            for (row, a) in precision.iter_mut().zip(weights) {
                for (entry, b) in row.iter_mut().zip(weights) {
                    *entry += factor * a * b;
                }
            }
            for (entry, a) in toward.iter_mut().zip(weights) {
                *entry += factor * a * off;
            }
        };
        let (mut models, mut evidence) = (BTreeMap::new(), 0.0);
        for (name, group) in groups {
            let count = group.len() as f64;
            for (weights, off) in group {
                add(&scaled(weights), *off, 1.0 / run);
                evidence -= off * off / run / 2.0 + widths.run.ln();
            }
            // The inverse of their common covariance (Sherman and Morrison), and its determinant.
            let together = mean(group.iter().map(|(weights, _)| weights));
            let off = group.iter().map(|(_, off)| off).sum::<f64>() / count;
            let known = count * model / (run + count * model);
            add(&scaled(&together), off, -known * count / run);
            evidence += off * off * known * count / run / 2.0;
            evidence -= (1.0 + count * model / run).ln() / 2.0;
            let of_model = OfModel {
                known,
                off,
                weights: together,
            };
            models.insert((*name).to_owned(), of_model);
        }
        let lower = cholesky(&precision);
        let solved = solve(&lower, &toward);
        for (term, pivot) in lower.iter().enumerate() {
            evidence -= pivot[term].ln();
        }
        evidence += dot(&toward, &solved) / 2.0;
        let unit = |column: usize| std::array::from_fn(|row| f64::from(row == column));
        let inverse: [Vector; TERMS] = std::array::from_fn(|column| solve(&lower, &unit(column)));
        Case {
            mean: scaled(&solved),
            covariance: std::array::from_fn(|row| {
                scaled(&inverse[row]).map(|entry| entry * widths.terms[row])
            }),
            models,
            widths,
            evidence,
        }
    }

    /// The error of a model's time that its own runs show.
    fn of_model(&self, model: &str) -> f64 {
        let of_model = self.models.get(model);
        of_model.map_or(0.0, |one| {
            one.known * (one.off - dot(&one.weights, &self.mean))
        })
    }

    /// The mean and the variance of the next measured time of `model`, or of one that has not run.
    fn outlook(&self, weights: &Vector, model: Option<&str>) -> (f64, f64) {
        let of_model = model.and_then(|model| self.models.get(model));
        // What the model's own runs tell of its error takes as much of the board's terms away.
        let known = of_model.map_or(0.0, |one| one.known);
        let left: Vector = std::array::from_fn(|term| {
            weights[term] - of_model.map_or(0.0, |one| known * one.weights[term])
        });
        let rows = self.covariance.iter().map(|row| dot(row, &left));
        let board: f64 = rows.zip(&left).map(|(row, weight)| row * weight).sum();
        let of_models = self.widths.model.powi(2) * (1.0 - known);
        let variance = board.max(0.0) + of_models + self.widths.run.powi(2);
        let mean = dot(&left, &self.mean) + of_model.map_or(0.0, |one| known * one.off);
        (mean, variance)
    }
}

fn mean<'a>(vectors: impl Iterator<Item = &'a Vector>) -> Vector {
    let (mut sum, mut count) = ([0.0; TERMS], 0.0);
    for vector in vectors {
        count += 1.0;
        sum.iter_mut()
            .zip(vector)
            .for_each(|(sum, value)| *sum += value);
    }
    sum.map(|sum| sum / f64::max(count, 1.0))
}

/// The lower triangle whose product with its transpose is `matrix`, which is symmetric and at least the identity.
fn cholesky(matrix: &[Vector; TERMS]) -> [Vector; TERMS] {
    let mut lower = [[0.0; TERMS]; TERMS];
    for row in 0..TERMS {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| lower[row][k] * lower[column][k]).sum();
            let rest = matrix[row][column] - known;
            lower[row][column] = if row == column {
                // Rounding alone takes it below 1.
                rest.max(1.0).sqrt()
            } else {
                rest / lower[column][column]
            };
        }
    }
    lower
}

/// The solution for a matrix of which `lower` is the triangle.
fn solve(lower: &[Vector; TERMS], right: &Vector) -> Vector {
    let mut solution = *right;
    for row in 0..TERMS {
        let known: f64 = (0..row).map(|k| lower[row][k] * solution[k]).sum();
        solution[row] = (solution[row] - known) / lower[row][row];
    }
    for row in (0..TERMS).rev() {
        let known: f64 = (row + 1..TERMS).map(|k| lower[k][row] * solution[k]).sum();
        solution[row] = (solution[row] - known) / lower[row][row];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: Widths = Widths {
        terms: [0.1, 0.2, 0.3, 0.0, 0.0, 0.0],
        model: 0.1,
        run: 0.1,
    };
    const MEMORY: Shares = Shares {
        bandwidth: 1.0,
        arithmetic: 0.0,
        cache: 0.0,
        launch: 0.0,
        host: 0.0,
    };
    const COMPUTE: Shares = Shares {
        bandwidth: 0.0,
        arithmetic: 1.0,
        ..MEMORY
    };

    /// Under the first belief alone, where the answers can be worked out by hand.
    fn case(widths: Widths, samples: &[(&'static str, Option<Shares>, f64)]) -> Case {
        let mut groups: BTreeMap<&str, Vec<(Vector, f64)>> = BTreeMap::new();
        for (model, shares, off) in samples {
            let group = groups.entry(model).or_default();
            group.push((weights(*shares), *off));
        }
        Case::new(widths, &groups)
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
    }

    #[test]
    fn runs_of_one_model_are_not_as_many_models() {
        // The mean moves by the variance of the board over that of the mean of the runs.
        let one = case(WIDTHS, &[("a", None, 0.3)]);
        close(one.mean[0], 0.3 * 0.01 / (0.01 + 0.01 + 0.01));
        let same = case(WIDTHS, &[("a", None, 0.3), ("a", None, 0.3)]);
        close(same.mean[0], 0.3 * 0.01 / (0.01 + 0.01 + 0.01 / 2.0));
        let other = case(WIDTHS, &[("a", None, 0.3), ("b", None, 0.3)]);
        close(other.mean[0], 0.3 * 0.01 / (0.01 + 0.02 / 2.0));
        close(other.covariance[0][0], 1.0 / (1.0 / 0.01 + 2.0 / 0.02));
        // What is left of a model's own error goes to that model, and its next run repeats it but for the noise.
        close(one.of_model("a"), 0.5 * (0.3 - 0.1));
        close(one.of_model("b"), 0.0);
    }

    /// Two runs, one of memory and one of arithmetic: their 2 x 2 covariance, inverted by hand.
    #[test]
    fn parameters_are_told_apart_by_shares() {
        let found = case(
            WIDTHS,
            &[("a", Some(MEMORY), 0.2), ("b", Some(COMPUTE), -0.1)],
        );
        let [a, b, c] = [0.01 + 0.04 + 0.02, 0.01 + 0.09 + 0.02, 0.01];
        let determinant = a * b - c * c;
        let [x, y] = [
            (b * 0.2 + c * 0.1) / determinant,
            (-c * 0.2 - a * 0.1) / determinant,
        ];
        close(found.mean[0], 0.01 * (x + y));
        close(found.mean[1], 0.04 * x);
        close(found.mean[2], 0.09 * y);
        close(found.covariance[1][1], 0.04 - 0.04 * 0.04 * b / determinant);
        close(found.covariance[1][2], 0.04 * 0.09 * c / determinant);
        // The density, up to the same constant as under other widths.
        let density = |[a, b, c]: [f64; 3]| {
            let determinant = a * b - c * c;
            let [x, y] = [0.2, -0.1];
            let square = (b * x * x + a * y * y - 2.0 * c * x * y) / determinant;
            -(square + determinant.ln()) / 2.0
        };
        let wide = Widths {
            terms: WIDTHS.terms.map(|width| width * 2.0),
            model: 0.3,
            run: 0.2,
        };
        let samples = [("a", Some(MEMORY), 0.2), ("b", Some(COMPUTE), -0.1)];
        let noise = 0.09 + 0.04;
        close(
            case(wide, &samples).evidence - found.evidence,
            density([0.04 + 0.16 + noise, 0.04 + 0.36 + noise, 0.04]) - density([a, b, c]),
        );
    }

    fn posterior(samples: &[(&'static str, f64)]) -> Posterior {
        let samples = samples.iter().map(|(model, off)| Sample {
            model,
            shares: Some(MEMORY),
            off: *off,
        });
        Posterior::new(WIDTHS, &samples.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn ranges_never_become_narrower_than_the_scatter() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let many: Vec<(&str, f64)> = names.iter().cycle().take(400).map(|n| (*n, 0.1)).collect();
        let many = posterior(&many);
        let scatter = REACH * (0.1f64.powi(2) + 0.1f64.powi(2)).sqrt();
        let another = many.side("z", Some(MEMORY), 0.6);
        assert!((scatter..0.6).contains(&another), "{another} {scatter}");
        let own = many.side("a", Some(MEMORY), 0.6);
        assert!((REACH * 0.1..another).contains(&own), "{own}");
        // Three runs of one model hardly narrow the range of another, and none widens one.
        let three = posterior(&[("a", 0.1), ("a", 0.1), ("a", 0.1)]).side("z", Some(MEMORY), 0.6);
        assert!((another..0.6).contains(&three), "{three}");
        for side in [0.0, 0.01, 0.2, f64::INFINITY] {
            assert!(many.side("z", Some(MEMORY), side) <= side);
        }
    }

    #[test]
    fn models_that_are_off_alike_speak_of_the_board() {
        let narrow = Widths {
            terms: [0.01, 0.03, 0.03, 0.0, 0.0, 0.0],
            model: 0.05,
            run: 0.05,
        };
        let learned = |runs: &[(&'static str, f64)]| {
            let samples = runs.iter().map(|(model, off)| Sample {
                model,
                shares: Some(MEMORY),
                off: *off,
            });
            let found = Posterior::new(narrow, &samples.collect::<Vec<_>>()).unwrap();
            found.typical().0
        };
        let alike = learned(&[("a", 0.25), ("b", 0.25), ("c", 0.25)]);
        let of_one = learned(&[("a", 0.25), ("a", 0.25), ("a", 0.25)]);
        let apart = learned(&[("a", 0.5), ("b", -0.1), ("c", 0.35)]);
        assert!(alike > 0.2 && of_one < alike, "{alike} {of_one}");
        assert!(apart < 0.1, "{apart}");
    }
}
