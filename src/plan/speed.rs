//! How fast: tokens a second from the bytes and operations a token touches, with a range and a ceiling.
//!
//! In: the operations of one decode step, the GPU as a power mode runs it, a runtime's [`Speed`]. Out:
//! [`Estimate`] and [`PromptEstimate`]. Pure arithmetic; must not know any model, board or runtime by
//! name. Total: absurd input gives zero or the ceiling, never a panic and never a number that is not
//! finite.
//!
//! The time of a decode step over `B` sequences is
//!
//! ```text
//! sum over operations of  [ m^p + a^p ]^(1/p)      m = min(B x bytes, stored) / (bandwidth x reach)
//!   + layers x launch x reference clock / clock    a = B x (weights x cycles(format) + rows x row cycles)
//!   + host                                             x scale / (SMs x clock)
//! ```
//!
//! and the rate is `B` over that. Two things stand in it because the published rows ask
//! for: a cost for each output row of a matrix, and a softer norm. Low, expected and high come from the
//! same formula with the bounds of the runtime's parameters; none may pass the ceiling, which knows no
//! efficiency: bytes over bandwidth, or multiply-accumulates over the tensor cores' peak.

use crate::dtype::Dtype;
use crate::runtime::profile::{Range, Speed, Trust};
use crate::units::{BytesPerSecond, Hertz};

/// What part of the model an operation belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Projections around attention.
    Attention,
    /// Feed-forward, dense or routed.
    FeedForward,
    /// The output projection to the vocabulary: once a decode step, once a prompt.
    Head,
    /// Reading cached keys and values, and multiplying with them.
    KvCache,
    /// Reading, updating and writing recurrent or convolutional state.
    Recurrent,
    /// Whatever else is read from memory: embedding rows, norms.
    Other,
}

/// Something a decode step does: a matrix, or several of one format and group taken together.
///
/// Two matrices may share an operation if their format is the same: the model is linear in them up to
/// their shape, which only `rows` carries. Counts are for one token of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What an explanation calls it.
    pub name: String,
    /// What part of the model it belongs to.
    pub group: Group,
    /// Element format of what it reads.
    pub dtype: Dtype,
    /// Bytes one token moves.
    pub bytes: u64,
    /// Bytes that exist of it: what a batch reads at most. Equal to `bytes` for a dense matrix, all
    /// experts' bytes for routed ones, [`u64::MAX`] where each sequence has its own.
    pub stored: u64,
    /// Multiply-accumulates for one token: the weights it uses.
    pub weights: u64,
    /// Output rows for one token: the sum over matrices of their outermost dimension.
    pub rows: u64,
}

impl Operation {
    /// A dense matrix `[rows, columns]`, or several: a batch reads it once.
    pub fn dense(
        name: impl Into<String>,
        group: Group,
        dtype: Dtype,
        bytes: u64,
        weights: u64,
        rows: u64,
    ) -> Operation {
        Operation {
            name: name.into(),
            group,
            dtype,
            bytes,
            stored: bytes,
            weights,
            rows,
        }
    }

    /// Routed experts: `bytes`, `weights` and `rows` of those one token uses, `stored` bytes of all.
    pub fn experts(
        name: impl Into<String>,
        dtype: Dtype,
        bytes: u64,
        stored: u64,
        weights: u64,
        rows: u64,
    ) -> Operation {
        Operation {
            name: name.into(),
            group: Group::FeedForward,
            dtype,
            bytes,
            stored: stored.max(bytes),
            weights,
            rows,
        }
    }

    /// What each sequence has for itself: cached keys and values at the depth in question, or
    /// recurrent state (read and written: count it twice). `macs` for attention at depth `n`: query
    /// heads x (key + value dimension) x `n`, with the window for `n` in sliding layers.
    pub fn state(
        name: impl Into<String>,
        group: Group,
        dtype: Dtype,
        bytes: u64,
        macs: u64,
    ) -> Operation {
        Operation {
            name: name.into(),
            group,
            dtype,
            bytes,
            stored: u64::MAX,
            weights: macs,
            rows: 0,
        }
    }

    fn is_state(&self) -> bool {
        matches!(self.group, Group::KvCache | Group::Recurrent)
    }

    /// Bits a weight as stored, scales included.
    fn bits(&self) -> f64 {
        ratio(self.bytes as f64 * 8.0, self.weights as f64)
    }

    /// Whether integer units can do the multiplication: the weights are small integers with scales.
    fn is_integer(&self) -> bool {
        !self.is_state() && !is_fp8(self.dtype) && self.bits() < 12.0
    }
}

/// FP8 has no units before compute capability 8.9: it is widened, and computes as F16.
fn is_fp8(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// The GPU as one power mode runs it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gpu {
    /// Streaming multiprocessors that are on.
    pub sm_count: u32,
    /// Their clock.
    pub clock: Hertz,
    /// Peak memory bandwidth at the mode's memory clock.
    pub bandwidth: BytesPerSecond,
    /// Dense FP16 multiply-accumulates an SM does in a cycle.
    pub fp16_macs: f64,
    /// Dense INT8 multiply-accumulates an SM does in a cycle.
    pub int8_macs: f64,
}

impl Gpu {
    /// A GPU of compute capability 8.7. Orin Nano 8GB: 8 SMs at 625 MHz give 10 FP16 TFLOPS and 20 dense
    /// INT8 TOPS (data sheet), which is 1024 and 2048 multiply-accumulates an SM and cycle.
    pub fn sm87(sm_count: u32, clock: Hertz, bandwidth: BytesPerSecond) -> Gpu {
        Gpu {
            sm_count,
            clock,
            bandwidth,
            fp16_macs: 1024.0,
            int8_macs: 2048.0,
        }
    }

    fn seconds(&self, sm_cycles: f64) -> f64 {
        ratio(sm_cycles, f64::from(self.sm_count) * self.clock.0)
    }

    /// Seconds the tensor cores need for `macs` of this operation at their peak.
    fn peak_seconds(&self, operation: &Operation, macs: f64) -> f64 {
        let peak = if operation.is_integer() {
            self.int8_macs
        } else {
            self.fp16_macs
        };
        self.seconds(ratio(macs, peak))
    }
}

/// What holds a step back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Reading memory.
    Memory,
    /// Unpacking and multiplying.
    Compute,
    /// Launches and the host.
    Overhead,
}

/// Three values of one quantity, `low <= expected <= high`, never above the ceiling of rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The pessimistic end for a rate, the optimistic one for a time.
    pub low: f64,
    /// The value to count on.
    pub expected: f64,
    /// The other end.
    pub high: f64,
}

/// One line of the explanation: what takes how long, at the expected value.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The operation's name, or `launches` or `host`.
    pub name: String,
    /// Seconds of a step.
    pub seconds: f64,
}

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

/// How fast a prompt is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PromptEstimate {
    /// Prompt tokens a second, without the request's own time.
    pub tokens_per_second: Spread,
    /// Seconds from the request to the first token: `low` is the fast end.
    pub time_to_first_token: Spread,
    /// What the hardware allows at most, in tokens a second.
    pub ceiling: f64,
}

/// A prompt to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Tokens in it.
    pub tokens: u64,
    /// Tokens processed at once.
    pub ubatch: u64,
    /// Multiply-accumulates of attention over the whole prompt: the sum of [`attention_macs`] over the
    /// layers that attend.
    pub attention_macs: u64,
}

/// Multiply-accumulates of one layer's causal attention over a prompt of `tokens`: each token with
/// itself and all before it, at most `window`; `heads` query heads, key and value of these dimensions.
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

/// The rate of decoding `parallel` sequences (at least one) by `operations` in a model of `layers`.
pub fn decode(
    operations: &[Operation],
    layers: u64,
    parallel: u64,
    gpu: &Gpu,
    speed: &Speed,
) -> Estimate {
    let batch = parallel.max(1) as f64;
    let overheads = |end: End| {
        (
            launches(layers as f64 * end.slow(&speed.launch_seconds), gpu, speed),
            end.slow(&speed.host_seconds),
        )
    };
    let times = |end: End| {
        operations
            .iter()
            .map(move |operation| step_time(operation, batch, gpu, speed, end))
    };
    let seconds = |end: End| {
        let (launch, host) = overheads(end);
        times(end).map(|time| time.joined).sum::<f64>() + launch + host
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

    let (launch, host) = overheads(End::Expected);
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
        tokens_per_second: below(ceiling, |end| rate(batch, seconds(end))),
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

/// The rate and the time of reading `prompt`: for each ubatch one pass over the weights and a
/// launch of every layer, for each token its multiply-accumulates on the tensor cores; the head once,
/// for the last token. Of `operations`, the same as for [`decode`], the cache's are left out:
/// [`Prompt::attention_macs`] stands in their place.
pub fn prefill(
    operations: &[Operation],
    layers: u64,
    prompt: Prompt,
    gpu: &Gpu,
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
            // What a ubatch streams, in multiples of what a token touches.
            let spread = ratio(moved(operation, ubatch), operation.bytes as f64).max(1.0);
            let macs = operation.weights as f64 * tokens;
            match operation.group {
                Group::KvCache => {}
                Group::Head => seconds += step_time(operation, 1.0, gpu, speed, end).joined,
                Group::Recurrent => {
                    seconds += passes * step_time(operation, 1.0, gpu, speed, end).joined;
                    cycles += macs * speed.state_cycles.value;
                }
                Group::Attention | Group::FeedForward | Group::Other => {
                    seconds += passes * step_time(operation, spread, gpu, speed, end).joined;
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
            Group::KvCache => (0.0, 0.0),
            Group::Head => (operation.bytes as f64, operation.weights as f64),
            Group::Recurrent => (
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

/// Which end of every range enters.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Slow,
    Expected,
    Fast,
}

impl End {
    /// The value of a range whose high end makes things slow.
    fn slow(self, range: &Range) -> f64 {
        match self {
            End::Slow => range.high,
            End::Expected => range.expected,
            End::Fast => range.low,
        }
    }

    /// The value of a range whose high end makes things fast.
    fn fast(self, range: &Range) -> f64 {
        match self {
            End::Slow => range.low,
            End::Expected => range.expected,
            End::Fast => range.high,
        }
    }
}

/// A format's cost that nobody measured may be off by this factor either way, on top of the runtime's
/// own spread: the fitted costs of formats with the same bits (Q4_K, Q4_0, IQ4_XS) lie that far apart.
const DERIVED_SPREAD: f64 = 1.3;

struct StepTime {
    memory: f64,
    compute: f64,
    joined: f64,
}

/// The time of an operation for `batch` tokens of as many sequences.
fn step_time(operation: &Operation, batch: f64, gpu: &Gpu, speed: &Speed, end: End) -> StepTime {
    let (cycles, trust) = if operation.is_state() {
        (speed.state_cycles.value, Trust::Fitted)
    } else {
        speed.cost(operation.dtype, operation.bits())
    };
    let doubt = match (trust, end) {
        (Trust::Fitted | Trust::Measured, _) | (_, End::Expected) => 1.0,
        (_, End::Slow) => DERIVED_SPREAD,
        (_, End::Fast) => 1.0 / DERIVED_SPREAD,
    };
    let sm_cycles =
        operation.weights as f64 * cycles * doubt + operation.rows as f64 * speed.row_cycles.value;
    let memory = ratio(
        moved(operation, batch),
        gpu.bandwidth.0 * end.fast(&speed.reach),
    );
    let compute = gpu.seconds(batch * sm_cycles * end.slow(&speed.cost_scale));
    StepTime {
        memory,
        compute,
        joined: join(memory, compute, speed.join.value),
    }
}

/// Bytes that `batch` sequences move: each its own, never more than exist.
fn moved(operation: &Operation, batch: f64) -> f64 {
    (operation.bytes as f64 * batch).min(operation.stored as f64)
}

/// The p-norm of two times, without overflow.
fn join(a: f64, b: f64, p: f64) -> f64 {
    let (longer, shorter) = (a.max(b), a.min(b));
    if longer > 0.0 && longer.is_finite() {
        longer * (1.0 + (shorter / longer).powf(p)).powf(1.0 / p)
    } else {
        longer
    }
}

/// Launch time at the reference clock, at this clock.
fn launches(seconds: f64, gpu: &Gpu, speed: &Speed) -> f64 {
    seconds * ratio(speed.reference_clock_hz.value, gpu.clock.0)
}

/// `amount / per`, zero for nothing and infinite for something over nothing.
fn ratio(amount: f64, per: f64) -> f64 {
    if amount <= 0.0 {
        0.0
    } else if per > 0.0 {
        amount / per
    } else {
        f64::INFINITY
    }
}

/// Tokens over seconds; zero where nothing takes time or it takes for ever.
fn rate(tokens: f64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        finite(tokens / seconds)
    } else {
        0.0
    }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::MAX }
}

/// The rate at each end, none above the ceiling, in order whatever rounding does.
fn below(ceiling: f64, at: impl Fn(End) -> f64) -> Spread {
    let expected = at(End::Expected).min(ceiling);
    Spread {
        low: at(End::Slow).min(expected),
        expected,
        high: at(End::Fast).clamp(expected, ceiling.max(expected)),
    }
}
