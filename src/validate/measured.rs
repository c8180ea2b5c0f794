//! What a backend found: rates and times of every repeat, the tokens, and the engine that made them.

use crate::units::Bytes;

/// What is measured, and compared with the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Decoded tokens a second.
    Decode,
    /// Prompt tokens a second.
    Prefill,
    /// Seconds to the first token.
    FirstToken,
    /// Bytes at the peak.
    Memory,
}

impl Quantity {
    /// All of them, in the order of reports.
    pub const ALL: [Quantity; 4] = [
        Quantity::Decode,
        Quantity::Prefill,
        Quantity::FirstToken,
        Quantity::Memory,
    ];
}

/// A measurement, over all repeats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The engine and its version as it names itself; empty where it does not.
    pub engine: String,
    /// Measured repeats.
    pub repeats: usize,
    /// Tokens of the prompt, as the engine counted them; `None` where it does not say.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated in each repeat; `None` where what the engine says cannot be.
    pub generated_tokens: Option<u64>,
    /// Tokens in the cache before the first one that the decode rate counts.
    pub decode_depth: u64,
    /// Decoded tokens a second, one value a repeat, the first token left out.
    pub decode: Vec<f64>,
    /// The most decoded tokens a second that their arrival here leaves possible, one value a repeat, where the
    /// engine has a clock of its own; infinite where it leaves all.
    pub decode_at_most: Vec<f64>,
    /// Prompt tokens a second, one value a repeat.
    pub prefill: Vec<f64>,
    /// Seconds from the request to the first token, one value a repeat.
    pub first_token: Vec<f64>,
    /// Whether rates and times were taken from when tokens arrived here, not from the engine's clock.
    pub streamed: bool,
    /// Whether the rate of prompts was, too.
    pub prefill_streamed: bool,
    /// The longest time between two pieces of a stream, in seconds.
    pub longest_gap: Option<f64>,
    /// Ids of the tokens of the last repeat, where the engine gives them.
    pub token_ids: Vec<u32>,
    /// What the model wrote in the last repeat.
    pub text: String,
    /// Bytes that the engine itself says it holds for the model.
    pub engine_memory: Option<Bytes>,
    /// Whether the engine runs on a GPU, where it says so.
    pub on_gpu: Option<bool>,
    /// What a reader of these numbers should know.
    pub remarks: Vec<String>,
    /// Figures that were not believed.
    pub doubts: Vec<Doubt>,
}

/// A figure that was not believed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Of which quantity it was.
    pub quantity: Quantity,
    /// Why it cannot be.
    pub reason: String,
}

impl Measured {
    /// Says of a figure why it is not here.
    pub(super) fn doubt(&mut self, quantity: Quantity, reason: String) {
        self.doubts.push(Doubt { quantity, reason });
    }
}

/// Mean and spread of repeated values.
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
