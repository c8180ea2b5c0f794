//! Cuts a text into words before pairs are merged, by the expressions of a pre-tokenizer.

use std::ops::Range;

use fancy_regex::Regex;

use super::super::DecodeError;
use crate::model::tokenizers::{PreTokenizer, Split};

/// A pre-tokenizer with its expressions compiled.
pub(super) struct Splitter {
    expressions: Vec<Regex>,
    whole_words: bool,
}

impl Splitter {
    pub(super) fn new(pre: &PreTokenizer, split: Split) -> Result<Splitter, DecodeError> {
        let compiled = pre
            .expressions
            .iter()
            .map(|expression| Regex::new(expression));
        Ok(Splitter {
            expressions: compiled.collect::<Result<_, _>>().map_err(failed)?,
            whole_words: split.whole_words,
        })
    }

    /// Whether a word that is in the vocabulary is one token.
    pub(super) fn whole_words(&self) -> bool {
        self.whole_words
    }

    /// The words of `text`; nothing of it is lost.
    pub(super) fn split<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, DecodeError> {
        let mut words: Vec<_> = std::iter::once(0..text.len()).collect();
        for expression in &self.expressions {
            let mut cut = Vec::new();
            for word in words {
                self::cut(expression, text, word, &mut cut)?;
            }
            words = cut;
        }
        let word = |range| text.get(range).unwrap_or_default();
        Ok(words
            .into_iter()
            .map(word)
            .filter(|word| !word.is_empty())
            .collect())
    }
}

/// Adds the matches in `word`, and what stands between them.
fn cut(
    expression: &Regex,
    text: &str,
    word: Range<usize>,
    out: &mut Vec<Range<usize>>,
) -> Result<(), DecodeError> {
    let mut from = word.start;
    for found in expression.find_iter(text.get(word.clone()).unwrap_or_default()) {
        let found = found.map_err(failed)?;
        let range = word.start + found.start()..word.start + found.end();
        out.push(from..range.start);
        from = range.end;
        out.push(range);
    }
    out.push(from..word.end);
    Ok(())
}

fn failed(error: fancy_regex::Error) -> DecodeError {
    DecodeError::Tokenizer {
        what: format!("its pre-tokenizer fails: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splitters() -> impl Iterator<Item = (&'static PreTokenizer, Splitter)> {
        let known = PreTokenizer::all();
        known.filter_map(|pre| Some((pre, Splitter::new(pre, pre.split?).unwrap())))
    }

    #[test]
    fn names_are_known_once() {
        let mut names: Vec<&str> = PreTokenizer::all()
            .flat_map(|pre| pre.names)
            .copied()
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn words_keep_all_of_the_text() {
        let text = "I'LL pay 12345\u{a0}euros,  \n\n ok?! 日本 e\u{301}te ";
        for (pre, splitter) in splitters() {
            let words = splitter.split(text).unwrap().concat();
            assert_eq!(words, text, "{:?}", pre.names);
        }
    }
}
