//! The table of architectures. A new one is an entry here and, if its blocks are of a new kind, a
//! file beside this one.

mod common;
mod gemma;
mod llama;
mod qwen;

use super::arch::Arch;

/// Every known architecture.
pub(super) static ARCHITECTURES: &[&Arch] = &[
    &llama::LLAMA,
    &llama::SMOLLM3,
    &llama::PHI3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN3MOE,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA3N,
];
