//! The vocabulary of RWKV's World models: a list of byte strings as Python writes them, of which a runtime takes the longest at
//! each place. In: the text file. Out: the tokens as llama.cpp stores them (`_set_vocab_rwkv_world` of `conversion/base.py`).

use std::path::Path;

use super::super::{Pairs, beside};
use super::{TokenType, VOCAB_LIMIT};
use crate::convert::error::ConvertError;
use crate::gguf::{StringList, Value};
use crate::input;
use crate::model::tokenizers::WORLD;
use crate::units::Bytes;

/// The list beside a checkpoint.
const FILE: &str = "rwkv_vocab_v20230424.txt";

/// The published list has 1.1 MB.
const LIMIT: Bytes = Bytes(16 << 20);

/// The token of two line breaks, which ends a turn of a conversation.
const TWO_LINES: u32 = 261;

/// llama.cpp's name of the template of these models.
const TEMPLATE: &str = "rwkv-world";

/// Sets every key of the vocabulary in `directory`, of `size` tokens.
pub(super) fn add(pairs: &mut Pairs, directory: &Path, size: u32) -> Result<(), ConvertError> {
    let path = beside(directory, FILE).ok_or_else(|| ConvertError::NoVocabulary {
        place: directory.to_owned(),
        file: FILE,
    })?;
    let text = input::read_text(&path, LIMIT)?;
    let bad_line = |line: usize| ConvertError::VocabularyLine {
        path: path.clone(),
        line,
        expected: "an id, a quoted token and its length",
    };
    let (mut texts, mut types) = (StringList::default(), Vec::new());
    texts.push("<s>");
    types.push(TokenType::Control as i32);
    for (index, line) in text.lines().enumerate() {
        let token = of_line(line).ok_or_else(|| bad_line(index + 1))?;
        texts.push(&shown(&token));
        types.push(TokenType::Normal as i32);
    }
    let found = types.len() as u64;
    if found > u64::from(size) || u64::from(size) > VOCAB_LIMIT {
        return Err(bad_line(size as usize));
    }
    for id in types.len()..size as usize {
        texts.push(&format!("[PAD{id}]"));
        types.push(TokenType::Unused as i32);
    }
    pairs.text("tokenizer.ggml.model", WORLD);
    pairs.set("tokenizer.ggml.tokens", Value::Strings(texts));
    pairs.set("tokenizer.ggml.token_type", Value::I32s(types));
    for (kind, id) in [("bos", 0), ("eos", 0), ("eot", TWO_LINES)] {
        if id < size {
            pairs.set(&format!("tokenizer.ggml.{kind}_token_id"), Value::U32(id));
        }
    }
    pairs.text("tokenizer.chat_template", TEMPLATE);
    Ok(())
}

/// The token of a line: its id, a Python literal, its length in bytes.
fn of_line(line: &str) -> Option<Vec<u8>> {
    let (id, rest) = line.split_once(' ')?;
    let (literal, length) = rest.rsplit_once(' ')?;
    id.parse::<u32>().ok()?;
    let token = literal_bytes(literal)?;
    (length.trim().parse() == Ok(token.len())).then_some(token)
}

/// The bytes of a Python literal: those of a string in UTF-8, or of a byte string.
fn literal_bytes(literal: &str) -> Option<Vec<u8>> {
    let (is_bytes, quoted) = match literal.strip_prefix('b') {
        Some(rest) => (true, rest),
        None => (false, literal),
    };
    let quote = quoted.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = quoted.strip_prefix(quote)?.strip_suffix(quote)?;
    let mut bytes = Vec::new();
    let mut left = inner.chars();
    while let Some(c) = left.next() {
        let number = match c {
            '\\' => {
                let digits = match left.next()? {
                    'n' => Err('\n'),
                    't' => Err('\t'),
                    'r' => Err('\r'),
                    c @ ('\\' | '\'' | '"') => Err(c),
                    'x' => Ok(2),
                    'u' if !is_bytes => Ok(4),
                    'U' if !is_bytes => Ok(8),
                    _ => return None,
                };
                match digits {
                    Err(c) => u32::from(c),
                    Ok(digits) => {
                        let hex: String = left.by_ref().take(digits).collect();
                        u32::from_str_radix(&hex, 16)
                            .ok()
                            .filter(|_| hex.len() == digits)?
                    }
                }
            }
            c if c == quote => return None,
            c => u32::from(c),
        };
        if is_bytes {
            bytes.push(u8::try_from(number).ok()?);
        } else {
            let mut buffer = [0; 4];
            let text = char::from_u32(number)?.encode_utf8(&mut buffer);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    Some(bytes)
}

/// Bytes as Python shows them within quotes, which runtimes undo.
fn shown(bytes: &[u8]) -> String {
    let double = bytes.contains(&b'\'') && !bytes.contains(&b'"');
    let quote = if double { b'"' } else { b'\'' };
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            byte if byte == quote => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' '..=b'~' => text.push(char::from(byte)),
            byte => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_python_reads_them_and_shown_as_it_shows_them() {
        for (line, expect) in [
            (r"1 '\x00' 1", Some(r"\x00")),
            (r"2 '\n' 1", Some(r"\n")),
            (r"130 b'\x81' 1", Some(r"\x81")),
            (r"300 ' it\'s' 5", Some(" it's")),
            (r#"301 "'\"" 2"#, Some(r#"\'""#)),
            (r"302 'é' 2", Some(r"\xc3\xa9")),
            (r"303 '\\\t' 2", Some(r"\\\t")),
            (r"304 '  ' 2", Some("  ")),
            // A wrong length, an unfinished literal, an escape of no length, no id.
            (r"305 'ab' 3", None),
            (r"306 'ab 2", None),
            (r"307 '\x4' 1", None),
            (r"x 'a' 1", None),
            ("", None),
        ] {
            let found = of_line(line).map(|token| shown(&token));
            assert_eq!(found.as_deref(), expect, "{line}");
        }
    }
}
