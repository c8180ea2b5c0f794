//! What to change when a plan does not fit, least harm first: less context, a smaller cache type, a
//! smaller format, a larger board. Never "offload to the CPU": it is the same memory.

use crate::dtype::Dtype;
use crate::model::ModelSpec;
use crate::plan::fit::{Candidate, Fit, Plan, Target, available, fit, max_context};
use crate::plan::kv::KvProblem;
use crate::plan::workload::Workload;
use crate::units::Bytes;

/// One change that makes a model fit.
#[derive(Clone, Debug, PartialEq)]
pub enum Advice {
    /// The scheme fits with less context.
    Context {
        /// The scheme.
        scheme: String,
        /// The largest context that fits.
        context: u64,
    },
    /// The scheme fits with the context asked for and a smaller cache type.
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
    let mut advice = Vec::new();
    if let Some(problem) = wanted.memory.kv_problem.clone() {
        advice.push(Advice::Cache { problem });
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
    let smaller = [Dtype::Q8_0, Dtype::Q4_0]
        .into_iter()
        .filter(loadable)
        .find(|&dtype| {
            let asked = workload.with_kv_type(dtype);
            let candidate = Candidate {
                assignment: wanted.assignment.clone(),
                file_bytes: wanted.file_bytes,
                notes: Vec::new(),
            };
            fit(model, vec![candidate], target, &asked)
                .plans
                .iter()
                .all(Plan::fits)
        });
    advice.extend(smaller.map(|dtype| Advice::KvType {
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
