//! Rows of numbers in, encoded blocks out, and back: every GGUF format that a scheme can assign.
//!
//! `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Q8_0` come out byte for byte as ggml writes them, with and
//! without importance. For the others the search is our own (`affine.rs` and `symmetric.rs`). On the
//! weights of models its error is no larger than that of `llama-quantize`, plain and weighted; where
//! single values or columns tower over all others one of the two may come out larger, and
//! then the other is much smaller.
//!
//! Code is inlined into functions compiled for the processor at hand, except in unoptimised builds,
//! where that would only cost stack; `Lanes::outlined` cuts it into pieces of a size that compiles in
//! seconds.
//!
//! The bytes depend on the row alone: not on the machine, on the rows beside it or on how the
//! rows are dealt out to threads. Does no IO and starts no thread.

mod affine;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod decode;
mod dispatch;
mod entry;
mod formats;
pub mod half;
mod iq4;
mod kquants;
mod lanes;
mod legacy;
mod legacy_weighted;
mod measure;
mod pack;
mod rows;
mod scaling;
mod symmetric;
#[cfg(test)]
mod tests;

pub use entry::{decode_rows, encode_rows};
pub use formats::{BlockError, Encoded, FORMATS};
pub use measure::{Deviation, deviation};
