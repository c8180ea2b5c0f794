//! The report as text: verdict, the recommended format, a table of formats, what to change, commands to paste.

use std::ops::Range;

use super::advice::advice_text;
use super::commands::{self, commands};
use super::formats::{legend, rated, table};
use super::{
    DOES_NOT_FIT, FITS, Report, TOO_SLOW, View, energy_budget_text, evidence_text, images,
    prompt_evidence_text, quality, range, requests, speculation, throughput,
};
use crate::note::{Note, Weight, most};
use crate::plan::fit::speeds_by_mode;
use crate::plan::throughput::Throughput;
use crate::plan::{Plan, Workload};
use crate::report::first_screen::{self, ALTERNATIVES, ROWS, Room, more_text};
use crate::report::screen::Screen;
use crate::report::{count, rate, seconds};
use crate::units::tokens;

const INDENT: &str = " ";

/// Whether `text` begins as the report does, for a terminal or as Markdown: with the verdict and the model's size.
pub fn is_report(text: &str) -> bool {
    let verdict = || {
        [FITS, DOES_NOT_FIT]
            .iter()
            .any(|verdict| text.contains(verdict))
    };
    text.contains(" parameters") && verdict()
}

/// The report for a terminal: the verdict, why, the formats around the recommended one or the numbers of sequences around
/// the best, how to make and run it, what to know.
pub fn text(report: &Report<'_>, batches: Option<&Throughput>, view: View) -> String {
    // Formats that the user named are all shown, and have the rows for it.
    let named = report.fit.plans.len();
    let alternatives = if view.formats { named } else { ALTERNATIVES };
    let rows = match view.room(alternatives) {
        Room::ALL => usize::MAX,
        _ => ROWS + alternatives.saturating_sub(ALTERNATIVES),
    };
    first_screen::fitted(view.room(alternatives), rows, |room| {
        screen(report, batches, view, room)
    })
}

/// The report in that room.
fn screen(report: &Report<'_>, batches: Option<&Throughput>, view: View, room: Room) -> Screen {
    let is_first = !view.all && !view.explain;
    let mut out = Screen::new(view.columns);
    // The whole report has them below.
    let batches = batches.filter(|_| is_first);
    // Without a number of sequences that fits, that is the verdict.
    let are_verdict = batches.is_some_and(|found| found.best.is_none());
    if let Some(found) = batches.filter(|_| are_verdict) {
        out.prose(&throughput::head(found));
        let all = found.batches.len();
        let shown = around(found.fastest().unwrap_or(0), all, room.rows);
        out.table(&throughput::table(found, shown), INDENT);
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
    let asked_for = [
        images::line(report),
        recommended.and_then(speculation::line),
    ];
    let reason = quality::reason(report);
    let modes = by_power_mode(report);
    // Rates are read together; of a sentence the first clause may do.
    let facts = [
        reason.map(|fact| (fact, room.whole)),
        modes.map(|fact| (fact, true)),
    ];
    let (facts, facts_left_out) = room.facts(facts.into_iter().flatten().collect());
    let asked_for = asked_for.into_iter().flatten();
    for (fact, whole) in asked_for.map(|fact| (fact, room.whole)).chain(facts) {
        out.sentence(&fact, whole);
    }
    out.blank();
    let mut shown = formats(report, view, room.rows);
    let mut sequences = 0..0;
    let legend = match batches.filter(|_| !are_verdict) {
        Some(found) => {
            shown = 0..0;
            sequences = around(found.best.unwrap_or(0), found.batches.len(), room.rows);
            out.table(&throughput::table(found, sequences.clone()), INDENT);
            throughput::legend(found, sequences.clone())
        }
        None => {
            let table = table(report, shown.clone());
            out.table(&table, INDENT);
            legend(report, shown.clone(), |name| {
                out.shows(&table, INDENT, name)
            })
        }
    };
    if room.legend {
        out.sentence(&legend, room.whole);
    }
    // Where nothing fits, advice is what is left to read.
    let most = room.advice.max(usize::from(recommended.is_none()));
    let advice = report.advice.iter().take(most);
    if advice.len() > 0 {
        out.push_str("\nWhat to change, least loss first:\n");
    }
    for (index, advice) in advice.enumerate() {
        let advice = advice_text(advice, report);
        out.prose(&format!("  {}. {advice}", index + 1));
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
    let is_told = |note: &&Told| !is_first || note.weight < Weight::Background;
    let told: Vec<&Told> = notes.iter().filter(is_told).take(room.notes).collect();
    if room.gaps {
        out.blank();
    }
    for note in &told {
        out.sentence(&format!("note: {}", note.text), !is_first);
    }
    let numbers = batches.map_or(0, |found| found.batches.len() - sequences.len());
    let changes = report.advice.len().saturating_sub(most);
    let facts = facts_left_out + usize::from(!room.legend);
    let more = [
        (numbers, "number of sequences", "numbers of sequences"),
        (fit.plans.len() - shown.len(), "format", "formats"),
        (changes, "change", "changes"),
        (facts, "fact", "facts"),
        (blocks.len() - steps, "way to run it", "ways to run it"),
        (notes.len() - told.len(), "note", "notes"),
    ];
    if let Some(more) = more_text(&more, !view.explain) {
        out.prose(&more);
    }
    out
}

/// The plans to show: all, or a few around the one to take, which leave at least one of better quality in sight.
fn formats(report: &Report<'_>, view: View, most: usize) -> Range<usize> {
    let plans = report.fit.plans.len();
    if view.formats || plans <= most {
        return 0..plans;
    }
    let taken = report.fit.choice.taken.or_else(|| smallest_index(report));
    around(taken.unwrap_or(0), plans, most)
}

/// So many rows at most of all, with one before `taken` if there is one and room for both.
pub(in crate::report) fn around(taken: usize, all: usize, most: usize) -> Range<usize> {
    let before = usize::from(most > 1);
    let first = taken.saturating_sub(before).min(all.saturating_sub(most));
    first..all.min(first.saturating_add(most))
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
                        ", {} tokens/s, first token after {first}{}",
                        range(&speeds.decode.tokens_per_second),
                        // A time that leaves out the longest part would be taken for all of it.
                        if plan.notes.contains(&Note::EncoderTime) {
                            " and the image encoder"
                        } else {
                            ""
                        },
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
                match plan.refusal() {
                    Some(note) => format!(": {}", refusal_text(note)),
                    None => format!(
                        ": {} needs {total}, {} more than the {} available",
                        plan.assignment.scheme.to_uppercase(),
                        total.saturating_sub(plan.available),
                        plan.available
                    ),
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
            granted,
            release,
            lifted: None,
        } => format!(
            "one allocation of {largest} is needed, and no driver up to L4T {release} is known to grant more than {}",
            most(*limit, *granted)
        ),
        Note::Allocation {
            largest,
            limit,
            granted,
            release,
            lifted: Some(_),
        } => format!(
            "one allocation of {largest} fails on L4T {release}, which grants at most {}",
            most(*limit, *granted)
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
    let is_verdict = !report.fit.plans.iter().any(Plan::fits);
    let in_headline = plan.filter(|_| is_verdict).and_then(Plan::refusal);
    let of_plan = plan.into_iter().flat_map(|plan| &plan.notes);
    let of_plan = of_plan.filter(|note| Some(*note) != in_headline);
    let told = |weight, text| Told {
        weight,
        is_evidence: false,
        text,
    };
    let of_plan = of_plan.map(|note| told(note.weight(), note.text()));
    let speeds = plan.and_then(|plan| plan.speeds.as_ref());
    let published = speeds.and_then(|speeds| speeds.published.as_ref());
    let evidence = published.and_then(|published| match report.model.retrieval {
        Some(_) => prompt_evidence_text(&published.prompt_evidence, report.workload),
        None => Some(evidence_text(
            &published.evidence,
            report.target,
            report.workload,
        )),
    });
    // If there is none, a note of the plan says so.
    let is_told = |note: &Note| matches!(note, Note::SpeedUnmeasured { .. });
    let evidence = evidence.filter(|_| !plan.is_some_and(|plan| plan.notes.iter().any(is_told)));
    let budget = report.workload.energy_budget;
    let budget = budget.and_then(|watts| energy_budget_text(&published?.energy, watts));
    let requests = requests::text(speeds, report.workload);
    let older = published.and_then(|published| published.older_build.as_ref());
    let older = older.map(|rate| {
        format!(
            "builds of before September 2026 decode {} tokens/s: they multiply so few sequences one by one (llama.cpp pull request 28285)",
            range(rate)
        )
    });
    let of_lines = report.fit.recommended();
    let of_lines = of_lines.map_or(Vec::new(), |plan| commands::notes(report, plan));
    let of_runtime = runtime.notes.iter();
    let of_runtime = of_runtime.map(|note| format!("{}: {note}", runtime.name));
    let quality = report.fit.recommended().and_then(quality::evidence);
    let speculation = plan.and_then(speculation::evidence);
    let all = budget
        .into_iter()
        .chain(requests)
        .map(|text| told(Weight::Verdict, text))
        .chain(older.into_iter().map(|text| told(Weight::Answers, text)))
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
                .chain(requests::evidence(speeds))
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
