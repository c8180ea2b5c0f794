//! Byte-pair merging: neighbours are joined, the best pair first, until no pair is known.
//!
//! In: a text, and the rank of joining two neighbouring pieces. Out: the pieces. Takes
//! `n log n` steps on any text.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

/// A pair of neighbours that can be joined: its rank, where it begins, where it is cut and where
/// it ends. The order of the fields is that of merging: the lowest rank first, then the leftmost.
type Pair = (i64, usize, usize, usize);

/// The pieces of `text`, first one for each character, then joined by `rank`, lowest first.
pub(super) fn pieces(text: &str, rank: impl Fn(&str, &str) -> Option<i64>) -> Vec<&str> {
    // `ends[a] = b` and `starts[b] = a` for a piece `a..b`; 0 for none.
    let mut ends = vec![0; text.len() + 1];
    let mut starts = vec![0; text.len() + 1];
    for (start, c) in text.char_indices() {
        ends[start] = start + c.len_utf8();
        starts[start + c.len_utf8()] = start;
    }
    let part = |range: Range<usize>| text.get(range).unwrap_or_default();
    let pair = |a: usize, b: usize, c: usize| -> Option<Reverse<Pair>> {
        let known = a < b && b < c;
        let rank = known.then(|| rank(part(a..b), part(b..c))).flatten()?;
        Some(Reverse((rank, a, b, c)))
    };
    let mut open: BinaryHeap<Reverse<Pair>> = text
        .char_indices()
        .filter_map(|(start, _)| pair(start, ends[start], ends[ends[start]]))
        .collect();
    while let Some(Reverse((_, a, b, c))) = open.pop() {
        // One of the two may have been joined with another since.
        if ends[a] != b || ends[b] != c {
            continue;
        }
        (ends[a], ends[b], starts[c]) = (c, 0, a);
        open.extend(pair(a, c, ends[c]));
        if a > 0 {
            open.extend(pair(starts[a], a, c));
        }
    }
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        pieces.push(part(start..ends[start]));
        start = ends[start];
    }
    pieces
}

/// A rank for scores of which the highest is joined first.
pub(super) fn highest_first(score: f32) -> i64 {
    let bits = i64::from(score.to_bits() as i32);
    let ordered = if bits < 0 {
        i64::from(i32::MIN) - bits
    } else {
        bits
    };
    -ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_pair_is_joined_first_and_then_the_leftmost() {
        let rank = |left: &str, right: &str| match format!("{left}{right}").as_str() {
            "bc" => Some(0),
            "ab" => Some(1),
            "bca" => Some(2),
            _ => None,
        };
        assert_eq!(pieces("abcab", rank), ["a", "bca", "b"]);
        assert_eq!(pieces("abab", rank), ["ab", "ab"]);
        assert_eq!(pieces("", rank), [""; 0]);
        assert_eq!(pieces("日b", rank), ["日", "b"]);
    }

    #[test]
    fn scores_keep_their_order() {
        let mut scores = [0.5, -3.0, -1e9, 7.0, 0.0, -0.25];
        scores.sort_by_key(|&score| highest_first(score));
        assert_eq!(scores, [7.0, 0.5, 0.0, -0.25, -3.0, -1e9]);
    }
}
