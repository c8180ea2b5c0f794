//! The metadata of an `mmproj`, with the keys and values that llama.cpp's converter writes (`conversion/base.py`,
//! `MmprojModel`), and what conversion does to its tensors. In: a checkpoint and its projector. Out: key-value pairs in
//! the order of the file. Must not: read weights.

use super::change::{Change, Permutation, RowSlices, ValueChange};
use super::{ConvertError, Pairs, ParameterCounts, QUANTIZATION_VERSION, add_names, sampling};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::Value;
use crate::model::Projector;
use crate::model::projector::{ProjectorConfig, ProjectorError, ProjectorTensor, Taken};

/// The metadata of `projector` of `checkpoint` as a GGUF of `file_type`.
///
/// # Errors
/// [`ConvertError`]: a checkpoint that is a GGUF already, a projector that is planned and not written, or a file beside
/// the weights that is missing or cannot be read.
pub fn projector_metadata(
    checkpoint: &Checkpoint,
    projector: &Projector,
    file_type: u32,
) -> Result<Vec<(String, Value)>, ConvertError> {
    let RawConfig::HuggingFace(json) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let family = projector.family;
    if let Some(reason) = family.not_written {
        return Err(ProjectorError::NotWritten {
            name: family.name,
            reason,
        }
        .into());
    }
    let config = ProjectorConfig::new(json, checkpoint.processor()?)?;
    let vision = &projector.vision;
    let mut pairs = Pairs::default();
    pairs.text("general.architecture", "clip");
    pairs.text("general.type", "mmproj");
    sampling::add(&mut pairs, checkpoint.directory.as_deref())?;
    let weights = projector.parameters();
    let size = ParameterCounts {
        total: weights,
        shared: weights,
        expert: 0,
        experts: 0,
    };
    add_names(&mut pairs, checkpoint, &size, json);
    let mut set = |key: &str, value: Value| pairs.set(key, value);
    set("general.file_type", Value::U32(file_type));
    set("clip.has_vision_encoder", Value::Bool(true));
    for (key, count) in [
        ("projection_dim", vision.text),
        ("image_size", vision.image),
        ("patch_size", vision.patch),
        ("embedding_length", vision.width),
        ("feed_forward_length", vision.inner),
        ("block_count", vision.blocks),
        ("attention.head_count", vision.heads),
    ] {
        set(&format!("clip.vision.{key}"), Value::U32(count as u32));
    }
    for key in ["image_mean", "image_std"] {
        let colours = config.colours(key);
        let colours = colours.ok_or(ConvertError::NoProcessor { key })?;
        set(&format!("clip.vision.{key}"), Value::F32s(colours));
    }
    if let Some(audio) = &projector.audio {
        set("clip.has_audio_encoder", Value::Bool(true));
        for (key, count) in [
            ("projection_dim", audio.text),
            ("embedding_length", audio.width),
            ("feed_forward_length", audio.inner),
            ("block_count", audio.blocks),
            ("attention.head_count", audio.heads),
        ] {
            set(&format!("clip.audio.{key}"), Value::U32(count as u32));
        }
    }
    set(family.name_key, Value::String(family.name.to_owned()));
    for (key, value) in (family.keys)(&config, vision) {
        set(key, value);
    }
    if let (Some(kind), Some(audio)) = (family.audio, &projector.audio) {
        let part = config.audio.unwrap_or(&serde_json::Value::Null);
        let eps = config.number(part, "layer_norm_eps", 1e-6);
        let name = Value::String(kind.name.to_owned());
        set("clip.audio.projector_type", name);
        set(
            "clip.audio.num_mel_bins",
            Value::U32(audio.stated_bins as u32),
        );
        set("clip.audio.attention.layer_norm_epsilon", Value::F32(eps));
    }
    set(
        "general.quantization_version",
        Value::U32(QUANTIZATION_VERSION),
    );
    Ok(pairs.0)
}

/// The change from the stored tensor to that of a GGUF.
pub fn projector_change(of: &ProjectorTensor) -> Change {
    let columns = of.tensor.row().max(1);
    let rows = of.tensor.elements() / columns;
    let part = |period: u64, first: u64, rows: u64| {
        Some(RowSlices {
            period,
            ranges: std::iter::once(first..first + rows).collect(),
        })
    };
    match of.taken {
        Taken::All => Change::default(),
        Taken::PlusOne => Change {
            value: ValueChange::AddOne,
            ..Change::default()
        },
        Taken::Third(third) => Change {
            slices: part(3 * rows, third * rows, rows),
            ..Change::default()
        },
        Taken::Softplus => Change {
            value: ValueChange::Softplus,
            ..Change::default()
        },
        Taken::Planes(pixels) => {
            let planes = Some(Permutation {
                start: 0,
                groups: pixels,
                members: 3,
                unit: 1,
            });
            match of.tensor.shape.as_slice() {
                [_] => Change {
                    rows: planes,
                    ..Change::default()
                },
                _ => Change {
                    columns: planes,
                    ..Change::default()
                },
            }
        }
        Taken::Axes(places) => Change {
            rows: Some(Permutation {
                start: 0,
                groups: places,
                members: 2,
                unit: 1,
            }),
            ..Change::default()
        },
        // Both frames of each plane lie behind each other; a plane has as many rows as columns.
        Taken::Frame(frame) => Change {
            slices: part(2 * columns, frame * columns, columns),
            ..Change::default()
        },
    }
}
