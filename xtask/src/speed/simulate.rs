//! What three runs on a board would have brought: the published rows of one model there stand in for a user's runs, and
//! the other models of the same runtime, board and power mode for what is predicted next. All predictions are those of
//! fits that saw neither.

use std::collections::BTreeMap;

use orinplan::runtime::learned::{Pair, Run, Runs};

use super::data::Observation;
use super::fit::{Fitted, Kind, quantile};
use super::write::percent;

/// So many rows of one model are a user's runs.
const RUNS: usize = 3;

/// A runtime, a board and its power mode.
type Place<'a> = (&'a str, &'a str, &'a str);

/// One line per runtime, board and mode with enough rows: the errors of the other models before and after.
pub(crate) fn table(all: &[Fitted], observations: &[Observation]) {
    println!(
        "| runtime | board | power mode | runs of | other rows | median before | after | 9 in 10 before | after |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|");
    let mut groups: BTreeMap<Place<'_>, Vec<(&str, f64)>> = BTreeMap::new();
    let left = all.iter().flat_map(|fitted| &fitted.left);
    for left in left.filter(|left| left.kind == Kind::Decode) {
        let Some(Observation { row, .. }) = observations.get(left.index) else {
            continue;
        };
        if row.sequences == 1 {
            groups
                .entry((&row.runtime, &row.board, &row.power_mode))
                .or_default()
                .push((&row.model, left.left_out));
        }
    }
    for ((runtime, board, mode), rows) in groups {
        let mut models: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for &(model, error) in &rows {
            models.entry(model).or_default().push(error);
        }
        let most = models.iter().max_by_key(|(_, errors)| errors.len());
        let Some((model, runs)) = most.filter(|(_, errors)| errors.len() >= RUNS) else {
            continue;
        };
        let others = rows.iter().filter(|(other, _)| other != model);
        let before: Vec<f64> = others.map(|(_, error)| *error).collect();
        let Some(factor) = learned(runs) else {
            continue;
        };
        if before.is_empty() {
            continue;
        }
        let after: Vec<f64> = before.iter().map(|error| error + factor).collect();
        let of = |errors: &[f64], share| {
            let sizes: Vec<f64> = errors.iter().map(|error| percent(*error).abs()).collect();
            quantile(&sizes, share)
        };
        println!(
            "| {runtime} | {board} | {mode} | {model} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
            before.len(),
            of(&before, 0.5),
            of(&after, 0.5),
            of(&before, 0.9),
            of(&after, 0.9),
        );
    }
}

/// The logarithm of the factor that the program learns from runs whose predictions are off by these logarithms.
fn learned(errors: &[f64]) -> Option<f64> {
    let mut runs = Runs::default();
    for (index, error) in errors.iter().take(RUNS).enumerate() {
        runs.add(Run {
            model: index.to_string(),
            decode: Some(Pair {
                predicted: error.exp(),
                measured: 1.0,
            }),
            date: String::new(),
            version: String::new(),
            runtime: String::new(),
            engine: String::new(),
            device: String::new(),
            power_mode: String::new(),
            scheme: String::new(),
            disturbed: Vec::new(),
            prefill: None,
            memory: None,
        });
    }
    Some(runs.learned("", "", "")?.decode?.value.ln())
}
