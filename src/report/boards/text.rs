//! A model on several boards for people.

use super::{Report, advice, lines};
use std::ops::Range;

use crate::evidence::boards::Link;
use crate::foreign::{fenced, markdown as plain, markdown_sentence};
use crate::plan::Plan;
use crate::plan::boards::{ServerPlace, Split, Stage};
use crate::planner::OneBoard;
use crate::report::first_screen::{self, ALTERNATIVES, ROWS, Room, more_text};
use crate::report::fit::{View, around, range, refusal_text};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
#[cfg(feature = "pages")]
use crate::report::words::Words;
use crate::report::{count, line, listed, rate, seconds};
use crate::sourced::Trust;
use crate::units::tokens;

/// The report for a terminal: the verdict, the boards, the formats around the one to take, what each board does, the lines
/// to paste, what to know.
pub fn text(report: &Report<'_>, view: View) -> String {
    let count = report.rows().count();
    let alternatives = if view.formats { count } else { ALTERNATIVES };
    let rows = match view.room(alternatives) {
        Room::ALL => usize::MAX,
        _ => ROWS + alternatives.saturating_sub(ALTERNATIVES),
    };
    first_screen::fitted(view.room(alternatives), rows, |room| {
        screen(report, view, room)
    })
}

/// The report in that room.
fn screen(report: &Report<'_>, view: View, room: Room) -> Screen {
    let mut out = Screen::new(view.columns);
    for sentence in head(report) {
        out.prose(&sentence);
    }
    let count = report.rows().count();
    let shown = if view.formats {
        0..count
    } else {
        around(report.shown_index(), count, room.rows)
    };
    out.blank();
    out.table(&formats(report, shown.clone()), " ");
    let legend = largest_context(report);
    if let Some(said) = legend.as_ref().filter(|_| room.legend) {
        out.sentence(said, room.whole);
    }
    let mut boards_left_out = 0;
    if let Some((_, split, _)) = report.shown() {
        let listed = listed_boards(split, room.boards);
        boards_left_out = split.stages.len() - listed.len();
        out.blank();
        out.table(&boards(report, split, &listed), " ");
    }
    let advice = advice::texts(report);
    let is_needed = report.cluster.choice.taken.is_none();
    let most = room.advice.max(usize::from(is_needed));
    let changes = advice.len().saturating_sub(most);
    if advice.len() > changes {
        out.push_str("\nWhat to change, least loss first:\n");
    }
    for (index, advice) in advice.iter().take(most).enumerate() {
        out.prose(&format!("  {}. {advice}", index + 1));
    }
    let blocks = lines::blocks(report);
    if !blocks.is_empty() {
        out.blank();
    }
    for block in blocks {
        out.prose(&format!("{}:", block.title));
        for command in &block.lines {
            out.line(format_args!("  {command}"));
        }
    }
    let notes = notes(report);
    if room.gaps {
        out.blank();
    }
    for note in notes.iter().take(room.notes) {
        out.sentence(&format!("note: {note}"), view.all);
    }
    let facts = usize::from(legend.is_some() && !room.legend);
    let more = [
        (count - shown.len(), "format", "formats"),
        (boards_left_out, "board", "boards"),
        (changes, "change", "changes"),
        (facts, "fact", "facts"),
        (notes.len().saturating_sub(room.notes), "note", "notes"),
    ];
    // There is no `--explain` for several boards.
    if let Some(more) = more_text(&more, false) {
        out.prose(&more);
    }
    out
}

/// The places of the boards to list: all, or the fullest ones.
fn listed_boards(split: &Split, most: usize) -> Vec<usize> {
    let share = |stage: &Stage| stage.memory.total().as_f64() / stage.available.as_f64().max(1.0);
    let stages = split.stages.iter().map(share).enumerate();
    let mut places: Vec<(usize, f64)> = stages.collect();
    places.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut listed: Vec<usize> = places.into_iter().take(most).map(|(at, _)| at).collect();
    listed.sort_unstable();
    listed
}

/// The report as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "## {} on {} boards\n",
            plain(&report.planner.model().name),
            report.cluster.boards.len()
        ),
    );
    for sentence in head(report) {
        line(
            &mut out,
            format_args!("{}.\n", markdown_sentence(&sentence)),
        );
    }
    out.push_str(&formats(report, 0..report.rows().count()).markdown());
    if let Some(said) = largest_context(report) {
        line(&mut out, format_args!("\n{}.", markdown_sentence(&said)));
    }
    if let Some((_, split, _)) = report.shown() {
        out.push('\n');
        let listed = listed_boards(split, usize::MAX);
        out.push_str(&boards(report, split, &listed).markdown());
    }
    let advice = advice::texts(report);
    if !advice.is_empty() {
        out.push_str("\nWhat to change, least loss first:\n\n");
        for advice in advice {
            line(&mut out, format_args!("1. {}", markdown_sentence(&advice)));
        }
    }
    for block in lines::blocks(report) {
        line(
            &mut out,
            format_args!(
                "\n{}:\n\n{}",
                markdown_sentence(&block.title),
                fenced("sh", &block.lines.join("\n"))
            ),
        );
    }
    for sentence in notes(report) {
        line(
            &mut out,
            format_args!("\n{}.", markdown_sentence(&sentence)),
        );
    }
    out
}

/// The sentences of `report`, for the forms that are not text.
#[cfg(feature = "pages")]
pub(in crate::report) fn words(report: &Report<'_>) -> Words {
    let blocks = lines::blocks(report).into_iter();
    Words {
        verdict: verdict(report),
        facts: head(report).split_off(1),
        advice: advice::texts(report),
        commands: blocks.map(|block| (block.title, block.lines)).collect(),
        notes: largest_context(report)
            .into_iter()
            .chain(notes(report))
            .collect(),
    }
}

/// The verdict, the model, the boards.
fn head(report: &Report<'_>) -> Vec<String> {
    let model = report.planner.model();
    let link = &report.asked.link;
    let runtime = &report.cluster.alone.board.runtime.name;
    // The table names the board that it runs on otherwise.
    let beside = match report.asked.server {
        ServerPlace::Apart => ", its server beside the boards",
        ServerPlace::First | ServerPlace::Last => "",
    };
    vec![
        verdict(report),
        format!(
            "{} ({}, {} parameters) with {runtime} over RPC{beside}",
            model.name,
            model.architecture,
            count(model.parameters),
        ),
        format!("{}; {}", report.boards(), link_text(link)),
    ]
}

/// The link with its numbers, which are the name of one that the user measured.
fn link_text(link: &Link) -> String {
    let numbers = format!(
        "{:.0} MB/s, {} round trip",
        link.rate.0 / 1e6,
        seconds(link.round_trip.0)
    );
    if link.name.contains(',') {
        format!("a link of {numbers}")
    } else {
        format!("{} ({numbers})", link.name)
    }
}

fn verdict(report: &Report<'_>) -> String {
    let boards = report.cluster.boards.len();
    let Some((plan, split, best)) = report.shown() else {
        return format!("DOES NOT FIT {boards} boards: no format can be planned");
    };
    let scheme = plan.assignment.scheme.to_uppercase();
    let context = tokens(report.cluster.alone.workload.context);
    if report.cluster.choice.taken.is_none() {
        let short: Vec<String> = split
            .stages
            .iter()
            .enumerate()
            .filter(|(_, stage)| !stage.fits)
            .map(|(index, stage)| match &stage.refusal {
                Some(note) => format!("on board {} {}", index + 1, refusal_text(note)),
                None => format!("board {} is {} short", index + 1, stage.missing()),
            })
            .collect();
        let short = if short.is_empty() {
            "no format is fast enough".to_owned()
        } else {
            format!("{scheme} comes closest, but {}", listed(&short))
        };
        return format!("DOES NOT FIT {boards} boards with {context} of context: {short}");
    }
    let speed = split.rates.map_or(String::new(), |rates| {
        format!(
            ", {} tokens/s ({})",
            rate(rates.decode.expected),
            range(&rates.decode)
        )
    });
    let alone = alone(best);
    format!("FITS {boards} boards with {context} of context: {scheme}{speed}; {alone}")
}

/// Whether one of the boards would do.
fn alone(OneBoard { board, plan }: &OneBoard) -> String {
    let name = format!("board {}", board + 1);
    if plan.fits() {
        let rate = plan.rate().map_or(String::new(), |alone| {
            format!(" at {} tokens/s", rate(alone))
        });
        return format!("it also fits {name} alone{rate}");
    }
    let why = match plan.refusal() {
        Some(note) => refusal_text(note),
        None => format!("{} of {}", plan.memory.total(), plan.available),
    };
    format!("it does not fit one board alone ({name}: {why})")
}

/// A line for each format.
fn formats(report: &Report<'_>, shown: Range<usize>) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("format", Align::Left),
        ("file", Align::Right),
        ("blocks", Align::Left),
        ("fullest board", Align::Right),
        ("max ctx", Align::Right),
        ("tokens/s", Align::Right),
        ("first token", Align::Right),
        ("first load", Align::Right),
    ])
    .giving_up(&["first load", "file", "first token", "blocks"]);
    let rows = report.rows().enumerate();
    for (index, (plan, split, _)) in rows.skip(shown.start).take(shown.len()) {
        let blocks = split
            .stages
            .iter()
            .map(|stage| stage.layers.len().to_string());
        let fullest = split.stages.iter().map(|stage| {
            let (needs, has) = (stage.memory.total(), stage.available);
            (needs.as_f64() / has.as_f64().max(1.0), needs)
        });
        let fullest = fullest.max_by(|a, b| a.0.total_cmp(&b.0));
        table.row([
            match split.fits() {
                _ if report.cluster.choice.taken == Some(index) => "*",
                true => "",
                false => "NO",
            }
            .to_owned(),
            plan.assignment.scheme.to_uppercase(),
            plan.file_bytes.to_string(),
            blocks.collect::<Vec<_>>().join("/"),
            fullest.map_or("-".to_owned(), |(_, bytes)| bytes.to_string()),
            match split.max_context {
                0 => "-".to_owned(),
                context => context.to_string(),
            },
            split
                .rates
                .map_or("-".to_owned(), |rates| range(&rates.decode)),
            split
                .rates
                .map_or("-".to_owned(), |rates| seconds(rates.first_token.expected)),
            seconds(split.first_load.0),
        ]);
    }
    table
}

/// A line for each of the boards at these places.
fn boards(report: &Report<'_>, split: &Split, listed: &[usize]) -> Table {
    let scheme = report.shown().map(|(plan, ..)| &plan.assignment.scheme);
    let heading = scheme.map_or_else(
        || "board".to_owned(),
        |scheme| format!("{} by board", scheme.to_uppercase()),
    );
    let mut table = Table::new([
        (heading.as_str(), Align::Left),
        ("blocks", Align::Left),
        ("weights", Align::Right),
        ("cache", Align::Right),
        ("compute", Align::Right),
        ("runtime", Align::Right),
        ("memory", Align::Right),
        ("of", Align::Right),
        ("a step", Align::Right),
        ("on the wire", Align::Right),
    ])
    .giving_up(&[
        "runtime",
        "compute",
        "cache",
        "weights",
        "on the wire",
        "a step",
    ]);
    let names = report
        .cluster
        .boards
        .iter()
        .map(|board| board.device.id.as_str());
    let stages = split.stages.iter().zip(names).enumerate();
    for (index, (stage, name)) in stages.filter(|(index, _)| listed.contains(index)) {
        let memory = &stage.memory;
        let server = if stage.is_server { ", server" } else { "" };
        table.row([
            format!("{} {name}{server}", index + 1),
            blocks(stage, split),
            (memory.weights + memory.duplicated_embedding).to_string(),
            (memory.kv_cache + memory.recurrent_state).to_string(),
            (memory.compute + memory.output + memory.image_encoder).to_string(),
            memory.runtime.total().to_string(),
            memory.total().to_string(),
            stage.available.to_string(),
            stage
                .seconds
                .map_or("-".to_owned(), |s| seconds(s.step.expected)),
            stage
                .remote
                .map_or("-".to_owned(), |remote| remote.step.total().to_string()),
        ]);
    }
    if let Some(memory) = &split.apart {
        let mut cells: [String; 10] = Default::default();
        cells[0] = "server".to_owned();
        cells[2] = memory.weights.to_string();
        cells[4] = (memory.compute + memory.output).to_string();
        cells[5] = memory.runtime.total().to_string();
        cells[6] = memory.total().to_string();
        table.row(cells);
    }
    table
}

/// `0-23`, and `24-47, head` for the last board.
fn blocks(stage: &Stage, split: &Split) -> String {
    let last = split.stages.last().map(|stage| stage.layers.end);
    let head = if last == Some(stage.layers.end) {
        ", head"
    } else {
        ""
    };
    format!(
        "{}-{}{head}",
        stage.layers.start,
        stage.layers.end.saturating_sub(1)
    )
}

fn notes(report: &Report<'_>) -> Vec<String> {
    let mut all = Vec::new();
    if report.cluster.choice.taken.is_some() {
        all.extend(lines::notes(report));
    }
    if let Some((plan, split, _)) = report.shown() {
        all.extend(in_flight(report, split));
        all.extend(wire(report, split));
        all.extend(evidence(report, plan));
    }
    if report.asked.link.trust < Trust::Measured {
        let name = &report.asked.link.name;
        all.push(format!(
            "no boards were measured over {name}: its nominal rate is assumed; --link RATE,LATENCY sets yours"
        ));
    }
    all
}

/// What moves, and how long.
fn wire(report: &Report<'_>, split: &Split) -> Option<String> {
    let rates = split.rates?;
    let step = split.step_traffic();
    let link = report.asked.link.seconds(step);
    Some(format!(
        "on the wire: {step} a step ({}), all boards together; with round trips and handling {} to {} of a step of {}; weights once, {} in {}; with -c on each board, tensors above 10 MiB are not sent again",
        seconds(link),
        seconds(rates.overhead.low),
        seconds(rates.overhead.high),
        seconds(rates.step.expected),
        split.load_bytes(),
        seconds(split.first_load.0),
    ))
}

/// For which division the largest context holds, where another may have more.
fn largest_context(report: &Report<'_>) -> Option<String> {
    let (_, split, _) = report.shown()?;
    let model = report.planner.model().dims.context;
    let limit = model.saturating_mul(report.cluster.alone.workload.parallel.max(1));
    let is_planned = report.asked.layers.is_none() && split.fits();
    (is_planned && (1..limit).contains(&split.max_context)).then(|| {
        "max ctx: with these blocks; a longer --context is divided anew and may fit".to_owned()
    })
}

/// What several sequences bring.
fn in_flight(report: &Report<'_>, split: &Split) -> Option<String> {
    let rates = split.rates?;
    let sequences = report.cluster.alone.workload.parallel;
    if sequences < 2 {
        return Some(
            "boards take turns, so a second one adds memory but no speed; --parallel N plans several sequences"
                .to_owned(),
        );
    }
    Some(format!(
        "llama.cpp decodes {sequences} sequences as one batch, and boards take turns: {} tokens/s; a pipeline that keeps every board busy would reach {} (published for such a pipeline, not for llama.cpp)",
        rate(rates.decode.expected),
        rate(rates.all_busy),
    ))
}

/// What the rates rest on.
fn evidence(report: &Report<'_>, plan: &Plan) -> Option<String> {
    plan.speeds.as_ref()?;
    let row = report.nearest()?;
    let between = row
        .inter_token_ms
        .map_or(String::new(), |ms| format!(", {ms:.0} ms between tokens"));
    let in_flight = match row.sequences {
        1 => String::new(),
        n => format!(" with {n} sequences in flight"),
    };
    Some(format!(
        "no run of llama.cpp's RPC with layers split over Orin boards is published: each board's time is planned for its blocks alone, the rest was measured on a pipeline of the same kernels; nearest: {} {} on {} x {} in {} ({} blocks), {}, {} tokens/s{in_flight}{between}",
        row.model,
        row.format.to_uppercase(),
        row.boards,
        row.board,
        row.power_mode,
        row.layers,
        row.engine,
        row.tokens_per_second,
    ))
}
