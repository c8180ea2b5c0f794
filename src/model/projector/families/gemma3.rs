//! Gemma 3: SigLIP, the mean of the patches of a token, a norm and one matrix.

use super::super::family::{Encoder, Family, Form, Head, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};
use super::siglip;
use crate::gguf::Value;

/// Patches of a token's side in every published size.
const MERGE: u64 = 4;

pub(super) static GEMMA3: Family = Family {
    name: "gemma3",
    name_key: "clip.projector_type",
    model_types: &["gemma3"],
    merge: MERGE,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, _| images::fixed(vision, 2),
    reserved: Reserved::Own,
    encoder: Encoder {
        post_norm: true,
        head: Head::Pool { transposed: true },
        ..Encoder::USUAL
    },
    audio: None,
};

/// Defaults are those of Transformers' `SiglipVisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let image = config.side(&["image_size"], 224)?;
    let patch = config.side(&["patch_size"], 16)?;
    let side = image / patch;
    let tokens = config.processor.get("image_seq_length");
    let tokens = tokens.and_then(|tokens| tokens.as_u64()).unwrap_or(256);
    let merge = side.checked_div(tokens.isqrt()).unwrap_or(MERGE);
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks: config.count(&["num_hidden_layers"], 12)?,
        patch,
        image,
        merge: if merge == 0 { MERGE } else { merge },
        text: config.text_width()?,
        positions: side * side,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let mut rows = siglip::rows(vision, "vision_tower.vision_model.");
    rows.push(
        ProjectorRow::new(
            "multi_modal_projector.mm_input_projection_weight",
            "mm.input_projection.weight",
            &[vision.width, vision.text],
        )
        .kept(Kept::Half),
    );
    rows.push(
        ProjectorRow::new(
            "multi_modal_projector.mm_soft_emb_norm.weight",
            "mm.soft_emb_norm.weight",
            &[vision.width],
        )
        .taken(Taken::PlusOne),
    );
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    let mut keys = vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        ("clip.use_gelu", Value::Bool(true)),
    ];
    if vision.merge != MERGE {
        let merge = Value::U32(vision.merge as u32);
        keys.push(("clip.vision.projector.scale_factor", merge));
    }
    keys
}
