//! MiniCPM-V 4.6: SigLIP, whose patches are merged by fours behind an early block (attention within each four, then two
//! matrices), and by fours again at the end. A model that keeps four times as many tokens (`downsample_mode`) leaves the
//! first merger out.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::siglip;
use crate::gguf::Value;

pub(super) static MINICPMV: Family = Family {
    name: "minicpmv4_6",
    name_key: "clip.projector_type",
    model_types: &["minicpmv4_6"],
    merge: 4,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: images::sliced,
    reserved: Reserved::Own,
    encoder: Encoder {
        positions: Positions::LookedUp(1),
        post_norm: true,
        head: Head::Merged,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Places of a side in the table of positions.
pub(super) const GRID: u64 = 70;

/// Pixels of a side of a patch, of which the table of positions has [`GRID`] in a side.
pub(super) fn patch(config: &ProjectorConfig<'_>) -> Result<u64, ProjectorError> {
    let patch = config.side(&["patch_size"], 14)?;
    if config.side(&["image_size"], 980)? / patch == GRID {
        return Ok(patch);
    }
    Err(ProjectorError::Value {
        part: Part::Vision,
        key: "image_size",
        problem: "is not 70 patches, and llama.cpp knows no other table of positions",
    })
}

/// Defaults are those of Transformers' `MiniCPMV4_6VisionConfig`, except for the sizes: those are the only ones that
/// llama.cpp knows.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let mode = config
        .processor
        .get("downsample_mode")
        .and_then(|mode| mode.as_str());
    let has_merger = match mode.unwrap_or("16x") {
        "16x" => true,
        "4x" => false,
        _ => return Part::Processor.wrong("downsample_mode", "is neither 4x nor 16x"),
    };
    for (key, part) in [
        ("merger_times", config.whole),
        ("drop_vision_last_layer", config.whole),
    ] {
        let usual = [1.into(), false.into(), serde_json::Value::Null];
        if part.get(key).is_some_and(|value| !usual.contains(value)) {
            return Part::Whole.wrong(
                "merger_times",
                "or `drop_vision_last_layer` is another than llama.cpp has",
            );
        }
    }
    let stated = |part: &serde_json::Value| part.get("insert_layer_id").and_then(|n| n.as_u64());
    let block = stated(config.whole).or(stated(config.vision)).unwrap_or(6);
    let blocks = config.count(&["num_hidden_layers"], 12)?;
    if block >= blocks {
        return Part::Whole.wrong("insert_layer_id", "names a block that does not exist");
    }
    let patch = patch(config)?;
    let whole = config.side(&["image_size"], 980)?;
    // The size of a slice, not that of the table of positions.
    let slice = config
        .processor
        .get("scale_resolution")
        .and_then(|n| n.as_u64());
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks,
        patch,
        image: slice.unwrap_or(whole).min(1 << 16),
        merge: if has_merger { 4 } else { 2 },
        text: config.text_width()?,
        positions: GRID * GRID,
        merger_block: Some(block),
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width, inner, text, ..
    } = vision;
    let four = 4 * width;
    let mut rows = siglip::rows_of(vision, "vision_tower.", Kept::Convolution);
    if vision.merge == 4 {
        let from = |part: &str| format!("vision_tower.vit_merger.{part}");
        let name = |part: &str| format!("v.vit_merger.{part}");
        for (part, to) in [
            ("q_proj", "attn_q"),
            ("k_proj", "attn_k"),
            ("v_proj", "attn_v"),
            ("out_proj", "attn_out"),
        ] {
            let from = from(&format!("self_attn.{part}"));
            rows.extend(ProjectorRow::linear(&from, &name(to), width, width));
        }
        rows.extend(ProjectorRow::norm(
            &from("layer_norm1"),
            &name("ln1"),
            width,
        ));
        rows.extend(ProjectorRow::norm(&from("pre_norm"), &name("ds_ln"), four));
        rows.extend(ProjectorRow::linear(
            &from("linear_1"),
            &name("ds_ffn_up"),
            4 * inner,
            four,
        ));
        rows.extend(ProjectorRow::linear(
            &from("linear_2"),
            &name("ds_ffn_down"),
            width,
            4 * inner,
        ));
    }
    let from = |part: &str| format!("merger.mlp.0.{part}");
    rows.extend(ProjectorRow::norm(&from("pre_norm"), "mm.input_norm", four));
    rows.extend(ProjectorRow::linear(&from("linear_1"), "mm.up", four, four));
    rows.extend(ProjectorRow::linear(
        &from("linear_2"),
        "mm.down",
        text,
        four,
    ));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    let block = vision.merger_block.unwrap_or(0);
    vec![
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
        (
            "clip.vision.wa_layer_indexes",
            Value::Array(vec![Value::I32(block as i32)]),
        ),
        ("clip.use_gelu", Value::Bool(true)),
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
    ]
}
