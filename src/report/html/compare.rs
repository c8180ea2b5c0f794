//! The page of `orinplan compare`.

use serde_json::Value;

use super::value::{Cell, Unit, cell, list, number, text, words};
use super::{Content, Page, Section, Table, quality};
use crate::report::compare::{self, Report, document};
use crate::report::svg::{Axis, Bar, Bars, Figure, Scale, Segment};
use crate::units::counted;

/// What the columns are.
const NOTES: [&str; 3] = [
    "Divergence: the mean Kullback-Leibler divergence from the reference's predictions, in nats a token. 0 is best.",
    "99 % below: the divergence that 99 % of the tokens stay below.",
    "Same token: how often the top token matches the reference's.",
];

/// The names of its figures, for `--figure`.
pub const FIGURES: [&str; 2] = ["quality", "agreement"];

/// The page.
pub fn page(report: &Report<'_>) -> Page {
    let document = document(report);
    let said = compare::words(report);
    let figure = |figure: Figure| Content::Figure(Box::new(figure));
    let sections = [
        (
            "quality",
            "Quality against size",
            quality::of_candidates(&document).map(figure),
        ),
        ("models", "Models", Some(Content::Table(models(&document)))),
        (
            "agreement",
            "Agreement on the next token",
            agreement(&document).map(figure),
        ),
        (
            "notes",
            "What the numbers mean",
            Some(Content::List(NOTES.map(str::to_owned).to_vec())),
        ),
    ];
    let sections = sections.into_iter().filter_map(|(id, title, content)| {
        Some(Section {
            id,
            title: title.to_owned(),
            content: content?,
        })
    });
    Page {
        command: "orinplan compare",
        title: format!(
            "{} against {}",
            counted(report.candidates.len() as u64, "file", "files"),
            report.reference.file
        ),
        holds: true,
        verdict: said.verdict,
        facts: said.facts,
        figures_of_merit: merits(&document),
        sections: sections.collect(),
        document,
    }
}

fn merits(document: &Value) -> Vec<(&'static str, Cell)> {
    let of = |pointer, unit| cell(document, pointer, unit);
    vec![
        ("Scored tokens", of("/text/scored_tokens", Unit::Integer)),
        (
            "Perplexity of the reference",
            of("/reference/perplexity", Unit::Perplexity),
        ),
    ]
}

fn models(document: &Value) -> Table {
    let row = |place: String, is_reference: bool| {
        let of = |path: &str, unit| cell(document, &format!("{place}/{path}"), unit);
        let compared = |path: &str, unit| {
            if is_reference {
                words("")
            } else {
                of(path, unit)
            }
        };
        let cells = vec![
            of("file", Unit::Text),
            of("format", Unit::Scheme),
            compared("kld", Unit::Divergence),
            compared("same_top", Unit::Share),
            of("bytes", Unit::Bytes),
            of("bits_per_weight", Unit::Bits),
            compared("kld", Unit::Divergence99),
            of("perplexity", Unit::Perplexity),
        ];
        (false, cells)
    };
    let candidates = 0..list(document, "/candidates").len();
    let candidates = candidates.map(|index| row(format!("/candidates/{index}"), false));
    let reference = row("/reference".to_owned(), true);
    Table {
        caption: "The reference first; bits of each weight; after \u{b1} one standard error."
            .to_owned(),
        columns: vec![
            ("file", false),
            ("format", false),
            ("divergence", true),
            ("same token", true),
            ("size", true),
            ("bits", true),
            ("99 % below", true),
            ("perplexity", true),
        ],
        rows: std::iter::once(reference).chain(candidates).collect(),
    }
}

/// How often each candidate predicts the token that the reference does.
fn agreement(document: &Value) -> Option<Figure> {
    let rows = list(document, "/candidates")
        .iter()
        .filter_map(|candidate| {
            let of = |key: &str| number(candidate, &format!("/same_top/{key}"));
            let (percent, error) = (of("percent")?, of("standard_error")?);
            let file = text(candidate, "/file");
            Some(Bar {
                label: file.to_owned(),
                parts: vec![Segment {
                    class: "weights",
                    value: percent,
                }],
                value: format!("{percent:.1} %"),
                detail: format!("{file}: {percent:.1} % \u{b1} {error:.1} %"),
                ..Bar::default()
            })
        });
    let rows: Vec<Bar> = rows.collect();
    let ticks = (0..=4).map(|n| f64::from(n) * 25.0);
    (!rows.is_empty()).then(|| {
        Figure::Bars(Bars {
            title: "Agreement on the next token".to_owned(),
            description: "How often each file's top token matches the reference's.".to_owned(),
            axis: Axis {
                label: "percent of the scored tokens".to_owned(),
                scale: Scale::Linear(0.0, 100.0),
                ticks: super::figures::plain(&ticks.collect::<Vec<_>>()),
            },
            rows,
            limit: None,
            parts: Vec::new(),
        })
    })
}
