//! Softmax attention of some tokens over a cache: grouped queries read each key and value once.
//!
//! In: queries `[tokens, heads, key width]`, rotated, whose keys and values are cached already.
//! Out: `[tokens, heads, value width]`.

use std::ops::Range;

use super::super::activations::{ScoreTransform, Window};
use super::cache::Cells;
use super::kernels::{add_rows, dots};
use super::ops::{softcap, softmax, softmax_beside};
use super::parallel::{chunk_size, parallel_chunks};
use super::prompt_attention::{self, Run};

/// The positions that tokens attend to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visible {
    /// The tokens that a token attends to; `None` is all.
    pub(super) window: Option<Window>,
    /// The end of the text, where a token attends to those behind it too; half of the window lies on each side of it then.
    pub(super) end: Option<usize>,
}

impl Visible {
    /// The positions that the token at `position` attends to.
    fn of(self, position: usize) -> Range<usize> {
        match (self.end, self.window) {
            (None, None) => 0..position + 1,
            (None, Some(window)) => window.start(position)..position + 1,
            (Some(end), None) => 0..end,
            (Some(end), Some(window)) => {
                let side = window.tokens / 2;
                position.saturating_sub(side)..(position + side + 1).min(end)
            }
        }
    }
}

/// Cells read at a time: what they take in F32 stays in the first cache.
const CELLS: usize = 32;
/// Tokens of a long pass, and how many of them read a cell together.
const LONG: usize = 8;
const TOGETHER: usize = 32;
/// Scores that a thread holds at a time.
const SCORES: usize = 1 << 18;

/// Attention of tokens behind `position` others.
pub(super) fn attention(
    queries: &[f32],
    heads: usize,
    [keys, values]: [&Cells; 2],
    (position, visible): (usize, Visible),
    scores: ScoreTransform<'_>,
) -> Vec<f32> {
    let (kv_heads, width) = (keys.heads.max(1), keys.width);
    let group = (heads / kv_heads).max(1);
    let tokens = queries.len() / (heads * width).max(1);
    let mut out = vec![0.0; tokens * heads * values.width];
    // A few tokens are shared out by heads; many by tokens, which then read a cell together.
    let most = chunk_size(tokens, 4, LONG).min(TOGETHER);
    let together = (SCORES / (group * (position + tokens))).clamp(1, most);
    let (block, own_heads) = if tokens > LONG {
        (together, kv_heads)
    } else {
        (1, 1)
    };
    let row = own_heads * group;
    parallel_chunks(&mut out, block * row * values.width, |chunk, out| {
        let shares = kv_heads / own_heads;
        let (first, head) = (chunk / shares * block, chunk % shares * own_heads);
        let some = out.len() / (row * values.width).max(1);
        for own in 0..own_heads {
            let query_group = QueryGroup {
                position: position + first,
                tokens: some,
                head: head + own,
                group,
                visible,
            };
            let start = ((first * heads) + query_group.head * group) * width;
            let queries = queries.get(start..).unwrap_or_default();
            let queries = queries.chunks(heads * width).take(some);
            let out = out.chunks_mut(row * values.width).map(|token| {
                let end = (own + 1) * group * values.width;
                token
                    .get_mut(own * group * values.width..end)
                    .unwrap_or_default()
            });
            query_group.attention(queries.zip(out), [keys, values], scores);
        }
    });
    out
}

/// The queries of neighbouring tokens that share a key-value head.
struct QueryGroup {
    /// Of the first token.
    position: usize,
    tokens: usize,
    head: usize,
    /// Queries of a token.
    group: usize,
    visible: Visible,
}

impl QueryGroup {
    /// `each` has the queries of a token, from the first of the group on, and the place of its values.
    fn attention<'q>(
        &self,
        each: impl Iterator<Item = (&'q [f32], &'q mut [f32])>,
        [keys, values]: [&Cells; 2],
        scores: ScoreTransform<'_>,
    ) {
        let width = keys.width.max(1);
        let mut each: Vec<(&[f32], &mut [f32])> = each
            .flat_map(|(queries, out)| {
                let queries = queries.chunks_exact(width).take(self.group);
                queries.zip(out.chunks_exact_mut(values.width.max(1)))
            })
            .collect();
        let start = self.visible.of(self.position).start;
        let last = (self.position + self.tokens).saturating_sub(1);
        let end = self.visible.of(last).end;
        let count = end - start;
        let many = each.len() > LONG;
        let runs = |cells: &Cells| {
            let longest = if many { prompt_attention::CELLS } else { CELLS };
            runs(start..end, cells.cells, longest)
        };
        let mut weights = vec![0.0; each.len() * count];
        let mut cells = vec![0.0; CELLS * keys.width.max(values.width)];
        if many {
            let queries = each.iter().flat_map(|(query, _)| query.iter());
            let queries: Vec<f32> = queries.map(|x| x * scores.scale).collect();
            prompt_attention::scores(&queries, keys, self.head, runs(keys), count, &mut weights);
        } else {
            for (at, len, cell) in runs(keys) {
                let some = cells.get_mut(..len * keys.width).unwrap_or_default();
                keys.read(self.head, cell, some);
                for ((query, _), weights) in each.iter().zip(weights.chunks_exact_mut(count)) {
                    let weights = weights.get_mut(at..at + len).unwrap_or_default();
                    dots(query, some, scores.scale, weights);
                }
            }
        }
        for (index, weights) in weights.chunks_exact_mut(count).enumerate() {
            let token = index / self.group;
            let seen = self.visible.of(self.position + token);
            let (unseen, weights) = weights.split_at_mut(seen.start - start);
            let (weights, later) = weights.split_at_mut(seen.len());
            unseen.fill(0.0);
            later.fill(0.0);
            if let Some(cap) = scores.cap {
                softcap(weights, cap);
            }
            let head = self.head * self.group + index % self.group;
            if let Some(&slope) = scores.slopes.and_then(|slopes| slopes.get(head)) {
                let distances = (0..weights.len()).rev();
                let pairs = weights.iter_mut().zip(distances);
                pairs.for_each(|(weight, distance)| *weight -= slope * distance as f32);
            }
            match scores.sinks.and_then(|sinks| sinks.get(head)) {
                Some(&sink) => softmax_beside(weights, sink),
                None => softmax(weights),
            }
        }
        if many {
            let rows = prompt_attention::values(&weights, values, self.head, runs(values), count);
            let rows = rows.chunks_exact(values.width.max(1));
            let pairs = each.iter_mut().zip(rows);
            pairs.for_each(|((_, out), row)| out.copy_from_slice(row));
        } else {
            for (at, len, cell) in runs(values) {
                let some = cells.get_mut(..len * values.width).unwrap_or_default();
                values.read(self.head, cell, some);
                for ((_, out), weights) in each.iter_mut().zip(weights.chunks_exact(count)) {
                    add_rows(out, weights.get(at..at + len).unwrap_or_default(), some);
                }
            }
        }
    }
}

/// Positions as runs of at most `longest` cells.
fn runs(visible: Range<usize>, cells: usize, longest: usize) -> impl Iterator<Item = Run> {
    let cells = cells.max(1);
    let first = visible.start;
    let mut next = first;
    std::iter::from_fn(move || {
        if next >= visible.end {
            return None;
        }
        let cell = next % cells;
        let len = longest.min(visible.end - next).min(cells - cell);
        let run = (next - first, len, cell);
        next += len;
        Some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;

    /// What tokens attend to: those before them, of a whole text those around them.
    #[test]
    fn windows_lie_before_a_token_or_around_it() {
        for (window, end, position, expected) in [
            (None, None, 3, 0..4),
            (Some(3), None, 3, 1..4),
            (Some(9), None, 3, 0..4),
            (None, Some(8), 3, 0..8),
            // As llama.cpp has it: half of the window, rounded down, on each side.
            (Some(4), Some(8), 3, 1..6),
            (Some(5), Some(8), 3, 1..6),
            (Some(4), Some(8), 7, 5..8),
            (Some(4), Some(8), 0, 0..3),
        ] {
            let past = window.map(|tokens| Window {
                tokens,
                is_chunk: false,
            });
            let found = Visible { window: past, end }.of(position);
            assert_eq!(found, expected, "{window:?} {end:?} {position}");
        }
    }

    /// Many tokens at once see what each of them sees alone, however heads and tokens are shared out.
    #[test]
    fn tokens_together_are_tokens_one_by_one() {
        let (group, width, before, tokens) = (2, 8, 5, 21);
        let text = Some(before + tokens);
        for kv_heads in [1, 2, 3] {
            let slopes = [0.5, 0.25, 0.125, 0.0625, 0.7, 0.35];
            let window = |is_chunk| {
                Some(Window {
                    tokens: 4,
                    is_chunk,
                })
            };
            for (window, end) in [
                (None, None),
                (window(false), None),
                (window(true), None),
                (None, text),
                (window(false), text),
            ] {
                let heads = group * kv_heads;
                let wave = |count: usize, step: f32| -> Vec<f32> {
                    (0..count).map(|i| (i as f32 * step).sin()).collect()
                };
                let rows = |step: f32| {
                    let cells = before + tokens;
                    let mut rows = Cells::new(Dtype::F16, [kv_heads, cells, width]).unwrap();
                    rows.write(0, &wave(cells * kv_heads * width, step))
                        .unwrap();
                    rows
                };
                let (keys, values) = (rows(0.7), rows(0.3));
                let queries = wave(tokens * heads * width, 0.9);
                let scores = ScoreTransform {
                    scale: 0.5,
                    cap: None,
                    sinks: None,
                    slopes: slopes.get(..heads).filter(|_| end.is_none()),
                };
                let visible = |position| (position, Visible { window, end });
                let cells = [&keys, &values];
                let together = attention(&queries, heads, cells, visible(before), scores);
                let each = queries.chunks(heads * width).enumerate();
                let apart: Vec<f32> = each
                    .flat_map(|(token, query)| {
                        attention(query, heads, cells, visible(before + token), scores)
                    })
                    .collect();
                for (a, b) in together.iter().zip(&apart) {
                    assert!(
                        (a - b).abs() < 1e-5,
                        "{kv_heads} heads, {window:?}, {end:?}: {a} {b}"
                    );
                }
            }
        }
    }
}
