//! LLaVA 1.5, 1.6 and OneVision: CLIP or SigLIP up to the last block whose output is looked at, and two matrices over its
//! patches, or over those of several blocks (Granite Vision). Files are those of `llava_surgery_v2.py` and `convert_image_encoder_to_gguf.py` of llama.cpp's tools, given the
//! model's own `vision_feature_layer`.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::images::{EncodedImage, ImageSize};
use super::super::rows::{Kept, ProjectorRow};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::resampler::scripted_block;
use crate::gguf::Value;

pub(super) static LLAVA: Family = Family {
    name: "mlp",
    name_key: "clip.projector_type",
    model_types: &["llava", "llava_next", "llava_onevision"],
    merge: 1,
    read,
    rows,
    keys,
    form: Form::Script {
        holds: "clip.has_llava_projector",
        is_named: true,
        description: "image encoder for LLaVA",
        gelu: |config| act(config) != QUICK,
        colours: None,
    },
    image,
    reserved: Reserved::Own,
    encoder: Encoder {
        class_token: true,
        positions: Positions::LookedUp(1),
        pre_norm: true,
        drops_last: true,
        head: Head::Rows,
        ..Encoder::USUAL
    },
    audio: None,
};

/// The activation of CLIP's first models.
const QUICK: &str = "quick_gelu";

/// The encoders, with the defaults of Transformers' `CLIPVisionConfig` and `SiglipVisionConfig`.
struct Tower {
    model_type: &'static str,
    has_class_token: bool,
    act: &'static str,
    patch: u64,
    /// What the script states as the width of a projection that LLaVA does without.
    stated_projection: u64,
    eps: f64,
}

const TOWERS: [Tower; 2] = [
    Tower {
        model_type: "clip_vision_model",
        has_class_token: true,
        act: QUICK,
        patch: 32,
        stated_projection: 512,
        eps: 1e-5,
    },
    Tower {
        model_type: "siglip_vision_model",
        has_class_token: false,
        act: "gelu_pytorch_tanh",
        patch: 16,
        stated_projection: 0,
        eps: 1e-6,
    },
];

/// The kind of the encoder: CLIP where none is stated.
fn tower(config: &ProjectorConfig<'_>) -> Option<&'static Tower> {
    let stated = config
        .vision
        .get("model_type")
        .and_then(|kind| kind.as_str());
    let stated = stated.unwrap_or(TOWERS[0].model_type);
    TOWERS.iter().find(|tower| tower.model_type == stated)
}

fn act<'a>(config: &ProjectorConfig<'a>) -> &'a str {
    let stated = config.vision.get("hidden_act").and_then(|act| act.as_str());
    stated
        .or(tower(config).map(|tower| tower.act))
        .unwrap_or_default()
}

/// Encoders of another kind under the same `model_type` (Pixtral) are not this one.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    let Some(tower) = tower(config) else {
        let kind = config
            .vision
            .get("model_type")
            .and_then(|kind| kind.as_str());
        return Err(ProjectorError::Unknown {
            name: kind.unwrap_or_default().to_owned(),
            known: TOWERS.map(|tower| tower.model_type).join(", "),
        });
    };
    if ![QUICK, "gelu", "gelu_pytorch_tanh"].contains(&act(config)) {
        return Part::Vision.wrong("hidden_act", "is no activation that llama.cpp has here");
    }
    let stated = |key: &str| config.whole.get(key).filter(|value| !value.is_null());
    // Only a class token is left out, and all that is not one is kept.
    let strategy = stated("vision_feature_select_strategy").and_then(|name| name.as_str());
    if strategy.is_some_and(|name| (name == "default") != tower.has_class_token) {
        return Part::Whole.wrong(
            "vision_feature_select_strategy",
            "takes other patches than llama.cpp does",
        );
    }
    if stated("multimodal_projector_bias").and_then(|flag| flag.as_bool()) == Some(false) {
        return Part::Whole.wrong(
            "multimodal_projector_bias",
            "is false, which llama.cpp does not load",
        );
    }
    let blocks = config.count(&["num_hidden_layers"], 12)?;
    let usual = if config.model_type() == "llava_onevision" {
        -1
    } else {
        -2
    };
    let layers = match stated("vision_feature_layer") {
        None => vec![Some(usual)],
        Some(serde_json::Value::Array(layers)) => layers.iter().map(|n| n.as_i64()).collect(),
        Some(layer) => vec![layer.as_i64()],
    };
    // Counted from the input of the first block.
    let counted = |layer: Option<i64>| {
        let layer = layer?;
        if layer < 0 {
            (blocks + 1).checked_sub(layer.unsigned_abs())
        } else {
            Some(layer.unsigned_abs())
        }
    };
    let layers: Option<Vec<u64>> = layers.into_iter().map(counted).collect();
    let layers = layers.unwrap_or_default();
    let Some(layer) = layers
        .last()
        .copied()
        .filter(|layer| (1..=blocks).contains(layer))
    else {
        return Part::Whole.wrong("vision_feature_layer", "is no block of the encoder");
    };
    if !layers.is_sorted_by(|one, next| one < next) {
        return Part::Whole.wrong(
            "vision_feature_layer",
            "has blocks in another order than that of the encoder, in which llama.cpp takes them",
        );
    }
    let image = config.side(&["image_size"], 224)?;
    let patch = config.side(&["patch_size"], tower.patch)?;
    let side = image / patch;
    let text = config.text_width().or_else(|missing| {
        // LlamaConfig's own width, which a configuration that is a difference to it leaves out.
        let kind = config
            .whole
            .get("text_config")
            .and_then(|text| text.get("model_type"));
        match kind.and_then(|kind| kind.as_str()) {
            None | Some("llama" | "mistral") => Ok(4096),
            Some(_) => Err(missing),
        }
    })?;
    let ends_early = layer < blocks;
    let points = stated("image_grid_pinpoints").and_then(|list| list.as_array());
    // As llama.cpp reads them, whatever comes first.
    let pair = |point: &serde_json::Value| {
        let side = |index: usize| point.get(index)?.as_u64().filter(|n| *n <= 1 << 16);
        Some((side(0)?, side(1)?))
    };
    Ok(Vision {
        width: config.count(&["hidden_size"], 768)?,
        inner: config.count(&["intermediate_size"], 3072)?,
        heads: config.count(&["num_attention_heads"], 12)?,
        blocks: layer,
        feature_blocks: layers,
        ends_early,
        patch,
        image,
        merge: 1,
        text,
        positions: side * side + u64::from(tower.has_class_token),
        has_class_token: tower.has_class_token,
        pinpoints: points.into_iter().flatten().filter_map(pair).collect(),
        projection: text,
        ..Vision::default()
    })
}

/// In the order of the script's files.
fn rows(vision: &Vision) -> Vec<ProjectorRow> {
    let &Vision {
        width,
        inner,
        patch,
        positions,
        text,
        ..
    } = vision;
    let mut rows = Vec::new();
    // The outputs of several blocks lie beside each other.
    let outputs = width * (vision.feature_blocks.len() as u64).max(1);
    for (from, name, inputs) in [("linear_1", "mm.0", outputs), ("linear_2", "mm.2", text)] {
        let from = format!("multi_modal_projector.{from}");
        let [weight, bias] = ProjectorRow::linear(&from, name, text, inputs);
        rows.extend([bias, weight]);
    }
    if !vision.pinpoints.is_empty() {
        rows.push(ProjectorRow::new(
            "image_newline",
            "model.image_newline",
            &[text],
        ));
    }
    let tower = |part: &str| format!("vision_tower.vision_model.{part}");
    let embeddings = |part: &str| tower(&format!("embeddings.{part}"));
    if vision.has_class_token {
        rows.push(ProjectorRow::new(
            embeddings("class_embedding"),
            "v.class_embd",
            &[width],
        ));
    }
    let [weight, bias] =
        ProjectorRow::linear(&embeddings("patch_embedding"), "v.patch_embd", width, 0);
    rows.push(
        ProjectorRow {
            shape: vec![width, 3, patch, patch],
            ..weight
        }
        .kept(Kept::Half),
    );
    if !vision.has_class_token {
        rows.push(bias);
    }
    rows.push(
        ProjectorRow::new(
            embeddings("position_embedding.weight"),
            "v.position_embd.weight",
            &[positions, width],
        )
        .kept(Kept::Half),
    );
    if vision.has_class_token {
        rows.extend(ProjectorRow::norm(
            &tower("pre_layrnorm"),
            "v.pre_ln",
            width,
        ));
    }
    let blocks = 0..vision.blocks;
    let prefix = tower("");
    rows.extend(blocks.flat_map(|block| scripted_block(width, inner, &prefix, block)));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let count = |n: u64| Value::U32(n as u32);
    let signed = |n: &u64| Value::I32(*n as i32);
    let (projection, eps) =
        tower(config).map_or((0, 0.0), |tower| (tower.stated_projection, tower.eps));
    let projection = config
        .vision
        .get("projection_dim")
        .and_then(|n| n.as_u64())
        .filter(|_| projection > 0)
        .unwrap_or(projection);
    let eps = config.number(config.vision, "layer_norm_eps", eps);
    let mut keys = vec![
        ("clip.vision.image_size", count(vision.image)),
        ("clip.vision.patch_size", count(vision.patch)),
        ("clip.vision.embedding_length", count(vision.width)),
        ("clip.vision.feed_forward_length", count(vision.inner)),
        ("clip.vision.projection_dim", count(projection)),
        ("clip.vision.attention.head_count", count(vision.heads)),
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(eps)),
        ("clip.vision.block_count", count(vision.blocks)),
    ];
    if !vision.pinpoints.is_empty() {
        let sides = vision
            .pinpoints
            .iter()
            .flat_map(|(first, second)| [signed(first), signed(second)]);
        keys.push((
            "clip.vision.image_grid_pinpoints",
            Value::Array(sides.collect()),
        ));
        let merge = Value::String("spatial_unpad".to_owned());
        keys.push(("clip.vision.mm_patch_merge_type", merge));
    }
    let layers = vision.feature_blocks.iter().map(signed).collect();
    keys.push(("clip.vision.feature_layer", Value::Array(layers)));
    keys
}

/// An image that is larger than the encoder's own is cut, if there are sizes to bring it to.
fn image(vision: &Vision, size: ImageSize) -> EncodedImage {
    if vision.pinpoints.is_empty() {
        return images::fixed(vision, 0);
    }
    images::best_size(vision, size, vision.pinpoints.iter().copied(), 0)
}
