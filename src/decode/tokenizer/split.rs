//! Pre-tokenizers: the expressions that cut a text into words before pairs are merged, as a table
//! by the names that `tokenizer.ggml.pre` has.
//!
//! Source: `llm_tokenizer_bpe` and the names beside it in llama.cpp's `llama-vocab.cpp`.

use std::ops::Range;

use fancy_regex::Regex;

use super::super::DecodeError;

/// One pre-tokenizer.
#[derive(Debug)]
pub(super) struct Pre {
    names: &'static [&'static str],
    /// Each cuts what the one before has left whole.
    expressions: &'static [&'static str],
    /// A word that is in the vocabulary is one token, whatever the merges make of it.
    whole_words: bool,
    /// Whether texts begin with a token of their own where the metadata does not say.
    pub(super) add_begin: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// The expression of Llama 3 and its kin: contractions, words with what stands before them, numbers
/// as `$number` has them, punctuation, line ends, blanks.
macro_rules! words {
    ($letters:literal, $number:literal) => {
        concat!(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
            r"|[^\r\n\p{L}\p{N}]?[",
            $letters,
            "]+|",
            $number,
            r"| ?[^\s",
            $letters,
            r"\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const TABLE: &[Pre] = &[
    Pre {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
        ],
        expressions: &[words!(r"\p{L}", r"\p{N}{1,3}")],
        whole_words: true,
        add_begin: true,
    },
    Pre {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        expressions: &[words!(r"\p{L}", r"\p{N}{1,3}")],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["glm4", "glm5"],
        expressions: &[words!(r"\p{L}", r"\p{N}{1,3}")],
        whole_words: true,
        add_begin: false,
    },
    Pre {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "hunyuan",
            "megrez",
            "solar-open",
        ],
        expressions: &[words!(r"\p{L}", r"\p{N}")],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["qwen35"],
        expressions: &[words!(r"\p{L}\p{M}", r"\p{N}")],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "exaone4",
            "gigachat",
            "a.x-4.0",
            "granite-docling",
        ],
        expressions: &[GPT2],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        expressions: &[r"\p{N}", GPT2],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["falcon"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["tekken"],
        expressions: &[concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        whole_words: true,
        add_begin: true,
    },
    Pre {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        expressions: &[
            r"\p{N}{1,3}",
            r"[一-龥぀-ゟ゠-ヿ]+",
            concat!(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
                r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            ),
        ],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["deepseek-coder"],
        expressions: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}",
        ],
        whole_words: false,
        add_begin: false,
    },
    Pre {
        names: &["default"],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        whole_words: false,
        add_begin: false,
    },
];

/// The pre-tokenizer called `name`.
pub(super) fn of_name(name: &str) -> Option<&'static Pre> {
    TABLE.iter().find(|pre| pre.names.contains(&name))
}

/// A pre-tokenizer with its expressions compiled.
pub(super) struct Splitter {
    expressions: Vec<Regex>,
    whole_words: bool,
}

impl Splitter {
    pub(super) fn new(pre: &Pre) -> Result<Splitter, DecodeError> {
        let compiled = pre
            .expressions
            .iter()
            .map(|expression| Regex::new(expression));
        Ok(Splitter {
            expressions: compiled.collect::<Result<_, _>>().map_err(failed)?,
            whole_words: pre.whole_words,
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

    #[test]
    fn names_are_known_once_and_expressions_compile() {
        let mut names: Vec<&str> = TABLE.iter().flat_map(|pre| pre.names).copied().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        for pre in TABLE {
            assert!(Splitter::new(pre).is_ok(), "{:?}", pre.names);
        }
    }

    #[test]
    fn words_keep_all_of_the_text() {
        let text = "I'LL pay 12345\u{a0}euros,  \n\n ok?! 日本 e\u{301}te ";
        for pre in TABLE {
            let words = Splitter::new(pre).and_then(|splitter| Ok(splitter.split(text)?.concat()));
            assert_eq!(words.ok().as_deref(), Some(text), "{:?}", pre.names);
        }
    }
}
