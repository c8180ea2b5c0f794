//! The prompt: what the user gave, or words that come to about so many tokens.
//!
//! Each repeat begins with another word, so that no server answers from its cache of prefixes.

/// What the model is asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// The user's text.
    Text(String),
    /// Plain English of about so many tokens.
    Words(u64),
}

/// Common words, each a token of its own with a blank before it in every tokenizer looked at (GPT-2,
/// Llama 2 and 3, Qwen, Gemma).
const WORDS: [&str; 32] = [
    "the", "old", "house", "stood", "near", "water", "and", "every", "day", "people", "came",
    "from", "town", "with", "food", "for", "those", "who", "lived", "there", "while", "light",
    "fell", "over", "open", "land", "but", "no", "one", "said", "much", "about",
];

impl Prompt {
    /// About how many tokens it has: of text, one in four bytes.
    pub fn tokens(&self) -> u64 {
        match self {
            Prompt::Text(text) => text.len().div_ceil(4) as u64,
            Prompt::Words(count) => *count,
        }
    }

    /// The text of repeat `index`. The user's own is the same every time.
    pub fn text(&self, index: usize) -> String {
        match self {
            Prompt::Text(text) => text.clone(),
            Prompt::Words(count) => {
                let word = |position: usize| {
                    // A different start a repeat, and no short period.
                    let step = position * 7 + position / WORDS.len() * 3 + index * 5;
                    WORDS[step % WORDS.len()]
                };
                let count = usize::try_from(*count)
                    .unwrap_or(usize::MAX)
                    .clamp(1, 1 << 22);
                (0..count).map(word).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_share_no_first_word() {
        let prompt = Prompt::Words(100);
        let texts: Vec<String> = (0..6).map(|index| prompt.text(index)).collect();
        let mut first: Vec<&str> = texts
            .iter()
            .filter_map(|text| text.split(' ').next())
            .collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first.len(), 6);
        assert!(texts.iter().all(|text| text.split(' ').count() == 100));
        assert_eq!(Prompt::Text("Hi".to_owned()).text(3), "Hi");
    }
}
