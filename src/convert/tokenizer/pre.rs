//! `tokenizer.ggml.pre`: how a byte-level tokenizer splits text into words, by llama.cpp's name, told
//! from the steps that `tokenizer.json` states.

use super::json::{Pattern, Piece, PreTokenizer, TokenizerJson};
use crate::model::tokenizers::{self, DIGIT, GPT2, PUNCTUATION, normalized};

/// llama.cpp's name of the way a byte-level tokenizer splits; `preferred` where that is a name of it,
/// [`tokenizers::UNKNOWN_SPLIT`] where it has none.
pub(super) fn name(json: &TokenizerJson, preferred: Option<&'static str>) -> &'static str {
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
    tokenizers::PreTokenizer::name(&steps, start, preferred)
}

/// The expression that a step splits at; `None` if it splits nothing.
fn step<Inner>(step: &PreTokenizer<Inner>) -> Option<String> {
    Some(match (step.kind.as_deref(), &step.pattern) {
        (Some("ByteLevel"), _) if step.use_regex == Some(false) => return None,
        (Some("ByteLevel"), _) => GPT2.to_owned(),
        (Some("Digits"), _) if step.individual_digits == Some(true) => DIGIT.to_owned(),
        (Some("Punctuation"), _) => PUNCTUATION.to_owned(),
        (Some("Split"), Some(Pattern::Regex(pattern))) => normalized(pattern),
        (Some("Split"), Some(Pattern::String(text))) => format!("the string {text}"),
        (kind, _) => kind.unwrap_or_default().to_owned(),
    })
}

/// The token that a template starts with.
fn start(template: &[Piece]) -> Option<&str> {
    template.first()?.special()
}
