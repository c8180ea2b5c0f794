//! A model from a `config.json` and Hugging Face tensor names.
//!
//! With weights, each stored tensor finds its row in the architecture's table by its name with the
//! numbers left out; without, the tensors follow from the rows alone.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::arch::{Arch, Extra, Place, Row, StatedNames};
use super::facts::{Facts, text_config};
use super::packed::{self, Logical};
use super::role::{Keep, TensorRole};
use super::spec::{Cache, Dims, Layer, ModelSpec, Tensor, Tower};
use super::{ModelError, Unknown, extra, nearest_architecture, shape};
use crate::checkpoint::Checkpoint;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// Prefixes that models put before the names in the tables, longest first.
const PREFIXES: &[&str] = &[
    "model.language_model.model.",
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.text_model.",
    "backbone.",
    "model.",
    "transformer.",
];

/// Parts of names that belong to a tower or projector beside the text model.
const TOWERS: &[(&str, &str)] = &[
    ("vision_tower.", "vision tower"),
    ("vision_model.", "vision tower"),
    ("visual.", "vision tower"),
    ("vision_encoder.", "vision tower"),
    ("audio_tower.", "audio tower"),
    ("audio_encoder.", "audio tower"),
    ("embed_vision.", "vision projector"),
    ("embed_audio.", "audio projector"),
    ("multi_modal_projector.", "projector"),
    ("mm_projector.", "projector"),
    ("connector.", "projector"),
    ("mlp1.", "projector"),
    ("mtp.", NEXT_TOKENS),
];

/// The name of what predicts tokens beyond the next one.
const NEXT_TOKENS: &str = "multi-token prediction head";

/// Ends of names that hold nothing a runtime needs.
const DROPPED: &[&str] = &[
    ".rotary_emb.inv_freq",
    ".masked_bias",
    ".attention.bias",
    ".attn.bias",
    ".k_scale",
    ".v_scale",
    ".q_scale",
];

pub(super) fn read(
    checkpoint: &Checkpoint,
    config: &Json,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let names = stated_names(config);
    let arch = match (Arch::of_hugging_face(&names), unknown) {
        (Some(arch), _) => arch,
        (None, Unknown::Assume(name)) => Arch::of_gguf(name).ok_or(ModelError::NoArchitecture)?,
        (None, Unknown::WeightsOnly) => {
            return weights_only(checkpoint, config, &names);
        }
        (None, Unknown::Refuse) => {
            let name = names.first().ok_or(ModelError::NoArchitecture)?;
            return Err(ModelError::UnknownArchitecture {
                name: name.to_owned(),
                nearest: nearest_architecture(name),
            });
        }
    };
    let facts = Facts::new(&checkpoint.config, arch.name, arch.defaults);
    let (mut dims, layers) = shape(arch, &facts)?;
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let sorted = Sorted::new(logical, layers.len());
    let tied = facts
        .flag("tie_word_embeddings")
        .unwrap_or(arch.tied_by_default);
    let tied = match (sorted.has("lm_head.weight"), checkpoint.tensors.is_empty()) {
        (_, true) => tied,
        // A tied model may store its shared matrix under either name.
        (true, false) => tied || !sorted.has("embed_tokens.weight"),
        (false, false) => true,
    };
    let attention = || layers.iter().filter_map(|l| l.mixer.attention.as_ref());
    let full = attention().find(|a| a.window.is_none());
    let head_dim = full.or(attention().next()).map_or(0, |a| a.key_dim);
    let extra = extra(&facts, tied, head_dim)?;
    if let Some(rows) = sorted.embedding_rows() {
        dims.vocab = rows;
    }
    let towers = sorted.towers.clone();
    let (tensors, parameters) = match checkpoint.tensors.is_empty() {
        true => from_rows(arch, &dims, &extra, &layers),
        false => {
            let stored = sorted.parameters();
            let (tensors, padding) = from_stored(arch, &dims, &extra, &layers, sorted)?;
            (tensors, stored.saturating_sub(padding))
        }
    };
    Ok(ModelSpec {
        name: checkpoint.name.clone(),
        architecture: arch.name.to_owned(),
        parameters,
        dims,
        layers,
        tensors,
        towers,
        tied,
        source: checkpoint.format,
        prequantized,
    })
}

fn stated_names(config: &Json) -> StatedNames<'_> {
    let classes = config.get("architectures").and_then(Json::as_array);
    let classes = classes.into_iter().flatten().filter_map(Json::as_str);
    let text = text_config(config);
    StatedNames {
        classes: classes.collect(),
        text_type: match std::ptr::eq(text, config) {
            true => None,
            false => text.get("model_type").and_then(Json::as_str),
        },
        model_type: config.get("model_type").and_then(Json::as_str),
    }
}

/// Every stored tensor under its own name, for an architecture without a table entry.
fn weights_only(
    checkpoint: &Checkpoint,
    config: &Json,
    names: &StatedNames<'_>,
) -> Result<ModelSpec, ModelError> {
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let name = names.text_type.or(names.model_type).or(names.first());
    let name = name.ok_or(ModelError::NoArchitecture)?;
    let sorted = Sorted::new(logical, usize::MAX);
    Ok(ModelSpec {
        name: checkpoint.name.clone(),
        architecture: name.to_owned(),
        parameters: sorted.parameters(),
        dims: Dims {
            streams: 1,
            ..Dims::default()
        },
        layers: Vec::new(),
        towers: sorted.towers,
        tensors: sorted
            .text
            .into_iter()
            .map(|entry| other(entry.logical))
            .collect(),
        tied: false,
        source: checkpoint.format,
        prequantized,
    })
}

/// Logical tensors of the text model by name pattern, and the towers beside it.
struct Sorted {
    text: Vec<Entry>,
    towers: Vec<Tower>,
}

/// A logical tensor with its name taken apart.
struct Entry {
    /// The name without prefix, numbers replaced by `{}`.
    pattern: String,
    /// Those numbers.
    numbers: Vec<u32>,
    logical: Logical,
}

impl Sorted {
    /// Sorts the tensors of a model of `blocks` blocks. Blocks behind the last one predict further
    /// tokens (DeepSeek-V3, GLM) and are no part of decoding.
    fn new(logical: Vec<Logical>, blocks: usize) -> Sorted {
        let mut sorted = Sorted {
            text: Vec::new(),
            towers: Vec::new(),
        };
        for tensor in logical {
            if DROPPED.iter().any(|end| tensor.name.ends_with(end)) {
                continue;
            }
            let bare = PREFIXES
                .iter()
                .find_map(|p| tensor.name.strip_prefix(p))
                .unwrap_or(&tensor.name);
            let (pattern, numbers) = split_numbers(bare);
            let is_block = pattern.starts_with("layers.{}.");
            let tower = match TOWERS.iter().find(|(prefix, _)| bare.starts_with(prefix)) {
                Some((_, tower)) => Some(*tower),
                None if is_block && numbers.first().is_some_and(|&n| n as usize >= blocks) => {
                    Some(NEXT_TOKENS)
                }
                None => None,
            };
            match tower {
                Some(tower) => {
                    let elements = tensor.shape.iter().product();
                    add_to_tower(&mut sorted.towers, tower, elements, tensor.bytes);
                }
                None => sorted.text.push(Entry {
                    pattern,
                    numbers,
                    logical: tensor,
                }),
            }
        }
        sorted
    }

    fn has(&self, pattern: &str) -> bool {
        self.text.iter().any(|e| e.pattern == pattern)
    }

    /// Logical weights of the text model.
    fn parameters(&self) -> u64 {
        let elements = |e: &Entry| {
            e.logical
                .shape
                .iter()
                .fold(1u64, |n, &d| n.saturating_mul(d))
        };
        self.text.iter().map(elements).fold(0, u64::saturating_add)
    }

    /// Rows of the embedding as stored, which `vocab_size` may not equal.
    fn embedding_rows(&self) -> Option<u64> {
        let find = |pattern: &str| self.text.iter().find(|e| e.pattern == pattern);
        find("embed_tokens.weight")
            .or_else(|| find("lm_head.weight"))?
            .logical
            .shape
            .first()
            .copied()
    }
}

/// Adds one tensor's weights and bytes to the tower called `name`.
pub(super) fn add_to_tower(towers: &mut Vec<Tower>, name: &str, parameters: u64, bytes: Bytes) {
    match towers.iter_mut().find(|t| t.name == name) {
        Some(tower) => {
            tower.parameters = tower.parameters.saturating_add(parameters);
            tower.bytes += bytes;
        }
        None => towers.push(Tower {
            name: name.to_owned(),
            parameters,
            bytes,
        }),
    }
}

/// `layers.3.mlp.experts.7.up_proj.weight` -> (`layers.{}.mlp.experts.{}.up_proj.weight`, [3, 7]).
fn split_numbers(name: &str) -> (String, Vec<u32>) {
    let mut numbers = Vec::new();
    let parts: Vec<&str> = name
        .split('.')
        .map(|part| match part.parse::<u32>() {
            Ok(number) if part.bytes().all(|b| b.is_ascii_digit()) => {
                numbers.push(number);
                "{}"
            }
            _ => part,
        })
        .collect();
    (parts.join("."), numbers)
}

/// The tensors that the rows describe, for a checkpoint without weights, and the logical weights
/// among them.
fn from_rows(arch: &Arch, dims: &Dims, extra: &Extra, layers: &[Layer]) -> (Vec<Tensor>, u64) {
    let mut tensors = Vec::new();
    let mut parameters = 0u64;
    for row in arch.rows() {
        for (layer, place) in places(row, dims, extra, layers) {
            if (row.when)(&place) {
                let shape = (row.shape)(&place);
                let elements = shape.iter().fold(1u64, |n, &d| n.saturating_mul(d));
                parameters = parameters.saturating_add(match row.role {
                    role if role.is_rope_table() => 0,
                    // Conversion pads this table to the size of the vocabulary.
                    TensorRole::PerLayerEmbedding if extra.per_layer_vocab > 0 => {
                        elements / dims.vocab.max(1) * extra.per_layer_vocab
                    }
                    _ => elements,
                });
                let dtype = Dtype::BF16;
                let stored_bytes = dtype.bytes(&shape).unwrap_or(Bytes(0));
                tensors.push(made(row, layer, shape, dtype, stored_bytes, Vec::new()));
            }
        }
    }
    (tensors, parameters)
}

/// Where a row stands: once outside the blocks, or once in each.
fn places<'a>(
    row: &Row,
    dims: &'a Dims,
    extra: &'a Extra,
    layers: &'a [Layer],
) -> impl Iterator<Item = (Option<u32>, Place<'a>)> + use<'a> {
    let in_block = row.role.info().block;
    let count = if in_block { layers.len() } else { 1 };
    layers
        .iter()
        .enumerate()
        .take(count)
        .map(move |(index, layer)| {
            (
                in_block.then_some(index as u32),
                Place { dims, extra, layer },
            )
        })
}

fn made(
    row: &Row,
    layer: Option<u32>,
    shape: Vec<u64>,
    dtype: Dtype,
    stored_bytes: Bytes,
    sources: Vec<u32>,
) -> Tensor {
    // Vectors, norms and routers are F32 in every GGUF.
    let full = shape.len() < 2 || row.role.info().keep == Keep::Full || row.part != "weight";
    Tensor {
        name: row.role.gguf_name(layer, row.part),
        role: row.role,
        layer,
        shape,
        dtype: if full { Dtype::F32 } else { dtype },
        stored_bytes,
        sources,
    }
}

/// A tensor that no row names, under its own name.
fn other(logical: Logical) -> Tensor {
    Tensor {
        name: logical.name,
        role: TensorRole::Other,
        layer: None,
        shape: logical.shape,
        dtype: logical.dtype,
        stored_bytes: logical.bytes,
        sources: logical.sources,
    }
}

/// The tensors of a checkpoint, each found by its row, checked against the row's shape; and how
/// many of the stored weights are only padding of packed words.
fn from_stored(
    arch: &Arch,
    dims: &Dims,
    extra: &Extra,
    layers: &[Layer],
    sorted: Sorted,
) -> Result<(Vec<Tensor>, u64), ModelError> {
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    let all: Vec<&Row> = arch.rows().collect();
    for (index, row) in all.iter().enumerate() {
        for name in row.names {
            rows.entry(name).or_default().push(index);
        }
    }
    // Experts come one by one and are gathered under their row and block.
    let mut parts: BTreeMap<(usize, Option<u32>), Vec<Part>> = BTreeMap::new();
    let mut strangers = Vec::new();
    for (position, entry) in sorted.text.iter().enumerate() {
        let shared_head = extra.tied && entry.pattern == "lm_head.weight";
        let pattern = match shared_head {
            true if sorted.has("embed_tokens.weight") => continue,
            true => "embed_tokens.weight",
            false => entry.pattern.as_str(),
        };
        let block = |row: usize| match all[row].role.info().block {
            true => entry.numbers.first().copied(),
            false => None,
        };
        let place = |row: usize| {
            let layer = layers.get(block(row).unwrap_or(0) as usize)?;
            Some(Place { dims, extra, layer })
        };
        let found = rows.get(pattern).map_or(&[][..], Vec::as_slice);
        let found: Vec<(usize, Place<'_>)> = found
            .iter()
            .filter_map(|&row| Some((row, place(row)?)))
            .collect();
        // Where one name can stand for several rows, those that the configuration calls for count.
        let called_for = |(row, place): &(usize, Place<'_>)| (all[*row].when)(place);
        let any = found.iter().any(called_for);
        let found = found.into_iter().filter(|f| !any || called_for(f));
        let mut shared = 0u64;
        let mut taken = Vec::new();
        for (row, place) in found {
            let wanted = product(&(all[row].shape)(&place));
            let number = usize::from(block(row).is_some());
            taken.push((row, entry.numbers.get(number).copied().unwrap_or(0), shared));
            shared = shared.saturating_add(wanted);
        }
        if taken.is_empty() {
            strangers.push(position);
        }
        for (row, number, before) in taken {
            parts.entry((row, block(row))).or_default().push(Part {
                number,
                position,
                before,
                shared,
            });
        }
    }
    let mut tensors = Vec::new();
    let mut padding = 0u64;
    for (row_index, row) in all.iter().enumerate() {
        for (layer, place) in places(row, dims, extra, layers) {
            let expected = (row.shape)(&place);
            match parts.get_mut(&(row_index, layer)) {
                Some(found) => {
                    found.sort_unstable();
                    let (tensor, padded) = gather(row, layer, expected, found, &sorted.text)?;
                    tensors.push(tensor);
                    padding = padding.saturating_add(padded);
                }
                None if row.names.is_empty() && (row.when)(&place) => {
                    let bytes = Dtype::F32.bytes(&expected).unwrap_or(Bytes(0));
                    tensors.push(made(row, layer, expected, Dtype::F32, bytes, Vec::new()));
                }
                None if row.part == "weight" && (row.when)(&place) && !is_spare(row, &place) => {
                    let number = layer.map_or_else(String::new, |l| l.to_string());
                    let name = row.names.first().copied().unwrap_or_default();
                    return Err(ModelError::MissingTensor {
                        tensor: name.replacen("{}", &number, 1),
                    });
                }
                None => {}
            }
        }
    }
    let mut keep: Vec<Option<Entry>> = sorted.text.into_iter().map(Some).collect();
    tensors.extend(
        strangers
            .into_iter()
            .filter_map(|i| keep[i].take())
            .map(|entry| other(entry.logical)),
    );
    Ok((tensors, padding))
}

/// Whether a block can do without the tensor because it reuses the keys and values of another.
/// Published checkpoints hold them all the same; Transformers does not save them.
fn is_spare(row: &Row, place: &Place<'_>) -> bool {
    let attention = place.layer.mixer.attention.as_ref();
    let kept = matches!(
        row.role,
        TensorRole::AttnK | TensorRole::AttnV | TensorRole::AttnKNorm
    );
    kept && attention.is_some_and(|a| a.cache == Cache::Shared)
}

/// A stored tensor as a part of a row's tensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    /// The expert's number.
    number: u32,
    /// Which of the stored tensors.
    position: usize,
    /// Weights of the rows before this one that are made from the same stored tensor.
    before: u64,
    /// Weights of all the rows that are made from it (a gate and an up projection, say).
    shared: u64,
}

fn product(shape: &[u64]) -> u64 {
    shape.iter().fold(1u64, |n, &d| n.saturating_mul(d))
}

/// One GGUF tensor from the stored tensors of its row: one, or one per expert; and how many of the
/// stored weights are padding (counted with the first of the rows that share them).
fn gather(
    row: &Row,
    layer: Option<u32>,
    expected: Vec<u64>,
    found: &[Part],
    text: &[Entry],
) -> Result<(Tensor, u64), ModelError> {
    let logical = || found.iter().map(|part| &text[part.position].logical);
    let (first, Part { before, shared, .. }) = (&text[found[0].position].logical, found[0]);
    let wanted = product(&expected);
    if wanted == u64::MAX || shared == u64::MAX {
        return Err(ModelError::TooLarge {
            tensor: first.name.clone(),
            shape: expected,
        });
    }
    let sum = |of: fn(&Logical) -> u64| logical().map(of).fold(0, u64::saturating_add);
    let stored = sum(|l| product(&l.shape));
    let padding = stored.saturating_sub(shared);
    let fits = stored >= shared && padding <= sum(|l| l.slack);
    let embedding = matches!(
        row.role,
        TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
    );
    let resized = embedding && first.shape.last() == expected.last();
    if !(fits || resized) {
        return Err(ModelError::ShapeMismatch {
            tensor: first.name.clone(),
            found: first.shape.clone(),
            expected,
        });
    }
    // Rows that share a stored tensor share its bytes by weight, to the last one.
    let all_bytes: Bytes = logical().map(|l| l.bytes).sum();
    let up_to = |weights: u64| {
        let part = u128::from(all_bytes.0) * u128::from(weights) / u128::from(shared.max(1));
        part as u64
    };
    let bytes = Bytes(up_to(before + wanted) - up_to(before));
    let sources = logical().flat_map(|l| l.sources.iter().copied()).collect();
    let tensor = made(row, layer, expected, first.dtype, bytes, sources);
    let counted = fits && before == 0;
    Ok((tensor, if counted { padding } else { 0 }))
}
