//! From values to places on an axis, and the values that are marked on it.

/// The axis of a plot.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The quantity and its unit.
    pub label: String,
    /// Its range.
    pub scale: Scale,
    /// The values to mark, with their texts.
    pub ticks: Vec<(f64, String)>,
}

/// A range of values on a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    /// Equal steps are equally long.
    Linear(f64, f64),
    /// Equal ratios are equally long; both ends are positive.
    Log(f64, f64),
}

impl Scale {
    /// Where `value` lies: 0 at the low end, 1 at the high one.
    pub(super) fn share(self, value: f64) -> f64 {
        let (share, is_empty) = match self {
            Scale::Linear(low, high) => ((value - low) / (high - low), high <= low),
            Scale::Log(low, high) => (
                (value.max(f64::MIN_POSITIVE) / low).ln() / (high / low).ln(),
                high <= low,
            ),
        };
        if is_empty || !share.is_finite() {
            0.0
        } else {
            share.clamp(0.0, 1.0)
        }
    }

    /// From 0 to somewhat more than `most`, with about `count` round steps of 1, 2 or 5 times a power of `base`.
    pub fn up_to(most: f64, count: usize) -> (Scale, Vec<f64>) {
        let most = if most > 0.0 && most.is_finite() {
            most
        } else {
            1.0
        };
        let rough = most / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let steps = (most / step).floor() as usize;
        let ticks = (0..=steps).map(|n| n as f64 * step).collect();
        (Scale::Linear(0.0, most), ticks)
    }

    /// From `low` to `high`, with about `count` round steps of 1, 2 or 5 times a power of ten.
    pub fn between(low: f64, high: f64, count: usize) -> (Scale, Vec<f64>) {
        let (_, steps) = Scale::up_to(high - low, count);
        let step = steps.get(1).copied().unwrap_or(high - low);
        let first = (low / step).ceil();
        let ticks = (0..=count * 2).map(|n| (first + n as f64) * step);
        let ticks = ticks.take_while(|tick| *tick <= high).collect();
        (Scale::Linear(low, high), ticks)
    }

    /// The powers of ten from one that is not above `least` to one that is not below `most`.
    pub fn decades(least: f64, most: f64) -> (Scale, Vec<f64>) {
        let exponent = |value: f64| value.clamp(1e-12, 1e18).log10();
        let (low, high) = (exponent(least).floor() as i32, exponent(most).ceil() as i32);
        let high = high.max(low + 1);
        let ticks = (low..=high).map(|n| 10f64.powi(n)).collect();
        (Scale::Log(10f64.powi(low), 10f64.powi(high)), ticks)
    }
}
