//! What a figure shows of plans: memory over context, the decode rate over depth in each power mode, and the operations of
//! a token under the roof of the board.

use crate::device::PowerMode;
use crate::model::ModelSpec;
use crate::plan::fit::ledger_fits;
use crate::plan::memory::{PassMemory, ledger_with};
use crate::plan::operations::decode_operations;
use crate::plan::rates::decode_by_depth;
use crate::plan::roofline::Roof;
use crate::plan::speed::Spread;
use crate::plan::target::Target;
use crate::plan::{Fit, Plan, Workload};
use crate::runtime::RuntimeProfile;
use crate::units::Bytes;

/// The least context of a curve.
const LEAST: u64 = 512;

/// The largest context of a curve where the model states no limit of its own.
const UNSTATED_LIMIT: u64 = 131_072;

/// What figures show of every plan of a model.
#[derive(Clone, Debug)]
pub struct Curves<'a> {
    /// The contexts over all sequences, rising: two for each doubling, the one asked for and the largest that fits.
    pub contexts: Vec<u64>,
    /// The power modes of the board, slowest first.
    pub modes: Vec<&'a str>,
    /// A curve of each plan, in their order.
    pub plans: Vec<PlanCurve>,
    /// The roof of the board, where its peaks are known.
    pub roof: Option<Roof>,
    /// What a token of the plan to take does, largest share of the time first.
    pub operations: Vec<RatedOperation>,
}

/// The curves of one plan.
#[derive(Clone, Debug)]
pub struct PlanCurve {
    /// The memory that it takes at each context.
    pub memory: Vec<Bytes>,
    /// Whether it fits at each context: there may be room, and the driver refuses an allocation.
    pub fits: Vec<bool>,
    /// Tokens a second by power mode, then by depth: with as many tokens in the cache of each sequence as it has room for.
    /// Empty where no rate is known.
    pub decode: Vec<Vec<Spread>>,
}

/// Operations of one name and format.
#[derive(Clone, Debug, PartialEq)]
pub struct RatedOperation {
    /// The name in an explanation.
    pub name: String,
    /// The format of what they read.
    pub dtype: &'static str,
    /// Bytes that one token moves.
    pub bytes: u64,
    /// Floating-point operations of a token.
    pub flops: u64,
    /// The seconds that they are expected to take.
    pub seconds: f64,
}

/// The curves of all plans of `fit`.
pub fn curves<'a>(
    model: &ModelSpec,
    fit: &Fit,
    target: Target<'a>,
    workload: &Workload,
) -> Curves<'a> {
    let contexts = contexts(model, fit, workload);
    let modes: Vec<&PowerMode> = modes(target);
    // What runs on the board showed holds for the mode that they ran in.
    let without_learned = RuntimeProfile {
        learned: None,
        ..target.runtime.clone()
    };
    let in_mode = |mode: &&'a PowerMode| Target {
        mode,
        runtime: match mode.name == target.mode.name {
            true => target.runtime,
            false => &without_learned,
        },
        ..target
    };
    let in_modes: Vec<Target<'_>> = modes.iter().map(in_mode).collect();
    let passes: Vec<(Workload, PassMemory)> = contexts
        .iter()
        .map(|&context| {
            let asked = workload.with_context(context);
            let pass = PassMemory::of(model, target.runtime, &asked);
            (asked, pass)
        })
        .collect();
    let shown = fit.recommended().or(fit.wanted());
    let operations = shown.map_or_else(Vec::new, |plan| operations(model, plan, workload));
    Curves {
        plans: fit
            .plans
            .iter()
            .map(|plan| curve(model, plan, target, &in_modes, workload, &passes))
            .collect(),
        modes: modes.iter().map(|mode| mode.name.as_str()).collect(),
        contexts,
        roof: Roof::of(target.mode),
        operations,
    }
}

/// The modes of the board, or the one of `target` where that is none of them.
fn modes(target: Target<'_>) -> Vec<&PowerMode> {
    let modes = &target.device.modes;
    if modes.iter().any(|mode| mode.name == target.mode.name) {
        modes.iter().collect()
    } else {
        vec![target.mode]
    }
}

fn contexts(model: &ModelSpec, fit: &Fit, workload: &Workload) -> Vec<u64> {
    let sequences = workload.parallel.max(1);
    let limit = match model.dims.context {
        0 => UNSTATED_LIMIT,
        limit => limit,
    };
    let limit = limit.saturating_mul(sequences);
    let doublings = (0..).map_while(|n| LEAST.checked_shl(n).filter(|value| *value < limit));
    let steps = doublings
        .take(24)
        .flat_map(|value| [value, value + value / 2]);
    let largest = fit.plans.iter().map(|plan| plan.max_context);
    let mut contexts: Vec<u64> = steps
        .chain(largest)
        .chain([workload.context, limit])
        .filter(|value| (1..=limit.max(workload.context)).contains(value))
        .collect();
    contexts.sort_unstable();
    contexts.dedup();
    contexts
}

fn curve(
    model: &ModelSpec,
    plan: &Plan,
    target: Target<'_>,
    in_modes: &[Target<'_>],
    workload: &Workload,
    passes: &[(Workload, PassMemory)],
) -> PlanCurve {
    let ledgers = passes.iter().map(|(asked, pass)| {
        let ledger = ledger_with(model, &plan.assignment, target.runtime, asked, pass);
        let fits = ledger_fits(&ledger, plan.available, target);
        (ledger.total(), fits)
    });
    let (memory, fits) = ledgers.unzip();
    let parallel = workload.parallel.max(1);
    let depths: Vec<u64> = passes
        .iter()
        .map(|(asked, _)| asked.context / parallel)
        .collect();
    let rates = plan
        .speeds
        .as_ref()
        .and_then(|_| decode_by_depth(model, &plan.assignment, in_modes, workload, &depths));
    PlanCurve {
        memory,
        fits,
        decode: rates.unwrap_or_default(),
    }
}

/// The operations of a token of `plan`, those of one name and format as one.
fn operations(model: &ModelSpec, plan: &Plan, workload: &Workload) -> Vec<RatedOperation> {
    // On processors the terms are those of their phases, not of the operations.
    let Some(speeds) = plan
        .speeds
        .as_ref()
        .filter(|speeds| speeds.published.is_some())
    else {
        return Vec::new();
    };
    let operations = decode_operations(model, &plan.assignment, workload);
    let mut rated: Vec<RatedOperation> = Vec::new();
    for (operation, part) in operations.iter().zip(&speeds.decode.parts) {
        let (name, dtype) = (&operation.name, operation.dtype.name());
        let flops = operation.weights.saturating_mul(2);
        match rated
            .iter_mut()
            .find(|known| known.name == *name && known.dtype == dtype)
        {
            Some(known) => {
                known.bytes = known.bytes.saturating_add(operation.bytes);
                known.flops = known.flops.saturating_add(flops);
                known.seconds += part.seconds;
            }
            None => rated.push(RatedOperation {
                name: name.clone(),
                dtype,
                bytes: operation.bytes,
                flops,
                seconds: part.seconds,
            }),
        }
    }
    rated.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rated
}
