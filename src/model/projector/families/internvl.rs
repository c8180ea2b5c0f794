//! InternVL: a ViT with a class token, whose patches are merged and mapped by a norm and two matrices. Its checkpoints come
//! in two forms: with the code beside them, and of Transformers' own class (`-hf`).

use super::super::family::{Encoder, Family, Form, Head, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use crate::gguf::Value;

pub(super) static INTERNVL: Family = Family {
    name: "internvl",
    name_key: "clip.projector_type",
    model_types: &["internvl_chat"],
    merge: 2,
    read: |config| read(config, &CODE),
    rows: |vision| rows(vision, &CODE),
    keys,
    form: Form::Converter,
    image: |vision, size| images::best_size(vision, size, images::tile_grids(vision), 2),
    reserved: Reserved::Own,
    encoder: Encoder {
        class_token: true,
        batches: true,
        head: Head::ShuffleMlp,
        ..Encoder::USUAL
    },
    audio: None,
};

pub(super) static INTERNVL_HF: Family = Family {
    model_types: &["internvl"],
    read: |config| read(config, &CLASS),
    rows: |vision| rows(vision, &CLASS),
    ..INTERNVL
};

/// What differs between the two forms.
struct Written {
    /// Defaults: width, inner width, heads, blocks, pixels of a side.
    sizes: [u64; 5],
    /// The key that says whether queries, keys and values have biases, and its default.
    bias: (&'static str, bool),
    /// The same for their norms.
    norm: (&'static str, bool),
    /// Class token, patches and positions.
    embeddings: [&'static str; 3],
    /// Before the number of a block.
    blocks: &'static str,
    /// Queries, keys and values: one matrix of all, or three.
    attention: &'static [&'static str],
    /// Output of the attention, norms of queries and keys, norms before attention and feed-forward, and their scales.
    parts: [&'static str; 7],
    /// The norm and the two matrices of the projection.
    projection: [&'static str; 3],
}

/// Defaults are those of `InternVisionConfig` (`configuration_intern_vit.py` beside the published models).
const CODE: Written = Written {
    sizes: [3200, 12800, 25, 48, 224],
    bias: ("qkv_bias", false),
    norm: ("qk_normalization", true),
    embeddings: [
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.patch_embedding",
        "vision_model.embeddings.position_embedding",
    ],
    blocks: "vision_model.encoder.layers",
    attention: &["attn.qkv"],
    parts: [
        "attn.proj",
        "attn.q_norm",
        "attn.k_norm",
        "norm1",
        "norm2",
        "ls1",
        "ls2",
    ],
    projection: ["mlp1.0", "mlp1.1", "mlp1.3"],
};

/// Defaults are those of Transformers' `InternVLVisionConfig`.
const CLASS: Written = Written {
    sizes: [1024, 4096, 16, 24, 448],
    bias: ("attention_bias", false),
    norm: ("use_qk_norm", false),
    embeddings: [
        "vision_tower.embeddings.cls_token",
        "vision_tower.embeddings.patch_embeddings.projection",
        "vision_tower.embeddings.position_embeddings",
    ],
    blocks: "vision_tower.encoder.layer",
    attention: &["attention.q_proj", "attention.k_proj", "attention.v_proj"],
    parts: [
        "attention.projection_layer",
        "attention.q_norm",
        "attention.k_norm",
        "layernorm_before",
        "layernorm_after",
        "lambda_1",
        "lambda_2",
    ],
    projection: [
        "multi_modal_projector.layer_norm",
        "multi_modal_projector.linear_1",
        "multi_modal_projector.linear_2",
    ],
};

fn read(config: &ProjectorConfig<'_>, written: &Written) -> Result<Vision, ProjectorError> {
    let [width, inner, heads, blocks, image] = written.sizes;
    let image = config.side(&["image_size"], image)?;
    let patch = config.side(&["patch_size"], 14)?;
    let side = image / patch;
    let text = config.text_width()?;
    let flag = |(key, or): (&str, bool)| {
        let stated = config.vision.get(key).and_then(|flag| flag.as_bool());
        stated.unwrap_or(or)
    };
    let vision = Vision {
        width: config.count(&["hidden_size"], width)?,
        inner: config.count(&["intermediate_size"], inner)?,
        heads: config.count(&["num_attention_heads"], heads)?,
        blocks: config.count(&["num_hidden_layers"], blocks)?,
        patch,
        image,
        merge: config.shuffled(Part::Whole, "downsample_ratio")?,
        text,
        positions: side * side + 1,
        tiles: (
            config.whole_count(&["min_dynamic_patch"], 1)?,
            config.whole_count(&["max_dynamic_patch"], 12)?,
        ),
        projection: text,
        attention_bias: flag(written.bias),
        attention_norm: flag(written.norm),
        ..Vision::default()
    };
    check(config, &vision)?;
    Ok(vision)
}

/// What llama.cpp computes otherwise, and its converter does not look at (`tools/mtmd/models/internvl.cpp`).
fn check(config: &ProjectorConfig<'_>, vision: &Vision) -> Result<(), ProjectorError> {
    let text = |of: &serde_json::Value, key: &str| {
        let value = of.get(key).and_then(|value| value.as_str());
        value.map(str::to_owned)
    };
    let act = text(config.vision, "hidden_act");
    if act.is_some_and(|act| act != "gelu" && act != "silu") {
        return Part::Vision.wrong("hidden_act", "is no activation that llama.cpp has here");
    }
    for key in ["select_layer", "vision_feature_layer"] {
        let layer = config.whole.get(key).filter(|layer| !layer.is_null());
        if layer.is_some_and(|layer| layer.as_i64() != Some(-1)) {
            return Part::Whole.wrong(key, "is not -1, the last block, which llama.cpp takes");
        }
    }
    if text(config.whole, "ps_version").as_deref() == Some("v1") {
        return Part::Whole.wrong(
            "ps_version",
            "is v1, another order of merged patches than llama.cpp's",
        );
    }
    let norm = text(config.vision, "norm_type");
    if norm.is_some_and(|norm| (norm == "rms_norm") != is_largest(vision)) {
        return Part::Vision.wrong(
            "norm_type",
            "is another norm than llama.cpp computes in an encoder of this size",
        );
    }
    Ok(())
}

/// Whether llama.cpp computes norms without a mean: it tells that from these two sizes.
fn is_largest(vision: &Vision) -> bool {
    vision.width == 3200 && vision.blocks == 45
}

fn rows(vision: &Vision, written: &Written) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        patch,
        positions,
        text,
        ..
    } = vision;
    let merged = width * vision.merge * vision.merge;
    let [class, patches, places] = written.embeddings;
    let mut rows = vec![
        ProjectorRow::new(class, "v.class_embd", &[1, 1, width]).kept(Kept::Full),
        ProjectorRow::new(
            format!("{patches}.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
        .kept(Kept::Convolution),
        ProjectorRow::new(format!("{patches}.bias"), "v.patch_embd.bias", &[width]),
        ProjectorRow::new(places, "v.position_embd.weight", &[1, positions, width])
            .kept(Kept::Full),
    ];
    let [
        out,
        query_norm,
        key_norm,
        first,
        second,
        first_scale,
        second_scale,
    ] = written.parts;
    for block in 0..vision.blocks {
        let from = |part: &str| format!("{}.{block}.{part}", written.blocks);
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (third, to) in ["attn_q", "attn_k", "attn_v"].into_iter().enumerate() {
            let (source, taken) = match written.attention {
                [all] => (*all, Taken::Third(third as u64)),
                parts => (parts[third], Taken::All),
            };
            let [weight, bias] = ProjectorRow::linear(&from(source), &name(to), width, width);
            rows.push(weight.taken(taken));
            rows.push(bias.taken(taken).optional(vision.attention_bias));
        }
        rows.extend(ProjectorRow::linear(
            &from(out),
            &name("attn_out"),
            width,
            width,
        ));
        for (norm, to) in [(query_norm, "attn_q_norm"), (key_norm, "attn_k_norm")] {
            let name = format!("{}.weight", name(to));
            let row = ProjectorRow::new(format!("{}.weight", from(norm)), name, &[width]);
            rows.push(row.optional(vision.attention_norm));
        }
        for (norm, to) in [(first, "ln1"), (second, "ln2")] {
            let [weight, bias] = ProjectorRow::norm(&from(norm), &name(to), width);
            rows.extend([weight, bias.optional(!is_largest(vision))]);
        }
        for (scale, to) in [(first_scale, "ls1"), (second_scale, "ls2")] {
            let name = format!("{}.weight", name(to));
            rows.push(ProjectorRow::new(from(scale), name, &[width]));
        }
        rows.extend(ProjectorRow::feed_forward(
            &from(""),
            &name(""),
            ["mlp.fc1", "mlp.fc2"],
            vision,
        ));
    }
    let [norm, up, down] = written.projection;
    rows.extend(ProjectorRow::norm(norm, "mm.model.mlp.0", merged));
    rows.extend(ProjectorRow::linear(up, "mm.model.mlp.1", text, merged));
    rows.extend(ProjectorRow::linear(down, "mm.model.mlp.3", text, text));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-6);
    let act = config.vision.get("hidden_act").and_then(|act| act.as_str());
    let act = match act {
        Some("silu") => "clip.use_silu",
        _ => "clip.use_gelu",
    };
    let mut keys = vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        (act, Value::Bool(true)),
        (
            "clip.vision.projector.scale_factor",
            Value::U32(vision.merge as u32),
        ),
    ];
    for (stated, key, tiles) in [
        (
            "min_dynamic_patch",
            "clip.vision.preproc_min_tiles",
            vision.tiles.0,
        ),
        (
            "max_dynamic_patch",
            "clip.vision.preproc_max_tiles",
            vision.tiles.1,
        ),
    ] {
        if config.whole.get(stated).is_some() {
            keys.push((key, Value::U32(tiles as u32)));
        }
    }
    keys
}
