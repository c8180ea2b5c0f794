//! The prompt: the user's text, or words that make about a given number of tokens.
//!
//! Each repeat begins with another word, so that no server answers from its prefix cache.

/// The prompt of a measurement.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// The user's text.
    Text(String),
    /// Plain English words that make about this number of tokens.
    Words(u64),
}

/// Common words. With a space before it each is one token in the tokenizers of GPT-2, Llama 2 and 3, Qwen and Gemma.
const WORDS: [&str; 32] = [
    "the", "old", "house", "stood", "near", "water", "and", "every", "day", "people", "came",
    "from", "town", "with", "food", "for", "those", "who", "lived", "there", "while", "light",
    "fell", "over", "open", "land", "but", "no", "one", "said", "much", "about",
];

impl Prompt {
    /// About how many tokens it has; a text about one for four bytes.
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
                    // Each repeat starts at another word, and no short sequence repeats.
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
