//! A model from a `config.json` and Hugging Face tensor names.
//!
//! With weights, each stored tensor finds its row in the architecture's table by its name with the
//! numbers left out (`gather`); without, the tensors follow from the rows alone.

use serde_json::Value as Json;

use super::arch::{Arch, Extra, Place, Row, StatedNames};
use super::defaults::{self, Shapes};
use super::facts::{Facts, text_config};
use super::packed::{self, Logical};
use super::role::{Keep, TensorRole};
use super::spec::{Dims, Layer, ModelSpec, Tensor, Tower};
use super::{ModelError, Unknown, extra, gather, shape, unknown_architecture};
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::dtype::{Dtype, elements};
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
    let known = Arch::of_hugging_face(&names).map(|arch| arch.variant(config));
    let stated = names.first();
    let arch = match (known, unknown) {
        (_, Unknown::Listed) => return weights_only(checkpoint, config, &names),
        (Some(arch), _) => arch,
        (None, Unknown::Assume(name)) => Arch::of_gguf(name).ok_or(ModelError::NoArchitecture)?,
        (None, Unknown::WeightsOnly) => {
            return weights_only(checkpoint, config, &names);
        }
        (None, Unknown::Refuse) => {
            let name = stated.ok_or(ModelError::NoArchitecture)?;
            return Err(unknown_architecture(checkpoint, name));
        }
    };
    let assumed = known.is_none().then_some(arch.name);
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let stored = logical.clone();
    let all = Sorted::new(logical.clone(), usize::MAX);
    let config = defaults::filled(
        config,
        arch,
        assumed.is_none().then_some(&names),
        &Shapes(&all),
    )?;
    let raw = RawConfig::HuggingFace(config.clone());
    let facts = Facts::new(&raw, arch.name);
    let (mut dims, layers) = shape(arch, &facts)?;
    let sorted = Sorted::new(logical, layers.len());
    let tied = facts
        .flag("tie_embedding")
        .or_else(|| facts.flag("tie_word_embeddings"))
        .unwrap_or(false);
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
            let parameters = sorted.parameters();
            let complete = assumed.is_none();
            let (tensors, padding) =
                gather::from_stored(arch, &dims, &extra, &layers, sorted, complete)?;
            (tensors, parameters.saturating_sub(padding))
        }
    };
    Ok(ModelSpec {
        pass: Err("it is no GGUF".to_owned()),
        name: checkpoint.name.clone(),
        architecture: match (assumed, stated) {
            (Some(_), Some(stated)) => stated.to_owned(),
            _ => arch.name.to_owned(),
        },
        parameters,
        dims,
        layers,
        tensors,
        stored,
        towers,
        tied,
        assumed,
        source: checkpoint.format,
        prequantized,
        config,
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
    let name = match (name, checkpoint.tensors.is_empty()) {
        (Some(name), _) => name,
        (None, false) => "architecture not stated",
        (None, true) => return Err(ModelError::NoArchitecture),
    };
    let stored = logical.clone();
    let sorted = Sorted::new(logical, usize::MAX);
    Ok(ModelSpec {
        pass: Err("it is no GGUF".to_owned()),
        name: checkpoint.name.clone(),
        architecture: name.to_owned(),
        parameters: sorted.parameters(),
        dims: Dims {
            streams: 1,
            ..Dims::default()
        },
        layers: Vec::new(),
        stored,
        towers: sorted.towers,
        tensors: sorted
            .text
            .into_iter()
            .map(|entry| other(entry.logical))
            .collect(),
        tied: false,
        assumed: None,
        source: checkpoint.format,
        prequantized,
        config: config.clone(),
    })
}

/// Logical tensors of the text model by name pattern, and the towers beside it.
pub(super) struct Sorted {
    pub text: Vec<Entry>,
    pub towers: Vec<Tower>,
}

/// A logical tensor with its name taken apart.
pub(super) struct Entry {
    /// The name without prefix, numbers replaced by `{}`.
    pub pattern: String,
    /// Those numbers.
    pub numbers: Vec<u32>,
    pub logical: Logical,
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
            let bare = RENAMED
                .iter()
                .find(|(name, _)| *name == bare)
                .map_or(bare, |(_, usual)| usual);
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

    pub(super) fn has(&self, pattern: &str) -> bool {
        self.text.iter().any(|e| e.pattern == pattern)
    }

    /// Logical weights of the text model.
    fn parameters(&self) -> u64 {
        let weights = self.text.iter().map(|entry| elements(&entry.logical.shape));
        weights.fold(0, u64::saturating_add)
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
                let elements = elements(&shape);
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
pub(super) fn places<'a>(
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

pub(super) fn made(
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
pub(super) fn other(logical: Logical) -> Tensor {
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
