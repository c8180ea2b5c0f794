//! Which plan to take: a trade of speed and quality among those that fit.
//!
//! In: what each plan offers, and what is preferred. Out: the one to take, and the next best. Must not: know a format by
//! its name.

use std::cmp::Ordering;

use crate::units::Bytes;

/// What a plan offers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Whether it fits.
    pub fits: bool,
    /// Whether it is a quantized checkpoint as it is: everything made of that loses more.
    pub is_quantized_already: bool,
    /// The expected decode rate in tokens a second, if it is known.
    pub rate: Option<f64>,
    /// The expected divergence in nats a token, if it is known.
    pub kld: Option<f64>,
    /// The bytes of the tensors.
    pub tensor_bytes: Bytes,
    /// The bytes of the file.
    pub file_bytes: Bytes,
}

/// What the plan to take is chosen by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Preference {
    /// What counts.
    pub prefer: Prefer,
    /// The least expected decode rate in tokens a second, over all sequences.
    pub min_speed: Option<f64>,
}

/// What counts among the plans that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// Speed against divergence, at a fixed price: [`NATS_FOR_A_FACTOR`].
    #[default]
    Balance,
    /// The highest decode rate.
    Speed,
    /// The lowest divergence.
    Quality,
    /// The smallest file.
    Size,
}

/// The divergence that is worth a decode rate e times as high, in nats a token: 1 % of speed is worth 0.0015 nats.
///
/// It is the price that the field's habit implies where it was formed: on Llama-3-8B (`profiles/quality.csv`) Q5_K_M takes
/// 16 % longer to read than Q4_K_M and saves 0.0205 nats, and is not thought worth it, so a factor is worth at least 0.135;
/// Q4_K_S takes 5 % less and loses 0.0119, which is not thought worth it either, so it is worth 0.25 at most.
pub const NATS_FOR_A_FACTOR: f64 = 0.15;

/// The choice among plans.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Choice {
    /// What it was made by.
    pub preference: Preference,
    /// Index of the plan to take, if one fits and is fast enough.
    pub taken: Option<usize>,
    /// Index of the next best.
    pub next: Option<usize>,
    /// Index of the plan that would be taken with memory for any; where none is fast enough, of all.
    pub wanted: Option<usize>,
}

impl Preference {
    /// Chooses among `offers`.
    pub fn choose(self, offers: &[Offer]) -> Choice {
        let mut all: Vec<(usize, &Offer)> = offers.iter().enumerate().collect();
        all.sort_by(|(_, a), (_, b)| self.compare(a, b));
        let is_fast = |(_, offer): &&(usize, &Offer)| self.is_fast_enough(offer.rate);
        let mut fast = all.iter().filter(is_fast);
        let mut fitting = fast.clone().filter(|(_, offer)| offer.fits);
        let index = |offer: &(usize, &Offer)| offer.0;
        Choice {
            preference: self,
            taken: fitting.next().map(index),
            next: fitting.next().map(index),
            wanted: fast.next().or(all.first()).map(index),
        }
    }

    /// Whether a decode rate is the least one asked for, or above.
    pub fn is_fast_enough(self, rate: Option<f64>) -> bool {
        let enough = |least: f64| rate.is_some_and(|rate| rate >= least);
        self.min_speed.is_none_or(enough)
    }

    /// The better of two offers is the lesser; what is equal keeps its order.
    fn compare(self, a: &Offer, b: &Offer) -> Ordering {
        let bytes = |offer: &Offer| offer.file_bytes.0 as f64;
        let cost = |offer: &Offer| match self.prefer {
            Prefer::Balance => offer.divergence() / NATS_FOR_A_FACTOR + offer.slowness(),
            Prefer::Speed => offer.slowness(),
            Prefer::Quality => offer.divergence(),
            Prefer::Size => bytes(offer),
        };
        // Among equals: the better one, then the faster, then the smaller.
        b.is_quantized_already
            .cmp(&a.is_quantized_already)
            .then(cost(a).total_cmp(&cost(b)))
            .then(a.divergence().total_cmp(&b.divergence()))
            .then(a.slowness().total_cmp(&b.slowness()))
            .then(bytes(a).total_cmp(&bytes(b)))
    }
}

impl Offer {
    /// A format that was never measured comes after all that were.
    fn divergence(&self) -> f64 {
        self.kld.unwrap_or(f64::INFINITY)
    }

    /// The logarithm of the time for a token. Where no rate is known, decoding is taken to read the file once a token.
    fn slowness(&self) -> f64 {
        match self.rate {
            Some(rate) => -rate.max(f64::MIN_POSITIVE).ln(),
            None => (self.tensor_bytes.0.max(1) as f64).ln(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rate, divergence and megabytes of four formats of one model.
    fn offers() -> Vec<Offer> {
        let rows = [
            (50.0, 0.0, 16),
            (80.0, 0.002, 8),
            (90.0, 0.02, 5),
            (95.0, 0.2, 3),
        ];
        let offer = |(rate, kld, bytes)| Offer {
            fits: true,
            is_quantized_already: false,
            rate: Some(rate),
            kld: Some(kld),
            tensor_bytes: Bytes(bytes),
            file_bytes: Bytes(bytes),
        };
        rows.map(offer).into()
    }

    fn taken(prefer: Prefer, min_speed: Option<f64>, offers: &[Offer]) -> Option<usize> {
        Preference { prefer, min_speed }.choose(offers).taken
    }

    #[test]
    fn each_preference_takes_what_it_names() {
        let offers = offers();
        let of = |prefer| taken(prefer, None, &offers);
        assert_eq!(of(Prefer::Quality), Some(0));
        // From 80 to 90 tokens/s is worth 0.15 ln(9/8) = 0.0177 nats, and costs 0.018.
        assert_eq!(of(Prefer::Balance), Some(1));
        assert_eq!(of(Prefer::Speed), Some(3));
        assert_eq!(of(Prefer::Size), Some(3));
        assert_eq!(taken(Prefer::Quality, Some(85.0), &offers), Some(2));
        assert_eq!(taken(Prefer::Quality, Some(96.0), &offers), None);
    }

    #[test]
    fn what_does_not_fit_is_wanted_and_not_taken() {
        let mut offers = offers();
        offers[1].fits = false;
        let choice = Preference::default().choose(&offers);
        assert_eq!(
            (choice.taken, choice.next, choice.wanted),
            (Some(2), Some(0), Some(1))
        );
    }

    #[test]
    fn a_quantized_checkpoint_comes_first_and_unknown_quality_last() {
        let mut offers = offers();
        offers[1].kld = None;
        assert_eq!(taken(Prefer::Balance, None, &offers), Some(2));
        offers[3].is_quantized_already = true;
        assert_eq!(taken(Prefer::Quality, None, &offers), Some(3));
    }

    #[test]
    fn without_rates_bytes_stand_for_time() {
        let mut offers = offers();
        offers.iter_mut().for_each(|offer| offer.rate = None);
        assert_eq!(taken(Prefer::Speed, None, &offers), Some(3));
        assert_eq!(taken(Prefer::Balance, None, &offers), Some(2));
        assert_eq!(taken(Prefer::Balance, Some(1.0), &offers), None);
    }
}
