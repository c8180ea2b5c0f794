//! Whether llama.cpp loads a GGUF, as far as its header shows: one check for files that are planned, run or written.
//!
//! In: metadata, and the model that it describes (whose tensors have been checked against the rows of its
//! architecture). Out: the first thing that llama.cpp's loader refuses, or that aborts the program at the first token.
//! Must not: read weights; of a file only the list of tokens is read. The rules were measured: `cargo xtask interop`
//! removes and changes each key of each family in turn and loads the file (its part `accept`).

mod error;
mod file;
mod header;
mod runs;
mod types;
mod vocabulary;

use std::path::Path;

use super::loader::{
    EPSILON, LAYER_EPSILON, Loader, LoaderRule, READ_BY_ALL, ROPE_SCALINGS, ROTATED, SECTIONS,
    ValueForm, WINDOW_ROTATED,
};
use super::lookup::loader;
use super::{Attention, Cache, Layer, ModelSpec, TensorRole};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::gguf::Value;
pub use error::AcceptError;
use header::{MOST_BLOCKS, TypedHeader, missing, wrong};
pub use runs::runs;

/// Checks that llama.cpp loads a file with this `metadata` and the tensors of `model`. Long arrays of `metadata` may
/// still be located in `file`; without it their elements are not checked.
///
/// # Errors
/// The first [`AcceptError`]: no tensors, a key that is missing, of the wrong type, length or value, a vocabulary that
/// contradicts the embedding, a tensor of a type that ggml does not compute with, or a `file` that cannot be read.
pub fn check(
    metadata: &[(String, Value)],
    file: Option<&Path>,
    model: &ModelSpec,
) -> Result<(), AcceptError> {
    if model.tensors.is_empty() {
        return Err(AcceptError::NoTensors);
    }
    let header = TypedHeader { metadata, file };
    keys(&header, model)?;
    let embedding = TensorRole::TokenEmbedding;
    let embedding = model.tensors.iter().find(|t| t.role == embedding);
    let rows = embedding.and_then(|t| t.shape.first().copied());
    vocabulary::check(&header, &model.architecture, rows)?;
    types::check(&model.tensors)
}

/// [`check`] of a checkpoint; one that is not a GGUF is accepted.
///
/// # Errors
/// As [`check`], [`AcceptError::Tower`] for a tower in the same file as the text model, [`AcceptError::Place`] for a tensor
/// that does not follow the one before it, and [`AcceptError::Projector`] for the projector of a model of another width.
pub fn checkpoint(checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), AcceptError> {
    let RawConfig::Gguf(metadata) = &checkpoint.config else {
        return Ok(());
    };
    file::check(checkpoint, metadata, model)?;
    let file = checkpoint.files.first().map(|file| file.path.as_path());
    check(&metadata.0, file, model)
}

const SPLIT: &str = "split.count";

fn keys(header: &TypedHeader<'_>, model: &ModelSpec) -> Result<(), AcceptError> {
    use ValueForm::{Count, Text};
    header.check_form("general.name", Text, 0)?;
    header.check_form("general.file_type", Count, 0)?;
    match header.get(SPLIT) {
        None | Some(Value::U16(_)) => {}
        Some(other) => return Err(wrong(SPLIT, other, "u16")),
    }
    let name = model.architecture.as_str();
    let own = |key: &str| format!("{name}.{key}");
    let blocks = header.count(&own("block_count"))?.unwrap_or(0);
    let ahead = header.count(&own("nextn_predict_layers")).ok().flatten();
    let ahead = ahead.unwrap_or(0);
    // For an architecture without an entry only the keys that every loader reads are checked.
    let loader = loader(name);
    let own_keys = loader.into_iter().flat_map(|loader| loader.keys);
    for keys in READ_BY_ALL.iter().chain(own_keys.copied().flatten()) {
        for key in keys.names {
            let (key, blocks) = match keys.form {
                ValueForm::BareFloats => ((*key).to_owned(), blocks.saturating_sub(ahead)),
                _ => (own(key), blocks),
            };
            header.check_form(&key, keys.form, blocks)?;
            if keys.needed && header.get(&key).is_none() {
                return Err(missing(key));
            }
        }
    }
    if blocks > MOST_BLOCKS {
        return Err(number(own("block_count"), blocks, "at most 512"));
    }
    let further = own("nextn_predict_layers");
    match header.count(&further)? {
        Some(found) if found > blocks => {
            return Err(number(further, found, "no more than all blocks"));
        }
        Some(1..) if loader.is_some_and(|loader| loader.has(LoaderRule::RoutedPrediction)) => {
            let told = ["expert_feed_forward_length", "expert_used_count"];
            if told.iter().all(|key| header.largest(&own(key)) == 0) {
                return Err(missing(own("expert_feed_forward_length")));
            }
        }
        _ => {}
    }
    let width = own("expert_feed_forward_length");
    if loader.is_some_and(|loader| loader.has(LoaderRule::RoutedWidth))
        && header.count(&own("expert_count"))?.unwrap_or(0) > 0
        && header.largest(&width) == 0
    {
        return Err(missing(width));
    }
    // What reads both (Nemotron-H) computes RMS norms, with the epsilon that is stated.
    let is_read = |key: &&&str| {
        loader.is_some_and(|loader| loader.reads(key)) && header.get(&own(key)).is_some()
    };
    let epsilons: &[&str] = match loader {
        Some(loader) if loader.has(LoaderRule::LayerNorms) => &[LAYER_EPSILON],
        _ => &[EPSILON, LAYER_EPSILON],
    };
    if let Some(key) = epsilons.iter().find(is_read) {
        epsilon(header, &own(key))?;
    }
    experts(header, name, loader)?;
    if let Some(loader) = loader {
        heads(header, model, loader)?;
    }
    let scaling = own("rope.scaling.type");
    match header.get(&scaling) {
        Some(Value::String(found)) if !ROPE_SCALINGS.contains(&found.as_str()) => {
            let nearest = crate::nearest::hint(found, ROPE_SCALINGS.iter().copied());
            Err(AcceptError::Word {
                key: scaling,
                found: found.clone(),
                nearest,
            })
        }
        _ => Ok(()),
    }
}

/// ggml's norms abort the program if epsilon is negative or not a number.
fn epsilon(header: &TypedHeader<'_>, key: &str) -> Result<(), AcceptError> {
    match header.get(key) {
        None => Ok(()),
        Some(Value::F32(value)) if value.is_finite() && *value >= 0.0 => Ok(()),
        Some(other) => Err(wrong(key, other, "a finite f32 that is not negative")),
    }
}

fn experts(
    header: &TypedHeader<'_>,
    name: &str,
    loader: Option<&Loader>,
) -> Result<(), AcceptError> {
    let own = |key: &str| format!("{name}.{key}");
    let count = header.count(&own("expert_count"))?.unwrap_or(0);
    let used = own("expert_used_count");
    let largest = header.largest(&used);
    let has = |rule| loader.is_some_and(|loader: &Loader| loader.has(rule));
    if count <= 1 && has(LoaderRule::OneExpertIsNone) {
        return groups(header, name, 0);
    }
    match (count, largest) {
        (0, 0) if has(LoaderRule::Routed) => Err(missing(own("expert_count"))),
        (1.., 0) => Err(missing(used)),
        (experts, found) if found > experts => Err(AcceptError::Experts { found, experts }),
        _ => groups(header, name, count),
    }
}

/// Experts that are selected in groups.
fn groups(header: &TypedHeader<'_>, name: &str, experts: u64) -> Result<(), AcceptError> {
    let own = |key: &str| format!("{name}.{key}");
    let key = own("expert_group_count");
    let groups = header.count(&key)?.unwrap_or(0);
    if groups > 0 && groups >= experts || groups > 1 && !experts.is_multiple_of(groups) {
        let expected = format!("a divisor of {experts}, the number of experts, and less than it");
        return Err(number(key, groups, expected));
    }
    let key = own("expert_group_used_count");
    let used = header.count(&key)?.unwrap_or(0);
    if groups > 1 && !(1..groups).contains(&used) {
        return Err(number(
            key,
            used,
            format!("1 or more, and less than {groups}, the number of groups"),
        ));
    }
    Ok(())
}

/// The widths of heads, and how many of their elements are rotated.
fn heads(header: &TypedHeader<'_>, model: &ModelSpec, loader: &Loader) -> Result<(), AcceptError> {
    let name = model.architecture.as_str();
    let own = |key: &str| format!("{name}.{key}");
    let types = "tokenizer.ggml.token_type_count";
    if loader.has(LoaderRule::TokenTypes) && header.count(types)?.unwrap_or(0) == 0 {
        return Err(missing(types));
    }
    let rows = model
        .tensors
        .iter()
        .find(|t| t.role == TensorRole::TokenTypes);
    let rows = rows.and_then(|tensor| tensor.shape.first().copied());
    if let (Some(rows), Some(count)) = (rows, header.count(types)?)
        && rows != count
        && loader.has(LoaderRule::TokenTypes)
    {
        return Err(number(
            types.to_owned(),
            count,
            format!("{rows}, the rows of `token_types`"),
        ));
    }
    for key in ["attention.key_length", "attention.value_length"] {
        let latents = loader.has(LoaderRule::Latents) || loader.reads("attention.value_length_mla");
        let read = key.ends_with("key_length") || !latents;
        let attends = model.layers.iter().any(|l| l.mixer.attention.is_some());
        if header.count(&own(key))? == Some(0) && read && attends {
            return Err(number(own(key), 0, "the width of a head"));
        }
    }
    let attention = || {
        model
            .layers
            .iter()
            .filter_map(|l| l.mixer.attention.as_ref())
    };
    if loader.has(LoaderRule::WindowedBlock)
        && header.largest(&own("attention.sliding_window")) > 0
        && attention().all(|a| a.window.is_none())
    {
        let key = own("attention.sliding_window_pattern");
        return Err(number(key, 0, "a window for one block at least"));
    }
    if loader.has(LoaderRule::WholeBlock) && attention().all(|a| a.window.is_some()) {
        let (key, found) = (own("block_count"), model.dims.blocks);
        return Err(number(key, found, "a block without a window among them"));
    }
    let may = loader.has(LoaderRule::Latents) || loader.has(LoaderRule::UnevenHeads);
    let uneven = |a: &Attention| a.key_dim != a.value_dim && !may;
    if let Some(a) = attention().find(|a| uneven(a)) {
        let key = own("attention.value_length");
        return Err(number(
            key,
            a.value_dim,
            format!("{}, the width of keys", a.key_dim),
        ));
    }
    let without = loader.has(LoaderRule::NoRope)
        || loader.has(LoaderRule::WholeHeadsUnsaid)
        || loader.has(LoaderRule::RopeUnlessStated)
            && header.get(&own("rope.scaling.finetuned")) == Some(&Value::Bool(false));
    let turns = attention().any(|a| a.cache != Cache::Shared) && !without;
    if let Some(head) = attention().map(|a| a.key_dim).max().filter(|_| turns) {
        // Without heads in the first block none of a head turns, and ggml's loop over the pairs never ends.
        let heads = own("attention.head_count");
        if header.first(&heads) == Some(0) {
            return Err(number(heads, 0, "the heads of the first block"));
        }
        for key in [ROTATED, WINDOW_ROTATED] {
            let key = own(key);
            match header.count(&key)? {
                Some(found) if loader.has(LoaderRule::WholeHeads) && found != head => {
                    return Err(number(key, found, format!("{head}, all of a head")));
                }
                // With 0, ggml's loop over the pairs never ends.
                Some(found) if found == 0 || found > head || !found.is_multiple_of(2) => {
                    let expected = format!("an even number up to {head}, the width of a head");
                    return Err(number(key, found, expected));
                }
                _ => {}
            }
        }
        // Heads of windowed blocks may be narrower, and turn as much as the others where nothing else is stated.
        let windowed = attention().filter(|a| a.window.is_some());
        let key = own(WINDOW_ROTATED);
        let turned = match header.count(&key)? {
            None => header.count(&own(ROTATED))?.unwrap_or(head),
            Some(stated) => stated,
        };
        if let Some(narrow) = windowed.map(|a| a.key_dim).min().filter(|&w| turned > w) {
            let expected = format!("an even number up to {narrow}, the width of a head");
            return Err(number(key, turned, expected));
        }
    }
    if let Some(a) = attention().find(|a| a.kv_heads > 0 && !a.heads.is_multiple_of(a.kv_heads)) {
        let key = own("attention.head_count_kv");
        return Err(number(
            key,
            a.kv_heads,
            format!("a part of {} heads", a.heads),
        ));
    }
    let sections = own(SECTIONS);
    if loader.has(LoaderRule::RopeSections) && header.largest(&sections) == 0 {
        return Err(number(sections, 0, "the rotary pairs of each dimension"));
    }
    latents(header, model, loader)
}

/// Values that must agree with each other in architectures with latent attention, delta nets or wide mixers.
fn latents(
    header: &TypedHeader<'_>,
    model: &ModelSpec,
    loader: &Loader,
) -> Result<(), AcceptError> {
    let name = model.architecture.as_str();
    let own = |key: &str| format!("{name}.{key}");
    if loader.has(LoaderRule::Latents) {
        // The small models project queries without a latent; llama.cpp recognises them by these numbers.
        let (blocks, vocab) = (model.dims.blocks, model.dims.vocab);
        let small = matches!(blocks, 26 | 27) || blocks == 48 && vocab == 128_256;
        let key = own("attention.q_lora_rank");
        if header.count(&key)?.is_none() && !small {
            return Err(missing(key));
        }
        let count = |key: &str| Ok::<u64, AcceptError>(header.count(&own(key))?.unwrap_or(0));
        let absorbed =
            count("attention.key_length_mla")? > 0 && count("attention.value_length_mla")? > 0;
        let wide = count("attention.kv_lora_rank")?.saturating_add(count(ROTATED)?);
        let (heads, width) = (own("attention.head_count_kv"), own("attention.key_length"));
        match (header.largest(&heads), header.largest(&width)) {
            // The rows are those of latents that are cached.
            _ if !absorbed => Err(missing(own("attention.key_length_mla"))),
            (found, _) if absorbed && found != 1 => {
                Err(number(heads, found, "1, which all heads of queries share"))
            }
            (_, found) if absorbed && found != wide => Err(number(
                width,
                found,
                format!("{wide}, a latent and its rotary part"),
            )),
            _ => Ok(()),
        }
    } else if loader.has(LoaderRule::DeltaNets) {
        // Without an attention block llama.cpp makes no KV cache, which its forward pass needs.
        let attends = |layer: &Layer| layer.mixer.attention.is_some();
        if !model.layers.iter().any(attends) {
            let (key, found) = (own("block_count"), model.dims.blocks);
            return Err(number(key, found, "a block that attends among them"));
        }
        if header.get(&own("attention.recurrent_layers")).is_none() {
            header.count(&own("full_attention_interval"))?;
        }
        let key = own("ssm.time_step_rank");
        let groups = header.count(&own("ssm.group_count"))?.unwrap_or(1);
        match header.count(&key)? {
            Some(found) if !found.is_multiple_of(groups.max(1)) => Err(number(
                key,
                found,
                format!("a multiple of {groups}, the heads of keys"),
            )),
            _ => Ok(()),
        }
    } else if loader.has(LoaderRule::MixerTwiceAsWide) {
        let key = own("ssm.inner_size");
        let wide = model.dims.hidden.saturating_mul(2);
        match header.count(&key)? {
            Some(found) if found != wide => Err(number(
                key,
                found,
                format!("{wide}, twice the residual width"),
            )),
            _ => Ok(()),
        }
    } else {
        Ok(())
    }
}

fn number(key: String, found: u64, expected: impl Into<String>) -> AcceptError {
    AcceptError::Number {
        key,
        found,
        expected: expected.into(),
    }
}
