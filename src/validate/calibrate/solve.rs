//! Costs that explain measured times, from what was known of them before.
//!
//! In: rows of counts, the seconds that each took and how noisy these are; costs as they were expected.
//! Out: seconds a count, with how far each may be off. Pure, total: where the times say nothing of a cost, it
//! stays what was expected, and as uncertain.
//!
//! Costs and times are taken by their logarithms, so that no cost falls to zero and all errors are relative.
//! What is least is
//!
//! ```text
//! sum over rows of ((ln seconds - ln sum of counts x cost) / noise)^2
//!   + sum over costs of ((ln cost - ln expected) / uncertainty)^2
//! ```

/// Seconds a count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    /// Standard deviation of its logarithm.
    pub(super) uncertainty: f64,
}

/// What took how long.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// One for each cost.
    pub(super) counts: Vec<f64>,
    pub(super) seconds: f64,
    /// Standard deviation of the logarithm of the seconds.
    pub(super) noise: f64,
}

/// Gauss-Newton steps; a handful is enough where anything can be said.
const STEPS: usize = 100;

/// No time is known better.
const LEAST_NOISE: f64 = 1e-3;

/// The costs behind `rows`, expected as `prior`. Rows without a positive finite time say nothing.
pub(super) fn costs(rows: &[Row], prior: &[Cost]) -> Vec<Cost> {
    let said = |row: &&Row| {
        row.seconds.is_finite()
            && row.seconds > 0.0
            && row
                .counts
                .iter()
                .zip(prior)
                .any(|(n, c)| n * c.seconds > 0.0)
    };
    let rows: Vec<&Row> = rows.iter().filter(said).collect();
    // Logarithms of costs over those expected.
    let mut moved = vec![0.0; prior.len()];
    let mut misfit = misfit_of(&rows, prior, &moved);
    for _ in 0..STEPS {
        let (hessian, gradient) = normal_equations(&rows, prior, &moved);
        let step = solved(hessian, gradient);
        let longest = step.iter().fold(0.0_f64, |most, step| most.max(step.abs()));
        // Far from the end logarithms are no straight lines: short steps, and shorter ones until it gets better.
        let mut part = 1.0 / longest.max(1.0);
        let (mut next, mut least) = (moved.clone(), misfit);
        for _ in 0..20 {
            let tried = moved.iter().zip(&step).map(|(z, step)| z + part * step);
            next = tried.collect();
            least = misfit_of(&rows, prior, &next);
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
    // What the costs cannot explain makes all of them less certain.
    let unexplained = (misfit / rows.len().max(1) as f64).max(1.0);
    let (hessian, _) = normal_equations(&rows, prior, &moved);
    let variance = |index: usize| {
        let unit = (0..prior.len()).map(|other| f64::from(u8::from(other == index)));
        let column = solved(hessian.clone(), unit.collect());
        column.get(index).map_or(f64::INFINITY, |v| v * unexplained)
    };
    let found = prior.iter().zip(&moved).enumerate();
    found
        .map(|(index, (prior, moved))| Cost {
            seconds: prior.seconds * moved.exp(),
            uncertainty: variance(index).max(0.0).sqrt().min(prior.uncertainty),
        })
        .collect()
}

/// The seconds that each count of `row` stands for.
fn parts<'a>(row: &'a Row, prior: &'a [Cost], moved: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    let costs = prior.iter().zip(moved);
    let costs = costs.map(|(prior, moved)| prior.seconds * moved.exp());
    row.counts
        .iter()
        .zip(costs)
        .map(|(count, cost)| count * cost)
}

fn misfit_of(rows: &[&Row], prior: &[Cost], moved: &[f64]) -> f64 {
    let of_row = |row: &&Row| {
        let explained: f64 = parts(row, prior, moved).sum();
        ((row.seconds / explained).ln() / row.noise.max(LEAST_NOISE)).powi(2)
    };
    let of_cost = |(prior, moved): (&Cost, &f64)| (moved / prior.uncertainty).powi(2);
    rows.iter().map(of_row).sum::<f64>() + prior.iter().zip(moved).map(of_cost).sum::<f64>()
}

/// The second derivatives of half the misfit, linearized, and its negated first ones.
fn normal_equations(rows: &[&Row], prior: &[Cost], moved: &[f64]) -> (Vec<Vec<f64>>, Vec<f64>) {
    let size = prior.len();
    let mut hessian = vec![vec![0.0; size]; size];
    let mut gradient = vec![0.0; size];
    for row in rows {
        let explained: f64 = parts(row, prior, moved).sum();
        let shares: Vec<f64> = parts(row, prior, moved)
            .map(|part| part / explained)
            .collect();
        let weight = row.noise.max(LEAST_NOISE).powi(-2);
        let left = (row.seconds / explained).ln();
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

/// `x` of `matrix x = right`, for a positive definite matrix: elimination without a pivot.
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

    fn expected(seconds: &[f64], uncertainty: f64) -> Vec<Cost> {
        let cost = |seconds: &f64| Cost {
            seconds: *seconds,
            uncertainty,
        };
        seconds.iter().map(cost).collect()
    }

    fn row(counts: &[f64], truth: &[f64], noise: f64, error: f64) -> Row {
        let seconds: f64 = counts.iter().zip(truth).map(|(n, cost)| n * cost).sum();
        Row {
            counts: counts.to_vec(),
            seconds: seconds * (noise * error).exp(),
            noise,
        }
    }

    /// Where the numbers of these tests start.
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
        let rows = COUNTS.map(|counts| row(&counts, &truth, 0.001, 0.0));
        // Expected three times as dear, a quarter, and a hundred times as dear.
        let found = costs(&rows, &expected(&[1.5, 0.005, 300.0], 3.0));
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
            let rows = COUNTS.map(|counts| row(&counts, &truth, 0.2, error()));
            let off = [error(), error(), error()].map(|error: f64| (0.7 * error).exp());
            let prior: Vec<f64> = truth
                .iter()
                .zip(off)
                .map(|(cost, off)| cost * off)
                .collect();
            for (found, truth) in costs(&rows, &expected(&prior, 0.7)).iter().zip(truth) {
                all += 1;
                let deviations = (found.seconds / truth).ln().abs() / found.uncertainty;
                within += usize::from(deviations < 1.645);
            }
        }
        // Nine in ten are meant.
        let share = f64::from(within as u32) / f64::from(all);
        assert!((0.84..=0.98).contains(&share), "{share}");
    }

    #[test]
    fn what_the_times_do_not_tell_apart_stays_as_expected_and_uncertain() {
        // The second and third count always come together, the fourth never.
        let rows = [
            row(&[1.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 0.5, 1.0], 0.01, 0.0),
            row(&[3.0, 1.0, 1.0, 0.0], &[1.0, 0.5, 0.5, 1.0], 0.01, 0.0),
        ];
        let found = costs(&rows, &expected(&[1.0, 0.5, 0.5, 0.25], 0.7));
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
            // Ten orders of magnitude apart, with no sense.
            let rows = COUNTS.map(|counts| row(&counts, &[1e-9; 3], 5.0, error()));
            for found in costs(&rows, &prior) {
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
        let one = |counts: [f64; 2], seconds| Row {
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
            let row = Row {
                counts: vec![1.0, 1.0],
                seconds,
                noise: 0.1,
            };
            assert_eq!(costs(&[row], &prior), prior);
        }
        assert_eq!(costs(&[], &[]), Vec::new());
    }
}
