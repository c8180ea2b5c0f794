//! The metadata of an `mmproj`, with the keys and values that llama.cpp's converter writes (`conversion/base.py`,
//! `MmprojModel`), and what conversion does to its tensors. In: a checkpoint and its projector. Out: key-value pairs in
//! the order of the file. Must not: read weights.

use super::change::{Change, Permutation, RowSlices, ValueChange};
use super::{
    ConvertError, Pairs, ParameterCounts, QUANTIZATION_VERSION, add_names, sampling, tokenizer,
};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::Value;
use crate::model::Projector;
use crate::model::projector::{Form, ProjectorConfig, ProjectorTensor, Taken};

/// The metadata of `projector` of `checkpoint` as a GGUF of `file_type`.
///
/// # Errors
/// [`ConvertError`]: a checkpoint that is a GGUF already, or a file beside the weights that is missing or cannot be read.
pub fn projector_metadata(
    checkpoint: &Checkpoint,
    projector: &Projector,
    file_type: u32,
) -> Result<Vec<(String, Value)>, ConvertError> {
    let RawConfig::HuggingFace(json) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let family = projector.family;
    let config = ProjectorConfig::new(json, checkpoint.processor()?)?;
    if let Form::Script {
        holds,
        is_named,
        description,
        gelu,
        colours,
    } = family.form
    {
        return script_metadata(Script {
            holds,
            name: is_named.then(|| name(checkpoint, json)).flatten(),
            description,
            is_gelu: gelu(&config),
            colours,
            config: &config,
            projector,
            file_type,
        });
    }
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
    add_colours(&mut pairs, &config)?;
    let mut set = |key: &str, value: Value| pairs.set(key, value);
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
    let heard = family.audio.zip(projector.audio.as_ref());
    let of_sounds = heard.map(|(kind, audio)| {
        let part = config.audio.unwrap_or(&serde_json::Value::Null);
        let eps = config.number(part, "layer_norm_eps", kind.eps);
        [
            ("num_mel_bins", Value::U32(audio.stated_bins as u32)),
            ("attention.layer_norm_epsilon", Value::F32(eps)),
        ]
    });
    let is_named = heard.is_some_and(|(kind, _)| kind.is_named);
    for (key, value) in of_sounds.clone().into_iter().flatten() {
        if !is_named {
            set(&format!("clip.audio.{key}"), value);
        }
    }
    set(family.name_key, Value::String(family.name.to_owned()));
    for (key, value) in (family.keys)(&config, vision) {
        set(key, value);
    }
    if let Some((kind, _)) = heard.filter(|_| is_named) {
        let name = Value::String(kind.name.to_owned());
        set("clip.audio.projector_type", name);
        for (key, value) in of_sounds.into_iter().flatten() {
            set(&format!("clip.audio.{key}"), value);
        }
    }
    set(
        "general.quantization_version",
        Value::U32(QUANTIZATION_VERSION),
    );
    Ok(pairs.0)
}

/// What the metadata of a script's file is made of.
struct Script<'a> {
    holds: &'static str,
    name: Option<Value>,
    description: &'static str,
    is_gelu: bool,
    colours: Option<f32>,
    config: &'a ProjectorConfig<'a>,
    projector: &'a Projector,
    file_type: u32,
}

/// The metadata as the scripts of `tools/mtmd/legacy-models` write it.
fn script_metadata(script: Script<'_>) -> Result<Vec<(String, Value)>, ConvertError> {
    let family = script.projector.family;
    let mut pairs = Pairs::default();
    pairs.text("general.architecture", "clip");
    let mut set = |key: &str, value: Value| pairs.set(key, value);
    set("clip.has_text_encoder", Value::Bool(false));
    set("clip.has_vision_encoder", Value::Bool(true));
    set(script.holds, Value::Bool(true));
    set("general.file_type", Value::U32(script.file_type));
    if let Some(name) = script.name {
        set("general.name", name);
    }
    set(
        "general.description",
        Value::String(script.description.to_owned()),
    );
    set(family.name_key, Value::String(family.name.to_owned()));
    for (key, value) in (family.keys)(script.config, &script.projector.vision) {
        set(key, value);
    }
    match script.colours {
        Some(all) => {
            for key in ["image_mean", "image_std"] {
                let colours = Value::F32s(vec![all; 3]);
                pairs.set(&format!("clip.vision.{key}"), colours);
            }
        }
        None => add_colours(&mut pairs, script.config)?,
    }
    pairs.set("clip.use_gelu", Value::Bool(script.is_gelu));
    Ok(pairs.0)
}

/// What is taken from the colours of a picture, and what the rest is divided by.
fn add_colours(pairs: &mut Pairs, config: &ProjectorConfig<'_>) -> Result<(), ConvertError> {
    for key in ["image_mean", "image_std"] {
        let colours = config.colours(key);
        let colours = colours.ok_or(ConvertError::NoProcessor { key })?;
        pairs.set(&format!("clip.vision.{key}"), Value::F32s(colours));
    }
    Ok(())
}

/// The model's name, as other files have it.
fn name(checkpoint: &Checkpoint, config: &serde_json::Value) -> Option<Value> {
    let mut pairs = Pairs::default();
    let none = ParameterCounts {
        total: 0,
        shared: 0,
        expert: 0,
        experts: 0,
    };
    add_names(&mut pairs, checkpoint, &none, config);
    let mut pairs = pairs.0.into_iter();
    pairs
        .find(|(key, _)| key == "general.name")
        .map(|(_, value)| value)
}

/// The change from the stored tensor of `checkpoint` to that of a GGUF.
///
/// # Errors
/// [`ConvertError`]: a token whose embedding is taken is none of the tokenizer beside the weights.
pub fn projector_change(
    checkpoint: &Checkpoint,
    of: &ProjectorTensor,
) -> Result<Change, ConvertError> {
    let columns = of.tensor.row().max(1);
    let rows = of.tensor.elements() / columns;
    let part = |period: u64, first: u64, rows: u64| {
        Some(RowSlices {
            period,
            ranges: std::iter::once(first..first + rows).collect(),
        })
    };
    Ok(match of.taken {
        Taken::All | Taken::Sines(_) | Taken::Times => Change::default(),
        Taken::Transposed => Change {
            transposed: Some(columns),
            ..Change::default()
        },
        Taken::PlusOne => Change {
            value: ValueChange::Add(1.0),
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
                rest: 0,
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
                rest: 0,
            }),
            ..Change::default()
        },
        // Both frames of each plane lie behind each other; a plane has as many rows as columns.
        Taken::Frame(frame) => Change {
            slices: part(2 * columns, frame * columns, columns),
            ..Change::default()
        },
        // A head with an odd number of elements has no halves: without members no permutation divides its rows.
        Taken::Pairs(head) => Change {
            rows: Some(Permutation {
                start: 0,
                groups: 2,
                members: if head.is_multiple_of(2) { head / 2 } else { 0 },
                unit: 1,
                rest: 0,
            }),
            ..Change::default()
        },
        Taken::Token { token, of } => {
            let ids = tokenizer::ids(checkpoint.directory.as_deref(), &[token])?;
            Change {
                slices: Some(RowSlices {
                    period: of,
                    ranges: ids.into_iter().map(|id| id..id + 1).collect(),
                }),
                ..Change::default()
            }
        }
    })
}

/// The table that is computed instead of taken from the checkpoint, if `of` is one.
pub fn projector_table(of: &ProjectorTensor) -> Option<Vec<f32>> {
    match of.taken {
        Taken::Sines(side) => Some(table_of_places(of, side)),
        Taken::Times => Some(table_of_times(of)),
        _ => None,
    }
}

/// For each time, its sines and then its cosines, in falling frequencies from 1 to 1/10000, as the converter computes them in
/// single precision.
fn table_of_times(of: &ProjectorTensor) -> Vec<f32> {
    let half = of.tensor.row() / 2;
    let step = 10_000f64.ln() / half.saturating_sub(1).max(1) as f64;
    let frequency = |n: u64| f64::from(-step as f32 * n as f32).exp() as f32;
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let times = 0..of.tensor.shape.first().copied().unwrap_or(0);
    let row = |time: u64| {
        let angles = frequencies.iter();
        let angles = angles.map(move |&frequency| f64::from(time as f32 * frequency));
        let sines = angles.clone().map(|angle| angle.sin() as f32);
        sines.chain(angles.map(|angle| angle.cos() as f32))
    };
    times.flat_map(row).collect()
}

/// For each place of a square, the sines and cosines of its column and then of its row, in falling frequencies, as the script
/// computes them in single precision.
fn table_of_places(of: &ProjectorTensor, side: u64) -> Vec<f32> {
    let quarter = of.tensor.row() / 4;
    let frequency = |n: u64| {
        let exponent = n as f32 / quarter as f32;
        1.0 / 10_000f64.powf(f64::from(exponent)) as f32
    };
    let frequencies: Vec<f32> = (0..quarter).map(frequency).collect();
    let axis = |place: u64| {
        let angles = frequencies
            .iter()
            .map(move |&frequency| f64::from(place as f32 * frequency));
        let sines = angles.clone().map(|angle| angle.sin() as f32);
        sines
            .chain(angles.map(|angle| angle.cos() as f32))
            .collect::<Vec<f32>>()
    };
    let axes: Vec<Vec<f32>> = (0..side).map(axis).collect();
    let places = axes
        .iter()
        .flat_map(|row| axes.iter().map(move |column| (row, column)));
    places
        .flat_map(|(row, column)| column.iter().chain(row).copied())
        .collect()
}
