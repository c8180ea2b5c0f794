//! What several turns at one thing say: how long it takes, and how sure that is.

/// How far a turn may be from others that there were none of: one such deviation is added to those seen.
const UNSEEN: f64 = 0.3;

/// Standard deviations that hold nine in ten.
const NINE_IN_TEN: f64 = 1.645;

/// Seconds of turns.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    pub(super) fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// The mean, for which no turn counts more than three times the median: what slows every turn belongs to
    /// it, a stall of the machine does not.
    pub(super) fn mean(&self) -> f64 {
        let mut seconds = self.0.clone();
        seconds.sort_by(f64::total_cmp);
        let most = seconds
            .get(seconds.len() / 2)
            .map_or(0.0, |median| 3.0 * median);
        let sum: f64 = seconds.iter().map(|seconds| seconds.min(most)).sum();
        sum / seconds.len().max(1) as f64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest turn.
    pub(super) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Standard deviation of the mean, over the mean.
    pub(super) fn noise(&self) -> f64 {
        let squares: f64 = self.deviations().map(|deviation| deviation.powi(2)).sum();
        let turns = self.0.len().max(1) as f64;
        ((UNSEEN.powi(2) + squares) / turns / turns).sqrt()
    }

    /// Logarithms of turns over their mean.
    fn deviations(&self) -> impl Iterator<Item = f64> + '_ {
        let mean = self.mean();
        let positive = self.0.iter().filter(move |seconds| **seconds > 0.0);
        positive.map(move |seconds| (seconds / mean).ln())
    }
}

/// How far a turn is from the mean of its kind, as a standard deviation of the logarithm: the one of which
/// nine in ten turns of `all` are within as much as nine in ten should be. Rare stalls count for little.
pub(super) fn unrest<'a>(all: impl Iterator<Item = &'a Times>) -> f64 {
    let mut deviations: Vec<f64> = all
        .filter(|times| times.0.len() > 1)
        .flat_map(|times| {
            // The mean lies nearer to its own turns than to others.
            let turns = times.0.len() as f64;
            let others = (turns / (turns - 1.0)).sqrt();
            times
                .deviations()
                .map(move |deviation| deviation.abs() * others)
        })
        .collect();
    deviations.sort_by(f64::total_cmp);
    let ninth = deviations.get(deviations.len() * 9 / 10);
    ninth.map_or(UNSEEN, |deviation| deviation / NINE_IN_TEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_count_in_full_and_slow_turns_do() {
        assert_eq!(Times(vec![1.0, 2.0, 3.0]).mean(), 2.0);
        // A stall of 100 counts as three times the median.
        assert_eq!(Times(vec![1.0, 1.0, 1.0, 100.0]).mean(), 1.5);
        assert_eq!(Times(vec![5.0]).mean(), 5.0);
        assert_eq!(Times::default().mean(), 0.0);
    }

    #[test]
    fn more_turns_are_surer_and_further_ones_less() {
        let noise = |turns: &[f64]| Times(turns.to_vec()).noise();
        assert_eq!(noise(&[1.0]), UNSEEN);
        assert!(noise(&[1.0; 4]) < 0.076);
        assert!(noise(&[1.0; 16]) < noise(&[1.0; 4]));
        assert!(noise(&[0.5, 1.5, 0.5, 1.5]) > 2.0 * noise(&[1.0; 4]));
        assert!(noise(&[]).is_finite() && noise(&[0.0, 0.0]).is_finite());
    }

    #[test]
    fn unrest_is_what_turns_are_apart() {
        let calm = Times(vec![1.0; 10]);
        let restless = Times([0.8, 1.25].repeat(10));
        assert_eq!(unrest([calm].iter()), 0.0);
        let found = unrest([restless].iter());
        assert!((0.1..0.2).contains(&found), "{found}");
        // One turn has nothing to differ from.
        assert_eq!(unrest([Times(vec![1.0])].iter()), UNSEEN);
        assert_eq!(unrest([].iter()), UNSEEN);
    }
}
