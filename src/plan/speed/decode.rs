//! The rate of decoding: operations, launches and the host, added up.

use super::finite::{finite, rate, ratio};
use super::gpu::Gpu;
use super::operation::Operation;
use super::time::{End, below, launches, moved, step_time};
use super::{Bound, Part, Spread};
use crate::runtime::profile::Speed;

/// How fast tokens are decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Tokens a second, over all sequences together.
    pub tokens_per_second: Spread,
    /// What the hardware allows at most, in tokens a second.
    pub ceiling: f64,
    /// Whether memory or arithmetic sets the ceiling; never `Overhead`.
    pub ceiling_bound: Bound,
    /// What takes most of the expected time.
    pub bound: Bound,
    /// Bytes a step moves.
    pub bytes_per_step: u64,
    /// Floating-point operations of a step: two a multiply-accumulate.
    pub flops_per_step: u64,
    /// Where the expected time goes, in the order of the operations, then launches, then host.
    pub parts: Vec<Part>,
}

/// Seconds that one decode step of `parallel` sequences is expected to take, without the ceiling:
/// what a fit compares with a measurement. Equal to `parallel` over [`decode`]'s expected rate wherever
/// that lies below the ceiling.
pub fn step_seconds(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &Gpu,
    speed: &Speed,
) -> f64 {
    let batch = parallel.max(1) as f64;
    step(operations, layers, batch, gpu, speed, End::Expected)
}

/// Operations one after the other, launches, the host, and the spread that this end has.
fn step(
    operations: &[Operation],
    layers: u64,
    batch: f64,
    gpu: &Gpu,
    speed: &Speed,
    end: End,
) -> f64 {
    let worked: f64 = operations
        .iter()
        .map(|operation| step_time(operation, batch, gpu, speed, end).joined)
        .sum();
    let (launch, host) = overheads(layers, gpu, speed, end);
    (worked + launch + host) * end.slow(&speed.spread)
}

/// Seconds of launches and of the host.
fn overheads(layers: u64, gpu: &Gpu, speed: &Speed, end: End) -> (f64, f64) {
    (
        launches(layers as f64 * end.slow(&speed.launch_seconds), gpu, speed),
        end.slow(&speed.host_seconds),
    )
}

/// The rate of decoding `parallel` sequences (at least one) by `operations` in a model of `layers`.
pub fn decode(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &Gpu,
    speed: &Speed,
) -> Estimate {
    let batch = parallel.max(1) as f64;
    let times = |end: End| {
        operations
            .iter()
            .map(move |operation| step_time(operation, batch, gpu, speed, end))
    };

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
    let (memory, compute) = times(End::Expected).fold((0.0, 0.0), |(m, c), time| {
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
        .zip(times(End::Expected))
        .map(|(o, time)| (o.name.clone(), time.joined));
    let overheads = [("launches".to_owned(), launch), ("host".to_owned(), host)];
    Estimate {
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
            .map(|(name, seconds)| Part {
                name,
                seconds: finite(seconds),
            })
            .collect(),
    }
}
