//! `tokenizer.ggml.pre`: llama.cpp's name of a byte-level tokenizer's pre-tokenizer, recognised by the steps in
//! `tokenizer.json`.

use super::json::{Normalizer, Pattern, PreTokenizerStep, TemplatePiece, TokenizerJson};
use crate::model::tokenizers::{self, DIGIT, GPT2, PUNCTUATION, normalized};

/// llama.cpp's name of the pre-tokenizer: `preferred` if that is one of its names,
/// [`tokenizers::UNKNOWN_SPLIT`] if it has none, or if text is changed before it is split, which llama.cpp does not do.
pub(super) fn name(json: &TokenizerJson, preferred: Option<&'static str>) -> &'static str {
    if json.normalizer.as_ref().is_some_and(changes_text) {
        return tokenizers::UNKNOWN_SPLIT;
    }
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

/// Whether a normalizer does more than compose characters, which text nearly always is already.
fn changes_text(normalizer: &Normalizer<Normalizer>) -> bool {
    let changes = |kind: Option<&str>| !matches!(kind, Some("NFC"));
    match normalizer.kind.as_deref() {
        Some("Sequence") => {
            let mut steps = normalizer.normalizers.iter();
            steps.any(|step| changes(step.kind.as_deref()))
        }
        kind => changes(kind),
    }
}

/// The regular expression of a step; `None` if it does not split.
fn step<Inner>(step: &PreTokenizerStep<Inner>) -> Option<String> {
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
fn start(template: &[TemplatePiece]) -> Option<&str> {
    template.first()?.special()
}
