//! What SigLIP encoders and those like it share.

use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;

/// Embeddings, blocks with separate projections, and the last norm, under `prefix` in a checkpoint. The embeddings are
/// F32 in every file.
pub(super) fn rows(vision: &Vision, prefix: &str) -> Vec<ProjectorRow> {
    rows_of(vision, prefix, Kept::Full)
}

/// The same with the matrix of the patches in another precision.
pub(super) fn rows_of(vision: &Vision, prefix: &str, patches: Kept) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        patch,
        positions,
        ..
    } = vision;
    let embeddings = format!("{prefix}embeddings.");
    let mut rows = vec![
        ProjectorRow::new(
            format!("{embeddings}patch_embedding.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
        .kept(patches),
        ProjectorRow::new(
            format!("{embeddings}patch_embedding.bias"),
            "v.patch_embd.bias",
            &[width],
        ),
        ProjectorRow::new(
            format!("{embeddings}position_embedding.weight"),
            "v.position_embd.weight",
            &[positions, width],
        )
        .kept(Kept::Full),
    ];
    rows.extend((0..vision.blocks).flat_map(|block| self::block(vision, prefix, block)));
    rows.extend(ProjectorRow::norm(
        &format!("{prefix}post_layernorm"),
        "v.post_ln",
        width,
    ));
    rows
}

/// A block with separate projections and two norms, in the encoder under `prefix`.
pub(super) fn block(vision: &Vision, prefix: &str, block: u64) -> Vec<ProjectorRow> {
    let width = vision.width;
    let mut rows = Vec::new();
    let from = |part: &str| format!("{prefix}encoder.layers.{block}.{part}");
    let name = |part: &str| format!("v.blk.{block}.{part}");
    for (part, to) in [
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.out_proj", "attn_out"),
    ] {
        rows.extend(ProjectorRow::linear(&from(part), &name(to), width, width));
    }
    rows.extend(ProjectorRow::norm(
        &from("layer_norm1"),
        &name("ln1"),
        width,
    ));
    rows.extend(ProjectorRow::norm(
        &from("layer_norm2"),
        &name("ln2"),
        width,
    ));
    rows.extend(ProjectorRow::feed_forward(
        &from(""),
        &name(""),
        ["mlp.fc1", "mlp.fc2"],
        vision,
    ));
    rows
}
