//! A vocabulary of tokens with scores, one a line, of which a runtime takes those with the largest sum. In: `tokenizer.jsonl`
//! and `tokenizer_config.json`. Out: the tokens as llama.cpp stores them (`_set_vocab_plamo` of `conversion/base.py`).

use std::path::Path;

use serde_json::Value as Json;

use super::super::{Pairs, beside};
use super::{TokenType, VOCAB_LIMIT, object_beside, special};
use crate::convert::error::ConvertError;
use crate::gguf::{StringList, Value};
use crate::input;
use crate::model::conversion::SpecialToken;
use crate::model::tokenizers::{SCORED_LINES, UNKNOWN_SPLIT};
use crate::units::Bytes;

/// The list beside a checkpoint.
const FILE: &str = "tokenizer.jsonl";

/// The published list of 100,000 tokens has some megabytes.
const LIMIT: Bytes = Bytes(64 << 20);

/// The score of tokens that fill the embedding up.
const PADDING_SCORE: f32 = -1000.0;

/// Special tokens that `tokenizer_config.json` may name, with GGUF's names.
const NAMED: [(&str, &str); 5] = [
    ("bos", "bos"),
    ("eos", "eos"),
    ("pad", "padding"),
    ("sep", "seperator"),
    ("unk", "unknown"),
];

/// Sets every key of the vocabulary in `directory`, of `size` tokens. Names of control tokens begin with `control`.
pub(super) fn add(
    pairs: &mut Pairs,
    directory: &Path,
    size: u32,
    control: &str,
    further: &[SpecialToken],
) -> Result<(), ConvertError> {
    let path = beside(directory, FILE).ok_or_else(|| ConvertError::NoVocabulary {
        place: directory.to_owned(),
        file: FILE,
    })?;
    let config = object_beside(directory, "tokenizer_config.json")?.unwrap_or_default();
    let text = input::read_text(&path, LIMIT)?;
    let bad_line = |line: usize| ConvertError::VocabularyLine {
        path: path.clone(),
        line,
        expected: "a list of a token, its score and its kind",
    };
    let (mut texts, mut scores, mut types) = (StringList::default(), Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let parts: Vec<Json> = serde_json::from_str(line).map_err(|_| bad_line(index + 1))?;
        let token = parts.first().and_then(Json::as_str);
        let score = parts.get(1).and_then(Json::as_f64);
        let (Some(token), Some(score)) = (token, score) else {
            return Err(bad_line(index + 1));
        };
        let is_control = token.starts_with(control) && token.ends_with("|>");
        let kind = match parts.get(2).and_then(Json::as_str) {
            Some("UNKNOWN") => TokenType::Unknown,
            Some("BYTE") => TokenType::Byte,
            Some("CONTROL") => TokenType::Control,
            _ if is_control => TokenType::Control,
            _ => TokenType::Normal,
        };
        texts.push(token);
        scores.push(score as f32);
        types.push(kind as i32);
    }
    let found = types.len();
    if found as u64 > u64::from(size) || u64::from(size) > VOCAB_LIMIT {
        return Err(bad_line(size as usize + 1));
    }
    for number in 1..=size as usize - found {
        texts.push(&format!("[PAD{number}]"));
        scores.push(PADDING_SCORE);
        types.push(TokenType::Unused as i32);
    }
    let mut ids = Vec::new();
    for (kind, gguf) in NAMED {
        let token = config
            .get(&format!("{kind}_token"))
            .and_then(special::content);
        let Some(token) = token else {
            continue;
        };
        let id = texts.iter().position(|text| text == token);
        let id = id.ok_or_else(|| ConvertError::NamedToken {
            path: path.clone(),
            token: token.to_owned(),
        })?;
        ids.push((gguf, id as u32));
    }
    pairs.text("tokenizer.ggml.model", SCORED_LINES);
    pairs.text("tokenizer.ggml.pre", UNKNOWN_SPLIT);
    pairs.set("tokenizer.ggml.tokens", Value::Strings(texts));
    pairs.set("tokenizer.ggml.scores", Value::F32s(scores));
    pairs.set("tokenizer.ggml.token_type", Value::I32s(types));
    for (gguf, id) in ids {
        special::add_id(pairs, gguf, id);
    }
    for token in further {
        if let SpecialToken::Id { kind, id } = token {
            special::add_id(pairs, kind, *id);
        }
    }
    pairs.set("tokenizer.ggml.add_space_prefix", Value::Bool(false));
    for kind in ["bos", "eos"] {
        let stated = config.get(&format!("add_{kind}_token"));
        if let Some(flag) = stated.and_then(Json::as_bool) {
            special::add_flag(pairs, kind, flag);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const EOT: &[SpecialToken] = &[SpecialToken::Id { kind: "eot", id: 4 }];

    fn added(lines: &str, size: u32) -> Result<Pairs, ConvertError> {
        let scratch = tempfile::tempdir().unwrap();
        fs::write(scratch.path().join(FILE), lines).unwrap();
        let config = r#"{"bos_token": "<|x:bos|>", "unk_token": {"content": "<|x:unk|>"}, "add_bos_token": true}"#;
        fs::write(scratch.path().join("tokenizer_config.json"), config).unwrap();
        let mut pairs = Pairs::default();
        add(&mut pairs, scratch.path(), size, "<|x:", EOT)?;
        Ok(pairs)
    }

    const LINES: &str = "[\"<|x:unk|>\", 0.0, \"UNKNOWN\", 1]\n[\"<|x:bos|>\", 0.0]\n\n[\"<0x00>\", -3, \"BYTE\"]\n\
                         [\"a\", -1.5, \"NORMAL\"]\n[\"<|x:\", -2.0]\n";

    #[test]
    fn lines_become_tokens_scores_and_kinds() {
        let pairs = added(LINES, 7).unwrap();
        let get = |key: &str| {
            let key = format!("tokenizer.ggml.{key}");
            let mut found = pairs.0.iter().filter(|(name, _)| *name == key);
            found.next().map(|(_, value)| value.clone())
        };
        let texts = [
            "<|x:unk|>",
            "<|x:bos|>",
            "<0x00>",
            "a",
            "<|x:",
            "[PAD1]",
            "[PAD2]",
        ];
        let texts = texts.into_iter().collect();
        assert_eq!(get("tokens"), Some(Value::Strings(texts)));
        let scores = vec![0.0, 0.0, -3.0, -1.5, -2.0, -1000.0, -1000.0];
        assert_eq!(get("scores"), Some(Value::F32s(scores)));
        assert_eq!(
            get("token_type"),
            Some(Value::I32s(vec![2, 3, 6, 1, 1, 5, 5]))
        );
        assert_eq!(get("bos_token_id"), Some(Value::U32(1)));
        assert_eq!(get("unknown_token_id"), Some(Value::U32(0)));
        assert_eq!(get("eot_token_id"), Some(Value::U32(4)));
        assert_eq!(get("add_bos_token"), Some(Value::Bool(true)));
        assert_eq!(get("eos_token_id"), None);
    }

    #[test]
    fn lines_that_are_no_tokens_and_tokens_without_a_row_are_refused() {
        let told = |lines: &str, size| added(lines, size).err().unwrap().to_string();
        for wrong in ["{}", "[1, 2]", "[\"a\"]", "[\"a\", \"b\"]", "["] {
            let lines = format!("[\"<|x:bos|>\", 0]\n{wrong}\n");
            assert!(told(&lines, 9).contains("line 2"), "{wrong}");
        }
        assert!(told(LINES, 3).contains("line 4"), "{}", told(LINES, 3));
        let error = told("[\"<|x:unk|>\", 0]", 9);
        assert!(error.contains("`<|x:bos|>`"), "{error}");
    }
}
