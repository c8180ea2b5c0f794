//! JSON as Python writes it, with `NaN`, `Infinity` and `-Infinity` for numbers that JSON lacks.
//!
//! In: text that is not valid JSON. Out: the same text with those words replaced by `null`. Must not: change the
//! contents of strings.

/// Words that Python's `json.dumps` writes for numbers that JSON lacks. The signed one is first, since it contains
/// another.
const WORDS: &[&str] = &["-Infinity", "Infinity", "NaN"];

/// `text` with each of [`WORDS`] outside of strings replaced by `null`; `None` if there is none.
///
/// A Nemotron-H configuration has `"time_step_limit": [0.0, Infinity]`.
pub(super) fn without_python_numbers(text: &str) -> Option<String> {
    let mut cleaned = String::with_capacity(text.len());
    let mut found = false;
    // Quotes start and end strings, except those that are escaped by a backslash within one.
    let mut in_string = false;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let word = WORDS
            .iter()
            .find(|word| !in_string && rest.starts_with(**word));
        let (replacement, length) = match (next, word) {
            (_, Some(word)) => {
                found = true;
                ("null", word.len())
            }
            ('\\', None) if in_string => {
                let escaped = rest.chars().nth(1).map_or(0, char::len_utf8);
                (rest.get(..1 + escaped).unwrap_or(rest), 1 + escaped)
            }
            (_, None) => {
                in_string ^= next == '"';
                (rest.get(..next.len_utf8()).unwrap_or(rest), next.len_utf8())
            }
        };
        cleaned.push_str(replacement);
        rest = rest.get(length..).unwrap_or("");
    }
    found.then_some(cleaned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_become_null_and_strings_stay() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(without_python_numbers(text).as_deref(), expected, "{text}");
        };
        check(
            r#"{"a": [0.0, Infinity], "b": -Infinity, "c": NaN}"#,
            Some(r#"{"a": [0.0, null], "b": null, "c": null}"#),
        );
        check(r#"{"a": "Infinity", "b": "\"NaN", "c": "\\"}"#, None);
        check(
            r#"{"NaN\\": NaN, "ü": "Infinity"}"#,
            Some(r#"{"NaN\\": null, "ü": "Infinity"}"#),
        );
        check(r#"["unterminated \"#, None);
        check("", None);
    }
}
