//! The encoder of sounds of Qwen2.5-Omni: Whisper's over 30 seconds, and one matrix. Its file has one name for both encoders.

use super::super::audio::Audio;
use super::super::family::{AudioFamily, AudioPass};
use super::super::rows::{Kept, ProjectorRow, Taken};
use super::super::{ProjectorConfig, ProjectorError};

pub(super) static WHISPER: AudioFamily = AudioFamily {
    name: "qwen2.5o",
    is_named: false,
    eps: 1e-5,
    read,
    rows,
    pass: AudioPass::Whisper,
};

/// Moments that the blocks see.
const MOMENTS: u64 = 1500;

/// Defaults are those of Transformers' `Qwen2_5OmniAudioEncoderConfig`.
fn read(config: &ProjectorConfig<'_>) -> Result<Audio, ProjectorError> {
    let bins = config.audio_count("num_mel_bins", 128)?;
    Ok(Audio {
        width: config.audio_count("d_model", 1280)?,
        inner: config.audio_count("encoder_ffn_dim", 5120)?,
        heads: config.audio_count("encoder_attention_heads", 20)?,
        blocks: config.audio_count("encoder_layers", 32)?,
        bins,
        stated_bins: bins,
        text: config.text_width()?,
        ..Audio::default()
    })
}

fn rows(audio: &Audio) -> Vec<ProjectorRow> {
    let &Audio {
        width,
        inner,
        bins,
        text,
        ..
    } = audio;
    let tower = |part: &str| format!("audio_tower.{part}");
    let mut rows = vec![
        ProjectorRow::new("", "a.position_embd.weight", &[MOMENTS, width])
            .taken(Taken::Times)
            .kept(Kept::Full),
    ];
    for (part, to, inputs) in [
        ("conv1", "a.conv1d.1", bins),
        ("conv2", "a.conv1d.2", width),
    ] {
        let [matrix, bias] = ProjectorRow::linear(&tower(part), to, width, inputs);
        let shape = vec![width, inputs, 3];
        rows.push(ProjectorRow { shape, ..matrix }.kept(Kept::Half));
        let shape = vec![width, 1];
        rows.push(ProjectorRow { shape, ..bias }.kept(Kept::Full));
    }
    for block in 0..audio.blocks {
        let from = |part: &str| tower(&format!("layers.{block}.{part}"));
        let name = |part: &str| format!("a.blk.{block}.{part}");
        for (part, to, outputs, inputs) in [
            ("self_attn.q_proj", "attn_q", width, width),
            ("self_attn.v_proj", "attn_v", width, width),
            ("self_attn.out_proj", "attn_out", width, width),
            ("fc1", "ffn_up", inner, width),
            ("fc2", "ffn_down", width, inner),
        ] {
            let linear = ProjectorRow::linear(&from(part), &name(to), outputs, inputs);
            rows.extend(linear);
        }
        // Keys have no bias.
        let [key, _] =
            ProjectorRow::linear(&from("self_attn.k_proj"), &name("attn_k"), width, width);
        rows.push(key);
        for (norm, to) in [("self_attn_layer_norm", "ln1"), ("final_layer_norm", "ln2")] {
            rows.extend(ProjectorRow::norm(&from(norm), &name(to), width));
        }
    }
    rows.extend(ProjectorRow::norm(&tower("ln_post"), "a.post_ln", width));
    rows.extend(ProjectorRow::linear(&tower("proj"), "mm.a.fc", text, width));
    rows
}
