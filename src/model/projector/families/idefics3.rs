//! Idefics 3 and SmolVLM: SigLIP, and one matrix over the patches of a token.

use super::super::family::{Encoder, Family, Form, Head, Reserved};
use super::super::rows::ProjectorRow;
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};
use super::siglip;
use crate::gguf::Value;

pub(super) static IDEFICS3: Family = Family {
    name: "idefics3",
    name_key: "clip.projector_type",
    model_types: &["idefics3", "smolvlm"],
    merge: 2,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: images::longest_edge,
    reserved: Reserved::Own,
    encoder: Encoder {
        post_norm: true,
        head: Head::Shuffle,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Defaults are those of Transformers' `Idefics3VisionConfig` and `SmolVLMVisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let image = config.side(&["image_size"], 224)?;
    let patch = config.side(&["patch_size"], 32)?;
    let side = image / patch;
    let size = config.processor.get("size");
    let longest = size.and_then(|size| size.get("longest_edge")?.as_u64());
    Ok(Vision {
        width: config.count(&["hidden_size"], 1152)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 16)?,
        blocks: config.count(&["num_hidden_layers"], 12)?,
        patch,
        image,
        merge: config.whole_count(&["scale_factor"], 2)?,
        text: config.text_width()?,
        positions: side * side,
        longest_edge: longest.unwrap_or(0).min(1 << 16),
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let mut rows = siglip::rows(vision, "vision_model.");
    let merged = vision.width * vision.merge * vision.merge;
    rows.push(ProjectorRow::new(
        "connector.modality_projection.proj.weight",
        "mm.model.fc.weight",
        &[vision.text, merged],
    ));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    let edge = match vision.longest_edge {
        0 => vision.image,
        edge => edge,
    };
    vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
        ("clip.use_gelu", Value::Bool(true)),
        ("clip.vision.preproc_image_size", Value::U32(edge as u32)),
    ]
}
