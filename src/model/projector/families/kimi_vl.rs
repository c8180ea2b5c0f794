//! Kimi-VL: MoonViT, whose positions turn queries and keys beside a table, and two matrices over the patches of a token, with
//! a norm of each patch before them.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use crate::gguf::Value;

/// Patches of a token's side, and the only number that llama.cpp's converter states.
const MERGE: u64 = 2;

/// Places of a side of the table: llama.cpp's converter states an image of as many patches.
const SIDE: u64 = 64;

pub(super) static KIMI_VL: Family = Family {
    name: "kimivl",
    name_key: "clip.projector_type",
    model_types: &["kimi_vl"],
    merge: MERGE,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, size| images::whole(vision, size, (8, 1024), 2),
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        positions: Positions::Axes { beside_table: true },
        post_norm: true,
        head: Head::ShuffleMlp,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Defaults are those of `MoonViTConfig` (`configuration_kimi_vl.py` beside the published models).
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    if config.side(&["merge_kernel_size"], MERGE)? != MERGE {
        return Part::Vision.wrong(
            "merge_kernel_size",
            "is not 2, and llama.cpp knows no other",
        );
    }
    for key in ["init_pos_emb_height", "init_pos_emb_width"] {
        if config.count(&[key], SIDE)? != SIDE {
            return Part::Vision.wrong(key, "is not 64, and llama.cpp's converter knows no other");
        }
    }
    let width = config.count(&["hidden_size"], 1152)?;
    let patch = config.side(&["patch_size"], 14)?;
    Ok(Vision {
        width,
        inner: config.count(&["intermediate_size"], 4304)?,
        heads: config.count(&["num_attention_heads"], 16)?,
        blocks: config.count(&["num_hidden_layers"], 27)?,
        patch,
        image: SIDE * 14,
        merge: MERGE,
        text: config.text_width()?,
        positions: SIDE * SIDE,
        projection: width * MERGE * MERGE,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        inner,
        patch,
        positions,
        text,
        projection,
        ..
    } = vision;
    let embedder = |part: &str| format!("vision_tower.patch_embed.{part}");
    let [matrix, bias] = ProjectorRow::linear(&embedder("proj"), "v.patch_embd", width, 0);
    let shape = vec![width, 3, patch, patch];
    let table = [positions, width];
    let mut rows = vec![
        ProjectorRow { shape, ..matrix }.kept(Kept::Convolution),
        bias,
        ProjectorRow::new(embedder("pos_emb.weight"), "v.position_embd.weight", &table)
            .kept(Kept::Full),
    ];
    for block in 0..vision.blocks {
        let from = |part: &str| format!("vision_tower.encoder.blocks.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (third, to) in (0..).zip(["attn_q", "attn_k", "attn_v"]) {
            let parts = ProjectorRow::linear(&from("wqkv"), &name(to), width, width);
            rows.extend(parts.map(|row| row.taken(Taken::Third(third))));
        }
        for (part, to, outputs, inputs) in [
            ("wo", "attn_out", width, width),
            ("mlp.fc0", "ffn_up", inner, width),
            ("mlp.fc1", "ffn_down", width, inner),
        ] {
            rows.extend(ProjectorRow::linear(
                &from(part),
                &name(to),
                outputs,
                inputs,
            ));
        }
        rows.extend(ProjectorRow::norm(&from("norm0"), &name("ln1"), width));
        rows.extend(ProjectorRow::norm(&from("norm1"), &name("ln2"), width));
    }
    let norm = "vision_tower.encoder.final_layernorm";
    rows.extend(ProjectorRow::norm(norm, "v.post_ln", width));
    let from = |part: &str| format!("multi_modal_projector.{part}");
    rows.extend(ProjectorRow::norm(
        &from("pre_norm"),
        "mm.input_norm",
        width,
    ));
    rows.extend(ProjectorRow::linear(
        &from("linear_1"),
        "mm.1",
        projection,
        projection,
    ));
    rows.extend(ProjectorRow::linear(
        &from("linear_2"),
        "mm.2",
        text,
        projection,
    ));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-5);
    vec![
        ("clip.use_gelu", Value::Bool(true)),
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
    ]
}
