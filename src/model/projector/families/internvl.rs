//! InternVL: a ViT with a class token, whose patches are merged and mapped by a norm and two matrices.

use super::super::family::{Encoder, Family, Form, Head, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{ProjectorConfig, ProjectorError, images};
use crate::gguf::Value;

pub(super) static INTERNVL: Family = Family {
    name: "internvl",
    name_key: "clip.projector_type",
    model_types: &["internvl_chat"],
    merge: 2,
    read,
    rows,
    keys,
    form: Form::Converter,
    not_written: None,
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

/// Defaults are those of `InternVisionConfig` (`configuration_intern_vit.py` beside the published models).
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    check(config)?;
    let image = config.count(&["image_size"], 224)?;
    let patch = config.count(&["patch_size"], 14)?;
    let side = image / patch;
    let ratio = config.number(config.whole, "downsample_ratio", 0.5);
    let text = config.text_width()?;
    Ok(Vision {
        width: config.count(&["hidden_size"], 3200)?,
        inner: config.count(&["intermediate_size"], 12800)?,
        heads: config.count(&["num_attention_heads"], 25)?,
        blocks: config.count(&["num_hidden_layers"], 48)?,
        patch,
        image,
        merge: if ratio > 0.0 { (1.0 / ratio) as u64 } else { 0 },
        text,
        positions: side * side + 1,
        tiles: (
            config.whole_count(&["min_dynamic_patch"], 1)?,
            config.whole_count(&["max_dynamic_patch"], 12)?,
        ),
        projection: text,
        ..Vision::default()
    })
}

/// What llama.cpp computes otherwise, and its converter does not look at (`tools/mtmd/models/internvl.cpp`).
fn check(config: &ProjectorConfig<'_>) -> Result<(), ProjectorError> {
    let wrong = |key, problem| Err(ProjectorError::Value { key, problem });
    let text = |of: &serde_json::Value, key: &str| {
        let value = of.get(key).and_then(|value| value.as_str());
        value.map(str::to_owned)
    };
    let act = text(config.vision, "hidden_act");
    if act.is_some_and(|act| act != "gelu" && act != "silu") {
        return wrong("hidden_act", "is no activation that llama.cpp has here");
    }
    let layer = config.whole.get("select_layer").and_then(|n| n.as_i64());
    if layer.is_some_and(|layer| layer != -1) {
        return wrong(
            "select_layer",
            "is not -1, the last block, which llama.cpp takes",
        );
    }
    if text(config.whole, "ps_version").as_deref() == Some("v1") {
        return wrong(
            "ps_version",
            "is v1, another order of merged patches than llama.cpp's",
        );
    }
    // llama.cpp tells the norm from these two sizes.
    let is_largest = config.count(&["hidden_size"], 3200)? == 3200
        && config.count(&["num_hidden_layers"], 48)? == 45;
    let norm = text(config.vision, "norm_type");
    if norm.is_some_and(|norm| (norm == "rms_norm") != is_largest) {
        return wrong(
            "norm_type",
            "is another norm than llama.cpp computes in an encoder of this size",
        );
    }
    Ok(())
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        patch,
        positions,
        text,
        ..
    } = vision;
    let merged = width * vision.merge * vision.merge;
    let embeddings = |part: &str| format!("vision_model.embeddings.{part}");
    let mut rows = vec![
        ProjectorRow::new(
            embeddings("class_embedding"),
            "v.class_embd",
            &[1, 1, width],
        )
        .kept(Kept::Full),
        ProjectorRow::new(
            embeddings("patch_embedding.weight"),
            "v.patch_embd.weight",
            &[width, 3, patch, patch],
        )
        .kept(Kept::Convolution),
        ProjectorRow::new(
            embeddings("patch_embedding.bias"),
            "v.patch_embd.bias",
            &[width],
        ),
        ProjectorRow::new(
            embeddings("position_embedding"),
            "v.position_embd.weight",
            &[1, positions, width],
        )
        .kept(Kept::Full),
    ];
    for block in 0..vision.blocks {
        let from = |part: &str| format!("vision_model.encoder.layers.{block}.{part}");
        let name = |part: &str| format!("v.blk.{block}.{part}");
        for (third, to) in (0..).zip(["attn_q", "attn_k", "attn_v"]) {
            let [weight, bias] = ProjectorRow::linear(&from("attn.qkv"), &name(to), width, width);
            rows.push(weight.taken(Taken::Third(third)));
            rows.push(bias.taken(Taken::Third(third)).optional());
        }
        rows.extend(ProjectorRow::linear(
            &from("attn.proj"),
            &name("attn_out"),
            width,
            width,
        ));
        for (norm, to) in [
            ("attn.q_norm", "attn_q_norm"),
            ("attn.k_norm", "attn_k_norm"),
        ] {
            let name = format!("{}.weight", name(to));
            rows.push(
                ProjectorRow::new(format!("{}.weight", from(norm)), name, &[width]).optional(),
            );
        }
        for (norm, to) in [("norm1", "ln1"), ("norm2", "ln2")] {
            let [weight, bias] = ProjectorRow::norm(&from(norm), &name(to), width);
            rows.extend([weight, bias.optional()]);
        }
        for scale in ["ls1", "ls2"] {
            let name = format!("{}.weight", name(scale));
            rows.push(ProjectorRow::new(from(scale), name, &[width]));
        }
        rows.extend(ProjectorRow::feed_forward(
            &from(""),
            &name(""),
            ["mlp.fc1", "mlp.fc2"],
            vision,
        ));
    }
    rows.extend(ProjectorRow::norm("mlp1.0", "mm.model.mlp.0", merged));
    rows.extend(ProjectorRow::linear(
        "mlp1.1",
        "mm.model.mlp.1",
        text,
        merged,
    ));
    rows.extend(ProjectorRow::linear("mlp1.3", "mm.model.mlp.3", text, text));
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
