//! `tokenizer.ggml.pre`: how a byte-level tokenizer splits text into words, by llama.cpp's name.
//!
//! It is told from the splitting steps that `tokenizer.json` states, so a model with an own
//! vocabulary is recognised too. Patterns: published `tokenizer.json` files and the comments beside
//! `llm_tokenizer_bpe` in `src/llama-vocab.cpp`. A pattern that is not here is `default`, which
//! runtimes load with a warning.

use super::json::{Pattern, Piece, PreTokenizer, TokenizerJson};

/// One way of splitting.
struct Known {
    /// The steps in order. Steps that split nothing are left out.
    steps: &'static [&'static str],
    /// What tells it from others with the same steps.
    when: When,
    name: &'static str,
}

/// Tokenizers that split alike have several names in llama.cpp, by what they put before a text.
enum When {
    Always,
    /// The template starts with a token.
    Starts,
    /// The template starts with this token.
    StartsWith(&'static str),
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const HAN_AND_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const HAN_AND_HANGUL: &str = "[一-龥ࠀ-一가-퟿]+";

/// GPT-2's own pattern, which `ByteLevel` applies.
const GPT2: &str = "ByteLevel";
/// Each digit apart.
const DIGIT: &str = r"\p{N}";

const KNOWN: &[Known] = &[
    known(&[LLAMA3], When::StartsWith("<|startoftext|>"), "lfm2"),
    known(&[LLAMA3], When::Starts, "llama-bpe"),
    // Llama 3's vocabulary without a begin of text: what SmolLM3 has too.
    known(&[LLAMA3], When::Always, "smaug-bpe"),
    known(
        &[QWEN2],
        When::StartsWith("<｜begin▁of▁sentence｜>"),
        "deepseek-r1-qwen",
    ),
    known(&[QWEN2], When::Always, "qwen2"),
    known(&[QWEN35], When::Always, "qwen35"),
    known(&[DIGIT, GPT2], When::Always, "smollm"),
    known(&[GPT2], When::Always, "gpt-2"),
    known(&[TEKKEN], When::Always, "tekken"),
    known(&[GPT4O], When::Always, "gpt-4o"),
    known(
        &[r"\p{N}{1,3}", HAN_AND_KANA, DEEPSEEK3],
        When::Always,
        "deepseek-v3",
    ),
    known(
        &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_AND_HANGUL, DIGIT],
        When::Always,
        "deepseek-coder",
    ),
    known(
        &["Punctuation", GPT2, "[0-9][0-9][0-9]"],
        When::Always,
        "falcon",
    ),
    known(&[BAILING], When::Always, "bailingmoe"),
    known(&[SEED], When::Always, "seed-coder"),
    known(&[EXAONE_MOE], When::Always, "exaone-moe"),
    known(&[r"\p{N}{1,3}", MINICPM5], When::Always, "minicpm5"),
];

const fn known(steps: &'static [&'static str], when: When, name: &'static str) -> Known {
    Known { steps, when, name }
}

/// llama.cpp's name of the way a byte-level tokenizer splits; `default` for one it has no name for.
pub(super) fn name(json: &TokenizerJson) -> &'static str {
    let steps: Vec<String> = match &json.pre_tokenizer {
        Some(all) if all.kind.as_deref() == Some("Sequence") => {
            all.pretokenizers.iter().filter_map(step).collect()
        }
        single => single.iter().filter_map(step).collect(),
    };
    let start = json.post_processor.as_ref().and_then(|all| {
        let inner = all.processors.iter().find_map(|one| start(&one.single));
        start(&all.single).or(inner)
    });
    let is = |known: &&Known| {
        known.steps == steps
            && match known.when {
                When::Always => true,
                When::Starts => start.is_some(),
                When::StartsWith(token) => start == Some(token),
            }
    };
    KNOWN.iter().find(is).map_or("default", |known| known.name)
}

/// What a step splits at; `None` if it splits nothing.
fn step<Inner>(step: &PreTokenizer<Inner>) -> Option<String> {
    Some(match (step.kind.as_deref(), &step.pattern) {
        (Some("ByteLevel"), _) if step.use_regex == Some(false) => return None,
        (Some("Digits"), _) if step.individual_digits == Some(true) => DIGIT.to_owned(),
        (Some("Split"), Some(Pattern::Regex(pattern))) => normalized(pattern),
        (Some("Split"), Some(Pattern::String(text))) => format!("the string {text}"),
        (kind, _) => kind.unwrap_or_default().to_owned(),
    })
}

/// One spelling for a pattern: line ends escaped, contractions with a flag.
fn normalized(pattern: &str) -> String {
    pattern.replace('\r', r"\r").replace('\n', r"\n").replace(
        "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)",
    )
}

/// The token that a template starts with.
fn start(template: &[Piece]) -> Option<&str> {
    template.first()?.special()
}
