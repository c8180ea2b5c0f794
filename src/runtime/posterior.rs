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
//! several runs of one model are not as many models.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::profile::{Learning, Range, Speed};
use crate::sourced::Trust;

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
pub(super) const TERMS: usize = 6;

type Vector = [f64; TERMS];

/// The weight of each term in a time of these shares; without shares only that of the common factor.
fn weights(shares: Option<Shares>) -> Vector {
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

/// No run repeats better than this.
const LEAST_NOISE: f64 = 0.005;

impl Widths {
    /// Those of decode steps. A parameter whose range people stated differs at least as much as that range says.
    pub fn of_decode(speed: &Speed) -> Widths {
        let learning = &speed.learning;
        let stated = |range: &Range, fitted: f64| deviation(range).max(fitted);
        let mut widths = Widths::new(learning, &speed.spread);
        let parameters = [
            stated(&speed.bandwidth_efficiency, learning.bandwidth),
            stated(&speed.cost_scale, learning.arithmetic),
            learning.cache,
            stated(&speed.launch_seconds, learning.launch),
            stated(&speed.host_seconds, learning.host),
        ];
        for (width, parameter) in widths.terms.iter_mut().skip(1).zip(parameters) {
            *width = parameter;
        }
        widths
    }

    /// Those of prompts, which have the common factor alone.
    pub fn of_prefill(speed: &Speed) -> Widths {
        Widths::new(&speed.prefill.learning, &speed.prefill.scale)
    }

    /// A range of the whole that was not fitted is one of boards too, as far as models and runs do not fill it.
    fn new(learning: &Learning, whole: &Range) -> Widths {
        let (model, run) = (learning.model, learning.run.max(LEAST_NOISE));
        let mut terms = [0.0; TERMS];
        let beyond = match whole.trust {
            Trust::Fitted | Trust::Published | Trust::Measured => 0.0,
            _ => deviation(whole).powi(2) - model * model - run * run,
        };
        if let Some(common) = terms.first_mut() {
            *common = learning.common.max(beyond.max(0.0).sqrt());
        }
        Widths { terms, model, run }
    }

    /// The variance of a time with these weights before any run.
    fn variance(&self, weights: &Vector) -> f64 {
        let terms = weights.iter().zip(&self.terms);
        let terms: f64 = terms.map(|(weight, width)| (weight * width).powi(2)).sum();
        terms + self.model.powi(2) + self.run.powi(2)
    }
}

/// The standard deviation, in logarithms, of what lies in a range. An end at zero says nothing.
fn deviation(range: &Range) -> f64 {
    let (low, high) = (
        (range.expected / range.low).ln(),
        (range.high / range.expected).ln(),
    );
    let sides = [low, high];
    let known = sides.iter().filter(|side| side.is_finite());
    let count = known.clone().count().max(1) as f64;
    known.sum::<f64>() / count / REACH
}

/// One run: the logarithm of the measured over the predicted time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    pub(super) model: &'a str,
    pub(super) shares: Option<Shares>,
    pub(super) off: f64,
}

/// What the runs of one model say about its own error.
#[derive(Clone, Copy, Debug, PartialEq)]
struct OfModel {
    /// The share of it that they tell: 1 where they were without noise.
    known: f64,
    /// How far they are off, on average.
    off: f64,
    /// Their weights, on average.
    weights: Vector,
}

/// What is believed of a board after its runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Posterior {
    widths: Widths,
    mean: Vector,
    covariance: [Vector; TERMS],
    models: BTreeMap<String, OfModel>,
    /// How many runs it rests on.
    pub runs: usize,
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
        let mut models = BTreeMap::new();
        for (name, group) in &groups {
            let count = group.len() as f64;
            for (weights, off) in group {
                add(&scaled(weights), *off, 1.0 / run);
            }
            // The inverse of their common covariance (Sherman and Morrison).
            let together = mean(group.iter().map(|(weights, _)| weights));
            let off = group.iter().map(|(_, off)| off).sum::<f64>() / count;
            let known = count * model / (run + count * model);
            add(&scaled(&together), off, -known * count / run);
            let of_model = OfModel {
                known,
                off,
                weights: together,
            };
            models.insert((*name).to_owned(), of_model);
        }
        let lower = cholesky(&precision);
        let solved = solve(&lower, &toward);
        let unit = |column: usize| std::array::from_fn(|row| f64::from(row == column));
        let inverse: [Vector; TERMS] = std::array::from_fn(|column| solve(&lower, &unit(column)));
        let all = groups.values().flatten();
        Some(Posterior {
            mean: scaled(&solved),
            covariance: std::array::from_fn(|row| {
                let scale = widths.terms[row];
                scaled(&inverse[row]).map(|entry| entry * scale)
            }),
            models,
            runs: samples.len(),
            typical: mean(all.map(|(weights, _)| weights)),
            widths,
        })
    }

    /// How many models it rests on.
    pub fn models(&self) -> usize {
        self.models.len()
    }

    /// What is believed of a term: its mean and its standard deviation, in logarithms; `None` where it cannot change.
    pub(super) fn term(&self, term: usize) -> Option<(f64, f64)> {
        let known = self.widths.terms[term] > 0.0 && self.typical[term] > 0.0;
        let variance = self.covariance[term][term];
        known.then(|| (self.mean[term], variance.max(0.0).sqrt()))
    }

    /// The mean of each term.
    pub(super) fn means(&self) -> Vector {
        self.mean
    }

    /// The error of a model's time that its own runs show; 0 without any.
    pub(super) fn of_model(&self, model: &str) -> f64 {
        let of_model = self.models.get(model);
        of_model.map_or(0.0, |one| {
            one.known * (one.off - dot(&one.weights, &self.mean))
        })
    }

    /// The mean and the standard deviation of another model's time whose shares are those of the runs.
    pub(super) fn typical(&self) -> (f64, f64) {
        let variance = self.variance_of(&self.typical, None);
        (dot(&self.typical, &self.mean), variance.sqrt())
    }

    /// A side of a range, in logarithms, after the runs. It narrows as the standard deviation of the time does, and no
    /// further than that deviation itself reaches; runs never widen it.
    pub fn side(&self, model: &str, shares: Option<Shares>, side: f64) -> f64 {
        let weights = weights(shares);
        let after = self.variance_of(&weights, self.models.get(model));
        let before = self.widths.variance(&weights);
        let narrowed = side * (after / before).sqrt().min(1.0);
        narrowed.max(side.min(REACH * after.sqrt()))
    }

    /// The variance of the next measured time.
    fn variance_of(&self, weights: &Vector, of_model: Option<&OfModel>) -> f64 {
        // What the model's own runs tell of its error takes as much of the board's terms away.
        let known = of_model.map_or(0.0, |one| one.known);
        let left: Vector = std::array::from_fn(|term| {
            weights[term] - of_model.map_or(0.0, |one| known * one.weights[term])
        });
        let rows = self.covariance.iter().map(|row| dot(row, &left));
        let board: f64 = rows.zip(&left).map(|(row, weight)| row * weight).sum();
        let model = self.widths.model.powi(2) * (1.0 - known);
        board.max(0.0) + model + self.widths.run.powi(2)
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
