//! Checks the tokenizer in a file's metadata against what llama.cpp loads.
//!
//! In: metadata, and the number of rows of the embedding. Out: the first thing that is refused. Source:
//! `llama_vocab::impl::load` of llama.cpp (build 11434).

use std::collections::HashSet;

use super::AcceptError;
use super::header::{TypedHeader, missing, wrong};
use crate::gguf::{Value, ValueType};
use crate::model::families::tokenizers::{
    self, BYTE_PAIRS, KNOWN_SPLITS, MERGED_PIECES, SCORED_LINES, TOKENIZERS,
};
use crate::model::loader::ValueForm;

/// Names of special tokens, whose ids are at `tokenizer.ggml.NAME_token_id` (the misspelling is llama.cpp's).
const IDS: &[&str] = &[
    "bos",
    "eos",
    "eot",
    "eom",
    "unknown",
    "seperator",
    "padding",
    "mask",
    "fim_pre",
    "fim_suf",
    "fim_mid",
    "fim_pad",
    "fim_rep",
    "fim_sep",
    "prefix",
    "suffix",
    "middle",
];

const FLAGS: &[&str] = &[
    "add_space_prefix",
    "remove_extra_whitespaces",
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "normalizer.lowercase",
    "normalizer.strip_accents",
];

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPE: &str = "tokenizer.ggml.token_type";
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

pub(super) fn check(
    header: &TypedHeader<'_>,
    architecture: &str,
    rows: Option<u64>,
) -> Result<(), AcceptError> {
    let equal = |tokens: u64| match rows {
        Some(rows) if rows != tokens => Err(AcceptError::Vocabulary { tokens, rows }),
        _ => Ok(()),
    };
    let key = "tokenizer.ggml.model";
    let kind = match header.get(key) {
        None => return Err(missing(key)),
        Some(Value::String(kind)) => kind.as_str(),
        Some(other) => return Err(wrong(key, other, "a string")),
    };
    check_word(key, kind, TOKENIZERS)?;
    header.check_form(PRE, ValueForm::Text, 0)?;
    if tokenizers::is_absent(kind) {
        let size = format!("{architecture}.vocab_size");
        return equal(header.count(&size)?.ok_or_else(|| missing(size))?);
    }
    merges(header, kind)?;
    let tokens = header
        .list(TOKENS, &[ValueType::String], "an array of strings")?
        .ok_or_else(|| missing(TOKENS))?;
    let (floats, integers) = (ValueType::F32, ValueType::I32);
    for (name, of, expected) in [
        ("scores", &[floats, integers][..], "an array of f32"),
        ("token_type", &[integers], "an array of i32"),
    ] {
        let key = format!("tokenizer.ggml.{name}");
        match header.list(&key, of, expected)? {
            Some(found) if found < tokens => {
                return Err(AcceptError::Length {
                    key,
                    found,
                    expected: tokens,
                    of: "one for each token",
                });
            }
            _ => {}
        }
    }
    for name in FLAGS {
        header.check_form(&format!("tokenizer.ggml.{name}"), ValueForm::Flag, 0)?;
    }
    for name in IDS {
        header.count(&format!("tokenizer.ggml.{name}_token_id"))?;
    }
    let suppressed = "tokenizer.ggml.suppress_tokens";
    header.list(suppressed, &[integers], "an array of i32")?;
    equal(tokens)?;
    check_distinct(header)?;
    if kind == SCORED_LINES {
        check_bytes(header)?;
    }
    Ok(())
}

/// Checks that each byte has a token of its kind, other than the first token.
fn check_bytes(header: &TypedHeader<'_>) -> Result<(), AcceptError> {
    const KIND: i64 = 6;
    let mut found = [false; 256];
    let kinds = header.integers(TOKEN_TYPE)?;
    // Without the file at hand long lists are not checked.
    let is_located = matches!(header.get(TOKENS), Some(Value::Located { .. }));
    if is_located && header.file.is_none() {
        return Ok(());
    }
    for (text, kind) in header.texts(TOKENS)?.zip(kinds).skip(1) {
        let text = text?;
        let digits = text.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
        let byte = digits.filter(|digits| digits.len() == 2);
        let byte = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (Some(byte), KIND) = (byte, kind) {
            found[usize::from(byte)] = true;
        }
    }
    match (0u8..=255).zip(found).find(|(_, found)| !found) {
        Some((byte, _)) => Err(AcceptError::NoByte { byte }),
        None => Ok(()),
    }
}

fn merges(header: &TypedHeader<'_>, kind: &str) -> Result<(), AcceptError> {
    let pre = match header.get(PRE) {
        Some(Value::String(pre)) => pre.as_str(),
        _ => "",
    };
    if BYTE_PAIRS.contains(&kind) {
        check_word(PRE, pre, KNOWN_SPLITS)?;
    }
    if BYTE_PAIRS.contains(&kind) || kind == MERGED_PIECES {
        let found = header.list(MERGES, &[ValueType::String], "an array of strings")?;
        if found.is_none() && pre != "kimi-k2" {
            return Err(missing(MERGES));
        }
    }
    Ok(())
}

fn check_word(key: &str, found: &str, words: &[&'static str]) -> Result<(), AcceptError> {
    if words.contains(&found) {
        return Ok(());
    }
    Err(AcceptError::Word {
        key: key.to_owned(),
        found: found.to_owned(),
        nearest: crate::nearest::hint(found, words.iter().copied()),
    })
}

/// Checks that no two tokens have the same text. Empty tokens are allowed: llama.cpp gives them names of their own.
fn check_distinct(header: &TypedHeader<'_>) -> Result<(), AcceptError> {
    let mut seen = HashSet::new();
    for text in header.texts(TOKENS)? {
        // Read as a C string.
        let text = text?.split('\0').next().unwrap_or_default().to_owned();
        if !text.is_empty() && !seen.insert(text.clone()) {
            return Err(AcceptError::SameToken { text });
        }
    }
    Ok(())
}
