//! Which plan to take: a trade of speed and quality among those that fit.
//!
//! In: the plans of a model, and what is preferred. Out: the one to take, and the next best. Must not: know a format by
//! its name.

use super::fit::Plan;

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
}

impl Preference {
    /// Chooses among `plans` those that fit.
    pub fn choose(self, plans: &[Plan]) -> Choice {
        let mut usable: Vec<(usize, &Plan)> = plans
            .iter()
            .enumerate()
            .filter(|(_, plan)| plan.fits() && self.is_fast_enough(plan))
            .collect();
        usable.sort_by(|(_, a), (_, b)| self.compare(a, b));
        let place = |at: usize| usable.get(at).map(|(index, _)| *index);
        Choice {
            preference: self,
            taken: place(0),
            next: place(1),
        }
    }

    /// The plan that would be taken with memory for any.
    pub fn wanted(self, plans: &[Plan]) -> Option<&Plan> {
        let fast = plans.iter().filter(|plan| self.is_fast_enough(plan));
        fast.min_by(|a, b| self.compare(a, b))
    }

    /// Whether a plan decodes at the least rate asked for.
    pub fn is_fast_enough(self, plan: &Plan) -> bool {
        let enough = |least: f64| decode_rate(plan).is_some_and(|rate| rate >= least);
        self.min_speed.is_none_or(enough)
    }

    /// The better of two plans is the lesser. What a quantized checkpoint is now comes before all that could be made of it,
    /// which loses more; what is equal keeps the order of the plans.
    fn compare(self, a: &Plan, b: &Plan) -> std::cmp::Ordering {
        let is_made = |plan: &Plan| {
            let (stored, quantized) = (plan.assignment.is_stored(), plan.assignment.is_quantized());
            !(stored && quantized)
        };
        let bytes = |plan: &Plan| plan.file_bytes.0 as f64;
        let cost = |plan: &Plan| match self.prefer {
            Prefer::Balance => divergence(plan) / NATS_FOR_A_FACTOR + slowness(plan),
            Prefer::Speed => slowness(plan),
            Prefer::Quality => divergence(plan),
            Prefer::Size => bytes(plan),
        };
        // Among equals: the better one, then the faster, then the smaller.
        is_made(a)
            .cmp(&is_made(b))
            .then(cost(a).total_cmp(&cost(b)))
            .then(divergence(a).total_cmp(&divergence(b)))
            .then(slowness(a).total_cmp(&slowness(b)))
            .then(bytes(a).total_cmp(&bytes(b)))
    }
}

/// The expected decode rate in tokens a second, if it is known.
pub fn decode_rate(plan: &Plan) -> Option<f64> {
    let speeds = plan.speeds.as_ref();
    speeds.map(|speeds| speeds.decode.tokens_per_second.expected)
}

/// The expected divergence. A format that was never measured comes after all that were.
fn divergence(plan: &Plan) -> f64 {
    let quality = plan.quality.as_ref();
    quality.map_or(f64::INFINITY, |quality| quality.kld)
}

/// The logarithm of the time for a token. Where no rate is known, decoding is taken to read the file once a token.
fn slowness(plan: &Plan) -> f64 {
    match decode_rate(plan) {
        Some(rate) => -rate.max(f64::MIN_POSITIVE).ln(),
        None => (plan.tensor_bytes.0.max(1) as f64).ln(),
    }
}
