//! The errors of rows whose model the fit did not see, as Markdown.

use std::collections::BTreeMap;

use orinplan::evidence::{Grade, Measurement};

use super::data::Observation;
use super::fit::{Fitted, Kind, is_inside, quantile};
use super::write::percent;

/// One line per runtime, board and grade; then those of one source that ran the same models in every
/// power mode of the Orin Nano.
pub(crate) fn errors(all: &[Fitted], observations: &[Observation]) {
    let group =
        |row: &Measurement, _| Some(format!("{} | {} | {:?}", row.runtime, row.board, row.grade));
    table("runtime | board | grade", all, observations, group);
    println!();
    let mode = |row: &Measurement, _| {
        let ladder = row.grade == Grade::A && row.source.contains("SmolHub");
        ladder.then(|| row.power_mode.clone())
    };
    table("power mode", all, observations, mode);
    println!();
    table("runtime | length", all, observations, lengths);
}

/// The runtime, and how deep its decode, how long its prompt or how large its batch.
fn lengths(row: &Measurement, kind: Kind) -> Option<String> {
    let length = match kind {
        Kind::Decode | Kind::Requests if row.sequences > 1 => format!("batch of {}", row.sequences),
        Kind::Requests => "one at a time".to_owned(),
        Kind::Decode => match row.depth.or(row.prompt_tokens) {
            None => "depth not stated".to_owned(),
            Some(..=1024) => "depth to 1 k".to_owned(),
            Some(..=4096) => "depth to 4 k".to_owned(),
            Some(_) => "depth above 4 k".to_owned(),
        },
        Kind::Prefill => match row.prompt_tokens.unwrap_or_default() {
            ..=31 => "prompt below 32".to_owned(),
            32..=256 => "prompt to 256".to_owned(),
            257..=1024 => "prompt to 1 k".to_owned(),
            _ => "prompt above 1 k".to_owned(),
        },
    };
    Some(format!("{} | {length}", row.runtime))
}

/// How far a row is off that the fit saw, whose model it did not see and whose board it did not see, in percent, and
/// whether its range holds it.
type Sizes = (f64, f64, Option<f64>, bool);

/// One line per group of rows that `group` names, its cells divided by bars.
fn table(
    names: &str,
    all: &[Fitted],
    observations: &[Observation],
    group: impl Fn(&Measurement, Kind) -> Option<String>,
) {
    println!(
        "| {names} | what | rows | seen | model left out, median | 9 in 10 | board left out, median | 9 in 10 | within the range |"
    );
    println!(
        "|{}---|---:|---:|---:|---:|---:|---:|---:|",
        "---|".repeat(names.split('|').count())
    );
    let mut groups: BTreeMap<(String, Kind), Vec<Sizes>> = BTreeMap::new();
    for fitted in all {
        for left in &fitted.left {
            let Some(observation) = observations.get(left.index) else {
                continue;
            };
            let row = &observation.row;
            let (Some(speed), Some(name)) = (
                fitted.speeds.get(row.runtime.as_str()),
                group(row, left.kind),
            ) else {
                continue;
            };
            let inside = is_inside(left, observation, speed);
            let sizes = (
                percent(left.seen).abs(),
                percent(left.left_out).abs(),
                left.board_out.map(|error| percent(error).abs()),
                inside,
            );
            groups.entry((name, left.kind)).or_default().push(sizes);
        }
    }
    for ((name, kind), rows) in groups {
        let of = |pick: fn(&Sizes) -> f64, share| {
            quantile(&rows.iter().map(pick).collect::<Vec<_>>(), share)
        };
        let inside = rows.iter().filter(|row| row.3).count();
        let boards: Vec<f64> = rows.iter().filter_map(|row| row.2).collect();
        let of_boards = |share| {
            if boards.is_empty() {
                "-".to_owned()
            } else {
                format!("{:.1} %", quantile(&boards, share))
            }
        };
        println!(
            "| {name} | {} | {} | {:.1} % | {:.1} % | {:.1} % | {} | {} | {inside} of {} |",
            match kind {
                Kind::Decode => "decode",
                Kind::Prefill => "prompt",
                Kind::Requests => "requests",
            },
            rows.len(),
            of(|row| row.0, 0.5),
            of(|row| row.1, 0.5),
            of(|row| row.1, 0.9),
            of_boards(0.5),
            of_boards(0.9),
            rows.len(),
        );
    }
}
