//! Measures this machine for plans of its own decoder: its memory bandwidth, and what a token costs by format, row,
//! column, layer and depth, each with its uncertainty.
//!
//! Out: a [`Cpu`]. Small models whose weights carry no sense are decoded, two or more for each format. The costs are
//! fitted to their times, starting from what is expected of a machine with this bandwidth and arithmetic. No published
//! model has the shape of one of these, so no later prediction is of a model that was measured here.

mod gpu;
mod machine;
mod prior;
mod rounds;
mod samples;
mod scratch;
mod shapes;
mod solve;
mod synthetic;
mod times;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::control::MeasureProgress;
use super::error::ValidateError;
use crate::checkpoint::CheckpointError;
use crate::decode::threads;
use crate::device::{Cpu, FormatRate, Uncertainty, activity};
use crate::model::ModelError;
use crate::plan::speed::{Operation, OperationGroup};

pub use gpu::{SyntheticFile, SyntheticModel, SyntheticRun};
pub use synthetic::{SyntheticTensor, write_repeated};

use prior::{FORMATS, MachineRates};
use rounds::Deadlines;
use samples::{Sample, Samples};
use solve::{Observation, UnitCost};
use times::{Times, load_noise};

/// The runtime that is measured, by the id of its profile.
pub const RUNTIME: &str = "candle-cpu";

/// Seconds that a calibration takes by default.
pub const CALIBRATION_SECONDS: u64 = 55;

/// A calibration takes at most this many times as long as was asked for.
const LONGEST: u32 = 3;

/// The error of the cost model itself, which knows only bytes, rows, columns and layers: a standard deviation of the
/// logarithm of times.
const MODEL_ERROR: f64 = 0.05;

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
    /// A scratch file could not be read as a model.
    #[error(transparent)]
    Model(ModelError),
    /// A model could not be run.
    #[error(transparent)]
    Run(#[from] ValidateError),
    /// No model was timed before the time was up.
    #[error(
        "no model was timed within {limit} s: this machine is too slow for that; allow more time, such as --seconds {limit}"
    )]
    TooSlow {
        /// The time limit in seconds.
        limit: u64,
    },
}

/// Measures this machine, whose processor is called `processor`, for `time`, and for up to three times as long where
/// other programs make times vary. `date` is kept with the numbers. `progress` is called between measurements: what it
/// does is not timed.
///
/// # Errors
/// [`CalibrateError`]; [`ValidateError::Cancelled`] within it once `cancel` is set.
pub fn calibrate(
    processor: &str,
    date: String,
    time: Duration,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&MeasureProgress),
) -> Result<Cpu, CalibrateError> {
    let calibration = Calibration::new(time);
    calibration.measure(cancel, progress)?;
    calibration.cpu(processor, date)
}

/// A calibration in progress. One thread may measure while another waits for the time limit and then uses what was
/// timed so far, because loading a model and decoding a token cannot be interrupted.
#[derive(Debug)]
pub struct Calibration {
    started: Instant,
    time: Duration,
    machine: OnceLock<MachineRates>,
    samples: Samples,
}

impl Calibration {
    /// A calibration that is to take `time` from now on.
    pub fn new(time: Duration) -> Calibration {
        Calibration {
            started: Instant::now(),
            time,
            machine: OnceLock::new(),
            samples: Samples::default(),
        }
    }

    /// The longest that it may take from its start.
    pub fn limit(&self) -> Duration {
        self.time * LONGEST
    }

    /// Measures. Ends at the latest about when the limit is reached.
    ///
    /// # Errors
    /// As [`calibrate`].
    pub fn measure(
        &self,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&MeasureProgress),
    ) -> Result<(), CalibrateError> {
        progress(&MeasureProgress::stage("reading memory"));
        // Most of the time is for the models.
        let until = self.started + self.time / 10;
        let machine = MachineRates {
            bandwidth: machine::bandwidth(threads(), until, cancel)?,
            arithmetic: machine::arithmetic(threads(), until, cancel)?,
        };
        self.machine.get_or_init(|| machine);
        let available = activity(Path::new("/")).memory.available;
        let deadlines = Deadlines {
            certain: self.started + self.time,
            latest: self.started + self.limit(),
        };
        rounds::take(&self.samples, available, deadlines, cancel, progress)
    }

    /// The costs that explain the times so far. Formats that were not timed are left out.
    ///
    /// # Errors
    /// [`CalibrateError::TooSlow`] where no model was timed.
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
        let observed = |each: fn(&Sample) -> Observation| -> Vec<Observation> {
            samples.iter().map(each).collect()
        };
        let costs = Costs {
            token: solve::costs(&observed(observed_token), &machine.token()),
            prompt: solve::costs(&observed(observed_prompt), &machine.prompt()),
        };
        let decode = load_noise(samples.iter().map(|sample| &sample.token));
        // Prompts are read only a few times: other programs disturb them at least as much as tokens.
        let prefill = load_noise(samples.iter().map(|sample| &sample.prompt_read));
        let mut cpu = costs.cpu([decode, prefill.max(decode)]);
        cpu.formats.retain(|name, _| timed.contains(&name.as_str()));
        Ok(Cpu {
            date,
            processor: processor.to_owned(),
            seconds: self.started.elapsed().as_secs_f64().round(),
            // Other programs may have used the memory while its bandwidth was measured: no less than a model reached.
            bandwidth_bytes_per_second: samples
                .iter()
                .map(fastest)
                .fold(machine.bandwidth, f64::max),
            ..cpu
        })
    }
}

/// The names of the formats that `cpu` has no rate for, because there was no time to measure them.
pub fn not_timed(cpu: &Cpu) -> Vec<&'static str> {
    let names = FORMATS.iter().map(|(format, ..)| format.name());
    names
        .filter(|name| !cpu.formats.contains_key(*name))
        .collect()
}

/// The costs that explain the times.
struct Costs {
    /// In the order of [`MachineRates::token`].
    token: Vec<UnitCost>,
    /// In the order of [`MachineRates::prompt`].
    prompt: Vec<UnitCost>,
}

impl Costs {
    /// The costs as a calibration, with the load noise of decode and prefill.
    fn cpu(&self, [decode_load_noise, prefill_load_noise]: [f64; 2]) -> Cpu {
        let at = |costs: &[UnitCost], index: usize| costs[index];
        let shared = |costs: &[UnitCost], index: usize| at(costs, FORMATS.len() + index);
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
                decode_load_noise,
                prefill_load_noise,
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
        OperationGroup::Attention | OperationGroup::FeedForward | OperationGroup::Head
    )
}

/// Bytes of matrices a second that `sample` read in its fastest round.
fn fastest(sample: &Sample) -> f64 {
    let matrices = sample.operations.iter().filter(is_matrix);
    let bytes: f64 = matrices.map(|operation| operation.bytes as f64).sum();
    Some(bytes / sample.token.least())
        .filter(|rate| rate.is_finite())
        .unwrap_or(0.0)
}

/// The counts of a decoded token, in the order of [`MachineRates::token`], with its time.
fn observed_token(sample: &Sample) -> Observation {
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
        .filter(|operation| operation.group == OperationGroup::KvCache);
    counts.extend([
        sum(|operation| operation.rows),
        sum(|operation| operation.columns),
        sample.layers,
        1.0,
        cached.map(|operation| operation.bytes as f64).sum(),
    ]);
    observation(counts, &sample.token)
}

/// The counts of a prompt, in the order of [`MachineRates::prompt`], with its time. The
/// head, which is computed for one token, is left out.
fn observed_prompt(sample: &Sample) -> Observation {
    let body = |pick: fn(&Operation) -> u64| {
        let matrices = sample.operations.iter().filter(is_matrix);
        let body = matrices.filter(|operation| operation.group != OperationGroup::Head);
        body.map(|operation| pick(operation) as f64).sum::<f64>()
    };
    let prompt = sample.prompt as f64;
    let mut counts = vec![0.0; FORMATS.len()];
    counts[sample.format] = body(|operation| operation.weights) * prompt;
    counts.extend([
        body(|operation| operation.rows) * prompt,
        sample.prompt_attention,
    ]);
    observation(counts, &sample.prompt_read)
}

fn observation(counts: Vec<f64>, times: &Times) -> Observation {
    Observation {
        counts,
        seconds: times.mean(),
        noise: times.noise().hypot(MODEL_ERROR),
    }
}

#[cfg(test)]
mod tests;
