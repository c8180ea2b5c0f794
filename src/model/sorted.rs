//! Sorts the weights of a Hugging Face checkpoint into those of the text model (by name pattern), towers, and others
//! that are left out; and decides whether the output head is the embedding.

use std::ops::Range;

use serde_json::Value as Json;

use super::families;
use super::hparams::{HParams, truth};
use super::left_out::{self, Auxiliary, LeftOutKind};
use super::packed::FoldedWeight;
use super::spec::{LeftOut, Tower};
use crate::checkpoint::Checkpoint;
use crate::dtype::elements;
use crate::units::Bytes;

/// Prefixes that models put before the names in the rows, longest first.
const PREFIXES: &[&str] = &[
    "model.language_model.model.",
    "model.language_model.",
    "language_model.model.",
    "language_model.",
    "model.text_model.",
    "model.text.",
    "thinker.model.",
    "thinker.",
    "llm.model.",
    "backbone.",
    "model.",
    "transformer.",
    "llm.",
];

/// Names of tensors outside of blocks that some families use, with the name in the rows.
const RENAMED: &[(&str, &str)] = &[
    ("embeddings.weight", "embed_tokens.weight"),
    ("embeddings.word_embeddings.weight", "embed_tokens.weight"),
    ("embed_in.weight", "embed_tokens.weight"),
    ("layers.0.pre_norm.weight", "embed_norm.weight"),
    ("layers.0.pre_norm.bias", "embed_norm.bias"),
    ("wte.weight", "embed_tokens.weight"),
    ("wte", "embed_tokens.weight"),
    ("embed_out.weight", "lm_head.weight"),
    ("ln_f.weight", "norm.weight"),
    ("final_layer_norm.weight", "norm.weight"),
    ("final_layer_norm.bias", "norm.bias"),
    ("norm_f.weight", "norm.weight"),
    ("final_layernorm.weight", "norm.weight"),
    ("final_layernorm.bias", "norm.bias"),
    ("post_ln.weight", "norm.weight"),
    ("post_ln.bias", "norm.bias"),
];

/// How names of tensors in blocks begin, with the block's number.
const BLOCKS: &[&str] = &["layers.{}.", "blocks.{}."];

/// Numbers in names that are none of blocks or experts, with words for them: what such a name has, the part of it with the
/// number, and the part with the word.
const LETTERED: &[(&str, &str, &str)] = &[
    (".lora.", ".lora.0.", ".lora.down."),
    (".lora.", ".lora.2.", ".lora.up."),
    ("_adapter_list.", ".0.weight", ".down.weight"),
    ("_adapter_list.", ".1.weight", ".up.weight"),
];

/// The weights of a checkpoint by what they belong to.
pub(super) struct Sorted {
    pub text: Vec<ParsedWeight>,
    pub towers: Vec<Tower>,
    pub left_out: Vec<LeftOut>,
}

/// A weight with its parsed name.
pub(super) struct ParsedWeight {
    /// The name without prefix, with `{}` in place of numbers.
    pub pattern: String,
    /// The numbers.
    pub numbers: Vec<u32>,
    pub logical: FoldedWeight,
}

impl ParsedWeight {
    /// The number of the block that it stands in.
    pub(super) fn block(&self) -> Option<u32> {
        let mut starts = BLOCKS.iter();
        let in_block = starts.any(|start| self.pattern.starts_with(start));
        self.numbers.first().copied().filter(|_| in_block)
    }
}

impl Sorted {
    /// Sorts the weights of a model. The blocks `ahead` are for multi-token prediction (DeepSeek-V3, GLM) and are left
    /// out; `beside` are the other parts that the configuration allows for.
    pub(super) fn new(
        logical: Vec<FoldedWeight>,
        ahead: Range<usize>,
        beside: Auxiliary,
    ) -> Sorted {
        let mut sorted = Sorted {
            text: Vec::new(),
            towers: Vec::new(),
            left_out: Vec::new(),
        };
        for tensor in logical {
            let bare = PREFIXES
                .iter()
                .chain(families::PREFIXES)
                .find_map(|p| tensor.name.strip_prefix(p))
                .unwrap_or(&tensor.name);
            let bare = RENAMED
                .iter()
                .find(|(name, _)| *name == bare)
                .map_or(bare, |(_, usual)| usual);
            let is_in =
                |(of, part, _): &&(&str, &str, &str)| bare.contains(of) && bare.contains(part);
            let (pattern, numbers) = match LETTERED.iter().find(is_in) {
                Some((_, part, by)) => split_numbers(&bare.replace(part, by)),
                None => split_numbers(bare),
            };
            let kind = left_out::of_hugging_face(&tensor.name, bare, &tensor.shape, beside);
            let weight = ParsedWeight {
                pattern,
                numbers,
                logical: tensor,
            };
            let is_ahead = weight
                .block()
                .is_some_and(|n| ahead.contains(&(n as usize)));
            match kind.or(is_ahead.then_some(&left_out::NEXT_TOKENS)) {
                Some(kind) => sorted.leave_out(kind, &weight.logical),
                None => sorted.text.push(weight),
            }
        }
        sorted
    }

    pub(super) fn leave_out(&mut self, kind: &'static LeftOutKind, tensor: &FoldedWeight) {
        if kind.tower {
            add_to_tower(
                &mut self.towers,
                kind.name,
                elements(&tensor.shape),
                tensor.bytes,
            )
        } else {
            left_out::add(&mut self.left_out, kind, tensor.bytes)
        }
    }

    /// Whether the output head is the embedding, by the configuration (or `by_default`) and the stored weights. A tied
    /// model may store the shared matrix under either name, or twice. If a stored head differs from the embedding, as in
    /// some merged fine-tunes, the head is kept and the model counts as untied.
    pub(super) fn tie(&mut self, checkpoint: &Checkpoint, stated: Tie, by_default: bool) -> bool {
        let find = |pattern: &str| self.text.iter().position(|e| e.pattern == pattern);
        let (embedding, head) = (find("embed_tokens.weight"), find("lm_head.weight"));
        let (Some(embedding), Some(head)) = (embedding, head) else {
            // Without both matrices the rows report what is missing.
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

    /// Whether two weights hold the same numbers in the same packing.
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

    /// The number of elements of the text model's weights.
    pub(super) fn parameters(&self) -> u64 {
        let weights = self.text.iter().map(|entry| elements(&entry.logical.shape));
        weights.fold(0, u64::saturating_add)
    }

    /// Rows of the stored embedding, which may differ from `vocab_size`.
    pub(super) fn embedding_rows(&self) -> Option<u64> {
        let find = |pattern: &str| self.text.iter().find(|e| e.pattern == pattern);
        find("embed_tokens.weight")
            .or_else(|| find("lm_head.weight"))?
            .logical
            .shape
            .first()
            .copied()
    }
}

/// Adds the elements and bytes of one tensor to the tower called `name`.
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

/// The `tie_word_embeddings` flag of the text part, else of the top level.
pub(super) fn tie_flag(hparams: &HParams<'_>) -> Option<bool> {
    let flag = hparams.flag("tie_embedding");
    flag.or_else(|| hparams.flag("tie_word_embeddings"))
}

/// What a configuration states about tying the output head to the embedding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tie {
    Yes,
    No,
    /// Nothing, or the parts of a multimodal configuration contradict each other: the stored weights decide.
    Unsaid(Option<bool>),
}

impl Tie {
    pub(super) fn stated(hparams: &HParams<'_>, config: &Json) -> Tie {
        let text = tie_flag(hparams);
        let whole = config.get("tie_word_embeddings").and_then(truth);
        match (text, whole) {
            (Some(false), Some(true)) | (None, _) => Tie::Unsaid(text),
            (Some(true), _) => Tie::Yes,
            (Some(false), _) => Tie::No,
        }
    }

    pub(super) fn or(self, by_default: bool) -> bool {
        match self {
            Tie::Yes => true,
            Tie::No => false,
            Tie::Unsaid(text) => text.unwrap_or(by_default),
        }
    }
}
