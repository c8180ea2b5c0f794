//! `tokenizer.model`: a SentencePiece `ModelProto`. Only the pieces with their scores and types are read
//! (`sentencepiece_model.proto`: the repeated field 1, with 1 the text, 2 the score as float, 3 the type), and of field 3
//! whether a space stands before the first word (its field 3); other fields are skipped.

use std::io::Read;
use std::path::Path;

use super::TokenType;
use crate::convert::error::ConvertError;
use crate::gguf::StringList;
use crate::input::{self, OpenError};
use crate::units::Bytes;

/// The largest `tokenizer.model` read. The largest published have 4 to 5 MB.
const LIMIT: Bytes = Bytes(256 << 20);

/// Pieces in the order of their ids.
#[derive(Debug, Default)]
pub(super) struct ModelPieces {
    pub(super) texts: StringList,
    pub(super) scores: Vec<f32>,
    pub(super) types: Vec<TokenType>,
    /// Whether a space stands before the first word, if the file says so.
    pub(super) adds_space: Option<bool>,
}

/// Reads the pieces of the file at `path`.
///
/// # Errors
/// [`ConvertError::Open`] if it is not a regular file of at most 256 MiB, [`ConvertError::SentencePiece`]
/// if its bytes are not a `ModelProto` with pieces.
pub(super) fn read(path: &Path) -> Result<ModelPieces, ConvertError> {
    let (file, bytes) = input::open(path)?;
    if bytes > LIMIT.0 {
        return Err(ConvertError::Open(OpenError::TooLarge {
            path: path.to_owned(),
            bytes: Bytes(bytes),
            limit: LIMIT,
        }));
    }
    let mut content = Vec::new();
    file.take(LIMIT.0)
        .read_to_end(&mut content)
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
    parse(&content).map_err(|Problem { problem, at }| ConvertError::SentencePiece {
        path: path.to_owned(),
        problem,
        at,
    })
}

#[derive(Debug, PartialEq)]
struct Problem {
    problem: &'static str,
    at: usize,
}

fn parse(content: &[u8]) -> Result<ModelPieces, Problem> {
    let mut pieces = ModelPieces::default();
    let mut message = Message {
        content,
        at: 0,
        end: content.len(),
    };
    while let Some((number, field)) = message.field()? {
        match (number, field) {
            (1, Field::Bytes(piece)) => piece_of(piece, &mut pieces)?,
            (3, Field::Bytes(mut normalizer)) => {
                while let Some((number, field)) = normalizer.field()? {
                    if let (3, Field::Varint(adds)) = (number, field) {
                        pieces.adds_space = Some(adds != 0);
                    }
                }
            }
            _ => {}
        }
    }
    if pieces.types.is_empty() {
        Err(message.problem("it has no pieces"))
    } else {
        Ok(pieces)
    }
}

fn piece_of(mut piece: Message<'_>, pieces: &mut ModelPieces) -> Result<(), Problem> {
    let (mut text, mut score, mut kind) = ("", 0.0, TokenType::Normal);
    while let Some((number, field)) = piece.field()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => text = bytes.text()?,
            (2, Field::Fixed32(bits)) => score = f32::from_bits(bits),
            (3, Field::Varint(value)) => {
                kind = match value {
                    2 => TokenType::Unknown,
                    3 => TokenType::Control,
                    5 => TokenType::Unused,
                    6 => TokenType::Byte,
                    // llama.cpp's converter writes user-defined pieces as normal ones.
                    1 | 4 => TokenType::Normal,
                    _ => return Err(piece.problem("a piece has an unknown type")),
                }
            }
            (1..=3, _) => return Err(piece.problem("a piece has a field of another type")),
            _ => {}
        }
    }
    pieces.texts.push(text);
    pieces.scores.push(score);
    pieces.types.push(kind);
    Ok(())
}

/// A position in a protobuf message.
#[derive(Clone, Copy)]
struct Message<'a> {
    content: &'a [u8],
    at: usize,
    end: usize,
}

enum Field<'a> {
    Varint(u64),
    Fixed32(u32),
    Bytes(Message<'a>),
    Other,
}

impl<'a> Message<'a> {
    fn problem(&self, problem: &'static str) -> Problem {
        Problem {
            problem,
            at: self.at,
        }
    }

    /// The next field with its number; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Field<'a>)>, Problem> {
        if self.at == self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let bytes = self.varint()?;
                Field::Bytes(self.take(bytes)?)
            }
            5 => Field::Fixed32(self.fixed32()?),
            _ => return Err(self.problem("a field has a type that protobuf no longer has")),
        };
        Ok(Some((tag >> 3, field)))
    }

    fn take(&mut self, bytes: u64) -> Result<Message<'a>, Problem> {
        let end = usize::try_from(bytes)
            .ok()
            .and_then(|bytes| self.at.checked_add(bytes))
            .filter(|&end| end <= self.end)
            .ok_or_else(|| self.problem("a field ends beyond what holds it"))?;
        let inside = Message {
            content: self.content,
            at: self.at,
            end,
        };
        self.at = end;
        Ok(inside)
    }

    fn fixed32(&mut self) -> Result<u32, Problem> {
        let bytes = self.take(4)?;
        let four = bytes.bytes().first_chunk::<4>().copied();
        Ok(u32::from_le_bytes(four.unwrap_or_default()))
    }

    /// An integer of variable length: seven bits per byte, the low ones first; the eighth bit says that more follow.
    fn varint(&mut self) -> Result<u64, Problem> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?.bytes().first().copied().unwrap_or_default();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.problem("a number has more than 64 bits"))
    }

    fn bytes(&self) -> &'a [u8] {
        self.content.get(self.at..self.end).unwrap_or_default()
    }

    fn text(&self) -> Result<&'a str, Problem> {
        std::str::from_utf8(self.bytes()).map_err(|_| self.problem("a piece is not UTF-8"))
    }
}
