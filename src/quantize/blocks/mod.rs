//! Encodes rows of numbers into blocks, and decodes them: every GGUF format that a scheme can assign.
//!
//! `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1` and `Q8_0` are byte for byte those of ggml, with and
//! without importance, but where 16-bit weights lie on a grid of `Q4_0` or `Q4_1`, which is kept (`grid.rs`). The other
//! formats have a search of their own (`affine.rs`, `symmetric.rs`, `codebook`, `float4.rs`, `ternary.rs`). On the
//! weights of models its error, plain and weighted, is no larger than that of `llama-quantize`; with extreme outliers
//! among values or columns one of the two errors may be larger, and then the other is much smaller.
//!
//! Code is inlined into functions compiled for the instructions of the processor, except in unoptimised builds,
//! where that would only cost stack; `Lanes::outlined` splits it into functions of a size that compiles in
//! seconds.
//!
//! The bytes depend on the row alone: not on the machine, other rows, or the distribution of
//! rows to threads. Must not: do IO or start threads.

mod affine;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod codebook;
mod decode;
mod dispatch;
mod entry;
mod float4;
mod formats;
mod grid;
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
mod ternary;
#[cfg(test)]
mod tests;
mod unpack;
mod unpack_codebook;
mod unpack_few;
mod unpacked;

pub use entry::{decode_rows, encode_rows};
#[cfg(feature = "decode")]
pub(crate) use float4::LEVELS as FOUR_BIT_LEVELS;
pub use formats::{BlockError, Encoded, FORMATS, is_decoded};
pub use measure::{Deviation, deviation};
#[cfg(feature = "decode")]
pub(crate) use symmetric::IQ4_LEVELS;
#[cfg(feature = "decode")]
pub(crate) use unpack::unpack;
