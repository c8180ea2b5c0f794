//! How fast on processors: tokens a second from what this machine was measured to do.
//!
//! In: the operations of a decoded token and a machine's [`Cpu`] figures. Out: the same estimates as
//! for a GPU. Pure arithmetic, total as [`crate::plan::speed`] is.
//!
//! ```text
//! token  = sum over matrices of (bytes / rate(format) + rows x row + columns x column)
//!          + cache bytes / cache rate + layers x layer + token
//! prompt = sum over matrices of tokens x (weights / rate(format) + rows x row) + the head once
//!          + attention macs / attention rate + ubatches x (layers x layer + token)
//! ```
//!
//! The range holds nine in ten short runs: each cost is as uncertain as it was measured to be, runs differ by what
//! else the machine does, and no such sum is quite what happens.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::Cpu;
use crate::dtype::Dtype;
use crate::plan::speed::{
    Bound, Estimate, Group, Operation, Part, Prompt, PromptEstimate, Spread, finite, rate,
};

/// What the machine was measured with predicts its own runtime within this factor either way where nothing else is
/// uncertain (`cargo xtask bench predict`).
const OWN_SPREAD: f64 = 1.15;

/// Kernels of another runtime on the same machine: nobody measured them, their rates are like these
/// within this factor.
const OTHER_SPREAD: f64 = 2.0;

/// Standard deviations that hold nine in ten.
const NINE_IN_TEN: f64 = 1.645;

/// What is asked of the processors.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// The machine.
    pub cpu: &'a Cpu,
    /// Whether `runtime` is the one that the machine was measured with.
    pub own: bool,
    /// Layers of the model.
    pub layers: u64,
}

/// The measured cost that a part of a time is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cost {
    Format(Dtype),
    PromptFormat(Dtype),
    Row,
    Column,
    PromptRow,
    Layer,
    Token,
    Cache,
    Attention,
    Memory,
}

/// Seconds by the cost that they are made of.
#[derive(Clone, Debug, Default)]
struct Seconds(BTreeMap<Cost, f64>);

impl Seconds {
    fn add(&mut self, parts: impl IntoIterator<Item = (Cost, f64)>, times: f64) {
        for (cost, seconds) in parts {
            *self.0.entry(cost).or_default() += seconds * times;
        }
    }

    fn total(&self) -> f64 {
        self.0.values().sum()
    }
}

impl Machine<'_> {
    /// The factor, either way, that holds nine in ten runs which are expected to take `seconds`.
    fn spread(&self, seconds: &Seconds, unrest: f64) -> f64 {
        let own = if self.own { OWN_SPREAD } else { OTHER_SPREAD };
        let total = seconds.total().max(f64::MIN_POSITIVE);
        let costs = seconds.0.iter();
        let costs = costs.map(|(cost, part)| (self.uncertainty(*cost) * part / total).powi(2));
        let measured = (costs.sum::<f64>() + unrest.powi(2)).sqrt() * NINE_IN_TEN;
        finite(own.ln().hypot(measured).exp())
    }

    fn uncertainty(&self, cost: Cost) -> f64 {
        let all = &self.cpu.uncertainty;
        let rate = |dtype| self.cpu.rate(dtype);
        match cost {
            Cost::Format(dtype) => rate(dtype).map_or(0.0, |rate| rate.decode_uncertainty),
            Cost::PromptFormat(dtype) => rate(dtype).map_or(0.0, |rate| rate.prefill_uncertainty),
            Cost::Row => all.row,
            Cost::Column => all.column,
            Cost::PromptRow => all.prompt_row,
            Cost::Layer => all.layer,
            Cost::Token => all.token,
            Cost::Cache => all.cache,
            Cost::Attention => all.attention,
            Cost::Memory => 0.0,
        }
    }

    /// Seconds of an operation for one token.
    fn token_seconds(&self, operation: &Operation) -> [(Cost, f64); 3] {
        let bytes = operation.bytes as f64;
        let (cost, rate, edges) = match operation.group {
            Group::KvCache | Group::Recurrent => {
                (Cost::Cache, self.cpu.cache_bytes_per_second, [0.0; 2])
            }
            // Rows and norms: a few, read like anything else.
            Group::Other => (Cost::Memory, self.cpu.bandwidth_bytes_per_second, [0.0; 2]),
            _ => {
                let rate = self.cpu.rate(operation.dtype);
                let rate = rate.map_or(f64::INFINITY, |rate| rate.decode_bytes_per_second);
                let rows = operation.rows as f64 * self.cpu.row_seconds;
                let columns = operation.columns as f64 * self.cpu.column_seconds;
                (Cost::Format(operation.dtype), rate, [rows, columns])
            }
        };
        let [rows, columns] = edges;
        [
            (cost, bytes / rate),
            (Cost::Row, rows),
            (Cost::Column, columns),
        ]
    }

    /// Seconds of a pass beside its operations.
    fn overhead(&self) -> [(Cost, f64); 2] {
        let layers = self.layers as f64 * self.cpu.layer_seconds;
        [(Cost::Layer, layers), (Cost::Token, self.cpu.token_seconds)]
    }
}

/// The formats of matrices among `operations` that nobody measured on this machine: without them there is no
/// rate.
pub fn unmeasured(operations: &[Operation], cpu: &Cpu) -> Vec<Dtype> {
    let is_matrix = |operation: &&Operation| {
        !matches!(
            operation.group,
            Group::KvCache | Group::Recurrent | Group::Other
        )
    };
    let dtypes = operations.iter().filter(is_matrix);
    let dtypes: BTreeSet<Dtype> = dtypes.map(|operation| operation.dtype).collect();
    let unknown = dtypes
        .into_iter()
        .filter(|dtype| cpu.rate(*dtype).is_none());
    unknown.collect()
}

/// The rate of decoding one sequence after another's token: `parallel` sequences share nothing here.
pub fn decode(operations: &[Operation], parallel: u64, machine: Machine<'_>) -> Estimate {
    let cpu = machine.cpu;
    let each = |operation: &Operation| -> f64 {
        let parts = machine.token_seconds(operation).into_iter();
        parts.map(|(_, seconds)| seconds).sum()
    };
    let mut seconds = Seconds::default();
    for operation in operations {
        seconds.add(machine.token_seconds(operation), 1.0);
    }
    let matrices = seconds.total();
    seconds.add(machine.overhead(), 1.0);
    let overhead = seconds.total() - matrices;
    let factor = machine.spread(&seconds, cpu.uncertainty.decode_unrest);
    let bytes: f64 = operations
        .iter()
        .map(|operation| operation.bytes as f64)
        .sum();
    let floor = bytes / cpu.bandwidth_bytes_per_second;
    let ceiling = rate(1.0, floor);
    let named = operations
        .iter()
        .map(|operation| (operation.name.clone(), each(operation)));
    let overheads = [
        (
            "layers".to_owned(),
            machine.layers as f64 * cpu.layer_seconds,
        ),
        ("token".to_owned(), cpu.token_seconds),
    ];
    let batch = parallel.max(1);
    Estimate {
        tokens_per_second: spread(rate(1.0, seconds.total()), factor, ceiling),
        ceiling,
        ceiling_bound: Bound::Memory,
        bound: match () {
            () if overhead > matrices => Bound::Overhead,
            // Twice what reading alone would take: unpacking and multiplying take the rest.
            () if matrices > floor * 2.0 => Bound::Compute,
            () => Bound::Memory,
        },
        bytes_per_step: (bytes * batch as f64) as u64,
        flops_per_step: operations.iter().fold(0, |sum: u64, o| {
            sum.saturating_add(o.weights.saturating_mul(2 * batch))
        }),
        parts: named
            .chain(overheads)
            .map(|(name, seconds)| Part {
                name,
                seconds: finite(seconds),
            })
            .collect(),
    }
}

/// The rate and the time of reading `prompt`.
pub fn prefill(operations: &[Operation], prompt: Prompt, machine: Machine<'_>) -> PromptEstimate {
    let cpu = machine.cpu;
    let tokens = prompt.tokens.max(1) as f64;
    let passes = (tokens / prompt.ubatch.clamp(1, prompt.tokens.max(1)) as f64).ceil();
    let mut seconds = Seconds::default();
    let attention = prompt.attention_macs as f64 / cpu.attention_macs_per_second;
    seconds.add([(Cost::Attention, attention)], 1.0);
    seconds.add(machine.overhead(), passes);
    let mut bytes = 0.0;
    for operation in operations {
        let one = machine.token_seconds(operation);
        match operation.group {
            Group::KvCache => {}
            Group::Recurrent => seconds.add(one, tokens),
            Group::Head => seconds.add(one, 1.0),
            Group::Other => bytes += passes * operation.bytes as f64,
            Group::Attention | Group::FeedForward => {
                if let Some(rate) = cpu.rate(operation.dtype) {
                    let multiplied = operation.weights as f64 / rate.prefill_macs_per_second;
                    let rows = operation.rows as f64 * cpu.prompt_row_seconds;
                    let cost = Cost::PromptFormat(operation.dtype);
                    seconds.add([(cost, multiplied), (Cost::PromptRow, rows)], tokens);
                }
                bytes += passes * operation.bytes as f64;
            }
        }
    }
    let factor = machine.spread(&seconds, cpu.uncertainty.prefill_unrest);
    let ceiling = rate(tokens, bytes / cpu.bandwidth_bytes_per_second);
    let rates = spread(rate(tokens, seconds.total()), factor, ceiling);
    PromptEstimate {
        tokens_per_second: rates,
        time_to_first_token: Spread {
            low: finite(tokens / rates.high),
            expected: finite(tokens / rates.expected),
            high: finite(tokens / rates.low),
        },
        ceiling,
    }
}

fn spread(expected: f64, factor: f64, ceiling: f64) -> Spread {
    let expected = expected.min(ceiling);
    Spread {
        low: expected / factor,
        expected,
        high: (expected * factor).clamp(expected, ceiling.max(expected)),
    }
}
