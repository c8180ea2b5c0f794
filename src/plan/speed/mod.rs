//! The speed model of a GPU: tokens a second from the bytes and operations of a token, with a range and a ceiling.
//!
//! In: the operations of one decode step, the GPU as a power mode runs it, a runtime's `Speed`. Out:
//! [`DecodeEstimate`] and [`PromptEstimate`]. Pure arithmetic; must not know any model, board or runtime by
//! name. Total: absurd input gives zero or the ceiling, never a panic and never a number that is not
//! finite.
//!
//! The time of a decode step over `B` sequences is
//!
//! ```text
//! sum over operations of  [ m^p + a^p ]^(1/p)      m = min(B x bytes, stored) / (bandwidth x efficiency)
//!   + layers x launch x reference clock / clock    a = (1 + (B - 1) x share) / (SMs x clock) x
//!   + host                                             (rows x passes x quantum x cycles(format) + blocks x row cycles)
//! ```
//!
//! and the rate is `B` over that. `efficiency` is the runtime's `bandwidth_efficiency`, `p` its `overlap_norm`, `quantum`
//! the format's `row_quantum`. A row costs whole passes of the kernel over `quantum` weights each, and rows shorter than a
//! pass share a block; published rates of narrow models agree with both. Low and high follow from the ranges of the
//! runtime's parameters and from a spread of the whole. None may exceed the ceiling, which assumes full efficiency: bytes
//! over bandwidth, or multiply-accumulates over the tensor cores' peak, whichever takes longer.

mod decode;
mod finite;
mod gpu;
mod operation;
mod prefill;
mod requests;
mod time;

pub use decode::{
    DecodeEstimate, decode, decode_rates, main_format, memory_bytes, step_range, step_seconds,
    step_shares,
};
pub(super) use finite::{finite, rate};
pub use gpu::ClockedGpu;
pub use operation::{Operation, OperationGroup};
pub use prefill::{
    PromptEstimate, PromptWork, attention_cells, attention_macs, attention_pairs, prefill,
};
pub use requests::Requests;

/// What limits the speed of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Reading memory.
    Memory,
    /// Unpacking and multiplying.
    Compute,
    /// Kernel launches and work on the host.
    Overhead,
}

/// Three values of one quantity, `low <= expected <= high`; those of a rate are never above its ceiling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The slow end for a rate, the fast end for a time.
    pub low: f64,
    /// The most likely value.
    pub expected: f64,
    /// The other end.
    pub high: f64,
}

/// One term of the expected time of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeTerm {
    /// The operation's name, or `launches` or `host`.
    pub name: String,
    /// Seconds of a step.
    pub seconds: f64,
}
