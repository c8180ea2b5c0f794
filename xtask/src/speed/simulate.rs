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

/// A decode or a prompt whose model the fit did not see: the logarithm of its predicted over its measured rate.
#[derive(Clone, Copy)]
struct Row<'a> {
    observation: &'a Observation,
    kind: Kind,
    error: f64,
}

impl<'a> Row<'a> {
    fn model(&self) -> &'a str {
        &self.observation.row.model
    }

    fn mode(&self) -> &'a str {
        &self.observation.row.power_mode
    }

    /// The source, by which rows are named.
    fn source(&self) -> &'a str {
        let id = &self.observation.row.id;
        id.split_once('-').map_or(id, |(source, _)| source)
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

/// How many cases came out better, alike and worse, and all predictions, before and after, by what they are of.
struct Total<K>(BTreeMap<K, ([usize; 3], [Score; 2])>);

impl<K: Ord> Total<K> {
    fn add(&mut self, of: K, before: &Score, after: &Score) {
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
    let mut total = Total(BTreeMap::new());
    for fitted in all {
        for ([runtime, board, mode], rows) in places(fitted, observations, Kind::Decode) {
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
    for (of, total) in total.0 {
        println!("| {of} {}", counted(&total));
    }
}

/// The rest of a line of [`Total`].
fn counted(([better, alike, worse], [before, after]): &([usize; 3], [Score; 2])) -> String {
    format!(
        "| {better} | {alike} | {worse} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.0} % | {:.0} % | {:.0} % | {:.0} % |",
        before.errors.len(),
        before.size(0.5),
        after.size(0.5),
        before.size(0.9),
        after.size(0.9),
        before.covered(),
        after.covered(),
        before.width(),
        after.width(),
    )
}

/// What runs in one power mode would have brought for the other modes of a board: up to three rows of one model in one mode are
/// a user's runs, and rows of the same source in all other modes are predicted, those of other models and of the same one.
pub(crate) fn across_modes(all: &[Fitted], observations: &[Observation]) {
    println!(
        "| what | runtime | board | predicted in other modes | better | alike | worse | predictions | median before | after | 9 in 10 before | after | within the range before | after | half of the range before | after |"
    );
    println!("|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let mut total = Total(BTreeMap::new());
    let kinds = [("decode", Kind::Decode), ("prompt", Kind::Prefill)];
    for (fitted, (name, kind)) in all
        .iter()
        .flat_map(|fitted| kinds.map(|kind| (fitted, kind)))
    {
        let mut sources: BTreeMap<[&str; 3], Vec<Row<'_>>> = BTreeMap::new();
        for ([runtime, board, _], rows) in places(fitted, observations, kind) {
            for row in rows {
                let at = [runtime, board, row.source()];
                sources.entry(at).or_default().push(row);
            }
        }
        for ([runtime, board, _], rows) in sources {
            let (Ok(mut profile), Some(speed)) =
                (runtime::find(runtime), fitted.speeds.get(runtime))
            else {
                continue;
            };
            profile.speed = speed.clone();
            let mut ran: BTreeMap<[&str; 2], Runs> = BTreeMap::new();
            for row in &rows {
                let runs = ran.entry([row.mode(), row.model()]).or_default();
                if runs.run.len() < RUNS {
                    runs.add(run(&profile, row));
                }
            }
            for ([mode, model], runs) in ran {
                let elsewhere = rows.iter().filter(|row| row.mode() != mode).copied();
                let (same, others): (Vec<Row<'_>>, Vec<Row<'_>>) =
                    elsewhere.partition(|row| row.model() == model);
                for (what, asked) in [("the same model", same), ("other models", others)] {
                    let scored = scores(&profile, &runs, &asked);
                    if let Some([before, after]) = scored.filter(|_| !asked.is_empty()) {
                        total.add([name, runtime, board, what], &before, &after);
                        total.add([name, "all", "all", what], &before, &after);
                    }
                }
            }
        }
    }
    for ([name, runtime, board, what], total) in total.0 {
        println!(
            "| {name} | {runtime} | {board} | {what} {}",
            counted(&total)
        );
    }
}

/// The decodes or prompts of one sequence by runtime, board and power mode.
fn places<'a>(
    fitted: &Fitted,
    observations: &'a [Observation],
    kind: Kind,
) -> BTreeMap<[&'a str; 3], Vec<Row<'a>>> {
    let mut places: BTreeMap<[&str; 3], Vec<Row<'_>>> = BTreeMap::new();
    let left = fitted.left.iter();
    for left in left.filter(|left| left.kind == kind) {
        let Some(observation) = observations.get(left.index) else {
            continue;
        };
        let row = &observation.row;
        if row.sequences == 1 {
            let place = [&row.runtime, &row.board, &row.power_mode].map(String::as_str);
            places.entry(place).or_default().push(Row {
                observation,
                kind,
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
    let others: Vec<Row<'_>> = rows.iter().filter(of_other).copied().collect();
    (runs.run.len() == RUNS && !others.is_empty())
        .then(|| scores(profile, &runs, &others))
        .flatten()
}

/// The predictions of `asked` without `runs` and with them.
fn scores(profile: &RuntimeProfile, runs: &Runs, asked: &[Row<'_>]) -> Option<[Score; 2]> {
    let (mut before, mut after) = (Score::default(), Score::default());
    for row in asked {
        let mode = &row.observation.row.power_mode;
        let learned = runs.learned(profile, "", mode)?;
        let correction = match row.kind {
            Kind::Decode => learned.decode?,
            Kind::Prefill | Kind::Requests => learned.prefill?,
        };
        let [longer, below, above] = predicted(profile, row, None);
        before.add(row.error, [below, above]);
        let [refined, below, above] = predicted(profile, row, Some(&correction));
        after.add(row.error - refined + longer, [below, above]);
    }
    Some([before, after])
}

/// The logarithm of the predicted time of a step, or of the factor on that of a prompt, and how far the range of rates reaches
/// below and above the expected one.
fn predicted(profile: &RuntimeProfile, row: &Row<'_>, correction: Option<&Correction>) -> [f64; 3] {
    let Observation {
        row: measured,
        gpu,
        layers,
        operations,
        ..
    } = row.observation;
    if row.kind == Kind::Prefill {
        let range = &profile.speed.prefill.scale;
        let side = |ratio: f64| match correction {
            Some(correction) => correction.side(row.model(), None, ratio.ln()),
            None => ratio.ln(),
        };
        let whole = correction.map_or(1.0, |correction| correction.whole(row.model()));
        let below = side(range.high / range.expected);
        return [whole.ln(), below, side(range.expected / range.low)];
    }
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
    let pair = |kind| {
        (row.kind == kind).then_some(Pair {
            predicted: row.error.exp(),
            measured: 1.0,
        })
    };
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
        decode: pair(Kind::Decode),
        runtime: profile.id.clone(),
        date: String::new(),
        version: String::new(),
        engine: String::new(),
        device: String::new(),
        power_mode: of.power_mode.clone(),
        disturbed: Vec::new(),
        prefill: pair(Kind::Prefill),
        memory: None,
    }
}
