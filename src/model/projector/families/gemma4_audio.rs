//! Gemma 4's audio encoders: a conformer over a spectrum (E2B, E4B), and one matrix over pieces of the sound as it is
//! (the unified models).

use super::super::audio::Audio;
use super::super::family::{AudioFamily, AudioPass};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::{Part, ProjectorConfig, ProjectorError};

pub(super) static CONFORMER: AudioFamily = AudioFamily {
    name: "gemma4a",
    is_named: true,
    eps: 1e-6,
    read,
    rows,
    pass: AudioPass::Conformer,
};

pub(super) static FRAMES: AudioFamily = AudioFamily {
    name: "gemma4ua",
    is_named: true,
    eps: 1e-6,
    read: read_frames,
    rows: |audio| vec![projection(audio)],
    pass: AudioPass::Frames,
};

/// The values of a moment: llama.cpp's converter states them where a configuration does not.
const BINS: u64 = 128;

/// Defaults are those of Transformers' `Gemma4AudioConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Audio, ProjectorError> {
    let part = |key: &str| config.audio.and_then(|part| part.get(key));
    let width = config.audio_count("hidden_size", 1024)?;
    let bins = config.audio_count("input_feat_size", BINS)?;
    let planes = match part("subsampling_conv_channels") {
        None => Some(vec![128, 32]),
        Some(list) => list.as_array().and_then(|list| {
            let sides = list.iter().map(|n| n.as_u64().filter(|n| *n <= 1 << 16));
            sides.collect::<Option<Vec<u64>>>()
        }),
    };
    let planes = planes.filter(|planes| planes.len() == 2);
    Ok(Audio {
        width,
        inner: 4 * width,
        heads: config.audio_count("num_attention_heads", 8)?,
        blocks: config.audio_count("num_hidden_layers", 12)?,
        bins,
        stated_bins: bins,
        planes: planes.ok_or(ProjectorError::Value {
            part: Part::Audio,
            key: "subsampling_conv_channels",
            problem: "is no list of two numbers",
        })?,
        kernel: config.audio_count("conv_kernel_size", 5)?,
        output: config.audio_count("output_proj_dims", 1536)?,
        text: config.text_width()?,
        wide_windows: false,
        clipped: part("use_clipped_linears")
            .and_then(|flag| flag.as_bool())
            .unwrap_or(true),
    })
}

fn read_frames(config: &ProjectorConfig<'_>) -> Result<Audio, ProjectorError> {
    let width = config.audio_count("audio_embed_dim", 640)?;
    Ok(Audio {
        width,
        bins: width,
        stated_bins: BINS,
        output: width,
        text: config.text_width()?,
        ..Audio::default()
    })
}

fn projection(audio: &Audio) -> ProjectorRow {
    ProjectorRow::new(
        "embed_audio.embedding_projection.weight",
        "mm.a.input_projection.weight",
        &[audio.text, audio.output],
    )
}

fn rows(audio: &Audio) -> Vec<ProjectorRow> {
    let &Audio { width, output, .. } = audio;
    let mut rows: Vec<ProjectorRow> = (0..audio.blocks).flat_map(|n| block(audio, n)).collect();
    rows.extend(ProjectorRow::linear(
        "audio_tower.output_proj",
        "a.pre_encode.out",
        output,
        width,
    ));
    let from = |part: &str| format!("audio_tower.subsample_conv_projection.{part}.weight");
    // Each convolution halves the moments and their values.
    let last = audio.planes.last().copied().unwrap_or(0);
    rows.push(
        ProjectorRow::new(
            from("input_proj_linear"),
            "a.input_projection.weight",
            &[width, audio.bins / 4 * last],
        )
        .kept(Kept::Full),
    );
    let mut before = 1;
    for (layer, &planes) in audio.planes.iter().enumerate() {
        let shape = [planes, before, 3, 3];
        let name = format!("a.conv1d.{layer}.weight");
        let convolution = ProjectorRow::new(from(&format!("layer{layer}.conv")), name, &shape);
        rows.push(convolution.kept(Kept::Full));
        let name = format!("a.conv1d.{layer}.norm.weight");
        let norm = from(&format!("layer{layer}.norm"));
        rows.push(ProjectorRow::new(norm, name, &[planes]));
        before = planes;
    }
    rows.push(projection(audio));
    rows
}

fn block(audio: &Audio, block: u64) -> Vec<ProjectorRow> {
    let &Audio { width, inner, .. } = audio;
    let from = |part: &str| format!("audio_tower.layers.{block}.{part}");
    let name = |part: &str| format!("a.blk.{block}.{part}");
    let mut rows = Vec::new();
    for (part, to, outputs, inputs) in [
        ("feed_forward1.ffw_layer_1", "ffn_up", inner, width),
        ("feed_forward1.ffw_layer_2", "ffn_down", width, inner),
        ("feed_forward2.ffw_layer_1", "ffn_up_1", inner, width),
        ("feed_forward2.ffw_layer_2", "ffn_down_1", width, inner),
        ("lconv1d.linear_start", "conv_pw1", 2 * width, width),
        ("lconv1d.linear_end", "conv_pw2", width, width),
        ("self_attn.q_proj", "attn_q", width, width),
        ("self_attn.k_proj", "attn_k", width, width),
        ("self_attn.v_proj", "attn_v", width, width),
        ("self_attn.post", "attn_out", width, width),
    ] {
        let shape = [outputs, inputs];
        rows.extend(ProjectorRow::clippable(
            &from(part),
            &name(to),
            shape,
            audio.clipped,
        ));
    }
    // The converter exchanges the names of the norms before and after the convolution, and llama.cpp reads them so.
    for (part, to) in [
        ("feed_forward1.pre_layer_norm", "ffn_norm"),
        ("feed_forward1.post_layer_norm", "ffn_post_norm"),
        ("feed_forward2.pre_layer_norm", "ffn_norm_1"),
        ("feed_forward2.post_layer_norm", "ffn_post_norm_1"),
        ("lconv1d.pre_layer_norm", "conv_norm"),
        ("lconv1d.conv_norm", "norm_conv"),
        ("norm_pre_attn", "attn_pre_norm"),
        ("norm_post_attn", "attn_post_norm"),
        ("norm_out", "ln2"),
    ] {
        let name = format!("{}.weight", name(to));
        rows.push(ProjectorRow::new(
            format!("{}.weight", from(part)),
            name,
            &[width],
        ));
    }
    rows.push(
        ProjectorRow::new(
            from("lconv1d.depthwise_conv1d.weight"),
            name("conv_dw.weight"),
            &[width, audio.kernel],
        )
        .kept(Kept::Full),
    );
    rows.push(ProjectorRow::new(
        from("self_attn.relative_k_proj.weight"),
        name("attn_k_rel.weight"),
        &[width, width],
    ));
    let head = width / audio.heads.max(1);
    for (part, is_optional) in [("per_dim_scale", false), ("per_dim_key_scale", true)] {
        let to = part.replace("key", "k");
        let row = ProjectorRow::new(
            from(&format!("self_attn.{part}")),
            name(&format!("{to}.weight")),
            &[head],
        );
        let row = row.taken(Taken::Softplus);
        rows.push(if is_optional {
            row.optional(false)
        } else {
            row
        });
    }
    rows
}
