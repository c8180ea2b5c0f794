//! LFM2-VL: SigLIP 2 over images of any shape, whose patches are merged and mapped by two matrices, with a norm before them
//! or without.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::siglip;
use crate::gguf::Value;

pub(super) static LFM2: Family = Family {
    name: "lfm2",
    name_key: "clip.projector_type",
    model_types: &["lfm2_vl", "lfm2-vl"],
    merge: 2,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: images::whole_or_tiles,
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        positions: Positions::Interpolated,
        post_norm: true,
        head: Head::ShuffleMlp,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Pixels of the side that llama.cpp's converter states, since configurations do not.
const IMAGE: u64 = 256;

/// Defaults are those of Transformers' `Lfm2VlConfig` and `Siglip2VisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let stated = |key: &str| config.whole.get(key);
    if stated("projector_bias").and_then(|flag| flag.as_bool()) == Some(false) {
        return Part::Whole.wrong("projector_bias", "is false, and llama.cpp needs the biases");
    }
    let patch = config.side(&["patch_size"], 16)?;
    let blocks = config.count(&["num_hidden_layers"], 12)?;
    let layer = stated("vision_feature_layer").filter(|layer| !layer.is_null());
    // Counted from the end: -1 is the last block.
    let kept = match layer.map_or(Some(-1), |layer| layer.as_i64()) {
        Some(behind) if behind < 0 => blocks.checked_sub(behind.unsigned_abs() - 1),
        _ => None,
    };
    let Some(kept) = kept.filter(|kept| *kept > 0) else {
        return Part::Whole.wrong("vision_feature_layer", "is no block counted from the last");
    };
    let normed = stated("projector_use_layernorm").and_then(|flag| flag.as_bool());
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks,
        patch,
        image: IMAGE,
        merge: config.whole_count(&["downsample_factor"], 2)?,
        text: config.text_width()?,
        positions: config.count(&["num_patches"], 256)?,
        projection: config.whole_count(&["projector_hidden_size"], 2560)?,
        projection_norm: normed.unwrap_or(true),
        feature_blocks: (kept < blocks).then_some(kept).into_iter().collect(),
        ends_early: kept < blocks,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let prefix = "vision_tower.vision_model.";
    // Checkpoints saved by later releases of Transformers leave one name out.
    let either = |row: ProjectorRow| match row.from[0].replace(prefix, "vision_tower.") {
        short if short == row.from[0] => row,
        short => row.or(short),
    };
    let pixels = vision.patch * vision.patch;
    let mut rows: Vec<ProjectorRow> = siglip::rows_of(vision, prefix, Kept::Convolution)
        .into_iter()
        .map(|row| match row.kept {
            Kept::Convolution => row.taken(Taken::Planes(pixels)),
            _ => row,
        })
        .map(either)
        .collect();
    let from = |part: &str| format!("multi_modal_projector.{part}");
    let merged = vision.width * vision.merge * vision.merge;
    let norm = ProjectorRow::norm(&from("layer_norm"), "mm.input_norm", merged);
    rows.extend(norm.map(|row| row.optional(vision.projection_norm)));
    rows.extend(ProjectorRow::linear(
        &from("linear_1"),
        "mm.1",
        vision.projection,
        merged,
    ));
    rows.extend(ProjectorRow::linear(
        &from("linear_2"),
        "mm.2",
        vision.text,
        vision.projection,
    ));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    let blocks = vision.feature_blocks.first().unwrap_or(&vision.blocks);
    vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
        ("clip.use_gelu", Value::Bool(true)),
        ("clip.vision.block_count", Value::U32(*blocks as u32)),
    ]
}
