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

/// What stands in every chunk's first place, where a model wants a begin-of-text token there.
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
        // Tokens of text are a few bytes long, so that the beginning is enough for a few chunks.
        let needed = most.map(|most| most.saturating_mul(tokens).saturating_mul(MOST_BYTES));
        let part = match needed.filter(|needed| *needed < self.text.len()) {
            Some(needed) => self.text.get(..self.text.floor_char_boundary(needed)),
            None => None,
        };
        let ids = tokenizer.encode(part.unwrap_or(&self.text), false)?;
        let leading = tokenizer.leading();
        let mut chunks = split(&ids, tokens, leading, beginning);
        chunks.truncate(most.unwrap_or(usize::MAX));
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

fn split(ids: &[u32], tokens: usize, leading: Option<u32>, beginning: Beginning) -> Vec<Vec<u32>> {
    let begin = usize::from(leading.is_some());
    let (inserted, replaced) = match beginning {
        Beginning::Inserted => (begin, 0),
        Beginning::Replaced => (0, begin),
    };
    // A text that is evaluated from its beginning has the token there too, and it is replaced by itself.
    let first = leading.filter(|_| replaced > 0);
    let ids: Vec<u32> = first.into_iter().chain(ids.iter().copied()).collect();
    let step = tokens.saturating_sub(inserted).max(1);
    let chunk = |own: &[u32]| {
        let own = own.iter().skip(replaced).copied();
        leading.into_iter().chain(own).collect()
    };
    ids.chunks_exact(step).map(chunk).collect()
}
