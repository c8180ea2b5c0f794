//! The prefill rate, and the time to the first token.

use super::Spread;
use super::finite::{finite, rate, ratio};
use super::gpu::ClockedGpu;
use super::operation::{Operation, OperationGroup};
use super::time::{
    End, below, launches, memory_seconds, moved, overlapped, product_cycles, step_time,
};
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptWork {
    /// Tokens to read: those of the prompt that are not in the cache.
    pub tokens: u64,
    /// Tokens processed at once.
    pub ubatch: u64,
    /// Multiply-accumulates of attention over the whole prompt: the sum of [`attention_macs`] over the layers with
    /// attention.
    pub attention_macs: u64,
    /// Pairs of tokens whose scores kernels compute: the sum of [`attention_pairs`] over all query heads.
    pub attention_pairs: u64,
    /// Whether attention runs as one kernel.
    pub fused: bool,
    /// Bytes that move while cached keys and values become F16 for that kernel, over all ubatches; 0 of a cache in F16.
    pub widened_bytes: u64,
    /// Layers with recurrent state, whose kernels take one token after the other.
    pub recurrent_layers: u64,
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

/// Pairs of tokens whose scores one query head computes while it reads `tokens` behind `cached` ones: each ubatch with
/// all cells up to its end, or those of a `window` and itself, whether a token sees them or not.
pub fn attention_pairs(tokens: u64, cached: u64, ubatch: u64, window: Option<u64>) -> u64 {
    let ubatch = ubatch.clamp(1, tokens.max(1));
    let [whole, last] = cells(tokens, cached, ubatch, window);
    let (tokens, ubatch) = (u128::from(tokens), u128::from(ubatch));
    let pairs = ubatch
        .saturating_mul(whole)
        .saturating_add((tokens % ubatch).saturating_mul(last));
    u64::try_from(pairs).unwrap_or(u64::MAX)
}

/// Cells of one layer's cache that a kernel reads over all ubatches of `tokens` behind `cached` ones, as
/// [`attention_pairs`] counts them for a query head.
pub fn attention_cells(tokens: u64, cached: u64, ubatch: u64, window: Option<u64>) -> u64 {
    let [whole, last] = cells(tokens, cached, ubatch.clamp(1, tokens.max(1)), window);
    u64::try_from(whole.saturating_add(last)).unwrap_or(u64::MAX)
}

/// The cells that whole ubatches see, added up, and those that the shorter one behind them sees; 0 without one.
fn cells(tokens: u64, cached: u64, ubatch: u64, window: Option<u64>) -> [u128; 2] {
    let most = window.map_or(u64::MAX, |window| window.saturating_add(ubatch));
    let (n, u, c) = (u128::from(tokens), u128::from(ubatch), u128::from(cached));
    let most = u128::from(most);
    let whole = n / u;
    // The first `growing` ubatches see every cell; those behind them see as many as a window has.
    let growing = (most.saturating_sub(c) / u).min(whole);
    let cells = growing
        .saturating_mul(c)
        .saturating_add(u.saturating_mul(growing.saturating_mul(growing + 1) / 2))
        .saturating_add((whole - growing).saturating_mul(most));
    let last = if n % u > 0 { (c + n).min(most) } else { 0 };
    [cells, last]
}

/// Up to so many tokens are multiplied as in decode: `MMVQ_MAX_BATCH_SIZE` in ggml-cuda/mmvq.cuh.
const VECTOR_TOKENS: f64 = 8.0;

/// The prefill rate and the time to the first token of `prompt`. Each ubatch reads and unpacks the weights, each token
/// takes its multiply-accumulates on the tensor cores and moves its activations, and the last token the head.
/// `operations` are those of [`super::decode()`]; [`PromptWork`] has what replaces those of the cache.
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
    let work = |end: End| {
        let once: f64 = operations
            .iter()
            .filter(|operation| operation.group == OperationGroup::Head)
            .map(|operation| step_time(operation, 1.0, gpu, speed, end).overlapped)
            .sum();
        let whole = (tokens / ubatch).floor();
        let rest = tokens - whole * ubatch;
        let pass = |tokens: f64| ubatch_seconds(operations, layers, tokens, gpu, speed, end);
        let ubatches = whole * pass(ubatch) + if rest > 0.0 { pass(rest) } else { 0.0 };
        let costs = &speed.attention;
        let cycles = if prompt.fused {
            prompt.attention_macs as f64 * costs.mac_cycles.value
        } else {
            prompt.attention_pairs as f64 * costs.score_cycles.value
        };
        let widened = memory_seconds(prompt.widened_bytes as f64, gpu, speed, end);
        let attention = gpu.seconds(cycles) + widened;
        let steps = tokens * prompt.recurrent_layers as f64;
        let scan = ratio(steps * speed.prefill.scan_cycles.value, gpu.clock.0);
        (ubatches + once + attention + scan) * end.slow(&speed.prefill.scale)
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
    let request = &speed.prefill.request_seconds;
    let first = |end: End, floor: f64| finite(ratio(tokens, floor) + end.slow(request));
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

/// Seconds of a pass over `tokens` of a prompt, without attention and head.
fn ubatch_seconds(
    operations: &[Operation],
    layers: u64,
    tokens: f64,
    gpu: &ClockedGpu,
    speed: &Speed,
    end: End,
) -> f64 {
    let costs = &speed.prefill;
    let seconds = |operation: &Operation| match operation.group {
        OperationGroup::Head | OperationGroup::KvCache => 0.0,
        OperationGroup::Recurrent => {
            let state = step_time(operation, 1.0, gpu, speed, end).memory;
            let cycles = operation.weights as f64 * speed.state_cycles.value;
            state + gpu.seconds(tokens * cycles)
        }
        OperationGroup::Other => step_time(operation, tokens, gpu, speed, end).overlapped,
        OperationGroup::Attention | OperationGroup::FeedForward => {
            let activations = tokens * (operation.rows as f64 + operation.columns as f64);
            let moving =
                memory_seconds(activations * costs.activation_bytes.value, gpu, speed, end);
            let multiplied = if tokens <= VECTOR_TOKENS {
                step_time(operation, tokens, gpu, speed, end).overlapped
            } else {
                let memory = memory_seconds(moved(operation, tokens), gpu, speed, end);
                let cycles = product_cycles(operation, tokens, speed);
                overlapped(memory, gpu.seconds(cycles), speed.overlap_norm.value)
            };
            multiplied + moving
        }
    };
    let worked: f64 = operations.iter().map(seconds).sum();
    worked + launches(layers as f64 * costs.ubatch_layer_seconds.value, gpu, speed)
}
