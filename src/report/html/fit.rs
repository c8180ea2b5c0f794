//! The page of `orinplan fit`.

use serde_json::Value;

use super::curve::Curve;
use super::figures;
use super::quality;
use super::value::{Cell, Unit, cell, escaped, list, number, numbers, words};
use super::{Choices, Content, Page, Section, Table};
use crate::report::fit::{self, QUALITY, REFUSED, Report};
use crate::report::svg::Figure;

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = fit::document_with_curves(report);
    let words = fit::words(report);
    let taken = taken(&document);
    let shown = taken.or_else(|| list(&document, "/plans").first().map(|_| 0));
    let mut sections = Vec::new();
    let mut add = |id, title: &str, content: Option<Content>| {
        sections.extend(content.map(|content| Section {
            id,
            title: title.to_owned(),
            content,
        }));
    };
    let lines = |lines: &[String]| (!lines.is_empty()).then(|| Content::List(lines.to_vec()));
    let figure = |figure: Option<Figure>| Some(Content::Figure(Box::new(figure?)));
    add(
        "advice",
        "What to change, least loss first",
        lines(&words.advice),
    );
    let commands = (!words.commands.is_empty()).then(|| Content::Commands(words.commands.clone()));
    add(
        "formats",
        "Formats",
        Some(Content::Table(formats(report, &document, taken))),
    );
    add("run", "Make it and run it", commands);
    add(
        "memory",
        "Memory by format",
        figure(figures::memory(&document, taken)),
    );
    // Where nothing fits, the smallest comes nearest to it.
    let curve = Curve::of(&document, taken.or_else(|| smallest(&document)));
    add(
        "context",
        "Memory over context",
        figure(curve.as_ref().and_then(Curve::memory)),
    );
    add(
        "speed",
        "Speed over depth",
        figure(curve.as_ref().and_then(Curve::speed)),
    );
    let choices = curve
        .as_ref()
        .map(|curve| Content::Choices(choices(&document, curve, taken)));
    add("choices", "Another context or mode", choices);
    add(
        "roofline",
        "Where a token's time goes",
        figure(figures::roofline(&document, shown)),
    );
    add(
        "quality",
        "Quality against size",
        figure(quality::of_plans(&document, taken)),
    );
    add("notes", "What to know", lines(&words.notes));
    Page {
        command: "orinplan fit",
        title: format!("{} on {}", report.model.name, report.target.device.name),
        holds: taken.is_some(),
        verdict: words.verdict,
        facts: words.facts,
        figures_of_merit: taken.map_or_else(Vec::new, |index| merits(&document, index)),
        sections,
        document,
    }
}

/// The index of the recommended plan.
fn taken(document: &Value) -> Option<usize> {
    let scheme = document["recommended"].as_str()?;
    let mut plans = list(document, "/plans").iter();
    plans.position(|plan| plan["scheme"] == scheme)
}

/// The index of the plan that takes the least memory.
fn smallest(document: &Value) -> Option<usize> {
    let bytes = |index: &usize| number(document, &format!("/plans/{index}/memory/total_bytes"));
    let plans =
        (0..list(document, "/plans").len()).filter_map(|index| Some((index, bytes(&index)?)));
    let least = plans.min_by(|a, b| a.1.total_cmp(&b.1));
    least.map(|(index, _)| index)
}

/// The numbers of the recommended plan that matter most.
fn merits(document: &Value, index: usize) -> Vec<(&'static str, Cell)> {
    let of = |path: &str, unit| cell(document, &format!("/plans/{index}/{path}"), unit);
    vec![
        ("Memory", of("memory/total_bytes", Unit::Bytes)),
        (
            "Left on the board",
            of("memory/headroom_bytes", Unit::Bytes),
        ),
        ("Largest context, tokens", of("max_context", Unit::Integer)),
        (
            "Decode, tokens/s",
            of("decode/tokens_per_second", Unit::Rates),
        ),
        (
            "First token",
            of(
                "prefill/time_to_first_token_seconds/expected",
                Unit::Seconds,
            ),
        ),
    ]
}

/// Whether a plan does not fit although there is room for it.
fn is_refused(document: &Value, index: usize) -> bool {
    let plan = format!("/plans/{index}");
    let left = number(document, &format!("{plan}/memory/headroom_bytes"));
    left.is_some_and(|left| left >= 0.0)
        && document.pointer(&format!("{plan}/verdict")) != Some(&Value::from("fits"))
}

fn formats(report: &Report<'_>, document: &Value, taken: Option<usize>) -> Table {
    let row = |index: usize| {
        let of = |path: &str, unit| cell(document, &format!("/plans/{index}/{path}"), unit);
        let cells = vec![
            of("scheme", Unit::Scheme),
            of("memory/total_bytes", Unit::Bytes),
            match is_refused(document, index) {
                true => words(REFUSED),
                false => of("memory/headroom_bytes", Unit::Bytes),
            },
            of("decode/tokens_per_second", Unit::Rates),
            of("quality", Unit::NatsRange),
            of("max_context", Unit::Integer),
            of("file_bytes", Unit::Bytes),
        ];
        (taken == Some(index), cells)
    };
    let context = number(document, "/workload/context").unwrap_or_default();
    let prompt = number(document, "/workload/prompt_tokens").unwrap_or_default();
    let refused = fit::short_refusal_of(report).map(|why| format!(" {REFUSED}: {why}."));
    let refused = refused.unwrap_or_default();
    Table {
        caption: format!(
            "Memory with {context} tokens of context; tokens/s after a prompt of {prompt}; {QUALITY} (0 is best).{refused}"
        ),
        columns: vec![
            ("format", false),
            ("memory", true),
            ("left", true),
            ("tokens/s", true),
            ("quality", true),
            ("max context", true),
            ("file", true),
        ],
        rows: (0..list(document, "/plans").len()).map(row).collect(),
    }
}

/// The table that the slider changes, at the context that was asked for.
fn choices(document: &Value, curve: &Curve<'_>, taken: Option<usize>) -> Choices {
    let contexts = numbers(document, "/curves/context_tokens");
    let asked = number(document, "/workload/context").unwrap_or_default();
    let first = contexts.iter().position(|context| *context >= asked);
    let first = first.unwrap_or_default();
    let mode = curve.mode;
    let row = |index: usize| {
        let plan = format!("/curves/plans/{index}");
        let rates = |end: &str| {
            let path = format!(
                "{plan}/decode_tokens_per_second/{}/{end}/{first}",
                escaped(mode)
            );
            number(document, &path)
        };
        let rates = match (rates("low"), rates("high")) {
            (Some(low), Some(high)) => {
                Unit::Rates.print(&serde_json::json!({"low": low, "high": high}))
            }
            _ => None,
        };
        let total = format!("{plan}/total_bytes/{first}");
        let available = number(document, &format!("/plans/{index}/memory/available_bytes"));
        let left = available.zip(number(document, &total));
        let fits = document.pointer(&format!("{plan}/fits/{first}"));
        let left = left.map(|(available, total)| match (available - total) as i64 {
            left if left >= 0 && fits == Some(&Value::Bool(false)) => REFUSED.to_owned(),
            left => super::value::signed(left),
        });
        let cells = vec![
            cell(document, &format!("{plan}/scheme"), Unit::Scheme),
            cell(document, &total, Unit::Bytes),
            words(&left.unwrap_or_default()),
            words(&rates.unwrap_or_else(|| "\u{2013}".to_owned())),
        ];
        (taken == Some(index), cells)
    };
    let modes = list(document, "/curves/power_modes").iter();
    let modes = modes.filter_map(Value::as_str);
    let knows_rates = list(document, "/curves/plans").iter();
    let knows_rates = knows_rates
        .map(|plan| &plan["decode_tokens_per_second"])
        .any(|rates| !rates.is_null());
    Choices {
        first,
        last: contexts.len().saturating_sub(1),
        modes: modes
            .filter(|_| knows_rates)
            .map(|name| (name.to_owned(), name == mode))
            .collect(),
        table: Table {
            caption: "Memory and tokens/s with the context full.".to_owned(),
            columns: vec![
                ("format", false),
                ("memory", true),
                ("left", true),
                ("tokens/s", true),
            ],
            rows: (0..list(document, "/plans").len()).map(row).collect(),
        },
    }
}
