//! Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Cosmos-Reason too): patches of two frames, rotary positions, and two matrices over
//! the four patches of a token. Qwen2.5-VL's blocks see windows (Qwen2.5-Omni's too); Qwen3-VL passes the output of some blocks to the text
//! model too.

use super::super::family::{Encoder, Family, Form, Patches, Positions, Reserved};
use super::super::images::{EncodedImage, ImageSize};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::qwen_omni;
use crate::gguf::Value;

pub(super) static QWEN2: Family = Family {
    name: "qwen2vl_merger",
    name_key: "clip.projector_type",
    model_types: &["qwen2_vl"],
    merge: 2,
    read: read_2,
    rows: rows_2,
    keys: keys_2,
    form: Form::Converter,
    image,
    reserved: Reserved::Tokens(46),
    encoder: Encoder {
        patches: Patches::TwoFrames,
        positions: Positions::Rotated,
        post_norm: true,
        ..Encoder::USUAL
    },
    audio: None,
};

pub(super) static QWEN2_5: Family = Family {
    name: "qwen2.5vl_merger",
    name_key: "clip.projector_type",
    model_types: &["qwen2_5_vl"],
    merge: 2,
    read: read_2_5,
    rows: rows_2_5,
    keys: keys_2_5,
    form: Form::Converter,
    image,
    reserved: Reserved::Tokens(46),
    encoder: Encoder {
        gated: true,
        ..QWEN2.encoder
    },
    audio: None,
};

/// Qwen2.5-VL's encoder beside one of sounds.
pub(super) static OMNI: Family = Family {
    name: "qwen2.5o",
    model_types: &["qwen2_5_omni"],
    rows: rows_omni,
    audio: Some(&qwen_omni::WHISPER),
    ..QWEN2_5
};

pub(super) static QWEN3: Family = Family {
    name: "qwen3vl_merger",
    name_key: "clip.projector_type",
    model_types: &["qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"],
    merge: 2,
    read: read_3,
    rows: rows_3,
    keys: keys_3,
    form: Form::Converter,
    image,
    reserved: Reserved::Tokens(46),
    encoder: Encoder {
        positions: Positions::Resized,
        fused_qkv: true,
        ..QWEN2.encoder
    },
    audio: None,
};

/// llama.cpp takes 8 to 4096 tokens an image, between two markers.
fn image(vision: &Vision, size: ImageSize) -> EncodedImage {
    images::whole(vision, size, (8, 4096), 2)
}

/// Defaults are those of Transformers' `Qwen2VLVisionConfig`, whose `hidden_size` is the text model's.
fn read_2(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let width = config.count(&["embed_dim"], 1280)?;
    let text = config.count(&["hidden_size"], 3584)?;
    Ok(Vision {
        width,
        inner: width * config.count(&["mlp_ratio"], 4)?,
        heads: config.count(&["num_heads"], 16)?,
        blocks: config.count(&["depth"], 32)?,
        patch: config.side(&["patch_size"], 14)?,
        image: config.side(&["image_size"], 560)?,
        merge: config.count(&["spatial_merge_size"], 2)?,
        text,
        ..Vision::default()
    })
}

/// Defaults are those of `Qwen2_5_VLVisionConfig`.
fn read_2_5(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let full = indices(config, "fullatt_block_indexes").unwrap_or_else(|| vec![7, 15, 23, 31]);
    let every = full.first().map_or(0, |first| first + 1);
    let regular = full
        .iter()
        .zip(1..)
        .all(|(block, n)| block + 1 == every * n);
    if !regular {
        return Err(ProjectorError::Value {
            part: Part::Vision,
            key: "fullatt_block_indexes",
            problem: "is no regular pattern, and llama.cpp knows no other",
        });
    }
    Ok(Vision {
        width: config.count(&["hidden_size"], 1280)?,
        inner: config.count(&["intermediate_size"], 3420)?,
        heads: config.count(&["num_heads"], 16)?,
        blocks: config.count(&["depth"], 32)?,
        patch: config.side(&["patch_size"], 14)?,
        image: config.side(&["image_size"], 560)?,
        merge: config.count(&["spatial_merge_size"], 2)?,
        text: config.count(&["out_hidden_size"], 3584)?,
        window_every: every,
        ..Vision::default()
    })
}

/// Defaults are those of `Qwen3VLVisionConfig`.
fn read_3(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let patch = config.side(&["patch_size"], 16)?;
    let positions = config.count(&["num_position_embeddings"], 2304)?;
    Ok(Vision {
        width: config.count(&["hidden_size"], 1152)?,
        inner: config.count(&["intermediate_size"], 4304)?,
        heads: config.count(&["num_heads"], 16)?,
        blocks: config.count(&["depth"], 27)?,
        patch,
        image: ((positions as f64).sqrt() * patch as f64) as u64,
        merge: config.count(&["spatial_merge_size"], 2)?,
        text: config.count(&["out_hidden_size"], 3584)?,
        positions,
        deepstack: indices(config, "deepstack_visual_indexes").unwrap_or_default(),
        ..Vision::default()
    })
}

fn indices(config: &ProjectorConfig<'_>, key: &str) -> Option<Vec<u64>> {
    let list = config.vision.get(key)?.as_array()?;
    list.iter()
        .map(|block| block.as_u64().filter(|n| *n < 1 << 16))
        .collect()
}

/// The two frames of the patch embedding.
pub(super) fn frames(vision: &Vision) -> [ProjectorRow; 2] {
    let &Vision { width, patch, .. } = vision;
    [("v.patch_embd.weight", 0), ("v.patch_embd.weight.1", 1)].map(|(name, frame)| {
        ProjectorRow::new(
            "visual.patch_embed.proj.weight",
            name,
            &[width, 3, patch, patch],
        )
        .taken(Taken::Frame(frame))
        .kept(Kept::Convolution)
    })
}

/// Queries, keys and values as three matrices, and what is behind them.
fn attention(vision: &Vision, block: u64) -> Vec<ProjectorRow> {
    let width = vision.width;
    let from = |part: &str| format!("visual.blocks.{block}.{part}");
    let name = |part: &str| format!("v.blk.{block}.{part}");
    let mut rows = Vec::new();
    for (third, to) in (0..).zip(["attn_q", "attn_k", "attn_v"]) {
        let parts = ProjectorRow::linear(&from("attn.qkv"), &name(to), width, width);
        rows.extend(parts.map(|row| row.taken(Taken::Third(third))));
    }
    rows.extend(ProjectorRow::linear(
        &from("attn.proj"),
        &name("attn_out"),
        width,
        width,
    ));
    rows
}

/// The same from a checkpoint that stores the three matrices apart.
fn apart(vision: &Vision, block: u64) -> Vec<ProjectorRow> {
    let width = vision.width;
    let parts = [
        ("q", "attn_q"),
        ("k", "attn_k"),
        ("v", "attn_v"),
        ("proj", "attn_out"),
    ];
    let linear = |(from, to): (&str, &str)| {
        let from = format!("visual.blocks.{block}.attn.{from}");
        ProjectorRow::linear(&from, &format!("v.blk.{block}.{to}"), width, width)
    };
    parts.into_iter().flat_map(linear).collect()
}

/// What maps the four patches of a token to the text model.
fn merger(vision: &Vision) -> Vec<ProjectorRow> {
    let merged = vision.width * vision.merge * vision.merge;
    let first = ProjectorRow::linear("visual.merger.mlp.0", "mm.0", merged, merged);
    let second = ProjectorRow::linear("visual.merger.mlp.2", "mm.2", vision.text, merged);
    first.into_iter().chain(second).collect()
}

fn rows_2(vision: &Vision) -> Vec<ProjectorRow> {
    let width = vision.width;
    let mut rows: Vec<ProjectorRow> = frames(vision).into();
    for block in 0..vision.blocks {
        let from = |part: &str| format!("visual.blocks.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        rows.extend(attention(vision, block));
        rows.extend(ProjectorRow::norm(&from("norm1"), &name("ln1"), width));
        rows.extend(ProjectorRow::norm(&from("norm2"), &name("ln2"), width));
        rows.extend(ProjectorRow::feed_forward(
            &from(""),
            &name(""),
            ["mlp.fc1", "mlp.fc2"],
            vision,
        ));
    }
    rows.extend(ProjectorRow::norm("visual.merger.ln_q", "v.post_ln", width));
    rows.extend(merger(vision));
    rows
}

fn rows_2_5(vision: &Vision) -> Vec<ProjectorRow> {
    gated_rows(vision, attention)
}

fn rows_omni(vision: &Vision) -> Vec<ProjectorRow> {
    gated_rows(vision, apart)
}

/// Blocks with this attention and a gated feed-forward, and what is around them.
fn gated_rows(
    vision: &Vision,
    attention: fn(&Vision, u64) -> Vec<ProjectorRow>,
) -> Vec<ProjectorRow> {
    let &Vision { width, inner, .. } = vision;
    let mut rows: Vec<ProjectorRow> = frames(vision).into();
    for block in 0..vision.blocks {
        let from = |part: &str| format!("visual.blocks.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        let weight = |part: &str, to: &str| {
            let name = format!("{}.weight", name(to));
            ProjectorRow::new(format!("{}.weight", from(part)), name, &[width])
        };
        rows.extend(attention(vision, block));
        rows.push(weight("norm1", "ln1"));
        rows.push(weight("norm2", "ln2"));
        rows.extend(ProjectorRow::linear(
            &from("mlp.gate_proj"),
            &name("ffn_gate"),
            inner,
            width,
        ));
        rows.extend(ProjectorRow::linear(
            &from("mlp.up_proj"),
            &name("ffn_up"),
            inner,
            width,
        ));
        rows.extend(ProjectorRow::linear(
            &from("mlp.down_proj"),
            &name("ffn_down"),
            width,
            inner,
        ));
    }
    rows.push(ProjectorRow::new(
        "visual.merger.ln_q.weight",
        "v.post_ln.weight",
        &[width],
    ));
    rows.extend(merger(vision));
    rows
}

fn rows_3(vision: &Vision) -> Vec<ProjectorRow> {
    let width = vision.width;
    let merged = width * vision.merge * vision.merge;
    let mut rows: Vec<ProjectorRow> = frames(vision).into();
    rows.push(ProjectorRow::new(
        "visual.patch_embed.proj.bias",
        "v.patch_embd.bias",
        &[width],
    ));
    let shape = [vision.positions, width];
    rows.push(
        ProjectorRow::new("visual.pos_embed.weight", "v.position_embd.weight", &shape)
            .kept(Kept::Full),
    );
    for block in 0..vision.blocks {
        let from = |part: &str| format!("visual.blocks.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        rows.extend(ProjectorRow::linear(
            &from("attn.qkv"),
            &name("attn_qkv"),
            3 * width,
            width,
        ));
        rows.extend(ProjectorRow::linear(
            &from("attn.proj"),
            &name("attn_out"),
            width,
            width,
        ));
        rows.extend(ProjectorRow::norm(&from("norm1"), &name("ln1"), width));
        rows.extend(ProjectorRow::norm(&from("norm2"), &name("ln2"), width));
        rows.extend(ProjectorRow::feed_forward(
            &from(""),
            &name(""),
            ["mlp.linear_fc1", "mlp.linear_fc2"],
            vision,
        ));
    }
    for (index, block) in vision.deepstack.iter().enumerate() {
        let from = |part: &str| format!("visual.deepstack_merger_list.{index}.{part}");
        let name = |part: &str| format!("v.deepstack.{block}.{part}");
        rows.extend(ProjectorRow::norm(&from("norm"), &name("norm"), merged));
        rows.extend(ProjectorRow::linear(
            &from("linear_fc1"),
            &name("fc1"),
            merged,
            merged,
        ));
        rows.extend(ProjectorRow::linear(
            &from("linear_fc2"),
            &name("fc2"),
            vision.text,
            merged,
        ));
    }
    rows.extend(ProjectorRow::norm("visual.merger.norm", "v.post_ln", width));
    rows.extend(ProjectorRow::linear(
        "visual.merger.linear_fc1",
        "mm.0",
        merged,
        merged,
    ));
    rows.extend(ProjectorRow::linear(
        "visual.merger.linear_fc2",
        "mm.2",
        vision.text,
        merged,
    ));
    rows
}

/// The converter looks for another one where Transformers keeps none.
const EPS: (&str, Value) = ("clip.vision.attention.layer_norm_epsilon", Value::F32(1e-6));

/// The converter takes the width of the text model for that of the feed-forward; llama.cpp goes by the tensors.
fn keys_2(_: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let inner = Value::U32(vision.text as u32);
    vec![("clip.vision.feed_forward_length", inner), EPS]
}

fn keys_2_5(_: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    vec![
        ("clip.use_silu", Value::Bool(true)),
        (
            "clip.vision.n_wa_pattern",
            Value::U32(vision.window_every as u32),
        ),
        EPS,
    ]
}

fn keys_3(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let text = config.whole.get("text_config").unwrap_or(config.whole);
    let eps = config.number(text, "rms_norm_eps", 1e-6);
    let deep = (0..vision.blocks).map(|block| Value::Bool(vision.deepstack.contains(&block)));
    let mut keys = vec![("clip.use_gelu", Value::Bool(true))];
    if config.vision.get("spatial_merge_size").is_some() {
        let merge = Value::U32(vision.merge as u32);
        keys.push(("clip.vision.spatial_merge_size", merge));
    }
    keys.push(("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)));
    keys.push((
        "clip.vision.is_deepstack_layers",
        Value::Array(deep.collect()),
    ));
    keys
}
