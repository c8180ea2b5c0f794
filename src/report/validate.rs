//! `orinplan validate`: what was predicted beside what was measured (`orinplan.validate/1`).

use std::path::PathBuf;

use serde_json::{Value, json};

use super::table::{Align, Table};
use super::{line, listed, rate, rounded, seconds, wrapped};
use crate::foreign::Foreign;
use crate::model::ModelSpec;
use crate::plan::fit::Target;
use crate::plan::speed::Spread;
use crate::plan::{Plan, Workload};
use crate::units::Bytes;
use crate::validate::{
    Check, Comparison, Doubt, Finding, Line, Measured, PeakMemory, Quantity, Standard, Statistics,
};

/// The document's first key.
pub const SCHEMA: &str = "orinplan.validate/1";

/// What a report is made of.
#[derive(Debug)]
pub struct Report<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The device, its mode and the runtime whose prediction was tried.
    pub target: Target<'a>,
    /// What was asked.
    pub workload: &'a Workload,
    /// The backend's name.
    pub backend: &'static str,
    /// The plan for what was asked.
    pub plan: &'a Plan,
    /// How it ended.
    pub result: Shown<'a>,
    /// What became of the run, if it was to be kept.
    pub saved: Option<Saved>,
}

/// What became of a run that was to be kept.
#[derive(Debug)]
pub enum Saved {
    /// It is among the runs.
    Kept {
        /// Where they are.
        path: PathBuf,
        /// Codes of the reasons for which it may be off.
        disturbed: Vec<&'static str>,
    },
    /// It is not.
    Not {
        /// Why.
        why: String,
    },
}

/// How a validation ended.
#[derive(Debug)]
pub enum Shown<'a> {
    /// The plan says that the model does not fit into this machine: it was not tried.
    DoesNotFit,
    /// It ran.
    Measured {
        /// What the engine did.
        measured: &'a Measured,
        /// The peak of memory.
        memory: PeakMemory,
        /// The table.
        comparison: &'a Comparison,
        /// What was looked up on the machine.
        checks: &'a [Check],
    },
}

/// For scripts.
pub fn document(report: &Report<'_>) -> Value {
    let Report {
        model,
        target,
        workload,
        plan,
        ..
    } = report;
    let mut document = json!({
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "scheme": plan.assignment.scheme,
        },
        "backend": report.backend,
        "device": {
            "id": target.device.id,
            "name": target.device.name,
            "power_mode": target.mode.name,
        },
        "runtime": { "id": target.runtime.id },
        "verdict": "does_not_fit",
        "predicted": {
            "peak_memory_bytes": plan.memory.total(),
            "memory_available_bytes": plan.available,
        },
        "measured": null,
        "error": null,
        "within_tolerance": false,
    });
    let Shown::Measured {
        measured,
        memory,
        comparison,
        checks,
    } = &report.result
    else {
        return document;
    };
    let values = |quantity| comparison.line(quantity);
    let spread = |quantity| Some(spread_json(&values(quantity)?.predicted?));
    let mean = |values: &[f64]| Statistics::of(values).map(|found| found.mean);
    let statistics = |values: &[f64]| Statistics::of(values).map(|found| statistics_json(&found));
    // Of a run elsewhere no prediction is right or wrong.
    let apart = |line: &Line| line.error_percent().filter(|_| !comparison.elsewhere);
    let percent = |quantity| apart(values(quantity)?);
    document["verdict"] = verdict_word(comparison).into();
    document["workload"] = json!({
        "prompt_tokens": measured.prompt_tokens,
        "generated_tokens": measured.generated_tokens,
        "context": workload.context,
        "kv_type_k": workload.type_k.name().to_lowercase(),
        "kv_type_v": workload.type_v.name().to_lowercase(),
        "ubatch": workload.ubatch,
        "repeats": measured.repeats,
    });
    let peak = values(Quantity::Memory).and_then(|line| line.predicted);
    let peak = peak.map_or(plan.memory.total().0, |spread| spread.expected as u64);
    document["predicted"] = json!({
        "decode_tokens_per_second": spread(Quantity::Decode),
        "prefill_tokens_per_second": spread(Quantity::Prefill),
        "time_to_first_token_seconds": spread(Quantity::FirstToken),
        "peak_memory_bytes": peak,
        "memory_available_bytes": plan.available,
    });
    document["measured"] = json!({
        "engine": measured.engine,
        "prefill_tokens_per_second": mean(&measured.prefill),
        "decode_tokens_per_second": mean(&measured.decode),
        "time_to_first_token_seconds": mean(&measured.first_token),
        "peak_memory_bytes": values(Quantity::Memory)
            .and_then(|line| Some(line.measured?.mean as u64)),
        "spread": {
            "prefill_tokens_per_second": statistics(&measured.prefill),
            "decode_tokens_per_second": statistics(&measured.decode),
            "time_to_first_token_seconds": statistics(&measured.first_token),
        },
        "longest_gap_seconds": measured.longest_gap,
        "memory": {
            "resident_bytes": memory.resident,
            "available_drop_bytes": memory.available_drop,
            "tegrastats_rise_bytes": memory.tegrastats_rise,
            "engine_bytes": memory.engine,
        },
        "token_ids": measured.token_ids,
        "text": measured.text,
        "remarks": measured.remarks,
    });
    document["not_measured"] = measured.doubts.iter().map(doubt_json).collect();
    document["compared"] = comparison.judged().map(|line| key(line.quantity)).collect();
    document["error"] = json!({
        "decode_percent": percent(Quantity::Decode),
        "prefill_percent": percent(Quantity::Prefill),
        "time_to_first_token_percent": percent(Quantity::FirstToken),
        "memory_percent": percent(Quantity::Memory),
    });
    document["tolerance_percent"] = comparison.tolerance.into();
    document["within_tolerance"] = comparison.within().into();
    document["checks"] = checks.iter().map(check_json).collect();
    document["saved"] = matches!(report.saved, Some(Saved::Kept { .. })).into();
    if let Some(Saved::Not { why }) = &report.saved {
        document["not_saved"] = why.as_str().into();
    }
    rounded(document)
}

fn verdict_word(comparison: &Comparison) -> &'static str {
    match (comparison.within(), comparison.judged().count()) {
        (_, 0) => "nothing_to_compare",
        (false, _) => "off",
        (true, compared) if compared < Quantity::ALL.len() => "partly_within_tolerance",
        (true, _) => "within_tolerance",
    }
}

fn doubt_json(doubt: &Doubt) -> Value {
    json!({ "quantity": key(doubt.quantity), "reason": doubt.reason })
}

/// A quantity's name in documents.
fn key(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Decode => "decode_tokens_per_second",
        Quantity::Prefill => "prefill_tokens_per_second",
        Quantity::FirstToken => "time_to_first_token_seconds",
        Quantity::Memory => "peak_memory_bytes",
    }
}

fn spread_json(spread: &Spread) -> Value {
    json!({
        "low": spread.low,
        "expected": spread.expected,
        "high": spread.high,
    })
}

fn statistics_json(found: &Statistics) -> Value {
    json!({
        "mean": found.mean,
        "standard_deviation": found.deviation,
        "least": found.least,
        "most": found.most,
    })
}

fn check_json(check: &Check) -> Value {
    let (state, text) = match &check.finding {
        Finding::Holds(text) => ("holds", Some(text)),
        Finding::Clear(text) => ("clear", Some(text)),
        Finding::Unread => ("unread", None),
    };
    json!({ "code": check.code, "state": state, "text": text })
}

/// For people.
pub fn text(report: &Report<'_>) -> String {
    let Report {
        model,
        target,
        plan,
        ..
    } = report;
    let mut out = String::new();
    wrapped(
        &mut out,
        &format!(
            "{} {} on {}, {}, planned for {}",
            model.name,
            plan.assignment.scheme.to_uppercase(),
            target.device.name,
            target.mode.name,
            target.runtime.name
        ),
    );
    match &report.result {
        Shown::DoesNotFit => does_not_fit(&mut out, report),
        Shown::Measured {
            measured,
            memory,
            comparison,
            checks,
        } => {
            told(&mut out, report, measured);
            out.push_str(&table(comparison).text(" "));
            out.push('\n');
            for doubt in &measured.doubts {
                // Of memory there are several figures: the reason names which.
                let name = match doubt.quantity {
                    Quantity::Memory => String::new(),
                    quantity => format!("{}: ", name(quantity)),
                };
                wrapped(&mut out, &format!("not measured: {name}{}", doubt.reason));
            }
            memory_line(&mut out, measured, memory);
            verdict(&mut out, comparison);
            reasons(&mut out, comparison, checks);
            for remark in &measured.remarks {
                wrapped(&mut out, &format!("note: {remark}"));
            }
            for note in &plan.notes {
                wrapped(&mut out, &format!("note: {}", note.text()));
            }
        }
    }
    match &report.saved {
        None => {}
        Some(Saved::Kept { path, disturbed }) => {
            let path = path.display();
            let said = match disturbed.join(", ") {
                why if why.is_empty() => format!("kept in {path}"),
                why => format!(
                    "kept in {path} as disturbed ({why}): it counts while there is no other"
                ),
            };
            line(&mut out, format_args!("{}", Foreign(&said)));
        }
        Some(Saved::Not { why }) => {
            line(&mut out, format_args!("not kept: {}", Foreign(why)));
        }
    }
    out
}

fn does_not_fit(out: &mut String, report: &Report<'_>) {
    let Report { plan, workload, .. } = report;
    wrapped(
        out,
        &format!(
            "NOT TRIED: it needs {} with {} tokens of context, and {} are free now. Loading it would make this machine swap or kill programs.",
            plan.memory.total(),
            workload.context,
            plan.available
        ),
    );
    let way_out = match plan.max_context {
        0 => "No context fits: take a smaller format or model, or end other programs".to_owned(),
        context => format!("--context {context} fits"),
    };
    line(out, format_args!("{way_out}"));
}

fn told(out: &mut String, report: &Report<'_>, measured: &Measured) {
    let engine = match measured.engine.is_empty() {
        true => report.backend.to_owned(),
        false => measured.engine.clone(),
    };
    let count = |tokens: Option<u64>| tokens.map_or("unknown".to_owned(), |n| n.to_string());
    let (prompt, generated) = (
        count(measured.prompt_tokens),
        count(measured.generated_tokens),
    );
    wrapped(
        out,
        &format!(
            "measured with {engine}: prompt of {prompt} tokens, {generated} generated, {}",
            match measured.repeats {
                1 => "1 repeat".to_owned(),
                repeats => format!("{repeats} repeats"),
            }
        ),
    );
    out.push('\n');
    if !measured.text.is_empty() {
        let shown: String = measured.text.chars().take(400).collect();
        let words: Vec<&str> = shown.split_whitespace().collect();
        wrapped(out, &format!("  > {}", words.join(" ")));
        out.push('\n');
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
        let show = |value: f64| shown(row.quantity, value);
        let spread = row.spread_percent();
        let spread = spread.map_or(String::new(), |percent| format!("± {percent:.1} %"));
        let predicted =
            |end: fn(Spread) -> f64| row.predicted.map_or("-".to_owned(), |p| show(end(p)));
        table.row([
            heading(row.quantity),
            predicted(|p| p.low),
            predicted(|p| p.expected),
            predicted(|p| p.high),
            row.measured.map_or("-".to_owned(), |seen| show(seen.mean)),
            spread,
            match comparison.elsewhere {
                true => String::new(),
                false => percent(row),
            },
            word(row, comparison).to_owned(),
        ]);
    }
    table
}

/// The error with its sign; nothing where nothing was predicted.
fn percent(row: &Line) -> String {
    row.error_percent()
        .map_or(String::new(), |percent| format!("{percent:+.1} %"))
}

fn word(row: &Line, comparison: &Comparison) -> &'static str {
    let off = row.error_percent().map_or(0.0, f64::abs);
    match (row.judged, off <= comparison.tolerance) {
        (false, _) if row.measured.is_none() => "not measured",
        (false, _) if row.predicted.is_none() => "not predicted",
        (false, _) if comparison.elsewhere => "another machine's",
        (false, _) => "not judged: the prompt is short",
        (true, true) => "ok",
        (true, false) if row.in_range() && row.held_to == Standard::Range => "in the range",
        (true, false) if row.in_range() => "off, in the range",
        (true, false) => "off",
    }
}

fn name(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::Decode => "decode",
        Quantity::Prefill => "prefill",
        Quantity::FirstToken => "first token",
        Quantity::Memory => "peak memory",
    }
}

/// Its name at the head of a row of numbers.
fn heading(quantity: Quantity) -> String {
    match quantity {
        Quantity::Decode | Quantity::Prefill => format!("{}, tokens/s", name(quantity)),
        Quantity::FirstToken | Quantity::Memory => name(quantity).to_owned(),
    }
}

fn shown(quantity: Quantity, value: f64) -> String {
    match quantity {
        Quantity::Decode | Quantity::Prefill => rate(value),
        Quantity::FirstToken => seconds(value),
        Quantity::Memory => Bytes(value as u64).to_string(),
    }
}

fn memory_line(out: &mut String, measured: &Measured, memory: &PeakMemory) {
    let figures = memory.figures();
    let said: Vec<String> = figures
        .iter()
        .filter_map(|(figure, bytes)| Some(format!("{} {}", (*bytes)?, figure.words())))
        .collect();
    let was_doubted = |doubt: &Doubt| doubt.quantity == Quantity::Memory;
    if !said.is_empty() {
        wrapped(out, &format!("memory seen: {}", said.join(", ")));
    } else if !measured.doubts.iter().any(was_doubted) {
        let why = match memory.short {
            Some(_) => "the program ended before it was seen",
            None => "the engine's process is not one of this user on this machine",
        };
        wrapped(out, &format!("peak memory is not measured: {why}"));
    }
}

fn verdict(out: &mut String, comparison: &Comparison) {
    let tolerance = comparison.tolerance;
    let names = |judged: bool| -> Vec<&str> {
        let lines = comparison.lines.iter();
        let lines = lines.filter(|line| line.judged == judged);
        lines.map(|line| name(line.quantity)).collect()
    };
    let (compared, others) = (names(true), names(false));
    let by_range = comparison
        .judged()
        .any(|line| line.held_to == Standard::Range);
    let within = match by_range {
        true => format!("within {tolerance} % or in the predicted range"),
        false => format!("within {tolerance} %"),
    };
    let are = |names: &[&str]| if names.len() == 1 { "is" } else { "are" };
    let rest = match others.is_empty() {
        true => String::new(),
        false => format!("; not compared: {}", others.join(", ")),
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
                .map(|row| format!("{} by {}", name(row.quantity), percent(row)))
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
    wrapped(out, &text);
}

/// What holds, as the likely reasons; what was looked up and does not; what could not be read.
fn reasons(out: &mut String, comparison: &Comparison, checks: &[Check]) {
    let holding = checks.iter().filter_map(|check| match &check.finding {
        Finding::Holds(text) => Some(text),
        _ => None,
    });
    let holding: Vec<&String> = holding.collect();
    if comparison.within() && holding.is_empty() {
        return;
    }
    if !holding.is_empty() {
        out.push_str(match comparison.within() {
            true => "seen meanwhile:\n",
            false => "likely reasons, as seen on this machine:\n",
        });
    }
    for text in &holding {
        wrapped(out, &format!("  - {text}"));
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
        wrapped(
            out,
            &format!("looked up, and no reason: {}", clear.join("; ")),
        );
    }
    let unread: Vec<&str> = checks
        .iter()
        .filter(|check| check.finding == Finding::Unread)
        .map(|check| check.code)
        .collect();
    if !unread.is_empty() {
        wrapped(
            out,
            &format!("this machine does not tell: {}", unread.join(", ")),
        );
    }
    let mut off = comparison.off().peekable();
    if holding.is_empty() && off.peek().is_some() && off.all(Line::in_range) {
        wrapped(
            out,
            "what was measured lies within the predicted range; `--save-calibration` narrows it",
        );
    }
}
