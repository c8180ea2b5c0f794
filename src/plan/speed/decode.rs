//! The decode rate: the times of operations, launches and the host, added up.

use super::finite::{finite, rate, ratio};
use super::gpu::ClockedGpu;
use super::operation::{Operation, OperationGroup};
use super::time::{End, StepTime, below, launches, moved, read_from_memory, step_time};
use super::{Bound, Spread, TimeTerm};
use crate::runtime::posterior::Shares;
use crate::runtime::profile::{Range, Speed};

/// A predicted decode rate.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeEstimate {
    /// Tokens a second, over all sequences together.
    pub tokens_per_second: Spread,
    /// The highest rate that the hardware allows, in tokens a second.
    pub ceiling: f64,
    /// Whether memory or arithmetic sets the ceiling; never `Overhead`.
    pub ceiling_bound: Bound,
    /// What limits the expected rate.
    pub bound: Bound,
    /// Bytes that a step moves.
    pub bytes_per_step: u64,
    /// Bytes that a step is expected to read from memory: more than it moves where query heads read keys and values again
    /// that the L2 cache no longer holds.
    pub memory_bytes_per_step: f64,
    /// Floating-point operations of a step: two a multiply-accumulate.
    pub flops_per_step: u64,
    /// Where the expected time goes, in the order of the operations, then launches, then host.
    pub parts: Vec<TimeTerm>,
    /// The elasticities of the expected time to the parameters of the model; `None` where another model predicts.
    pub shares: Option<Shares>,
}

/// Bytes that a decode step of `parallel` sequences is expected to read from memory.
pub fn memory_bytes(operations: &[Operation], parallel: u64, speed: &Speed) -> f64 {
    let batch = parallel.max(1) as f64;
    let read = |operation: &Operation| read_from_memory(operation, batch, speed);
    finite(operations.iter().map(read).sum())
}

/// Seconds that one decode step of `parallel` sequences is expected to take, whatever the ceiling: the value that a fit
/// compares with a measurement. Equal to `parallel` over the expected rate of [`decode`] where that is below the ceiling.
pub fn step_seconds(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &ClockedGpu,
    speed: &Speed,
) -> f64 {
    let (batch, end) = (parallel.max(1) as f64, End::Expected);
    step(operations, layers, batch, gpu, speed, end) * end.slow(step_range(operations, speed))
}

/// Seconds of a step at one end of the ranges but for that of the whole: the operations one after the other, launches and the
/// host.
fn step(
    operations: &[Operation],
    layers: u64,
    batch: f64,
    gpu: &ClockedGpu,
    speed: &Speed,
    end: End,
) -> f64 {
    let worked = worked(operations, batch, gpu, speed, end);
    let (launch, host) = overheads(layers, gpu, speed, end);
    worked + launch + host
}

/// The factors on the time of a step with these operations: those of the format that most of its weights are in, or else the
/// runtime's.
pub fn step_range<'a>(operations: &[Operation], speed: &'a Speed) -> &'a Range {
    main_format(operations, speed)
        .and_then(|name| speed.format_spread.get(name))
        .unwrap_or(&speed.spread)
}

/// The format of `speed` that more than half of the bytes of a step's matrices are in.
pub fn main_format<'a>(operations: &[Operation], speed: &'a Speed) -> Option<&'a str> {
    let matrices = operations.iter().filter(|o| o.rows > 0 && !o.is_state());
    speed.main_format(matrices.map(|o| ((o.dtype, o.bits()), o.bytes)))
}

/// Seconds of operations, one after the other.
fn worked(operations: &[Operation], batch: f64, gpu: &ClockedGpu, speed: &Speed, end: End) -> f64 {
    let each = operations
        .iter()
        .map(|operation| step_time(operation, batch, gpu, speed, end).overlapped);
    each.sum()
}

/// The decode rates at several depths: `always` are the operations that are the same at each, `at_depths` the others. Those
/// of [`decode`], but for the last digits of the sums.
pub fn decode_rates(
    always: &[Operation],
    at_depths: &[Vec<Operation>],
    layers: u64,
    parallel: u64,
    gpu: &ClockedGpu,
    speed: &Speed,
) -> Vec<Spread> {
    let batch = parallel.max(1) as f64;
    let ends = [End::Slow, End::Expected, End::Fast];
    let fixed = ends.map(|end| step(always, layers, batch, gpu, speed, end));
    let floors = floors(always, batch, gpu);
    let range = step_range(always, speed);
    let rates = at_depths.iter().map(|operations| {
        let own = self::floors(operations, batch, gpu);
        let ceiling = rate(batch, (floors.0 + own.0).max(floors.1 + own.1));
        below(ceiling, |end| {
            let fixed = ends.iter().zip(fixed).find(|(own, _)| **own == end);
            let fixed = fixed.map_or(0.0, |(_, seconds)| seconds);
            let seconds = fixed + worked(operations, batch, gpu, speed, end);
            rate(batch, seconds * end.slow(range))
        })
    });
    rates.collect()
}

/// The least seconds of operations: of their bytes at the peak bandwidth, and of their arithmetic at the peak.
fn floors(operations: &[Operation], batch: f64, gpu: &ClockedGpu) -> (f64, f64) {
    let bytes: f64 = operations
        .iter()
        .map(|operation| moved(operation, batch))
        .sum();
    let compute = operations
        .iter()
        .map(|o| gpu.peak_seconds(o, o.weights as f64 * batch));
    (ratio(bytes, gpu.bandwidth.0), compute.sum())
}

/// The elasticities of [`step_seconds`] to the parameters of the speed model: by how many per cent it grows where reading
/// weights, arithmetic, attention over the cache, launches or the host take one per cent longer. Of the p-norm of two times
/// each has the share of its p-th power. `None` for a step that takes no time, or no end of it.
pub fn step_shares(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &ClockedGpu,
    speed: &Speed,
) -> Option<Shares> {
    let batch = parallel.max(1) as f64;
    let times = operations
        .iter()
        .map(|operation| step_time(operation, batch, gpu, speed, End::Expected));
    let times: Vec<StepTime> = times.collect();
    shares(
        operations,
        &times,
        overheads(layers, gpu, speed, End::Expected),
        speed,
    )
}

fn shares(
    operations: &[Operation],
    times: &[StepTime],
    (launch, host): (f64, f64),
    speed: &Speed,
) -> Option<Shares> {
    let mut seconds = Shares {
        launch,
        host,
        ..Shares::default()
    };
    for (operation, time) in operations.iter().zip(times) {
        if operation.group == OperationGroup::KvCache {
            seconds.cache += time.overlapped;
        } else if time.overlapped > 0.0 {
            let share = (time.memory / time.overlapped).powf(speed.overlap_norm.value);
            seconds.bandwidth += time.overlapped * share;
            seconds.arithmetic += time.overlapped * (1.0 - share).max(0.0);
        }
    }
    let worked = seconds.bandwidth + seconds.arithmetic + seconds.cache;
    let total = worked + launch + host;
    (total > 0.0 && total.is_finite()).then(|| Shares {
        bandwidth: seconds.bandwidth / total,
        arithmetic: seconds.arithmetic / total,
        cache: seconds.cache / total,
        launch: launch / total,
        host: host / total,
    })
}

/// Seconds of launches and of the host.
fn overheads(layers: u64, gpu: &ClockedGpu, speed: &Speed, end: End) -> (f64, f64) {
    (
        launches(layers as f64 * end.slow(&speed.launch_seconds), gpu, speed),
        end.slow(&speed.host_seconds),
    )
}

/// The decode rate of `parallel` sequences (at least one) of a model with these `operations` and `layers`.
pub fn decode(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &ClockedGpu,
    speed: &Speed,
) -> DecodeEstimate {
    let batch = parallel.max(1) as f64;
    let times = operations
        .iter()
        .map(|operation| step_time(operation, batch, gpu, speed, End::Expected));
    let times: Vec<StepTime> = times.collect();

    let bytes: f64 = operations
        .iter()
        .map(|operation| moved(operation, batch))
        .sum();
    let (memory_floor, compute_floor) = floors(operations, batch, gpu);
    let ceiling = rate(batch, memory_floor.max(compute_floor));

    let (launch, host) = overheads(layers, gpu, speed, End::Expected);
    let (memory, compute) = times.iter().fold((0.0, 0.0), |(m, c), time| {
        (m + time.memory, c + time.compute)
    });
    let overhead = launch + host;
    let bound = if overhead > memory.max(compute) {
        Bound::Overhead
    } else if compute > memory {
        Bound::Compute
    } else {
        Bound::Memory
    };
    let named = operations
        .iter()
        .zip(&times)
        .map(|(o, time)| (o.name.clone(), time.overlapped));
    let overheads = [("launches".to_owned(), launch), ("host".to_owned(), host)];
    let range = step_range(operations, speed);
    DecodeEstimate {
        tokens_per_second: below(ceiling, |end| {
            let seconds = step(operations, layers, batch, gpu, speed, end);
            rate(batch, seconds * end.slow(range))
        }),
        ceiling,
        ceiling_bound: if compute_floor > memory_floor {
            Bound::Compute
        } else {
            Bound::Memory
        },
        bound,
        bytes_per_step: bytes as u64,
        memory_bytes_per_step: memory_bytes(operations, parallel, speed),
        flops_per_step: operations
            .iter()
            .map(|o| o.weights as f64 * batch * 2.0)
            .sum::<f64>() as u64,
        parts: named
            .chain(overheads)
            .map(|(name, seconds)| TimeTerm {
                name,
                seconds: finite(seconds),
            })
            .collect(),
        shares: shares(operations, &times, (launch, host), speed),
    }
}
