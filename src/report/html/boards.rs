//! The page of `orinplan fit --boards`.

use serde_json::Value;

use super::figures::memory_of_boards;
use super::value::{Cell, Unit, cell, list, number, text, words};
use super::{Content, Page, Section, Table};
use crate::report::boards::{self, Report, document};

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = document(report);
    let said = boards::words(report);
    let shown = report.shown_index();
    let taken = report.cluster.choice.taken;
    let count = list(&document, "/boards").len();
    let lines = |lines: Vec<String>| (!lines.is_empty()).then_some(Content::List(lines));
    let figure = memory_of_boards(&document, shown);
    let contents = [
        (
            "advice",
            "What to change, least loss first",
            lines(said.advice),
        ),
        (
            "boards",
            "Each board",
            Some(Content::Table(each_board(&document, shown))),
        ),
        (
            "memory",
            "Memory of each board",
            figure.map(|figure| Content::Figure(Box::new(figure))),
        ),
        (
            "formats",
            "Formats",
            Some(Content::Table(formats(&document, taken))),
        ),
        (
            "run",
            "Run it",
            (!said.commands.is_empty()).then_some(Content::Commands(said.commands)),
        ),
        ("notes", "What to know", lines(said.notes)),
    ];
    let sections = contents.into_iter().filter_map(|(id, title, content)| {
        Some(Section {
            id,
            title: title.to_owned(),
            content: content?,
        })
    });
    Page {
        command: "orinplan fit --boards",
        title: format!("{} on {count} boards", text(&document, "/model/name")),
        holds: taken.is_some(),
        verdict: said.verdict,
        facts: said.facts,
        figures_of_merit: taken.map_or_else(Vec::new, |index| merits(&document, index)),
        sections: sections.collect(),
        document,
    }
}

/// The numbers of the recommended format that matter most.
fn merits(document: &Value, index: usize) -> Vec<(&'static str, Cell)> {
    let of = |path: &str, unit| cell(document, &format!("/plans/{index}/{path}"), unit);
    vec![
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
        ("First load", of("first_load_seconds", Unit::Seconds)),
        (
            "Largest context with these blocks, tokens",
            of("max_context", Unit::Integer),
        ),
    ]
}

/// What each board has of the format that is shown.
fn each_board(document: &Value, shown: usize) -> Table {
    let plan = format!("/plans/{shown}");
    let stages = list(document, &format!("{plan}/boards"));
    let row = |index: usize| {
        let of = |path: &str, unit| cell(document, &format!("{plan}/boards/{index}/{path}"), unit);
        let role = match &stages[index]["runs_server"] {
            Value::Bool(true) => "yes",
            _ => "no",
        };
        let cells = vec![
            cell(document, &format!("/boards/{index}/name"), Unit::Text),
            of("first_block", Unit::Integer),
            of("blocks", Unit::Integer),
            words(role),
            of("memory/weights_bytes", Unit::Bytes),
            of("memory/kv_cache_bytes", Unit::Bytes),
            of("memory/compute_bytes", Unit::Bytes),
            of("memory/total_bytes", Unit::Bytes),
            of("available_bytes", Unit::Bytes),
            of("step_seconds/expected", Unit::Seconds),
        ];
        (false, cells)
    };
    Table {
        caption: format!(
            "The boards in the order of their blocks, in {} with {} tokens of context.",
            text(document, &format!("{plan}/scheme")).to_uppercase(),
            number(document, "/workload/context").unwrap_or_default(),
        ),
        columns: vec![
            ("board", false),
            ("first block", true),
            ("blocks", true),
            ("runs the server", false),
            ("weights", true),
            ("cache", true),
            ("compute", true),
            ("memory", true),
            ("of", true),
            ("a step", true),
        ],
        rows: (0..stages.len()).map(row).collect(),
    }
}

fn formats(document: &Value, taken: Option<usize>) -> Table {
    let row = |index: usize| {
        let of = |path: &str, unit| cell(document, &format!("/plans/{index}/{path}"), unit);
        let fits = match text(document, &format!("/plans/{index}/verdict")) {
            "fits" => "yes",
            _ => "no",
        };
        let cells = vec![
            of("scheme", Unit::Scheme),
            words(fits),
            of("file_bytes", Unit::Bytes),
            of("max_context", Unit::Integer),
            of("decode/tokens_per_second", Unit::Rates),
            of(
                "prefill/time_to_first_token_seconds/expected",
                Unit::Seconds,
            ),
            of("step_bytes_on_wire", Unit::Bytes),
            of("first_load_seconds", Unit::Seconds),
        ];
        (taken == Some(index), cells)
    };
    Table {
        caption: "Each format divided for itself; the largest context is that of its blocks, and another context is divided anew."
            .to_owned(),
        columns: vec![
            ("format", false),
            ("fits", false),
            ("file", true),
            ("max context", true),
            ("tokens/s", true),
            ("first token", true),
            ("a step on the wire", true),
            ("first load", true),
        ],
        rows: (0..list(document, "/plans").len()).map(row).collect(),
    }
}
