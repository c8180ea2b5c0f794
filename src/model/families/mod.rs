//! The table of architectures. A new one is an entry here and, if its blocks are of a new kind, a
//! file beside this one.

mod common;
mod deepseek;
mod gemma;
mod gemma4;
mod glm;
mod gpt_oss;
mod granite;
mod llama;
mod olmo;
mod qwen;

use super::arch::Arch;

/// Every known architecture.
pub(super) static ARCHITECTURES: &[&Arch] = &[
    &llama::LLAMA,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &llama::PHI3,
    &qwen::QWEN2,
    &qwen::QWEN2VL,
    &qwen::QWEN2MOE,
    &qwen::QWEN3,
    &qwen::QWEN3MOE,
    &qwen::QWEN3VL,
    &qwen::QWEN3VLMOE,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA3N,
    &gemma4::GEMMA4,
    &granite::GRANITE,
    &granite::GRANITEMOE,
    &gpt_oss::GPT_OSS,
    &deepseek::DEEPSEEK2,
    &deepseek::DEEPSEEK3,
    &olmo::OLMO2,
    &olmo::OLMO3,
    &glm::GLM4,
];
