//! The errors of rows whose model the fit did not see, as Markdown.

use std::collections::BTreeMap;

use orinplan::evidence::{Grade, Measurement};

use super::data::Observation;
use super::fit::{Fitted, Kind, quantile};
use super::write::percent;

/// One line per runtime, board and grade; then those of one source that ran the same models in every
/// power mode of the Orin Nano.
pub(crate) fn errors(all: &[Fitted], observations: &[Observation]) {
    let group =
        |row: &Measurement| Some(format!("{} | {} | {:?}", row.runtime, row.board, row.grade));
    table("runtime | board | grade", all, observations, group);
    println!();
    let mode = |row: &Measurement| {
        let ladder = row.grade == Grade::A && row.source.contains("SmolHub");
        ladder.then(|| row.power_mode.clone())
    };
    table("power mode", all, observations, mode);
}

/// How far a row is off that the fit saw and that it did not, in percent, and whether its range holds it.
type Sizes = (f64, f64, bool);

/// One line per group of rows that `group` names, its cells divided by bars.
fn table(
    names: &str,
    all: &[Fitted],
    observations: &[Observation],
    group: impl Fn(&Measurement) -> Option<String>,
) {
    println!(
        "| {names} | what | rows | seen | left out, median | left out, 9 in 10 | within the range |"
    );
    println!(
        "|{}---|---:|---:|---:|---:|---:|",
        "---|".repeat(names.split('|').count())
    );
    let mut groups: BTreeMap<(String, Kind), Vec<Sizes>> = BTreeMap::new();
    for fitted in all {
        for left in &fitted.left {
            let Some(Observation { row, .. }) = observations.get(left.index) else {
                continue;
            };
            let (Some(speed), Some(name)) = (fitted.speeds.get(row.runtime.as_str()), group(row))
            else {
                continue;
            };
            let range = match left.kind {
                Kind::Decode => &speed.spread,
                Kind::Prefill => &speed.prefill.scale,
            };
            let inside = (range.low.ln()..=range.high.ln()).contains(&left.left_out);
            let sizes = (
                percent(left.seen).abs(),
                percent(left.left_out).abs(),
                inside,
            );
            groups.entry((name, left.kind)).or_default().push(sizes);
        }
    }
    for ((name, kind), rows) in groups {
        let of = |pick: fn(&Sizes) -> f64, share| {
            quantile(&rows.iter().map(pick).collect::<Vec<_>>(), share)
        };
        let inside = rows.iter().filter(|row| row.2).count();
        println!(
            "| {name} | {} | {} | {:.1} % | {:.1} % | {:.1} % | {inside} of {} |",
            match kind {
                Kind::Decode => "decode",
                Kind::Prefill => "prompt",
            },
            rows.len(),
            of(|row| row.0, 0.5),
            of(|row| row.1, 0.5),
            of(|row| row.1, 0.9),
            rows.len(),
        );
    }
}
