//! The update of one belief about a board by its runs: a Gaussian one, by weights that hold at the terms it finds.
//!
//! In: the widths of the belief, and the runs of each model. Out: [`Case`]. Pure arithmetic.

use std::collections::BTreeMap;

use super::{PARTS, TERMS, Vector, Widths};

/// By the name of their model: the weights of each run, and the logarithm of its measured over its predicted time.
pub(super) type Groups<'a> = BTreeMap<&'a str, Vec<(Vector, f64)>>;

fn dot(a: &Vector, b: &Vector) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A time whose parts have these weights, near the board whose terms are `at`: the weights of its parts there, and what is
/// to be added to the weighted terms to give the logarithm of the time. A part that takes twice as long is a larger share of
/// the whole, so far from the profile its weights are not those that it predicts.
fn near(weights: &Vector, at: &Vector) -> (Vector, f64) {
    let parts = || weights[PARTS].iter().zip(&at[PARTS]);
    // Without shares nothing is known of the parts.
    let rest = 1.0 - weights[PARTS].iter().sum::<f64>();
    let whole = rest + parts().map(|(weight, at)| weight * at.exp()).sum::<f64>();
    let mut there = *weights;
    for (weight, at) in there[PARTS].iter_mut().zip(&at[PARTS]) {
        *weight *= at.exp() / whole;
    }
    let weighted: f64 = there[PARTS]
        .iter()
        .zip(&at[PARTS])
        .map(|(weight, at)| weight * at)
        .sum();
    (there, whole.ln() - weighted)
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
pub(super) struct Case {
    widths: Widths,
    pub(super) mean: Vector,
    pub(super) covariance: [Vector; TERMS],
    models: BTreeMap<String, OfModel>,
    /// The logarithm of the density of the runs, up to a constant.
    pub(super) evidence: f64,
}

/// How often at most the weights are taken anew at the terms that were found with the last ones, and when they have settled.
const ROUNDS: usize = 50;
const SETTLED: f64 = 1e-4;

/// Weights are not taken farther from the profile than at ten times its costs, or a tenth: no board is, and where a part has
/// all but vanished its weight would come and go with each round.
const FARTHEST: f64 = std::f64::consts::LN_10;

impl Case {
    /// The terms by weights that hold at those terms. Each round goes half of the way, so that runs far from all that is
    /// believed do not throw them to and fro.
    pub(super) fn new(widths: Widths, groups: &Groups<'_>) -> Case {
        let mut case = Case::near(widths, groups, &[0.0; TERMS]);
        let mut at = case.at();
        for _ in 0..ROUNDS {
            case = Case::near(widths, groups, &at);
            let found = case.at();
            let moved = at.iter().zip(&found).map(|(at, found)| at - found);
            if moved.fold(0.0, |most: f64, one| most.max(one.abs())) < SETTLED {
                break;
            }
            for (at, found) in at.iter_mut().zip(found) {
                *at = f64::midpoint(*at, found);
            }
        }
        case
    }

    /// The update by the weights that hold at the terms `at`.
    fn near(widths: Widths, groups: &Groups<'_>, at: &Vector) -> Case {
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
            let group: Vec<(Vector, f64)> = group
                .iter()
                .map(|(weights, off)| {
                    let (weights, more) = near(weights, at);
                    (weights, off - more)
                })
                .collect();
            for (weights, off) in &group {
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

    /// The terms at which weights are taken.
    fn at(&self) -> Vector {
        self.mean.map(|term| term.clamp(-FARTHEST, FARTHEST))
    }

    /// The error of a model's time that its own runs show.
    pub(super) fn of_model(&self, model: &str) -> f64 {
        let of_model = self.models.get(model);
        of_model.map_or(0.0, |one| {
            one.known * (one.off - dot(&one.weights, &self.mean))
        })
    }

    /// The mean and the variance of the next measured time of `model`, or of one that has not run.
    pub(super) fn outlook(&self, weights: &Vector, model: Option<&str>) -> (f64, f64) {
        let (weights, more) = near(weights, &self.at());
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
        let mean = more + dot(&left, &self.mean) + of_model.map_or(0.0, |one| known * one.off);
        (mean, variance)
    }
}

pub(super) fn mean<'a>(vectors: impl Iterator<Item = &'a Vector>) -> Vector {
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
    use super::super::tests::{MEMORY, WIDTHS, on_host};
    use super::super::{HOST, Shares, weights};
    use super::*;

    const COMPUTE: Shares = Shares {
        bandwidth: 0.0,
        arithmetic: 1.0,
        ..MEMORY
    };

    /// Under the first belief alone, where the answers can be worked out by hand.
    fn case(widths: Widths, samples: &[(&'static str, Option<Shares>, f64)]) -> Case {
        let mut groups: Groups<'_> = BTreeMap::new();
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

    /// Two parts of a time whose wide one takes `times` as long: where models scatter little, that is what is found.
    #[test]
    fn parts_that_take_many_times_as_long_are_found_by_their_share_there() {
        let widths = Widths {
            terms: [0.0, 0.02, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0],
            model: 0.01,
            run: 0.01,
        };
        for times in [0.2f64, 0.5, 2.0, 3.0, 10.0] {
            let longer = |host: f64| (1.0 - host + host * times).ln();
            let samples =
                [("a", 0.1), ("b", 0.3), ("c", 0.9)].map(|(m, h)| (m, Some(on_host(h)), longer(h)));
            let found = case(widths, &samples);
            let host = found.mean[HOST].exp() / times;
            assert!((0.96..1.04).contains(&host), "{times}: {host}");
            assert!(found.mean[1].abs() < 0.005, "{times}: {found:?}");
            let (mean, variance) = found.outlook(&weights(Some(on_host(0.5))), None);
            assert!((mean - longer(0.5)).abs() < 0.02, "{times}: {mean}");
            assert!(variance < 0.05f64.powi(2), "{times}: {variance}");
        }
    }

    /// No time, however far off, throws the terms to and fro.
    #[test]
    fn terms_settle_for_times_a_hundred_times_off() {
        let wide = Widths {
            terms: [0.01, 0.25, 0.25, 0.25, 0.25, 1.0, 0.41, 0.0],
            model: 0.05,
            run: 0.05,
        };
        for off in [0.01f64, 0.1, 10.0, 100.0] {
            for host in [0.0, 0.02, 0.1, 0.5, 0.9, 1.0] {
                let samples = [
                    ("a", Some(on_host(host)), off.ln()),
                    ("b", Some(COMPUTE), 0.0),
                ];
                let mut groups: Groups<'_> = BTreeMap::new();
                for (model, shares, off) in samples {
                    groups
                        .entry(model)
                        .or_default()
                        .push((weights(shares), off));
                }
                let found = case(wide, &samples);
                let again = Case::near(wide, &groups, &found.at());
                for (a, b) in found.mean.iter().zip(&again.mean) {
                    assert!((a - b).abs() < 0.02, "{off} {host}: {a} {b}");
                }
            }
        }
    }
}
