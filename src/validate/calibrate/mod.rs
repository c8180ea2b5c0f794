//! Measures this machine for plans of its own decoder: what memory gives, and what a token costs by
//! format, row, column, layer and depth, each with how far it may be off.
//!
//! Out: a [`Cpu`]. Small models that are only shapes are decoded, two or more for each format, and the costs are
//! what explains their times best, given what was to be expected of such a machine. They are no model's shape:
//! what is predicted afterwards was not seen.

mod machine;
mod prior;
mod samples;
mod scratch;
mod solve;
mod synthetic;
mod times;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::control::Progress;
use super::error::ValidateError;
use crate::checkpoint::CheckpointError;
use crate::decode::{has_kernel, threads};
use crate::device::{Cpu, FormatRate, Uncertainty, activity};
use crate::model::ModelError;
use crate::plan::speed::{Group, Operation};

pub use synthetic::{Tensor, write_repeated};

use prior::{FORMATS, Machine};
use samples::{Ends, Sample, Samples};
use solve::{Cost, Row};
use times::{Times, unrest};

/// The runtime that is measured, by the id of its profile.
pub const RUNTIME: &str = "candle-cpu";

/// Seconds that it takes where nothing else is asked for.
pub const CALIBRATION_SECONDS: u64 = 55;

/// How many times as long as was asked for it takes at most.
const LONGER: u32 = 3;

/// How far times are from any costs, as a standard deviation of their logarithm: what a model of bytes, rows
/// and layers leaves out.
const LEFT_OUT: f64 = 0.05;

/// Why this machine was not measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// A scratch file could not be written.
    #[error("cannot write a small model to measure with: {0}; free some memory")]
    Write(String),
    /// A scratch file could not be opened again.
    #[error(transparent)]
    Open(CheckpointError),
    /// A scratch file could not be described.
    #[error(transparent)]
    Model(ModelError),
    /// It could not be run.
    #[error(transparent)]
    Run(#[from] ValidateError),
    /// Nothing was timed before the time was up.
    #[error(
        "not one model was timed within {limit} s: this machine is too slow for that; give it longer, such as with --seconds {limit}"
    )]
    TooSlow {
        /// What there was, in seconds.
        limit: u64,
    },
}

/// Measures this machine, which `processor` names, for `time`, and for up to three times as long where others
/// use it too. `date` is kept with the numbers. `progress` is called between measurements: what it does is not timed.
///
/// # Errors
/// [`CalibrateError`]; [`ValidateError::Cancelled`] within it once `cancel` is set.
pub fn calibrate(
    processor: &str,
    date: String,
    time: Duration,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Cpu, CalibrateError> {
    let calibration = Calibration::new(time);
    calibration.measure(cancel, progress)?;
    calibration.cpu(processor, date)
}

/// A calibration under way. One thread may measure while another waits for its limit, and takes what was timed by
/// then: a model that is loaded or asked cannot be interrupted.
#[derive(Debug)]
pub struct Calibration {
    started: Instant,
    time: Duration,
    machine: OnceLock<Machine>,
    samples: Samples,
}

impl Calibration {
    /// One that is to take `time` from now on.
    pub fn new(time: Duration) -> Calibration {
        Calibration {
            started: Instant::now(),
            time,
            machine: OnceLock::new(),
            samples: Samples::default(),
        }
    }

    /// The longest that it may take from its beginning.
    pub fn limit(&self) -> Duration {
        self.time * LONGER
    }

    /// Measures, and ends about when the limit is reached.
    ///
    /// # Errors
    /// As [`calibrate`].
    pub fn measure(
        &self,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&Progress),
    ) -> Result<(), CalibrateError> {
        progress(&Progress::stage("reading memory"));
        // The rest is for models.
        let until = self.started + self.time / 10;
        let machine = Machine {
            bandwidth: machine::bandwidth(threads(), until, cancel)?,
            arithmetic: machine::arithmetic(threads(), until, cancel)?,
        };
        self.machine.get_or_init(|| machine);
        let room = activity(Path::new("/")).memory.available;
        let ends = Ends {
            sure: self.started + self.time,
            latest: self.started + self.limit(),
        };
        samples::take(&self.samples, room, ends, cancel, progress)
    }

    /// What explains the times that there are by now. Formats that were not timed are not in it.
    ///
    /// # Errors
    /// [`CalibrateError::TooSlow`] where there is none.
    pub fn cpu(&self, processor: &str, date: String) -> Result<Cpu, CalibrateError> {
        let samples = self.samples.so_far();
        let timed: Vec<&str> = samples
            .iter()
            .filter(|sample| !sample.token.is_empty())
            .map(|sample| FORMATS[sample.format].0.name())
            .collect();
        let Some(machine) = self.machine.get().filter(|_| !timed.is_empty()) else {
            let limit = self.limit().as_secs();
            return Err(CalibrateError::TooSlow { limit });
        };
        let costs = Costs {
            token: costs(samples.iter().map(token_row), &machine.token()),
            prompt: costs(samples.iter().map(prompt_row), &machine.prompt()),
        };
        let decode_unrest = unrest(samples.iter().map(|sample| &sample.token));
        // Prompts are read seldom: what disturbs tokens disturbs them too.
        let prefill_unrest = unrest(samples.iter().map(|sample| &sample.prompt_read));
        let mut cpu = costs.cpu([decode_unrest, prefill_unrest.max(decode_unrest)]);
        cpu.formats.retain(|name, _| timed.contains(&name.as_str()));
        Ok(Cpu {
            date,
            processor: processor.to_owned(),
            seconds: self.started.elapsed().as_secs_f64().round(),
            // Others may have used memory while it was read: what a model got of it, it gave.
            bandwidth_bytes_per_second: samples
                .iter()
                .map(reached)
                .fold(machine.bandwidth, f64::max),
            ..cpu
        })
    }
}

/// The formats of which `cpu` has no rate, because there was no time for them.
pub fn not_timed(cpu: &Cpu) -> Vec<&'static str> {
    let names = FORMATS.iter().map(|(format, ..)| format.name());
    names
        .filter(|name| !cpu.formats.contains_key(*name))
        .collect()
}

/// What explains the times.
struct Costs {
    /// As [`Machine::token`] lists them.
    token: Vec<Cost>,
    /// As [`Machine::prompt`] does.
    prompt: Vec<Cost>,
}

impl Costs {
    /// What the machine's file keeps of them.
    fn cpu(&self, [decode_unrest, prefill_unrest]: [f64; 2]) -> Cpu {
        let at = |costs: &[Cost], index: usize| costs[index];
        let shared = |costs: &[Cost], index: usize| at(costs, FORMATS.len() + index);
        let [row, column, layer, token, cache] =
            [0, 1, 2, 3, 4].map(|index| shared(&self.token, index));
        let [prompt_row, attention] = [0, 1].map(|index| shared(&self.prompt, index));
        let rate = |index: usize| {
            let (token, prompt) = (at(&self.token, index), at(&self.prompt, index));
            FormatRate {
                decode_bytes_per_second: 1.0 / token.seconds,
                prefill_macs_per_second: 1.0 / prompt.seconds,
                decode_uncertainty: token.uncertainty,
                prefill_uncertainty: prompt.uncertainty,
            }
        };
        let formats = FORMATS.iter().enumerate();
        let formats = formats.map(|(index, (format, ..))| (format.name().to_owned(), rate(index)));
        Cpu {
            schema: Cpu::schema(),
            date: String::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            processor: String::new(),
            threads: threads() as u64,
            seconds: 0.0,
            runtime: RUNTIME.to_owned(),
            bandwidth_bytes_per_second: 0.0,
            layer_seconds: layer.seconds,
            row_seconds: row.seconds,
            column_seconds: column.seconds,
            token_seconds: token.seconds,
            prompt_row_seconds: prompt_row.seconds,
            cache_bytes_per_second: 1.0 / cache.seconds,
            attention_macs_per_second: 1.0 / attention.seconds,
            formats: formats.collect::<BTreeMap<_, _>>(),
            uncertainty: Uncertainty {
                decode_unrest,
                prefill_unrest,
                layer: layer.uncertainty,
                row: row.uncertainty,
                column: column.uncertainty,
                token: token.uncertainty,
                prompt_row: prompt_row.uncertainty,
                cache: cache.uncertainty,
                attention: attention.uncertainty,
            },
        }
    }
}

fn is_matrix(operation: &&Operation) -> bool {
    matches!(
        operation.group,
        Group::Attention | Group::FeedForward | Group::Head
    )
}

/// Bytes a second that the fastest turn at `sample` took.
fn reached(sample: &Sample) -> f64 {
    let matrices = sample.operations.iter().filter(is_matrix);
    let bytes: f64 = matrices.map(|operation| operation.bytes as f64).sum();
    Some(bytes / sample.token.least())
        .filter(|rate| rate.is_finite())
        .unwrap_or(0.0)
}

/// What a decoded token counts, in the order of [`Machine::token`], and took; with the format.
fn token_row(sample: &Sample) -> (usize, Row) {
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
        sum(|operation| operation.columns),
        sample.layers,
        1.0,
        cached.map(|operation| operation.bytes as f64).sum(),
    ]);
    (sample.format, row(counts, &sample.token))
}

/// What a prompt counts, in the order of [`Machine::prompt`], and took, beside the head for one token; with the
/// format.
fn prompt_row(sample: &Sample) -> (usize, Row) {
    let body = |pick: fn(&Operation) -> u64| {
        let matrices = sample.operations.iter().filter(is_matrix);
        let body = matrices.filter(|operation| operation.group != Group::Head);
        body.map(|operation| pick(operation) as f64).sum::<f64>()
    };
    let prompt = sample.prompt as f64;
    let mut counts = vec![0.0; FORMATS.len()];
    counts[sample.format] = body(|operation| operation.weights) * prompt;
    counts.extend([
        body(|operation| operation.rows) * prompt,
        sample.prompt_attention,
    ]);
    (sample.format, row(counts, &sample.prompt_read))
}

fn row(counts: Vec<f64>, times: &Times) -> Row {
    Row {
        counts,
        seconds: times.mean(),
        noise: times.noise().hypot(LEFT_OUT),
    }
}

/// Costs by format, and behind them those that all formats share. Formats without kernels of the
/// decoder's own pay candle's overhead with every product: it counts as theirs alone.
fn costs(rows: impl Iterator<Item = (usize, Row)>, prior: &[Cost]) -> Vec<Cost> {
    let (own, others): (Vec<_>, Vec<_>) =
        rows.partition(|(format, _)| has_kernel(FORMATS[*format].0));
    let rows = |rows: Vec<(usize, Row)>| rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>();
    let found = if own.is_empty() {
        // None has, on this processor.
        return solve::costs(&rows(others), prior);
    } else {
        solve::costs(&rows(own), prior)
    };
    let mut all = solve::costs(&rows(others), &found);
    let shared = all.iter_mut().zip(&found).skip(FORMATS.len());
    shared.for_each(|(cost, found)| *cost = *found);
    all
}

#[cfg(test)]
mod tests;
