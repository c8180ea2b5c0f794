//! Tokens that are found in text before it is split: the longest that begins at a place.
//!
//! Four bytes a token, so that a vocabulary of nothing else costs no more than its texts.

use super::TokenKind;

/// Control and user-defined tokens by id, in the order of their texts.
pub(super) struct Special {
    sorted: Vec<u32>,
    /// Which bytes they begin with; most places of a text are passed by this alone.
    begins: [bool; 256],
}

impl Special {
    pub(super) fn new(texts: &[String], kinds: &[TokenKind]) -> Special {
        let is_special =
            |kind: &TokenKind| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
        let tokens = (0u32..).zip(texts).zip(kinds);
        let found = tokens.filter(|((_, text), kind)| is_special(kind) && !text.is_empty());
        let mut sorted: Vec<u32> = found.map(|((id, _), _)| id).collect();
        let text = |id: u32| bytes(texts, id);
        sorted.sort_by(|a, b| text(*a).cmp(text(*b)));
        let mut begins = [false; 256];
        for id in &sorted {
            if let Some(begin) = text(*id).first() {
                begins[usize::from(*begin)] = true;
            }
        }
        Special { sorted, begins }
    }

    /// The longest token that `rest` begins with.
    pub(super) fn longest<'t>(&self, rest: &'t str, texts: &[String]) -> Option<&'t str> {
        let first = *rest.as_bytes().first()?;
        if !self.begins[usize::from(first)] {
            return None;
        }
        // Those that share the first bytes of the text, byte by byte; the shortest of them stands
        // first, and is whole when it has no byte more.
        let mut same = self.sorted.as_slice();
        let mut longest = None;
        for (index, byte) in rest.bytes().enumerate() {
            let at = |id: &u32| bytes(texts, *id).get(index).copied();
            let from = same.partition_point(|id| at(id) < Some(byte));
            let to = same.partition_point(|id| at(id) <= Some(byte));
            same = same.get(from..to).unwrap_or_default();
            let Some(shortest) = same.first() else {
                break;
            };
            if bytes(texts, *shortest).len() == index + 1 {
                longest = rest.get(..=index);
            }
        }
        longest
    }
}

fn bytes(texts: &[String], id: u32) -> &[u8] {
    texts.get(id as usize).map_or(&[], |text| text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_token_is_found_and_plain_ones_are_not() {
        let texts = ["<s>", "<s>>", "é", "<", "plain", "", "<s>"].map(str::to_owned);
        let mut kinds = [TokenKind::Control; 7];
        kinds[4] = TokenKind::Normal;
        let special = Special::new(&texts, &kinds);
        for (rest, expected) in [
            ("<s>>>", Some("<s>>")),
            ("<s>", Some("<s>")),
            ("<sx", Some("<")),
            ("ée", Some("é")),
            ("è", None),
            ("plain", None),
            ("", None),
        ] {
            assert_eq!(special.longest(rest, &texts), expected, "{rest}");
        }
    }
}
