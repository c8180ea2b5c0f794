//! The table of pre-tokenizers. Sources: published `tokenizer.json` files; `llm_tokenizer_bpe` of llama.cpp's
//! `src/llama-vocab.cpp`.

use super::{PreTokenizer, Split, Start, UNKNOWN_SPLIT};

/// Words are always split by the merges, and no token is put before a text.
const MERGES: Option<Split> = Some(Split {
    whole_words: false,
    add_begin: false,
});
/// Words of the vocabulary stay whole, and a begin-of-text token is put before a text.
const WORDS_AND_BEGIN: Option<Split> = Some(Split {
    whole_words: true,
    add_begin: true,
});

/// GPT-2's own expression, which the step `ByteLevel` of `tokenizer.json` applies.
pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
/// Splits off each digit: the step `Digits`.
pub const DIGIT: &str = r"\p{N}";
/// Splits off punctuation: the step `Punctuation`.
pub const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
/// Splits off three digits at a time.
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// The expression of Llama 3 and its relatives, in this order: contractions, words of `$letter` with the character
/// before them, numbers as `$number` splits them, punctuation (neither `$letters` nor digits), line ends, blanks.
macro_rules! words {
    ($letter:literal, $letters:literal, $number:literal) => {
        concat!(
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
            r"|[^\r\n\p{L}\p{N}]?",
            $letter,
            "+|",
            $number,
            r"| ?[^\s",
            $letters,
            r"\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

/// Every known pre-tokenizer.
pub(super) const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
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
        expressions: &[words!(r"\p{L}", r"\p{L}", r"\p{N}{1,3}")],
        split: WORDS_AND_BEGIN,
        written: &[
            (Start::This("<|startoftext|>"), "lfm2"),
            (Start::Token, "llama-bpe"),
        ],
    },
    // Llama 3's expression without a begin-of-text token: SmolLM3, among others.
    PreTokenizer {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe"],
        expressions: &[words!(r"\p{L}", r"\p{L}", r"\p{N}{1,3}")],
        split: MERGES,
        written: &[(Start::Any, "smaug-bpe")],
    },
    PreTokenizer {
        names: &["glm4", "glm5"],
        expressions: &[words!(r"\p{L}", r"\p{L}", r"\p{N}{1,3}")],
        split: Some(Split {
            whole_words: true,
            add_begin: false,
        }),
        written: &[],
    },
    PreTokenizer {
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
        expressions: &[words!(r"\p{L}", r"\p{L}", r"\p{N}")],
        split: MERGES,
        written: &[
            (Start::This("<｜begin▁of▁sentence｜>"), "deepseek-r1-qwen"),
            (Start::Any, "qwen2"),
        ],
    },
    PreTokenizer {
        names: &["qwen35"],
        expressions: &[words!(r"[\p{L}\p{M}]", r"\p{L}\p{M}", r"\p{N}")],
        split: MERGES,
        written: &[(Start::Any, "qwen35")],
    },
    PreTokenizer {
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
            "roberta-bpe",
        ],
        expressions: &[GPT2],
        split: MERGES,
        written: &[(Start::Any, "gpt-2")],
    },
    PreTokenizer {
        names: &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
        ],
        expressions: &[DIGIT, GPT2],
        split: MERGES,
        written: &[(Start::Any, "smollm")],
    },
    PreTokenizer {
        names: &["falcon"],
        expressions: &[PUNCTUATION, GPT2, THREE_DIGITS],
        split: MERGES,
        written: &[(Start::Any, "falcon")],
    },
    PreTokenizer {
        names: &["tekken"],
        expressions: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        split: WORDS_AND_BEGIN,
        written: &[(Start::Any, "tekken")],
    },
    PreTokenizer {
        names: &["gpt-4o"],
        expressions: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        split: MERGES,
        written: &[(Start::Any, "gpt-4o")],
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        expressions: &[
            r"\p{N}{1,3}",
            "[一-龥぀-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
        split: MERGES,
        written: &[(Start::Any, "deepseek-v3")],
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        expressions: &[
            r"[\r\n]",
            r"\s?\p{L}+",
            r"\s?\p{P}+",
            "[一-龥ࠀ-一가-퟿]+",
            DIGIT,
        ],
        split: MERGES,
        written: &[(Start::Any, "deepseek-coder")],
    },
    PreTokenizer {
        names: &["bailingmoe"],
        expressions: &[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        split: None,
        written: &[(Start::Any, "bailingmoe")],
    },
    PreTokenizer {
        names: &["seed-coder"],
        expressions: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        split: None,
        written: &[(Start::Any, "seed-coder")],
    },
    PreTokenizer {
        names: &["exaone-moe"],
        expressions: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        split: None,
        written: &[(Start::Any, "exaone-moe")],
    },
    PreTokenizer {
        names: &["minicpm5"],
        expressions: &[
            r"\p{N}{1,3}",
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        split: None,
        written: &[(Start::Any, "minicpm5")],
    },
    PreTokenizer {
        names: &[UNKNOWN_SPLIT],
        expressions: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", THREE_DIGITS],
        split: MERGES,
        written: &[],
    },
];
