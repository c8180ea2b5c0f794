//! Several models on one board for people.

use super::{MemberRow, Report};
use crate::foreign::{markdown as plain, markdown_sentence};
use crate::report::fit::{range, refusal_text};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
#[cfg(feature = "pages")]
use crate::report::words::Words;
use crate::report::{line, rate, seconds};
use crate::units::{Bytes, counted};

/// The sentences of `report`, for the forms that are not text.
#[cfg(feature = "pages")]
pub(in crate::report) fn words(report: &Report<'_>) -> Words {
    let mut facts = head(report);
    let verdict = facts.remove(VERDICT);
    Words {
        verdict,
        facts,
        // The caption of the page's table explains the others.
        notes: legend(report, |name| name == "loads in"),
        ..Words::default()
    }
}

/// The place of the verdict among the first sentences.
#[cfg(feature = "pages")]
const VERDICT: usize = 0;

/// The ledger for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    for sentence in head(report) {
        out.prose(&sentence);
    }
    out.blank();
    let table = table(report);
    out.table(&table, " ");
    out.blank();
    for sentence in legend(report, |name| out.shows(&table, " ", name)) {
        out.prose(&sentence);
    }
    out.finish()
}

/// The ledger as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let mut out = String::new();
    let names: Vec<String> = report.rows().map(|row| plain(&row.asked.name)).collect();
    line(
        &mut out,
        format_args!("## {} on one board\n", names.join(", ")),
    );
    for sentence in head(report) {
        line(
            &mut out,
            format_args!("{}.\n", markdown_sentence(&sentence)),
        );
    }
    out.push_str(&table(report).markdown());
    for sentence in legend(report, |_| true) {
        line(
            &mut out,
            format_args!("\n{}.", markdown_sentence(&sentence)),
        );
    }
    out
}

/// The verdict, what to do about each model without room, then the board.
fn head(report: &Report<'_>) -> Vec<String> {
    let together = &report.plan.together;
    let (needed, available) = (together.needed, together.available);
    let slow: Vec<String> = report.rows().filter_map(too_slow).collect();
    let verdict = if together.fits() && !slow.is_empty() {
        format!("TOO SLOW: {}", slow.join("; "))
    } else if together.fits() {
        format!(
            "FIT TOGETHER: {needed} of {available}, {} left",
            available.saturating_sub(needed)
        )
    } else {
        let short = needed.saturating_sub(available);
        let short = if short > Bytes(0) {
            format!(", {short} more than the board has left")
        } else {
            String::new()
        };
        format!("DO NOT FIT TOGETHER: {needed} of {available}{short}")
    };
    let mut lines = vec![verdict];
    lines.extend(report.rows().filter_map(|row| no_room(report, row)));
    lines.push(report.planned_for());
    lines
}

/// That a model is slower than it should be, in its fastest format with room.
fn too_slow(row: MemberRow<'_>) -> Option<String> {
    let least = row.member.too_slow?;
    let plan = &row.member.plan;
    let reached = plan.rate().map_or(String::new(), |rate| {
        format!(
            ", {} decodes {}",
            plan.assignment.scheme.to_uppercase(),
            crate::report::rate(rate)
        )
    });
    Some(format!(
        "no format of {} that has room decodes {} tokens/s{reached}",
        row.asked.name,
        crate::report::rate(least)
    ))
}

/// What to do about a model that has no room.
fn no_room(report: &Report<'_>, row: MemberRow<'_>) -> Option<String> {
    if row.place.has_room {
        return None;
    }
    let (name, plan) = (&row.asked.name, &row.member.plan);
    Some(match &row.place.unload {
        Some(places) if !places.is_empty() => format!(
            "{name} does not fit beside {}: unload {} first, then {name} loads in {}",
            report.names(places).join(" and "),
            if places.len() == 1 { "that" } else { "those" },
            seconds(report.load_time(row).0)
        ),
        _ => {
            let why = match plan.refusal() {
                Some(note) => refusal_text(note),
                None => format!(
                    "{} needs {}; `orinplan fit {name}` shows what to change",
                    plan.assignment.scheme.to_uppercase(),
                    plan.memory.total()
                ),
            };
            format!("{name} does not fit on this board: {why}")
        }
    })
}

fn table(report: &Report<'_>) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("load", Align::Left),
        ("format", Align::Left),
        ("weights", Align::Right),
        ("cache", Align::Right),
        ("the rest", Align::Right),
        ("memory", Align::Right),
        ("context", Align::Right),
        ("max ctx", Align::Right),
        ("tokens/s", Align::Right),
        ("loads in", Align::Right),
    ])
    .giving_up(&[
        "the rest", "cache", "weights", "loads in", "context", "max ctx", "format",
    ]);
    for row in report.rows() {
        let plan = &row.member.plan;
        let memory = &plan.memory;
        let speeds = plan.speeds.as_ref();
        let load = match (row.place.has_room, row.asked.on_demand) {
            (false, _) => "NO ROOM",
            (true, true) => "on demand",
            (true, false) => "resident",
        };
        table.row([
            row.asked.name.clone(),
            load.to_owned(),
            plan.assignment.scheme.to_uppercase(),
            (memory.weights + memory.duplicated_embedding).to_string(),
            (memory.kv_cache + memory.recurrent_state).to_string(),
            (memory.compute + memory.output + memory.adapters + memory.runtime.total()).to_string(),
            memory.total().to_string(),
            row.member.workload.context.to_string(),
            match row.place.max_context {
                0 => "-".to_owned(),
                context => context.to_string(),
            },
            speeds.map_or("-".to_owned(), |s| range(&s.decode.tokens_per_second)),
            seconds(report.load_time(row).0),
        ]);
    }
    for program in &report.request.programs {
        let mut cells: [String; 11] = Default::default();
        cells[0].clone_from(&program.name);
        cells[1] = "program".to_owned();
        cells[6] = program.memory.to_string();
        table.row(cells);
    }
    let mut cells: [String; 11] = Default::default();
    cells[0] = "peak".to_owned();
    cells[6] = report.plan.together.needed.to_string();
    table.row(cells);
    table
}

/// What the adapters of a model take in its process.
fn adapters(row: MemberRow<'_>) -> Option<String> {
    let adapters = &row.asked.request.workload.adapters;
    let names: Vec<&str> = adapters
        .iter()
        .map(|adapter| adapter.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        format!(
            "{} shares its weights among {}, which add {}; each also costs time, which nobody has measured on an Orin",
            row.asked.name,
            names.join(", "),
            row.member.plan.memory.adapters
        )
    })
}

/// What the table does not say; `has_column` says of which columns.
fn legend(report: &Report<'_>, has_column: impl Fn(&str) -> bool) -> Vec<String> {
    let storage = &report.request.storage;
    let columns = [
        (
            "the rest",
            "the rest: compute buffers and the runtime of each, in its own process",
        ),
        ("max ctx", "max ctx: beside the others, by priority"),
    ];
    let columns = columns.into_iter().filter(|(name, _)| has_column(name));
    let columns: Vec<&str> = columns.map(|(_, meaning)| meaning).collect();
    let mut lines = Vec::new();
    lines.extend((!columns.is_empty()).then(|| columns.join("; ")));
    let gb = storage.rate.0 / 1e9;
    let loads = if storage.assumed {
        format!(
            "files load at {gb} GB/s, a usual rate of {}: --storage sets yours",
            storage.name
        )
    } else {
        format!("files load at {gb} GB/s")
    };
    lines.extend(has_column("loads in").then_some(loads));
    lines.extend(report.rows().filter_map(adapters));
    let at_once = report.at_once();
    if at_once > 1 {
        let rates: Vec<String> = report
            .rows()
            .filter_map(|row| {
                let speeds = row.member.plan.speeds.as_ref()?;
                let most = speeds.decode.tokens_per_second.high / at_once as f64;
                Some(format!("{} {}", row.asked.name, rate(most)))
            })
            .collect();
        let models = counted(at_once, "model decodes", "models decode");
        lines.push(format!(
            "tokens/s: each alone. When {models} at once, processes take turns on the GPU and each has at most its share of the rate ({}): arithmetic; no published run on an Orin measures it",
            rates.join(", ")
        ));
    }
    lines
}
