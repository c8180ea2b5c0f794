//! The report as text: verdict, the recommended format, a table of formats, what to change, commands to paste.

use super::advice::advice_text;
use super::commands::{self, commands};
use super::{Report, energy_budget_text, evidence_text, images, quality};
use crate::note::Note;
use crate::plan::fit::decode_by_mode;
use crate::plan::{Plan, Workload};
use crate::report::table::{Align, Table};
use crate::report::{count, line, rate, seconds, wrapped};
use crate::units::{Bytes, tokens};

pub(super) const FITS: &str = "FITS";
pub(super) const DOES_NOT_FIT: &str = "DOES NOT FIT";
pub(super) const TOO_SLOW: &str = "TOO SLOW";
const REFUSED: &str = "refused";

/// Whether `text` begins as the report does, for a terminal or as Markdown: with the model's size, then the verdict.
pub fn is_report(text: &str) -> bool {
    let verdict = || {
        [FITS, DOES_NOT_FIT]
            .iter()
            .any(|verdict| text.contains(verdict))
    };
    text.contains(" parameters") && verdict()
}

/// The report for a terminal.
pub fn text(report: &Report<'_>) -> String {
    let mut out = String::new();
    let Report {
        model, target, fit, ..
    } = report;
    wrapped(&mut out, &report.planned_for());
    let title = format!(
        "{} ({}, {} parameters) with {}",
        model.name,
        model.architecture,
        count(model.parameters),
        target.runtime.name,
    );
    wrapped(&mut out, &title);
    let recommended = fit.recommended();
    wrapped(&mut out, &headline(report, recommended));
    if let Some(images) = images::line(report) {
        wrapped(&mut out, &images);
    }
    if let Some(modes) = by_power_mode(report) {
        wrapped(&mut out, &modes);
    }
    out.push('\n');
    out.push_str(&table(report).text(" "));
    out.push('\n');
    wrapped(&mut out, &legend(report));
    if let Some(reason) = quality::reason(report) {
        wrapped(&mut out, &reason);
    }
    if !report.advice.is_empty() {
        out.push_str("\nWhat to change, least harm first:\n");
        for (index, advice) in report.advice.iter().enumerate() {
            let advice = advice_text(advice, report);
            wrapped(&mut out, &format!("  {}. {advice}", index + 1));
        }
    }
    if let Some(plan) = recommended {
        for block in commands(report, plan) {
            out.push('\n');
            wrapped(&mut out, &format!("{}:", block.title));
            for command in block.lines {
                line(&mut out, format_args!("  {command}"));
            }
        }
    }
    let notes = notes(report);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        wrapped(&mut out, &format!("note: {note}"));
    }
    out
}

/// The report with its verdict in bold green or red.
pub fn painted(report: &str) -> String {
    let verdicts = [(FITS, 32), (DOES_NOT_FIT, 31), (TOO_SLOW, 31)].into_iter();
    let begun = verdicts.filter_map(|(verdict, colour)| {
        // No name from a file can begin a line: line breaks in names are escaped, and wrapped lines are indented.
        let at = report.find(&format!("\n{verdict} "))? + 1;
        Some((at, verdict, colour))
    });
    begun
        .min()
        .map_or(report.to_owned(), |(at, verdict, colour)| {
            let (before, rest) = report.split_at(at);
            let rest = &rest[verdict.len()..];
            format!("{before}\u{1b}[1;{colour}m{verdict}\u{1b}[0m{rest}")
        })
}

/// The verdict in one sentence.
pub(super) fn headline(report: &Report<'_>, recommended: Option<&Plan>) -> String {
    let workload = report.workload;
    match recommended {
        Some(plan) => {
            let speed = plan.speeds.as_ref().map_or_else(String::new, |speeds| {
                format!(
                    ", {} tokens/s, first token after {}",
                    range(&speeds.decode.tokens_per_second),
                    seconds(speeds.prefill.time_to_first_token.expected),
                )
            });
            // Why the usual scheme is not recommended.
            let refused = report.fit.wanted().and_then(|wanted| {
                let why = wanted.refusal()?.text();
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
                        ": {} needs {total}, {} more than the {} there is",
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

/// Tokens a second of the recommended plan in each power mode, unless the board is the machine at hand, whose mode is
/// known.
pub(super) fn by_power_mode(report: &Report<'_>) -> Option<String> {
    let target = report.target;
    let elsewhere = target.device.at_hand.is_none();
    let plan = report.fit.recommended().filter(|_| elsewhere)?;
    let rates = decode_by_mode(report.model, plan, target, report.workload);
    let each = rates
        .iter()
        .map(|(mode, rate)| format!("{mode} {}", range(rate)));
    let each = each.collect::<Vec<_>>().join(", ");
    (rates.len() > 1).then(|| format!("by power mode: {each} tokens/s"))
}

/// The plan that comes nearest to fitting.
pub(super) fn smallest<'a>(report: &Report<'a>) -> Option<&'a Plan> {
    let plans = report.fit.plans.iter();
    plans.min_by_key(|plan| plan.memory.total())
}

/// One row per format.
pub(super) fn table(report: &Report<'_>) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("format", Align::Left),
        ("file", Align::Right),
        ("memory", Align::Right),
        ("used", Align::Left),
        ("left", Align::Right),
        ("max ctx", Align::Right),
        ("tokens/s", Align::Right),
        ("quality", Align::Right),
    ]);
    for (index, plan) in report.fit.plans.iter().enumerate() {
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
            match plan.max_context {
                0 => "-".to_owned(),
                context => context.to_string(),
            },
            speeds.map_or("-".to_owned(), |s| range(&s.decode.tokens_per_second)),
            quality::column(plan),
        ]);
    }
    table
}

/// The used share of the available memory in ten cells; an arrow where more is needed, and a word where the memory is
/// enough but the plan is refused for another reason.
fn bar(plan: &Plan) -> String {
    const CELLS: usize = 10;
    if plan.refusal().is_some() {
        return REFUSED.to_owned();
    }
    let share = plan.memory.total().as_f64() / plan.available.as_f64().max(1.0);
    if share > 1.0 {
        return format!("{}>", "#".repeat(CELLS));
    }
    let filled = ((share * CELLS as f64).ceil() as usize).clamp(1, CELLS);
    format!("{}{}", "#".repeat(filled), ".".repeat(CELLS - filled))
}

pub(super) fn headroom(plan: &Plan) -> String {
    match plan.headroom() {
        left if left >= 0 => Bytes(left.unsigned_abs()).to_string(),
        missing => format!("-{}", Bytes(missing.unsigned_abs())),
    }
}

/// `38-52`, or one number where both ends print alike.
pub(in crate::report) fn range(spread: &crate::plan::speed::Spread) -> String {
    let (low, high) = (rate(spread.low), rate(spread.high));
    if low == high {
        low
    } else {
        format!("{low}-{high}")
    }
}

fn legend(report: &Report<'_>) -> String {
    let workload = report.workload;
    let star = if report.fit.choice.taken.is_some() {
        "* recommended. "
    } else {
        ""
    };
    let refusal = report.fit.plans.iter().find_map(Plan::refusal);
    let refusal = refusal.map(|note| match note {
        Note::Allocation { limit, release, .. } => {
            format!("; {REFUSED}: L4T {release} grants no allocation above {limit}")
        }
        note => format!("; {REFUSED}: {}", note.text()),
    });
    format!(
        "{star}memory with {} of {} cache; tokens/s after a prompt of {}; quality in nats a token off the 16-bit original (0 is best); --explain shows every term{}",
        tokens(workload.context),
        cache_type(report),
        workload.prompt_tokens,
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

/// The caveats of the recommended plan or else of the smallest one, and of the runtime, each once.
pub(super) fn notes(report: &Report<'_>) -> Vec<String> {
    let runtime = report.target.runtime;
    let plan = report.fit.recommended().or(smallest(report));
    let of_plan = plan.into_iter().flat_map(|plan| &plan.notes);
    let of_runtime = runtime.notes.iter();
    let speeds = plan.and_then(|plan| plan.speeds.as_ref());
    let published = speeds.and_then(|speeds| speeds.published.as_ref());
    let evidence = published.map(|published| evidence_text(&published.evidence, report.target));
    // If there is none, a note of the plan says so.
    let is_told = |note: &Note| matches!(note, Note::SpeedUnmeasured { .. });
    let evidence = evidence.filter(|_| !plan.is_some_and(|plan| plan.notes.iter().any(is_told)));
    let budget = report.workload.energy_budget;
    let budget = budget.and_then(|watts| energy_budget_text(&published?.energy, watts));
    let of_lines = report.fit.recommended();
    let of_lines = of_lines.map_or(Vec::new(), |plan| commands::notes(report, plan));
    let all = of_plan
        .map(|note| note.text())
        .chain(of_lines)
        .chain(evidence)
        .chain(budget)
        .chain(report.fit.recommended().and_then(quality::evidence))
        .chain(of_runtime.map(|note| format!("{}: {note}", runtime.name)));
    let mut notes: Vec<String> = Vec::new();
    for note in all {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    notes
}
