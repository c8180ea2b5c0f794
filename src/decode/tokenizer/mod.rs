//! The tokenizer of a checkpoint: text to token ids and back, and the chat template that comes with it.
//!
//! Five kinds: byte-level BPE (`gpt2`) with the pre-tokenizer that `tokenizer.ggml.pre` names, SentencePiece's pieces by
//! merges (`gemma4`), SentencePiece's BPE by scores (`llama`), the longest of a list of byte strings (`rwkv`), and tokens whose
//! scores have the largest sum (`plamo2`). That of a Hugging Face checkpoint is the one that conversion puts
//! into its GGUF. Must not: read files beside a GGUF.
//!
//! Source: `llama-vocab.cpp` of llama.cpp.

mod bytes;
mod longest;
mod merge;
mod scored;
mod special;
mod split;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use crate::checkpoint::{Checkpoint, RawConfig};
use crate::convert;
use crate::gguf::{self, Metadata, Value};
use crate::model::ModelSpec;
use crate::model::tokenizers::{
    BYTE_LEVEL, MERGED_PIECES, PreTokenizer, SCORED_LINES, SENTENCEPIECE, UNKNOWN_SPLIT, WORLD,
};

use super::DecodeError;
use longest::Longest;
use scored::Scored;
use special::Special;
use split::Splitter;

/// The mark that SentencePiece puts in place of a blank.
const BLANK: char = '\u{2581}';

/// Names of tokens that end an answer, beside those that the metadata names.
const ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<turn|>",
    "<|tool_response>",
    "<|return|>",
    "<|call|>",
];

/// Where a model has both of these, `<|end|>` ends a message of an answer and not the answer.
const ENDS_OF_CHANNELS: [&str; 2] = ["<|return|>", "<|call|>"];
const END_OF_MESSAGE: &str = "<|end|>";

/// The type of a token, by `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    Normal,
    /// Stands for text that has no token.
    Unknown,
    /// Never text: `<s>`.
    Control,
    /// Found in text before it is split.
    UserDefined,
    Unused,
    /// One byte: `<0x0A>`.
    Byte,
}

/// A vocabulary and how text is split into it.
pub struct Tokenizer {
    texts: Vec<String>,
    kinds: Vec<TokenKind>,
    ids: HashMap<String, u32>,
    algorithm: Algorithm,
    /// Control and user-defined tokens.
    special: Special,
    begin: Option<u32>,
    add_begin: bool,
    add_end: bool,
    end: Option<u32>,
    ends: Vec<u32>,
    chat_template: Option<String>,
}

/// How words become tokens.
enum Algorithm {
    /// Byte-level BPE: merges in the order of their list.
    ByteLevelBpe {
        splitter: Splitter,
        ranks: HashMap<(u32, u32), u32>,
    },
    /// SentencePiece's pieces: merges in the order of their list.
    MergedPieces { ranks: HashMap<(u32, u32), u32> },
    /// SentencePiece's BPE: the pair with the highest score first.
    SentencePieceBpe {
        scores: Vec<f32>,
        /// A blank is put before the text.
        leading_blank: bool,
        unknown: u32,
    },
    /// RWKV's World: the longest byte string at each place.
    Longest(Longest),
    /// The tokens with the largest sum of scores.
    LargestSum(Scored),
}

impl Tokenizer {
    /// Reads the tokenizer of `checkpoint`, which `spec` describes.
    ///
    /// # Errors
    /// A Hugging Face checkpoint without a tokenizer or that cannot be converted; a kind of tokenizer or
    /// pre-tokenizer that is not known; lists that do not belong together.
    pub fn read(checkpoint: &Checkpoint, spec: &ModelSpec) -> Result<Tokenizer, DecodeError> {
        let metadata = match &checkpoint.config {
            RawConfig::Gguf(metadata) => Cow::Borrowed(metadata),
            // The file type is one number whatever it is.
            RawConfig::HuggingFace(_) => {
                Cow::Owned(Metadata(convert::metadata(checkpoint, spec, 0)?))
            }
        };
        let metadata = &*metadata;
        let file = checkpoint.files.first();
        let source = TokenizerMetadata {
            file: file.map_or(Path::new(""), |file| &file.path),
            metadata,
        };
        let texts = source.strings("tokenizer.ggml.tokens")?;
        let kinds = source.kinds(texts.len())?;
        let mut ids = HashMap::with_capacity(texts.len());
        for (id, text) in texts.iter().enumerate() {
            ids.entry(text.clone()).or_insert(id as u32);
        }
        let kind = metadata.require("tokenizer.ggml.model", Metadata::str)?;
        let pre = metadata.str("tokenizer.ggml.pre")?;
        let splitter = PreTokenizer::of_name(pre.unwrap_or(UNKNOWN_SPLIT));
        let splitter = splitter.and_then(|pre| Some((pre, pre.split?)));
        let (algorithm, add_begin) = match (kind, splitter) {
            (BYTE_LEVEL, Some((pre, split))) => {
                let merges = source.strings("tokenizer.ggml.merges")?;
                let ranks = source.ranks(&merges, &ids);
                let splitter = Splitter::new(pre, split)?;
                (Algorithm::ByteLevelBpe { splitter, ranks }, split.add_begin)
            }
            (BYTE_LEVEL, None) => {
                return Err(DecodeError::TokenizerKind {
                    kind: pre.unwrap_or_default().to_owned(),
                });
            }
            (MERGED_PIECES, _) => {
                let merges = source.strings("tokenizer.ggml.merges")?;
                let ranks = source.ranks(&merges, &ids);
                (Algorithm::MergedPieces { ranks }, true)
            }
            (SENTENCEPIECE, _) => {
                let leading_blank = metadata.bool("tokenizer.ggml.add_space_prefix")?;
                let unknown = source.id("tokenizer.ggml.unknown_token_id", texts.len())?;
                let algorithm = Algorithm::SentencePieceBpe {
                    scores: source.scores(texts.len())?,
                    leading_blank: leading_blank.unwrap_or(true),
                    unknown: unknown.unwrap_or(0),
                };
                (algorithm, true)
            }
            (WORLD, _) => (Algorithm::Longest(Longest::new(&texts)), false),
            (SCORED_LINES, _) => {
                let scores = source.scores(texts.len())?;
                let scored = Scored::new(&texts, &kinds, &scores);
                (Algorithm::LargestSum(scored), false)
            }
            (kind, _) => {
                return Err(DecodeError::TokenizerKind {
                    kind: kind.to_owned(),
                });
            }
        };
        let end = source.id("tokenizer.ggml.eos_token_id", texts.len())?;
        let stated = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
        let mut ends: Vec<u32> = end.into_iter().collect();
        for key in stated {
            ends.extend(source.id(key, texts.len())?);
        }
        let has_channels = ENDS_OF_CHANNELS.iter().all(|name| ids.contains_key(*name));
        let named = ENDS
            .iter()
            .filter(|name| !(has_channels && **name == END_OF_MESSAGE));
        ends.extend(named.filter_map(|name| ids.get(*name)));
        Ok(Tokenizer {
            special: Special::new(&texts, &kinds),
            begin: source.id("tokenizer.ggml.bos_token_id", texts.len())?,
            add_begin: metadata
                .bool("tokenizer.ggml.add_bos_token")?
                .unwrap_or(add_begin),
            add_end: metadata
                .bool("tokenizer.ggml.add_eos_token")?
                .unwrap_or(false),
            texts,
            kinds,
            ids,
            algorithm,
            end,
            ends,
            // Files of World models have the name of one in its place.
            chat_template: metadata
                .str("tokenizer.chat_template")?
                .filter(|template| kind != WORLD || template.contains('{'))
                .map(str::to_owned),
        })
    }

    /// The token that every text of the model begins with, if there is one.
    pub fn leading(&self) -> Option<u32> {
        self.begin.filter(|_| self.add_begin)
    }

    /// The ids of `text`. With `special`, the tokens that the model wants at both ends are added
    /// and names of control tokens in the text stand for them.
    ///
    /// # Errors
    /// A text on which the pre-tokenizer's expression exceeds its limit of steps.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, DecodeError> {
        let mut out = Vec::new();
        if special && self.add_begin {
            out.extend(self.begin);
        }
        let mut after_special = true;
        for (part, token) in self.parts(text, special) {
            if !part.is_empty() {
                self.encode_part(part, after_special, &mut out)?;
                after_special = false;
            }
            if let Some(token) = token {
                out.push(token);
                after_special = true;
            }
        }
        if special && self.add_end {
            out.extend(self.end);
        }
        Ok(out)
    }

    /// Parts of plain text, each with the special token that follows it.
    fn parts<'t>(&self, text: &'t str, special: bool) -> Vec<(&'t str, Option<u32>)> {
        let mut parts = Vec::new();
        let mut from = 0;
        let mut at = 0;
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let Some(name) = self.special.longest(rest, &self.texts) else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            let id = self.ids.get(name).copied();
            let kind = id.and_then(|id| self.kinds.get(id as usize));
            if special || kind == Some(&TokenKind::UserDefined) {
                parts.push((text.get(from..at).unwrap_or_default(), id));
                from = at + name.len();
            }
            at += name.len();
        }
        parts.push((text.get(from..).unwrap_or_default(), None));
        parts
    }

    fn encode_part(&self, part: &str, first: bool, out: &mut Vec<u32>) -> Result<(), DecodeError> {
        match &self.algorithm {
            Algorithm::Longest(tokens) => tokens.encode(part, out),
            Algorithm::ByteLevelBpe { splitter, ranks } => {
                for word in splitter.split(part)? {
                    let word = bytes::to_chars(word.as_bytes());
                    if let Some(id) = self.ids.get(&word).filter(|_| splitter.whole_words()) {
                        out.push(*id);
                        continue;
                    }
                    let id = |text: &str| self.ids.get(text).copied();
                    let rank = |left: &str, right: &str| {
                        let pair = (id(left)?, id(right)?);
                        ranks.get(&pair).map(|rank| i64::from(*rank))
                    };
                    for piece in merge::pieces(&word, rank) {
                        match id(piece) {
                            Some(id) => out.push(id),
                            // A byte without a token is left out, as llama.cpp does.
                            None => out.extend(piece.chars().filter_map(|c| id(&c.to_string()))),
                        }
                    }
                }
            }
            Algorithm::MergedPieces { ranks } => {
                let marked = part.replace(' ', BLANK.encode_utf8(&mut [0; 4]));
                let id = |text: &str| self.ids.get(text).copied();
                let rank = |left: &str, right: &str| {
                    let pair = (id(left)?, id(right)?);
                    ranks.get(&pair).map(|rank| i64::from(*rank))
                };
                // Line ends are words of their own; a word of them that is a token is not split.
                for word in lines(&marked) {
                    if word.starts_with('\n')
                        && let Some(id) = id(word)
                    {
                        out.push(id);
                        continue;
                    }
                    for piece in merge::pieces(word, rank) {
                        match id(piece) {
                            Some(id) => out.push(id),
                            None => out.extend(piece.bytes().filter_map(|byte| {
                                self.ids.get(&format!("<0x{byte:02X}>")).copied()
                            })),
                        }
                    }
                }
            }
            Algorithm::LargestSum(scored) => {
                for token in scored.split(part) {
                    match token {
                        Ok(id) => out.push(id),
                        Err(c) => {
                            out.extend(c.encode_utf8(&mut [0; 4]).bytes().filter_map(|byte| {
                                self.ids.get(&format!("<0x{byte:02X}>")).copied()
                            }))
                        }
                    }
                }
            }
            Algorithm::SentencePieceBpe {
                scores,
                leading_blank,
                unknown,
            } => {
                let mut marked = String::with_capacity(part.len() + 3);
                if *leading_blank && first {
                    marked.push(BLANK);
                }
                marked.extend(part.chars().map(|c| if c == ' ' { BLANK } else { c }));
                let score = |text: &str| {
                    let id = *self.ids.get(text)?;
                    scores.get(id as usize).copied()
                };
                let rank = |left: &str, right: &str| {
                    score(&format!("{left}{right}")).map(merge::highest_first)
                };
                for piece in merge::pieces(&marked, rank) {
                    match self.ids.get(piece) {
                        Some(id) => out.push(*id),
                        None => out.extend(piece.bytes().map(|byte| {
                            let name = format!("<0x{byte:02X}>");
                            self.ids.get(&name).copied().unwrap_or(*unknown)
                        })),
                    }
                }
            }
        }
        Ok(())
    }

    /// The text of `ids`; control tokens are left out. Bytes that are no UTF-8 become `U+FFFD`.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|&id| self.bytes_of(id)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that a token adds to a text. A character can be spread over several tokens.
    pub fn bytes_of(&self, id: u32) -> Vec<u8> {
        let index = id as usize;
        let (Some(text), Some(kind)) = (self.texts.get(index), self.kinds.get(index)) else {
            return Vec::new();
        };
        match (kind, &self.algorithm) {
            (TokenKind::Control | TokenKind::Unused, _) => Vec::new(),
            (_, Algorithm::Longest(_)) => longest::unescaped(text),
            (TokenKind::Byte, _) => bytes::of_name(text).into_iter().collect(),
            (TokenKind::UserDefined, Algorithm::ByteLevelBpe { .. }) => text.clone().into_bytes(),
            (_, Algorithm::LargestSum(_)) => text.clone().into_bytes(),
            (_, Algorithm::ByteLevelBpe { .. }) => bytes::from_chars(text),
            (_, Algorithm::SentencePieceBpe { .. } | Algorithm::MergedPieces { .. }) => {
                text.replace(BLANK, " ").into_bytes()
            }
        }
    }

    /// Whether an answer ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.contains(&id)
    }

    /// The name of a token, as the vocabulary has it.
    pub fn name(&self, id: u32) -> Option<&str> {
        self.texts.get(id as usize).map(String::as_str)
    }

    /// The token that begins a text, and the one that ends it.
    pub fn begin_and_end(&self) -> (Option<&str>, Option<&str>) {
        let name = |id: Option<u32>| id.and_then(|id| self.name(id));
        (name(self.begin), name(self.end))
    }

    /// The template that makes a prompt of a chat, if there is one.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// Entries of the vocabulary.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether the vocabulary is empty.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

/// Runs of line ends, and what stands between them.
fn lines(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_end = first == '\n';
        let end = rest.find(|c| (c == '\n') != is_end);
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        out.push(word);
        rest = behind;
    }
    out
}

/// The metadata of a GGUF with the file that lists are read from which are not in memory.
struct TokenizerMetadata<'a> {
    file: &'a Path,
    metadata: &'a Metadata,
}

impl TokenizerMetadata<'_> {
    fn list(&self, key: &str) -> Result<Option<gguf::Elements>, DecodeError> {
        let value = self.metadata.get(key);
        let elements = value.map(|value| gguf::elements(self.file, value));
        Ok(elements.transpose()?)
    }

    fn strings(&self, key: &str) -> Result<Vec<String>, DecodeError> {
        let damaged = |what: &str| DecodeError::Tokenizer {
            what: format!("`{key}` {what}"),
        };
        let list = self.list(key)?.ok_or_else(|| damaged("is missing"))?;
        list.map(|value| match value? {
            Value::String(text) => Ok(text),
            _ => Err(damaged("is not a list of strings")),
        })
        .collect()
    }

    fn kinds(&self, count: usize) -> Result<Vec<TokenKind>, DecodeError> {
        let mut kinds = Vec::new();
        if let Some(list) = self.list("tokenizer.ggml.token_type")? {
            for value in list {
                kinds.push(match value?.as_u64() {
                    Some(2) => TokenKind::Unknown,
                    Some(3) => TokenKind::Control,
                    Some(4) => TokenKind::UserDefined,
                    Some(5) => TokenKind::Unused,
                    Some(6) => TokenKind::Byte,
                    _ => TokenKind::Normal,
                });
            }
        }
        kinds.resize(count, TokenKind::Normal);
        Ok(kinds)
    }

    fn scores(&self, count: usize) -> Result<Vec<f32>, DecodeError> {
        let mut scores = Vec::new();
        if let Some(list) = self.list("tokenizer.ggml.scores")? {
            for value in list {
                scores.push(value?.as_f64().unwrap_or(0.0) as f32);
            }
        }
        scores.resize(count, 0.0);
        Ok(scores)
    }

    /// The place of each merge in the list, by the ids of what it joins.
    fn ranks(&self, merges: &[String], ids: &HashMap<String, u32>) -> HashMap<(u32, u32), u32> {
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, merge) in merges.iter().enumerate() {
            // The blank in between is not the first character: a piece can begin with one.
            let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ');
            let pair = at.and_then(|(at, _)| Some((merge.get(..at)?, merge.get(at + 1..)?)));
            let pair = pair.and_then(|(a, b)| Some((*ids.get(a)?, *ids.get(b)?)));
            if let Some(pair) = pair {
                ranks.entry(pair).or_insert(rank as u32);
            }
        }
        ranks
    }

    fn id(&self, key: &str, count: usize) -> Result<Option<u32>, DecodeError> {
        match self.metadata.u64(key)? {
            Some(id) if id < count as u64 => Ok(Some(id as u32)),
            // Some files say -1 where they have no such token.
            _ => Ok(None),
        }
    }
}
