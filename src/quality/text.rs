//! A text in chunks of tokens, as llama.cpp's tools evaluate it.

use std::path::Path;

use super::QualityError;
use super::fingerprint::Fingerprint;
use crate::decode::Tokenizer;
use crate::input;
use crate::units::Bytes;

/// The text that is used where none is given. Its sources are in `profiles/quality-sources.md`.
pub const DEFAULT_TEXT: &str = include_str!("../../profiles/quality.txt");

/// The largest text that is read.
const LIMIT: Bytes = Bytes(1 << 30);

/// A text to evaluate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The file's name without its directory, or `built-in text`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// Pieces of a text with equally many tokens, each evaluated by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// The tokens of each.
    pub chunks: Vec<Vec<u32>>,
    /// Tokens in each.
    pub tokens: usize,
}

/// The text of every chunk's first place, where a model wants a begin-of-text token there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The token stands before the text of the chunk, which is one token shorter: no text is lost.
    Inserted,
    /// The token replaces the first of the chunk, as in llama.cpp's `imatrix` and `perplexity`.
    Replaced,
}

impl Text {
    /// The text of file `path`, or the default text.
    ///
    /// # Errors
    /// [`QualityError`]: the file cannot be opened, is larger than 1 GiB, or is not UTF-8.
    pub fn open(path: Option<&Path>) -> Result<Text, QualityError> {
        let Some(path) = path else {
            return Ok(Text {
                name: "built-in text".to_owned(),
                text: DEFAULT_TEXT.to_owned(),
            });
        };
        let text = input::read_text(path, LIMIT)?;
        let name = path.file_name().unwrap_or_default();
        Ok(Text {
            name: name.to_string_lossy().into_owned(),
            text,
        })
    }

    /// A number that another text is unlikely to have.
    pub fn fingerprint(&self) -> u64 {
        Fingerprint::new().with(self.text.as_bytes()).0
    }

    /// The first `most` chunks of `tokens` tokens. What is left at the end and fills no chunk is not evaluated.
    ///
    /// # Errors
    /// [`QualityError`]: the text cannot be split into tokens, or has too few for one chunk.
    pub fn chunks(
        &self,
        tokenizer: &Tokenizer,
        tokens: usize,
        most: Option<usize>,
        beginning: Beginning,
    ) -> Result<Chunks, QualityError> {
        // No tokenizer makes more than one token of a byte, or one of more than a few hundred.
        let needed = most.map(|most| most.saturating_mul(tokens).saturating_mul(MOST_BYTES));
        let part = match needed.filter(|needed| *needed < self.text.len()) {
            Some(needed) => self.text.get(..self.text.floor_char_boundary(needed)),
            None => None,
        };
        let ids = tokenizer.encode(part.unwrap_or(&self.text), false)?;
        let leading = tokenizer.leading();
        let chunks = split(&ids, tokens, leading, beginning);
        let chunks: Vec<Vec<u32>> = chunks.take(most.unwrap_or(usize::MAX)).collect();
        if chunks.is_empty() {
            return Err(QualityError::ShortText {
                name: self.name.clone(),
                found: ids.len(),
                chunk: tokens,
            });
        }
        Ok(Chunks { chunks, tokens })
    }
}

/// Bytes of text that are split for each token that is needed.
const MOST_BYTES: usize = 16;

fn split(
    ids: &[u32],
    tokens: usize,
    leading: Option<u32>,
    beginning: Beginning,
) -> impl Iterator<Item = Vec<u32>> {
    let inserted = usize::from(leading.is_some() && beginning == Beginning::Inserted);
    let step = tokens.saturating_sub(inserted).max(1);
    // A text that is evaluated from its beginning has the token there too.
    let first: Vec<u32> = match beginning {
        Beginning::Replaced => leading.into_iter().collect(),
        Beginning::Inserted => Vec::new(),
    };
    let ids: Vec<u32> = first.into_iter().chain(ids.iter().copied()).collect();
    let chunks: Vec<Vec<u32>> = ids
        .chunks_exact(step)
        .map(|some| match (leading, beginning) {
            (Some(begin), Beginning::Inserted) => {
                std::iter::once(begin).chain(some.iter().copied()).collect()
            }
            (Some(begin), Beginning::Replaced) => {
                let rest = some.iter().skip(1).copied();
                std::iter::once(begin).chain(rest).collect()
            }
            (None, _) => some.to_vec(),
        })
        .collect();
    chunks.into_iter()
}
