//! Fits what each rail of a board draws while a model decodes, with each model left out in turn, and writes
//! `profiles/power.csv`.

use std::collections::{BTreeMap, BTreeSet};

use orinplan::evidence::{Activity, Grade, POWER_COLUMNS, Rail};
use orinplan::plan::speed::memory_bytes;
use orinplan::runtime::profile::Speed;

use super::data::Observation;
use super::fit::quantile;
use super::minimise::{Problem, minimise};
use super::write::{percent, short};

/// A measured power is trusted to this share.
const SIGMA: f64 = 0.08;

/// What one would guess, of each parameter in its order in the fit, and how far it may stray in units of e.
const START: [(f64, f64); 4] = [(4.0, 1.0), (0.5, 0.7), (0.09, 0.5), (0.1, 0.5)];

/// The range covers this share of the rows left out.
const COVER: f64 = 0.92;

/// Fewer rows than this are no fit.
const LEAST: usize = 5;

/// A rail that one source sampled too seldom for answers shorter than this many tokens.
const UNDER_SAMPLED: (&str, u64) = ("decode total", 1024);

/// Rails that feed the whole board.
const WHOLE: [&str; 2] = ["VDD_IN", "decode total"];

struct Rows<'a>(Vec<&'a Measured>);

struct Measured {
    model: String,
    activity: Activity,
    watts: f64,
}

impl Problem for Rows<'_> {
    fn residuals(&self, point: &[f64]) -> Vec<f64> {
        let rail = rail_of(point);
        let rows = self.0.iter().map(|row| error(row, &rail) / SIGMA);
        let beliefs = START.iter().zip(point);
        rows.chain(beliefs.map(|((start, doubt), value)| (value - start.ln()) / doubt))
            .collect()
    }

    fn robust(&self) -> usize {
        self.0.len()
    }
}

fn rail_of(point: &[f64]) -> Rail {
    let value = |index: usize| point.get(index).copied().unwrap_or(0.0).exp();
    Rail {
        board: String::new(),
        name: String::new(),
        whole_board: false,
        base_watts: value(0),
        sm_gigahertz_watts: value(1),
        gigamac_gigahertz_joules: value(2),
        gigabyte_joules: value(3),
        low: 1.0,
        high: 1.0,
        measurements: 0,
        models: 0,
        median_percent: 0.0,
    }
}

/// The logarithm of the predicted over the measured watts.
fn error(row: &Measured, rail: &Rail) -> f64 {
    (rail.watts(row.activity) / row.watts).ln()
}

/// The rows of each board and rail that a fit can use. `speed` is that of a runtime by its id.
fn measured(
    observations: &[Observation],
    speed: impl Fn(&str) -> Option<Speed>,
) -> BTreeMap<(String, String), Vec<Measured>> {
    let mut speeds: BTreeMap<&str, Option<Speed>> = BTreeMap::new();
    let mut rails: BTreeMap<_, Vec<Measured>> = BTreeMap::new();
    for observation in observations {
        let row = &observation.row;
        let (Some(watts), Some(rate)) = (row.power_w, row.decode_tps) else {
            continue;
        };
        let short = row
            .generated_tokens
            .is_some_and(|tokens| tokens < UNDER_SAMPLED.1);
        let under_sampled = row.power_of == UNDER_SAMPLED.0 && short;
        if row.grade == Grade::C || row.power_of.is_empty() || under_sampled {
            continue;
        }
        let runtime = row.runtime.as_str();
        let Some(speed) = speeds.entry(runtime).or_insert_with(|| speed(runtime)) else {
            continue;
        };
        let operations = &observation.operations;
        let steps = rate / row.sequences as f64;
        let macs: u64 = operations.iter().map(|o| o.weights).sum();
        let activity = Activity {
            sms: f64::from(observation.gpu.sm_count),
            gigahertz: observation.gpu.clock.0 / 1e9,
            gigamacs: rate * macs as f64 / 1e9,
            gigabytes: steps * memory_bytes(operations, row.sequences, speed) / 1e9,
        };
        let key = (row.board.clone(), row.power_of.clone());
        rails.entry(key).or_default().push(Measured {
            model: row.model.clone(),
            activity,
            watts,
        });
    }
    rails.retain(|_, rows| rows.len() >= LEAST);
    rails
}

/// The text of `profiles/power.csv`, and the table of errors. `speed` is that of a runtime by its id.
pub(crate) fn fit(
    observations: &[Observation],
    speed: impl Fn(&str) -> Option<Speed>,
) -> (String, String) {
    let start: Vec<f64> = START.iter().map(|(start, _)| start.ln()).collect();
    let mut csv = format!("{}\n", POWER_COLUMNS.join(","));
    let mut table = String::from(
        "| board | rail | rows | models | seen | model left out, median | 9 in 10 | within the range |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
    );
    for ((board, name), rows) in measured(observations, speed) {
        let ended = minimise(&Rows(rows.iter().collect()), &start);
        let all = rail_of(&ended);
        let models: BTreeSet<&str> = rows.iter().map(|row| row.model.as_str()).collect();
        let mut errors = Vec::new();
        for model in &models {
            let others = rows.iter().filter(|row| row.model != *model).collect();
            let blind = rail_of(&minimise(&Rows(others), &ended));
            let own = rows.iter().filter(|row| row.model == *model);
            errors.extend(own.map(|row| error(row, &blind)));
        }
        let sizes = |errors: &[f64]| -> Vec<f64> {
            errors.iter().map(|error| percent(*error).abs()).collect()
        };
        // Measured over predicted, where errors are predicted over measured.
        let end = |share| short((-quantile(&errors, share)).exp());
        let (low, high) = (
            end((1.0 + COVER) / 2.0).min(1.0),
            end((1.0 - COVER) / 2.0).max(1.0),
        );
        let inside = errors
            .iter()
            .filter(|error| (low..=high).contains(&(-**error).exp()))
            .count();
        let seen: Vec<f64> = rows.iter().map(|row| error(row, &all)).collect();
        let (seen, left) = (sizes(&seen), sizes(&errors));
        let median = quantile(&left, 0.5);
        table += &format!(
            "| {board} | {name} | {} | {} | {:.1} % | {median:.1} % | {:.1} % | {inside} of {} |\n",
            rows.len(),
            models.len(),
            quantile(&seen, 0.5),
            quantile(&left, 0.9),
            rows.len(),
        );
        let whole = if WHOLE.contains(&name.as_str()) {
            "yes"
        } else {
            "no"
        };
        csv += &format!(
            "{board},{name},{whole},{},{},{},{},{low},{high},{},{},{}\n",
            short(all.base_watts),
            short(all.sm_gigahertz_watts),
            short(all.gigamac_gigahertz_joules),
            short(all.gigabyte_joules),
            rows.len(),
            models.len(),
            short(median.max(0.1)),
        );
    }
    (csv, table)
}
