//! The speed on processors: tokens a second by what this machine was measured to do.
//!
//! In: the operations of a decoded token and a machine's [`Cpu`] figures. Out: the same estimates as for a GPU. Pure
//! arithmetic, total as [`crate::plan::speed`] is.
//!
//! ```text
//! decode seconds  = sum over matrices of (bytes / rate(format) + rows x row cost + columns x column cost)
//!                   + cache bytes / cache rate + layers x layer cost + token cost
//! prefill seconds = sum over matrices of tokens x (weights / rate(format) + rows x row cost) + the head once
//!                   + attention macs / attention rate + ubatches x (layers x layer cost + token cost)
//! ```
//!
//! The range is to hold nine in ten short runs. It combines the uncertainty of each cost, the load noise of the machine
//! (what else it does) and the error of the cost model itself.

use std::collections::{BTreeMap, BTreeSet};

use crate::device::Cpu;
use crate::dtype::Dtype;
use crate::plan::speed::{
    Bound, DecodeEstimate, Operation, OperationGroup, PromptEstimate, PromptWork, Spread, TimeTerm,
    finite, rate,
};

/// The error of the cost model, as a factor either way that holds nine in ten runs of the runtime that the machine was
/// measured with (`cargo xtask bench predict`).
const OWN_SPREAD: f64 = 1.15;

/// The same for another runtime, whose kernels were not measured: their rates are within this factor of the measured
/// ones.
const OTHER_SPREAD: f64 = 2.0;

/// Nine in ten of a normal distribution lie within this many standard deviations.
const NINE_IN_TEN: f64 = 1.645;

/// The processors that run a model.
#[derive(Clone, Copy, Debug)]
pub struct CpuContext<'a> {
    /// What was measured of them.
    pub cpu: &'a Cpu,
    /// Whether the runtime is the one that they were measured with.
    pub own: bool,
    /// Layers of the model.
    pub layers: u64,
}

/// The measured cost that a part of a time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CostTerm {
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

/// Seconds by the cost that they come from.
#[derive(Clone, Debug, Default)]
struct CostBreakdown(BTreeMap<CostTerm, f64>);

impl CostBreakdown {
    fn add(&mut self, parts: impl IntoIterator<Item = (CostTerm, f64)>, times: f64) {
        for (cost, seconds) in parts {
            *self.0.entry(cost).or_default() += seconds * times;
        }
    }

    fn total(&self) -> f64 {
        self.0.values().sum()
    }
}

impl CpuContext<'_> {
    /// The factor, either way, within which nine in ten runs lie that are expected to take `seconds`.
    fn spread(&self, seconds: &CostBreakdown, load_noise: f64) -> f64 {
        let own = if self.own { OWN_SPREAD } else { OTHER_SPREAD };
        let total = seconds.total().max(f64::MIN_POSITIVE);
        let costs = seconds.0.iter();
        let costs = costs.map(|(cost, part)| (self.uncertainty(*cost) * part / total).powi(2));
        let measured = (costs.sum::<f64>() + load_noise.powi(2)).sqrt() * NINE_IN_TEN;
        finite(own.ln().hypot(measured).exp())
    }

    fn uncertainty(&self, cost: CostTerm) -> f64 {
        let all = &self.cpu.uncertainty;
        let rate = |dtype| self.cpu.rate(dtype);
        match cost {
            CostTerm::Format(dtype) => rate(dtype).map_or(0.0, |rate| rate.decode_uncertainty),
            CostTerm::PromptFormat(dtype) => {
                rate(dtype).map_or(0.0, |rate| rate.prefill_uncertainty)
            }
            CostTerm::Row => all.row,
            CostTerm::Column => all.column,
            CostTerm::PromptRow => all.prompt_row,
            CostTerm::Layer => all.layer,
            CostTerm::Token => all.token,
            CostTerm::Cache => all.cache,
            CostTerm::Attention => all.attention,
            CostTerm::Memory => 0.0,
        }
    }

    /// Seconds of an operation for one decoded token.
    fn token_seconds(&self, operation: &Operation) -> [(CostTerm, f64); 3] {
        let bytes = operation.bytes as f64;
        let (cost, rate) = match operation.group {
            OperationGroup::KvCache | OperationGroup::Recurrent => {
                (CostTerm::Cache, self.cpu.cache_bytes_per_second)
            }
            // Rows of the embedding and norms: small, read at the memory's bandwidth.
            OperationGroup::Other => (CostTerm::Memory, self.cpu.bandwidth_bytes_per_second),
            _ => {
                let rate = self.cpu.rate(operation.dtype);
                let rate = rate.map_or(f64::INFINITY, |rate| rate.decode_bytes_per_second);
                (CostTerm::Format(operation.dtype), rate)
            }
        };
        // Only matrices have rows and columns.
        let rows = operation.rows as f64 * self.cpu.row_seconds;
        let columns = operation.columns as f64 * self.cpu.column_seconds;
        [
            (cost, bytes / rate),
            (CostTerm::Row, rows),
            (CostTerm::Column, columns),
        ]
    }

    /// Seconds of a pass in addition to its operations.
    fn overhead(&self) -> [(CostTerm, f64); 2] {
        let layers = self.layers as f64 * self.cpu.layer_seconds;
        [
            (CostTerm::Layer, layers),
            (CostTerm::Token, self.cpu.token_seconds),
        ]
    }
}

/// The formats of matrices among `operations` whose rate was not measured on this machine. If there are any, no speed can
/// be predicted.
pub fn unmeasured(operations: &[Operation], cpu: &Cpu) -> Vec<Dtype> {
    let is_matrix = |operation: &&Operation| {
        !matches!(
            operation.group,
            OperationGroup::KvCache | OperationGroup::Recurrent | OperationGroup::Other
        )
    };
    let dtypes = operations.iter().filter(is_matrix);
    let dtypes: BTreeSet<Dtype> = dtypes.map(|operation| operation.dtype).collect();
    let unknown = dtypes
        .into_iter()
        .filter(|dtype| cpu.rate(*dtype).is_none());
    unknown.collect()
}

/// The rate of decoding `parallel` sequences (at least one). On processors they take turns, so the rate over all of them
/// is that of one.
pub fn decode(operations: &[Operation], parallel: u64, machine: CpuContext<'_>) -> DecodeEstimate {
    let cpu = machine.cpu;
    let each = |operation: &Operation| -> f64 {
        let parts = machine.token_seconds(operation).into_iter();
        parts.map(|(_, seconds)| seconds).sum()
    };
    let mut seconds = CostBreakdown::default();
    for operation in operations {
        seconds.add(machine.token_seconds(operation), 1.0);
    }
    let matrices = seconds.total();
    seconds.add(machine.overhead(), 1.0);
    let overhead = seconds.total() - matrices;
    let factor = machine.spread(&seconds, cpu.uncertainty.decode_load_noise);
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
    DecodeEstimate {
        tokens_per_second: spread(rate(1.0, seconds.total()), factor, ceiling),
        ceiling,
        ceiling_bound: Bound::Memory,
        bound: if overhead > matrices {
            Bound::Overhead
        } else if matrices > floor * 2.0 {
            // Over twice the time of reading alone: unpacking and multiplying take the rest.
            Bound::Compute
        } else {
            Bound::Memory
        },
        bytes_per_step: (bytes * batch as f64) as u64,
        memory_bytes_per_step: bytes * batch as f64,
        flops_per_step: operations.iter().fold(0, |sum: u64, o| {
            sum.saturating_add(o.weights.saturating_mul(2 * batch))
        }),
        parts: named
            .chain(overheads)
            .map(|(name, seconds)| TimeTerm {
                name,
                seconds: finite(seconds),
            })
            .collect(),
        shares: None,
    }
}

/// The prefill rate and the time to the first token of `prompt`.
pub fn prefill(
    operations: &[Operation],
    prompt: PromptWork,
    machine: CpuContext<'_>,
) -> PromptEstimate {
    let cpu = machine.cpu;
    let tokens = prompt.tokens.max(1) as f64;
    let passes = (tokens / prompt.ubatch.clamp(1, prompt.tokens.max(1)) as f64).ceil();
    let mut seconds = CostBreakdown::default();
    let attention = prompt.attention_macs as f64 / cpu.attention_macs_per_second;
    seconds.add([(CostTerm::Attention, attention)], 1.0);
    seconds.add(machine.overhead(), passes);
    let mut bytes = 0.0;
    for operation in operations {
        let one = machine.token_seconds(operation);
        match operation.group {
            OperationGroup::KvCache => {}
            OperationGroup::Recurrent => seconds.add(one, tokens),
            OperationGroup::Head => seconds.add(one, 1.0),
            OperationGroup::Other => bytes += passes * operation.bytes as f64,
            OperationGroup::Attention | OperationGroup::FeedForward => {
                if let Some(rate) = cpu.rate(operation.dtype) {
                    let multiplied = operation.weights as f64 / rate.prefill_macs_per_second;
                    let rows = operation.rows as f64 * cpu.prompt_row_seconds;
                    let cost = CostTerm::PromptFormat(operation.dtype);
                    seconds.add([(cost, multiplied), (CostTerm::PromptRow, rows)], tokens);
                }
                bytes += passes * operation.bytes as f64;
            }
        }
    }
    let factor = machine.spread(&seconds, cpu.uncertainty.prefill_load_noise);
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

/// `expected` within `factor` either way, and never above the ceiling.
fn spread(expected: f64, factor: f64, ceiling: f64) -> Spread {
    let expected = expected.min(ceiling);
    Spread {
        low: expected / factor,
        expected,
        high: (expected * factor).clamp(expected, ceiling.max(expected)),
    }
}
