//! Whole requests that are served side by side: their prompts and their answers, as benchmarks of servers count them.

use super::Spread;
use super::finite::{finite, rate, ratio};

/// Requests of one kind, served side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Served at once, at least one.
    pub sequences: u64,
    /// Tokens of each answer.
    pub generated: u64,
}

impl Requests {
    /// Seconds until requests that begin together have their answers: `first` seconds to read a prompt and begin its answer,
    /// `step` seconds of a decode step over all of them. Prompts are read one after the other, and servers that batch
    /// continuously let the others decode a token in the same pass. So each prompt saves a step, and what is left is
    ///
    /// ```text
    /// sequences x first + (generated - sequences) x step
    /// ```
    ///
    /// with no fewer than no steps.
    pub fn seconds(self, first: f64, step: f64) -> f64 {
        let sequences = self.sequences.max(1);
        let steps = self.generated.saturating_sub(sequences);
        finite(sequences as f64 * first + steps as f64 * step)
    }

    /// Seconds of a request from the time to the first token of one and the decode rate over all of them: `low` is the fast
    /// end.
    pub fn time(self, first: &Spread, decode: &Spread) -> Spread {
        let step = |rate: f64| ratio(self.sequences.max(1) as f64, rate);
        Spread {
            low: self.seconds(first.low, step(decode.high)),
            expected: self.seconds(first.expected, step(decode.expected)),
            high: self.seconds(first.high, step(decode.low)),
        }
    }

    /// Generated tokens a second over all requests, their prompts in the time.
    pub fn output_rate(self, first: &Spread, decode: &Spread) -> Spread {
        let time = self.time(first, decode);
        let tokens = self.sequences.max(1) as f64 * self.generated as f64;
        Spread {
            low: rate(tokens, time.high),
            expected: rate(tokens, time.expected),
            high: rate(tokens, time.low),
        }
    }
}
