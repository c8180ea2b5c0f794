//! LLaVA 1.5 and 1.6: CLIP without its last block, and two matrices over its patches.

use super::super::family::{Encoder, Family, Head, Positions, Reserved};
use super::super::images::{EncodedImage, ImageSize};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};
use super::siglip;

pub(super) static LLAVA: Family = Family {
    name: "mlp",
    name_key: "clip.projector_type",
    model_types: &["llava", "llava_next"],
    merge: 1,
    read,
    rows,
    keys: |_, _| Vec::new(),
    not_written: Some(
        "llama.cpp's converter makes none of it; legacy-models/llava_surgery_v2.py of its tools does",
    ),
    image,
    reserved: Reserved::Own,
    encoder: Encoder {
        class_token: true,
        positions: Positions::LookedUp(1),
        pre_norm: true,
        post_norm: true,
        drops_last: true,
        head: Head::Rows,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Defaults are those of Transformers' `CLIPVisionConfig`. Encoders of another kind under the same `model_type` (Pixtral)
/// are not this one.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let kind = config
        .vision
        .get("model_type")
        .and_then(|kind| kind.as_str());
    if kind.is_some_and(|kind| kind != "clip_vision_model") {
        return Err(ProjectorError::Unknown {
            name: kind.unwrap_or_default().to_owned(),
            known: "clip_vision_model".to_owned(),
        });
    }
    let image = config.count(&["image_size"], 224)?;
    let patch = config.count(&["patch_size"], 32)?;
    let side = image / patch;
    let text = config.text_width().or_else(|missing| {
        // LlamaConfig's own width, which a configuration that is a difference to it leaves out.
        let kind = config
            .whole
            .get("text_config")
            .and_then(|text| text.get("model_type"));
        match kind.and_then(|kind| kind.as_str()) {
            None | Some("llama" | "mistral") => Ok(4096),
            Some(_) => Err(missing),
        }
    })?;
    let points = config.whole.get("image_grid_pinpoints");
    let points = points
        .and_then(|list| list.as_array())
        .into_iter()
        .flatten();
    // A height and a width.
    let pair = |point: &serde_json::Value| {
        let side = |index: usize| point.get(index)?.as_u64().filter(|n| *n <= 1 << 16);
        Some((side(1)?, side(0)?))
    };
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks: config.count(&["num_hidden_layers"], 12)?,
        patch,
        image,
        merge: 1,
        text,
        positions: side * side + 1,
        pinpoints: points.filter_map(pair).collect(),
        projection: text,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        patch,
        positions,
        text,
        ..
    } = vision;
    let tower = "vision_tower.vision_model.";
    let embeddings = |part: &str| format!("{tower}embeddings.{part}");
    let mut rows = vec![
        ProjectorRow::new(embeddings("class_embedding"), "v.class_embd", &[width]),
        ProjectorRow::new(
            embeddings("patch_embedding.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
        .kept(Kept::Half),
        ProjectorRow::new(
            embeddings("position_embedding.weight"),
            "v.position_embd.weight",
            &[positions, width],
        )
        .kept(Kept::Half),
    ];
    rows.extend(ProjectorRow::norm(
        &format!("{tower}pre_layrnorm"),
        "v.pre_ln",
        width,
    ));
    // The last block and the norm behind it are not run, and files are without them.
    let blocks = 0..vision.blocks.saturating_sub(1);
    rows.extend(blocks.flat_map(|block| siglip::block(vision, tower, block)));
    rows.extend(ProjectorRow::linear(
        "multi_modal_projector.linear_1",
        "mm.0",
        text,
        width,
    ));
    rows.extend(ProjectorRow::linear(
        "multi_modal_projector.linear_2",
        "mm.2",
        text,
        text,
    ));
    rows
}

/// LLaVA 1.6 cuts an image that is larger than the encoder's; 1.5 does not.
fn image(vision: &Vision, size: ImageSize) -> EncodedImage {
    if vision.pinpoints.is_empty() {
        return images::fixed(vision, 0);
    }
    images::best_size(vision, size, vision.pinpoints.iter().copied(), 0)
}
