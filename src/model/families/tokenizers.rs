//! The tokenizers that models come with: their names in GGUF, and pre-tokenizers, the regular expressions that split a
//! text into words before byte pairs are merged.
//!
//! Conversion recognises a pre-tokenizer by the steps that `tokenizer.json` states, so that a model with a vocabulary
//! of its own is recognised too; the decoder splits texts by the same table.

mod known;
mod table;

use table::PRE_TOKENIZERS;

pub(in crate::model) use known::KNOWN_SPLITS;
pub use table::{DIGIT, GPT2, PUNCTUATION};

/// `tokenizer.ggml.model` of a SentencePiece vocabulary: pieces with scores.
pub const SENTENCEPIECE: &str = "llama";
/// `tokenizer.ggml.model` of byte-level BPE.
pub const BYTE_LEVEL: &str = "gpt2";
/// `tokenizer.ggml.model` of SentencePiece pieces that are joined by BPE merges.
pub const MERGED_PIECES: &str = "gemma4";

/// `tokenizer.ggml.model` of Unigram.
pub const UNIGRAM: &str = "t5";

/// `tokenizer.ggml.model` of WordPiece.
pub const WORD_PIECE: &str = "bert";

/// `tokenizer.ggml.model` of a list of byte strings, of which the longest counts.
pub const WORLD: &str = "rwkv";

/// `tokenizer.ggml.model` of tokens with scores, of which those with the largest sum count.
pub const SCORED_LINES: &str = "plamo2";

/// `tokenizer.ggml.model` of a file that holds no tokenizer.
const NO_TOKENIZER: [&str; 2] = ["none", "no_vocab"];

/// Whether `tokenizer.ggml.model` says that the file holds no tokenizer.
pub fn is_absent(model: &str) -> bool {
    NO_TOKENIZER.contains(&model)
}

/// The values of `tokenizer.ggml.model` that llama.cpp loads.
pub(in crate::model) const TOKENIZERS: &[&str] = &[
    NO_TOKENIZER[0],
    NO_TOKENIZER[1],
    SENTENCEPIECE,
    BYTE_LEVEL,
    WORD_PIECE,
    UNIGRAM,
    WORLD,
    SCORED_LINES,
    MERGED_PIECES,
    "hybriddna",
    "whitespace",
    "test",
];

/// Those of them that merge byte pairs and therefore need a pre-tokenizer.
pub(in crate::model) const BYTE_PAIRS: &[&str] = &[BYTE_LEVEL, "hybriddna", "whitespace"];

/// `tokenizer.ggml.pre` of a tokenizer whose pre-tokenizer has no name in llama.cpp. Runtimes load the file with a
/// warning and split texts by GPT-2's rules.
pub const UNKNOWN_SPLIT: &str = "default";

/// One pre-tokenizer: a way of splitting text into words.
#[derive(Debug)]
pub struct PreTokenizer {
    /// Its names in `tokenizer.ggml.pre`. Tokenizers of different names may split alike and differ in the token they
    /// put before a text, or in nothing.
    pub names: &'static [&'static str],
    /// Regular expressions, applied in order: each splits the parts that the one before has left.
    pub expressions: &'static [&'static str],
    /// What the decoder needs beyond the expressions; `None` where the decoder does not have this pre-tokenizer.
    pub split: Option<Split>,
    /// The name that conversion writes, by the token that is put before a text; the first that applies counts.
    /// Empty where `tokenizer.json` does not distinguish it from another pre-tokenizer.
    written: &'static [(Start, &'static str)],
}

/// What splitting needs to know beyond the expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// A word that is in the vocabulary is one token, whatever the merges make of it.
    pub whole_words: bool,
    /// Whether a begin-of-text token is put before a text where the metadata does not say.
    pub add_begin: bool,
}

/// What a tokenizer puts before a text.
#[derive(Debug)]
enum Start {
    /// Anything or nothing.
    Any,
    /// A token.
    Token,
    /// This token.
    This(&'static str),
}

impl PreTokenizer {
    /// Every known one.
    pub fn all() -> impl Iterator<Item = &'static PreTokenizer> {
        PRE_TOKENIZERS.iter()
    }

    /// The pre-tokenizer that GGUF calls `name`.
    pub fn of_name(name: &str) -> Option<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
    }

    /// The name to write for a tokenizer that splits by the expressions `steps`, in order, and puts `start`
    /// before a text: `preferred` if the same pre-tokenizer has that name, [`UNKNOWN_SPLIT`] if none has these steps.
    pub fn name(
        steps: &[String],
        start: Option<&str>,
        preferred: Option<&'static str>,
    ) -> &'static str {
        let holds = |(at, _): &&(Start, &str)| match at {
            Start::Any => true,
            Start::Token => start.is_some(),
            Start::This(token) => start == Some(token),
        };
        let written = |pre: &'static PreTokenizer| {
            let (_, name) = pre.written.iter().find(holds)?;
            let preferred = preferred.filter(|name| pre.names.contains(name));
            Some(preferred.unwrap_or(*name))
        };
        let same_steps = |pre: &&PreTokenizer| pre.expressions == steps;
        let mut known = PRE_TOKENIZERS.iter().filter(same_steps);
        known.find_map(written).unwrap_or(UNKNOWN_SPLIT)
    }
}

/// An expression of `tokenizer.json` in the spelling of the table: line ends escaped, contractions
/// spelled out in both cases.
pub fn normalized(expression: &str) -> String {
    let escaped = expression.replace('\r', r"\r").replace('\n', r"\n");
    escaped.replace(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    )
}
