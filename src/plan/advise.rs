//! What to change when a plan does not fit, least harm first: what the user can do without, less
//! context, a smaller cache type, a smaller format, a larger board. Never "offload to the CPU": it is
//! the same memory.

use crate::device::Session;
use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::plan::fit::{Candidate, Fit, Plan, Target, available, fit, max_context};
use crate::plan::kv::KvProblem;
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// One change that makes a model fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// The scheme fits as asked with fused attention.
    FlashAttention {
        /// The scheme.
        scheme: String,
    },
    /// The scheme fits as asked without the desktop.
    Headless {
        /// The scheme.
        scheme: String,
        /// What the desktop holds.
        freed: Bytes,
    },
    /// The scheme fits as asked without the vision and audio towers.
    TextOnly {
        /// The scheme.
        scheme: String,
    },
    /// The scheme fits with less context.
    Context {
        /// The scheme.
        scheme: String,
        /// The largest context that fits.
        context: u64,
    },
    /// The scheme fits with the context asked for and another cache type.
    KvType {
        /// The scheme.
        scheme: String,
        /// The cache type.
        dtype: Dtype,
    },
    /// The cache cannot have the type asked for, whatever the memory.
    Cache {
        /// Why, and what it can have.
        problem: KvProblem,
    },
    /// Another scheme fits as asked.
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// Nothing planned fits: what the smallest plan lacks.
    TooLarge {
        /// The smallest scheme.
        scheme: String,
        /// What is missing even with the least context.
        missing: Bytes,
    },
}

/// Contexts below this are of little use, so they are not offered.
const LEAST_USEFUL_CONTEXT: u64 = 512;

/// What to change so that the scheme the user most likely wants fits: the only one planned, or the
/// usual choice among several. Empty if it fits. `others` are plans of schemes that were not asked
/// for, which advice may name.
pub fn advise(
    model: &ModelSpec,
    result: &Fit,
    others: &Fit,
    target: Target<'_>,
    workload: &Workload,
) -> Vec<Advice> {
    let Some(wanted) = wanted(&result.plans) else {
        return Vec::new();
    };
    if wanted.fits() {
        return Vec::new();
    }
    let scheme = || wanted.assignment.scheme.clone();
    let fits_with = |asked: &Workload| {
        let candidate = Candidate {
            assignment: wanted.assignment.clone(),
            file_bytes: wanted.file_bytes,
            notes: Vec::new(),
        };
        let planned = fit(model, vec![candidate], target, asked);
        planned.plans.iter().all(Plan::fits)
    };
    let mut advice = Vec::new();
    if let Some(problem) = wanted.memory.kv_problem.clone() {
        advice.push(Advice::Cache { problem });
    }
    if !workload.flash_attention && fits_with(&workload.with_flash_attention()) {
        advice.push(Advice::FlashAttention { scheme: scheme() });
    }
    let desktop = workload.session == Session::Desktop && workload.budget.is_none();
    if desktop && fits_with(&workload.headless()) {
        let without = target.device.available(Session::Headless);
        advice.push(Advice::Headless {
            scheme: scheme(),
            freed: without.saturating_sub(target.device.available(Session::Desktop)),
        });
    }
    if !model.towers.is_empty() && !workload.text_only && fits_with(&workload.without_towers()) {
        advice.push(Advice::TextOnly { scheme: scheme() });
    }
    if wanted.max_context >= LEAST_USEFUL_CONTEXT && wanted.max_context < workload.context {
        advice.push(Advice::Context {
            scheme: scheme(),
            context: wanted.max_context,
        });
    }
    let loadable = |dtype: &Dtype| {
        target
            .runtime
            .loads
            .kv_types
            .iter()
            .any(|name| name.eq_ignore_ascii_case(dtype.name()))
    };
    // F16 helps where the type asked for is impossible.
    let another = [Dtype::F16, Dtype::Q8_0, Dtype::Q4_0]
        .into_iter()
        .filter(loadable)
        .find(|&dtype| fits_with(&workload.with_kv_type(dtype)));
    advice.extend(another.map(|dtype| Advice::KvType {
        scheme: scheme(),
        dtype,
    }));
    let other = result.recommended().or(others.recommended());
    advice.extend(other.map(|plan| Advice::Scheme {
        scheme: plan.assignment.scheme.clone(),
    }));
    if advice.is_empty() {
        let smallest = result
            .plans
            .iter()
            .chain(&others.plans)
            .min_by_key(|plan| plan.tensor_bytes);
        advice.extend(smallest.map(|plan| nothing_fits(model, plan, target, workload)));
    }
    advice
}

/// The plan the user most likely wants.
fn wanted(plans: &[Plan]) -> Option<&Plan> {
    plans
        .iter()
        .find(|plan| plan.assignment.scheme == "q4_k_m")
        .or_else(|| plans.first())
}

/// The smallest scheme: its largest context if that is of use, else what it lacks.
fn nothing_fits(
    model: &ModelSpec,
    smallest: &Plan,
    target: Target<'_>,
    workload: &Workload,
) -> Advice {
    let scheme = smallest.assignment.scheme.clone();
    let context = max_context(model, &smallest.assignment, target, workload);
    if context >= LEAST_USEFUL_CONTEXT {
        return Advice::Context { scheme, context };
    }
    let least = workload.with_context(LEAST_USEFUL_CONTEXT);
    let memory = super::memory::ledger(model, &smallest.assignment, target.runtime, &least);
    let missing = memory
        .total()
        .saturating_sub(available(target.device, workload));
    Advice::TooLarge { scheme, missing }
}
