//! A tokenizer as GGUF metadata: `tokenizer.ggml.*` and the chat template.
//!
//! In: the tokenizer files beside a checkpoint. Out: key-value pairs with every token in the order
//! of its id. Must not: tokenize. Sources: `conversion/base.py`, `conversion/llama.py`,
//! `conversion/phi.py` and `gguf-py/gguf/vocab.py` of llama.cpp.

mod byte_level;
mod json;
mod pieces;
mod pre;
mod scored_lines;
mod sentencepiece;
mod special;
mod template;
mod unigram;
mod word_piece;
mod world;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value as Json};

use super::error::ConvertError;
use super::source_config::{SourceConfig, as_count};
use super::{Pairs, beside};
use crate::gguf::{StringList, Value};
use crate::input;
use crate::model::Key;
use crate::model::conversion::{Conversion, SpecialToken, Vocabulary};
use crate::model::tokenizers::{BYTE_LEVEL, MERGED_PIECES};
use crate::units::Bytes;
use json::{Model, TokenizerJson};

/// The type of a token, with GGUF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The largest `tokenizer_config.json` and its companions. Gemma's, with 6415 tokens, has 1.2 MB.
const CONFIG_LIMIT: Bytes = Bytes(16 << 20);

/// The largest vocabulary, above that of any published model: a vocabulary is padded to `vocab_size`, which may be
/// wrong.
const VOCAB_LIMIT: u64 = 1 << 21;

/// The tokenizer files of a directory.
struct TokenizerFiles<'a, M> {
    directory: &'a Path,
    json: Option<(PathBuf, TokenizerJson<M>)>,
    /// `tokenizer_config.json`; empty if there is none.
    config: Map<String, Json>,
    /// The tokens that `tokenizer_config.json` and `special_tokens_map.json` name.
    named: HashSet<String>,
}

/// Sets every key of the tokenizer in `directory`.
pub(super) fn add(
    pairs: &mut Pairs,
    directory: &Path,
    config: &Json,
    source: &SourceConfig<'_>,
    conversion: &Conversion,
) -> Result<(), ConvertError> {
    let vocabulary = conversion.vocabulary;
    let size = vocab_size(source)?;
    if vocabulary == Vocabulary::World {
        return world::add(pairs, directory, size);
    }
    if let Vocabulary::ScoredLines { control } = vocabulary {
        let further = conversion.special_tokens;
        return scored_lines::add(pairs, directory, size, control, further);
    }
    let tokenizer_config = object_beside(directory, "tokenizer_config.json")?.unwrap_or_default();
    let stated = |key: &str| tokenizer_config.get(key);
    let space = stated("add_prefix_space").and_then(Json::as_bool);
    if let (Vocabulary::Llama, Some(space)) = (vocabulary, space) {
        pairs.set("tokenizer.ggml.add_space_prefix", Value::Bool(space));
    }
    let gpt2 = stated("tokenizer_class").and_then(Json::as_str) == Some("GPT2Tokenizer");
    let pieces = match vocabulary {
        Vocabulary::ByteLevel
        | Vocabulary::TypedByteLevel
        | Vocabulary::MergedPieces
        | Vocabulary::WordPiece
        | Vocabulary::Unigram => None,
        Vocabulary::Phi3 if gpt2 => None,
        _ => beside(directory, "tokenizer.model"),
    };
    let of_model = pieces.is_some();
    let (mut tokens, special, tokenizer_config) = match pieces {
        Some(path) => {
            let files: TokenizerFiles<'_, IgnoredAny> =
                TokenizerFiles::read(directory, tokenizer_config)?;
            let tokens = pieces::from_model(&path, &files, size, vocabulary)?;
            (tokens, special::read(&files, config), files.config)
        }
        None => {
            let files: TokenizerFiles<'_, Model> =
                TokenizerFiles::read(directory, tokenizer_config)?;
            check_own(&files, conversion)?;
            let tokens = of_json(&files, size, conversion)?;
            let special = special::read(&files, config);
            (tokens.merged(files.json), special, files.config)
        }
    };
    let mut special = special;
    let charsmap = tokens.charsmap.take();
    special.fill(conversion.special_tokens, &tokens.texts);
    let (byte_level, count) = (tokens.model == BYTE_LEVEL, tokens.texts.len());
    let typed = [
        Vocabulary::WordPiece,
        Vocabulary::Unigram,
        Vocabulary::TypedByteLevel,
    ];
    if typed.contains(&vocabulary) {
        let name = "type_vocab_size";
        let types = source
            .get(name)
            .map_or(Ok(1), |value| as_count(name, value))?;
        pairs.set("tokenizer.ggml.token_type_count", Value::U32(types));
    }
    pairs.text("tokenizer.ggml.model", tokens.model);
    if vocabulary != Vocabulary::MergedPieces {
        pairs.text("tokenizer.ggml.pre", tokens.pre);
    }
    pairs.set("tokenizer.ggml.tokens", Value::Strings(tokens.texts));
    if !tokens.scores.is_empty() {
        pairs.set("tokenizer.ggml.scores", Value::F32s(tokens.scores));
    }
    pairs.set("tokenizer.ggml.token_type", Value::I32s(tokens.types));
    if vocabulary == Vocabulary::Unigram {
        // As SentencePiece was trained for these models.
        for key in ["add_space_prefix", "remove_extra_whitespaces"] {
            pairs.set(&format!("tokenizer.ggml.{key}"), Value::Bool(true));
        }
        if let Some(map) = charsmap {
            let bytes = map.into_iter().map(Value::U8).collect();
            pairs.set("tokenizer.ggml.precompiled_charsmap", Value::Array(bytes));
        }
    }
    if !tokens.merges.is_empty() {
        pairs.set("tokenizer.ggml.merges", Value::Strings(tokens.merges));
    }
    // Special tokens with ids beyond a SentencePiece vocabulary are left out.
    special.add(pairs, if byte_level { None } else { Some(count) });
    template::add(pairs, directory, &tokenizer_config)?;
    special.add_normalizer(pairs);
    if vocabulary == Vocabulary::Llama {
        // CodeLlama's end of turn, and a family of small models that were trained without a begin-of-text token.
        match size {
            32_016 => special::add_id(pairs, "eot", 32_010),
            49_152 => special::add_flag(pairs, "bos", false),
            _ => {}
        }
    }
    let space = match vocabulary {
        Vocabulary::SentencePiece | Vocabulary::MergedPieces => Some(false),
        Vocabulary::SentencePieceWithStatedSpace => space,
        Vocabulary::SentencePieceAsTrained => tokens.adds_space,
        Vocabulary::SentencePieceOrUnspacedPieces if !of_model => Some(false),
        _ => None,
    };
    if let Some(space) = space {
        pairs.set("tokenizer.ggml.add_space_prefix", Value::Bool(space));
    }
    if vocabulary == Vocabulary::MergedPieces {
        special::add_flag(pairs, "bos", true);
    }
    for token in conversion.special_tokens {
        if let SpecialToken::Id { kind, id } = token {
            special::add_id(pairs, kind, *id);
        }
    }
    Ok(())
}

/// Checks that the tokenizer beside the weights is the model's, where its code may take another.
fn check_own(
    files: &TokenizerFiles<'_, Model>,
    conversion: &Conversion,
) -> Result<(), ConvertError> {
    let (Some(elsewhere), Some((_, json))) = (conversion.tokenizer_elsewhere, &files.json) else {
        return Ok(());
    };
    if json.id_of(elsewhere.token).is_some() {
        return Ok(());
    }
    let Some(path) = beside(files.directory, elsewhere.code) else {
        return Err(ConvertError::TokenizerUnsaid {
            place: files.directory.to_owned(),
            code: elsewhere.code,
        });
    };
    let repository = elsewhere.repository;
    if input::read_text(&path, CONFIG_LIMIT)?.contains(repository) {
        return Err(ConvertError::TokenizerElsewhere { path, repository });
    }
    Ok(())
}

/// The tokens of a `tokenizer.json` of any kind.
fn of_json(
    files: &TokenizerFiles<'_, Model>,
    size: u32,
    conversion: &Conversion,
) -> Result<Tokens, ConvertError> {
    match &files.json {
        Some((path, json)) if conversion.vocabulary == Vocabulary::WordPiece => {
            if json.model.is_word_piece() {
                word_piece::tokens(path, json, files, size)
            } else {
                Err(json.model.refused(path))
            }
        }
        Some((path, json)) if conversion.vocabulary == Vocabulary::Unigram => {
            if json.model.kind.as_deref() == Some("Unigram") {
                unigram::tokens(path, json, files, size)
            } else {
                Err(json.model.refused(path))
            }
        }
        Some((path, json)) if conversion.vocabulary == Vocabulary::MergedPieces => {
            pieces::merged(path, json, files, size)
        }
        Some((path, json)) if json.model.is_byte_level() => {
            byte_level::tokens(path, json, files, size, conversion.pre_tokenizer)
        }
        Some((path, json))
            if !matches!(
                conversion.vocabulary,
                Vocabulary::ByteLevel | Vocabulary::TypedByteLevel
            ) =>
        {
            pieces::from_json(path, json, files, size)
        }
        Some((path, json)) => Err(json.model.refused(path)),
        None => Err(ConvertError::NoTokenizer {
            place: files.directory.to_owned(),
        }),
    }
}

/// The tokens in the order of their ids, with what a runtime needs to use them.
struct Tokens {
    /// The value of `tokenizer.ggml.model`.
    model: &'static str,
    /// The value of `tokenizer.ggml.pre`.
    pre: &'static str,
    texts: StringList,
    /// Empty for byte-level BPE.
    scores: Vec<f32>,
    types: Vec<i32>,
    /// Empty for SentencePiece, whose scores give the order of merging.
    merges: StringList,
    /// What Unigram changes in a text before it is split.
    charsmap: Option<Vec<u8>>,
    /// Whether a space stands before the first word, where the pieces say so.
    adds_space: Option<bool>,
}

impl Tokens {
    /// The same tokens with the merges of `json`, if this tokenizer uses merges.
    fn merged(mut self, json: Option<(PathBuf, TokenizerJson)>) -> Tokens {
        let merges = [BYTE_LEVEL, MERGED_PIECES].contains(&self.model);
        if let Some((_, json)) = json.filter(|_| merges) {
            self.merges = json.model.merges;
        }
        self
    }

    fn push(&mut self, text: &str, kind: TokenType) {
        self.texts.push(text);
        self.types.push(kind as i32);
    }

    /// Adds a padding token, so that there is one for each row of the embedding.
    fn pad(&mut self, id: u32) {
        self.push(&format!("[PAD{id}]"), TokenType::Unused);
    }
}

impl<'a, M: DeserializeOwned> TokenizerFiles<'a, M> {
    fn read(directory: &'a Path, config: Map<String, Json>) -> Result<Self, ConvertError> {
        let json = match beside(directory, "tokenizer.json") {
            Some(path) => Some(json::read(&path)?).map(|json| (path, json)),
            None => None,
        };
        let map = object_beside(directory, "special_tokens_map.json")?.unwrap_or_default();
        let named = [&config, &map].into_iter().flat_map(special::named);
        let named = named.collect();
        Ok(TokenizerFiles {
            directory,
            json,
            config,
            named,
        })
    }
}

impl<M> TokenizerFiles<'_, M> {
    /// The tokens of `added_tokens_decoder` with their ids and whether they are special; invalid entries are skipped.
    fn added_by_config(&self) -> impl Iterator<Item = (u32, &str, bool)> {
        let decoder = self.config.get("added_tokens_decoder");
        let entries = decoder.and_then(Json::as_object).into_iter().flatten();
        entries.filter_map(|(id, token)| {
            let special = token.get("special").and_then(Json::as_bool);
            let content = token.get("content")?.as_str()?;
            Some((id.parse().ok()?, content, special.unwrap_or(false)))
        })
    }

    /// Whether a token is named as special (`bos_token`, `additional_special_tokens`, ...).
    fn names(&self, token: &str) -> bool {
        self.named.contains(token)
    }
}

/// The number of rows of the token embedding, which must be the number of tokens.
fn vocab_size(source: &SourceConfig<'_>) -> Result<u32, ConvertError> {
    let size = match (source.model.dims.vocab, source.stated(Key::Vocab)) {
        (0, Some(_)) => u64::from(source.need(Key::Vocab)?),
        (rows, _) => rows,
    };
    match u32::try_from(size) {
        Ok(fitting) if size <= VOCAB_LIMIT => Ok(fitting),
        _ => Err(ConvertError::VocabSize {
            size,
            limit: VOCAB_LIMIT,
        }),
    }
}

/// The chat template of a model in `directory`, if it has one that can be read.
pub(super) fn chat_template(directory: &Path) -> Option<String> {
    template::of(directory).ok().flatten()
}

/// The ids of `wanted` in the `tokenizer_config.json` and the `tokenizer.json` of `directory`.
///
/// # Errors
/// [`ConvertError::NoTokenizer`] without the second file for a token that the first does not name,
/// [`ConvertError::NoToken`] for one that neither has.
pub(super) fn ids(
    directory: Option<&Path>,
    wanted: &[&'static str],
) -> Result<Vec<u64>, ConvertError> {
    let missing = || ConvertError::NoTokenizer {
        place: directory.unwrap_or(Path::new("")).to_owned(),
    };
    let directory = directory.ok_or_else(missing)?;
    let config = object_beside(directory, "tokenizer_config.json")?.unwrap_or_default();
    let files: TokenizerFiles<'_, Model> = TokenizerFiles::read(directory, config)?;
    let id = |token: &&'static str| {
        let mut added = files.added_by_config();
        if let Some((id, ..)) = added.find(|(_, text, _)| text == token) {
            return Ok(id);
        }
        let (path, json) = files.json.as_ref().ok_or_else(missing)?;
        json.id_of(token).ok_or_else(|| ConvertError::NoToken {
            path: path.clone(),
            token,
        })
    };
    wanted
        .iter()
        .map(|token| id(token).map(u64::from))
        .collect()
}

/// A JSON object in a small file of `directory`, if the file is there.
fn object_beside(directory: &Path, name: &str) -> Result<Option<Map<String, Json>>, ConvertError> {
    let Some(path) = beside(directory, name) else {
        return Ok(None);
    };
    let text = input::read_text(&path, CONFIG_LIMIT)?;
    let object = serde_json::from_str(&text);
    object
        .map(Some)
        .map_err(|source| ConvertError::Json { path, source })
}

/// A token for a message, shortened: a token may be as long as its file.
fn shown(token: &str) -> String {
    token.chars().take(80).collect()
}

/// Whether a token that was added as a plain one looks like a control token, such as padding and masks.
fn looks_special(token: &str) -> bool {
    let between = |start, end| token.starts_with(start) && token.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}
