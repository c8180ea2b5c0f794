//! The pieces of a streamed answer with their times, and the limits of an answer: a server may ignore how many tokens
//! were asked for, send text without end, or send it too slowly.

use std::time::Duration;

use super::LEAST_TOKENS;
use super::error::ValidateError;
use super::measured::{Metric, RejectedFigure};

/// How many more pieces than tokens asked for are read: the last ones may carry no token.
const SLACK: u64 = 16;

/// The longest text of an answer in bytes, for each token and in addition: no tokenizer's tokens are this long on average.
const TEXT_A_TOKEN: u64 = 256;
const TEXT: u64 = 64 << 10;

/// The largest answer in bytes, for each token and in addition: a streamed document has some hundred bytes a token.
const BYTES_A_TOKEN: u64 = 4 << 10;
const BYTES: u64 = 16 << 20;

/// Why reading of an answer was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// More tokens arrived than were asked for.
    Tokens,
    /// The text is longer than that number of tokens can be.
    Bytes,
    /// It took longer than it may.
    Time,
}

/// The part of an answer that has arrived.
#[derive(Debug)]
pub(super) struct AnswerPieces {
    asked: u64,
    /// Arrival of every piece with text, in seconds since the request.
    arrivals: Vec<f64>,
    /// All text.
    pub(super) text: String,
    /// Why it was not read to its end.
    pub(super) stopped: Option<StopReason>,
}

impl AnswerPieces {
    /// An answer of `asked` tokens, of which nothing has arrived.
    pub(super) fn new(asked: u64) -> AnswerPieces {
        AnswerPieces {
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

    /// Adds a piece. Returns whether to read on.
    pub(super) fn take(&mut self, arrived: f64, text: &str) -> bool {
        self.arrivals.push(arrived);
        self.text.push_str(text);
        if self.count() >= self.asked.saturating_add(SLACK) {
            self.stopped = Some(StopReason::Tokens);
        }
        if self.text.len() as u64 > self.asked.saturating_mul(TEXT_A_TOKEN).saturating_add(TEXT) {
            self.stopped = Some(StopReason::Bytes);
        }
        self.stopped.is_none()
    }

    /// How many pieces arrived.
    pub(super) fn count(&self) -> u64 {
        self.arrivals.len() as u64
    }

    /// The number of tokens if each piece counts as one, at most those asked for.
    pub(super) fn tokens(&self) -> u64 {
        self.count().min(self.asked)
    }

    /// When the first piece arrived, in seconds since the request.
    pub(super) fn first(&self) -> Option<f64> {
        self.arrivals.first().copied()
    }

    /// The longest time between two pieces in seconds; 0 for fewer than two.
    pub(super) fn longest_gap(&self) -> f64 {
        self.gaps().fold(0.0, f64::max)
    }

    fn gaps(&self) -> impl Iterator<Item = f64> {
        self.arrivals.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// Decoded tokens a second, without the first token and those that arrived together with it. `counted` is the number
    /// of tokens that the server reports, `end` when it reported the end of generation. `None` without pieces; not
    /// finite if all arrived at once.
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

    /// The highest rate in tokens a second at which `tokens` tokens can have been generated, given when the pieces
    /// arrived; infinite if all arrived at once.
    pub(super) fn at_most(&self, tokens: u64) -> f64 {
        let first = self.first().unwrap_or_default();
        let last = self.arrivals.last().copied().unwrap_or_default();
        if last > first {
            tokens as f64 / (last - first)
        } else {
            f64::INFINITY
        }
    }

    /// How many pieces arrived together with the first: within a tenth of the mean time between two pieces.
    fn with_first(&self) -> usize {
        let first = self.first().unwrap_or_default();
        let last = self.arrivals.last().copied().unwrap_or_default();
        let near = (last - first) / self.arrivals.len().max(1) as f64 / 10.0;
        let together = |arrived: &&f64| **arrived <= first + near;
        self.arrivals.iter().take_while(together).count()
    }

    /// The time of the first token as a rejected figure, if a server or a proxy held it back until others were there.
    pub(super) fn held_back(&self) -> Option<RejectedFigure> {
        let with_first = self.with_first();
        (with_first > 3 && with_first * 2 >= self.arrivals.len()).then(|| RejectedFigure {
            metric: Metric::FirstToken,
            reason: format!(
                "{with_first} of {} pieces came at once with the first: the server, or a proxy before it, buffers its stream",
                self.arrivals.len()
            ),
        })
    }

    /// Whether enough arrived before the stop to be measured.
    pub(super) fn is_enough(&self) -> bool {
        match self.stopped {
            Some(StopReason::Time) => self.count() >= LEAST_TOKENS,
            _ => self.count() > 0,
        }
    }

    /// The error of an answer that was stopped before enough arrived.
    pub(super) fn endless(
        &self,
        url: String,
        stop: StopReason,
        deadline: Duration,
    ) -> ValidateError {
        ValidateError::Endless {
            url,
            tokens: self.count(),
            wanted: self.asked,
            limit: match stop {
                StopReason::Time => format!(
                    "{} s; raise --timeout if the model is that slow",
                    deadline.as_secs()
                ),
                _ => "more bytes than so many tokens have".to_owned(),
            },
        }
    }

    /// The caveat of an answer that was not read to its end.
    pub(super) fn remark(&self) -> Option<String> {
        let (asked, came) = (self.asked, self.count());
        Some(match self.stopped? {
            StopReason::Tokens => format!(
                "the server ignores the limit of {asked} tokens: it was stopped after {came}, and the rates are those of the first {asked}"
            ),
            StopReason::Bytes => format!(
                "the server was stopped after {} bytes of text, more than {asked} tokens have",
                self.text.len()
            ),
            StopReason::Time => format!(
                "the server was stopped after {came} of {asked} tokens: the request timed out"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(asked: u64, arrivals: &[f64]) -> AnswerPieces {
        let mut pieces = AnswerPieces::new(asked);
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
        assert_eq!(pieces(8, &smooth).held_back(), None);
        // The same tokens held back in two packets: four are there after 5 s, four after 9 s.
        let halves = [5.0, 5.0, 5.0, 5.0, 9.0, 9.0, 9.0, 9.0];
        assert_eq!(pieces(8, &halves).rate(Some(8), Some(9.0)), Some(1.0));
        assert_eq!(
            pieces(8, &halves).held_back().unwrap().metric,
            Metric::FirstToken
        );
        // All at once: no rate at all.
        let at_once = pieces(8, &[9.0; 8]);
        assert!(!at_once.rate(Some(8), Some(9.0)).unwrap().is_finite());
        assert_eq!(pieces(8, &[]).rate(None, None), None);
    }

    #[test]
    fn an_endless_answer_is_stopped_and_rated_by_the_tokens_asked_for() {
        let endless: Vec<f64> = (0..20).map(f64::from).collect();
        let stopped = pieces(4, &endless);
        assert_eq!(stopped.stopped, Some(StopReason::Tokens));
        assert_eq!((stopped.tokens(), stopped.rate(None, None)), (4, Some(1.0)));
        assert!(
            stopped
                .remark()
                .unwrap()
                .contains("the limit of 4 tokens: it was stopped after 20")
        );
        let mut long = AnswerPieces::new(4);
        assert!(!long.take(1.0, &"x".repeat(1 << 20)));
        assert_eq!(long.stopped, Some(StopReason::Bytes));
    }
}
