//! How many sequences to decode at once: the most tokens a second within memory and within a time between tokens.
//!
//! In: a plan for each number of sequences. Out: the number to take, and from which on arithmetic and not memory is the
//! limit. Pure arithmetic.

use crate::note::Note;
use crate::plan::fit::Fit;
use crate::plan::speed::{Bound, Spread};
use crate::units::{Bytes, Seconds};

/// The numbers of sequences that are planned.
pub const SEQUENCES: [u64; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// The largest batch with a published rate on any Orin.
pub const PUBLISHED: u64 = 8;

/// A model that decodes so many sequences at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// How many.
    pub sequences: u64,
    /// The format that is taken for them, else the fastest that fits, or the smallest where none does.
    pub scheme: String,
    /// The memory that they take.
    pub memory: Bytes,
    /// Whether they have room.
    pub fits: bool,
    /// Why they do not fit although they have room.
    pub refusal: Option<Note>,
    /// The tokens a second that were asked for, where no format that fits reaches them.
    pub too_slow: Option<f64>,
    /// Tokens a second over all of them, where that is known.
    pub rate: Option<Spread>,
    /// The same of the answers of whole requests, where those are asked for: the time to read prompts is in it.
    pub answers: Option<Spread>,
    /// What limits the expected rate.
    pub bound: Option<Bound>,
    /// Operations for each byte that a step moves.
    pub intensity: Option<f64>,
}

/// What several sequences bring.
#[derive(Clone, Debug, PartialEq)]
pub struct Throughput {
    /// Tokens of context of each sequence.
    pub context_each: u64,
    /// The longest time between two tokens of a sequence that is allowed.
    pub max_latency: Option<Seconds>,
    /// One for each number of sequences.
    pub batches: Vec<Batch>,
    /// Index of the one to take.
    pub best: Option<usize>,
    /// Operations for each byte where the GPU's arithmetic takes as long as its memory, by the roof of the board.
    pub ridge: Option<f64>,
}

impl Batch {
    /// The plan to show of so many sequences; `None` where there is none.
    pub fn of(fit: &Fit, sequences: u64) -> Option<Batch> {
        let fastest = || fit.plans.get(fit.fastest()?.0);
        let smallest = || fit.plans.iter().min_by_key(|plan| plan.memory.total());
        let plan = fit.recommended().or_else(fastest).or_else(smallest)?;
        let least = fit.choice.preference.min_speed;
        let is_slow = plan.fits() && fit.recommended().is_none();
        let decode = plan.speeds.as_ref().map(|speeds| &speeds.decode);
        Some(Batch {
            sequences,
            refusal: plan.refusal().cloned(),
            too_slow: least.filter(|_| is_slow),
            scheme: plan.assignment.scheme.clone(),
            memory: plan.memory.total(),
            fits: plan.fits(),
            rate: decode.map(|decode| decode.tokens_per_second),
            answers: plan
                .speeds
                .as_ref()
                .and_then(|speeds| Some(speeds.requests.as_ref()?.output_rate)),
            bound: decode.map(|decode| decode.bound),
            intensity: decode.map(|decode| {
                decode.flops_per_step as f64 / (decode.bytes_per_step as f64).max(1.0)
            }),
        })
    }

    /// The expected rate that counts: that of answers where whole requests are asked for. 0 where none is known.
    fn expected(&self) -> f64 {
        let counts = self.answers.or(self.rate);
        counts.map_or(0.0, |rate| rate.expected)
    }

    /// Whether they may be taken.
    fn is_offered(&self) -> bool {
        self.fits && self.too_slow.is_none()
    }

    /// The expected time between two tokens of a sequence.
    pub fn between(&self) -> Option<Seconds> {
        let rate = self.rate?.expected;
        (rate > 0.0).then(|| Seconds(self.sequences as f64 / rate))
    }
}

impl Throughput {
    /// Chooses among `batches`: the highest expected rate of those that fit within the time between tokens, of whole requests
    /// where those are asked for, else of decoding; of those within
    /// 2 % of it the fewest sequences.
    pub fn of(
        context_each: u64,
        max_latency: Option<Seconds>,
        batches: Vec<Batch>,
        ridge: Option<f64>,
    ) -> Throughput {
        let is_allowed = |batch: &Batch| {
            let in_time = |limit: Seconds| batch.between().is_some_and(|time| time.0 <= limit.0);
            batch.is_offered() && max_latency.is_none_or(in_time)
        };
        let allowed = || {
            batches
                .iter()
                .enumerate()
                .filter(|(_, batch)| is_allowed(batch))
        };
        let most = allowed().map(|(_, batch)| batch.expected());
        let most = most.fold(0.0, f64::max);
        let best = allowed().find(|(_, batch)| batch.expected() >= most * 0.98);
        let best = best.map(|(index, _)| index);
        Throughput {
            context_each,
            max_latency,
            best,
            batches,
            ridge,
        }
    }

    /// The batch to take.
    pub fn taken(&self) -> Option<&Batch> {
        self.batches.get(self.best?)
    }

    /// Index of the fastest batch that fits.
    pub fn fastest(&self) -> Option<usize> {
        let rated = self
            .batches
            .iter()
            .enumerate()
            .filter_map(|(index, batch)| {
                let rate = batch.rate.filter(|_| batch.fits)?;
                Some((index, rate.expected))
            });
        let fastest = rated.max_by(|a, b| a.1.total_cmp(&b.1));
        fastest.map(|(index, _)| index)
    }

    /// The tokens a second that were asked for, where no batch with room reaches them.
    pub fn too_slow(&self) -> Option<f64> {
        let is_offered = self.batches.iter().any(Batch::is_offered);
        let mut slow = self.batches.iter().filter_map(|batch| batch.too_slow);
        slow.next().filter(|_| !is_offered)
    }

    /// The fewest sequences whose expected rate memory does not limit.
    pub fn leaves_memory(&self) -> Option<u64> {
        let left = |batch: &&Batch| batch.bound.is_some_and(|bound| bound != Bound::Memory);
        self.batches.iter().find(left).map(|batch| batch.sequences)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(sequences: u64, rate: f64, fits: bool, bound: Bound) -> Batch {
        Batch {
            sequences,
            scheme: "q4_k_m".to_owned(),
            memory: Bytes(sequences),
            fits,
            refusal: None,
            too_slow: None,
            rate: Some(Spread {
                low: rate,
                expected: rate,
                high: rate,
            }),
            answers: None,
            bound: Some(bound),
            intensity: Some(sequences as f64),
        }
    }

    fn best(max_latency: Option<f64>, batches: &[Batch]) -> Option<u64> {
        let found = Throughput::of(512, max_latency.map(Seconds), batches.to_vec(), None);
        found.taken().map(|batch| batch.sequences)
    }

    #[test]
    fn memory_and_latency_are_bounds_and_more_sequences_have_to_pay() {
        let batches = [
            batch(1, 20.0, true, Bound::Memory),
            batch(4, 60.0, true, Bound::Memory),
            batch(8, 80.0, true, Bound::Compute),
            batch(16, 81.0, true, Bound::Compute),
            batch(32, 200.0, false, Bound::Compute),
        ];
        // 16 bring 1 % more than 8, and 32 have no room.
        assert_eq!(best(None, &batches), Some(8));
        // 4 / 60 is 67 ms, 8 / 80 is 100 ms.
        assert_eq!(best(Some(0.1), &batches), Some(8));
        assert_eq!(best(Some(0.099), &batches), Some(4));
        assert_eq!(best(Some(0.01), &batches), None);
        let found = Throughput::of(512, None, batches.to_vec(), None);
        assert_eq!(found.leaves_memory(), Some(8));
    }

    /// Where prompts take most of the time, more sequences bring little.
    #[test]
    fn the_rate_of_whole_requests_decides_where_there_is_one() {
        let answering = |sequences, rate: f64, answers: f64| Batch {
            answers: batch(sequences, answers, true, Bound::Memory).rate,
            ..batch(sequences, rate, true, Bound::Memory)
        };
        let batches = [
            answering(1, 20.0, 10.0),
            answering(4, 60.0, 14.0),
            answering(8, 100.0, 14.2),
        ];
        assert_eq!(best(None, &batches), Some(4));
    }

    #[test]
    fn a_batch_that_is_too_slow_is_not_the_best() {
        let slow = |sequences, rate| Batch {
            too_slow: Some(100.0),
            ..batch(sequences, rate, true, Bound::Compute)
        };
        let batches = vec![
            slow(1, 9.0),
            slow(4, 15.0),
            batch(8, 90.0, false, Bound::Compute),
        ];
        let found = Throughput::of(512, None, batches, None);
        assert_eq!((found.best, found.fastest()), (None, Some(1)));
        assert_eq!(found.too_slow(), Some(100.0));
    }
}
