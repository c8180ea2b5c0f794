//! What a backend measured: rates and times of every repeat, the tokens, and the engine that generated them.

use crate::units::Bytes;

/// A metric that is measured, and compared with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Decoded tokens a second.
    Decode,
    /// Prompt tokens a second.
    Prefill,
    /// Seconds to the first token.
    FirstToken,
    /// Bytes at the peak.
    Memory,
}

impl Metric {
    /// All of them, in the order of reports.
    pub const ALL: [Metric; 4] = [
        Metric::Decode,
        Metric::Prefill,
        Metric::FirstToken,
        Metric::Memory,
    ];
}

/// A measurement, over all repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The engine and its version as it names itself; empty where it does not.
    pub engine: String,
    /// Libraries that the engine computes with, as it names them (`CUDA`); empty where it does not.
    pub backends: String,
    /// Measured repeats.
    pub repeats: usize,
    /// Tokens of the prompt, as the engine counted them; `None` where it does not say.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated in each repeat; `None` where the engine's count is implausible.
    pub generated_tokens: Option<u64>,
    /// Tokens in the cache before the first one that the decode rate counts.
    pub decode_depth: u64,
    /// Decoded tokens a second, one value a repeat, the first token left out.
    pub decode: Vec<f64>,
    /// The highest decode rate in tokens a second that agrees with when the tokens arrived, one value a repeat, where the
    /// engine measures rates itself; infinite where their arrival sets no limit.
    pub decode_at_most: Vec<f64>,
    /// Prompt tokens a second, one value a repeat.
    pub prefill: Vec<f64>,
    /// Seconds from the request to the first token, one value a repeat.
    pub first_token: Vec<f64>,
    /// Whether rates and times were measured by when tokens arrived here, not by the engine.
    pub streamed: bool,
    /// Whether the prefill rate was measured so, too.
    pub prefill_streamed: bool,
    /// The longest time between two pieces of a stream, in seconds.
    pub longest_gap: Option<f64>,
    /// Ids of the tokens of the last repeat, where the engine gives them.
    pub token_ids: Vec<u32>,
    /// What the model wrote in the last repeat.
    pub text: String,
    /// Bytes that the engine reports for the model.
    pub engine_memory: Option<Bytes>,
    /// Whether the engine runs on a GPU, where it reports that.
    pub on_gpu: Option<bool>,
    /// What the engine reports of speculation, over all repeats, where it speculated.
    pub draft: Option<DraftCounts>,
    /// Caveats of these numbers.
    pub remarks: Vec<String>,
    /// Figures that were rejected as implausible.
    pub rejected: Vec<RejectedFigure>,
}

/// Tokens that were drafted for the model, and those that it accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftCounts {
    /// Drafted tokens.
    pub drafted: u64,
    /// Those of them that were accepted.
    pub accepted: u64,
}

impl DraftCounts {
    /// The share that was accepted, as `fit --acceptance` takes it.
    pub fn acceptance(&self) -> f64 {
        self.accepted as f64 / self.drafted.max(1) as f64
    }
}

/// A figure that was rejected as implausible, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedFigure {
    /// The metric that it was of.
    pub metric: Metric,
    /// Why it is implausible.
    pub reason: String,
}

impl Measured {
    /// Records that a figure was rejected.
    pub(super) fn reject(&mut self, metric: Metric, reason: String) {
        self.rejected.push(RejectedFigure { metric, reason });
    }
}

/// Mean and deviation of repeated values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistics {
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation; zero for a single value.
    pub deviation: f64,
    /// Smallest value.
    pub least: f64,
    /// Largest value.
    pub most: f64,
    /// How many values.
    pub count: usize,
}

impl Statistics {
    /// The statistics of `values`; `None` if there are none or one is not a number.
    pub fn of(values: &[f64]) -> Option<Statistics> {
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Statistics {
            mean,
            deviation: (squares / (count - 1.0).max(1.0)).sqrt(),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            count: values.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_sample_deviation() {
        let some = Statistics::of(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
        assert_eq!(
            (some.mean, some.least, some.most, some.count),
            (5.0, 2.0, 9.0, 8)
        );
        // The squares sum to 32; seven degrees of freedom.
        assert!((some.deviation - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(Statistics::of(&[3.0]).unwrap().deviation, 0.0);
        assert_eq!(Statistics::of(&[]), None);
        assert_eq!(Statistics::of(&[1.0, f64::NAN]), None);
    }
}
