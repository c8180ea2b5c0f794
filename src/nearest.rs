//! The names nearest to a mistyped one.

/// Up to `most` of `names`, nearest first; names that differ in more than a third of their letters are left out.
///
/// The distance is the number of edits without regard to case, a swap of neighbouring letters being one edit. A name
/// that contains the other is near too, and one that starts with `wanted` is nearest. Names at the same distance keep
/// the order of `names`. Only the first 100 characters are compared.
pub fn nearest<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str>,
    most: usize,
) -> Vec<&'a str> {
    let fold = |name: &str| -> Vec<char> { name.to_lowercase().chars().take(100).collect() };
    let wanted = fold(wanted);
    let contains =
        |a: &[char], b: &[char]| b.len() >= 3 && a.windows(b.len()).any(|part| part == b);
    let mut ranked: Vec<(usize, &str)> = names
        .into_iter()
        .filter_map(|name| {
            let folded = fold(name);
            let distance = edit_distance(&wanted, &folded);
            let near = distance <= wanted.len().max(folded.len()) / 3;
            let rank = if wanted.len() >= 3 && folded.starts_with(&wanted) {
                0
            } else {
                distance
            };
            (near || contains(&folded, &wanted) || contains(&wanted, &folded))
                .then_some((rank, name))
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    let mut names: Vec<&str> = Vec::new();
    for (_, name) in ranked {
        if names.len() < most && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// ` (did you mean X?)` with the nearest of `names`, or an empty text: the end of an error message.
pub fn hint<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let near = nearest(wanted, names, 1);
    near.first()
        .map(|name| format!(" (did you mean `{name}`?)"))
        .unwrap_or_default()
}

/// The number of letters to insert, remove, replace or swap with their neighbour: the optimal string alignment distance.
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j + 1] + 1)
                .min(row[j] + 1)
                .min(above[j] + usize::from(x != y));
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        (before, above) = (above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshtein_with_swaps() {
        let distance = |a: &str, b: &str| {
            edit_distance(
                &a.chars().collect::<Vec<_>>(),
                &b.chars().collect::<Vec<_>>(),
            )
        };
        for (a, b, expected) in [
            ("kitten", "sitting", 3),
            ("", "abc", 3),
            ("abc", "", 3),
            ("flaw", "lawn", 2),
            ("fti", "fit", 1),
            ("ca", "ac", 1),
            ("abcd", "badc", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn near_names_come_nearest_first() {
        let names = [
            "Qwen/Qwen3-0.6B",
            "Qwen/Qwen3-4B",
            "meta-llama/Llama-3.1-8B",
            "qwen3:0.6b",
        ];
        assert_eq!(
            nearest("Qwen/Qwen3-0.6", names, 2),
            ["Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B"]
        );
        assert_eq!(nearest("qwen3:06b", names, 1), ["qwen3:0.6b"]);
        assert!(nearest("mistral", names, 3).is_empty());
        assert_eq!(nearest("ab", ["abd", "abc", "abd"], 3), ["abd", "abc"]);
        assert_eq!(nearest("orin", ["orin-b", "orin-a"], 1), ["orin-b"]);
    }
}
