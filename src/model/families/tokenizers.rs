//! The tokenizers that models come with: the names that GGUF has for them, and the table of
//! pre-tokenizers, the expressions that cut a text into words before pairs are merged.
//!
//! Conversion tells a pre-tokenizer from the steps that `tokenizer.json` states, so a model with a
//! vocabulary of its own is recognised too; the decoder splits by it. Sources: published
//! `tokenizer.json` files; `llm_tokenizer_bpe` and the names beside it in llama.cpp's
//! `src/llama-vocab.cpp`.

/// `tokenizer.ggml.model` of pieces with scores.
pub const SENTENCEPIECE: &str = "llama";
/// `tokenizer.ggml.model` of byte-level BPE.
pub const BYTE_LEVEL: &str = "gpt2";
/// `tokenizer.ggml.model` of pieces that merges join.
pub(in crate::model) const MERGED_PIECES: &str = "gemma4";

/// What llama.cpp knows as `tokenizer.ggml.model`.
pub(in crate::model) const TOKENIZERS: &[&str] = &[
    "none",
    "no_vocab",
    SENTENCEPIECE,
    BYTE_LEVEL,
    "bert",
    "t5",
    "rwkv",
    "plamo2",
    MERGED_PIECES,
    "hybriddna",
    "whitespace",
    "test",
];

/// Those that join bytes by merges, and ask how texts are split before.
pub(in crate::model) const BYTE_PAIRS: &[&str] = &[BYTE_LEVEL, "hybriddna", "whitespace"];

/// `tokenizer.ggml.pre` of a tokenizer whose way of splitting has no other name. Runtimes load it
/// with a warning.
pub const UNKNOWN_SPLIT: &str = "default";

/// One way of splitting text into words.
#[derive(Debug)]
pub struct PreTokenizer {
    /// The names it has in `tokenizer.ggml.pre`: of tokenizers that differ in what they put before a
    /// text, or in nothing.
    pub names: &'static [&'static str],
    /// Each cuts what the one before has left whole.
    pub expressions: &'static [&'static str],
    /// How the decoder splits by it; `None` where it does not.
    pub split: Option<Split>,
    /// The name that conversion writes, by what a text starts with; the first that holds counts.
    /// Empty where `tokenizer.json` does not tell it from others.
    written: &'static [(Start, &'static str)],
}

/// What splitting needs to know beyond the expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// A word that is in the vocabulary is one token, whatever the merges make of it.
    pub whole_words: bool,
    /// Whether texts begin with a token of their own where the metadata does not say.
    pub add_begin: bool,
}

/// What a tokenizer puts before a text.
#[derive(Debug)]
enum Start {
    /// Anything or nothing.
    Any,
    /// A token.
    Token,
    /// This token.
    This(&'static str),
}

/// A way of splitting by merges alone.
const MERGES: Option<Split> = Some(Split {
    whole_words: false,
    add_begin: false,
});
/// Words of the vocabulary stay whole, and texts begin with a token.
const WORDS_AND_BEGIN: Option<Split> = Some(Split {
    whole_words: true,
    add_begin: true,
});

/// GPT-2's own expression, which the step `ByteLevel` of `tokenizer.json` applies.
pub const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
/// Each digit apart: the step `Digits`.
pub const DIGIT: &str = r"\p{N}";
/// Punctuation apart: the step `Punctuation`.
pub const PUNCTUATION: &str = r"[\p{P}\$\+<=>\^~\|`]+";
/// Three digits that nothing has cut yet.
const THREE_DIGITS: &str = "[0-9][0-9][0-9]";

/// The expression of Llama 3 and its kin: contractions, words with what stands before them, numbers
/// as `$number` has them, punctuation, line ends, blanks.
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

/// Every known way.
const PRE_TOKENIZERS: &[PreTokenizer] = &[
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
    // Llama 3's vocabulary without a begin of text: what SmolLM3 has too.
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
        split: None,
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

impl PreTokenizer {
    /// Every known one.
    pub fn all() -> impl Iterator<Item = &'static PreTokenizer> {
        PRE_TOKENIZERS.iter()
    }

    /// The pre-tokenizer that GGUF calls `name`.
    pub fn of_name(name: &str) -> Option<&'static PreTokenizer> {
        PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
    }

    /// The name to write for a tokenizer that cuts by these expressions, in order, and puts `start`
    /// before a text: `preferred` if that is a name of the same way.
    pub fn name(
        steps: &[String],
        start: Option<&str>,
        preferred: Option<&'static str>,
    ) -> &'static str {
        let holds = |(at, _): &&(Start, &str)| match at {
            Start::Any => true,
            Start::Token => start.is_some(),
            Start::This(token) => start == Some(token),
        };
        let written = |pre: &'static PreTokenizer| {
            let (_, name) = pre.written.iter().find(holds)?;
            let preferred = preferred.filter(|name| pre.names.contains(name));
            Some(preferred.unwrap_or(*name))
        };
        let alike = |pre: &&PreTokenizer| pre.expressions == steps;
        let mut known = PRE_TOKENIZERS.iter().filter(alike);
        known.find_map(written).unwrap_or(UNKNOWN_SPLIT)
    }
}

/// An expression of `tokenizer.json` in the spelling of the table: line ends escaped, contractions
/// spelled out in both cases.
pub fn normalized(expression: &str) -> String {
    let escaped = expression.replace('\r', r"\r").replace('\n', r"\n");
    escaped.replace(
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
    )
}

/// What llama.cpp knows as `tokenizer.ggml.pre`.
pub(in crate::model) const KNOWN_SPLITS: &[&str] = &[
    "",
    "a.x-4.0",
    "afmoe",
    "bailingmoe",
    "bailingmoe2",
    "bloom",
    "chameleon",
    "chatglm-bpe",
    "codeshell",
    "cohere2moe",
    "command-r",
    "dbrx",
    "deepseek-coder",
    "deepseek-llm",
    "deepseek-r1-qwen",
    "deepseek-v3",
    "default",
    "exaone",
    "exaone-moe",
    "exaone4",
    "f2llmv2",
    "falcon",
    "falcon-h1",
    "falcon3",
    "gemma4",
    "gigachat",
    "glm4",
    "glm5",
    "gpt-2",
    "gpt-4o",
    "gpt3-finnish",
    "granite-docling",
    "granite-embed-multi-311m",
    "granite-embed-multi-97m",
    "grok-2",
    "hunyuan",
    "hunyuan-dense",
    "hy_v4",
    "jais",
    "jais-2",
    "jina-de",
    "jina-es",
    "jina-v1-en",
    "jina-v2-code",
    "jina-v2-de",
    "jina-v2-es",
    "jina-v5-nano",
    "joyai-llm",
    "kanana2",
    "kimi-k2",
    "kormo",
    "laguna",
    "lfm2",
    "llada-moe",
    "llama-bpe",
    "llama-v3",
    "llama3",
    "llama4",
    "megrez",
    "mellum",
    "mellum2",
    "midm-2.0",
    "minerva-7b",
    "minicpm5",
    "minimax-m2",
    "mmbert",
    "modern-bert",
    "mpt",
    "olmo",
    "phi-2",
    "pixtral",
    "poro-chat",
    "qwen2",
    "qwen35",
    "refact",
    "roberta-bpe",
    "sarvam-moe",
    "seed-coder",
    "smaug-bpe",
    "smollm",
    "solar-open",
    "spark2_5",
    "stablelm2",
    "starcoder",
    "superbpe",
    "talkie",
    "tekken",
    "tiny_aya",
    "trillion",
    "ufakzeka",
    "viking",
    "whitespace",
    "youtu",
];
