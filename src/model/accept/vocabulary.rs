//! The tokenizer in a file's metadata, held to what llama.cpp loads.
//!
//! In: metadata, the rows of the embedding. Out: the first thing that is refused. Source:
//! `llama_vocab::impl::load` of llama.cpp (build 11434).

use std::collections::HashSet;

use super::AcceptError;
use super::header::{Header, missing, wrong};
use super::keys::Form;
use crate::gguf::{Value, ValueType};

/// What llama.cpp knows as `tokenizer.ggml.model`.
const TOKENIZERS: &[&str] = &[
    "none",
    "no_vocab",
    "llama",
    "gpt2",
    "bert",
    "t5",
    "rwkv",
    "plamo2",
    "gemma4",
    "hybriddna",
    "whitespace",
    "test",
];

/// Those that join bytes by merges, and ask how texts are split before.
const BYTE_PAIRS: &[&str] = &["gpt2", "hybriddna", "whitespace"];

/// What llama.cpp knows as `tokenizer.ggml.pre`.
const PRE_TOKENIZERS: &[&str] = &[
    "",
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "default",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "glm5",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "granite-embed-multi-97m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v1-en",
    "jina-v2-code",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "laguna",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "mellum2",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "mmbert",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "roberta-bpe",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "ufakzeka",
    "viking",
    "whitespace",
    "youtu",
];

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
        known(PRE, pre, PRE_TOKENIZERS)?;
    }
    if BYTE_PAIRS.contains(&kind) || kind == "gemma4" {
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
