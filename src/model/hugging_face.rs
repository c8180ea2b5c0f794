//! A model from a `config.json` and Hugging Face tensor names.
//!
//! With weights, each stored tensor finds its row in the architecture's table by its name with the
//! numbers left out (`gather`); without, the tensors follow from the rows alone.

use std::ops::Range;

use serde_json::Value as Json;

use super::arch::{Arch, Extra, Place, Row, StatedNames};
use super::defaults::{self, Shapes};
use super::facts::{Facts, Key, text_config};
use super::gather::Strict;
use super::left_out::{self, Beside, Kind};
use super::packed::{self, Logical};
use super::role::{Keep, TensorRole};
use super::spec::{Dims, Layer, LeftOut, ModelSpec, Tensor, Tower};
use super::{ModelError, Unknown, arithmetic, extra, gather, shape, unknown_architecture};
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

pub(super) fn read(
    checkpoint: &Checkpoint,
    config: &Json,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let names = stated_names(config);
    let known = Arch::of_hugging_face(&names).map(|arch| arch.variant(config));
    let stated = names.first();
    let arch = match (known, unknown) {
        (_, Unknown::Listed) => return weights_only(checkpoint, config, &names, unknown),
        (Some(arch), _) => arch,
        (None, Unknown::Assume(name)) => Arch::of_gguf(name).ok_or(ModelError::NoArchitecture)?,
        (None, Unknown::WeightsOnly) => {
            return weights_only(checkpoint, config, &names, unknown);
        }
        (None, Unknown::Refuse) => {
            let name = stated.ok_or(ModelError::NoArchitecture)?;
            return Err(unknown_architecture(checkpoint, name));
        }
    };
    let assumed = known.is_none().then_some(arch.name);
    let logical = packed::logical(&checkpoint.tensors, config)?;
    if unknown != Unknown::WeightsOnly {
        packed::scaled(&logical, &checkpoint.tensors)?;
    }
    let prequantized = packed::label(config, &logical);
    let stored = logical.clone();
    let all = Sorted::new(logical.clone(), 0..0, Beside::ANY);
    // What the file itself says of a shared head weighs more than what its class would.
    let stated_tie = Tie::stated(&Facts::new(&checkpoint.config, arch.name), config);
    let config = defaults::filled(
        config,
        arch,
        assumed.is_none().then_some(&names),
        &Shapes(&all),
    )?;
    let raw = RawConfig::HuggingFace(config.clone());
    let facts = Facts::new(&raw, arch.name);
    let (mut dims, layers) = shape(arch, &facts)?;
    arithmetic::check(arch, &facts, &layers)?;
    let ahead = facts.or_zero(Key::NextnLayers)? as usize;
    let ahead = layers.len()..layers.len().saturating_add(ahead);
    let mut sorted = Sorted::new(logical, ahead, Beside::stated(&config, arch.name));
    if assumed.is_none() {
        sorted.leave_out_zero_biases(checkpoint, arch);
    }
    let by_default = tie_flag(&facts).unwrap_or(false);
    let tied = match checkpoint.tensors.is_empty() {
        true => stated_tie.or(by_default),
        false => sorted.tie(checkpoint, stated_tie, by_default),
    };
    let attention = || layers.iter().filter_map(|l| l.mixer.attention.as_ref());
    let full = attention().find(|a| a.window.is_none());
    let head_dim = full.or(attention().next()).map_or(0, |a| a.key_dim);
    let extra = extra(&facts, tied, head_dim)?;
    if let Some(rows) = sorted.embedding_rows() {
        dims.vocab = rows;
    }
    let (towers, left_out) = (sorted.towers.clone(), sorted.left_out.clone());
    let (tensors, parameters) = match checkpoint.tensors.is_empty() {
        true => from_rows(arch, &dims, &extra, &layers),
        false => {
            let parameters = sorted.parameters();
            let strict = match (assumed, unknown) {
                (Some(_), _) => Strict::Nothing,
                (None, Unknown::WeightsOnly) => Strict::Rows,
                (None, _) => Strict::All,
            };
            let (tensors, padding) =
                gather::from_stored(arch, &dims, &extra, &layers, sorted, strict)?;
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
        left_out,
        tied,
        assumed,
        source: checkpoint.format,
        prequantized,
        config,
    })
}

/// The flag of the text part, or else of the whole.
fn tie_flag(facts: &Facts<'_>) -> Option<bool> {
    let flag = facts.flag("tie_embedding");
    flag.or_else(|| facts.flag("tie_word_embeddings"))
}

/// What a configuration says of the head: whether it is the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tie {
    Yes,
    No,
    /// Nothing, or the parts of a multimodal configuration contradict each other: then what is
    /// stored decides.
    Unsaid(Option<bool>),
}

impl Tie {
    fn stated(facts: &Facts<'_>, config: &Json) -> Tie {
        let text = tie_flag(facts);
        let whole = config.get("tie_word_embeddings").and_then(Json::as_bool);
        match (text, whole) {
            (Some(false), Some(true)) | (None, _) => Tie::Unsaid(text),
            (Some(true), _) => Tie::Yes,
            (Some(false), _) => Tie::No,
        }
    }

    fn or(self, by_default: bool) -> bool {
        match self {
            Tie::Yes => true,
            Tie::No => false,
            Tie::Unsaid(text) => text.unwrap_or(by_default),
        }
    }
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
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let name = names.text_type.or(names.model_type).or(names.first());
    let name = match (name, checkpoint.tensors.is_empty()) {
        (Some(name), _) => name,
        (None, true) if unknown != Unknown::Listed => return Err(ModelError::NoArchitecture),
        (None, _) => "architecture not stated",
    };
    let stored = logical.clone();
    let sorted = Sorted::new(logical, 0..0, Beside::ANY);
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
        left_out: sorted.left_out,
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

/// Logical tensors of the text model by name pattern, and what is stored beside it.
pub(super) struct Sorted {
    pub text: Vec<Entry>,
    pub towers: Vec<Tower>,
    pub left_out: Vec<LeftOut>,
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
    /// Sorts the tensors of a model whose blocks `ahead` predict further tokens (DeepSeek-V3, GLM)
    /// and are no part of decoding, and whose configuration says that there is `beside`.
    fn new(logical: Vec<Logical>, ahead: Range<usize>, beside: Beside) -> Sorted {
        let mut sorted = Sorted {
            text: Vec::new(),
            towers: Vec::new(),
            left_out: Vec::new(),
        };
        for tensor in logical {
            let bare = PREFIXES
                .iter()
                .find_map(|p| tensor.name.strip_prefix(p))
                .unwrap_or(&tensor.name);
            let bare = RENAMED
                .iter()
                .find(|(name, _)| *name == bare)
                .map_or(bare, |(_, usual)| usual);
            let (pattern, numbers) = split_numbers(bare);
            let is_ahead = pattern.starts_with("layers.{}.")
                && numbers
                    .first()
                    .is_some_and(|&n| ahead.contains(&(n as usize)));
            let kind = match left_out::of_hugging_face(&tensor.name, bare, &tensor.shape, beside) {
                None if is_ahead => Some(&left_out::NEXT_TOKENS),
                kind => kind,
            };
            match kind {
                Some(kind) => sorted.leave_out(kind, &tensor),
                None => sorted.text.push(Entry {
                    pattern,
                    numbers,
                    logical: tensor,
                }),
            }
        }
        sorted
    }

    pub(super) fn leave_out(&mut self, kind: &'static Kind, tensor: &Logical) {
        match kind.tower {
            true => add_to_tower(
                &mut self.towers,
                kind.name,
                elements(&tensor.shape),
                tensor.bytes,
            ),
            false => left_out::add(&mut self.left_out, kind, tensor.bytes),
        }
    }

    /// Whether the head is the embedding, by what the configuration states (or `by_default`) and by
    /// what is stored. A tied model may store its shared matrix under either name, or twice, or a
    /// head of its own all the same, which merged fine-tunes do: that is another model's.
    fn tie(&mut self, checkpoint: &Checkpoint, stated: Tie, by_default: bool) -> bool {
        let find = |pattern: &str| self.text.iter().position(|e| e.pattern == pattern);
        let (embedding, head) = (find("embed_tokens.weight"), find("lm_head.weight"));
        let (Some(embedding), Some(head)) = (embedding, head) else {
            // With nothing to tie to, rows name what is missing.
            let tied = stated != Tie::No;
            if let (None, Some(head), true) = (embedding, head, tied) {
                self.text[head].pattern = "embed_tokens.weight".to_owned();
            }
            return tied;
        };
        if !stated.or(by_default) {
            return false;
        }
        let kind = match self.same(checkpoint, embedding, head) {
            Some(false) => return false,
            Some(true) => &left_out::SECOND_COPY,
            None => &left_out::UNSEEN_COPY,
        };
        let copy = self.text.remove(head);
        self.leave_out(kind, &copy.logical);
        true
    }

    /// Whether two weights hold the same numbers, packed in the same way.
    fn same(&self, checkpoint: &Checkpoint, one: usize, other: usize) -> Option<bool> {
        let parts = |entry: usize| &self.text[entry].logical.sources;
        let (one, other) = (parts(one), parts(other));
        if one.len() != other.len() {
            return Some(false);
        }
        let stored = |index: &u32| checkpoint.tensors.get(*index as usize);
        for (a, b) in one.iter().zip(other) {
            match checkpoint.same_numbers(stored(a)?, stored(b)?) {
                Some(true) => {}
                unequal => return unequal,
            }
        }
        Some(true)
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
