//! Robust non-linear least squares: Levenberg and Marquardt's method with a numeric Jacobian, residuals
//! weighted anew in each round so that a far row pulls no harder than a near one.
//!
//! Deterministic: no random start, a fixed number of rounds.

/// Residuals at a point, each in units of its own standard deviation. The first `robust` are
/// measurements, whose pull is bounded; the rest are prior beliefs, which count in full.
pub(crate) trait Problem {
    fn residuals(&self, point: &[f64]) -> Vec<f64>;
    fn robust(&self) -> usize;
}

const ROUNDS: usize = 60;
const STEP: f64 = 1e-4;
/// The loss has fallen by less than this share: done.
const SETTLED: f64 = 1e-9;

/// The point near `start` with the least loss.
pub(crate) fn minimise(problem: &impl Problem, start: &[f64]) -> Vec<f64> {
    let (mut point, mut damping) = (start.to_vec(), 1e-2);
    let mut loss = total(problem, &problem.residuals(&point));
    for _ in 0..ROUNDS {
        let here = problem.residuals(&point);
        let jacobian: Vec<Vec<f64>> = (0..point.len())
            .map(|axis| {
                let mut moved = point.clone();
                moved[axis] += STEP;
                let there = problem.residuals(&moved);
                there
                    .iter()
                    .zip(&here)
                    .map(|(t, h)| (t - h) / STEP)
                    .collect()
            })
            .collect();
        let weights: Vec<f64> = here
            .iter()
            .enumerate()
            .map(|(index, r)| weight(problem, index, *r))
            .collect();
        let dot = |a: &[f64], b: &[f64]| -> f64 {
            a.iter()
                .zip(b)
                .zip(&weights)
                .map(|((a, b), w)| a * b * w)
                .sum()
        };
        let gradient: Vec<f64> = jacobian.iter().map(|column| dot(column, &here)).collect();
        let normal: Vec<Vec<f64>> = jacobian
            .iter()
            .map(|a| jacobian.iter().map(|b| dot(a, b)).collect())
            .collect();
        let (mut better, before) = (false, loss);
        for _ in 0..12 {
            let mut damped = normal.clone();
            for (index, row) in damped.iter_mut().enumerate() {
                row[index] *= 1.0 + damping;
            }
            let step = solve(damped, gradient.clone());
            let next: Vec<f64> = point.iter().zip(&step).map(|(p, s)| p - s).collect();
            let reached = total(problem, &problem.residuals(&next));
            if reached < loss {
                (point, loss, better) = (next, reached, true);
                damping = (damping / 4.0).max(1e-9);
                break;
            }
            damping *= 4.0;
        }
        if !better || before - loss < SETTLED * before {
            break;
        }
    }
    point
}

/// 2 (sqrt(1 + r^2) - 1): a square near zero, a line far out.
fn total(problem: &impl Problem, residuals: &[f64]) -> f64 {
    let (rows, beliefs) = residuals.split_at(problem.robust().min(residuals.len()));
    let soft: f64 = rows
        .iter()
        .map(|r| 2.0 * ((1.0 + r * r).sqrt() - 1.0))
        .sum();
    soft + beliefs.iter().map(|r| r * r).sum::<f64>()
}

/// The weight that makes the square of a residual fall as its loss does.
fn weight(problem: &impl Problem, index: usize, residual: f64) -> f64 {
    if index < problem.robust() {
        1.0 / (1.0 + residual * residual).sqrt()
    } else {
        1.0
    }
}

/// Gauss's elimination with the largest pivot; a singular row gives no step.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for column in 0..n {
        let pivot = (column..n).max_by(|a, b| {
            matrix[*a][column]
                .abs()
                .total_cmp(&matrix[*b][column].abs())
        });
        let pivot = pivot.unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column].abs() < 1e-300 {
            continue;
        }
        for row in column + 1..n {
            let factor = matrix[row][column] / matrix[column][column];
            let (above, below) = matrix.split_at_mut(row);
            for (target, source) in below[0].iter_mut().zip(&above[column]).skip(column) {
                *target -= factor * source;
            }
            right[row] -= factor * right[column];
        }
    }
    let mut solution = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|c| matrix[row][c] * solution[c]).sum();
        let pivot = matrix[row][row];
        solution[row] = if pivot.abs() < 1e-300 {
            0.0
        } else {
            (right[row] - known) / pivot
        };
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Line;

    impl Problem for Line {
        // y = 2 x + 1 at x = 0..8, one point far off.
        fn residuals(&self, point: &[f64]) -> Vec<f64> {
            let y = |x: f64| if x == 5.0 { 100.0 } else { 2.0 * x + 1.0 };
            (0..9)
                .map(f64::from)
                .map(|x| (point[0] * x + point[1] - y(x)) / 0.01)
                .collect()
        }
        fn robust(&self) -> usize {
            9
        }
    }

    #[test]
    fn a_line_is_found_though_one_point_is_far_off() {
        let found = minimise(&Line, &[0.0, 0.0]);
        assert!(
            (found[0] - 2.0).abs() < 0.01 && (found[1] - 1.0).abs() < 0.02,
            "{found:?}"
        );
    }
}
