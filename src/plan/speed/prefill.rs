//! The prefill rate, and the time to the first token.

use super::Spread;
use super::finite::{finite, rate, ratio};
use super::gpu::ClockedGpu;
use super::operation::{Operation, OperationGroup};
use super::time::{End, below, launches, moved, step_time};
use crate::runtime::profile::Speed;

/// A predicted prefill rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptEstimate {
    /// Prompt tokens a second, without the overhead of the request.
    pub tokens_per_second: Spread,
    /// Seconds from the request to the first token: `low` is the fast end.
    pub time_to_first_token: Spread,
    /// The highest rate that the hardware allows, in tokens a second.
    pub ceiling: f64,
}

/// The work of reading a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptWork {
    /// Tokens in it.
    pub tokens: u64,
    /// Tokens processed at once.
    pub ubatch: u64,
    /// Multiply-accumulates of attention over the whole prompt: the sum of [`attention_macs`] over the layers with
    /// attention.
    pub attention_macs: u64,
}

/// Multiply-accumulates of one layer's causal attention over a prompt of `tokens`: each token attends to itself and those
/// before it, at most `window` of them; `heads` query heads, with keys and values of these dimensions.
pub fn attention_macs(
    tokens: u64,
    heads: u64,
    key_dim: u64,
    value_dim: u64,
    window: Option<u64>,
) -> u64 {
    let (n, w) = (
        u128::from(tokens),
        u128::from(window.unwrap_or(tokens).min(tokens)),
    );
    let pairs = w * (w + 1) / 2 + (n - w) * w;
    let each = u128::from(heads).saturating_mul(u128::from(key_dim) + u128::from(value_dim));
    u64::try_from(pairs.saturating_mul(each)).unwrap_or(u64::MAX)
}

/// The prefill rate and the time to the first token of `prompt`. Each ubatch takes a pass over the weights and the launches
/// of every layer, each token its multiply-accumulates on the tensor cores, and the last token the head. `operations` are
/// those of [`super::decode()`]; [`PromptWork::attention_macs`] replaces those of the cache.
pub fn prefill(
    operations: &[Operation],
    layers: u64,
    prompt: PromptWork,
    gpu: &ClockedGpu,
    speed: &Speed,
) -> PromptEstimate {
    let tokens = prompt.tokens.max(1) as f64;
    let ubatch = prompt.ubatch.clamp(1, prompt.tokens.max(1)) as f64;
    let passes = (tokens / ubatch).ceil();
    let costs = &speed.prefill;
    let work = |end: End| {
        let mut seconds = 0.0;
        let mut cycles = prompt.attention_macs as f64 * costs.attention_cycles.value;
        for operation in operations {
            // Bytes that a ubatch reads, in multiples of those of a token.
            let spread = ratio(moved(operation, ubatch), operation.bytes as f64).max(1.0);
            let macs = operation.weights as f64 * tokens;
            match operation.group {
                OperationGroup::KvCache => {}
                OperationGroup::Head => {
                    seconds += step_time(operation, 1.0, gpu, speed, end).overlapped
                }
                OperationGroup::Recurrent => {
                    seconds += passes * step_time(operation, 1.0, gpu, speed, end).overlapped;
                    cycles += macs * speed.state_cycles.value;
                }
                OperationGroup::Attention | OperationGroup::FeedForward | OperationGroup::Other => {
                    seconds += passes * step_time(operation, spread, gpu, speed, end).overlapped;
                    let each = if operation.bits() < 12.0 {
                        &costs.quantized_cycles
                    } else {
                        &costs.float_cycles
                    };
                    cycles += macs * each.value;
                }
            }
        }
        let launch = launches(
            passes * layers as f64 * costs.ubatch_layer_seconds.value,
            gpu,
            speed,
        );
        seconds + (gpu.seconds(cycles) + launch) * end.slow(&costs.scale)
    };
    let mut memory_floor = 0.0;
    let mut compute_floor = gpu.seconds(ratio(prompt.attention_macs as f64, gpu.fp16_macs));
    for operation in operations {
        let (bytes, macs) = match operation.group {
            OperationGroup::KvCache => (0.0, 0.0),
            OperationGroup::Head => (operation.bytes as f64, operation.weights as f64),
            OperationGroup::Recurrent => (
                passes * operation.bytes as f64,
                operation.weights as f64 * tokens,
            ),
            _ => (
                passes * moved(operation, ubatch),
                operation.weights as f64 * tokens,
            ),
        };
        memory_floor += ratio(bytes, gpu.bandwidth.0);
        compute_floor += gpu.peak_seconds(operation, macs);
    }
    let ceiling = rate(tokens, memory_floor.max(compute_floor));
    let tokens_per_second = below(ceiling, |end| rate(tokens, work(end)));
    let first =
        |end: End, floor: f64| finite(ratio(tokens, floor) + end.slow(&costs.request_seconds));
    PromptEstimate {
        tokens_per_second,
        time_to_first_token: Spread {
            low: first(End::Fast, tokens_per_second.high),
            expected: first(End::Expected, tokens_per_second.expected),
            high: first(End::Slow, tokens_per_second.low),
        },
        ceiling,
    }
}
