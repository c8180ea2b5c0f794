//! Costs that explain measured times, given what they were expected to be.
//!
//! In: observations, which are counts with the seconds they took together and the noise of these; the expected costs.
//! Out: seconds a count, each with its uncertainty. Pure and total: a cost that the times say nothing about stays as
//! expected, and as uncertain.
//!
//! The fit is over logarithms of costs and times, so that no cost falls to zero and all errors are relative. It
//! minimises
//!
//! ```text
//! sum over observations of ((ln seconds - ln sum of counts x cost) / noise)^2
//!   + sum over costs of ((ln cost - ln expected) / uncertainty)^2
//! ```

/// What one count costs, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct UnitCost {
    pub(super) seconds: f64,
    /// Standard deviation of its logarithm.
    pub(super) uncertainty: f64,
}

/// Counts, and the seconds that they took together.
#[derive(Clone, Debug)]
pub(super) struct Observation {
    /// One count for each cost.
    pub(super) counts: Vec<f64>,
    pub(super) seconds: f64,
    /// Standard deviation of the logarithm of the seconds.
    pub(super) noise: f64,
}

/// The most Gauss-Newton steps; a handful is enough where the times determine the costs.
const STEPS: usize = 100;

/// The least noise that is believed of a time.
const LEAST_NOISE: f64 = 1e-3;

/// The costs that explain `observations`, expected to be `prior`. Observations without a positive finite time, or
/// without a count, are left out.
pub(super) fn costs(observations: &[Observation], prior: &[UnitCost]) -> Vec<UnitCost> {
    let is_usable = |observed: &&Observation| {
        observed.seconds.is_finite()
            && observed.seconds > 0.0
            && observed
                .counts
                .iter()
                .zip(prior)
                .any(|(n, c)| n * c.seconds > 0.0)
    };
    let observations: Vec<&Observation> = observations.iter().filter(is_usable).collect();
    // The logarithm of each cost over the expected one.
    let mut moved = vec![0.0; prior.len()];
    let mut misfit = misfit_of(&observations, prior, &moved);
    for _ in 0..STEPS {
        let (hessian, gradient) = normal_equations(&observations, prior, &moved);
        let step = solved(hessian, gradient);
        let longest = step.iter().fold(0.0_f64, |most, step| most.max(step.abs()));
        // The steps assume a linear model, which holds near the minimum: far from it they are cut to length 1, and then
        // halved until the misfit falls.
        let mut part = 1.0 / longest.max(1.0);
        let (mut next, mut least) = (moved.clone(), misfit);
        for _ in 0..20 {
            let tried = moved.iter().zip(&step).map(|(z, step)| z + part * step);
            next = tried.collect();
            least = misfit_of(&observations, prior, &next);
            if least <= misfit {
                break;
            }
            part /= 2.0;
        }
        let better = least <= misfit;
        if better {
            (moved, misfit) = (next, least);
        }
        if !better || longest < 1e-6 {
            break;
        }
    }
    // A misfit beyond the noise makes all costs less certain.
    let unexplained = (misfit / observations.len().max(1) as f64).max(1.0);
    let (hessian, _) = normal_equations(&observations, prior, &moved);
    let variance = |index: usize| {
        let unit = (0..prior.len()).map(|other| f64::from(u8::from(other == index)));
        let column = solved(hessian.clone(), unit.collect());
        column.get(index).map_or(f64::INFINITY, |v| v * unexplained)
    };
    let found = prior.iter().zip(&moved).enumerate();
    found
        .map(|(index, (prior, moved))| UnitCost {
            seconds: prior.seconds * moved.exp(),
            uncertainty: variance(index).max(0.0).sqrt().min(prior.uncertainty),
        })
        .collect()
}

/// The seconds that each count of `observed` contributes.
fn parts<'a>(
    observed: &'a Observation,
    prior: &'a [UnitCost],
    moved: &'a [f64],
) -> impl Iterator<Item = f64> + 'a {
    let costs = prior.iter().zip(moved);
    let costs = costs.map(|(prior, moved)| prior.seconds * moved.exp());
    observed
        .counts
        .iter()
        .zip(costs)
        .map(|(count, cost)| count * cost)
}

fn misfit_of(observations: &[&Observation], prior: &[UnitCost], moved: &[f64]) -> f64 {
    let of_observation = |observed: &&Observation| {
        let explained: f64 = parts(observed, prior, moved).sum();
        ((observed.seconds / explained).ln() / observed.noise.max(LEAST_NOISE)).powi(2)
    };
    let of_cost = |(prior, moved): (&UnitCost, &f64)| (moved / prior.uncertainty).powi(2);
    observations.iter().map(of_observation).sum::<f64>()
        + prior.iter().zip(moved).map(of_cost).sum::<f64>()
}

/// The normal equations of a Gauss-Newton step: the Hessian of half the misfit, linearized, and its negated gradient.
fn normal_equations(
    observations: &[&Observation],
    prior: &[UnitCost],
    moved: &[f64],
) -> (Vec<Vec<f64>>, Vec<f64>) {
    let size = prior.len();
    let mut hessian = vec![vec![0.0; size]; size];
    let mut gradient = vec![0.0; size];
    for observed in observations {
        let explained: f64 = parts(observed, prior, moved).sum();
        let shares: Vec<f64> = parts(observed, prior, moved)
            .map(|part| part / explained)
            .collect();
        let weight = observed.noise.max(LEAST_NOISE).powi(-2);
        let left = (observed.seconds / explained).ln();
        for ((line, slope), share) in hessian.iter_mut().zip(&mut gradient).zip(&shares) {
            *slope += weight * share * left;
            for (cell, other) in line.iter_mut().zip(&shares) {
                *cell += weight * share * other;
            }
        }
    }
    for (index, ((prior, moved), slope)) in prior.iter().zip(moved).zip(&mut gradient).enumerate() {
        let weight = prior.uncertainty.powi(-2);
        *slope -= weight * moved;
        if let Some(cell) = hessian.get_mut(index).and_then(|line| line.get_mut(index)) {
            *cell += weight;
        }
    }
    (hessian, gradient)
}

/// Solves `matrix x = right` for a positive definite matrix, by Gaussian elimination without pivoting.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot: Vec<f64> = matrix[column].clone();
        for row in column + 1..size {
            let factor = matrix[row][column] / pivot[column];
            for (cell, pivot) in matrix[row].iter_mut().zip(&pivot).skip(column) {
                *cell -= factor * pivot;
            }
            right[row] -= factor * right[column];
        }
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|other| matrix[row][other] * right[other])
            .sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    right
}

#[cfg(test)]
mod tests {
    use super::super::tests::normal;
    use super::*;

    fn expected(seconds: &[f64], uncertainty: f64) -> Vec<UnitCost> {
        let cost = |seconds: &f64| UnitCost {
            seconds: *seconds,
            uncertainty,
        };
        seconds.iter().map(cost).collect()
    }

    fn observed(counts: &[f64], truth: &[f64], noise: f64, error: f64) -> Observation {
        let seconds: f64 = counts.iter().zip(truth).map(|(n, cost)| n * cost).sum();
        Observation {
            counts: counts.to_vec(),
            seconds: seconds * (noise * error).exp(),
            noise,
        }
    }

    /// The seed of the random numbers of these tests.
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

    const COUNTS: [[f64; 3]; 5] = [
        [1.0, 2.0, 0.0],
        [4.0, 0.0, 1.0],
        [0.0, 5.0, 2.0],
        [7.0, 1.0, 1.0],
        [1.0, 1.0, 9.0],
    ];

    #[test]
    fn costs_that_made_the_times_are_found_again() {
        let truth = [0.5, 0.02, 3.0];
        let observations = COUNTS.map(|counts| observed(&counts, &truth, 0.001, 0.0));
        // Expected to cost three times, a quarter of, and a hundred times the truth.
        let found = costs(&observations, &expected(&[1.5, 0.005, 300.0], 3.0));
        for (found, truth) in found.iter().zip(truth) {
            assert!(
                (found.seconds / truth - 1.0).abs() < 0.02,
                "{found:?} {truth}"
            );
            assert!(found.uncertainty < 0.1, "{found:?}");
        }
    }

    #[test]
    fn noisy_times_give_costs_within_what_is_said_of_them() {
        let truth = [0.5, 0.1, 3.0];
        let mut error = normal(SEED);
        let (mut within, mut all) = (0, 0);
        for _ in 0..200 {
            let observations = COUNTS.map(|counts| observed(&counts, &truth, 0.2, error()));
            let off = [error(), error(), error()].map(|error: f64| (0.7 * error).exp());
            let prior: Vec<f64> = truth
                .iter()
                .zip(off)
                .map(|(cost, off)| cost * off)
                .collect();
            for (found, truth) in costs(&observations, &expected(&prior, 0.7))
                .iter()
                .zip(truth)
            {
                all += 1;
                let deviations = (found.seconds / truth).ln().abs() / found.uncertainty;
                within += usize::from(deviations < 1.645);
            }
        }
        // Nine in ten should be.
        let share = f64::from(within as u32) / f64::from(all);
        assert!((0.84..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn what_the_times_do_not_tell_apart_stays_as_expected_and_uncertain() {
        // The second and third count always come together, the fourth never.
        let observations = [
            observed(&[1.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 0.5, 1.0], 0.01, 0.0),
            observed(&[3.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 0.5, 1.0], 0.01, 0.0),
        ];
        let found = costs(&observations, &expected(&[1.0, 0.5, 0.5, 0.25], 0.7));
        assert!(found[0].uncertainty < 0.05, "{found:?}");
        assert!(
            found[1].uncertainty > 0.3 && found[2].uncertainty > 0.3,
            "{found:?}"
        );
        assert!(
            (found[3].seconds - 0.25).abs() < 1e-9 && found[3].uncertainty > 0.69,
            "{found:?}"
        );
        // Their sum is known all the same.
        assert!(
            (found[1].seconds + found[2].seconds - 1.0).abs() < 0.02,
            "{found:?}"
        );
    }

    #[test]
    fn any_positive_times_give_positive_costs() {
        let prior = expected(&[1e-10, 1e-8, 1e-6], 0.7);
        let mut error = normal(SEED);
        for _ in 0..200 {
            // Ten orders of magnitude apart, without any pattern.
            let observations = COUNTS.map(|counts| observed(&counts, &[1e-9; 3], 5.0, error()));
            for found in costs(&observations, &prior) {
                assert!(
                    found.seconds > 0.0 && found.seconds.is_finite(),
                    "{found:?}"
                );
                assert!(
                    found.uncertainty > 0.0 && found.uncertainty <= 0.7,
                    "{found:?}"
                );
            }
        }
        // Twice the count in less time, which only a cost below zero would explain.
        let one = |counts: [f64; 2], seconds| Observation {
            counts: counts.to_vec(),
            seconds,
            noise: 0.01,
        };
        let found = costs(
            &[one([1.0, 0.0], 1.0), one([1.0, 1.0], 0.5)],
            &expected(&[1.0, 0.1], 0.7),
        );
        assert!(found.iter().all(|cost| cost.seconds > 0.0), "{found:?}");
    }

    #[test]
    fn no_times_give_what_was_expected() {
        let prior = expected(&[1.0, 2.0], 0.5);
        assert_eq!(costs(&[], &prior), prior);
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let observed = Observation {
                counts: vec![1.0, 1.0],
                seconds,
                noise: 0.1,
            };
            assert_eq!(costs(&[observed], &prior), prior);
        }
        assert_eq!(costs(&[], &[]), Vec::new());
    }
}
