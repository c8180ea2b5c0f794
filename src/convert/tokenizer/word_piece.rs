//! WordPiece from `tokenizer.json`, as `BertModel.set_vocab` of llama.cpp's `conversion/bert.py` writes it: a token that
//! begins a word has `▁` before it, one within a word loses its `##`.

use std::path::Path;

use super::byte_level::{added, by_id};
use super::json::{Model, TokenizerJson};
use super::{TokenType, TokenizerFiles, Tokens, looks_special};
use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::model::tokenizers::WORD_PIECE;

/// The converter recognises a tokenizer by what it does to one text, and names what those of BERT's English vocabulary
/// do. Runtimes do not read the name for a tokenizer of this kind.
const PRE: &str = "bert-bge";

impl Model {
    /// Whether it is WordPiece.
    pub(super) fn is_word_piece(&self) -> bool {
        self.kind.as_deref() == Some("WordPiece")
    }
}

pub(super) fn tokens(
    path: &Path,
    json: &TokenizerJson,
    files: &TokenizerFiles<'_, Model>,
    size: u32,
) -> Result<Tokens, ConvertError> {
    let by_id = by_id(path, json, size as usize)?;
    let added = added(path, json, files, size as usize)?;
    let mut tokens = Tokens {
        model: WORD_PIECE,
        pre: PRE,
        texts: StringList::default(),
        scores: Vec::new(),
        types: Vec::with_capacity(size as usize),
        merges: StringList::default(),
        charsmap: None,
        adds_space: None,
    };
    let phantom = |token: &str| match token.strip_prefix("##") {
        Some(rest) => rest.to_owned(),
        None => format!("▁{token}"),
    };
    for (id, &at) in (0..size).zip(&by_id) {
        let piece = || json.model.vocab.pieces.get(at? as usize);
        match added.get(&id) {
            Some((token, special)) if *special || looks_special(token) => {
                tokens.push(token, TokenType::Control);
            }
            Some((token, _)) => {
                tokens.push(&phantom(&token.replace('▁', " ")), TokenType::UserDefined);
            }
            None => match piece() {
                Some(piece) => tokens.push(&phantom(piece), TokenType::Normal),
                None => tokens.push(&phantom(&format!("[PAD{id}]")), TokenType::Unused),
            },
        }
    }
    Ok(tokens)
}
