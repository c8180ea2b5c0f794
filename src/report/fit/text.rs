//! The report as text: verdict, the recommended format, a table of formats, what to change, commands to paste.

use std::ops::Range;

use super::advice::advice_text;
use super::commands::{self, commands};
use super::{
    Report, View, energy_budget_text, evidence_text, images, prompt_evidence_text, quality, range,
    speculation, throughput,
};
use crate::model::ModelSpec;
use crate::note::{Note, Weight};
use crate::plan::fit::speeds_by_mode;
use crate::plan::throughput::Throughput;
use crate::plan::{Plan, Workload};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{count, rate, seconds};
use crate::units::{Bytes, counted, tokens};

pub(super) const FITS: &str = "FITS";
pub(super) const DOES_NOT_FIT: &str = "DOES NOT FIT";
pub(super) const TOO_SLOW: &str = "TOO SLOW";
const REFUSED: &str = "refused";

/// Whether `text` begins as the report does, for a terminal or as Markdown: with the verdict and the model's size.
pub fn is_report(text: &str) -> bool {
    let verdict = || {
        [FITS, DOES_NOT_FIT]
            .iter()
            .any(|verdict| text.contains(verdict))
    };
    text.contains(" parameters") && verdict()
}

/// How many formats the first screen shows, and how few where it has more to say than usual.
pub(in crate::report) const FORMATS: usize = 4;
pub(in crate::report) const FEWEST_FORMATS: usize = 2;

/// How many notes the first screen shows at most, a line each.
pub(in crate::report) const NOTES: usize = 2;

/// The lines of a usual terminal, less that of the shell.
pub(in crate::report) const ROWS: usize = 23;

/// What the first screen has room for.
#[derive(Clone, Copy)]
struct Room {
    /// Rows of a table at most.
    rows: usize,
    /// Why the format is recommended, and its speed in each power mode.
    facts: bool,
}

/// The report for a terminal: the verdict, why, the formats around the recommended one or the numbers of sequences around
/// the best, how to make and run it, what to know.
pub fn text(report: &Report<'_>, batches: Option<&Throughput>, view: View) -> String {
    let is_whole = view.all || view.explain;
    let usual = Room {
        rows: FORMATS,
        facts: true,
    };
    let whole = screen(report, batches, view, usual);
    let excess = whole.rows().saturating_sub(ROWS);
    if is_whole || excess == 0 {
        return whole.finish();
    }
    let less = Room {
        rows: FORMATS.saturating_sub(excess).max(FEWEST_FORMATS),
        facts: excess <= FORMATS - FEWEST_FORMATS,
    };
    screen(report, batches, view, less).finish()
}

/// The report in that room, unless it is to show all.
fn screen(report: &Report<'_>, batches: Option<&Throughput>, view: View, room: Room) -> Screen {
    let is_whole = view.all || view.explain;
    let mut out = Screen::new(view.columns);
    // The whole report has them below.
    let batches = batches.filter(|_| !is_whole);
    // Without a number of sequences that fits, that is the verdict.
    let are_verdict = batches.is_some_and(|found| found.best.is_none());
    if let Some(found) = batches.filter(|_| are_verdict) {
        out.prose(&throughput::head(found));
        out.table(&throughput::table(found, 0..room.rows), " ");
        if let Some(way_out) = throughput::way_out(found) {
            out.blank();
            out.prose(&way_out);
            return out;
        }
        out.push_str("\nOne sequence:\n");
    }
    let Report {
        model, target, fit, ..
    } = report;
    let recommended = fit.recommended();
    out.prose(&headline(report, recommended));
    if let Some(found) = batches.filter(|_| !are_verdict) {
        out.prose(&throughput::head(found));
    }
    out.prose(&format!(
        "{} ({}, {} parameters) with {}",
        model.name,
        model.architecture,
        count(model.parameters),
        target.runtime.name,
    ));
    out.prose(&report.planned_for());
    let facts = room.facts || is_whole;
    for fact in [
        images::line(report),
        report.fit.recommended().and_then(speculation::line),
        quality::reason(report).filter(|_| facts),
        facts.then(|| by_power_mode(report)).flatten(),
    ] {
        fact.iter().for_each(|fact| out.prose(fact));
    }
    out.blank();
    let mut shown = formats(report, view, room.rows);
    let mut sequences = 0..0;
    match batches.filter(|_| !are_verdict) {
        Some(found) => {
            shown = 0..0;
            sequences = around(found.best.unwrap_or(0), found.batches.len(), room.rows);
            out.table(&throughput::table(found, sequences.clone()), " ");
            out.prose(&throughput::limit(found));
        }
        None => {
            out.table(&table(report, shown.clone()), " ");
            out.prose(&legend(report));
        }
    }
    if !report.advice.is_empty() {
        out.push_str("\nWhat to change, least loss first:\n");
        for (index, advice) in report.advice.iter().enumerate() {
            let advice = advice_text(advice, report);
            out.prose(&format!("  {}. {advice}", index + 1));
        }
    }
    let blocks = recommended.map_or(Vec::new(), |plan| commands(report, plan));
    let steps = match blocks.iter().position(|block| block.runs) {
        Some(first) if !view.all => first + 1,
        _ => blocks.len(),
    };
    if steps > 0 {
        out.blank();
    }
    for block in blocks.iter().take(steps) {
        out.prose(&format!("{}:", block.title));
        for command in &block.lines {
            out.line(format_args!("  {command}"));
        }
    }
    let mut notes = notes(report);
    if view.explain {
        // What follows says it beside the numbers.
        notes.retain(|note| !note.is_evidence);
    }
    let told: Vec<&Told> = if is_whole {
        notes.iter().collect()
    } else {
        let told = notes.iter().filter(|note| note.weight < Weight::Background);
        // An empty line is before them, and what more there is behind.
        let room = ROWS.saturating_sub(out.rows() + 2);
        told.take(room.clamp(1, NOTES)).collect()
    };
    out.blank();
    for note in &told {
        let note = format!("note: {}", note.text);
        if is_whole {
            out.prose(&note);
        } else {
            out.clause(&note);
        }
    }
    let numbers = batches.map_or(0, |found| found.batches.len() - sequences.len());
    let more = [
        (numbers, "number of sequences", "numbers of sequences"),
        (fit.plans.len() - shown.len(), "format", "formats"),
        (blocks.len() - steps, "way to run it", "ways to run it"),
        (notes.len() - told.len(), "note", "notes"),
    ];
    if let Some(more) = more_text(&more, view) {
        out.prose(&more);
    }
    out
}

/// The plans to show: all, or a few around the one to take, which leave at least one of better quality in sight.
fn formats(report: &Report<'_>, view: View, most: usize) -> Range<usize> {
    let plans = report.fit.plans.len();
    if view.all || view.formats || plans <= most {
        return 0..plans;
    }
    let taken = report.fit.choice.taken.or_else(|| smallest_index(report));
    around(taken.unwrap_or(0), plans, most)
}

/// So many rows at most of all, with one before `taken` if there is one.
pub(in crate::report) fn around(taken: usize, all: usize, most: usize) -> Range<usize> {
    let first = taken.saturating_sub(1).min(all.saturating_sub(most));
    first..all.min(first + most)
}

/// What the flags would show beyond the first screen.
pub(in crate::report) fn more_text(more: &[(usize, &str, &str)], view: View) -> Option<String> {
    let more = more.iter().filter(|(number, ..)| *number > 0);
    let more: Vec<String> = more
        .map(|&(number, one, many)| counted(number, one, many))
        .collect();
    let all = (!more.is_empty()).then(|| format!("--all: {} more", more.join(", ")));
    let explain = (!view.explain).then(|| "--explain: every term".to_owned());
    let flags: Vec<String> = all.into_iter().chain(explain).collect();
    (!flags.is_empty()).then(|| flags.join("; "))
}

/// The report with its verdict in bold green or red.
pub fn painted(report: &str) -> String {
    let verdicts = [(FITS, 32), (DOES_NOT_FIT, 31), (TOO_SLOW, 31)];
    let begun = verdicts.iter().find_map(|(verdict, colour)| {
        let rest = report.strip_prefix(verdict)?;
        Some(format!("\u{1b}[1;{colour}m{verdict}\u{1b}[0m{rest}"))
    });
    begun.unwrap_or_else(|| report.to_owned())
}

/// The verdict in one sentence.
pub(super) fn headline(report: &Report<'_>, recommended: Option<&Plan>) -> String {
    let workload = report.workload;
    match recommended {
        Some(plan) => {
            let speed = plan.speeds.as_ref().map_or_else(String::new, |speeds| {
                let first = seconds(speeds.prefill.time_to_first_token.expected);
                match &speeds.texts {
                    Some(texts) => format!(
                        ", {} texts/s of {}, the first after {first}",
                        range(texts),
                        tokens(workload.prompt_tokens),
                    ),
                    None => format!(
                        ", {} tokens/s, first token after {first}",
                        range(&speeds.decode.tokens_per_second),
                    ),
                }
            });
            // Why the usual scheme is not recommended.
            let refused = report.fit.wanted().and_then(|wanted| {
                let why = refusal_text(wanted.refusal()?);
                let scheme = wanted.assignment.scheme.to_uppercase();
                Some(format!("; there is room for {scheme}, but {why}"))
            });
            format!(
                "{FITS} as {}: {} of {} with {}{speed}{}",
                plan.assignment.scheme.to_uppercase(),
                plan.memory.total(),
                plan.available,
                context(workload),
                refused.unwrap_or_default(),
            )
        }
        None if report.fit.plans.iter().any(Plan::fits) => {
            let least = report.fit.choice.preference.min_speed.unwrap_or_default();
            let (context, least) = (context(workload), rate(least));
            format!("{TOO_SLOW} with {context}: no format that fits decodes {least} tokens/s")
        }
        None => {
            let lacking = smallest(report).map_or_else(String::new, |plan| {
                let total = plan.memory.total();
                if total > plan.available {
                    format!(
                        ": {} needs {total}, {} more than the {} available",
                        plan.assignment.scheme.to_uppercase(),
                        total.saturating_sub(plan.available),
                        plan.available
                    )
                } else {
                    let why = plan.refusal();
                    why.map_or_else(String::new, |note| format!(": {}", note.text()))
                }
            });
            format!("{DOES_NOT_FIT} with {}{lacking}", context(workload))
        }
    }
}

/// Why a plan is refused; what to do about it is advice.
pub(in crate::report) fn refusal_text(refusal: &Note) -> String {
    match refusal {
        Note::Allocation {
            largest,
            limit,
            release,
            lifted: None,
        } => format!(
            "one allocation of {largest} is needed, and no driver up to L4T {release} is known to grant more than {limit}"
        ),
        Note::Allocation {
            largest,
            limit,
            release,
            lifted: Some(_),
        } => format!(
            "one allocation of {largest} fails on L4T {release}, which grants at most {limit}"
        ),
        note => note.text(),
    }
}

/// The context over all sequences, and for each.
fn context(workload: &Workload) -> String {
    let all = format!("{} of context", tokens(workload.context));
    match workload.parallel {
        0 | 1 => all,
        parallel => format!(
            "{all} ({} for each of {parallel} sequences)",
            workload.context / parallel
        ),
    }
}

/// How fast the recommended plan is in each power mode, unless the board is the machine at hand, whose mode is
/// known.
pub(super) fn by_power_mode(report: &Report<'_>) -> Option<String> {
    let target = report.target;
    let elsewhere = target.device.at_hand.is_none();
    let plan = report.fit.recommended().filter(|_| elsewhere)?;
    let modes = speeds_by_mode(report.model, plan, target, report.workload);
    let each = modes
        .iter()
        .map(|(mode, speeds)| format!("{mode} {}", range(speeds.shown())));
    let each = each.collect::<Vec<_>>().join(", ");
    (modes.len() > 1).then(|| format!("by power mode: {each} {}", rated(report)))
}

/// The plan that comes nearest to fitting.
pub(super) fn smallest<'a>(report: &Report<'a>) -> Option<&'a Plan> {
    report.fit.plans.get(smallest_index(report)?)
}

fn smallest_index(report: &Report<'_>) -> Option<usize> {
    let plans = report.fit.plans.iter().enumerate();
    let least = plans.min_by_key(|(_, plan)| plan.memory.total());
    least.map(|(index, _)| index)
}

/// One row per format.
pub(super) fn table(report: &Report<'_>, shown: Range<usize>) -> Table {
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
    .giving_up(&["used", "left", "file", "quality", "max ctx"]);
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
fn rated(report: &Report<'_>) -> &'static str {
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

fn legend(report: &Report<'_>) -> String {
    let workload = report.workload;
    let star = if report.fit.choice.taken.is_some() {
        "* recommended; "
    } else {
        ""
    };
    // The headline says why the wanted format is refused.
    let wanted = report.fit.wanted().and_then(Plan::refusal);
    let refusal = report.fit.plans.iter().find_map(Plan::refusal);
    let refusal = refusal.filter(|_| wanted.is_none());
    let refusal = refusal.map(|note| match note {
        Note::Allocation { limit, release, .. } => {
            format!("; {REFUSED}: L4T {release} grants no allocation above {limit}")
        }
        note => format!("; {REFUSED}: {}", note.text()),
    });
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
    format!(
        "{star}{memory}; quality in nats off 16 bit{as_elsewhere}{}",
        refusal.unwrap_or_default(),
    )
}

fn cache_type(report: &Report<'_>) -> String {
    let (k, v) = (report.workload.type_k.name(), report.workload.type_v.name());
    if k == v {
        k.to_owned()
    } else {
        format!("{k}/{v}")
    }
}

/// A caveat in words, and how much it changes.
pub(super) struct Told {
    weight: Weight,
    /// Whether it says which measurements are behind a number.
    is_evidence: bool,
    pub(super) text: String,
}

/// The caveats of the recommended plan or else of the smallest one, of its commands and of the runtime, each once; those
/// that change most are first.
pub(super) fn notes(report: &Report<'_>) -> Vec<Told> {
    let runtime = report.target.runtime;
    let plan = report.fit.recommended().or(smallest(report));
    let of_plan = plan.into_iter().flat_map(|plan| &plan.notes);
    let told = |weight, text| Told {
        weight,
        is_evidence: false,
        text,
    };
    let of_plan = of_plan.map(|note| told(note.weight(), note.text()));
    let speeds = plan.and_then(|plan| plan.speeds.as_ref());
    let published = speeds.and_then(|speeds| speeds.published.as_ref());
    let evidence = published.and_then(|published| match report.model.retrieval {
        Some(_) => prompt_evidence_text(&published.prompt_evidence),
        None => Some(evidence_text(&published.evidence, report.target)),
    });
    // If there is none, a note of the plan says so.
    let is_told = |note: &Note| matches!(note, Note::SpeedUnmeasured { .. });
    let evidence = evidence.filter(|_| !plan.is_some_and(|plan| plan.notes.iter().any(is_told)));
    let budget = report.workload.energy_budget;
    let budget = budget.and_then(|watts| energy_budget_text(&published?.energy, watts));
    let of_lines = report.fit.recommended();
    let of_lines = of_lines.map_or(Vec::new(), |plan| commands::notes(report, plan));
    let of_runtime = runtime.notes.iter();
    let of_runtime = of_runtime.map(|note| format!("{}: {note}", runtime.name));
    let quality = report.fit.recommended().and_then(quality::evidence);
    let speculation = plan.and_then(speculation::evidence);
    let all = budget
        .into_iter()
        .map(|text| told(Weight::Verdict, text))
        .chain(of_plan)
        .chain(
            of_lines
                .into_iter()
                .map(|text| told(Weight::Commands, text)),
        )
        .chain(
            evidence
                .into_iter()
                .chain(speculation)
                .chain(quality)
                .map(|text| Told {
                    is_evidence: true,
                    ..told(Weight::Background, text)
                }),
        )
        .chain(of_runtime.map(|text| told(Weight::Background, text)));
    let mut notes: Vec<Told> = Vec::new();
    for note in all {
        if notes.iter().all(|known| known.text != note.text) {
            notes.push(note);
        }
    }
    notes.sort_by_key(|note| note.weight);
    notes
}
