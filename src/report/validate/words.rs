//! The sentences of a comparison: what ran, the verdict, likely reasons, remarks.

use super::{Report, RunResult, SaveResult, verdict_word};
use crate::foreign::Foreign;
use crate::report::{self, listed, rate, seconds};
use crate::units::{Bytes, counted};
use crate::validate::{
    Check, Comparison, ComparisonLine, Criterion, Finding, Measured, Metric, PeakMemory,
    RejectedFigure,
};

/// What was planned for.
pub(super) fn headline(report: &Report<'_>) -> String {
    let Report {
        model,
        target,
        plan,
        ..
    } = report;
    format!(
        "{} {} on {}, {}, planned for {}",
        model.name,
        plan.assignment.scheme.to_uppercase(),
        target.device.name,
        target.mode.name,
        target.runtime.name
    )
}

/// That the model was not run, and what would fit.
pub(super) fn not_tried(report: &Report<'_>) -> [String; 2] {
    let Report { plan, workload, .. } = report;
    let why = match plan.refusal() {
        Some(note) => format!("NOT TRIED: {}", note.text()),
        None => format!(
            "NOT TRIED: it needs {} with {} tokens of context, and {} are free now. Loading it would make this machine swap or kill programs.",
            plan.memory.total(),
            workload.context,
            plan.available
        ),
    };
    let way_out = match plan.max_context {
        0 => "No context fits: use a smaller format or model, or close other programs".to_owned(),
        context => format!("--context {context} fits"),
    };
    [why, way_out]
}

/// What ran, and how often.
pub(super) fn engine(report: &Report<'_>, measured: &Measured) -> String {
    let engine = if measured.engine.is_empty() {
        report.backend
    } else {
        &measured.engine
    };
    let prompt = match measured.prompt_tokens {
        Some(tokens) if measured.generated_tokens == Some(0) => {
            format!("a text of {tokens} tokens")
        }
        Some(tokens) => format!("prompt of {tokens} tokens"),
        None => "a prompt whose tokens the server does not count".to_owned(),
    };
    let generated = match measured.generated_tokens {
        Some(0) => " as one vector".to_owned(),
        Some(tokens) => format!(", {tokens} generated"),
        None => ", generated tokens not counted".to_owned(),
    };
    format!(
        "measured with {engine}: {prompt}{generated}, {}",
        counted(measured.repeats as u64, "repeat", "repeats")
    )
}

/// The beginning of what the model wrote, in one line; empty where that is not known.
pub(super) fn answer(measured: &Measured) -> String {
    let shown: String = measured.text.chars().take(400).collect();
    let words: Vec<&str> = shown.split_whitespace().collect();
    words.join(" ")
}

pub(super) fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Decode => "decode",
        Metric::Prefill => "prefill",
        Metric::FirstToken => "first token",
        Metric::Memory => "peak memory",
    }
}

/// A value of a metric in print.
pub(super) fn shown(metric: Metric, value: f64) -> String {
    match metric {
        Metric::Decode | Metric::Prefill => rate(value),
        Metric::FirstToken => seconds(value),
        Metric::Memory => Bytes(value as u64).to_string(),
    }
}

/// The error with its sign; empty where nothing was predicted or measured.
pub(super) fn percent(row: &ComparisonLine) -> String {
    row.error_percent()
        .map_or(String::new(), |percent| format!("{percent:+.1} %"))
}

/// What a line is found to be.
pub(in crate::report) fn word(row: &ComparisonLine, comparison: &Comparison) -> &'static str {
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

/// The figures that are not believed, with why, and those of memory that are.
pub(super) fn figures(measured: &Measured, memory: &PeakMemory) -> Vec<String> {
    let rejected = measured.rejected.iter().map(|figure| {
        // There are several figures of memory: the reason names which.
        let name = match figure.metric {
            Metric::Memory => String::new(),
            metric => format!("{}: ", name(metric)),
        };
        format!("not measured: {name}{}", figure.reason)
    });
    rejected.chain(memory_seen(measured, memory)).collect()
}

fn memory_seen(measured: &Measured, memory: &PeakMemory) -> Option<String> {
    let figures = memory.figures();
    let said: Vec<String> = figures
        .iter()
        .filter_map(|(figure, bytes)| Some(format!("{} {}", (*bytes)?, figure.words())))
        .collect();
    let is_of_memory = |figure: &RejectedFigure| figure.metric == Metric::Memory;
    if !said.is_empty() {
        return Some(format!("memory seen: {}", said.join(", ")));
    }
    let is_said = measured.rejected.iter().any(is_of_memory);
    let why = match memory.short {
        Some(_) => "the program ended before it was sampled",
        None => "the engine's process is not one of this user on this machine",
    };
    (!is_said).then(|| format!("peak memory is not measured: {why}"))
}

/// The verdict in a sentence.
pub(super) fn verdict(comparison: &Comparison) -> String {
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
    match verdict_word(comparison) {
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
            "NOTHING TO COMPARE: it did not run on the planned machine".to_owned()
        }
        _ => "NOTHING TO COMPARE: nothing was both predicted and measured".to_owned(),
    }
}

/// What was looked for on the machine meanwhile.
#[derive(Default)]
pub(super) struct Reasons<'a> {
    /// What `holding` is.
    pub(super) heading: &'static str,
    /// The checks that hold.
    pub(super) holding: Vec<&'a str>,
    /// The checks that do not, those that are not known, and what to do about the rest.
    pub(super) others: Vec<String>,
}

/// The checks that hold, as the likely reasons; those that do not; those that are not known.
pub(super) fn reasons<'a>(comparison: &Comparison, checks: &'a [Check]) -> Reasons<'a> {
    let holding = checks.iter().filter_map(|check| match &check.finding {
        Finding::Holds(text) => Some(text.as_str()),
        _ => None,
    });
    let holding: Vec<&str> = holding.collect();
    if comparison.within() {
        return Reasons {
            heading: "observed during the measurement",
            holding,
            others: Vec::new(),
        };
    }
    let clear = checks.iter().filter_map(|check| match &check.finding {
        Finding::Clear(text) => Some(text.as_str()),
        _ => None,
    });
    let clear: Vec<&str> = clear.collect();
    let unread = checks
        .iter()
        .filter(|check| check.finding == Finding::Unread)
        .map(|check| check.code);
    let unread: Vec<&str> = unread.collect();
    let mut off = comparison.off().peekable();
    let is_in_range =
        holding.is_empty() && off.peek().is_some() && off.all(ComparisonLine::in_range);
    let others = [
        (!clear.is_empty()).then(|| format!("checked and ruled out: {}", clear.join("; "))),
        (!unread.is_empty()).then(|| format!("unknown on this machine: {}", unread.join(", "))),
        is_in_range.then(|| {
            "the measurement lies within the predicted range; `--save-calibration` narrows it"
                .to_owned()
        }),
    ];
    Reasons {
        heading: "likely reasons, as seen on this machine",
        holding,
        others: others.into_iter().flatten().collect(),
    }
}

/// Speculation, the engine's remarks, the plan's notes.
pub(super) fn remarks(report: &Report<'_>, measured: &Measured) -> Vec<String> {
    let draft = measured.draft.as_ref().map(|draft| {
        format!(
            "speculation: {} of {} drafted tokens were accepted; `orinplan fit --draft .. --acceptance {:.2}` plans with it",
            draft.accepted,
            draft.drafted,
            draft.acceptance()
        )
    });
    let notes = report.plan.notes.iter().map(|note| note.text());
    let notes = measured.remarks.iter().cloned().chain(notes);
    let notes = notes.map(|note| format!("note: {note}"));
    draft.into_iter().chain(notes).collect()
}

/// What the runs on record say once this one is kept.
pub(super) fn learned(report: &Report<'_>) -> Option<String> {
    let Some(SaveResult::Kept { learned, .. }) = &report.saved else {
        return None;
    };
    let learned = report::learned::text(learned.as_ref()?);
    Some(format!(
        "learned, as factors on rates and then on times, +-: one standard deviation: {learned}"
    ))
}

/// Whether the run was kept.
pub(super) fn saved(report: &Report<'_>) -> Option<String> {
    Some(match report.saved.as_ref()? {
        SaveResult::Kept {
            path, disturbed, ..
        } => {
            let path = path.display();
            let said = match disturbed.join(", ") {
                why if why.is_empty() => format!("kept in {path}"),
                why => format!(
                    "kept in {path} as disturbed ({why}): it counts only while there is no undisturbed run"
                ),
            };
            Foreign(&said).to_string()
        }
        SaveResult::Not { why } => format!("not kept: {}", Foreign(why)),
    })
}

/// The sentences of `report`, for the forms that are not text.
#[cfg(feature = "pages")]
pub(in crate::report) fn words(report: &Report<'_>) -> crate::report::words::Words {
    use crate::report::words::Words;
    let saved = saved(report);
    match &report.result {
        RunResult::DoesNotFit => {
            let [verdict, way_out] = not_tried(report);
            Words {
                verdict,
                facts: vec![headline(report)],
                advice: vec![way_out],
                notes: saved.into_iter().collect(),
                ..Words::default()
            }
        }
        RunResult::Measured {
            measured,
            memory,
            comparison,
            checks,
        } => {
            let found = reasons(comparison, checks);
            let holding = found.holding.iter().map(|text| (*text).to_owned());
            let mut notes = figures(measured, memory);
            notes.extend(found.others);
            let remarks = remarks(report, measured).into_iter();
            notes.extend(remarks.map(|remark| remark.replacen("note: ", "", 1)));
            notes.extend(saved);
            notes.extend(learned(report));
            Words {
                verdict: verdict(comparison),
                facts: vec![headline(report), engine(report, measured)],
                advice: holding.collect(),
                notes,
                ..Words::default()
            }
        }
    }
}
