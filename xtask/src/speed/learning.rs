//! How far boards, models and runs differ: the widths by which runs on a board refine a profile, from the errors of rows
//! whose model the fit did not see.
//!
//! The rows of one runtime, board and power mode are draws from the model of `orinplan::runtime::posterior`; the widths are those under
//! which all rows are most likely. Of the time of whole requests, the share that is decode has parameters.

use std::collections::BTreeMap;

use orinplan::plan::speed;
use orinplan::runtime::posterior::{Shares, TERMS, weights};
use orinplan::runtime::profile::{Learning, Speed};

use super::data::Observation;
use super::fit::{Fitted, Kind, of_row, quantile};
use super::requests;
use super::write;

/// Fewer rows than this tell no width: those that the profile states remain.
const FEW: usize = 8;

/// Errors count up to so many standard deviations, as the middle half of the rows shows them: rows far out are mistakes
/// of their sources as often as boards that differ.
const FARTHEST: f64 = 2.5;

/// What one would guess of each width, and how far off the guess may be, in units of e.
const GUESS: (f64, f64) = (0.04, 1.5);

/// The same of what all of a board's time differs by: few places have rows, and where a source does not state its power mode that
/// is guessed, so the rows say little. It is a matter of boards, not of runtimes: the two families with most places find 1 and 2 %.
const COMMON: (f64, f64) = (0.01, 0.7);

/// The widths that rows can tell apart: those of a board in all of its time, in each parameter (they share one, because the
/// rows of a place do not tell them apart), of a model and of a run.
#[derive(Clone, Copy, Debug)]
struct Widths {
    common: f64,
    parameter: f64,
    model: f64,
    run: f64,
}

impl Widths {
    /// Those that are free: prompts have no parameters.
    fn free(&mut self, kind: Kind) -> Vec<&mut f64> {
        let Widths {
            common,
            parameter,
            model,
            run,
        } = self;
        let mut free = vec![common, model, run];
        if kind == Kind::Decode {
            free.push(parameter);
        }
        free
    }
}

/// A row: its place, its model, the weights of the terms in its time, and the logarithm of its measured over its
/// predicted time.
struct Row<'a> {
    place: [&'a str; 3],
    model: &'a str,
    weights: [f64; TERMS],
    off: f64,
}

/// What the row's predicted decode time consists of.
pub(crate) fn shares(observation: &Observation, speed: &Speed) -> Option<Shares> {
    let Observation {
        row,
        gpu,
        layers,
        operations,
        ..
    } = observation;
    let speed = of_row(row, speed);
    speed::step_shares(operations, *layers, row.sequences, gpu, &speed)
}

/// Sets the widths of the family's speeds.
pub(crate) fn fit(fitted: &mut Fitted, observations: &[Observation]) {
    for kind in [Kind::Decode, Kind::Prefill] {
        let rows = fitted.left.iter().filter_map(|left| {
            let observation = observations.get(left.index)?;
            let row = &observation.row;
            let speed = fitted.speeds.get(row.runtime.as_str())?;
            let own = match (kind, left.kind) {
                (Kind::Decode, Kind::Decode) => weights(Some(shares(observation, speed)?)),
                (Kind::Decode, Kind::Requests) => {
                    let steps = requests::decode_share(observation, speed)?;
                    let mut own = weights(Some(shares(observation, speed)?));
                    own.iter_mut().skip(1).for_each(|weight| *weight *= steps);
                    own
                }
                (Kind::Prefill, Kind::Prefill) => weights(None),
                _ => return None,
            };
            Some(Row {
                place: [&row.runtime, &row.board, &row.power_mode],
                model: &row.model,
                weights: own,
                off: left.left_out,
            })
        });
        let rows: Vec<Row<'_>> = rows.collect();
        if rows.len() < FEW {
            continue;
        }
        let widths = likeliest(&groups(rows), kind);
        for speed in fitted.speeds.values_mut() {
            let learning = match kind {
                Kind::Decode => &mut speed.learning,
                Kind::Prefill | Kind::Requests => &mut speed.prefill.learning,
            };
            learning.common = widths.common;
            (learning.model, learning.run) = (widths.model, widths.run);
            for parameter in [
                &mut learning.bandwidth,
                &mut learning.arithmetic,
                &mut learning.cache,
                &mut learning.launch,
                &mut learning.host,
            ] {
                *parameter = widths.parameter;
            }
        }
    }
}

/// `text` of a profile with the widths of `speed`, where the file has them as its own.
pub(crate) fn written(text: &str, speed: &Speed) -> anyhow::Result<String> {
    let mut text = text.to_owned();
    let of = |section, learning: &Learning| {
        [
            (section, "common", learning.common),
            (section, "model", learning.model),
            (section, "run", learning.run),
        ]
    };
    let decode = &speed.learning;
    let parameters = [
        ("speed", "bandwidth", decode.bandwidth),
        ("speed", "arithmetic", decode.arithmetic),
        ("speed", "cache", decode.cache),
        ("speed", "launch", decode.launch),
        ("speed", "host", decode.host),
    ];
    let whole = of("speed", decode).into_iter();
    let prompts = of("speed.prefill", &speed.prefill.learning);
    for (section, field, width) in whole.chain(parameters).chain(prompts) {
        write::set(&mut text, section, "learning", field, width)?;
    }
    Ok(text)
}

/// The rows by their places, with far errors drawn in.
fn groups(rows: Vec<Row<'_>>) -> Vec<Vec<Row<'_>>> {
    let errors: Vec<f64> = rows.iter().map(|row| row.off).collect();
    let middle = quantile(&errors, 0.5);
    let half = (quantile(&errors, 0.75) - quantile(&errors, 0.25)) / 2.0;
    // Half of a normal distribution lies within 0.674 standard deviations.
    let most = FARTHEST * half / 0.674;
    let mut groups: BTreeMap<[&str; 3], Vec<Row<'_>>> = BTreeMap::new();
    for row in rows {
        let off = row.off.clamp(middle - most, middle + most);
        groups
            .entry(row.place)
            .or_default()
            .push(Row { off, ..row });
    }
    groups.into_values().collect()
}

/// The widths with the best sum of likelihood and belief, found one after the other in steps that shrink.
fn likeliest(groups: &[Vec<Row<'_>>], kind: Kind) -> Widths {
    let (guess, _) = GUESS;
    let mut widths = Widths {
        common: guess,
        parameter: 0.0,
        model: guess,
        run: guess,
    };
    widths
        .free(kind)
        .into_iter()
        .for_each(|width| *width = guess);
    let score = |mut widths: Widths| {
        let likelihood: f64 = groups.iter().map(|rows| log_likelihood(rows, widths)).sum();
        let free = widths.free(kind).into_iter();
        let doubts = free.enumerate().map(|(index, width)| {
            let (guess, doubt) = if index == 0 { COMMON } else { GUESS };
            ((*width / guess).ln() / doubt).powi(2)
        });
        let doubts: f64 = doubts.sum();
        likelihood - doubts / 2.0
    };
    let (mut best, mut step) = (score(widths), 0.5f64);
    while step > 0.005 {
        let before = best;
        for index in 0..widths.free(kind).len() {
            for factor in [step.exp(), (-step).exp()] {
                let mut tried = widths;
                *tried.free(kind)[index] *= factor;
                let reached = score(tried);
                if reached > best {
                    (widths, best) = (tried, reached);
                }
            }
        }
        if best - before < 1e-4 {
            step /= 2.0;
        }
    }
    widths
}

/// The logarithm of the density of the rows of one place, up to a constant.
fn log_likelihood(rows: &[Row<'_>], widths: Widths) -> f64 {
    let covariance = |i: usize, j: usize| -> f64 {
        let (a, b) = (&rows[i], &rows[j]);
        let mut shared = a.weights.iter().zip(&b.weights).map(|(a, b)| a * b);
        let whole = shared.next().unwrap_or(0.0);
        whole * widths.common.powi(2)
            + shared.sum::<f64>() * widths.parameter.powi(2)
            + f64::from(a.model == b.model) * widths.model.powi(2)
            + f64::from(i == j) * widths.run.powi(2)
    };
    // Cholesky's triangle, and the errors freed of what they have in common.
    let (mut lower, mut freed) = (Vec::<Vec<f64>>::new(), Vec::<f64>::new());
    let mut total = 0.0;
    for (i, row) in rows.iter().enumerate() {
        let mut line: Vec<f64> = Vec::with_capacity(i + 1);
        for (j, above) in lower.iter().enumerate() {
            let known: f64 = line.iter().zip(above).map(|(a, b)| a * b).sum();
            line.push((covariance(i, j) - known) / above[j]);
        }
        let known: f64 = line.iter().map(|a| a * a).sum();
        let pivot = (covariance(i, i) - known).max(1e-12).sqrt();
        let explained: f64 = line.iter().zip(&freed).map(|(a, b)| a * b).sum();
        let rest = (row.off - explained) / pivot;
        total -= pivot.ln() + rest * rest / 2.0;
        line.push(pivot);
        lower.push(line);
        freed.push(rest);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose models differ by about 0.1 and whose runs repeat within 0.01.
    #[test]
    fn widths_follow_the_rows() {
        let rows = (0..40).map(|index| Row {
            place: ["r", "b", "m"],
            model: ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][index / 4],
            weights: weights(None),
            off: ((index / 4) as f64 * 2.4).sin() * 0.14 + ((index * 7) as f64).sin() * 0.014,
        });
        let found = likeliest(&groups(rows.collect()), Kind::Prefill);
        assert!((0.07..0.13).contains(&found.model), "{found:?}");
        assert!((0.007..0.02).contains(&found.run), "{found:?}");
        assert!(found.common < 0.1 && found.parameter == 0.0, "{found:?}");
    }
}
