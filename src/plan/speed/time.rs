//! The time of one operation at each end of a runtime's ranges.

use super::Spread;
use super::finite::ratio;
use super::gpu::ClockedGpu;
use super::operation::{Operation, OperationGroup};
use crate::runtime::profile::{Range, Speed};
use crate::sourced::Trust;

/// The end of every range that is used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Slow,
    Expected,
    Fast,
}

impl End {
    /// The value of a range whose high end makes things slow.
    pub(super) fn slow(self, range: &Range) -> f64 {
        match self {
            End::Slow => range.high,
            End::Expected => range.expected,
            End::Fast => range.low,
        }
    }

    /// The value of a range whose high end makes things fast.
    pub(super) fn fast(self, range: &Range) -> f64 {
        match self {
            End::Slow => range.low,
            End::Expected => range.expected,
            End::Fast => range.high,
        }
    }
}

/// The cost of a format that was not measured may be off by this factor either way, in addition to the runtime's own
/// spread: the fitted costs of formats with the same bits (Q4_K, Q4_0, IQ4_XS) differ that much.
const DERIVED_SPREAD: f64 = 1.3;

/// The same where no format that is unpacked in a like way was measured either.
const UNKNOWN_SPREAD: f64 = 2.0;

/// Tokens that the kernel for quantized matrices multiplies with one unpacked tile: `mmq_x` in ggml-cuda/mmq.cuh.
const TILE_TOKENS: f64 = 128.0;

/// The time of an operation in seconds.
pub(super) struct StepTime {
    /// Of its memory accesses alone.
    pub(super) memory: f64,
    /// Of its arithmetic alone.
    pub(super) compute: f64,
    /// Of both, as far as they overlap.
    pub(super) overlapped: f64,
}

/// So many rows shorter than a pass of llama.cpp's kernel are computed together: a block of four warps has a row for each
/// warp (`calc_rows_per_block` and `should_use_small_k`, ggml-cuda/mmvq.cu).
const SHORT_ROWS_TOGETHER: f64 = 4.0;

/// A row takes another pass only if it is longer than a whole number of passes by more than this share of one: rows of
/// routed experts are counted in whole numbers, so their length is not exact.
const PASS_TOLERANCE: f64 = 1e-3;

/// The time of an operation for `batch` tokens of as many sequences.
pub(super) fn step_time(
    operation: &Operation,
    batch: f64,
    gpu: &ClockedGpu,
    speed: &Speed,
    end: End,
) -> StepTime {
    let Work {
        cycles,
        trust,
        vector_batch,
    } = sm_cycles(operation, speed);
    let uncertainty = match (trust, end) {
        (Trust::Fitted | Trust::Published | Trust::Measured, _) | (_, End::Expected) => 1.0,
        (Trust::None, End::Slow) => UNKNOWN_SPREAD,
        (Trust::None, End::Fast) => 1.0 / UNKNOWN_SPREAD,
        (_, End::Slow) => DERIVED_SPREAD,
        (_, End::Fast) => 1.0 / DERIVED_SPREAD,
    };
    let repeated = if operation.is_state() {
        batch
    } else {
        1.0 + (batch - 1.0).max(0.0) * speed.batch_share.value
    };
    let memory = memory_seconds(read_from_memory(operation, batch, speed), gpu, speed, end);
    let repeated = repeated * cycles;
    let vector = Vector {
        one: cycles,
        repeated,
        most: vector_batch,
    };
    let together = batched(operation, batch, vector, speed, end);
    let compute = gpu.seconds(together * uncertainty * end.slow(&speed.cost_scale));
    let scale = match operation.group {
        OperationGroup::KvCache => speed.attention.decode_scale,
        _ => 1.0,
    };
    let (memory, compute) = (memory * scale, compute * scale);
    StepTime {
        memory,
        compute,
        overlapped: overlapped(memory, compute, speed.overlap_norm.value),
    }
}

/// The products of a batch by the kernel that multiplies one sequence after the other.
struct Vector {
    /// SM cycles of one sequence.
    one: f64,
    /// Those of the batch.
    repeated: f64,
    /// The format's own largest batch for this kernel.
    most: Option<u64>,
}

/// SM cycles of a batch. Above the format's or else the runtime's `vector_batch` they are those of a prompt, which unpacks
/// a tile of weights once; no fewer than those of the largest batch below it, or it would be taken earlier. At the slow
/// end they remain those of one product after the other, except where the format has its own `vector_batch`, which rests
/// on measurements. Matrices outside of blocks and head are left as they are: the fit of prompts counts them so.
fn batched(operation: &Operation, batch: f64, vector: Vector, speed: &Speed, end: End) -> f64 {
    let of_runtime = speed.vector_batch.as_ref().map(|most| most.value);
    let is_product = matches!(
        operation.group,
        OperationGroup::Attention | OperationGroup::FeedForward | OperationGroup::Head
    );
    let is_tiled =
        |most: &f64| is_product && batch > *most && (end != End::Slow || vector.most.is_some());
    let most = vector.most.or(of_runtime).map(|most| most as f64);
    let Some(most) = most.filter(is_tiled) else {
        return vector.repeated;
    };
    let below = vector.one * (1.0 + (most - 1.0).max(0.0) * speed.batch_share.value);
    product_cycles(operation, batch, speed)
        .max(below)
        .min(vector.repeated.max(below))
}

/// SM cycles to multiply `tokens` with a matrix.
pub(super) fn product_cycles(operation: &Operation, tokens: f64, speed: &Speed) -> f64 {
    let costs = &speed.prefill;
    if operation.bits() >= 12.0 {
        return operation.weights as f64 * tokens * costs.float_cycles.value;
    }
    // A ubatch touches this many times the weights of one token: more than one for routed experts, each of which then
    // sees as many times fewer tokens.
    let touched = ratio(moved(operation, tokens), operation.bytes as f64).max(1.0);
    if let Some(most) = costs
        .expert_tile_tokens
        .as_ref()
        .filter(|_| operation.is_routed())
    {
        // An expert takes whole tiles: half of one more than its share of the tokens fills.
        let width = tokens.min(most.value as f64);
        let tiles = (tokens / touched / width + 0.5).max(1.0) * touched;
        let cycles = costs.tile_cycles.value + width * costs.quantized_cycles.value;
        return operation.tiled as f64 * tiles * cycles;
    }
    let tiles = (tokens / touched / TILE_TOKENS).ceil().max(1.0) * touched;
    operation.tiled as f64
        * (tiles * costs.tile_cycles.value + tokens * costs.quantized_cycles.value)
}

/// Seconds to move `bytes`.
pub(super) fn memory_seconds(bytes: f64, gpu: &ClockedGpu, speed: &Speed, end: End) -> f64 {
    ratio(
        bytes,
        gpu.bandwidth.0 * end.fast(&speed.bandwidth_efficiency),
    )
}

/// Bytes that `batch` sequences read from memory.
pub(super) fn read_from_memory(operation: &Operation, batch: f64, speed: &Speed) -> f64 {
    moved(operation, batch) + batch * spilled(operation, speed)
}

/// Bytes that are read again from memory because the L2 cache no longer holds them: none of a short cache, all of a
/// long one.
fn spilled(operation: &Operation, speed: &Speed) -> f64 {
    let depth = operation.depth as f64;
    read_again(operation) * ratio(depth, depth + speed.attention.spill_tokens.value)
}

/// Bytes that pass through the SMs a second time or more.
fn read_again(operation: &Operation) -> f64 {
    operation.read.saturating_sub(operation.bytes) as f64
}

/// The arithmetic of one token.
struct Work {
    /// SM cycles.
    cycles: f64,
    /// How far the cost of its format can be relied on.
    trust: Trust,
    /// As [`WeightCost::vector_batch`].
    ///
    /// [`WeightCost::vector_batch`]: crate::runtime::profile::WeightCost::vector_batch
    vector_batch: Option<u64>,
}

/// The arithmetic of one token.
fn sm_cycles(operation: &Operation, speed: &Speed) -> Work {
    let (weights, rows) = (operation.weights as f64, operation.rows as f64);
    let fitted = |cycles| Work {
        cycles,
        trust: Trust::Fitted,
        vector_batch: None,
    };
    match operation.group {
        OperationGroup::KvCache => {
            return fitted(read_again(operation) * speed.attention.byte_cycles.value);
        }
        OperationGroup::Recurrent => return fitted(weights * speed.state_cycles.value),
        _ => {}
    }
    let cost = speed.cost(operation.dtype, operation.bits());
    let (worked, blocks) = match cost.row_quantum {
        Some(quantum) if rows > 0.0 && quantum > 0 => {
            let passes = weights / rows / quantum as f64;
            let whole = (passes - PASS_TOLERANCE).ceil().max(1.0);
            let together = if passes < 1.0 - PASS_TOLERANCE {
                SHORT_ROWS_TOGETHER
            } else {
                1.0
            };
            (whole * quantum as f64 * rows, rows / together)
        }
        _ => (weights, rows),
    };
    Work {
        cycles: worked * cost.cycles + blocks * speed.row_cycles.value,
        trust: cost.trust,
        vector_batch: cost.vector_batch,
    }
}

/// Bytes that `batch` sequences move: those of each, but at most those stored.
pub(super) fn moved(operation: &Operation, batch: f64) -> f64 {
    (operation.bytes as f64 * batch).min(operation.stored as f64)
}

/// The p-norm of two times, without overflow.
pub(super) fn overlapped(a: f64, b: f64, p: f64) -> f64 {
    let (longer, shorter) = (a.max(b), a.min(b));
    if longer > 0.0 && longer.is_finite() {
        longer * (1.0 + (shorter / longer).powf(p)).powf(1.0 / p)
    } else {
        longer
    }
}

/// The launch time at this clock, for `seconds` at the reference clock.
pub(super) fn launches(seconds: f64, gpu: &ClockedGpu, speed: &Speed) -> f64 {
    seconds * ratio(speed.reference_clock_hz.value, gpu.clock.0)
}

/// The rate at each end, none above the ceiling; in order even if rounding would swap two.
pub(super) fn below(ceiling: f64, at: impl Fn(End) -> f64) -> Spread {
    let expected = at(End::Expected).min(ceiling);
    Spread {
        low: at(End::Slow).min(expected),
        expected,
        high: at(End::Fast).clamp(expected, ceiling.max(expected)),
    }
}
