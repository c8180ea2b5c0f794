//! GLM-4.1V: patches of two frames, rotary positions beside a table, a convolution over the patches of a token, and a
//! feed-forward with a gate.

use super::super::family::{Encoder, Family, Form, Head, Patches, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::qwen_vl::frames;
use crate::gguf::Value;

/// Patches of a token's side in every published size, and the only number that llama.cpp's file states.
const MERGE: u64 = 2;

pub(super) static GLM4V: Family = Family {
    name: "glm4v",
    name_key: "clip.projector_type",
    model_types: &["glm4v"],
    merge: MERGE,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, size| images::whole(vision, size, (8, 4096), 2),
    reserved: Reserved::Tokens(46),
    encoder: Encoder {
        patches: Patches::TwoFrames,
        positions: Positions::Resized,
        fused_qkv: true,
        gated: true,
        post_norm: true,
        head: Head::Downsampled,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Defaults are those of Transformers' `Glm4vVisionConfig`. The feed-forwards of blocks are as wide as the text model, and
/// that of the projection as `intermediate_size`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    if config.count(&["spatial_merge_size"], MERGE)? != MERGE {
        return Part::Vision.wrong(
            "spatial_merge_size",
            "is not 2, and llama.cpp knows no other",
        );
    }
    if !["silu", "gelu"].contains(&act(config)) {
        return Part::Vision.wrong("hidden_act", "is no activation that llama.cpp has here");
    }
    let text = config.count(&["out_hidden_size"], 4096)?;
    let patch = config.side(&["patch_size"], 14)?;
    let image = config.side(&["image_size"], 336)?;
    let side = image / patch;
    let biased = config.vision.get("attention_bias");
    Ok(Vision {
        width: config.count(&["hidden_size"], 1536)?,
        inner: text,
        heads: config.count(&["num_heads"], 12)?,
        blocks: config.count(&["depth"], 24)?,
        patch,
        image,
        merge: MERGE,
        text,
        positions: side * side,
        projection: projection(config)?,
        attention_bias: biased.and_then(|flag| flag.as_bool()).unwrap_or(false),
        ..Vision::default()
    })
}

fn projection(config: &ProjectorConfig<'_>) -> Result<u64, ProjectorError> {
    config.count(&["intermediate_size"], 13_696)
}

fn act<'a>(config: &ProjectorConfig<'a>) -> &'a str {
    let stated = config.vision.get("hidden_act").and_then(|act| act.as_str());
    stated.unwrap_or("silu")
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        inner,
        positions,
        text,
        projection,
        merge,
        ..
    } = vision;
    let weight = |from: &str, to: &str, shape: &[u64]| {
        let (from, to) = (format!("visual.{from}.weight"), format!("{to}.weight"));
        ProjectorRow::new(from, to, shape)
    };
    let bias = |from: &str, to: &str, width: u64| {
        let (from, to) = (format!("visual.{from}.bias"), format!("{to}.bias"));
        ProjectorRow::new(from, to, &[width])
    };
    let mut rows: Vec<ProjectorRow> = frames(vision).into();
    rows.push(bias("patch_embed.proj", "v.patch_embd", width));
    let table = weight(
        "embeddings.position_embedding",
        "v.position_embd",
        &[positions, width],
    );
    rows.push(table.kept(Kept::Full));
    rows.push(weight("post_conv_layernorm", "v.norm_embd", &[width]));
    for block in 0..vision.blocks {
        let from = |part: &str| format!("blocks.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (part, to, outputs, inputs) in [
            ("attn.qkv", "attn_qkv", 3 * width, width),
            ("attn.proj", "attn_out", width, width),
            ("mlp.gate_proj", "ffn_gate", inner, width),
            ("mlp.up_proj", "ffn_up", inner, width),
            ("mlp.down_proj", "ffn_down", width, inner),
        ] {
            rows.push(weight(&from(part), &name(to), &[outputs, inputs]));
        }
        let biased = bias(&from("attn.qkv"), &name("attn_qkv"), 3 * width);
        rows.push(biased.optional(vision.attention_bias));
        for (part, to) in [("norm1", "ln1"), ("norm2", "ln2")] {
            rows.push(weight(&from(part), &name(to), &[width]));
        }
    }
    rows.push(weight("post_layernorm", "v.post_ln", &[width]));
    rows.push(
        weight(
            "downsample",
            "mm.patch_merger",
            &[text, width, merge, merge],
        )
        .kept(Kept::Convolution),
    );
    rows.push(bias("downsample", "mm.patch_merger", text));
    rows.extend(ProjectorRow::norm(
        "visual.merger.post_projection_norm",
        "mm.post_norm",
        text,
    ));
    for (part, to, outputs, inputs) in [
        ("proj", "mm.model.fc", text, text),
        ("gate_proj", "mm.gate", projection, text),
        ("up_proj", "mm.up", projection, text),
        ("down_proj", "mm.down", text, projection),
    ] {
        rows.push(weight(&format!("merger.{part}"), to, &[outputs, inputs]));
    }
    rows
}

/// The converter takes the inner width of the projection for that of the blocks; llama.cpp goes by the tensors.
fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "rms_norm_eps", 1e-5);
    let act = match act(config) {
        "silu" => "clip.use_silu",
        _ => "clip.use_gelu",
    };
    let inner = projection(config).unwrap_or(vision.inner);
    vec![
        ("clip.vision.feed_forward_length", Value::U32(inner as u32)),
        (act, Value::Bool(true)),
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
    ]
}
