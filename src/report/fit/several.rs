//! Several models side by side: a row for each with the plan to take, and a list of their documents.

use serde_json::{Value, json};

use super::formats::{QUALITY, headroom, largest_context};
use super::quality;
use super::range;
use super::text::smallest;
use super::{DOES_NOT_FIT, FITS, TOO_SLOW};
use super::{Report, View, document_with_curves};
use crate::foreign::{markdown as plain, markdown_sentence};
use crate::plan::Plan;
use crate::report::first_screen::{self, ROWS, Room, more_text};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{count, line, seconds};
use crate::units::tokens;

/// What stands before each line of the table.
const INDENT: &str = " ";

/// A model among several, as the user named it.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The name on the command line.
    pub model: &'a str,
    /// Its plans, or why there are none.
    pub planned: Result<Report<'a>, &'a str>,
}

/// The documents of all, in the order asked for: `orinplan.fit/1`, or `orinplan.error/1` for one without a plan.
pub fn documents(sides: &[Side<'_>]) -> Value {
    let each = sides.iter().map(|side| match &side.planned {
        Ok(report) => document_with_curves(report),
        Err(why) => json!({
            "schema": "orinplan.error/1",
            "model": side.model,
            "error": why,
        }),
    });
    each.collect()
}

/// The table for a terminal.
pub fn text(sides: &[Side<'_>], view: View) -> String {
    // A file or a pipe has no rows that scroll away, and who reads it may look for any of the models.
    let room = match view.columns {
        Some(_) => view.room(sides.len()),
        None => Room::ALL,
    };
    let rows = if room == Room::ALL { usize::MAX } else { ROWS };
    first_screen::fitted(room, rows, |room| screen(sides, view, room))
}

/// The table in that room.
fn screen(sides: &[Side<'_>], view: View, room: Room) -> Screen {
    let mut out = Screen::new(view.columns);
    for sentence in head(sides) {
        out.prose(&sentence);
    }
    out.blank();
    let shown = sides.get(..room.rows).unwrap_or(sides);
    let table = table(shown);
    out.table(&table, INDENT);
    if room.gaps {
        out.blank();
    }
    if room.legend {
        let legend = legend(shown, |name| out.shows(&table, INDENT, name));
        out.sentence(&legend, room.whole);
    }
    let more = [
        (sides.len() - shown.len(), "model", "models"),
        (usize::from(!room.legend), "fact", "facts"),
    ];
    if let Some(more) = more_text(&more, false) {
        out.prose(&more);
    }
    out
}

/// The table as Markdown.
pub fn markdown(sides: &[Side<'_>]) -> String {
    let mut out = String::new();
    let board = reports(sides)
        .next()
        .map(|report| &report.target.device.name);
    let board = board.map_or_else(String::new, |name| format!(" on {}", plain(name)));
    let names: Vec<String> = sides.iter().map(|side| plain(side.model)).collect();
    line(&mut out, format_args!("## {}{board}\n", names.join(", ")));
    for sentence in head(sides) {
        line(
            &mut out,
            format_args!("{}.\n", markdown_sentence(&sentence)),
        );
    }
    out.push_str(&table(sides).markdown());
    line(
        &mut out,
        format_args!("\n{}.", markdown_sentence(&legend(sides, |_| true))),
    );
    out
}

fn reports<'a>(sides: &'a [Side<'a>]) -> impl Iterator<Item = &'a Report<'a>> {
    sides.iter().filter_map(|side| side.planned.as_ref().ok())
}

/// How many fit, then the board.
fn head(sides: &[Side<'_>]) -> Vec<String> {
    let fit = reports(sides).filter(|report| report.fit.recommended().is_some());
    let fit = fit.count();
    let Some(first) = reports(sides).next() else {
        return Vec::new();
    };
    vec![
        format!(
            "{fit} of {} fit with {}",
            sides.len(),
            first.target.runtime.name
        ),
        first.planned_for(),
    ]
}

fn table(sides: &[Side<'_>]) -> Table {
    let mut table = Table::new([
        ("model", Align::Left),
        ("parameters", Align::Right),
        ("", Align::Left),
        ("format", Align::Left),
        ("file", Align::Right),
        ("memory", Align::Right),
        ("left", Align::Right),
        ("context", Align::Right),
        ("max ctx", Align::Right),
        ("tokens/s", Align::Right),
        ("first token", Align::Right),
        ("quality", Align::Right),
    ])
    .giving_up(&[
        "first token",
        "parameters",
        "quality",
        "left",
        "file",
        "context",
        "max ctx",
        "memory",
    ]);
    let contexts_differ = contexts(sides).len() > 1;
    for side in sides {
        table.row(match &side.planned {
            Ok(report) => row(side.model, report, contexts_differ),
            Err(_) => {
                let mut cells: [String; 12] = Default::default();
                cells[0] = side.model.to_owned();
                cells[2] = "ERROR".to_owned();
                cells
            }
        });
    }
    table.without_empty_columns()
}

/// The plan to take; without one that fits, the one that comes nearest.
fn row(model: &str, report: &Report<'_>, with_context: bool) -> [String; 12] {
    let recommended = report.fit.recommended();
    let verdict = match recommended {
        Some(_) => FITS,
        None if report.fit.plans.iter().any(Plan::fits) => TOO_SLOW,
        None => DOES_NOT_FIT,
    };
    let mut cells: [String; 12] = Default::default();
    cells[0] = model.to_owned();
    cells[1] = count(report.model.parameters);
    cells[2] = verdict.to_owned();
    if with_context {
        cells[7] = report.workload.context.to_string();
    }
    if let Some(plan) = recommended.or(smallest(report)) {
        let speeds = plan.speeds.as_ref();
        cells[3] = plan.assignment.scheme.to_uppercase();
        cells[4] = plan.file_bytes.to_string();
        cells[5] = plan.memory.total().to_string();
        cells[6] = headroom(plan);
        cells[8] = largest_context(report.model, plan);
        cells[9] = speeds.map_or("-".to_owned(), |s| range(&s.decode.tokens_per_second));
        cells[10] = speeds.map_or("-".to_owned(), |s| {
            seconds(s.prefill.time_to_first_token.expected)
        });
        cells[11] = quality::column(plan);
    }
    cells
}

/// The contexts that were planned, each once.
fn contexts(sides: &[Side<'_>]) -> Vec<u64> {
    let mut all: Vec<u64> = reports(sides)
        .map(|report| report.workload.context)
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn legend(sides: &[Side<'_>], has_column: impl Fn(&str) -> bool) -> String {
    let with = match contexts(sides)[..] {
        [context] if has_column("memory") => {
            format!("memory with {} of context; ", tokens(context))
        }
        _ => String::new(),
    };
    let quality = if has_column("quality") {
        format!("{QUALITY} (0 is best); ")
    } else {
        String::new()
    };
    format!(
        "the recommended format of each, or the smallest if none fits; {with}{quality}`orinplan fit` on one model shows its other formats, its notes and how to run it"
    )
}
