//! Measures this machine for plans of its own decoder: what memory gives, and what a token costs by
//! format, row, layer and depth.
//!
//! In: a folder for scratch files. Out: a [`Cpu`]. Small models that are only shapes are decoded, two
//! for each format, and the costs are what explains their times. They are no model's shape: what is
//! predicted afterwards was not seen.

mod bandwidth;
mod samples;
mod solve;
mod synthetic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::control::Progress;
use super::error::ValidateError;
use crate::checkpoint::CheckpointError;
use crate::decode::{has_kernel, threads};
use crate::device::{Cpu, FormatRate, activity};
use crate::model::ModelError;
use crate::plan::speed::{Group, Operation};

pub use synthetic::{Tensor, write_repeated};

use samples::{FORMATS, Sample};

/// The runtime that is measured, by the id of its profile.
pub const RUNTIME: &str = "candle-cpu";

/// Seconds that it takes where nothing else is asked for.
pub const CALIBRATION_SECONDS: u64 = 55;

/// Why this machine was not measured.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// A scratch file could not be written.
    #[error("cannot write the scratch file {}: {problem}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was said.
        problem: String,
    },
    /// A scratch file could not be opened again.
    #[error(transparent)]
    Open(CheckpointError),
    /// A scratch file could not be described.
    #[error(transparent)]
    Model(ModelError),
    /// It could not be run.
    #[error(transparent)]
    Run(#[from] ValidateError),
    /// The times make no sense together.
    #[error(
        "the measured times explain no rate for {0}; the machine may be busy: try again when it is idle"
    )]
    Times(&'static str),
}

/// Measures this machine, which `processor` names, for `time`, with scratch files in `folder`. `date` is kept
/// with the numbers. A machine too slow for one round in that time takes longer. `progress` is called between
/// measurements: what it does is not timed.
///
/// # Errors
/// [`CalibrateError`]; [`ValidateError::Cancelled`] within it once `cancel` is set.
pub fn calibrate(
    processor: &str,
    date: String,
    folder: &Path,
    time: Duration,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Cpu, CalibrateError> {
    let started = Instant::now();
    progress(&Progress::stage("reading memory"));
    let bandwidth = bandwidth::bandwidth(threads());
    let room = activity(Path::new("/")).memory.available;
    let samples = samples::take(
        room,
        time.saturating_sub(started.elapsed()),
        folder,
        cancel,
        progress,
    )?;
    let token = token_costs(&samples)?;
    let prompt = prompt_costs(&samples)?;
    // Memory gave at least what the fastest products took; others may have used it meanwhile.
    let fastest = token.rates.iter().copied().fold(0.0, f64::max);
    let bandwidth = bandwidth.max(fastest);
    let rate = |index: usize| FormatRate {
        decode_bytes_per_second: token.rates[index],
        prefill_macs_per_second: prompt.rates[index],
    };
    let formats = FORMATS.iter().enumerate();
    Ok(Cpu {
        schema: Cpu::schema(),
        date,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        processor: processor.to_owned(),
        threads: threads() as u64,
        seconds: started.elapsed().as_secs_f64().round(),
        runtime: RUNTIME.to_owned(),
        bandwidth_bytes_per_second: bandwidth,
        layer_seconds: token.layer,
        row_seconds: token.row,
        token_seconds: token.constant,
        prompt_row_seconds: prompt.row,
        cache_bytes_per_second: token.cache,
        attention_macs_per_second: prompt.attention,
        formats: formats
            .map(|(index, format)| (format.name().to_owned(), rate(index)))
            .collect::<BTreeMap<_, _>>(),
    })
}

/// The mean, for which nothing counts more than three times the median: what slows every run belongs to it, a
/// stall of the machine does not.
fn mean(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    let most = seconds
        .get(seconds.len() / 2)
        .map_or(0.0, |median| 3.0 * median);
    let sum: f64 = seconds.iter().map(|seconds| seconds.min(most)).sum();
    sum / seconds.len().max(1) as f64
}

fn is_matrix(operation: &&Operation) -> bool {
    matches!(
        operation.group,
        Group::Attention | Group::FeedForward | Group::Head
    )
}

struct TokenCosts {
    rates: Vec<f64>,
    layer: f64,
    row: f64,
    constant: f64,
    cache: f64,
}

/// What a decoded token costs: a rate for each format, and seconds a row, a layer, a token and a byte of
/// the cache.
fn token_costs(samples: &[Sample]) -> Result<TokenCosts, CalibrateError> {
    let rows = samples.iter().map(|sample| {
        let sum = |pick: fn(&Operation) -> u64| {
            let matrices = sample.operations.iter().filter(is_matrix);
            matrices
                .map(|operation| pick(operation) as f64)
                .sum::<f64>()
        };
        let mut counts = vec![0.0; FORMATS.len()];
        counts[sample.format] = sum(|operation| operation.bytes);
        let cached = sample
            .operations
            .iter()
            .filter(|operation| operation.group == Group::KvCache);
        counts.extend([
            sum(|operation| operation.rows),
            sample.layers,
            1.0,
            cached.map(|operation| operation.bytes as f64).sum(),
        ]);
        (counts, mean(&sample.token_seconds))
    });
    let costs = costs(rows);
    let [row, layer, constant, cache] = costs[FORMATS.len()..] else {
        return Err(CalibrateError::Times("a token"));
    };
    Ok(TokenCosts {
        rates: rates(&costs, "decoding")?,
        row,
        layer,
        constant,
        cache: rate(cache).ok_or(CalibrateError::Times("the cache"))?,
    })
}

struct PromptCosts {
    rates: Vec<f64>,
    row: f64,
    attention: f64,
}

/// What a prompt costs: a rate for each format, and seconds a row and token and a multiply-accumulate of
/// attention, beside the head for one token.
fn prompt_costs(samples: &[Sample]) -> Result<PromptCosts, CalibrateError> {
    let rows = samples.iter().map(|sample| {
        let body = |pick: fn(&Operation) -> u64| {
            let matrices = sample.operations.iter().filter(is_matrix);
            let body = matrices.filter(|operation| operation.group != Group::Head);
            body.map(|operation| pick(operation) as f64).sum::<f64>()
        };
        let mut counts = vec![0.0; FORMATS.len()];
        let prompt = sample.prompt as f64;
        counts[sample.format] = body(|operation| operation.weights) * prompt;
        counts.extend([
            body(|operation| operation.rows) * prompt,
            sample.prompt_attention,
        ]);
        (counts, mean(&sample.prompt_seconds))
    });
    let costs = costs(rows);
    let [row, attention] = costs[FORMATS.len()..] else {
        return Err(CalibrateError::Times("a prompt"));
    };
    Ok(PromptCosts {
        rates: rates(&costs, "reading a prompt")?,
        row,
        attention: rate(attention).ok_or(CalibrateError::Times("attention"))?,
    })
}

/// Costs by format, and behind them those that all formats share. Formats without kernels of the
/// decoder's own pay candle's overhead with every product: it counts as theirs alone.
fn costs(rows: impl Iterator<Item = (Vec<f64>, f64)>) -> Vec<f64> {
    let foreign = |counts: &[f64]| {
        let format = FORMATS.iter().zip(counts).find(|(_, count)| **count > 0.0);
        format.is_some_and(|(format, _)| !has_kernel(*format))
    };
    let (others, own): (Vec<_>, Vec<_>) = rows.partition(|(counts, _)| foreign(counts));
    let mut found = match own.is_empty() {
        // Nothing has, on this processor.
        true => return solve::costs(&others),
        false => solve::costs(&own),
    };
    let left = others.into_iter().map(|(mut counts, seconds)| {
        let shared = counts.split_off(FORMATS.len());
        let known = shared.iter().zip(found.iter().skip(FORMATS.len()));
        let known: f64 = known.map(|(count, cost)| count * cost).sum();
        (counts, seconds - known)
    });
    let rest = solve::costs(&left.collect::<Vec<_>>());
    for (found, rest) in found.iter_mut().zip(rest) {
        *found += rest;
    }
    found
}

fn rates(costs: &[f64], what: &'static str) -> Result<Vec<f64>, CalibrateError> {
    let rates = costs.iter().take(FORMATS.len()).map(|cost| rate(*cost));
    rates
        .collect::<Option<_>>()
        .ok_or(CalibrateError::Times(what))
}

fn rate(cost: f64) -> Option<f64> {
    Some(1.0 / cost).filter(|rate| rate.is_finite() && *rate > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_does_not_count_in_full_and_slow_runs_do() {
        assert_eq!(mean(&[1.0, 2.0, 3.0]), 2.0);
        // A stall of 100 counts as three times the median.
        assert_eq!(mean(&[1.0, 1.0, 1.0, 100.0]), 1.5);
        assert_eq!(mean(&[5.0]), 5.0);
        assert_eq!(mean(&[]), 0.0);
    }
}
