//! The tokenizer in a file's metadata, held to what llama.cpp loads.
//!
//! In: metadata, the rows of the embedding. Out: the first thing that is refused. Source:
//! `llama_vocab::impl::load` of llama.cpp (build 11434).

use std::collections::HashSet;

use super::AcceptError;
use super::header::{Header, missing, wrong};
use crate::gguf::{Value, ValueType};
use crate::model::families::tokenizers::{BYTE_PAIRS, KNOWN_SPLITS, MERGED_PIECES, TOKENIZERS};
use crate::model::loader::Form;

/// Ends of the keys that hold the id of a token.
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
const PRE: &str = "tokenizer.ggml.pre";
const MERGES: &str = "tokenizer.ggml.merges";

pub(super) fn check(
    header: &Header<'_>,
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
    known(key, kind, TOKENIZERS)?;
    header.held(PRE, Form::Text, 0)?;
    if ["none", "no_vocab"].contains(&kind) {
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
        header.held(&format!("tokenizer.ggml.{name}"), Form::Flag, 0)?;
    }
    for name in IDS {
        header.count(&format!("tokenizer.ggml.{name}_token_id"))?;
    }
    let suppressed = "tokenizer.ggml.suppress_tokens";
    header.list(suppressed, &[integers], "an array of i32")?;
    equal(tokens)?;
    distinct(header)
}

fn merges(header: &Header<'_>, kind: &str) -> Result<(), AcceptError> {
    let pre = match header.get(PRE) {
        Some(Value::String(pre)) => pre.as_str(),
        _ => "",
    };
    if BYTE_PAIRS.contains(&kind) {
        known(PRE, pre, KNOWN_SPLITS)?;
    }
    if BYTE_PAIRS.contains(&kind) || kind == MERGED_PIECES {
        let found = header.list(MERGES, &[ValueType::String], "an array of strings")?;
        if found.is_none() && pre != "kimi-k2" {
            return Err(missing(MERGES));
        }
    }
    Ok(())
}

fn known(key: &str, found: &str, words: &[&'static str]) -> Result<(), AcceptError> {
    match words.contains(&found) {
        true => Ok(()),
        false => Err(AcceptError::Word {
            key: key.to_owned(),
            found: found.to_owned(),
            nearest: crate::nearest::hint(found, words.iter().copied()),
        }),
    }
}

/// That no two tokens have the same text. Those without any are given names of their own.
fn distinct(header: &Header<'_>) -> Result<(), AcceptError> {
    let mut seen = HashSet::new();
    for text in header.texts(TOKENS)? {
        let text = text?;
        if !text.is_empty() && !seen.insert(text.clone()) {
            return Err(AcceptError::SameToken { text });
        }
    }
    Ok(())
}
