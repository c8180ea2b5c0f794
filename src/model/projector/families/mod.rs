//! The table of projectors.

mod gemma3;
mod gemma4;
mod gemma4_audio;
mod gemma4_unified;
mod glm4v;
mod idefics3;
mod internvl;
mod kimi_vl;
mod lfm2;
mod llama4;
mod llava;
mod minicpmv;
mod pixtral;
mod qwen_omni;
mod qwen_vl;
mod resampler;
mod siglip;

use super::family::Family;
use crate::gguf::Metadata;

const TABLE: &[&Family] = &[
    &idefics3::IDEFICS3,
    &gemma3::GEMMA3,
    &gemma4::GEMMA4,
    &gemma4_unified::UNIFIED,
    &qwen_vl::QWEN2,
    &qwen_vl::QWEN2_5,
    &qwen_vl::OMNI,
    &qwen_vl::QWEN3,
    &internvl::INTERNVL,
    &internvl::INTERNVL_HF,
    &lfm2::LFM2,
    &llava::LLAVA,
    &minicpmv::MINICPMV,
    &resampler::RESAMPLER,
    &pixtral::PIXTRAL,
    &glm4v::GLM4V,
    &kimi_vl::KIMI_VL,
    &llama4::LLAMA4,
];

/// Model types whose projector no file is made of, with what there is instead.
const NOT_MADE: &[(&str, &str)] = &[
    (
        "moondream1",
        "llama.cpp's converter does not take the class; the pair of files of its revision 2025-04-14 is published \
         (ggml-org/moondream2-20250414-GGUF)",
    ),
    (
        "phi4mm",
        "llama.cpp has none of its kind, and images and sounds need an adapter beside it; run the checkpoint with vLLM \
         (`--enable-lora`)",
    ),
    (
        "mllama",
        "llama.cpp has no such architecture; Ollama's own engine has (`ollama run llama3.2-vision`)",
    ),
];

/// The entry of this `model_type` there.
pub(super) fn not_made(name: &str) -> Option<(&'static str, &'static str)> {
    NOT_MADE.iter().copied().find(|(of, _)| *of == name)
}

/// The kind of configurations of this `model_type`.
pub(super) fn of_model_type(name: &str) -> Option<&'static Family> {
    let table = TABLE.iter().copied();
    table
        .into_iter()
        .find(|family| family.model_types.contains(&name))
}

/// All model types of the table.
pub(super) fn model_types() -> Vec<&'static str> {
    let types = TABLE.iter().flat_map(|family| family.model_types);
    types.copied().collect()
}

/// Each model type of the table with the name of its kind.
pub(super) fn known() -> impl Iterator<Item = (&'static str, &'static str)> {
    let types =
        |family: &'static Family| family.model_types.iter().map(|kind| (family.name, *kind));
    TABLE.iter().copied().flat_map(types)
}

/// The kind that the metadata of an `mmproj` names.
pub(super) fn of_gguf(metadata: &Metadata) -> Option<&'static Family> {
    let keys = ["clip.projector_type", "clip.vision.projector_type"];
    let name = keys
        .iter()
        .find_map(|key| metadata.str(key).ok().flatten())?;
    TABLE.iter().copied().find(|family| family.name == name)
}
