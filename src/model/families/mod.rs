//! The table of architectures. A new architecture is an entry in one of the files of this folder, or in a new one, and a
//! line in the table.

mod apertus;
mod arcee;
mod baichuan;
mod bamba;
mod bert;
mod bitnet;
mod cohere;
mod common;
mod deepseek;
mod ernie;
mod exaone;
mod falcon_h1;
mod gemma;
mod gemma4;
mod glm;
mod gpt_oss;
mod gptneox;
mod granite;
mod granite_hybrid;
mod hunyuan;
mod hunyuan_moe;
mod hybrid;
mod internlm2;
mod jamba;
mod keys;
mod kimi_linear;
mod lfm2;
mod llama;
mod llama4;
mod loader_keys;
mod mamba;
mod mamba2;
mod minicpm;
mod minicpm3;
mod minicpm_v;
mod mllama;
mod moondream;
mod nemotron;
mod nemotron_h;
mod nomic_moe;
mod olmo;
mod phi2;
mod phi4_multimodal;
mod phimoe;
mod plamo2;
mod qwen;
mod qwen_next;
mod rwkv7;
mod seed_oss;
mod stablelm;
mod starcoder2;
pub mod tokenizers;
mod zamba2;

use super::arch::{Arch, Variant};

pub(super) use hybrid::{RECURRENT_KINDS, ssm_inner};
pub(super) use zamba2::shared_transformers;

/// GGUF's name of the architecture of a plain transformer.
pub(super) const PLAIN: &str = "llama";

/// Prefixes of tensors that are names of model types.
pub(super) const PREFIXES: &[&str] = &["gpt_neox.", "roberta.", "bert."];

/// Classes that keep their configuration whole in one object (`config`), in parts of their own names, whatever it leaves out.
pub(super) const WHOLE_IN_ONE: &[&str] = &[moondream::CLASS];

/// Every known architecture.
pub(super) static ARCHITECTURES: &[&Arch] = &[
    &llama::LLAMA,
    &llama::MISTRAL3,
    &llama::SMOLLM3,
    &llama::PHI3,
    &phi4_multimodal::PHI4_MULTIMODAL,
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
    &gemma::GEMMA_EMBEDDING,
    &gemma4::GEMMA4,
    &granite::GRANITE,
    &granite::GRANITEMOE,
    &gpt_oss::GPT_OSS,
    &deepseek::DEEPSEEK2,
    &deepseek::DEEPSEEK3,
    &deepseek::DEEPSEEK2_OCR,
    &deepseek::GLM4_MOE_LITE,
    &olmo::OLMO2,
    &olmo::OLMO3,
    &glm::GLM4,
    &glm::GLM4V,
    &qwen_next::QWEN3NEXT,
    &qwen_next::QWEN35,
    &qwen_next::QWEN35MOE,
    &lfm2::LFM2,
    &lfm2::LFM2MOE,
    &granite_hybrid::GRANITE_HYBRID,
    &bamba::BAMBA,
    &nemotron_h::NEMOTRON_H,
    &nemotron_h::NEMOTRON_H_MOE,
    &falcon_h1::FALCON_H1,
    &starcoder2::STARCODER2,
    &seed_oss::SEED_OSS,
    &ernie::ERNIE4_5,
    &ernie::ERNIE4_5_MOE,
    &exaone::EXAONE4,
    &minicpm::MINICPM,
    &minicpm3::MINICPM3,
    &stablelm::STABLELM,
    &arcee::ARCEE,
    &apertus::APERTUS,
    &nemotron::NEMOTRON,
    &olmo::OLMO,
    &olmo::OLMOE,
    &phi2::PHI2,
    &moondream::MOONDREAM2,
    &cohere::COHERE2,
    &cohere::COHERE,
    &exaone::EXAONE,
    &mamba2::MAMBA2_ALONE,
    &mamba::MAMBA,
    &mamba::FALCON_MAMBA,
    &jamba::JAMBA,
    &plamo2::PLAMO2,
    &kimi_linear::KIMI_LINEAR,
    &rwkv7::RWKV7,
    &glm::GLM,
    &gptneox::GPTNEOX,
    &hunyuan::HUNYUAN_DENSE,
    &hunyuan_moe::HUNYUAN_MOE,
    &phimoe::PHIMOE,
    &baichuan::BAICHUAN,
    &internlm2::INTERNLM2,
    &bitnet::BITNET,
    &bitnet::BITNET_2B,
    &llama4::LLAMA4,
    &mllama::MLLAMA,
    &zamba2::ZAMBA2,
    &bert::BERT,
    &bert::XLM_ROBERTA,
    &bert::ROBERTA,
    &bert::NOMIC_BERT,
    &nomic_moe::NOMIC_BERT_MOE,
];

/// Variants of architectures that have one class in Hugging Face and several names in llama.cpp.
pub(super) static VARIANTS: &[Variant] = &[
    minicpm_v::QWEN3,
    minicpm_v::LLAMA,
    minicpm_v::UNLISTED,
    moondream::MOONDREAM3,
    Variant {
        of: "deepseek2",
        when: deepseek::has_no_latents,
        arch: Ok(&deepseek::DEEPSEEK2_OCR),
    },
    Variant {
        of: "nomic-bert",
        when: nomic_moe::routes,
        arch: Ok(&nomic_moe::NOMIC_BERT_MOE),
    },
    Variant {
        of: "llama4",
        when: llama4::has_neither_experts_nor_norms,
        arch: Ok(&llama4::LLAMA4_DENSE_WITHOUT_NORMS),
    },
    Variant {
        of: "llama4",
        when: llama4::has_no_experts,
        arch: Ok(&llama4::LLAMA4_DENSE),
    },
    Variant {
        of: "nemotron_h",
        when: nemotron_h::routes,
        arch: Ok(&nemotron_h::NEMOTRON_H_MOE),
    },
    Variant {
        of: "granitehybrid",
        when: granite_hybrid::only_attends_with_experts,
        arch: Ok(&granite::GRANITEMOE),
    },
    Variant {
        of: "granitehybrid",
        when: granite_hybrid::only_attends,
        arch: Ok(&granite_hybrid::GRANITE_WITHOUT_MAMBA),
    },
];
