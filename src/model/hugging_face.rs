//! A model from a `config.json` and Hugging Face tensor names.
//!
//! With weights, each stored tensor finds its row in the architecture's table by its name with the
//! numbers left out; without, the tensors follow from the rows alone.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value as Json;

use super::arch::{Arch, Extra, Place, Row};
use super::facts::{Facts, text_config};
use super::packed::{self, Logical};
use super::role::{Keep, TensorRole};
use super::spec::{Dims, Layer, ModelSpec, Tensor, Tower};
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
    "backbone.",
    "model.",
    "transformer.",
];

/// Names outside of blocks that some families give to what the tables call otherwise.
const RENAMED: &[(&str, &str)] = &[
    ("embeddings.weight", "embed_tokens.weight"),
    ("norm_f.weight", "norm.weight"),
    ("final_layernorm.weight", "norm.weight"),
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
    ("mtp.", "multi-token prediction head"),
];

/// Ends of names that hold nothing a runtime needs.
const DROPPED: &[&str] = &[
    ".rotary_emb.inv_freq",
    ".masked_bias",
    ".attention.bias",
    ".attn.bias",
];

pub(super) fn read(
    checkpoint: &Checkpoint,
    config: &Json,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let (classes, model_types) = stated_names(config);
    let known = Arch::of_hugging_face(&classes, &model_types).map(|arch| arch.variant(config));
    let arch = match (known, unknown) {
        (Some(arch), _) => arch,
        (None, Unknown::Assume(name)) => Arch::of_gguf(name).ok_or(ModelError::NoArchitecture)?,
        (None, Unknown::WeightsOnly) => {
            return weights_only(checkpoint, config, &classes, &model_types);
        }
        (None, Unknown::Refuse) => {
            let name = classes
                .first()
                .or(model_types.first())
                .ok_or(ModelError::NoArchitecture)?;
            return Err(ModelError::UnknownArchitecture {
                name: (*name).to_owned(),
                nearest: nearest_architecture(name),
            });
        }
    };
    let facts = Facts::new(&checkpoint.config, arch.name, arch.defaults);
    let (mut dims, layers) = shape(arch, &facts)?;
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let sorted = Sorted::new(logical);
    let tied = facts
        .flag("tie_embedding")
        .or_else(|| facts.flag("tie_word_embeddings"))
        .unwrap_or(arch.tied_by_default);
    let tied = match (sorted.has("lm_head.weight"), checkpoint.tensors.is_empty()) {
        (_, true) => tied,
        // A tied model may store its shared matrix under either name.
        (true, false) => tied || !sorted.has("embed_tokens.weight"),
        (false, false) => true,
    };
    let head_dim = layers
        .iter()
        .find_map(|l| l.mixer.attention.as_ref())
        .map_or(0, |a| a.key_dim);
    let extra = extra(&facts, tied, head_dim)?;
    if let Some(rows) = sorted.embedding_rows() {
        dims.vocab = rows;
    }
    let towers = sorted.towers.clone();
    let (tensors, parameters) = match checkpoint.tensors.is_empty() {
        true => from_rows(arch, &dims, &extra, &layers),
        false => {
            let parameters = sorted.parameters();
            (
                from_stored(arch, &dims, &extra, &layers, sorted)?,
                parameters,
            )
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

/// The class names and the model types, of the text part first.
fn stated_names(config: &Json) -> (Vec<&str>, Vec<&str>) {
    let classes = config.get("architectures").and_then(Json::as_array);
    let classes = classes
        .map(|list| list.iter().filter_map(Json::as_str).collect())
        .unwrap_or_default();
    let types = [text_config(config), config]
        .into_iter()
        .filter_map(|c| c.get("model_type")?.as_str());
    (classes, types.collect())
}

/// Every stored tensor under its own name, for an architecture without a table entry.
fn weights_only(
    checkpoint: &Checkpoint,
    config: &Json,
    classes: &[&str],
    model_types: &[&str],
) -> Result<ModelSpec, ModelError> {
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let name = model_types
        .first()
        .or(classes.first())
        .ok_or(ModelError::NoArchitecture)?;
    let sorted = Sorted::new(logical);
    Ok(ModelSpec {
        name: checkpoint.name.clone(),
        architecture: (*name).to_owned(),
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
    fn new(logical: Vec<Logical>) -> Sorted {
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
            let bare = RENAMED
                .iter()
                .find(|(name, _)| *name == bare)
                .map_or(bare, |(_, usual)| usual);
            match TOWERS.iter().find(|(prefix, _)| bare.starts_with(prefix)) {
                Some((_, tower)) => {
                    add_to_tower(
                        &mut sorted.towers,
                        tower,
                        tensor.shape.iter().product(),
                        tensor.bytes,
                    );
                }
                None => {
                    let (pattern, numbers) = split_numbers(bare);
                    sorted.text.push(Entry {
                        pattern,
                        numbers,
                        logical: tensor,
                    });
                }
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
                Place {
                    dims,
                    extra,
                    layer,
                    index,
                },
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

/// The tensors of a checkpoint, each found by its row, checked against the row's shape.
fn from_stored(
    arch: &Arch,
    dims: &Dims,
    extra: &Extra,
    layers: &[Layer],
    sorted: Sorted,
) -> Result<Vec<Tensor>, ModelError> {
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    let all: Vec<&Row> = arch.rows().collect();
    for (index, row) in all.iter().enumerate() {
        for name in row.names {
            rows.entry(name).or_default().push(index);
        }
    }
    // Experts come one by one and are gathered under their row and block.
    let mut parts: BTreeMap<(usize, Option<u32>), Vec<(u32, usize)>> = BTreeMap::new();
    let mut strangers = Vec::new();
    for (position, entry) in sorted.text.iter().enumerate() {
        let shared_head = extra.tied && entry.pattern == "lm_head.weight";
        let pattern = match shared_head {
            true if sorted.has("embed_tokens.weight") => continue,
            true => "embed_tokens.weight",
            false => entry.pattern.as_str(),
        };
        let Some(found) = rows.get(pattern) else {
            strangers.push(position);
            continue;
        };
        for &row in found {
            let in_block = all[row].role.info().block;
            let layer = if in_block {
                entry.numbers.first().copied()
            } else {
                None
            };
            if layer.is_some_and(|l| l as usize >= layers.len()) {
                continue; // a multi-token-prediction block behind the last one
            }
            let part = entry
                .numbers
                .get(usize::from(in_block))
                .copied()
                .unwrap_or(0);
            parts
                .entry((row, layer))
                .or_default()
                .push((part, position));
        }
    }
    let mut tensors = Vec::new();
    for (row_index, row) in all.iter().enumerate() {
        for (layer, place) in places(row, dims, extra, layers) {
            let expected = (row.shape)(&place);
            match parts.get_mut(&(row_index, layer)) {
                Some(found) => {
                    found.sort_unstable();
                    let named = rows.get(sorted.text[found[0].1].pattern.as_str());
                    // Of several rows for one stored tensor, those count that the block has.
                    let mut shares = 1;
                    if let Some(rivals) = named.filter(|rows| rows.len() > 1) {
                        if !(row.when)(&place) {
                            continue;
                        }
                        shares = rivals.iter().filter(|&&r| (all[r].when)(&place)).count();
                    }
                    tensors.push(gather(row, layer, expected, found, &sorted.text, shares)?);
                }
                None if row.names.is_empty() && (row.when)(&place) => {
                    let bytes = Dtype::F32.bytes(&expected).unwrap_or(Bytes(0));
                    tensors.push(Tensor {
                        stored_bytes: bytes,
                        ..made(row, layer, expected, Dtype::F32, bytes, Vec::new())
                    });
                }
                None if row.part != "bias" && (row.when)(&place) => {
                    let number = layer.map_or_else(String::new, |l| l.to_string());
                    let name = row
                        .names
                        .first()
                        .copied()
                        .unwrap_or_default()
                        .replacen("{}", &number, 1);
                    return Err(ModelError::MissingTensor { tensor: name });
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
    Ok(tensors)
}

/// One GGUF tensor from the stored tensors of its row: one, or one per expert. `shares` rows are
/// made from the same stored tensor (a fused gate and up projection, say).
fn gather(
    row: &Row,
    layer: Option<u32>,
    expected: Vec<u64>,
    found: &[(u32, usize)],
    text: &[Entry],
    shares: usize,
) -> Result<Tensor, ModelError> {
    let logical = || found.iter().map(|&(_, position)| &text[position].logical);
    let first = &text[found[0].1].logical;
    let elements = |shape: &[u64]| shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let wanted = elements(&expected).ok_or_else(|| ModelError::TooLarge {
        tensor: first.name.clone(),
        shape: expected.clone(),
    })?;
    let stored: u64 = logical()
        .map(|l| elements(&l.shape).unwrap_or(u64::MAX))
        .fold(0, u64::saturating_add);
    let embedding = matches!(
        row.role,
        TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
    );
    if stored != wanted && shares == 1 && !(embedding && first.shape.last() == expected.last()) {
        return Err(ModelError::ShapeMismatch {
            tensor: first.name.clone(),
            found: first.shape.clone(),
            expected,
        });
    }
    let all_bytes: Bytes = logical().map(|l| l.bytes).sum();
    // Split tensors share their source's bytes by weight.
    let bytes = match stored {
        stored if shares > 1 && stored > 0 => Bytes(
            (u128::from(all_bytes.0) * u128::from(wanted.min(stored)) / u128::from(stored)) as u64,
        ),
        _ => all_bytes,
    };
    let sources = logical().flat_map(|l| l.sources.iter().copied()).collect();
    Ok(made(row, layer, expected, first.dtype, bytes, sources))
}
