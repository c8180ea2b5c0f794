//! Measures this machine for plans of its own decoder: what memory gives, and what a token costs by
//! format, row, layer and depth.
//!
//! In: a folder for scratch files. Out: a [`Cpu`]. Small models that are only shapes are decoded, two
//! for each format, and the costs are what explains their times. They are no model's shape: what is
//! predicted afterwards was not seen.

mod bandwidth;
mod solve;
mod synthetic;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::candle::{self, Timed};
use super::control::Progress;
use super::error::ValidateError;
use crate::checkpoint::CheckpointError;
use crate::decode::{LoadOptions, Model, has_kernel, threads};
use crate::device::{Cpu, FormatRate};
use crate::dtype::Dtype;
use crate::model::{ModelError, ModelSpec};
use crate::plan::Workload;
use crate::plan::operations::{decode_operations, prompt_attention};
use crate::plan::speed::{Group, Operation};
use crate::scheme::{self, Container};

pub use synthetic::{Tensor, write_repeated};

use synthetic::Shape;

/// The runtime that is measured, by the id of its profile.
pub const RUNTIME: &str = "candle-cpu";

/// The formats that are measured. Others are taken for the nearest in bits.
const FORMATS: [Dtype; 10] = [
    Dtype::Q4_K,
    Dtype::Q6_K,
    Dtype::Q8_0,
    Dtype::Q4_0,
    Dtype::Q5_0,
    Dtype::F16,
    Dtype::Q5_K,
    Dtype::BF16,
    Dtype::Q3_K,
    Dtype::Q2_K,
];

/// Many narrow layers: what is paid by layer and row stands out.
const NARROW: Shape = Shape {
    layers: 16,
    hidden: 768,
    inner: 2048,
    heads: 12,
    kv_heads: 4,
    head_dim: 64,
    vocab: 24_576,
};

/// A few wide ones: what is paid by byte does.
const WIDE: Shape = Shape {
    layers: 3,
    hidden: 2048,
    inner: 5632,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    vocab: 12_288,
};

/// The shape and format at which depth is measured.
const DEEP: (Shape, Dtype) = (NARROW, Dtype::Q4_0);

/// Tokens of the prompts: a short one, and one that leaves a deep cache.
const SHORT: usize = 64;
const LONG: usize = 768;

/// Tokens decoded behind a prompt.
const TOKENS: u64 = 32;

/// How often everything is measured: what else the machine does comes and goes by seconds.
const ROUNDS: usize = 2;

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

/// A run of a shape.
struct Sample {
    /// Bytes of matrices by format, as indices of [`FORMATS`].
    format: usize,
    operations: Vec<Operation>,
    layers: f64,
    prompt: f64,
    prompt_attention: f64,
    /// Of every token decoded.
    token_seconds: Vec<f64>,
    prompt_seconds: f64,
}

impl Sample {
    /// The same sample, measured again.
    fn merge(&mut self, other: Sample) {
        self.token_seconds.extend(other.token_seconds);
        self.prompt_seconds = self.prompt_seconds.min(other.prompt_seconds);
    }
}

/// Measures this machine, which `processor` names, with scratch files in `folder`. `date` is kept with
/// the numbers.
///
/// # Errors
/// [`CalibrateError`]; [`ValidateError::Cancelled`] within it once `cancel` is set.
pub fn calibrate(
    processor: &str,
    date: String,
    folder: &Path,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Cpu, CalibrateError> {
    let started = Instant::now();
    progress(&Progress::stage("reading memory"));
    let bandwidth = bandwidth::bandwidth(threads());
    let mut samples: Vec<Sample> = Vec::new();
    for round in 1..=ROUNDS {
        let mut these = Vec::new();
        for (index, format) in FORMATS.into_iter().enumerate() {
            let stage = format!("round {round} of {ROUNDS}: {}", format.name());
            progress(&Progress::stage(stage));
            for shape in [NARROW, WIDE] {
                let deep = (shape.layers, format) == (DEEP.0.layers, DEEP.1);
                let prompts: &[usize] = if deep { &[SHORT, LONG] } else { &[SHORT] };
                these.extend(sample(shape, index, prompts, folder, cancel)?);
            }
        }
        match samples.is_empty() {
            true => samples = these,
            false => samples
                .iter_mut()
                .zip(these)
                .for_each(|(sample, again)| sample.merge(again)),
        }
    }
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

/// Runs `shape` with matrices of a format behind each of the prompts.
fn sample(
    shape: Shape,
    format: usize,
    prompts: &[usize],
    folder: &Path,
    cancel: &AtomicBool,
) -> Result<Vec<Sample>, CalibrateError> {
    let path = folder.join("calibration.gguf");
    let (checkpoint, spec) = shape.make(FORMATS[format], &path)?;
    let options = LoadOptions {
        context: (LONG + 2 * SHORT) as u64,
        ..LoadOptions::default()
    };
    let loaded = Model::load(&checkpoint, &spec, &options, &mut |_| {});
    // The weights are in memory: the file has done its work.
    let _ = std::fs::remove_file(&path);
    let mut model = loaded.map_err(ValidateError::from)?;
    let mut run = |tokens: usize| -> Result<Timed, ValidateError> {
        let prompt: Vec<u32> = (0..tokens as u32)
            .map(|id| id % spec.dims.vocab as u32)
            .collect();
        candle::run(&mut model, &prompt, TOKENS, cancel, &mut |_| {})
    };
    // The first pass touches everything once.
    run(1)?;
    let mut samples = Vec::new();
    for &tokens in prompts {
        let timed = run(tokens)?;
        samples.push(Sample {
            format,
            operations: operations(&spec, tokens as u64 + TOKENS / 2),
            layers: spec.layers.len() as f64,
            prompt: tokens as f64,
            prompt_attention: prompt_attention(&spec, tokens as u64) as f64,
            token_seconds: timed.steps,
            prompt_seconds: timed.prefill,
        });
    }
    Ok(samples)
}

/// What a token at `depth` touches.
fn operations(spec: &ModelSpec, depth: u64) -> Vec<Operation> {
    let workload = Workload {
        prompt_tokens: depth,
        ..Workload::default()
    };
    let stored = scheme::stored(spec, "calibration", Container::Gguf);
    decode_operations(spec, &stored, &workload)
}

fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(0.0)
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
        (counts, median(&sample.token_seconds))
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
        counts[sample.format] = body(|operation| operation.weights) * sample.prompt;
        counts.extend([
            body(|operation| operation.rows) * sample.prompt,
            sample.prompt_attention,
        ]);
        (counts, sample.prompt_seconds)
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
