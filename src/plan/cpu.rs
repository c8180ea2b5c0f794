//! How fast on processors: tokens a second from what this machine was measured to do.
//!
//! In: the operations of a decoded token and a machine's [`Cpu`] figures. Out: the same estimates as
//! for a GPU. Pure arithmetic, total as [`crate::plan::speed`] is.
//!
//! ```text
//! token  = sum over matrices of (bytes / rate(format) + rows x row) + cache bytes / cache rate
//!          + layers x layer + token
//! prompt = sum over matrices of tokens x (weights / rate(format) + rows x row) + the head once
//!          + attention macs / attention rate + ubatches x (layers x layer + token)
//! ```

use crate::device::Cpu;
use crate::plan::speed::{Bound, Estimate, Group, Operation, Part, Prompt, PromptEstimate, Spread};

/// What the machine was measured with predicts its own runtime within this factor either way
/// (`cargo xtask bench predict`).
const OWN_SPREAD: f64 = 1.15;

/// Kernels of another runtime on the same machine: nobody measured them, their rates are like these
/// within this factor.
const OTHER_SPREAD: f64 = 2.0;

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

impl Machine<'_> {
    fn spread(&self) -> f64 {
        match self.own {
            true => OWN_SPREAD,
            false => OTHER_SPREAD,
        }
    }

    /// Seconds of an operation for one token.
    fn token_seconds(&self, operation: &Operation) -> f64 {
        match operation.group {
            Group::KvCache | Group::Recurrent => {
                operation.bytes as f64 / self.cpu.cache_bytes_per_second
            }
            // Rows and norms: a few, read like anything else.
            Group::Other => operation.bytes as f64 / self.cpu.bandwidth_bytes_per_second,
            _ => self.cpu.rate(operation.dtype).map_or(0.0, |rate| {
                operation.bytes as f64 / rate.decode_bytes_per_second
                    + operation.rows as f64 * self.cpu.row_seconds
            }),
        }
    }
}

/// The rate of decoding one sequence after another's token: `parallel` sequences share nothing here.
pub fn decode(operations: &[Operation], parallel: u64, machine: Machine<'_>) -> Estimate {
    let cpu = machine.cpu;
    let each = |operation: &Operation| machine.token_seconds(operation);
    let matrices: f64 = operations.iter().map(each).sum();
    let overhead = machine.layers as f64 * cpu.layer_seconds + cpu.token_seconds;
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
        tokens_per_second: spread(rate(1.0, matrices + overhead), machine.spread(), ceiling),
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
    let mut seconds = prompt.attention_macs as f64 / cpu.attention_macs_per_second
        + passes * (machine.layers as f64 * cpu.layer_seconds + cpu.token_seconds);
    let mut bytes = 0.0;
    for operation in operations {
        let one = machine.token_seconds(operation);
        match operation.group {
            Group::KvCache => {}
            Group::Recurrent => seconds += one * tokens,
            Group::Head => seconds += one,
            Group::Other => bytes += passes * operation.bytes as f64,
            Group::Attention | Group::FeedForward => {
                if let Some(rate) = cpu.rate(operation.dtype) {
                    let multiplied = operation.weights as f64 / rate.prefill_macs_per_second;
                    seconds +=
                        tokens * (multiplied + operation.rows as f64 * cpu.prompt_row_seconds);
                }
                bytes += passes * operation.bytes as f64;
            }
        }
    }
    let ceiling = rate(tokens, bytes / cpu.bandwidth_bytes_per_second);
    let rates = spread(rate(tokens, seconds), machine.spread(), ceiling);
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

fn rate(tokens: f64, seconds: f64) -> f64 {
    match seconds > 0.0 {
        true => finite(tokens / seconds),
        false => f64::MAX,
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::MAX }
}
