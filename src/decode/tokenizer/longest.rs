//! RWKV's World vocabulary: a text becomes, place by place, the longest byte string that begins there.
//!
//! In: the tokens as a GGUF has them, bytes as Python shows them within quotes. Source: `llama_unescape_rwkv_token` and
//! `llm_tokenizer_rwkv_session` of llama.cpp's `llama-vocab.cpp`.

/// Byte strings with their ids, in the order of the bytes.
pub(super) struct Longest {
    sorted: Vec<(Vec<u8>, u32)>,
}

impl Longest {
    /// Of equal byte strings the last counts.
    pub(super) fn new(texts: &[String]) -> Longest {
        let tokens = texts.iter().map(|text| unescaped(text)).zip(0u32..);
        let mut sorted: Vec<(Vec<u8>, u32)> =
            tokens.filter(|(bytes, _)| !bytes.is_empty()).collect();
        sorted.sort_by(|(a, id), (b, other)| a.cmp(b).then(other.cmp(id)));
        sorted.dedup_by(|(later, _), (kept, _)| later == kept);
        Longest { sorted }
    }

    /// Adds the ids of `text`. A byte that no token begins with is left out.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let length = match self.first(rest) {
                Some((length, id)) => {
                    out.push(id);
                    length
                }
                None => 1,
            };
            rest = rest.get(length..).unwrap_or_default();
        }
    }

    /// The length and the id of the longest token that `rest` begins with.
    fn first(&self, rest: &[u8]) -> Option<(usize, u32)> {
        // Those that share the first bytes, byte by byte; the shortest of them stands first.
        let (mut same, mut longest) = (self.sorted.as_slice(), None);
        for (index, byte) in rest.iter().enumerate() {
            let at = |token: &(Vec<u8>, u32)| token.0.get(index).copied();
            let from = same.partition_point(|token| at(token) < Some(*byte));
            let to = same.partition_point(|token| at(token) <= Some(*byte));
            same = same.get(from..to).unwrap_or_default();
            let Some((shortest, id)) = same.first() else {
                break;
            };
            if shortest.len() == index + 1 {
                longest = Some((index + 1, *id));
            }
        }
        longest
    }
}

/// The bytes of a token.
pub(super) fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte.unwrap_or(b'0')).to_digit(16).unwrap_or(0);
        out.extend(match left.next() {
            Some(b't') => Some(b'\t'),
            Some(b'n') => Some(b'\n'),
            Some(b'r') => Some(b'\r'),
            Some(b'x') => {
                let (high, low) = (digit(left.next()), digit(left.next()));
                Some((high * 16 + low) as u8)
            }
            other => other,
        });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_is_taken_at_each_place() {
        let texts = [
            r"<s>",
            r"\x00",
            "a",
            "ab",
            "abcd",
            r"\n",
            r"\n\n",
            r"\xc3\xa9",
            r"\xc3",
            "ab",
            r"it\'s",
        ];
        let longest = Longest::new(&texts.map(str::to_owned));
        for (text, expected) in [
            ("abcabcd", vec![9, 4]),
            ("a\n\n\n", vec![2, 6, 5]),
            ("éÃ\0", vec![7, 8, 1]),
            ("it's", vec![10]),
            ("", vec![]),
        ] {
            let mut ids = Vec::new();
            longest.encode(text, &mut ids);
            assert_eq!(ids, expected, "{text}");
        }
        assert_eq!(unescaped(r"\t\x7f\\\q"), b"\t\x7f\\q");
        assert_eq!(unescaped(r"a\"), b"a");
        assert_eq!(unescaped(r"\x4"), [0x40]);
    }
}
