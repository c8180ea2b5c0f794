//! Unigram from `tokenizer.json`, as `XLMRobertaModel` of llama.cpp's `conversion/bert.py` writes it: pieces with their
//! scores, and the compiled map of characters that a text goes through first.

use std::path::Path;

use super::byte_level::added;
use super::json::{Model, TokenizerJson};
use super::{TokenType, TokenizerFiles, Tokens};
use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::model::tokenizers::{UNIGRAM, UNKNOWN_SPLIT};

/// The score of an id without a piece.
const PAD_SCORE: f32 = -10_000.0;

pub(super) fn tokens(
    path: &Path,
    json: &TokenizerJson,
    files: &TokenizerFiles<'_, Model>,
    size: u32,
) -> Result<Tokens, ConvertError> {
    let added = added(path, json, files, size as usize)?;
    let vocab = &json.model.vocab;
    let mut tokens = Tokens {
        model: UNIGRAM,
        pre: UNKNOWN_SPLIT,
        texts: StringList::default(),
        scores: Vec::with_capacity(size as usize),
        types: Vec::with_capacity(size as usize),
        merges: StringList::default(),
        charsmap: charsmap(path, json)?,
        adds_space: None,
    };
    for id in 0..size {
        let piece = vocab.pieces.get(id as usize);
        let score = vocab.scores.get(id as usize).copied();
        let special = added.get(&id).map(|(_, special)| *special);
        match (piece.or(added.get(&id).map(|(token, _)| *token)), special) {
            (None, _) => {
                tokens.pad(id);
                tokens.scores.push(PAD_SCORE);
                continue;
            }
            (Some(piece), _) if json.model.unk_id == Some(id) => {
                tokens.push(piece, TokenType::Unknown)
            }
            (Some(piece), Some(true)) => tokens.push(piece, TokenType::Control),
            (Some(piece), Some(false)) => tokens.push(piece, TokenType::UserDefined),
            (Some(piece), None) => tokens.push(piece, TokenType::Normal),
        }
        tokens.scores.push(score.unwrap_or(0.0));
    }
    Ok(tokens)
}

/// The map of the normalizer, or of a step of it.
fn charsmap(path: &Path, json: &TokenizerJson) -> Result<Option<Vec<u8>>, ConvertError> {
    let Some(all) = &json.normalizer else {
        return Ok(None);
    };
    let inner = all
        .normalizers
        .iter()
        .map(|step| &step.precompiled_charsmap);
    let mut maps = std::iter::once(&all.precompiled_charsmap)
        .chain(inner)
        .flatten();
    let Some(text) = maps.next() else {
        return Ok(None);
    };
    let bytes = base64(text).ok_or_else(|| ConvertError::Charsmap {
        path: path.to_owned(),
    })?;
    Ok(Some(bytes))
}

/// The bytes of a text in base 64, with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let letters = text.trim_end_matches('=');
    let padded = text.len() - letters.len();
    if !text.len().is_multiple_of(4) || padded > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in letters.as_bytes().chunks(4) {
        let mut bits = 0u32;
        for &letter in four {
            bits = bits << 6 | u32::from(digit(letter)?);
        }
        bits <<= 6 * (4 - four.len());
        let [_, all @ ..] = bits.to_be_bytes();
        bytes.extend(all.iter().take(four.len() - 1));
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::base64;

    /// The vectors of RFC 4648.
    #[test]
    fn base_64_is_read_as_its_standard_says() {
        let known = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        for (length, text) in known.iter().enumerate() {
            assert_eq!(
                base64(text).as_deref(),
                Some(&b"foobar"[..length]),
                "{text}"
            );
        }
        for wrong in ["Zg", "Zg=", "Z===", "Zm9v!AAA", "===="] {
            assert_eq!(base64(wrong), None, "{wrong}");
        }
    }
}
