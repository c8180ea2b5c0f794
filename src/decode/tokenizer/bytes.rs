//! GPT-2's printable stand-ins for bytes.
//!
//! Source: `bytes_to_unicode` of OpenAI's GPT-2 `encoder.py`: printable Latin-1 stands for itself,
//! the other bytes in order for the characters from U+0100 on.

/// Whether a byte stands for itself.
fn is_itself(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

fn to_char(byte: u8) -> char {
    if is_itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&b| !is_itself(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn to_byte(c: char) -> Option<u8> {
    match u32::from(c) {
        code @ 0..0x100 => u8::try_from(code).ok().filter(|&byte| is_itself(byte)),
        code => (0..=255)
            .filter(|&b| !is_itself(b))
            .nth((code - 0x100) as usize),
    }
}

/// Bytes as the characters that stand for them.
pub(super) fn to_chars(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| to_char(byte)).collect()
}

/// The bytes that characters stand for; a character that stands for none is its own UTF-8.
pub(super) fn from_chars(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for c in text.chars() {
        match to_byte(c) {
            Some(byte) => out.push(byte),
            None => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// The byte that `<0x0A>` names.
pub(super) fn of_name(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("<0x")?.strip_suffix('>')?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: Vec<u8> = (0..=255).collect();
        let text = to_chars(&all);
        assert_eq!(text.chars().count(), 256);
        assert_eq!(from_chars(&text), all);
        // As GPT-2 writes a blank, a line feed and a soft hyphen.
        assert_eq!(to_chars(b" \n\xAD"), "\u{120}\u{10A}\u{143}");
    }
}
