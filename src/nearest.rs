//! The known word closest to a misspelt one, for error messages.

/// The candidate closest to `word` by edit distance, if it is closer than half the word's length.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    let scored = candidates.into_iter().map(|c| (distance(&word, &c.to_ascii_lowercase()), c));
    let (best, candidate) = scored.min_by_key(|(d, _)| *d)?;
    (best * 2 <= word.chars().count().max(2)).then_some(candidate)
}

/// Levenshtein distance, over the first 64 characters of each word.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_the_close_and_ignores_the_far() {
        let words = ["orin-nano-8gb", "orin-nano-4gb", "agx-orin-64gb"];
        assert_eq!(nearest("orin-nano-8g", words), Some("orin-nano-8gb"));
        assert_eq!(nearest("Orin-Nano-4GB", words), Some("orin-nano-4gb"));
        assert_eq!(nearest("raspberry", words), None);
        assert_eq!(nearest("", words), None);
    }
}
