//! The cheapest choice for each tensor within a number of bytes. Pure arithmetic.

use crate::dtype::Dtype;

/// A type that a tensor could have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Option {
    /// The type.
    pub dtype: Dtype,
    /// Bytes of the tensor in a file, padding included.
    pub bytes: u64,
    /// What it costs.
    pub cost: f64,
}

/// A step of a tensor to a larger type on its convex hull.
struct Step {
    tensor: usize,
    /// The option that it leads to.
    to: usize,
    bytes: u64,
    saved: f64,
}

/// The index of an option for each tensor, with the least sum of costs found whose bytes are at most `budget`; `None` if
/// even the smallest options have more.
///
/// The costs of a tensor's options over their bytes have a lower convex hull. Steps along the hulls in the order of what
/// they save for a byte give the least sum for each of the budgets that they reach (the Lagrangian relaxation of the
/// knapsack); a step that does not fit is left out, and smaller ones behind it are still taken.
pub fn choose(tensors: &[Vec<Option>], budget: u64) -> std::option::Option<Vec<usize>> {
    let mut chosen = Vec::with_capacity(tensors.len());
    let mut steps = Vec::new();
    let mut left = budget;
    for (tensor, options) in tensors.iter().enumerate() {
        let hull = hull(options);
        let first = *hull.first()?;
        left = left.checked_sub(options.get(first)?.bytes)?;
        chosen.push(first);
        for pair in hull.windows(2) {
            if let &[from, to] = pair
                && let (Some(a), Some(b)) = (options.get(from), options.get(to))
            {
                steps.push(Step {
                    tensor,
                    to,
                    bytes: b.bytes - a.bytes,
                    saved: a.cost - b.cost,
                });
            }
        }
    }
    let rate = |step: &Step| step.saved / step.bytes.max(1) as f64;
    steps.sort_by(|a, b| rate(b).total_cmp(&rate(a)).then(a.tensor.cmp(&b.tensor)));
    let mut stopped = vec![false; tensors.len()];
    for step in steps {
        let (Some(stopped), Some(chosen)) =
            (stopped.get_mut(step.tensor), chosen.get_mut(step.tensor))
        else {
            continue;
        };
        if *stopped || step.bytes > left {
            *stopped = true;
            continue;
        }
        left -= step.bytes;
        *chosen = step.to;
    }
    Some(chosen)
}

/// The options on the lower convex hull of cost over bytes, the smallest first.
fn hull(options: &[Option]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..options.len()).collect();
    let at = |index: usize| options.get(index).map_or((0, 0.0), |o| (o.bytes, o.cost));
    order.sort_by(|&a, &b| at(a).0.cmp(&at(b).0).then(at(a).1.total_cmp(&at(b).1)));
    let mut hull: Vec<usize> = Vec::new();
    for index in order {
        let (bytes, cost) = at(index);
        if hull.last().is_some_and(|&last| at(last).1 <= cost) {
            continue;
        }
        while let &[.., before, last] = hull.as_slice() {
            let slope = |from: usize, to: (u64, f64)| {
                let (bytes, cost) = at(from);
                (cost - to.1) / (to.0 - bytes).max(1) as f64
            };
            if slope(before, at(last)) > slope(last, (bytes, cost)) {
                break;
            }
            hull.pop();
        }
        hull.push(index);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(u64, f64)]) -> Vec<Option> {
        let option = |&(bytes, cost)| Option {
            dtype: Dtype::F16,
            bytes,
            cost,
        };
        pairs.iter().map(option).collect()
    }

    fn sums(tensors: &[Vec<Option>], chosen: &[usize]) -> (u64, f64) {
        let pairs = tensors.iter().zip(chosen).map(|(options, &i)| options[i]);
        pairs.fold((0, 0.0), |(bytes, cost), option| {
            (bytes + option.bytes, cost + option.cost)
        })
    }

    #[test]
    fn options_above_the_hull_are_never_taken() {
        let tensor = options(&[(10, 8.0), (20, 7.5), (30, 1.0), (40, 1.5), (50, 0.5)]);
        assert_eq!(hull(&tensor), [0, 2, 4]);
    }

    /// Against every combination.
    #[test]
    fn the_choice_is_the_best_or_one_step_from_it() {
        let tensors = [
            options(&[(2, 9.0), (3, 4.0), (4, 2.0), (8, 0.1)]),
            options(&[(20, 3.0), (30, 1.0), (45, 0.5)]),
            options(&[(5, 1.0), (6, 0.9), (7, 0.2)]),
        ];
        for budget in 27..=60 {
            let chosen = choose(&tensors, budget).unwrap();
            let (bytes, cost) = sums(&tensors, &chosen);
            assert!(bytes <= budget);
            let mut best = f64::INFINITY;
            for a in 0..4 {
                for b in 0..3 {
                    for c in 0..3 {
                        let (bytes, cost) = sums(&tensors, &[a, b, c]);
                        if bytes <= budget {
                            best = best.min(cost);
                        }
                    }
                }
            }
            assert!(cost <= best + 2.0, "{budget}: {cost} for {best}");
        }
        assert_eq!(choose(&tensors, 26), None);
        assert_eq!(choose(&tensors, 60), Some(vec![3, 2, 2]));
    }
}
