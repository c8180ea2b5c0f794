//! The page of `orinplan validate`.

use serde_json::Value;

use super::figures::{GIB, plain};
use super::value::{Cell, Unit, cell, number, text, words};
use super::{Content, Page, Section, Table};
use crate::report::svg::{Axis, Bar, Bars, Figure, Scale, Segment};
use crate::report::validate::{self, Report, RunResult, document, key};
use crate::units::Bytes;
use crate::validate::{Comparison, Metric};

/// A metric on the page: its name, how it is printed, the key of its error, how values of several repeats are printed.
struct Quantity {
    metric: Metric,
    name: &'static str,
    unit: Unit,
    error: &'static str,
    repeats: Option<Unit>,
}

const QUANTITIES: [Quantity; 4] = [
    Quantity {
        metric: Metric::Decode,
        name: "decode, tokens/s",
        unit: Unit::Rate,
        error: "decode_percent",
        repeats: Some(Unit::RatesSeen),
    },
    Quantity {
        metric: Metric::Prefill,
        name: "prefill, tokens/s",
        unit: Unit::Rate,
        error: "prefill_percent",
        repeats: Some(Unit::RatesSeen),
    },
    Quantity {
        metric: Metric::FirstToken,
        name: "first token",
        unit: Unit::Seconds,
        error: "time_to_first_token_percent",
        repeats: Some(Unit::SecondsSeen),
    },
    Quantity {
        metric: Metric::Memory,
        name: "peak memory",
        unit: Unit::Bytes,
        error: "memory_percent",
        repeats: None,
    },
];

impl Quantity {
    /// Where its prediction is in the document.
    fn predicted(&self, end: &str) -> String {
        match self.metric {
            Metric::Memory => format!("/predicted/peak_memory_range_bytes/{end}"),
            metric => format!("/predicted/{}/{end}", key(metric)),
        }
    }

    fn measured(&self) -> String {
        format!("/measured/{}", key(self.metric))
    }

    /// The value at `pointer` in print, without a pointer.
    fn print(&self, document: &Value, pointer: &str) -> Option<String> {
        self.unit.print(document.pointer(pointer)?)
    }
}

/// The names of its figures, for `--figure`.
pub const FIGURES: [&str; 2] = ["errors", "memory"];

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = document(report);
    let said = validate::words(report);
    let (mut holds, mut sections) = (false, Vec::new());
    let mut add = |id, title: &str, content: Option<Content>| {
        sections.extend(content.map(|content| Section {
            id,
            title: title.to_owned(),
            content,
        }));
    };
    let lines = |lines: Vec<String>| (!lines.is_empty()).then_some(Content::List(lines));
    let figure = |figure: Figure| Content::Figure(Box::new(figure));
    if let RunResult::Measured { comparison, .. } = &report.result {
        holds = comparison.within();
        add(
            "comparison",
            "Predicted and measured",
            Some(Content::Table(compared(&document, comparison))),
        );
        add(
            "errors",
            "Measured against predicted",
            errors(&document, comparison).map(figure),
        );
        add("reasons", "Observed during the run", lines(said.advice));
    } else {
        add("advice", "What to change", lines(said.advice));
    }
    add("memory", "Memory", memory(&document).map(figure));
    let answer = text(&document, "/measured/text");
    let answer = (!answer.is_empty()).then(|| vec![answer.to_owned()]);
    add("answer", "What the model said", answer.and_then(lines));
    add("notes", "What to know", lines(said.notes));
    Page {
        command: "orinplan validate",
        title: format!(
            "{} {} on {}",
            report.model.name,
            report.plan.assignment.scheme.to_uppercase(),
            report.target.device.name
        ),
        holds,
        verdict: said.verdict,
        facts: said.facts,
        figures_of_merit: merits(&document),
        sections,
        document,
    }
}

/// What was asked of the model; of one that was not run, what it needs.
fn merits(document: &Value) -> Vec<(&'static str, Cell)> {
    let of = |pointer, unit| cell(document, pointer, unit);
    if document["measured"].is_null() {
        return vec![
            ("Needed", of("/predicted/peak_memory_bytes", Unit::Bytes)),
            (
                "Free now",
                of("/predicted/memory_available_bytes", Unit::Bytes),
            ),
        ];
    }
    vec![
        (
            "Prompt, tokens",
            of("/workload/prompt_tokens", Unit::Integer),
        ),
        (
            "Generated, tokens",
            of("/workload/generated_tokens", Unit::Integer),
        ),
        ("Repeats", of("/workload/repeats", Unit::Integer)),
        ("Context, tokens", of("/workload/context", Unit::Integer)),
    ]
}

fn compared(document: &Value, comparison: &Comparison) -> Table {
    let row = |quantity: &Quantity| {
        let of = |pointer: &str| cell(document, pointer, quantity.unit);
        let repeats = quantity.repeats.map(|unit| {
            let pointer = format!("/measured/spread/{}", key(quantity.metric));
            cell(document, &pointer, unit)
        });
        let line = comparison.line(quantity.metric);
        let word = line.map_or("", |line| validate::word(line, comparison));
        let error = format!("/error/{}", quantity.error);
        let cells = vec![
            words(quantity.name),
            of(&quantity.predicted("low")),
            of(&quantity.predicted("expected")),
            of(&quantity.predicted("high")),
            of(&quantity.measured()),
            repeats.unwrap_or_else(|| words("\u{2013}")),
            cell(document, &error, Unit::Error),
            words(word),
        ];
        (false, cells)
    };
    Table {
        caption: "Measured: the mean of the repeats, then the least and the most of them. Error: the prediction against the mean.".to_owned(),
        columns: vec![
            ("quantity", false),
            ("low", true),
            ("expected", true),
            ("high", true),
            ("measured", true),
            ("repeats", true),
            ("error", true),
            ("verdict", false),
        ],
        rows: QUANTITIES
            .iter()
            .filter(|quantity| comparison.line(quantity.metric).is_some())
            .map(row)
            .collect(),
    }
}

/// What was measured beside the predicted range, in percent of what was expected. A run on another machine says nothing
/// about the prediction.
fn errors(document: &Value, comparison: &Comparison) -> Option<Figure> {
    let row = |quantity: &Quantity| {
        let expected = number(document, &quantity.predicted("expected")).filter(|v| *v > 0.0)?;
        let of = |pointer: &str| Some(number(document, pointer)? / expected * 100.0);
        let (low, high) = (
            of(&quantity.predicted("low"))?,
            of(&quantity.predicted("high"))?,
        );
        let measured = of(&quantity.measured())?;
        let is_off = comparison.off().any(|line| line.metric == quantity.metric);
        let print = |pointer: &str| quantity.print(document, pointer);
        let seen = print(&quantity.measured())?;
        let (name, _) = quantity.name.split_once(',').unwrap_or((quantity.name, ""));
        let row = Bar {
            label: name.to_owned(),
            parts: Segment::range(low, high),
            point: Some((measured, if is_off { "out" } else { "chosen" })),
            detail: format!(
                "{}: {seen} measured\nexpected {}, {} to {}",
                quantity.name,
                print(&quantity.predicted("expected"))?,
                print(&quantity.predicted("low"))?,
                print(&quantity.predicted("high"))?
            ),
            value: seen,
            marked: false,
        };
        Some((row, [low, measured, high]))
    };
    let rows: Vec<(Bar, [f64; 3])> = QUANTITIES.iter().filter_map(row).collect();
    let values = || rows.iter().flat_map(|(_, values)| values).chain(&[100.0]);
    let least = values().copied().fold(f64::INFINITY, f64::min);
    let most = values().copied().fold(0.0, f64::max);
    let room = (most - least) * 0.06;
    let (scale, ticks) = Scale::between((least - room).max(0.0), most + room, 5);
    (!rows.is_empty() && !comparison.elsewhere).then(|| {
        Figure::Bars(Bars {
            title: "Measured against predicted".to_owned(),
            description: format!(
                "Measured (points) in percent of expected; bars are the predicted ranges. The tolerance is {} %.",
                comparison.tolerance
            ),
            axis: Axis {
                label: "percent of what was expected".to_owned(),
                scale,
                ticks: plain(&ticks),
            },
            rows: rows.into_iter().map(|(row, _)| row).collect(),
            limit: Some((100.0, "expected".to_owned())),
            parts: Vec::new(),
        })
    })
}

/// The memory that was planned, and each figure of what was seen.
fn memory(document: &Value) -> Option<Figure> {
    let figures = [
        ("planned", "/predicted/peak_memory_bytes", "weights"),
        ("resident", "/measured/memory/resident_bytes", "range"),
        (
            "MemAvailable's fall",
            "/measured/memory/available_drop_bytes",
            "range",
        ),
        (
            "tegrastats' rise",
            "/measured/memory/tegrastats_rise_bytes",
            "range",
        ),
        ("by the engine", "/measured/memory/engine_bytes", "range"),
    ];
    let rows = figures.iter().filter_map(|(label, pointer, class)| {
        let bytes = number(document, pointer)?;
        let value = Bytes(bytes as u64).to_string();
        let row = Bar {
            label: (*label).to_owned(),
            parts: vec![Segment {
                class,
                value: bytes / GIB,
            }],
            detail: format!("{label}: {value}"),
            value,
            ..Bar::default()
        };
        Some((row, bytes / GIB))
    });
    let rows: Vec<(Bar, f64)> = rows.collect();
    let available = number(document, "/predicted/memory_available_bytes")? / GIB;
    let most = rows.iter().map(|(_, gib)| *gib).fold(0.0, f64::max);
    // Beside a board that has far more, bars would be lines.
    let limit = (most > available / 20.0).then(|| {
        let text = Bytes((available * GIB) as u64);
        (available, format!("{text} available"))
    });
    let most = limit.as_ref().map_or(most, |(limit, _)| most.max(*limit));
    let (unit, name) = if most >= 1.0 {
        (1.0, "GiB")
    } else {
        (1024.0, "MiB")
    };
    let (scale, ticks) = Scale::up_to(most * unit * 1.02, 6);
    let rows = rows.into_iter().map(|(mut row, _)| {
        row.parts.iter_mut().for_each(|part| part.value *= unit);
        row
    });
    Some(Figure::Bars(Bars {
        title: "Memory".to_owned(),
        description: format!(
            "Planned and measured peak; the board has {} available.",
            Bytes((available * GIB) as u64)
        ),
        axis: Axis {
            label: format!("memory, {name}"),
            scale,
            ticks: plain(&ticks),
        },
        rows: rows.collect(),
        limit,
        parts: Vec::new(),
    }))
}
