//! Repeated times of one thing: their mean, its uncertainty, and how far a single time is off it.

/// The deviation that is assumed before any was seen, as a standard deviation of the logarithm: counted as one more
/// round.
const ASSUMED: f64 = 0.3;

/// Nine in ten of a normal distribution lie within this many standard deviations.
const NINE_IN_TEN: f64 = 1.645;

/// Seconds, one value a round.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<f64>);

impl Times {
    pub(super) fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// The mean, for which no value counts more than three times the median: a load that slows every round belongs to
    /// it, a single stall of the machine does not. 0 without values.
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

    /// The shortest; infinite without values.
    pub(super) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Standard deviation of the mean, over the mean.
    pub(super) fn noise(&self) -> f64 {
        let squares: f64 = self.deviations().map(|deviation| deviation.powi(2)).sum();
        let count = self.0.len().max(1) as f64;
        ((ASSUMED.powi(2) + squares) / count / count).sqrt()
    }

    /// The logarithm of each value over the mean.
    fn deviations(&self) -> impl Iterator<Item = f64> + '_ {
        let mean = self.mean();
        let positive = self.0.iter().filter(move |seconds| **seconds > 0.0);
        positive.map(move |seconds| (seconds / mean).ln())
    }
}

/// The load noise: how far a single time is off the mean, as a standard deviation of the logarithm, because of what
/// else the machine does. It is the deviation within which nine in ten times of `all` lie, over that of a normal
/// distribution, so that rare stalls count for little.
pub(super) fn load_noise<'a>(all: impl Iterator<Item = &'a Times>) -> f64 {
    let mut deviations: Vec<f64> = all
        .filter(|times| times.0.len() > 1)
        .flat_map(|times| {
            // A mean lies nearer to the values it is of than to others (Bessel's correction).
            let count = times.0.len() as f64;
            let correction = (count / (count - 1.0)).sqrt();
            times
                .deviations()
                .map(move |deviation| deviation.abs() * correction)
        })
        .collect();
    deviations.sort_by(f64::total_cmp);
    let ninth = deviations.get(deviations.len() * 9 / 10);
    ninth.map_or(ASSUMED, |deviation| deviation / NINE_IN_TEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_count_in_full_and_slow_rounds_do() {
        assert_eq!(Times(vec![1.0, 2.0, 3.0]).mean(), 2.0);
        // A stall of 100 counts as three times the median.
        assert_eq!(Times(vec![1.0, 1.0, 1.0, 100.0]).mean(), 1.5);
        assert_eq!(Times(vec![5.0]).mean(), 5.0);
        assert_eq!(Times::default().mean(), 0.0);
    }

    #[test]
    fn more_rounds_are_more_certain_and_scattered_ones_less() {
        let noise = |seconds: &[f64]| Times(seconds.to_vec()).noise();
        assert_eq!(noise(&[1.0]), ASSUMED);
        assert!(noise(&[1.0; 4]) < 0.076);
        assert!(noise(&[1.0; 16]) < noise(&[1.0; 4]));
        assert!(noise(&[0.5, 1.5, 0.5, 1.5]) > 2.0 * noise(&[1.0; 4]));
        assert!(noise(&[]).is_finite() && noise(&[0.0, 0.0]).is_finite());
    }

    #[test]
    fn load_noise_is_how_far_single_times_are_off_the_mean() {
        let steady = Times(vec![1.0; 10]);
        let varying = Times([0.8, 1.25].repeat(10));
        assert_eq!(load_noise([steady].iter()), 0.0);
        let found = load_noise([varying].iter());
        assert!((0.1..0.2).contains(&found), "{found}");
        // A single time has nothing to differ from.
        assert_eq!(load_noise([Times(vec![1.0])].iter()), ASSUMED);
        assert_eq!(load_noise([].iter()), ASSUMED);
    }
}
