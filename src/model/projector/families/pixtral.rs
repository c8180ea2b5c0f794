//! Pixtral, the encoder of Mistral Small 3 and Ministral 3: positions of two axes that turn queries and keys, one matrix over
//! the patches of a token, and the embedding of a token of text between the rows of an image.
//!
//! llama.cpp's converter leaves that embedding out where the name of the text model's begins with `language_model.`, and
//! llama.cpp does not load a file without it.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use crate::gguf::Value;

pub(super) static PIXTRAL: Family = Family {
    name: "pixtral",
    name_key: "clip.projector_type",
    model_types: &["mistral3"],
    merge: 1,
    read,
    rows,
    keys,
    form: Form::Converter,
    image: |vision, size| images::whole_in_rows(vision, size, (8, 1024)),
    reserved: Reserved::Tokens(16),
    encoder: Encoder {
        positions: Positions::Axes {
            beside_table: false,
        },
        pre_norm: true,
        gated: true,
        head: Head::Unfolded,
        ..Encoder::USUAL
    },
    audio: None,
};

/// The base of the frequencies, the only one that llama.cpp knows here.
const BASE: f64 = 10_000.0;

/// Defaults are those of Transformers' `PixtralVisionConfig` and `Mistral3Config`.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let width = config.count(&["hidden_size"], 1024)?;
    let heads = config.count(&["num_attention_heads"], 16)?;
    let head = width.checked_div(heads).unwrap_or(0);
    if config.count(&["head_dim"], head)?.checked_mul(heads) != Some(width) {
        return Part::Vision.wrong(
            "head_dim",
            "is not the width divided by the heads, and llama.cpp knows no other",
        );
    }
    let rope = config.vision.get("rope_parameters");
    let base = rope.and_then(|rope| rope.get("rope_theta"));
    let base = base.or(config.vision.get("rope_theta"));
    if base
        .and_then(|base| base.as_f64())
        .is_some_and(|base| base != BASE)
    {
        return Part::Vision.wrong("rope_theta", "is not 10000, and llama.cpp knows no other");
    }
    if !["silu", "gelu"].contains(&act(config)) {
        return Part::Vision.wrong("hidden_act", "is no activation that llama.cpp has here");
    }
    let whole = |key: &str| config.whole.get(key).filter(|value| !value.is_null());
    let layer = whole("vision_feature_layer");
    if layer.is_some_and(|layer| layer.as_i64() != Some(-1)) {
        return Part::Whole.wrong(
            "vision_feature_layer",
            "is not -1, the last block, which llama.cpp takes",
        );
    }
    let projected = whole("projector_hidden_act").and_then(|act| act.as_str());
    if projected.is_some_and(|act| act != "gelu") {
        return Part::Whole.wrong(
            "projector_hidden_act",
            "is not gelu, and llama.cpp computes no other",
        );
    }
    let text = config.text_width()?;
    let biased = whole("multimodal_projector_bias").and_then(|flag| flag.as_bool());
    Ok(Vision {
        width,
        inner: config.count(&["intermediate_size"], 4096)?,
        heads,
        blocks: config.count(&["num_hidden_layers"], 24)?,
        patch: config.side(&["patch_size"], 16)?,
        image: config.side(&["image_size"], 1024)?,
        merge: config.whole_count(&["spatial_merge_size"], 2)?,
        text,
        projection: text,
        projection_bias: biased.unwrap_or(false),
        ..Vision::default()
    })
}

fn act<'a>(config: &ProjectorConfig<'a>) -> &'a str {
    let stated = config.vision.get("hidden_act").and_then(|act| act.as_str());
    stated.unwrap_or("gelu")
}

fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        inner,
        patch,
        text,
        ..
    } = vision;
    let merged = width * vision.merge * vision.merge;
    let weight = |from: String, to: &str, shape: &[u64]| {
        ProjectorRow::new(format!("{from}.weight"), format!("{to}.weight"), shape)
    };
    let tower = |part: &str| format!("vision_tower.{part}");
    let mut rows = vec![
        weight(
            tower("patch_conv"),
            "v.patch_embd",
            &[width, 3, patch, patch],
        )
        .kept(Kept::Convolution),
        weight(tower("ln_pre"), "v.pre_ln", &[width]),
    ];
    let head = width / vision.heads.max(1);
    for block in 0..vision.blocks {
        for (part, to, outputs, inputs) in [
            ("attention.q_proj", "attn_q", width, width),
            ("attention.k_proj", "attn_k", width, width),
            ("attention.v_proj", "attn_v", width, width),
            ("attention.o_proj", "attn_out", width, width),
            ("feed_forward.gate_proj", "ffn_gate", inner, width),
            ("feed_forward.up_proj", "ffn_up", inner, width),
            ("feed_forward.down_proj", "ffn_down", width, inner),
        ] {
            let from = tower(&format!("transformer.layers.{block}.{part}"));
            let row = weight(from, &format!("v.blk.{block}.{to}"), &[outputs, inputs]);
            rows.push(match to {
                "attn_q" | "attn_k" => row.taken(Taken::Pairs(head)),
                _ => row,
            });
        }
        for (part, to) in [("attention_norm", "ln1"), ("ffn_norm", "ln2")] {
            let from = tower(&format!("transformer.layers.{block}.{part}"));
            rows.push(weight(from, &format!("v.blk.{block}.{to}"), &[width]));
        }
    }
    let from = |part: &str| format!("multi_modal_projector.{part}");
    rows.push(weight(from("norm"), "mm.input_norm", &[width]));
    rows.push(
        weight(
            from("patch_merger.merging_layer"),
            "mm.patch_merger",
            &[width, merged],
        )
        .kept(Kept::Convolution),
    );
    for (part, to, inputs) in [("linear_1", "mm.1", width), ("linear_2", "mm.2", text)] {
        let [matrix, bias] = ProjectorRow::linear(&from(part), to, text, inputs);
        rows.extend([matrix, bias.optional(vision.projection_bias)]);
    }
    let token = Taken::Token {
        token: "[IMG_BREAK]",
        of: 0,
    };
    let embedding = "language_model.model.embed_tokens.weight";
    rows.push(
        ProjectorRow::new(embedding, "v.token_embd.img_break", &[text])
            .or("language_model.embed_tokens.weight")
            .taken(token),
    );
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let eps = config.number(config.vision, "layer_norm_eps", 1e-5);
    let act = match act(config) {
        "silu" => "clip.use_silu",
        _ => "clip.use_gelu",
    };
    vec![
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        (act, Value::Bool(true)),
        (
            "clip.vision.spatial_merge_size",
            Value::U32(vision.merge as u32),
        ),
    ]
}
