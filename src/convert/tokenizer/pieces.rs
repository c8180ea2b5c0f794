//! SentencePiece vocabularies, from `tokenizer.model` or from a `tokenizer.json` that was converted from one (BPE with
//! byte fallback, Unigram).

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value as Json;

use super::json::{Model, TokenizerJson};
use super::{TokenType, TokenizerFiles, Tokens, byte_level, looks_special, object_beside};
use super::{VOCAB_LIMIT, sentencepiece};
use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::model::conversion::Vocabulary;
use crate::model::tokenizers::{MERGED_PIECES, SENTENCEPIECE, UNKNOWN_SPLIT};

/// The score of a token that is matched before the text is split.
const ADDED_SCORE: f32 = -1000.0;
/// What names of pieces begin with that no text has.
const UNUSED: &str = "[UNUSED";
/// The score of an id without a piece.
const PAD_SCORE: f32 = -10_000.0;

fn empty() -> Tokens {
    Tokens {
        model: SENTENCEPIECE,
        pre: UNKNOWN_SPLIT,
        texts: StringList::default(),
        scores: Vec::new(),
        types: Vec::new(),
        merges: StringList::default(),
        charsmap: None,
        adds_space: None,
    }
}

/// The pieces of `tokenizer.model` up to `size`, with those that the files beside it replace. For Phi-3 the added tokens
/// of `tokenizer.json` are used too, and its flags decide which of them are special.
pub(super) fn from_model<M>(
    path: &Path,
    files: &TokenizerFiles<'_, M>,
    size: u32,
    vocabulary: Vocabulary,
) -> Result<Tokens, ConvertError> {
    let pieces = sentencepiece::read(path)?;
    let phi3 = vocabulary == Vocabulary::Phi3;
    let named = vocabulary == Vocabulary::SentencePieceAsTrained;
    let size = match size {
        0 => u32::try_from(pieces.types.len().min(VOCAB_LIMIT as usize)).unwrap_or(0),
        stated => stated,
    };
    let mut placed: BTreeMap<u32, (String, TokenType)> = BTreeMap::new();
    let file = object_beside(files.directory, "added_tokens.json")?.unwrap_or_default();
    for (token, id) in &file {
        if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            placed.insert(id, (token.clone(), TokenType::UserDefined));
        }
    }
    let json = files.json.as_ref().filter(|_| phi3);
    let stated = json.into_iter().flat_map(|(_, json)| &json.added_tokens);
    let stated = stated.map(|token| (token.id, &*token.content, token.special));
    for (id, token, special) in files.added_by_config().chain(stated) {
        let token = if special || !phi3 && looks_special(token) {
            (token.to_owned(), TokenType::Control)
        } else if phi3 {
            (token.to_owned(), TokenType::UserDefined)
        } else {
            (token.replace('▁', " "), TokenType::UserDefined)
        };
        placed.insert(id, token);
    }
    let mut tokens = empty();
    tokens.adds_space = pieces.adds_space.or(Some(true));
    for id in 0..size {
        let at = id as usize;
        let piece = pieces.texts.get(at).zip(pieces.types.get(at));
        match (placed.get(&id), piece) {
            (Some((token, kind)), _) => {
                tokens.push(token, *kind);
                tokens.scores.push(ADDED_SCORE);
            }
            (None, Some((text, _))) if named && text.starts_with(UNUSED) => {
                tokens.push(text, TokenType::Unused);
                tokens
                    .scores
                    .push(pieces.scores.get(at).copied().unwrap_or_default());
            }
            (None, Some((text, kind))) => {
                tokens.push(text, *kind);
                let score = pieces.scores.get(at).copied();
                tokens.scores.push(score.unwrap_or_default());
            }
            (None, None) => {
                tokens.pad(id);
                tokens.scores.push(PAD_SCORE);
            }
        }
    }
    Ok(tokens)
}

/// The vocabulary of `tokenizer.json`, the tokens added to it, and padding up to `size`. Ids must have no gap, since the
/// id of a token in GGUF is its position.
pub(super) fn from_json(
    path: &Path,
    json: &TokenizerJson,
    files: &TokenizerFiles<'_, Model>,
    size: u32,
) -> Result<Tokens, ConvertError> {
    let vocab = &json.model.vocab;
    let unigram = match json.model.kind.as_deref() {
        Some("BPE") | None if json.model.byte_fallback => false,
        Some("Unigram") => true,
        _ => return Err(json.model.refused(path)),
    };
    let base = vocab.ids.len();
    let places = byte_level::by_id(path, json, base)?;
    let added = byte_level::added(path, json, files, VOCAB_LIMIT as usize)?;
    let order = MergeOrder::new(&json.model.merges);
    let mut tokens = empty();
    for (id, at) in (0u32..).zip(places) {
        let text = at.and_then(|at| vocab.pieces.get(at as usize));
        let text = text.ok_or_else(|| ConvertError::MissingId {
            path: path.to_owned(),
            id,
            size: base,
        })?;
        let kind = match text {
            _ if is_byte(text) => TokenType::Byte,
            _ if unigram && json.model.unk_id == Some(id) => TokenType::Unknown,
            _ if files.is_special(text) => TokenType::Control,
            _ => TokenType::Normal,
        };
        tokens.push(text, kind);
        tokens.scores.push(match vocab.scores.get(id as usize) {
            Some(&score) => score,
            None => order.score(text),
        });
    }
    let behind = added.range(u32::try_from(base).unwrap_or(u32::MAX)..);
    for (&id, &(token, _)) in behind {
        let size = tokens.types.len();
        if id as usize != size {
            return Err(ConvertError::MissingId {
                path: path.to_owned(),
                id: u32::try_from(size).unwrap_or(u32::MAX),
                size: id as usize + 1,
            });
        }
        let kind = if files.is_special(token) {
            TokenType::Control
        } else {
            TokenType::UserDefined
        };
        tokens.push(token, kind);
        tokens.scores.push(ADDED_SCORE);
    }
    for id in u32::try_from(tokens.types.len()).unwrap_or(u32::MAX)..size {
        tokens.pad(id);
        tokens.scores.push(PAD_SCORE);
    }
    Ok(tokens)
}

/// Control tokens that an answer shows, so that what reads it finds channels and tool calls (`conversion/gemma.py`).
const SHOWN: &[&str] = &[
    "<|channel>",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    "<|\"|>",
];

/// The same with merges in place of scores, as llama.cpp's converter writes it (`LlamaHfVocab`).
pub(super) fn merged(
    path: &Path,
    json: &TokenizerJson,
    files: &TokenizerFiles<'_, Model>,
    size: u32,
) -> Result<Tokens, ConvertError> {
    if !json.model.byte_fallback || json.model.kind.as_deref() == Some("Unigram") {
        return Err(json.model.refused(path));
    }
    let mut tokens = from_json(path, json, files, size)?;
    tokens.model = MERGED_PIECES;
    tokens.scores.fill(ADDED_SCORE);
    for (kind, text) in tokens.types.iter_mut().zip(tokens.texts.iter()) {
        if SHOWN.contains(&text) {
            *kind = TokenType::UserDefined as i32;
        }
    }
    Ok(tokens)
}

/// The order in which pieces are merged, as scores: the earlier, the higher, as in SentencePiece.
///
/// llama.cpp's converter gives all pieces of a Llama the same score, so that its runtime merges differently than in
/// training. The order of ids is no substitute: Llama 2 has its longest pieces of spaces among the first ids.
struct MergeOrder {
    ranks: HashMap<String, u32>,
    last: u32,
}

impl MergeOrder {
    /// From merges of two pieces with a space between.
    fn new(merges: &StringList) -> MergeOrder {
        let (mut ranks, mut last) = (HashMap::new(), 0);
        for (rank, merge) in (0u32..).zip(merges.iter()) {
            ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
            last = rank.saturating_add(1);
        }
        MergeOrder { ranks, last }
    }

    /// The score of a piece; one that no merge produces comes after all others.
    fn score(&self, piece: &str) -> f32 {
        0.0 - self.ranks.get(piece).copied().unwrap_or(self.last) as f32
    }
}

impl TokenizerFiles<'_, Model> {
    /// Whether Transformers treats a token as special: one that the configuration names, or one of Llama's usual
    /// three if the tokenizer is of Llama's class.
    fn is_special(&self, token: &str) -> bool {
        let class = self.config.get("tokenizer_class").and_then(Json::as_str);
        let llama = class.is_none_or(|class| class.starts_with("Llama"));
        self.names(token) || llama && ["<s>", "</s>", "<unk>"].contains(&token)
    }
}

/// `<0x00>` to `<0xFF>`
fn is_byte(text: &str) -> bool {
    let hex = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}
