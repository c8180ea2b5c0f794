//! Gemma 4's image encoder: RMS norms on both sides of each part, a gate, positions of two axes, the mean of the patches of
//! a token, and one matrix.

use super::super::family::{Encoder, Family, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};

pub(super) static GEMMA4: Family = Family {
    name: "gemma4v",
    name_key: "clip.vision.projector_type",
    model_types: &["gemma4"],
    merge: 3,
    read,
    rows,
    keys: |_, _| Vec::new(),
    not_written: Some("its file holds an audio encoder too, whose tensors are not converted"),
    image: |vision, size| images::whole(vision, size, (70, 1120), 2),
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        positions: Positions::LookedUp(2),
        rms: true,
        gated: true,
        batches: true,
        head: Head::Pool { transposed: false },
        ..Encoder::USUAL
    },
};

/// Defaults are those of Transformers' `Gemma4VisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks: config.count(&["num_hidden_layers"], 16)?,
        patch: config.count(&["patch_size"], 16)?,
        // The encoder takes images of any size; llama.cpp's converter states this one.
        image: 224,
        merge: config.count(&["pooling_kernel_size"], 3)?,
        text: config.text_width()?,
        positions: config.count(&["position_embedding_size"], 10240)?,
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
        ..
    } = vision;
    let embedder = |part: &str| format!("vision_tower.patch_embedder.{part}");
    let mut rows = vec![
        ProjectorRow::new(
            embedder("input_proj.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
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
        let name = |part: &str| format!("v.blk.{block}.{part}.weight");
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
            let row = ProjectorRow::new(format!("{}.linear.weight", from(part)), name(to), &shape);
            rows.push(row.or(format!("{}.weight", from(part))));
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
                name(to),
                &[width],
            ));
        }
    }
    rows.push(ProjectorRow::new(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        &[text, width],
    ));
    rows
}
