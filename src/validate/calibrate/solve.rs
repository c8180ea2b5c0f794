//! Non-negative least squares: costs that explain measured times.
//!
//! In: rows of counts and the seconds that each took. Out: seconds a count. Pure, total.

/// The costs, none below zero, that bring `sum over columns of counts x cost` closest to the seconds of
/// each row, all rows weighted by their own size: relative errors count. Cyclic coordinate descent,
/// which for so few unknowns ends within its rounds.
pub(super) fn costs(rows: &[(Vec<f64>, f64)]) -> Vec<f64> {
    const ROUNDS: usize = 20_000;
    let columns = rows
        .iter()
        .map(|(counts, _)| counts.len())
        .max()
        .unwrap_or(0);
    // A row divided by its seconds has 1 as its target.
    let scaled: Vec<Vec<f64>> = rows
        .iter()
        .filter(|(_, seconds)| *seconds > 0.0)
        .map(|(counts, seconds)| counts.iter().map(|count| count / seconds).collect())
        .collect();
    let mut costs = vec![0.0; columns];
    let mut left = vec![1.0; scaled.len()];
    let at = |row: &[f64], column: usize| row.get(column).copied().unwrap_or(0.0);
    for _ in 0..ROUNDS {
        for (column, cost) in costs.iter_mut().enumerate() {
            let (mut with, mut own) = (0.0, 0.0);
            for (row, left) in scaled.iter().zip(&left) {
                with += at(row, column) * left;
                own += at(row, column).powi(2);
            }
            if own > 0.0 {
                let next = (*cost + with / own).max(0.0);
                for (row, left) in scaled.iter().zip(&mut left) {
                    *left -= at(row, column) * (next - *cost);
                }
                *cost = next;
            }
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_that_made_the_times_are_found_again() {
        let truth = [0.5, 0.0, 3.0];
        let counts = [
            [1.0, 2.0, 0.0],
            [4.0, 0.0, 1.0],
            [0.0, 5.0, 2.0],
            [7.0, 1.0, 1.0],
        ];
        let time = |row: &[f64; 3]| row.iter().zip(truth).map(|(n, cost)| n * cost).sum();
        let rows: Vec<(Vec<f64>, f64)> =
            counts.iter().map(|row| (row.to_vec(), time(row))).collect();
        for (found, truth) in costs(&rows).iter().zip(truth) {
            assert!((found - truth).abs() < 1e-6, "{found} {truth}");
        }
    }

    #[test]
    fn no_cost_is_below_zero_and_nothing_gives_nothing() {
        // Twice the count in less time: the second column would have to be negative.
        let found = costs(&[(vec![1.0, 0.0], 1.0), (vec![1.0, 1.0], 0.5)]);
        assert!(found.iter().all(|cost| *cost >= 0.0), "{found:?}");
        assert_eq!(costs(&[]), Vec::<f64>::new());
        assert_eq!(costs(&[(vec![1.0], 0.0)]), vec![0.0]);
    }
}
