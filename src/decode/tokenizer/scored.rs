//! Splits a text into the tokens whose scores have the largest sum. In: texts and scores of tokens. Out: ids. Must not: know
//! special tokens.
//!
//! Source: the tokenizer of that kind in llama.cpp's `src/llama-vocab.cpp`.

use std::collections::{BTreeSet, HashMap};

use super::TokenKind;

/// What a character costs that begins no token: it becomes its bytes.
const UNKNOWN: i64 = 10_000_000;

/// Longer tokens are not looked for: each length costs a search at each place of a text.
const LONGEST: usize = 1024;

/// Costs of a whole score.
const UNIT: f64 = 1e4;

/// Tokens that are not bytes, by their texts.
pub(super) struct Scored {
    /// Ids and costs.
    tokens: HashMap<String, (u32, i64)>,
    /// Lengths of tokens in characters.
    lengths: BTreeSet<usize>,
}

/// The cheapest way from a place to the end of the text.
#[derive(Clone, Copy)]
struct Step {
    cost: i64,
    /// The token that comes first, if one does.
    token: Option<u32>,
    /// Its characters.
    len: usize,
}

impl Scored {
    pub(super) fn new(texts: &[String], kinds: &[TokenKind], scores: &[f32]) -> Scored {
        let (mut tokens, mut lengths) = (HashMap::with_capacity(texts.len()), BTreeSet::new());
        let rows = (0u32..).zip(texts).zip(kinds).zip(scores);
        for (((id, text), kind), score) in rows {
            let cost = (-f64::from(*score) * UNIT).round() as i64;
            let is_used = score.is_finite() && cost < 2 * UNKNOWN && !text.is_empty();
            let length = text.chars().count();
            if *kind != TokenKind::Byte && is_used && length <= LONGEST {
                lengths.insert(length);
                tokens.insert(text.clone(), (id, cost));
            }
        }
        Scored { tokens, lengths }
    }

    /// The tokens of `text`, each a token's id or a character without one.
    pub(super) fn split(&self, text: &str) -> Vec<Result<u32, char>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let starts: Vec<(usize, char)> = text.char_indices().collect();
        let end = Step {
            cost: 0,
            token: None,
            len: 0,
        };
        // From the last character to the first; of equal costs the longest token counts.
        let mut steps = vec![end; starts.len() + 1];
        for place in (0..starts.len()).rev() {
            let cost_from = |len: usize| steps.get(place + len).map(|step| step.cost);
            let unknown = Step {
                cost: cost_from(1).unwrap_or(0).saturating_add(UNKNOWN),
                token: None,
                len: 1,
            };
            let mut best: Option<Step> = None;
            for &len in self.lengths.range(..=starts.len() - place).rev() {
                let from = starts.get(place).map_or(0, |start| start.0);
                let to = starts.get(place + len).map_or(text.len(), |start| start.0);
                let Some((id, cost)) = text.get(from..to).and_then(|part| self.tokens.get(part))
                else {
                    continue;
                };
                let cost = cost_from(len).unwrap_or(0).saturating_add(*cost);
                if best.is_none_or(|best| cost < best.cost) {
                    best = Some(Step {
                        cost,
                        token: Some(*id),
                        len,
                    });
                }
            }
            let best = best.filter(|best| best.cost <= unknown.cost);
            if let Some(step) = steps.get_mut(place) {
                *step = best.unwrap_or(unknown);
            }
        }
        let (mut out, mut place) = (Vec::new(), 0);
        while let (Some((_, c)), Some(step)) = (starts.get(place), steps.get(place)) {
            out.push(step.token.ok_or(*c));
            place += step.len.max(1);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(tokens: &[(&str, f32)], text: &str) -> Vec<Result<u32, char>> {
        let texts: Vec<String> = tokens.iter().map(|(text, _)| (*text).to_owned()).collect();
        let scores: Vec<f32> = tokens.iter().map(|(_, score)| *score).collect();
        let mut kinds = vec![TokenKind::Normal; tokens.len()];
        for (kind, text) in kinds.iter_mut().zip(&texts) {
            if text.starts_with("<0x") {
                *kind = TokenKind::Byte;
            }
        }
        Scored::new(&texts, &kinds, &scores).split(text)
    }

    #[test]
    fn the_largest_sum_of_scores_counts_and_of_equal_ones_the_longest_token() {
        let tokens = [
            ("a", -1.0),
            ("ab", -1.5),
            ("b", -0.4),
            ("bc", -2.0),
            ("é", -3.0),
        ];
        let found = |text: &str| split(&tokens, text);
        assert_eq!(found("ab"), [Ok(0), Ok(2)]);
        assert_eq!(found("abc"), [Ok(0), Ok(3)]);
        assert_eq!(found("éa"), [Ok(4), Ok(0)]);
        assert_eq!(found(""), []);
        let equal = [("a", -1.0), ("b", -0.5), ("ab", -1.5)];
        assert_eq!(split(&equal, "ab"), [Ok(2)]);
    }

    #[test]
    fn what_begins_no_token_becomes_bytes() {
        let tokens = [
            ("a", -1.0),
            ("<0x41>", 0.0),
            ("q", f32::NAN),
            ("aq", f32::NEG_INFINITY),
        ];
        assert_eq!(split(&tokens, "aüq"), [Ok(0), Err('ü'), Err('q')]);
        // Bytes are no text, and a mark at the beginning is left out.
        assert_eq!(split(&tokens, "\u{feff}aq<"), [Ok(0), Err('q'), Err('<')]);
        assert_eq!(split(&[], "ab"), [Err('a'), Err('b')]);
    }
}
