//! MiniCPM-V 2.6, 4.0 and 4.5: SigLIP, and a resampler that asks for a fixed number of tokens of each picture. Files are those
//! of `minicpmv-surgery.py` and `minicpmv-convert-image-encoder-to-gguf.py` of llama.cpp's tools.

use super::super::family::{Encoder, Family, Form, Head, Positions, Reserved};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::vision::Vision;
use super::super::{Part, ProjectorConfig, ProjectorError, images};
use super::minicpmv::{GRID, patch};
use crate::gguf::Value;

pub(super) static RESAMPLER: Family = Family {
    name: "resampler",
    name_key: "clip.projector_type",
    model_types: &["minicpmv"],
    merge: 1,
    read,
    rows,
    keys,
    form: Form::Script {
        holds: "clip.has_minicpmv_projector",
        is_named: false,
        description: "image encoder for MiniCPM-V",
        gelu: |_| true,
        colours: Some(0.5),
    },
    image: images::sliced,
    reserved: Reserved::Own,
    encoder: Encoder {
        positions: Positions::LookedUp(1),
        post_norm: true,
        head: Head::Resampler,
        ..Encoder::USUAL
    },
    audio: None,
};

/// Width of an attention head of the resampler.
const HEAD: u64 = 128;

/// llama.cpp's number for each version of the model.
const VERSIONS: [(f64, i32); 3] = [(2.6, 3), (4.0, 5), (4.5, 6)];

fn version(config: &ProjectorConfig<'_>) -> Option<i32> {
    let stated = config.whole.get("version")?;
    let stated = stated.as_f64().or_else(|| stated.as_str()?.parse().ok())?;
    let known = VERSIONS.iter().find(|(version, _)| *version == stated);
    known.map(|(_, number)| *number)
}

/// Defaults are the script's.
fn read(config: &ProjectorConfig<'_>) -> Result<Vision, ProjectorError> {
    if version(config).is_none() {
        return Part::Whole.wrong(
            "version",
            "is none of 2.6, 4.0 and 4.5, the models that are known here",
        );
    }
    let dropped = config
        .whole
        .get("drop_vision_last_layer")
        .and_then(|flag| flag.as_bool());
    if dropped == Some(true) {
        return Part::Whole.wrong(
            "drop_vision_last_layer",
            "is true, and llama.cpp runs every block",
        );
    }
    let patch = patch(config)?;
    let text = config.whole_count(&["hidden_size"], 0)?;
    if !text.is_multiple_of(HEAD) {
        return Part::Whole.wrong(
            "hidden_size",
            "is no multiple of 128, the width of the resampler's heads",
        );
    }
    Ok(Vision {
        width: config.count(&["hidden_size"], 1152)?,
        inner: config.count(&["intermediate_size"], 4304)?,
        heads: config.count(&["num_attention_heads"], 16)?,
        blocks: config.count(&["num_hidden_layers"], 27)?,
        patch,
        image: config.whole_side(&["image_size"], 448)?,
        merge: 1,
        text,
        positions: GRID * GRID,
        queries: config.whole_count(&["query_num"], 64)?,
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
        queries,
        ..
    } = vision;
    let mut rows = Vec::new();
    let named = |part: &str| format!("resampler.{part}");
    for (part, shape) in [("bias", vec![text]), ("weight", vec![text, text])] {
        for (third, to) in (0..).zip(["q", "k", "v"]) {
            let from = named(&format!("attn.in_proj_{part}"));
            let row = ProjectorRow::new(from, named(&format!("attn.{to}.{part}")), &shape);
            rows.push(row.taken(Taken::Third(third)));
        }
    }
    let [weight, bias] =
        ProjectorRow::linear(&named("attn.out_proj"), &named("attn.out"), text, text);
    rows.extend([bias, weight]);
    rows.push(ProjectorRow::new(
        named("kv_proj.weight"),
        named("kv.weight"),
        &[text, width],
    ));
    for norm in ["ln_kv", "ln_post", "ln_q"] {
        let [weight, bias] = ProjectorRow::norm(&named(norm), &named(norm), text);
        rows.extend([bias, weight]);
    }
    rows.push(
        ProjectorRow::new("", named("pos_embed_k"), &[positions, text])
            .taken(Taken::Sines(GRID))
            .kept(Kept::Full),
    );
    rows.push(
        ProjectorRow::new(named("proj"), named("proj.weight"), &[text, text])
            .taken(Taken::Transposed),
    );
    rows.push(ProjectorRow::new(named("query"), named("query"), &[queries, text]).kept(Kept::Full));
    let [weight, bias] =
        ProjectorRow::linear("vpm.embeddings.patch_embedding", "v.patch_embd", width, 0);
    let shape = vec![width, 3, patch, patch];
    rows.push(ProjectorRow { shape, ..weight }.kept(Kept::Half));
    rows.push(bias);
    rows.push(
        ProjectorRow::new(
            "vpm.embeddings.position_embedding.weight",
            "v.position_embd.weight",
            &[positions, width],
        )
        .kept(Kept::Half),
    );
    let blocks = 0..vision.blocks;
    rows.extend(blocks.flat_map(|block| scripted_block(width, inner, "vpm.", block)));
    rows.extend(ProjectorRow::norm("vpm.post_layernorm", "v.post_ln", width));
    rows
}

/// A block as the scripts order and name it: they call the two matrices of the feed-forward by each other's name, and
/// llama.cpp tells by the shapes.
pub(super) fn scripted_block(width: u64, inner: u64, tower: &str, block: u64) -> Vec<ProjectorRow> {
    let from = |part: &str| format!("{tower}encoder.layers.{block}.{part}");
    let name = |part: &str| format!("v.blk.{block}.{part}");
    let mut rows = Vec::new();
    for (part, to) in [
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.out_proj", "attn_out"),
    ] {
        rows.extend(ProjectorRow::linear(&from(part), &name(to), width, width));
    }
    rows.extend(ProjectorRow::norm(
        &from("layer_norm1"),
        &name("ln1"),
        width,
    ));
    for (part, to, outputs, inputs) in [
        ("mlp.fc1", "ffn_down", inner, width),
        ("mlp.fc2", "ffn_up", width, inner),
    ] {
        rows.extend(ProjectorRow::linear(
            &from(part),
            &name(to),
            outputs,
            inputs,
        ));
    }
    rows.extend(ProjectorRow::norm(
        &from("layer_norm2"),
        &name("ln2"),
        width,
    ));
    rows
}

fn keys(config: &ProjectorConfig<'_>, vision: &Vision) -> Vec<(&'static str, Value)> {
    let count = |n: u64| Value::U32(n as u32);
    vec![
        (
            "clip.minicpmv_version",
            Value::I32(version(config).unwrap_or(0)),
        ),
        ("clip.vision.image_size", count(vision.image)),
        ("clip.vision.patch_size", count(vision.patch)),
        ("clip.vision.embedding_length", count(vision.width)),
        ("clip.vision.feed_forward_length", count(vision.inner)),
        ("clip.vision.projection_dim", count(0)),
        ("clip.vision.attention.head_count", count(vision.heads)),
        ("clip.vision.attention.layer_norm_epsilon", Value::F32(1e-6)),
        ("clip.vision.block_count", count(vision.blocks)),
        ("clip.minicpmv_query_num", count(vision.queries)),
    ]
}
