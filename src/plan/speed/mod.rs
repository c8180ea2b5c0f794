//! How fast: tokens a second from the bytes and operations a token touches, with a range and a ceiling.
//!
//! In: the operations of one decode step, the GPU as a power mode runs it, a runtime's `Speed`. Out:
//! [`Estimate`] and [`PromptEstimate`]. Pure arithmetic; must not know any model, board or runtime by
//! name. Total: absurd input gives zero or the ceiling, never a panic and never a number that is not
//! finite.
//!
//! The time of a decode step over `B` sequences is
//!
//! ```text
//! sum over operations of  [ m^p + a^p ]^(1/p)      m = min(B x bytes, stored) / (bandwidth x reach)
//!   + layers x launch x reference clock / clock    a = (1 + (B - 1) x share) / (SMs x clock) x
//!   + host                                             (rows x passes x pass x cycles(format) + blocks x row cycles)
//! ```
//!
//! and the rate is `B` over that. A row costs whole passes of the kernel, and rows shorter than
//! a pass share a block: published rates of narrow models ask for both. Low and high come from the bounds of
//! the runtime's parameters and from a spread over the whole; none may pass the ceiling, which knows no
//! efficiency: bytes over bandwidth, or multiply-accumulates over the tensor cores' peak.

mod decode;
mod finite;
mod gpu;
mod operation;
mod prefill;
mod time;

pub use decode::{Estimate, decode, step_seconds};
pub(super) use finite::{finite, rate};
pub use gpu::Gpu;
pub use operation::{Group, Operation};
pub use prefill::{Prompt, PromptEstimate, attention_macs, prefill};

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
