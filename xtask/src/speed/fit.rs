//! Fits a family of runtimes, with each model left out in turn.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use orinplan::evidence::{Grade, Measurement};
use orinplan::plan::speed;
use orinplan::runtime::{
    self,
    profile::{Range, Speed},
};

use super::conditions;
use super::data::Observation;
use super::form::{Family, Parameter, apply};
use super::minimise::{Problem, minimise};
use super::requests;

/// A row of grade A is trusted to this share of its rate; one of B to less.
const SIGMA: [f64; 2] = [0.05, 0.08];

/// The range covers this share of the rows left out.
const COVER: f64 = 0.92;

/// Fewer rows than this give no range: the one that the profile states remains.
const FEW: usize = 8;

/// A format with rows of so many models has a range of its own: with fewer, one unusual model is an end of it.
const COVERED: usize = 12;

/// What is rated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Decode,
    /// A rate, or where none is given the time to the first token.
    Prefill,
    /// The tokens generated over whole requests, prompts in the time.
    Requests,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Kind; 3] = [Kind::Decode, Kind::Prefill, Kind::Requests];
}

/// What a fit found.
pub(crate) struct Fitted {
    /// Speeds by runtime id, with their spreads.
    pub(crate) speeds: BTreeMap<&'static str, Speed>,
    pub(crate) left: Vec<Left>,
}

/// What is left of one row: logarithms of predicted over measured rates.
#[derive(Clone, Copy)]
pub(crate) struct Left {
    pub(crate) index: usize,
    pub(crate) kind: Kind,
    pub(crate) seen: f64,
    /// With its model left out of the fit.
    pub(crate) left_out: f64,
    /// With its board left out; `None` where no other board has a row.
    pub(crate) board_out: Option<f64>,
}

struct Rows<'a> {
    base: &'a BTreeMap<&'static str, Speed>,
    parameters: &'a [Parameter],
    /// With what is rated of each.
    rows: Vec<Rated<'a>>,
}

/// A row and what is rated of it.
type Rated<'a> = (&'a Observation, Kind);

impl Problem for Rows<'_> {
    fn residuals(&self, point: &[f64]) -> Vec<f64> {
        let speeds = applied(self.base, self.parameters, point);
        let rows = self.rows.iter().map(|(row, kind)| {
            let error = speeds
                .get(row.row.runtime.as_str())
                .and_then(|speed| error(row, speed, *kind));
            error.unwrap_or(0.0) / SIGMA[usize::from(row.row.grade != Grade::A)]
        });
        let beliefs = self
            .parameters
            .iter()
            .zip(point)
            .map(|(p, value)| (value - p.start.ln()) / p.doubt);
        rows.chain(beliefs).collect()
    }

    fn robust(&self) -> usize {
        self.rows.len()
    }
}

fn applied(
    base: &BTreeMap<&'static str, Speed>,
    parameters: &[Parameter],
    point: &[f64],
) -> BTreeMap<&'static str, Speed> {
    base.iter()
        .map(|(id, speed)| (*id, apply(speed, id, parameters, point)))
        .collect()
}

/// The speed of a row's build under its conditions.
pub(crate) fn of_row(row: &Measurement, speed: &Speed) -> Speed {
    let speed = speed.launching(row.cuda_graphs());
    let speed = speed.tiling(row.batch_tiles());
    speed.under(row.clocks, row.release()).into_owned()
}

/// The logarithm of the predicted over the measured rate.
pub(crate) fn error(observation: &Observation, speed: &Speed, kind: Kind) -> Option<f64> {
    let Observation {
        row,
        gpu,
        layers,
        operations,
        ..
    } = observation;
    match kind {
        Kind::Decode => {
            let speed = of_row(row, speed);
            let seconds = speed::step_seconds(operations, *layers, row.sequences, gpu, &speed);
            Some((row.sequences as f64 / seconds / row.decode_tps?).ln())
        }
        // Sources do not say whether a rate over several prompts is that of one or of all.
        Kind::Prefill if row.sequences > 1 => None,
        Kind::Prefill => {
            let speed = &speed.under(row.clocks, row.release());
            let estimate = speed::prefill(operations, *layers, observation.prompt?, gpu, speed);
            match (row.prefill_tps, row.ttft_s) {
                (Some(rate), _) => Some((estimate.tokens_per_second.expected / rate).ln()),
                (None, Some(time)) => Some((time / estimate.time_to_first_token.expected).ln()),
                (None, None) => None,
            }
        }
        Kind::Requests => {
            let tokens = row.requests? * row.generated_tokens?;
            let time = requests::seconds(observation, &of_row(row, speed))?;
            Some((tokens as f64 / time / row.output_tps?).ln())
        }
    }
}

/// Where the two fits of a family ended, to start the next from.
#[derive(Clone)]
struct Ends {
    decode: Vec<f64>,
    prefill: Vec<f64>,
}

/// Rows over whole requests depend on both kinds of parameters, which are then fitted in turn so many times.
const TURNS: usize = 4;

/// Both kinds of parameters, the prompt's upon the decode's.
fn fit_rows(
    family: &Family,
    base: &BTreeMap<&'static str, Speed>,
    rows: &[Rated<'_>],
    start: Option<&Ends>,
) -> (BTreeMap<&'static str, Speed>, Ends) {
    let guess = |parameters: &[Parameter]| parameters.iter().map(|p| p.start.ln()).collect();
    let start = start.cloned().unwrap_or_else(|| Ends {
        decode: guess(family.decode),
        prefill: guess(family.prefill),
    });
    let of = |own: Kind| -> Vec<Rated<'_>> {
        let kept = rows
            .iter()
            .filter(|(_, kind)| [own, Kind::Requests].contains(kind));
        kept.copied().collect()
    };
    let (decode, prefill) = (of(Kind::Decode), of(Kind::Prefill));
    let point =
        |base: &BTreeMap<&'static str, Speed>, parameters, rows: &[Rated<'_>], from: &[f64]| {
            let rows = rows.to_vec();
            minimise(
                &Rows {
                    base,
                    parameters,
                    rows,
                },
                from,
            )
        };
    let whole = rows.iter().any(|(_, kind)| *kind == Kind::Requests);
    let mut ends = start;
    // What the profile holds is not where the turns begin: they would end elsewhere each time.
    let mut speeds = match whole {
        true => applied(base, family.prefill, &ends.prefill),
        false => base.clone(),
    };
    for _ in 0..if whole { TURNS } else { 1 } {
        ends.decode = point(&speeds, family.decode, &decode, &ends.decode);
        speeds = applied(&speeds, family.decode, &ends.decode);
        ends.prefill = point(&speeds, family.prefill, &prefill, &ends.prefill);
        speeds = applied(&speeds, family.prefill, &ends.prefill);
    }
    (speeds, ends)
}

/// The numbers alone, with no model left out and no spread.
#[cfg(test)]
pub(crate) fn refit(
    family: &Family,
    observations: &[Observation],
) -> anyhow::Result<BTreeMap<&'static str, Speed>> {
    let base = unspread(family, observations)?;
    let rows: Vec<Rated<'_>> = usable(&base, observations)
        .into_iter()
        .map(|(index, kind)| (&observations[index], kind))
        .collect();
    Ok(fit_rows(family, &base, &rows, None).0)
}

/// The profiles as they are, their spreads set to one, with the conditions that pairs of rows show.
fn unspread(
    family: &Family,
    observations: &[Observation],
) -> anyhow::Result<BTreeMap<&'static str, Speed>> {
    let mut base = BTreeMap::new();
    for id in family.members {
        let mut speed = runtime::find(id).with_context(|| (*id).to_owned())?.speed;
        for range in [&mut speed.spread, &mut speed.prefill.scale] {
            (range.low, range.expected, range.high) = (1.0, 1.0, 1.0);
        }
        if let Some(conditions) = &mut speed.conditions {
            conditions::measure(conditions, family.members, observations);
        }
        base.insert(*id, speed);
    }
    Ok(base)
}

/// What enters a fit, by the row's index: of rows that are not of grade C and of a runtime of the family, whatever they rate.
fn usable(
    base: &BTreeMap<&'static str, Speed>,
    observations: &[Observation],
) -> Vec<(usize, Kind)> {
    let rated = Kind::ALL.into_iter().flat_map(|kind| {
        let rows = observations.iter().enumerate().filter(move |(_, o)| {
            let known = base.get(o.row.runtime.as_str());
            o.row.grade != Grade::C && known.is_some_and(|speed| error(o, speed, kind).is_some())
        });
        rows.map(move |(index, _)| (index, kind))
    });
    rated.collect()
}

/// Fits `family` to what it knows of `observations`.
pub(crate) fn fit(family: &Family, observations: &[Observation]) -> anyhow::Result<Fitted> {
    let base = unspread(family, observations)?;
    let used = usable(&base, observations);
    let of = |kept: &dyn Fn(&Observation) -> bool| -> Vec<Rated<'_>> {
        let rows = used
            .iter()
            .map(|(index, kind)| (&observations[*index], *kind));
        rows.filter(|(o, _)| kept(o)).collect()
    };
    let all = of(&|_| true);
    let (mut speeds, ends) = fit_rows(family, &base, &all, None);
    let blind =
        |kept: &dyn Fn(&Observation) -> bool| fit_rows(family, &base, &of(kept), Some(&ends)).0;
    let names = |name: fn(&Observation) -> &str| -> BTreeSet<&str> {
        all.iter().map(|(row, _)| name(row)).collect()
    };
    let without = |name: fn(&Observation) -> &str| -> BTreeMap<&str, _> {
        let fits = names(name).into_iter();
        fits.map(|left| (left, blind(&|o| name(o) != left)))
            .collect()
    };
    let (models, boards) = (without(|o| &o.row.model), without(|o| &o.row.board));
    let mut left = Vec::new();
    for (index, kind) in used.iter().copied() {
        let observation = &observations[index];
        let row = &observation.row;
        let of = |speeds: &BTreeMap<&'static str, Speed>| {
            error(observation, speeds.get(row.runtime.as_str())?, kind)
        };
        let others = boards.get(row.board.as_str()).filter(|_| boards.len() > 1);
        if let (Some(seen), Some(left_out)) =
            (of(&speeds), models.get(row.model.as_str()).and_then(of))
        {
            left.push(Left {
                index,
                kind,
                seen,
                left_out,
                board_out: others.and_then(of),
            });
        }
    }
    left.sort_by_key(|row| (row.kind, row.index));
    // The children share the spread of the whole family: one kernel, few rows each.
    for kind in [Kind::Decode, Kind::Prefill] {
        let own = left.iter().filter(|row| {
            let observation = &observations[row.index];
            let most = || {
                let speed = speeds.get(observation.row.runtime.as_str());
                requests::most(observation, speed?)
            };
            row.kind == kind || row.kind == Kind::Requests && most() == Some(kind)
        });
        let errors: Vec<f64> = own.map(|row| row.left_out).collect();
        if errors.len() < FEW {
            for (id, speed) in &mut speeds {
                let stated = runtime::find(id).with_context(|| (*id).to_owned())?.speed;
                *range_for(kind, speed) = range_for(kind, &mut stated.clone()).clone();
            }
            continue;
        }
        let (fast, slow) = range_of(&errors);
        for speed in speeds.values_mut() {
            let range = range_for(kind, speed);
            (range.low, range.high) = (fast, slow);
        }
    }
    let by_format = by_format(&speeds, &left, observations);
    for (id, speed) in &mut speeds {
        let listed: Vec<&String> = speed.format_spread.keys().collect();
        let covered: Vec<&String> = by_format.keys().collect();
        ensure!(
            listed == covered,
            "[speed.format_spread] of {id} lists {listed:?}; {covered:?} have rows of {COVERED} models"
        );
        for (name, errors) in &by_format {
            if let Some(range) = speed.format_spread.get_mut(name) {
                (range.low, range.high) = range_of(errors);
            }
        }
    }
    Ok(Fitted { speeds, left })
}

/// The factors on the time of a decode step, or on that of a prompt.
fn range_for(kind: Kind, speed: &mut Speed) -> &mut Range {
    match kind {
        Kind::Decode => &mut speed.spread,
        Kind::Prefill | Kind::Requests => &mut speed.prefill.scale,
    }
}

/// Factors on the time between which [`COVER`] of the rows with these errors lie.
fn range_of(errors: &[f64]) -> (f64, f64) {
    let (fast, slow) = (
        quantile(errors, (1.0 - COVER) / 2.0),
        quantile(errors, (1.0 + COVER) / 2.0),
    );
    (fast.exp().min(1.0), slow.exp().max(1.0))
}

/// The decode errors of the rows that read mostly one format, for formats with rows of [`COVERED`] models.
fn by_format(
    speeds: &BTreeMap<&'static str, Speed>,
    left: &[Left],
    observations: &[Observation],
) -> BTreeMap<String, Vec<f64>> {
    let mut found: BTreeMap<String, (BTreeSet<&str>, Vec<f64>)> = BTreeMap::new();
    for left in left.iter().filter(|left| left.kind == Kind::Decode) {
        let Some(observation) = observations.get(left.index) else {
            continue;
        };
        let speed = speeds.get(observation.row.runtime.as_str());
        let main = speed.and_then(|speed| speed::main_format(&observation.operations, speed));
        if let Some(name) = main {
            let (models, errors) = found.entry(name.to_owned()).or_default();
            models.insert(&observation.row.model);
            errors.push(left.left_out);
        }
    }
    let covered = found
        .into_iter()
        .filter(|(_, (models, _))| models.len() >= COVERED);
    covered.map(|(name, (_, errors))| (name, errors)).collect()
}

/// Whether the range of `speed` holds what is left of `observation`.
pub(crate) fn is_inside(left: &Left, observation: &Observation, speed: &Speed) -> bool {
    let (fast, slow) = match left.kind {
        Kind::Decode => ends(speed::step_range(&observation.operations, speed)),
        Kind::Prefill => ends(&speed.prefill.scale),
        Kind::Requests => match requests::range(observation, speed) {
            Some(range) => range,
            None => return false,
        },
    };
    (fast.ln()..=slow.ln()).contains(&left.left_out)
}

fn ends(range: &Range) -> (f64, f64) {
    (range.low, range.high)
}

/// The value below which a share of `values` lies, between the two nearest.
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share * (sorted.len().saturating_sub(1)) as f64;
    let value = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
    let (below, part) = (at.floor() as usize, at.fract());
    value(below) * (1.0 - part) + value(below + 1) * part
}
