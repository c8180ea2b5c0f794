//! The pieces of an answer as they arrive, and where an answer ends that does not end by itself: a server
//! may ignore how many tokens were asked for, send text without end, or drip it.

use std::time::Duration;

use super::LEAST_TOKENS;
use super::error::ValidateError;
use super::measured::{Doubt, Quantity};

/// Pieces beyond the tokens asked for that are waited for: the last ones may carry no token of their own.
const SLACK: u64 = 16;

/// The longest text of an answer: no tokenizer's tokens are this long on average.
const TEXT_A_TOKEN: u64 = 256;
const TEXT: u64 = 64 << 10;

/// The most bytes of an answer, its text within documents of some hundred bytes a token.
const BYTES_A_TOKEN: u64 = 4 << 10;
const BYTES: u64 = 16 << 20;

/// Why an answer was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More tokens came than were asked for.
    Tokens,
    /// More text came than so many tokens have.
    Bytes,
    /// It took longer than it may.
    Time,
}

/// What has arrived of an answer.
#[derive(Debug)]
pub(super) struct Pieces {
    asked: u64,
    /// Arrival of every piece with text, in seconds since the request.
    arrivals: Vec<f64>,
    /// All text.
    pub(super) text: String,
    /// Why it was not read to its end.
    pub(super) stopped: Option<Stop>,
}

impl Pieces {
    /// Nothing yet of an answer of `asked` tokens.
    pub(super) fn new(asked: u64) -> Pieces {
        Pieces {
            asked,
            arrivals: Vec::new(),
            text: String::new(),
            stopped: None,
        }
    }

    /// The most bytes that an answer of `asked` tokens is read for.
    pub(super) fn most_bytes(asked: u64) -> u64 {
        asked.saturating_mul(BYTES_A_TOKEN).saturating_add(BYTES)
    }

    /// Takes a piece. Returns whether more is wanted.
    pub(super) fn take(&mut self, arrived: f64, text: &str) -> bool {
        self.arrivals.push(arrived);
        self.text.push_str(text);
        if self.count() >= self.asked.saturating_add(SLACK) {
            self.stopped = Some(Stop::Tokens);
        }
        if self.text.len() as u64 > self.asked.saturating_mul(TEXT_A_TOKEN).saturating_add(TEXT) {
            self.stopped = Some(Stop::Bytes);
        }
        self.stopped.is_none()
    }

    /// How many came.
    pub(super) fn count(&self) -> u64 {
        self.arrivals.len() as u64
    }

    /// Tokens, if each piece counts as one: at most those asked for.
    pub(super) fn tokens(&self) -> u64 {
        self.count().min(self.asked)
    }

    /// When the first came.
    pub(super) fn first(&self) -> Option<f64> {
        self.arrivals.first().copied()
    }

    /// The longest time between two.
    pub(super) fn longest_gap(&self) -> f64 {
        self.gaps().fold(0.0, f64::max)
    }

    fn gaps(&self) -> impl Iterator<Item = f64> {
        self.arrivals.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// Decoded tokens a second: those that came after the first, and did not come with it. `counted` is
    /// what the server says it generated until `end`. Not finite if all came at once.
    pub(super) fn rate(&self, counted: Option<u64>, end: Option<f64>) -> Option<f64> {
        let first = self.first()?;
        let kept = self.arrivals.get(..self.tokens() as usize)?;
        let (tokens, end) = match counted {
            Some(counted) => (counted, end.unwrap_or(0.0).max(*self.arrivals.last()?)),
            None => (self.tokens(), *kept.last()?),
        };
        let pieces = counted.map_or(kept.len(), |_| self.arrivals.len());
        let with_first = tokens as f64 * self.with_first() as f64 / pieces as f64;
        Some((tokens as f64 - with_first.max(1.0)) / (end - first))
    }

    /// The most tokens a second that `tokens` of them can have been generated with, as the pieces arrived.
    pub(super) fn at_most(&self, tokens: u64) -> f64 {
        let first = self.first().unwrap_or_default();
        let last = self.arrivals.last().copied().unwrap_or_default();
        match last > first {
            true => tokens as f64 / (last - first),
            false => f64::INFINITY,
        }
    }

    /// Pieces that came in one go with the first: together they took less than a tenth of what lies
    /// between two on average.
    fn with_first(&self) -> usize {
        let first = self.first().unwrap_or_default();
        let last = self.arrivals.last().copied().unwrap_or_default();
        let near = (last - first) / self.arrivals.len().max(1) as f64 / 10.0;
        let together = |arrived: &&f64| **arrived <= first + near;
        self.arrivals.iter().take_while(together).count()
    }

    /// What the time of the first token is worth: nothing if it was held back until others were there.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        let with_first = self.with_first();
        (with_first > 3 && with_first * 2 >= self.arrivals.len()).then(|| Doubt {
            quantity: Quantity::FirstToken,
            reason: format!(
                "{with_first} of {} pieces came at once with the first: the server, or a proxy before it, holds its stream back",
                self.arrivals.len()
            ),
        })
    }

    /// Whether what came before the stop says something.
    pub(super) fn is_enough(&self) -> bool {
        match self.stopped {
            Some(Stop::Time) => self.count() >= LEAST_TOKENS,
            _ => self.count() > 0,
        }
    }

    /// The error of an answer that was stopped before there was anything to measure.
    pub(super) fn endless(&self, url: String, stop: Stop, deadline: Duration) -> ValidateError {
        ValidateError::Endless {
            url,
            tokens: self.count(),
            wanted: self.asked,
            limit: match stop {
                Stop::Time => format!(
                    "{} s; raise --timeout if the model is that slow",
                    deadline.as_secs()
                ),
                _ => "more bytes than so many tokens have".to_owned(),
            },
        }
    }

    /// What is to be said of an answer that was not read to its end.
    pub(super) fn remark(&self) -> Option<String> {
        let (asked, came) = (self.asked, self.count());
        Some(match self.stopped? {
            Stop::Tokens => format!(
                "the server does not keep to the {asked} tokens that were asked for: it was stopped after {came}, and the rates are those of the first {asked}"
            ),
            Stop::Bytes => format!(
                "the server was stopped after {} bytes of text, more than {asked} tokens have",
                self.text.len()
            ),
            Stop::Time => format!(
                "the server was stopped after {came} of {asked} tokens: the time for one request was up"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(asked: u64, arrivals: &[f64]) -> Pieces {
        let mut pieces = Pieces::new(asked);
        for arrived in arrivals {
            pieces.take(*arrived, "x");
        }
        pieces
    }

    #[test]
    fn tokens_that_come_with_the_first_are_not_timed() {
        // One a second after a wait of 2 s.
        let smooth: Vec<f64> = (0..8).map(|index| 2.0 + f64::from(index)).collect();
        assert_eq!(pieces(8, &smooth).rate(Some(8), Some(9.0)), Some(1.0));
        assert_eq!(pieces(8, &smooth).rate(None, None), Some(1.0));
        assert_eq!(pieces(8, &smooth).doubt(), None);
        // The same tokens held back in two packets: four are there after 5 s, four after 9 s.
        let halves = [5.0, 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0];
        assert_eq!(pieces(8, &halves).rate(Some(8), Some(9.0)), Some(1.0));
        assert_eq!(
            pieces(8, &halves).doubt().unwrap().quantity,
            Quantity::FirstToken
        );
        // All at once: no rate at all.
        let at_once = pieces(8, &[9.0; 8]);
        assert!(!at_once.rate(Some(8), Some(9.0)).unwrap().is_finite());
        assert_eq!(pieces(8, &[]).rate(None, None), None);
    }

    #[test]
    fn what_does_not_end_is_stopped_and_rated_by_what_was_asked_for() {
        let endless: Vec<f64> = (0..20).map(f64::from).collect();
        let stopped = pieces(4, &endless);
        assert_eq!(stopped.stopped, Some(Stop::Tokens));
        assert_eq!((stopped.tokens(), stopped.rate(None, None)), (4, Some(1.0)));
        assert!(
            stopped
                .remark()
                .unwrap()
                .contains("the 4 tokens that were asked for: it was stopped after 20")
        );
        let mut long = Pieces::new(4);
        assert!(!long.take(1.0, &"x".repeat(1 << 20)));
        assert_eq!(long.stopped, Some(Stop::Bytes));
    }
}
