//! What three runs on a board would have brought: the published rows of one model there stand in for a user's runs, and
//! the other models of the same runtime, board and power mode for what is predicted next. All predictions are those of
//! fits that saw neither; what is learned, and what it changes, is what the program learns and changes.

use std::collections::BTreeMap;

use orinplan::plan::speed;
use orinplan::runtime::learned::{Added, Correction, Pair, Run, Runs, Setup};
use orinplan::runtime::{self, RuntimeProfile};

use super::data::Observation;
use super::fit::{Fitted, Kind, of_row, quantile};
use super::learning;
use super::write::percent;

/// So many rows of one model are a user's runs.
const RUNS: usize = 3;

/// A decode whose model the fit did not see: the logarithm of its predicted over its measured rate.
#[derive(Clone, Copy)]
struct Row<'a> {
    observation: &'a Observation,
    error: f64,
}

impl Row<'_> {
    fn model(&self) -> &str {
        &self.observation.row.model
    }
}

/// The errors of predictions, and the ranges around them.
#[derive(Default)]
struct Score {
    errors: Vec<f64>,
    /// The widths of the ranges, in logarithms.
    widths: Vec<f64>,
    inside: usize,
}

impl Score {
    fn add(&mut self, error: f64, [below, above]: [f64; 2]) {
        self.errors.push(error);
        self.widths.push(below + above);
        // The measured rate lies below the predicted one by the error.
        self.inside += usize::from((-above..=below).contains(&error));
    }

    fn extend(&mut self, other: &Score) {
        self.errors.extend(&other.errors);
        self.widths.extend(&other.widths);
        self.inside += other.inside;
    }

    fn size(&self, share: f64) -> f64 {
        let sizes: Vec<f64> = self.errors.iter().map(|one| percent(*one).abs()).collect();
        quantile(&sizes, share)
    }

    fn covered(&self) -> f64 {
        100.0 * self.inside as f64 / self.errors.len().max(1) as f64
    }

    fn width(&self) -> f64 {
        percent(quantile(&self.widths, 0.5) / 2.0)
    }
}

/// Of the models with most rows, and of all that have enough.
const MOST: &str = "the model with most rows, as above";
const EVERY: &str = "every model with three rows, in turn";

/// Medians less than so many points apart are alike.
const ALIKE: f64 = 0.25;

/// How many cases came out better, alike and worse, and all predictions, before and after.
#[derive(Default)]
struct Total(BTreeMap<&'static str, ([usize; 3], [Score; 2])>);

impl Total {
    fn add(&mut self, of: &'static str, before: &Score, after: &Score) {
        let (counts, [all_before, all_after]) = self.0.entry(of).or_default();
        let [better, alike, worse] = counts;
        match after.size(0.5) - before.size(0.5) {
            change if change < -ALIKE => *better += 1,
            change if change > ALIKE => *worse += 1,
            _ => *alike += 1,
        }
        all_before.extend(before);
        all_after.extend(after);
    }
}

/// One line per runtime, board and mode with enough rows, the runs being those of the model with most; then all models that
/// have enough, in turn.
pub(crate) fn table(all: &[Fitted], observations: &[Observation]) {
    println!(
        "| runtime | board | power mode | runs of | other rows | median before | after | 9 in 10 before | after | within the range before | after | half of the range before | after |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut total = Total::default();
    for fitted in all {
        for ([runtime, board, mode], rows) in places(fitted, observations) {
            let Ok(mut profile) = runtime::find(runtime) else {
                continue;
            };
            let Some(speed) = fitted.speeds.get(runtime) else {
                continue;
            };
            profile.speed = speed.clone();
            let mut models: Vec<&str> = rows.iter().map(Row::model).collect();
            models.sort_unstable();
            models.dedup();
            let count = |model: &str| rows.iter().filter(|row| row.model() == model).count();
            let scored = models.into_iter().filter_map(|model| {
                let scores = after_runs(&profile, &rows, model)?;
                Some((model, scores))
            });
            let scored: Vec<(&str, [Score; 2])> = scored.collect();
            let most = scored.iter().map(|(model, _)| *model);
            let most = most.max_by_key(|model| count(model));
            for (model, [before, after]) in scored {
                if Some(model) == most {
                    println!(
                        "| {runtime} | {board} | {mode} | {model} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {} | {} | {:.0} % | {:.0} % |",
                        before.errors.len(),
                        before.size(0.5),
                        after.size(0.5),
                        before.size(0.9),
                        after.size(0.9),
                        before.inside,
                        after.inside,
                        before.width(),
                        after.width(),
                    );
                    total.add(MOST, &before, &after);
                }
                total.add(EVERY, &before, &after);
            }
        }
    }
    println!();
    println!(
        "| runs of | better | alike | worse | predictions | median before | after | 9 in 10 before | after | within the range before | after | half of the range before | after |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    for (of, ([better, alike, worse], [before, after])) in total.0 {
        println!(
            "| {of} | {better} | {alike} | {worse} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.0} % | {:.0} % | {:.0} % | {:.0} % |",
            before.errors.len(),
            before.size(0.5),
            after.size(0.5),
            before.size(0.9),
            after.size(0.9),
            before.covered(),
            after.covered(),
            before.width(),
            after.width(),
        );
    }
}

/// The decodes of one sequence by runtime, board and power mode.
fn places<'a>(
    fitted: &Fitted,
    observations: &'a [Observation],
) -> BTreeMap<[&'a str; 3], Vec<Row<'a>>> {
    let mut places: BTreeMap<[&str; 3], Vec<Row<'_>>> = BTreeMap::new();
    let left = fitted.left.iter();
    for left in left.filter(|left| left.kind == Kind::Decode) {
        let Some(observation) = observations.get(left.index) else {
            continue;
        };
        let row = &observation.row;
        if row.sequences == 1 {
            let place = [&row.runtime, &row.board, &row.power_mode].map(String::as_str);
            places.entry(place).or_default().push(Row {
                observation,
                error: left.left_out,
            });
        }
    }
    places
}

/// The predictions for the rows of other models, before and after three runs of `model`; `None` where it has fewer, or no
/// other model has a row.
fn after_runs(profile: &RuntimeProfile, rows: &[Row<'_>], model: &str) -> Option<[Score; 2]> {
    let mut runs = Runs::default();
    for row in rows.iter().filter(|row| row.model() == model) {
        if runs.run.len() < RUNS {
            let kept = runs.add(run(profile, row));
            debug_assert_eq!(kept, Added::Kept);
        }
    }
    let of_other = |row: &&Row<'_>| row.model() != model;
    if runs.run.len() < RUNS || !rows.iter().any(|row| of_other(&row)) {
        return None;
    }
    let correction = runs.learned(profile, "", "")?.decode?;
    let (mut before, mut after) = (Score::default(), Score::default());
    for row in rows.iter().filter(of_other) {
        let [longer, below, above] = predicted(profile, row, None);
        before.add(row.error, [below, above]);
        let [refined, below, above] = predicted(profile, row, Some(&correction));
        after.add(row.error - refined + longer, [below, above]);
    }
    Some([before, after])
}

/// The logarithm of the predicted time of a step, and how far the range of rates reaches below and above the expected one.
fn predicted(profile: &RuntimeProfile, row: &Row<'_>, correction: Option<&Correction>) -> [f64; 3] {
    let Observation {
        row: measured,
        gpu,
        layers,
        operations,
        ..
    } = row.observation;
    let mut speed = of_row(&row.observation.row, &profile.speed);
    if let Some(correction) = correction {
        speed = correction.decoding(&speed, row.model());
    }
    let sequences = measured.sequences;
    let seconds = speed::step_seconds(operations, *layers, sequences, gpu, &speed);
    let estimate = speed::decode(operations, *layers, sequences, gpu, &speed);
    let range = estimate.tokens_per_second;
    let side = |ratio: f64| match correction {
        Some(correction) => correction.side(row.model(), estimate.shares, ratio.ln()),
        None => ratio.ln(),
    };
    let below = side(range.expected / range.low);
    let above = side(range.high / range.expected);
    [seconds.ln(), below, above]
}

/// The row as `validate --save-calibration` would keep it.
fn run(profile: &RuntimeProfile, row: &Row<'_>) -> Run {
    let of = &row.observation.row;
    let depth = of.depth.or(of.prompt_tokens).unwrap_or_default();
    Run {
        model: of.model.clone(),
        scheme: of.format.clone(),
        synthetic: false,
        setup: Some(Setup {
            prompt_tokens: depth,
            generated_tokens: of.generated_tokens.unwrap_or_default(),
            sequences: of.sequences,
        }),
        shares: learning::shares(row.observation, &profile.speed),
        decode: Some(Pair {
            predicted: row.error.exp(),
            measured: 1.0,
        }),
        runtime: profile.id.clone(),
        date: String::new(),
        version: String::new(),
        engine: String::new(),
        device: String::new(),
        power_mode: String::new(),
        disturbed: Vec::new(),
        prefill: None,
        memory: None,
    }
}
