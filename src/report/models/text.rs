//! The ranking as a table for a terminal and as Markdown.

use super::{RULE, Report, get};
use crate::catalog::{Ranked, Task};
use crate::foreign::{fenced, markdown as plain, markdown_sentence};
use crate::planner::CONTEXT;
use crate::report::first_screen::{ROWS, Room};
use crate::report::fit::range;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
#[cfg(feature = "pages")]
use crate::report::words::Words;
use crate::report::{count, line, listed, rate};
use crate::units::{counted, tokens};

/// The sentences of `report`, for the forms that are not text.
#[cfg(feature = "pages")]
pub(in crate::report) fn words(report: &Report<'_>) -> Words {
    let best = report.listed().first();
    let get = best.map(|best| (best.entry.id.clone(), vec![get(report, best)]));
    Words {
        verdict: headline(report),
        facts: vec![report.planned_for()],
        commands: get.into_iter().collect(),
        notes: sentences(report),
        ..Words::default()
    }
}

/// The ranking for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.prose(&headline(report));
    out.prose(&report.planned_for());
    if !report.listed().is_empty() {
        out.blank();
        out.table(&table(report), " ");
    }
    if report.all && !report.ranking.too_large.is_empty() {
        out.push_str("\nDoes not fit here:\n");
        out.table(&larger(report), " ");
    }
    if let Some(best) = report.listed().first() {
        out.blank();
        out.prose("To get the first, or any other by its id and format:");
        out.line(format_args!("  {}", get(report, best)));
    }
    out.blank();
    for count in counts(report) {
        out.prose(&count);
    }
    let notes = notes(report);
    let room = ROWS.saturating_sub(out.rows()).clamp(1, Room::FIRST.notes);
    for note in &notes {
        if report.all {
            out.prose(note);
        }
    }
    for note in notes.iter().take(room).filter(|_| !report.all) {
        out.clause(note);
    }
    out.finish()
}

/// The ranking as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "## Models on {}\n\n{}.\n\n**{}**\n",
            plain(&report.board.device.name),
            markdown_sentence(&report.planned_for()),
            markdown_sentence(&headline(report)),
        ),
    );
    if !report.listed().is_empty() {
        out.push_str(&table(report).markdown());
    }
    if report.all && !report.ranking.too_large.is_empty() {
        out.push_str("\nDoes not fit here:\n\n");
        out.push_str(&larger(report).markdown());
    }
    out.push('\n');
    for sentence in sentences(report) {
        line(&mut out, format_args!("- {}", markdown_sentence(&sentence)));
    }
    if !report.listed().is_empty() {
        let lines = report.listed().iter().map(|ranked| get(report, ranked));
        let lines = fenced("sh", &lines.collect::<Vec<_>>().join("\n"));
        line(&mut out, format_args!("\nTo get them:\n\n{lines}"));
    }
    out
}

/// How many models run, of those that were looked for.
fn headline(report: &Report<'_>) -> String {
    let ranking = report.ranking;
    let sorts = [
        ranking.runs.len(),
        ranking.too_large.len(),
        ranking.too_slow.len(),
        ranking.too_short.len(),
        ranking.no_images.len(),
    ];
    let wished: usize = sorts.iter().sum();
    let task = report.wish.task.map(|task| format!(" for {}", task.name()));
    let licenses: Vec<String> = report
        .wish
        .licenses
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    let licensed = if licenses.is_empty() {
        String::new()
    } else {
        format!(" under {}", listed(&licenses))
    };
    let speed = report.request.preference.min_speed;
    let speed = speed.map(|least| format!(" at {} tokens/s and more", rate(least)));
    let context = report.request.workload.context;
    let context = context.map(|n| format!(" with {} of context", tokens(n)));
    format!(
        "{} of {} of the catalogue{}{licensed} run with {}{}{}",
        ranking.runs.len(),
        counted(wished, "model", "models"),
        task.unwrap_or_default(),
        report.board.runtime.name,
        context.unwrap_or_default(),
        speed.unwrap_or_default(),
    )
}

/// One row per model.
fn table(report: &Report<'_>) -> Table {
    let mut table = Table::new([
        ("", Align::Right),
        ("model", Align::Left),
        ("size", Align::Right),
        ("format", Align::Left),
        ("memory", Align::Right),
        ("max ctx", Align::Right),
        ("tokens/s", Align::Right),
        ("released", Align::Left),
        ("licence", Align::Left),
        ("for", Align::Left),
    ])
    .giving_up(&["licence", "released", "max ctx", "size", "for", "memory"]);
    for (at, ranked) in report.listed().iter().enumerate() {
        let Ranked { entry, plan, .. } = ranked;
        table.row([
            (at + 1).to_string(),
            entry.id.clone(),
            count(entry.parameters.count),
            plan.assignment.scheme.to_uppercase(),
            plan.memory.total().to_string(),
            plan.max_context.to_string(),
            speed(ranked),
            entry.released.month().to_owned(),
            entry.license.clone(),
            tasks(ranked),
        ]);
    }
    table
}

/// The decode rate; of a model that writes nothing the rate at which it reads.
fn speed(ranked: &Ranked<'_>) -> String {
    let Some(speeds) = &ranked.plan.speeds else {
        return "-".to_owned();
    };
    if ranked.entry.writes() {
        range(&speeds.decode.tokens_per_second)
    } else {
        format!("{} read", range(&speeds.prefill.tokens_per_second))
    }
}

/// What it is for, and what speaks against it.
fn tasks(ranked: &Ranked<'_>) -> String {
    let names: Vec<&str> = ranked.entry.tasks.iter().map(|task| task.name()).collect();
    let flaws = [(ranked.is_slow(), "slow"), (ranked.is_coarse(), "coarse")];
    let flaws = flaws.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
    let flaws: Vec<&str> = flaws.collect();
    if flaws.is_empty() {
        names.join(", ")
    } else {
        format!("{}; {}", names.join(", "), listed(&flaws))
    }
}

/// What has no room, with the smallest board that would do.
fn larger(report: &Report<'_>) -> Table {
    let mut table = Table::new([
        ("model", Align::Left),
        ("size", Align::Right),
        ("released", Align::Left),
        ("runs on", Align::Left),
    ]);
    for larger in &report.ranking.too_large {
        let board = larger.board.as_deref();
        table.row([
            larger.entry.id.clone(),
            count(larger.entry.parameters.count),
            larger.entry.released.month().to_owned(),
            board.unwrap_or("none of the boards").to_owned(),
        ]);
    }
    table
}

/// What the table does not say.
fn sentences(report: &Report<'_>) -> Vec<String> {
    [counts(report), notes(report)].concat()
}

/// How many more models there are, and where.
fn counts(report: &Report<'_>) -> Vec<String> {
    let ranking = report.ranking;
    let mut all = Vec::new();
    let more = ranking.runs.len() - report.listed().len();
    if more > 0 {
        let run = if more == 1 { "runs" } else { "run" };
        all.push(format!("{more} more {run} too: --all lists all"));
    }
    let told = [
        (ranking.too_large.len(), "does", "do", "not fit here"),
        (ranking.too_slow.len(), "is", "are", "slower than asked"),
        (
            ranking.too_short.len(),
            "was",
            "were",
            "not trained for so long a context",
        ),
        (
            ranking.no_images.len(),
            "has",
            "have",
            "no image encoder of a known kind",
        ),
    ];
    for (number, one, many, what) in told.into_iter().filter(|(number, ..)| *number > 0) {
        let verb = if number == 1 { one } else { many };
        let way_out = match what {
            "not fit here" if !report.all => ": --all names the smallest board for each",
            _ => "",
        };
        all.push(format!("{number} {verb} {what}{way_out}"));
    }
    all
}

/// How the table is to be read.
fn notes(report: &Report<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if report.ranking.runs.is_empty() {
        return all;
    }
    all.push(format!(
        "memory with {} of context, or the model's limit if that is smaller; `orinplan fit` on the model says more",
        tokens(report.request.workload.context.unwrap_or(CONTEXT)),
    ));
    let listed = report.listed();
    let unconfirmed = listed.iter().filter(|ranked| !ranked.entry.is_confirmed);
    if unconfirmed.count() > 0 {
        all.push(
            "not every licence and date was checked with its publisher: read the model's page before you rely on one"
                .to_owned(),
        );
    }
    let mut legend = format!("ranked: {RULE}");
    if listed.iter().any(|ranked| ranked.is_slow()) {
        legend.push_str("; slow: slower than people read");
    }
    if listed.iter().any(|ranked| ranked.is_coarse()) {
        legend.push_str("; coarse: the format is far from the original");
    }
    if listed.iter().any(|ranked| !ranked.entry.writes()) {
        legend.push_str("; read: tokens of a prompt, since it generates none");
    }
    all.push(legend);
    let towers = listed
        .iter()
        .any(|ranked| ranked.entry.is_for(Task::Vision));
    if towers && !report.request.workload.text_only {
        all.push(
            "the memory of a vision model counts its tower in 16 bit; --text-only leaves it out"
                .to_owned(),
        );
    }
    all
}
