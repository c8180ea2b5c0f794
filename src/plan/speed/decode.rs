//! The decode rate: the times of operations, launches and the host, added up.

use super::finite::{finite, rate, ratio};
use super::gpu::ClockedGpu;
use super::operation::{Operation, OperationGroup};
use super::time::{End, StepTime, below, launches, moved, step_time};
use super::{Bound, Spread, TimeTerm};
use crate::runtime::posterior::Shares;
use crate::runtime::profile::Speed;

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
    /// Floating-point operations of a step: two a multiply-accumulate.
    pub flops_per_step: u64,
    /// Where the expected time goes, in the order of the operations, then launches, then host.
    pub parts: Vec<TimeTerm>,
    /// The elasticities of the expected time to the parameters of the model; `None` where another model predicts.
    pub shares: Option<Shares>,
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
    let batch = parallel.max(1) as f64;
    step(operations, layers, batch, gpu, speed, End::Expected)
}

/// Seconds of a step at one end of the ranges: the operations one after the other, launches, the host, and the spread.
fn step(
    operations: &[Operation],
    layers: u64,
    batch: f64,
    gpu: &ClockedGpu,
    speed: &Speed,
    end: End,
) -> f64 {
    let worked: f64 = operations
        .iter()
        .map(|operation| step_time(operation, batch, gpu, speed, end).overlapped)
        .sum();
    let (launch, host) = overheads(layers, gpu, speed, end);
    (worked + launch + host) * end.slow(&speed.spread)
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
    let memory_floor = ratio(bytes, gpu.bandwidth.0);
    let compute_floor = operations
        .iter()
        .map(|o| gpu.peak_seconds(o, o.weights as f64 * batch))
        .sum::<f64>();
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
    DecodeEstimate {
        tokens_per_second: below(ceiling, |end| {
            rate(batch, step(operations, layers, batch, gpu, speed, end))
        }),
        ceiling,
        ceiling_bound: if compute_floor > memory_floor {
            Bound::Compute
        } else {
            Bound::Memory
        },
        bound,
        bytes_per_step: bytes as u64,
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
