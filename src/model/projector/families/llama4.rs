//! Llama 4: a ViT with a class token behind the patches, positions of two axes that turn queries and keys beside a table, and
//! three matrices over the patches of a token.
//!
//! llama.cpp's converter calls the norm before the feed-forward by the name that it has in another kind's encoder
//! (`attn_post_norm`), under which llama.cpp computes another model; here it has its own (`ln2`).

use super::super::family::{Encoder, Family, Form, Head, Patches, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use crate::gguf::Value;

pub(super) static LLAMA4: Family = Family {
    name: "llama4",
    name_key: "clip.projector_type",
    model_types: &["llama4"],
    merge: 2,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, size| images::best_size(vision, size, sizes(vision), 2),
    reserved: Reserved::Own,
    encoder: Encoder {
        patches: Patches::Unfolded,
        class_token: true,
        positions: Positions::Axes {
            beside_table: false,
        },
        pre_norm: true,
        post_norm: true,
        head: Head::Adapter,
        ..Encoder::USUAL
    },
    audio: None,
};

/// The most tiles of a side.
const TILES: u64 = 3;

/// Sizes that an image is brought to before it is cut into tiles: more than one, in any shape.
fn sizes(vision: &Vision) -> impl Iterator<Item = (u64, u64)> {
    let side = vision.image;
    let all = (1..=TILES).flat_map(|columns| (1..=TILES).map(move |rows| (columns, rows)));
    all.filter(|tiles| *tiles != (1, 1))
        .map(move |(columns, rows)| (columns * side, rows * side))
}

/// Defaults are those of Transformers' `Llama4VisionConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let act = config.vision.get("hidden_act").and_then(|act| act.as_str());
    if act.is_some_and(|act| act != "gelu") {
        return Part::Vision.wrong("hidden_act", "is not gelu, and llama.cpp computes no other");
    }
    let projection = config.count(&["projector_output_dim"], 4096)?;
    for (key, or) in [("projector_input_dim", 4096), ("vision_output_dim", 7680)] {
        if config.count(&[key], or)? != projection {
            return Part::Vision.wrong(key, "is not `projector_output_dim`");
        }
    }
    let image = config.side(&["image_size"], 448)?;
    let patch = config.side(&["patch_size"], 14)?;
    let side = image / patch;
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 5632)?,
        heads: config.count(&["num_attention_heads"], 16)?,
        blocks: config.count(&["num_hidden_layers"], 34)?,
        patch,
        image,
        merge: config.shuffled(Part::Vision, "pixel_shuffle_ratio")?,
        text: config.text_width()?,
        positions: side * side + 1,
        projection,
        ..Vision::default()
    })
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        patch,
        positions,
        text,
        projection,
        ..
    } = vision;
    let merged = width * vision.merge * vision.merge;
    let tower = |part: &str| format!("vision_model.{part}");
    let mut rows = vec![
        ProjectorRow::new(tower("class_embedding"), "v.class_embd", &[width]),
        ProjectorRow::new(
            tower("patch_embedding.linear.weight"),
            "v.patch_embd.weight",
            &[width, 3 * patch * patch],
        )
        .kept(Kept::Convolution),
        ProjectorRow::new(
            tower("positional_embedding_vlm"),
            "v.position_embd.weight",
            &[positions, width],
        )
        .kept(Kept::Full),
    ];
    for block in 0..vision.blocks {
        let from = |part: &str| tower(&format!("model.layers.{block}.{part}"));
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (part, to) in [
            ("q_proj", "attn_q"),
            ("k_proj", "attn_k"),
            ("v_proj", "attn_v"),
            ("o_proj", "attn_out"),
        ] {
            let from = from(&format!("self_attn.{part}"));
            rows.extend(ProjectorRow::linear(&from, &name(to), width, width));
        }
        for (norm, to) in [
            ("input_layernorm", "ln1"),
            ("post_attention_layernorm", "ln2"),
        ] {
            rows.extend(ProjectorRow::norm(&from(norm), &name(to), width));
        }
        rows.extend(ProjectorRow::feed_forward(
            &from(""),
            &name(""),
            ["mlp.fc1", "mlp.fc2"],
            vision,
        ));
    }
    rows.extend(ProjectorRow::norm(
        &tower("layernorm_pre"),
        "v.pre_ln",
        width,
    ));
    rows.extend(ProjectorRow::norm(
        &tower("layernorm_post"),
        "v.post_ln",
        width,
    ));
    for (part, to, outputs, inputs) in [
        (
            tower("vision_adapter.mlp.fc1"),
            "mm.model.mlp.1",
            projection,
            merged,
        ),
        (
            tower("vision_adapter.mlp.fc2"),
            "mm.model.mlp.2",
            projection,
            projection,
        ),
        (
            "multi_modal_projector.linear_1".to_owned(),
            "mm.model.fc",
            text,
            projection,
        ),
    ] {
        let [matrix, _] = ProjectorRow::linear(&part, to, outputs, inputs);
        rows.push(matrix);
    }
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "norm_eps", 1e-5);
    vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
        ("clip.use_gelu", Value::Bool(true)),
    ]
}
