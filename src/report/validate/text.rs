//! The comparison as text: what ran, a table of predicted against measured, the verdict, likely reasons.

use super::{Report, RunResult, SaveResult, verdict_word};
use crate::foreign::Foreign;
use crate::plan::speed::Spread;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{listed, rate, seconds};
use crate::units::Bytes;
use crate::validate::{
    Check, Comparison, ComparisonLine, Criterion, Finding, Measured, Metric, PeakMemory,
    RejectedFigure,
};

/// The report for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let Report {
        model,
        target,
        plan,
        ..
    } = report;
    let mut out = Screen::new(columns);
    out.prose(&format!(
        "{} {} on {}, {}, planned for {}",
        model.name,
        plan.assignment.scheme.to_uppercase(),
        target.device.name,
        target.mode.name,
        target.runtime.name
    ));
    match &report.result {
        RunResult::DoesNotFit => does_not_fit(&mut out, report),
        RunResult::Measured {
            measured,
            memory,
            comparison,
            checks,
        } => {
            engine_and_answer(&mut out, report, measured);
            out.table(&table(comparison), " ");
            out.blank();
            for figure in &measured.rejected {
                // There are several figures of memory: the reason names which.
                let name = match figure.metric {
                    Metric::Memory => String::new(),
                    metric => format!("{}: ", name(metric)),
                };
                out.prose(&format!("not measured: {name}{}", figure.reason));
            }
            memory_line(&mut out, measured, memory);
            verdict(&mut out, comparison);
            reasons(&mut out, comparison, checks);
            if let Some(draft) = &measured.draft {
                out.prose(&format!(
                    "speculation: {} of {} drafted tokens were accepted; `orinplan fit --draft .. --acceptance {:.2}` plans with it",
                        draft.accepted,
                        draft.drafted,
                        draft.acceptance()
                    ));
            }
            for remark in &measured.remarks {
                out.prose(&format!("note: {remark}"));
            }
            for note in &plan.notes {
                out.prose(&format!("note: {}", note.text()));
            }
        }
    }
    match &report.saved {
        None => {}
        Some(SaveResult::Kept { path, disturbed }) => {
            let path = path.display();
            let said = match disturbed.join(", ") {
                why if why.is_empty() => format!("kept in {path}"),
                why => format!(
                    "kept in {path} as disturbed ({why}): it counts only while there is no undisturbed run"
                ),
            };
            out.line(format_args!("{}", Foreign(&said)));
        }
        Some(SaveResult::Not { why }) => {
            out.line(format_args!("not kept: {}", Foreign(why)));
        }
    }
    out.finish()
}

fn does_not_fit(out: &mut Screen, report: &Report<'_>) {
    let Report { plan, workload, .. } = report;
    out.prose(&format!(
            "NOT TRIED: it needs {} with {} tokens of context, and {} are free now. Loading it would make this machine swap or kill programs.",
            plan.memory.total(),
            workload.context,
            plan.available
        ));
    let way_out = match plan.max_context {
        0 => "No context fits: take a smaller format or model, or end other programs".to_owned(),
        context => format!("--context {context} fits"),
    };
    out.line(format_args!("{way_out}"));
}

fn engine_and_answer(out: &mut Screen, report: &Report<'_>, measured: &Measured) {
    let engine = if measured.engine.is_empty() {
        report.backend.to_owned()
    } else {
        measured.engine.clone()
    };
    let count = |tokens: Option<u64>| tokens.map_or("unknown".to_owned(), |n| n.to_string());
    let (prompt, generated) = (
        count(measured.prompt_tokens),
        count(measured.generated_tokens),
    );
    out.prose(&format!(
        "measured with {engine}: prompt of {prompt} tokens, {generated} generated, {}",
        match measured.repeats {
            1 => "1 repeat".to_owned(),
            repeats => format!("{repeats} repeats"),
        }
    ));
    out.blank();
    if !measured.text.is_empty() {
        let shown: String = measured.text.chars().take(400).collect();
        let words: Vec<&str> = shown.split_whitespace().collect();
        out.prose(&format!("  > {}", words.join(" ")));
        out.blank();
    }
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("low", Align::Right),
        ("expected", Align::Right),
        ("high", Align::Right),
        ("measured", Align::Right),
        ("spread", Align::Right),
        ("error", Align::Right),
        ("", Align::Left),
    ]);
    for row in &comparison.lines {
        let show = |value: f64| shown(row.metric, value);
        let spread = row.spread_percent();
        let spread = spread.map_or(String::new(), |percent| format!("± {percent:.1} %"));
        let predicted =
            |end: fn(Spread) -> f64| row.predicted.map_or("-".to_owned(), |p| show(end(p)));
        table.row([
            heading(row.metric),
            predicted(|p| p.low),
            predicted(|p| p.expected),
            predicted(|p| p.high),
            row.measured.map_or("-".to_owned(), |seen| show(seen.mean)),
            spread,
            if comparison.elsewhere {
                String::new()
            } else {
                percent(row)
            },
            word(row, comparison).to_owned(),
        ]);
    }
    table
}

/// The error with its sign; empty where nothing was predicted or measured.
fn percent(row: &ComparisonLine) -> String {
    row.error_percent()
        .map_or(String::new(), |percent| format!("{percent:+.1} %"))
}

fn word(row: &ComparisonLine, comparison: &Comparison) -> &'static str {
    let off = row.error_percent().map_or(0.0, f64::abs);
    match (row.judged, off <= comparison.tolerance) {
        (false, _) if row.measured.is_none() => "not measured",
        (false, _) if row.predicted.is_none() => "not predicted",
        (false, _) if comparison.elsewhere => "another machine's",
        (false, _) => "not judged: the prompt is short",
        (true, true) => "ok",
        (true, false) if row.in_range() && row.held_to == Criterion::Range => "in the range",
        (true, false) if row.in_range() => "off, in the range",
        (true, false) => "off",
    }
}

fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Decode => "decode",
        Metric::Prefill => "prefill",
        Metric::FirstToken => "first token",
        Metric::Memory => "peak memory",
    }
}

/// The head of its row in the table, with the unit of a rate.
fn heading(metric: Metric) -> String {
    match metric {
        Metric::Decode | Metric::Prefill => format!("{}, tokens/s", name(metric)),
        Metric::FirstToken | Metric::Memory => name(metric).to_owned(),
    }
}

fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Decode | Metric::Prefill => rate(value),
        Metric::FirstToken => seconds(value),
        Metric::Memory => Bytes(value as u64).to_string(),
    }
}

fn memory_line(out: &mut Screen, measured: &Measured, memory: &PeakMemory) {
    let figures = memory.figures();
    let said: Vec<String> = figures
        .iter()
        .filter_map(|(figure, bytes)| Some(format!("{} {}", (*bytes)?, figure.words())))
        .collect();
    let is_of_memory = |figure: &RejectedFigure| figure.metric == Metric::Memory;
    if !said.is_empty() {
        out.prose(&format!("memory seen: {}", said.join(", ")));
    } else if !measured.rejected.iter().any(is_of_memory) {
        let why = match memory.short {
            Some(_) => "the program ended before it was sampled",
            None => "the engine's process is not one of this user on this machine",
        };
        out.prose(&format!("peak memory is not measured: {why}"));
    }
}

fn verdict(out: &mut Screen, comparison: &Comparison) {
    let tolerance = comparison.tolerance;
    let names = |judged: bool| -> Vec<&str> {
        let lines = comparison.lines.iter();
        let lines = lines.filter(|line| line.judged == judged);
        lines.map(|line| name(line.metric)).collect()
    };
    let (compared, others) = (names(true), names(false));
    let by_range = comparison
        .judged()
        .any(|line| line.held_to == Criterion::Range);
    let within = if by_range {
        format!("within {tolerance} % or in the predicted range")
    } else {
        format!("within {tolerance} %")
    };
    let are = |names: &[&str]| if names.len() == 1 { "is" } else { "are" };
    let rest = if others.is_empty() {
        String::new()
    } else {
        format!("; not compared: {}", others.join(", "))
    };
    let text = match verdict_word(comparison) {
        "within_tolerance" => within.replacen("within", "WITHIN", 1),
        "partly_within_tolerance" => format!(
            "PARTLY COMPARED: {} {} {within}{rest}",
            listed(&compared),
            are(&compared)
        ),
        "off" => {
            let off: Vec<String> = comparison
                .off()
                .map(|row| format!("{} by {}", name(row.metric), percent(row)))
                .collect();
            format!(
                "OFF by more than {tolerance} %: the prediction of {}{rest}",
                off.join(", ")
            )
        }
        _ if comparison.elsewhere => {
            "NOTHING TO COMPARE: it ran on another machine than was planned for".to_owned()
        }
        _ => "NOTHING TO COMPARE: nothing was both predicted and measured".to_owned(),
    };
    out.prose(&text);
}

/// The checks that hold, as the likely reasons; those that do not; those that are not known.
fn reasons(out: &mut Screen, comparison: &Comparison, checks: &[Check]) {
    let holding = checks.iter().filter_map(|check| match &check.finding {
        Finding::Holds(text) => Some(text),
        _ => None,
    });
    let holding: Vec<&String> = holding.collect();
    if comparison.within() && holding.is_empty() {
        return;
    }
    if !holding.is_empty() {
        out.push_str(if comparison.within() {
            "observed during the measurement:\n"
        } else {
            "likely reasons, as seen on this machine:\n"
        });
    }
    for text in &holding {
        out.prose(&format!("  - {text}"));
    }
    if comparison.within() {
        return;
    }
    let clear: Vec<&str> = checks
        .iter()
        .filter_map(|check| match &check.finding {
            Finding::Clear(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    if !clear.is_empty() {
        out.prose(&format!(
            "checked, and not the reason: {}",
            clear.join("; ")
        ));
    }
    let unread: Vec<&str> = checks
        .iter()
        .filter(|check| check.finding == Finding::Unread)
        .map(|check| check.code)
        .collect();
    if !unread.is_empty() {
        out.prose(&format!("not known on this machine: {}", unread.join(", ")));
    }
    let mut off = comparison.off().peekable();
    if holding.is_empty() && off.peek().is_some() && off.all(ComparisonLine::in_range) {
        out.prose(
            "what was measured lies within the predicted range; `--save-calibration` narrows it",
        );
    }
}
