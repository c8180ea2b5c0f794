//! Does it fit, how much context, how fast: one plan per scheme, and the scheme to take.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::device::PowerMode;
use crate::evidence::quality::{CacheCosts, Quality};
use crate::model::ModelSpec;
use crate::note::Note;
use crate::plan::memory::{Ledger, PassMemory, ledger_with};
use crate::plan::notes::{
    allocation_note, contiguity_note, derive_notes, granted, risk_note, tight_note,
};
use crate::plan::rates;
use crate::plan::recommend::{Choice, Offer, Preference};
use crate::plan::speculation::{Speculation, speculation};
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::scheme::Assignment;
use crate::units::Bytes;

pub use super::rates::{Published, RequestEstimate, Speeds};
pub use super::target::{Target, available, gpu};

/// The plans of one model.
#[derive(Clone, Debug, Default)]
pub struct Fit {
    /// One per scheme, in the order they were asked for.
    pub plans: Vec<Plan>,
    /// The plan to take, if one fits.
    pub choice: Choice,
    /// What a cache in other types costs this model.
    pub cache_costs: CacheCosts,
}

/// Whether a plan fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It fits.
    Fits,
    /// It does not fit.
    DoesNotFit,
}

/// One scheme's plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The type of each tensor.
    pub assignment: Assignment,
    /// Whether it fits with the context asked for.
    pub verdict: Verdict,
    /// Sum of the text model's tensors.
    pub tensor_bytes: Bytes,
    /// The whole file, header and padding included.
    pub file_bytes: Bytes,
    /// Bits of the tensors, divided by the number of weights as published.
    pub bits_per_weight: f64,
    /// The largest total context that fits, capped by the model's own limit; 0 if none does.
    pub max_context: u64,
    /// The memory that it takes.
    pub memory: Ledger,
    /// Memory that is available for it.
    pub available: Bytes,
    /// How fast it runs, where that is known.
    pub speeds: Option<Speeds>,
    /// What speculation brings, where it is asked for.
    pub speculation: Option<Speculation>,
    /// How far its predictions are from those of the original, where that can be said.
    pub quality: Option<Quality>,
    /// Caveats.
    pub notes: Vec<Note>,
}

impl Fit {
    /// The same plans, chosen among by `preference`.
    #[must_use]
    pub fn by(self, preference: Preference) -> Fit {
        let choice = preference.choose(&offers(&self.plans));
        Fit { choice, ..self }
    }

    /// The recommended plan, if one fits.
    pub fn recommended(&self) -> Option<&Plan> {
        self.plans.get(self.choice.taken?)
    }

    /// The plan that would be taken if that did not fit.
    pub fn next_best(&self) -> Option<&Plan> {
        self.plans.get(self.choice.next?)
    }

    /// The fastest of the plans that fit, by its place, with its rate in tokens a second.
    pub fn fastest(&self) -> Option<(usize, f64)> {
        self.fastest_that(Plan::fits)
    }

    /// The fastest of the plans for which `holds`, by its place, with its rate in tokens a second.
    pub fn fastest_that(&self, holds: impl Fn(&Plan) -> bool) -> Option<(usize, f64)> {
        let plans = self.plans.iter().enumerate();
        let held = plans.filter(|(_, plan)| holds(plan));
        let rated = held.filter_map(|(index, plan)| Some((index, plan.rate()?)));
        rated.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// The plan that would be recommended with memory for any, or else the first.
    pub fn wanted(&self) -> Option<&Plan> {
        self.plans.get(self.choice.wanted.unwrap_or(0))
    }
}

impl Plan {
    /// Available memory in bytes that the plan leaves; negative by what is missing.
    pub fn headroom(&self) -> i64 {
        self.available.0 as i64 - self.memory.total().0 as i64
    }

    /// The expected rate that counts, in tokens a second, if it is known; see [`Speeds::rate`].
    pub fn rate(&self) -> Option<f64> {
        self.speeds.as_ref().map(|speeds| speeds.rate().expected)
    }

    /// Whether it fits.
    pub fn fits(&self) -> bool {
        self.verdict == Verdict::Fits
    }

    /// Whether nothing but an allocation that the driver may refuse keeps it from fitting: to try it does no harm.
    pub fn has_room(&self) -> bool {
        self.headroom() >= 0 && self.memory.kv_problem.is_none()
    }

    /// Why it does not fit although there is enough memory: a type of cache that is not possible, or an allocation that the
    /// driver refuses.
    pub fn refusal(&self) -> Option<&Note> {
        let has_room = self.memory.total() <= self.available;
        let refuses = |note: &&Note| matches!(note, Note::Kv(_) | Note::Allocation { .. });
        let mut notes = self.notes.iter().filter(|_| has_room && !self.fits());
        notes.find(refuses)
    }
}

/// A type for every tensor, with the size of the file that holds them.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The type of each tensor.
    pub assignment: Assignment,
    /// The size of the file.
    pub file_bytes: Bytes,
    /// How far its predictions are from those of the original, where that can be said.
    pub quality: Option<Quality>,
    /// Caveats of the candidate, whatever the board.
    pub notes: Vec<Note>,
}

/// Plans every candidate of `model` on `target` under `workload`, and chooses among them by the usual preference.
pub fn fit(
    model: &ModelSpec,
    candidates: Vec<Candidate>,
    target: Target<'_>,
    workload: &Workload,
) -> Fit {
    let passes = Passes::of(model, target.runtime, workload);
    let plans: Vec<Plan> = candidates
        .into_iter()
        .map(|candidate| plan(model, candidate, target, workload, &passes))
        .collect();
    let choice = Preference::default().choose(&offers(&plans));
    Fit {
        plans,
        choice,
        cache_costs: CacheCosts::default(),
    }
}

/// What each plan offers.
fn offers(plans: &[Plan]) -> Vec<Offer> {
    let offer = |plan: &Plan| Offer {
        fits: plan.fits(),
        is_quantized_already: plan.assignment.is_stored() && plan.assignment.is_quantized(),
        rate: plan.rate(),
        kld: plan.quality.as_ref().map(|quality| quality.kld),
        tensor_bytes: plan.tensor_bytes,
        file_bytes: plan.file_bytes,
    };
    plans.iter().map(offer).collect()
}

/// What passes take at the contexts that were looked at, which the plans of a model share.
struct Passes<'a> {
    model: &'a ModelSpec,
    runtime: &'a RuntimeProfile,
    workload: &'a Workload,
    known: RefCell<BTreeMap<u64, Rc<PassMemory>>>,
}

impl<'a> Passes<'a> {
    fn of(model: &'a ModelSpec, runtime: &'a RuntimeProfile, workload: &'a Workload) -> Self {
        Passes {
            model,
            runtime,
            workload,
            known: RefCell::default(),
        }
    }

    /// The ledger of `assignment` with `context` tokens.
    fn ledger(&self, assignment: &Assignment, context: u64) -> Ledger {
        let asked = self.workload.with_context(context);
        let of_pass = || Rc::new(PassMemory::of(self.model, self.runtime, &asked));
        let pass = Rc::clone(
            self.known
                .borrow_mut()
                .entry(context)
                .or_insert_with(of_pass),
        );
        ledger_with(self.model, assignment, self.runtime, &asked, &pass)
    }
}

fn plan(
    model: &ModelSpec,
    candidate: Candidate,
    target: Target<'_>,
    workload: &Workload,
    passes: &Passes<'_>,
) -> Plan {
    let Candidate {
        assignment,
        file_bytes,
        quality,
        mut notes,
    } = candidate;
    let memory = passes.ledger(&assignment, workload.context);
    let available = available(target.device, workload);
    let speeds = rates::speeds(model, &assignment, target, workload);
    notes.extend(derive_notes(model, &assignment, &memory, target, workload));
    let fits = ledger_fits(&memory, available, target);
    // Allocations matter only where the whole has room, and what is left only where nothing refuses it.
    if memory.total() <= available {
        notes.extend(allocation_note(&memory, target));
    }
    if fits {
        notes.extend(risk_note(&memory, target));
        notes.extend(contiguity_note(&memory, target, workload.session));
        notes.extend(tight_note(&memory, available, target));
    }
    let tensor_bytes = assignment.tensor_bytes();
    let max_context = max_context_of(&assignment, target, passes);
    Plan {
        verdict: if fits {
            Verdict::Fits
        } else {
            Verdict::DoesNotFit
        },
        tensor_bytes,
        file_bytes,
        bits_per_weight: tensor_bytes.as_f64() * 8.0 / (model.parameters.max(1) as f64),
        max_context,
        memory,
        available,
        speculation: speculation(model, &assignment, target, workload),
        speeds,
        quality,
        notes,
        assignment,
    }
}

/// Whether a ledger fits: its total is available, the runtime has the type of cache, and the driver grants the largest
/// allocation on the board's release or, where that is not known, on current ones.
pub(super) fn ledger_fits(memory: &Ledger, available: Bytes, target: Target<'_>) -> bool {
    let is_granted = granted(target).is_none_or(|limit| memory.largest_allocation <= limit);
    memory.total() <= available && memory.kv_problem.is_none() && is_granted
}

/// The largest total context whose ledger fits, by bisection: the ledger never shrinks as context
/// grows. Capped by the model's own limit for each sequence; 0 if not even one multiple fits.
pub fn max_context(
    model: &ModelSpec,
    assignment: &Assignment,
    target: Target<'_>,
    workload: &Workload,
) -> u64 {
    let passes = Passes::of(model, target.runtime, workload);
    max_context_of(assignment, target, &passes)
}

fn max_context_of(assignment: &Assignment, target: Target<'_>, passes: &Passes<'_>) -> u64 {
    let Passes {
        model, workload, ..
    } = passes;
    let available = available(target.device, workload);
    let step = target.runtime.memory.context_multiple.value.max(1) * workload.parallel.max(1);
    let limit = match model.dims.context {
        0 => workload.context,
        limit => limit.saturating_mul(workload.parallel.max(1)),
    };
    let fits = |context: u64| {
        let memory = passes.ledger(assignment, context);
        ledger_fits(&memory, available, target)
    };
    // The runtime rounds a limit that is no multiple up, so the limit itself may be the answer.
    if fits(limit) {
        return limit;
    }
    // There is nothing to search where not even one multiple fits.
    if !fits(step) {
        return 0;
    }
    let (mut fitting, mut failing) = (1, limit.div_ceil(step));
    while failing - fitting > 1 {
        let middle = fitting + (failing - fitting) / 2;
        if fits(middle * step) {
            fitting = middle
        } else {
            failing = middle
        }
    }
    fitting * step
}

/// How fast a plan runs in each power mode of its board, slowest mode first. Corrections that were learned from runs count
/// only for the mode of `target`. Empty where that is none of the board's modes; a mode without a known rate is left out.
pub fn speeds_by_mode<'a>(
    model: &ModelSpec,
    plan: &Plan,
    target: Target<'a>,
    workload: &Workload,
) -> Vec<(&'a str, Speeds)> {
    let modes = &target.device.modes;
    if !modes.iter().any(|mode| mode.name == target.mode.name) {
        return Vec::new();
    }
    let without_learned = RuntimeProfile {
        learned: None,
        ..target.runtime.clone()
    };
    let speeds = |mode: &'a PowerMode| {
        let speeds = if mode.name == target.mode.name {
            plan.speeds.clone()
        } else {
            let runtime = &without_learned;
            let other = Target {
                mode,
                runtime,
                ..target
            };
            speeds_at(model, plan, other, workload)
        };
        Some((mode.name.as_str(), speeds?))
    };
    modes.iter().filter_map(speeds).collect()
}

/// How fast the same plan is at another depth, with another number of sequences or another prompt:
/// `workload` says which. `None` where the device's speed is not known.
pub fn speeds_at(
    model: &ModelSpec,
    plan: &Plan,
    target: Target<'_>,
    workload: &Workload,
) -> Option<Speeds> {
    rates::speeds(model, &plan.assignment, target, workload)
}
