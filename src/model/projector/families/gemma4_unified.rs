//! Gemma 4's unified models (12B): no encoder. The pixels of a token go through one matrix between norms, get positions of
//! two axes, and go through one more.

use super::super::family::{Encoder, Family, Form, Head, Patches, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};
use super::{gemma4, gemma4_audio};

pub(super) static UNIFIED: Family = Family {
    name: "gemma4uv",
    name_key: "clip.vision.projector_type",
    model_types: &["gemma4_unified"],
    merge: gemma4::MERGE,
    read,
    rows,
    keys: gemma4::keys,
    form: Form::Converter,
    image: |vision, size| images::whole(vision, size, (70, 1120), 2),
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        patches: Patches::Normed,
        positions: Positions::LookedUp(2),
        head: Head::Normed,
        ..Encoder::USUAL
    },
    audio: Some(&gemma4_audio::FRAMES),
};

/// Defaults are those of Transformers' `Gemma4UnifiedVisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    Ok(Vision {
        width: config.count(&["mm_embed_dim"], 3840)?,
        patch: config.side(&["patch_size"], 16)?,
        // As with the other models of the family.
        image: 224,
        merge: gemma4::merge(config)?,
        text: config.text_width()?,
        positions: config.count(&["mm_posemb_size"], 1120)?,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        positions,
        text,
        ..
    } = vision;
    let pixels = vision.token_side() * vision.token_side();
    let colours = 3 * pixels;
    let from = |part: &str| format!("vision_embedder.{part}");
    let patches = ProjectorRow::linear(&from("patch_dense"), "v.patch_embd", width, colours);
    let [weight, bias] = patches;
    let mut rows = vec![
        weight.taken(Taken::Planes(pixels)).kept(Kept::Convolution),
        bias,
    ];
    let first = ProjectorRow::norm(&from("patch_ln1"), "v.patch_norm.1", colours);
    rows.extend(first.map(|row| row.taken(Taken::Planes(pixels))));
    rows.extend(ProjectorRow::norm(
        &from("patch_ln2"),
        "v.patch_norm.2",
        width,
    ));
    rows.extend(ProjectorRow::norm(
        &from("pos_norm"),
        "v.patch_norm.3",
        width,
    ));
    rows.push(
        ProjectorRow::new(
            from("pos_embedding"),
            "v.position_embd.weight",
            &[2, positions, width],
        )
        .taken(Taken::Axes(positions))
        .kept(Kept::Full),
    );
    rows.push(ProjectorRow::new(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        &[text, width],
    ));
    rows
}
