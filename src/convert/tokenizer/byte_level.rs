//! Byte-level BPE from `tokenizer.json`. Every id below `vocab_size` gets a token; an id without one gets `[PADn]`.

use std::collections::BTreeMap;
use std::path::Path;

use super::json::{Model, TokenizerJson};
use super::{TokenType, TokenizerFiles, Tokens, looks_special, pre, shown};
use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::model::tokenizers::BYTE_LEVEL;

impl Model {
    /// Whether it is BPE over bytes, which are written as letters.
    pub(super) fn is_byte_level(&self) -> bool {
        let bpe = match self.kind.as_deref() {
            Some(kind) => kind == "BPE",
            None => !self.merges.is_empty(),
        };
        bpe && !self.byte_fallback
    }

    /// The error for a kind of tokenizer that is not converted.
    pub(super) fn refused(&self, path: &Path) -> ConvertError {
        let kind = match self.kind.as_deref() {
            Some("BPE") if self.byte_fallback => "BPE with byte fallback",
            Some(kind) => kind,
            None => "no name",
        };
        ConvertError::TokenizerKind {
            path: path.to_owned(),
            kind: shown(kind),
        }
    }
}

pub(super) fn tokens(
    path: &Path,
    json: &TokenizerJson,
    files: &TokenizerFiles<'_, Model>,
    size: u32,
    preferred: Option<&'static str>,
) -> Result<Tokens, ConvertError> {
    let by_id = by_id(path, json, size as usize)?;
    let added = added(path, json, files, size as usize)?;
    let mut tokens = Tokens {
        model: BYTE_LEVEL,
        pre: pre::name(json, preferred),
        texts: StringList::default(),
        scores: Vec::new(),
        types: Vec::with_capacity(size as usize),
        merges: StringList::default(),
        charsmap: None,
        adds_space: None,
    };
    for (id, &at) in (0..size).zip(&by_id) {
        match added.get(&id) {
            Some((token, special)) if *special || looks_special(token) => {
                tokens.push(token, TokenType::Control);
            }
            // Spaces of a user-defined token are written as plain spaces.
            Some((token, _)) => tokens.push(&token.replace('▁', " "), TokenType::UserDefined),
            None => match at.and_then(|at| json.model.vocab.pieces.get(at as usize)) {
                Some(piece) => tokens.push(piece, TokenType::Normal),
                None => tokens.pad(id),
            },
        }
    }
    Ok(tokens)
}

/// For each id below `size`, the position of its token in the vocabulary.
pub(super) fn by_id(
    path: &Path,
    json: &TokenizerJson,
    size: usize,
) -> Result<Vec<Option<u32>>, ConvertError> {
    let vocab = &json.model.vocab;
    let piece = |at: u32| shown(vocab.pieces.get(at as usize).unwrap_or_default());
    let mut places = vec![None; size];
    for (at, &id) in (0u32..).zip(&vocab.ids) {
        match places.get_mut(id as usize) {
            Some(place @ None) => *place = Some(at),
            Some(Some(first)) => {
                return Err(ConvertError::DuplicateId {
                    path: path.to_owned(),
                    first: piece(*first),
                    second: piece(at),
                    id,
                });
            }
            None => {
                return Err(ConvertError::TokenId {
                    path: path.to_owned(),
                    token: piece(at),
                    id: id.into(),
                    size,
                });
            }
        }
    }
    Ok(places)
}

/// Added tokens by id, and whether each is special. `tokenizer_config.json` overrides `tokenizer.json`.
pub(super) fn added<'a>(
    path: &Path,
    json: &'a TokenizerJson,
    files: &'a TokenizerFiles<'_, Model>,
    size: usize,
) -> Result<BTreeMap<u32, (&'a str, bool)>, ConvertError> {
    let stated = json.added_tokens.iter();
    let stated = stated.map(|token| (token.id, &*token.content, token.special));
    let mut added = BTreeMap::new();
    for (id, token, special) in stated.chain(files.added_by_config()) {
        if id as usize >= size {
            return Err(ConvertError::TokenId {
                path: path.to_owned(),
                token: shown(token),
                id: id.into(),
                size,
            });
        }
        added.insert(id, (token, special || files.names(token)));
    }
    Ok(added)
}
