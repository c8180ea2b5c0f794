//! Statistics of a candidate's predictions against those of a reference: divergence, agreement, perplexity.

use super::log_probs::{PackedLogits, log_sum};
use crate::decode;
use crate::parallel;

/// A number with its standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its standard error: the standard deviation that it would have over other texts like this one, tokens taken as
    /// independent.
    pub standard_error: f64,
}

/// The likelihood of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perplexity {
    /// Of each scored token, minus the logarithm of its probability.
    losses: Vec<f32>,
}

/// A candidate's predictions against a reference's, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Divergence {
    /// Kullback-Leibler divergence of each prediction from the reference's, in nats.
    divergences: Vec<f32>,
    /// Predictions whose likeliest token is the reference's.
    same_top: usize,
    perplexity: Perplexity,
}

impl Estimate {
    /// The mean of `values`. The error is `s / sqrt(n)`.
    fn mean(values: &[f32]) -> Estimate {
        let n = values.len().max(1) as f64;
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n;
        let off = values.iter().map(|x| (f64::from(*x) - mean).powi(2));
        Estimate {
            value: mean,
            standard_error: (off.sum::<f64>() / n).sqrt() / n.sqrt(),
        }
    }

    /// The quantile `share` of `values`, between neighbours in proportion. The number of values below it is binomial:
    /// half the distance between the quantiles one standard deviation to either side is the error.
    fn quantile(values: &[f32], share: f64) -> Estimate {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = |share: f64| {
            let place = share.clamp(0.0, 1.0) * last;
            let value = |place: f64| sorted.get(place as usize).map_or(0.0, |x| f64::from(*x));
            let (low, high) = (value(place.floor()), value(place.ceil()));
            low + (high - low) * place.fract()
        };
        let spread = (share * (1.0 - share) / sorted.len().max(1) as f64).sqrt();
        Estimate {
            value: at(share),
            standard_error: (at(share + spread) - at(share - spread)) / 2.0,
        }
    }

    /// A divergence is 0 at least: where it is less, predictions are alike but for the 16 bits in which the reference's
    /// are stored.
    fn not_negative(self) -> Estimate {
        Estimate {
            value: self.value.max(0.0),
            ..self
        }
    }
}

impl Perplexity {
    pub(super) fn add(&mut self, log_prob: f32) {
        self.losses.push(-log_prob);
    }

    /// `exp` of the mean loss. Its error is that of the mean, times the perplexity.
    pub fn estimate(&self) -> Estimate {
        let mean = Estimate::mean(&self.losses);
        let value = mean.value.exp();
        Estimate {
            value,
            standard_error: value * mean.standard_error,
        }
    }
}

/// One prediction against the reference's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scored {
    divergence: f32,
    same_top: bool,
    log_prob: f32,
}

impl Scored {
    /// The prediction `logits` of a place that is followed by token `next`; `None` if it is not finite.
    ///
    /// `sum over i of p(i) (ln p(i) - ln q(i))`, over what the reference can tell apart.
    pub(super) fn of(logits: &[f32], reference: &PackedLogits<'_>, next: usize) -> Option<Scored> {
        let mut top = (0, f32::NEG_INFINITY);
        for (id, logit) in logits.iter().enumerate() {
            if *logit > top.1 {
                top = (id, *logit);
            }
        }
        let norm = top.1 + log_sum(logits, top.1);
        let mut divergence = 0.0;
        let mut reference_top = (0, f32::NEG_INFINITY);
        for (id, (logit, log_prob)) in logits.iter().zip(reference.log_probs()).enumerate() {
            let Some(log_prob) = log_prob else { continue };
            if log_prob > reference_top.1 {
                reference_top = (id, log_prob);
            }
            divergence += f64::from(log_prob.exp() * (log_prob - (logit - norm)));
        }
        let scored = Scored {
            divergence: divergence as f32,
            same_top: top.0 == reference_top.0,
            log_prob: logits.get(next).copied().unwrap_or(f32::NEG_INFINITY) - norm,
        };
        (scored.divergence.is_finite() && norm.is_finite()).then_some(scored)
    }
}

/// The mean divergence of the predictions `logits` from those of `reference`: rows of `vocabulary` logits each.
pub(super) fn divergence_of(logits: &[f32], reference: &[f32], vocabulary: usize) -> f64 {
    let row = |row: usize| row * vocabulary..(row + 1) * vocabulary;
    let count = logits.len() / vocabulary.max(1);
    let found = parallel::map(decode::threads(), 0..count, |index| {
        let rows = logits.get(row(index)).zip(reference.get(row(index)));
        rows.map_or(0.0, |(logits, reference)| one_divergence(logits, reference))
    });
    found.iter().sum::<f64>() / count.max(1) as f64
}

fn one_divergence(logits: &[f32], reference: &[f32]) -> f64 {
    let norm = |row: &[f32]| {
        let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        most + log_sum(row, most)
    };
    let (own, reference_norm) = (norm(logits), norm(reference));
    let pairs = logits.iter().zip(reference);
    let terms = pairs.map(|(q, p)| {
        let p = p - reference_norm;
        f64::from(p.exp() * (p - (q - own)))
    });
    terms.sum()
}

impl Divergence {
    pub(super) fn add(&mut self, scored: Scored) {
        self.divergences.push(scored.divergence);
        self.same_top += usize::from(scored.same_top);
        self.perplexity.add(scored.log_prob);
    }

    /// Predictions that were scored.
    pub fn tokens(&self) -> usize {
        self.divergences.len()
    }

    /// The mean divergence in nats.
    pub fn mean(&self) -> Estimate {
        Estimate::mean(&self.divergences).not_negative()
    }

    /// How much more than `other` it diverges, in nats: a mean over the same predictions, so that its error is that of their
    /// differences.
    pub fn above(&self, other: &Divergence) -> Estimate {
        let pairs = self.divergences.iter().zip(&other.divergences);
        Estimate::mean(&pairs.map(|(own, other)| own - other).collect::<Vec<_>>())
    }

    /// The divergence that 99 % of the predictions do not exceed.
    pub fn p99(&self) -> Estimate {
        Estimate::quantile(&self.divergences, 0.99).not_negative()
    }

    /// The share of predictions whose likeliest token is the reference's, from 0 to 1.
    pub fn same_top(&self) -> Estimate {
        let n = self.tokens().max(1) as f64;
        let share = self.same_top as f64 / n;
        Estimate {
            value: share,
            standard_error: (share * (1.0 - share) / n).sqrt(),
        }
    }

    /// The candidate's perplexity.
    pub fn perplexity(&self) -> Estimate {
        self.perplexity.estimate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two candidates that both do badly at the same places: how far they are apart is known better than how far each is from
    /// the reference.
    #[test]
    fn a_difference_has_the_error_of_its_pairs() {
        let of = |divergences: &[f32]| Divergence {
            divergences: divergences.to_vec(),
            ..Divergence::default()
        };
        let (one, other) = (of(&[0.5, 8.5, 0.25, 4.75]), of(&[0.25, 8.0, 0.0, 4.25]));
        let gap = one.above(&other);
        // The mean of 0.25, 0.5, 0.25 and 0.5, and their deviation over the root of 4.
        assert!((gap.value - 0.375).abs() < 1e-9 && (gap.standard_error - 0.0625).abs() < 1e-9);
        assert!(other.above(&one).value < 0.0);
        assert!(one.mean().standard_error > 1.0);
    }
}
