//! The page of `orinplan board`.

use serde_json::Value;

use super::figures::{loads, memory_of_each};
use super::value::{Cell, Unit, cell, list, words};
use super::{Content, Page, Section, Table};
use crate::report::shared::{self, Report, document};

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = document(report);
    let said = shared::words(report);
    let mut sections = vec![Section {
        id: "models",
        title: "Models".to_owned(),
        content: Content::Table(models(&document)),
    }];
    let figures = [
        ("memory", "Memory of each", memory_of_each(&document)),
        ("loads", "Loading, one after the other", loads(&document)),
    ];
    for (id, title, figure) in figures {
        sections.extend(figure.map(|figure| Section {
            id,
            title: title.to_owned(),
            content: Content::Figure(Box::new(figure)),
        }));
    }
    if !said.notes.is_empty() {
        sections.push(Section {
            id: "notes",
            title: "What to know".to_owned(),
            content: Content::List(said.notes),
        });
    }
    let merit = |pointer, unit| cell(&document, pointer, unit);
    let figures_of_merit: Vec<(&'static str, Cell)> = vec![
        ("Needed together", merit("/needed_bytes", Unit::Bytes)),
        ("Available", merit("/available_bytes", Unit::Bytes)),
        ("Left", merit("/headroom_bytes", Unit::Bytes)),
    ];
    let count = list(&document, "/models").len();
    Page {
        command: "orinplan board",
        title: format!(
            "{} on {}",
            crate::units::counted(count as u64, "model", "models"),
            super::value::text(&document, "/device/name")
        ),
        holds: report.plan.together.fits(),
        verdict: said.verdict,
        facts: said.facts,
        figures_of_merit,
        sections,
        document,
    }
}

fn models(document: &Value) -> Table {
    let row = |index: usize| {
        let of = |path: &str, unit| cell(document, &format!("/models/{index}/{path}"), unit);
        let room = &document["models"][index]["has_room"];
        let cells = vec![
            of("name", Unit::Text),
            of("load", Unit::Text),
            words(if *room == true { "yes" } else { "no" }),
            of("scheme", Unit::Scheme),
            of("memory/total_bytes", Unit::Bytes),
            of("context", Unit::Integer),
            of("max_context", Unit::Integer),
            of("decode_tokens_per_second", Unit::Rates),
            of("load_seconds", Unit::Seconds),
        ];
        (false, cells)
    };
    Table {
        caption: "Each with the context asked for; the largest context is that beside the others; tokens/s: each alone.".to_owned(),
        columns: vec![
            ("model", false),
            ("load", false),
            ("has room", false),
            ("format", false),
            ("memory", true),
            ("context", true),
            ("max context", true),
            ("tokens/s", true),
            ("loads in", true),
        ],
        rows: (0..list(document, "/models").len()).map(row).collect(),
    }
}
