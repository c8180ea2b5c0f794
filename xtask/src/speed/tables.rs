//! The errors of rows whose model the fit did not see, as Markdown.

use std::collections::BTreeMap;

use orinplan::evidence::Grade;

use super::data::Observation;
use super::fit::{Fitted, Kind, quantile};
use super::write::percent;

/// Runtime, board, grade and kind.
type Group = (String, String, Grade, Kind);

/// One line per runtime, board and grade.
pub(crate) fn errors(all: &[Fitted], observations: &[Observation]) {
    println!(
        "| runtime | board | grade | what | rows | seen | left out, median | left out, 9 in 10 | within the range |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|");
    let mut groups: BTreeMap<Group, Vec<(f64, f64, bool)>> = BTreeMap::new();
    for fitted in all {
        for left in &fitted.left {
            let Some(Observation { row, .. }) = observations.get(left.index) else {
                continue;
            };
            let Some(speed) = fitted.speeds.get(row.runtime.as_str()) else {
                continue;
            };
            let range = match left.kind {
                Kind::Decode => &speed.spread,
                Kind::Prefill => &speed.prefill.scale,
            };
            let inside = (range.low.ln()..=range.high.ln()).contains(&left.left_out);
            let key = (row.runtime.clone(), row.board.clone(), row.grade, left.kind);
            let sizes = (
                percent(left.seen).abs(),
                percent(left.left_out).abs(),
                inside,
            );
            groups.entry(key).or_default().push(sizes);
        }
    }
    for ((runtime, board, grade, kind), rows) in groups {
        let of = |pick: fn(&(f64, f64, bool)) -> f64, share| {
            quantile(&rows.iter().map(pick).collect::<Vec<_>>(), share)
        };
        let inside = rows.iter().filter(|row| row.2).count();
        println!(
            "| {runtime} | {board} | {grade:?} | {} | {} | {:.1} % | {:.1} % | {:.1} % | {} of {} |",
            match kind {
                Kind::Decode => "decode",
                Kind::Prefill => "prompt",
            },
            rows.len(),
            of(|row| row.0, 0.5),
            of(|row| row.1, 0.5),
            of(|row| row.1, 0.9),
            inside,
            rows.len(),
        );
    }
}
