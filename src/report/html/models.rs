//! The page of `orinplan models`.

use serde_json::Value;

use super::value::{Unit, cell, list, text, words};
use super::{Content, Page, Section, Table, figures};
use crate::report::models::{self, Report, document};

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = document(report);
    let shown = report.listed().len();
    let said = models::words(report);
    let mut sections = Vec::new();
    let mut add = |id, title: &str, content| {
        sections.push(Section {
            id,
            title: title.to_owned(),
            content,
        });
    };
    if let Some(figure) = figures::ranking(&document, shown) {
        add("speed", "Speed", Content::Figure(Box::new(figure)));
    }
    if shown > 0 {
        add(
            "models",
            "Models, best first",
            Content::Table(models(&document, shown)),
        );
    }
    if !said.commands.is_empty() {
        add("get", "Get the first", Content::Commands(said.commands));
    }
    add("notes", "What to know", Content::List(said.notes));
    Page {
        command: "orinplan models",
        title: format!("Models on {}", text(&document, "/device/name")),
        holds: shown > 0,
        verdict: said.verdict,
        facts: said.facts,
        figures_of_merit: Vec::new(),
        sections,
        document,
    }
}

fn models(document: &Value, shown: usize) -> Table {
    let row = |index: usize| {
        let of = |path: &str, unit| cell(document, &format!("/models/{index}/{path}"), unit);
        let tasks = list(document, &format!("/models/{index}/tasks")).iter();
        let tasks: Vec<&str> = tasks.filter_map(Value::as_str).collect();
        let cells = vec![
            of("id", Unit::Text),
            of("decode_tokens_per_second", Unit::Rates),
            of("memory_bytes", Unit::Bytes),
            of("parameters", Unit::Count),
            of("scheme", Unit::Scheme),
            of("max_context", Unit::Integer),
            of("license", Unit::Text),
            words(&tasks.join(", ")),
        ];
        (false, cells)
    };
    Table {
        caption: "Memory with the context asked for; tokens/s while decoding.".to_owned(),
        columns: vec![
            ("model", false),
            ("tokens/s", true),
            ("memory", true),
            ("parameters", true),
            ("format", false),
            ("max context", true),
            ("licence", false),
            ("for", false),
        ],
        rows: (0..shown).map(row).collect(),
    }
}
