//! Gemma 4's image encoder: RMS norms on both sides of each part, a gate, positions of two axes, the mean of the patches of
//! a token, and one matrix.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::gemma4_audio;
use crate::gguf::Value;

/// Patches of a token's side in every published size, and the only number that llama.cpp knows.
pub(super) const MERGE: u64 = 3;

pub(super) static GEMMA4: Family = Family {
    name: "gemma4v",
    name_key: "clip.vision.projector_type",
    model_types: &["gemma4"],
    merge: MERGE,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, size| images::whole(vision, size, (70, 1120), 2),
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        positions: Positions::LookedUp(2),
        value_norm: true,
        gated: true,
        batches: true,
        head: Head::Pool { transposed: false },
        ..Encoder::USUAL
    },
    audio: Some(&gemma4_audio::CONFORMER),
};

/// Defaults are those of Transformers' `Gemma4VisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let flag = |key: &str| config.vision.get(key).and_then(|flag| flag.as_bool());
    let width = config.count(&["hidden_size"], 768)?;
    let heads = config.count(&["num_attention_heads"], 12)?;
    let head = config.count(&["head_dim"], 64)?;
    if heads.saturating_mul(head) != width {
        return Err(ProjectorError::Value {
            part: Part::Vision,
            key: "head_dim",
            problem: "is not the width divided by the heads, and llama.cpp knows no other",
        });
    }
    Ok(Vision {
        width,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads,
        blocks: config.count(&["num_hidden_layers"], 16)?,
        patch: config.side(&["patch_size"], 16)?,
        // The encoder takes images of any size; llama.cpp's converter states this one.
        image: 224,
        merge: merge(config)?,
        text: config.text_width()?,
        positions: config.count(&["position_embedding_size"], 10240)?,
        clipped: flag("use_clipped_linears").unwrap_or(false),
        standardized: flag("standardize").unwrap_or(false),
        ..Vision::default()
    })
}

/// Patches of a token's side; no file states another number than llama.cpp's.
pub(super) fn merge(config: &ProjectorConfig<'_>) -> Result<u64, ProjectorError> {
    match config.count(&["pooling_kernel_size"], MERGE)? {
        MERGE => Ok(MERGE),
        _ => Err(ProjectorError::Value {
            part: Part::Vision,
            key: "pooling_kernel_size",
            problem: "is not 3, and llama.cpp knows no other",
        }),
    }
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        inner,
        patch,
        positions,
        text,
        ..
    } = vision;
    let embedder = |part: &str| format!("vision_tower.patch_embedder.{part}");
    let mut rows = vec![
        ProjectorRow::new(
            embedder("input_proj.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
        .taken(Taken::Planes(patch * patch))
        .kept(Kept::Convolution),
        ProjectorRow::new(
            embedder("position_embedding_table"),
            "v.position_embd.weight",
            &[2, positions, width],
        )
        .kept(Kept::Full),
    ];
    for block in 0..vision.blocks {
        let from = |part: &str| format!("vision_tower.encoder.layers.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (part, to, outputs, inputs) in [
            ("self_attn.q_proj", "attn_q", width, width),
            ("self_attn.k_proj", "attn_k", width, width),
            ("self_attn.v_proj", "attn_v", width, width),
            ("self_attn.o_proj", "attn_out", width, width),
            ("mlp.gate_proj", "ffn_gate", inner, width),
            ("mlp.up_proj", "ffn_up", inner, width),
            ("mlp.down_proj", "ffn_down", width, inner),
        ] {
            let shape = [outputs, inputs];
            rows.extend(ProjectorRow::clippable(
                &from(part),
                &name(to),
                shape,
                vision.clipped,
            ));
        }
        let head = width / vision.heads.max(1);
        for (part, to, width) in [
            ("self_attn.q_norm", "attn_q_norm", head),
            ("self_attn.k_norm", "attn_k_norm", head),
            ("input_layernorm", "ln1", width),
            ("post_attention_layernorm", "attn_post_norm", width),
            ("pre_feedforward_layernorm", "ln2", width),
            ("post_feedforward_layernorm", "ffn_post_norm", width),
        ] {
            rows.push(ProjectorRow::new(
                format!("{}.weight", from(part)),
                format!("{}.weight", name(to)),
                &[width],
            ));
        }
    }
    if vision.standardized {
        rows.extend(["std_bias", "std_scale"].map(|part| {
            ProjectorRow::new(
                format!("vision_tower.{part}"),
                format!("v.{part}"),
                &[width],
            )
        }));
    }
    rows.push(ProjectorRow::new(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        &[text, width],
    ));
    rows
}

pub(super) fn keys(config: &ProjectorConfig<'_>, _: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    vec![("clip.vision.attention.layer_norm_epsilon", Value::F32(eps))]
}
