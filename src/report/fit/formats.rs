//! The table of formats, and what its numbers mean.

use std::ops::Range;

use super::{Report, quality, range};
use crate::model::ModelSpec;
use crate::note::Note;
use crate::plan::Plan;
use crate::report::listed;
use crate::report::table::{Align, Table};
use crate::units::{Bytes, tokens};

pub(in crate::report) const REFUSED: &str = "refused";

/// What the column of that name has.
pub(in crate::report) const QUALITY: &str = "quality: divergence from 16 bit in nats a token";

/// One row per format.
pub(super) fn table(report: &Report<'_>, shown: Range<usize>) -> Table {
    // What is left says so.
    let is_refused = refused(report, shown.clone()).next().is_some();
    let mut table = Table::new([
        ("", Align::Left),
        ("format", Align::Left),
        ("file", Align::Right),
        ("memory", Align::Right),
        ("used", Align::Left),
        ("left", Align::Right),
        ("max ctx", Align::Right),
        (rated(report), Align::Right),
        ("quality", Align::Right),
    ])
    .giving_up(if is_refused {
        &["used", "file", "quality", "left", "max ctx"]
    } else {
        &["used", "left", "file", "quality", "max ctx"]
    });
    let plans = report.fit.plans.iter().enumerate();
    for (index, plan) in plans.skip(shown.start).take(shown.len()) {
        let star = if report.fit.choice.taken == Some(index) {
            "*"
        } else {
            ""
        };
        let speeds = plan.speeds.as_ref();
        table.row([
            star.to_owned(),
            plan.assignment.scheme.to_uppercase(),
            plan.file_bytes.to_string(),
            plan.memory.total().to_string(),
            bar(plan),
            headroom(plan),
            largest_context(report.model, plan),
            speeds.map_or("-".to_owned(), |s| range(s.shown())),
            quality::column(plan),
        ]);
    }
    table
}

/// The largest context that fits, if any does.
pub(super) fn largest_context(model: &ModelSpec, plan: &Plan) -> String {
    match plan.max_context {
        0 => "-".to_owned(),
        _ if !model.bounds_context() => "no limit".to_owned(),
        context => context.to_string(),
    }
}

/// What the rates of formats count.
pub(super) fn rated(report: &Report<'_>) -> &'static str {
    match report.model.retrieval {
        Some(_) => "texts/s",
        None => "tokens/s",
    }
}

/// The used share of the available memory in ten cells; an arrow where more is needed.
fn bar(plan: &Plan) -> String {
    const CELLS: usize = 10;
    let share = plan.memory.total().as_f64() / plan.available.as_f64().max(1.0);
    if share > 1.0 {
        return format!("{}>", "#".repeat(CELLS));
    }
    let filled = ((share * CELLS as f64).ceil() as usize).clamp(1, CELLS);
    format!("{}{}", "#".repeat(filled), ".".repeat(CELLS - filled))
}

/// The memory left; a word where it is enough but the plan is refused for another reason.
pub(super) fn headroom(plan: &Plan) -> String {
    if plan.refusal().is_some() {
        return REFUSED.to_owned();
    }
    match plan.headroom() {
        left if left >= 0 => Bytes(left.unsigned_abs()).to_string(),
        missing => format!("-{}", Bytes(missing.unsigned_abs())),
    }
}

/// The plans among these that are refused, although there is room for them.
fn refused<'a>(
    report: &Report<'a>,
    shown: Range<usize>,
) -> impl Iterator<Item = (&'a Plan, &'a Note)> {
    let plans = report.fit.plans.iter();
    let shown = plans.skip(shown.start).take(shown.len());
    shown.filter_map(|plan| Some((plan, plan.refusal()?)))
}

/// What the numbers of these formats mean; `has_column` says of which columns.
pub(super) fn legend(
    report: &Report<'_>,
    shown: Range<usize>,
    has_column: impl Fn(&str) -> bool,
) -> String {
    let workload = report.workload;
    let is_starred = report.fit.choice.taken.is_some();
    let star = is_starred.then(|| "* recommended".to_owned());
    let memory = if report.model.is_encoder() {
        "memory for a pass, since nothing is cached".to_owned()
    } else {
        let context = tokens(workload.context);
        format!("memory with {context} of {} cache", cache_type(report))
    };
    let as_elsewhere = match report.model.retrieval {
        Some(_) => ", by models that write",
        None => "",
    };
    let quality = has_column("quality").then(|| format!("{QUALITY}{as_elsewhere}"));
    // The headline says why the wanted format is refused.
    let wanted = report.fit.wanted().and_then(Plan::refusal);
    let why = refused(report, shown.clone()).next();
    let why = why.filter(|_| wanted.is_none());
    let why = why.map(|(_, note)| short_refusal(note));
    let names: Vec<String> = refused(report, shown)
        .map(|(plan, _)| plan.assignment.scheme.to_uppercase())
        .collect();
    let refusal = match why {
        Some(why) if has_column("left") => Some(format!("{REFUSED}: {why}")),
        Some(why) => Some(format!("{REFUSED}: {}, since {why}", listed(&names))),
        None if has_column("left") || names.is_empty() => None,
        None => Some(format!("{REFUSED}: {}", listed(&names))),
    };
    let parts = [star, Some(memory), quality, refusal];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Why the first of the refused plans is.
#[cfg(feature = "pages")]
pub(in crate::report) fn short_refusal_of(report: &Report<'_>) -> Option<String> {
    let all = 0..report.fit.plans.len();
    refused(report, all)
        .next()
        .map(|(_, note)| short_refusal(note))
}

/// Why something is refused, whatever its own numbers.
pub(super) fn short_refusal(refusal: &Note) -> String {
    match refusal {
        Note::Allocation { limit, release, .. } => {
            format!("L4T {release} grants no allocation above {limit}")
        }
        note => note.text(),
    }
}

fn cache_type(report: &Report<'_>) -> String {
    let (k, v) = (report.workload.type_k.name(), report.workload.type_v.name());
    if k == v {
        k.to_owned()
    } else {
        format!("{k}/{v}")
    }
}
