//! Softmax attention of some tokens over a cache: grouped queries read each key and value once.
//!
//! In: queries `[tokens, heads, key width]`, rotated, whose keys and values are cached already.
//! Out: `[tokens, heads, value width]`.

use std::ops::Range;

use super::super::activations::{ScoreTransform, Window};
use super::cache::Cells;
use super::kernels::{add_rows, dots};
use super::ops::softcap;
use super::parallel::{chunk_size, parallel_chunks};
use super::partial::Partial;
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
/// Tokens of a long pass, and queries from which on tiles pay.
const LONG: usize = 8;
/// Queries that read a cell together in a long pass: with their values and their scores of a run of cells they stay in
/// the second cache.
const TOGETHER: usize = 256;
/// Multiply-adds of a piece of work in a short pass, at least, and pieces that a head's positions make, at most.
const WORK: usize = 1 << 16;
const PIECES: usize = 16;

/// Attention of tokens behind `position` others.
pub(super) fn attention(
    queries: &[f32],
    heads: usize,
    cells: [&Cells; 2],
    (position, visible): (usize, Visible),
    scores: ScoreTransform<'_>,
) -> Vec<f32> {
    let [keys, values] = cells;
    let (kv_heads, width) = (keys.heads.max(1), keys.width);
    let group = (heads / kv_heads).max(1);
    let tokens = queries.len() / (heads * width).max(1);
    let query_group = |token: usize, tokens: usize, head: usize| {
        let rows = queries.chunks(heads * width).skip(token).take(tokens);
        let own = head * group * width..(head + 1) * group * width;
        let own = rows.flat_map(|row| row.get(own.clone()).unwrap_or_default());
        QueryGroup {
            queries: own.map(|x| x * scores.scale).collect(),
            position: position + token,
            tokens,
            head,
            group,
            visible,
            scores,
        }
    };
    let mut out = vec![0.0; tokens * heads * values.width];
    if tokens > LONG {
        long(&mut out, tokens, cells, group, query_group);
    } else {
        let each = (0..tokens * kv_heads).map(|at| query_group(at / kv_heads, 1, at % kv_heads));
        short(&mut out, &each.collect::<Vec<_>>(), cells);
    }
    out
}

/// Many tokens are shared out by tokens, which read a cell together.
fn long<'a>(
    out: &mut [f32],
    tokens: usize,
    cells: [&Cells; 2],
    group: usize,
    query_group: impl Fn(usize, usize, usize) -> QueryGroup<'a> + Sync,
) {
    let [keys, values] = cells;
    let (kv_heads, own) = (keys.heads.max(1), group * values.width);
    let together = chunk_size(tokens, 4, LONG).min((TOGETHER / group).max(1));
    parallel_chunks(out, together * kv_heads * own, |chunk, out| {
        let some = out.len() / (kv_heads * own).max(1);
        for head in 0..kv_heads {
            let query_group = query_group(chunk * together, some, head);
            let whole = query_group.partial(query_group.positions(), cells);
            let out = out.chunks_mut(own.max(1)).skip(head).step_by(kv_heads);
            query_group.finish(&whole, out);
        }
    });
}

/// A few tokens are shared out by heads and positions, so that one head too occupies all threads. `groups` has those of
/// each token, side by side.
fn short(out: &mut [f32], groups: &[QueryGroup<'_>], cells: [&Cells; 2]) {
    let mut parts: Vec<(usize, Range<usize>, Partial)> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let Range { start, end } = group.positions();
        let pieces = ((end - start) * group.queries.len() / WORK).clamp(1, PIECES);
        let size = (end - start).div_ceil(pieces).max(1);
        let starts = (start..end).step_by(size);
        parts.extend(starts.map(|at| (index, at..end.min(at + size), Partial::default())));
    }
    parallel_chunks(&mut parts, 1, |_, parts| {
        for (index, positions, partial) in parts {
            if let Some(group) = groups.get(*index) {
                *partial = group.partial(positions.clone(), cells);
            }
        }
    });
    let own = (out.len() / groups.len().max(1)).max(1);
    let each = parts.chunk_by(|a, b| a.0 == b.0).zip(groups);
    for ((parts, group), out) in each.zip(out.chunks_mut(own)) {
        let mut whole = Partial::default();
        parts.iter().for_each(|(_, _, part)| whole.join(part));
        group.finish(&whole, std::iter::once(out));
    }
}

/// The queries of neighbouring tokens that share a key-value head.
struct QueryGroup<'a> {
    /// Scaled, those of a token side by side.
    queries: Vec<f32>,
    /// Of the first token.
    position: usize,
    tokens: usize,
    head: usize,
    /// Queries of a token.
    group: usize,
    visible: Visible,
    scores: ScoreTransform<'a>,
}

impl QueryGroup<'_> {
    /// The positions that any of them sees.
    fn positions(&self) -> Range<usize> {
        let last = (self.position + self.tokens).saturating_sub(1);
        self.visible.of(self.position).start..self.visible.of(last).end
    }

    /// What they get from some of their positions.
    fn partial(&self, positions: Range<usize>, cells: [&Cells; 2]) -> Partial {
        let [keys, values] = cells;
        let (start, count) = (positions.start, positions.len());
        let width = keys.width.max(1);
        let queries = self.queries.len() / width;
        if queries > LONG {
            let runs = runs(positions, keys.cells, prompt_attention::CELLS);
            return prompt_attention::partial(
                &self.queries,
                cells,
                self.head,
                runs,
                |query, at, row| self.seen(query, start + at, row),
            );
        }
        let mut partial = Partial::new(queries, values.width);
        let mut weights = vec![0.0; queries * count];
        let mut some = vec![0.0; CELLS * width.max(values.width)];
        for (at, len, cell) in runs(positions.clone(), keys.cells, CELLS) {
            let some = some.get_mut(..len * width).unwrap_or_default();
            keys.read(self.head, cell, some);
            let each = self.queries.chunks_exact(width);
            for (query, weights) in each.zip(weights.chunks_exact_mut(count)) {
                let weights = weights.get_mut(at..at + len).unwrap_or_default();
                dots(query, some, 1.0, weights);
            }
        }
        let rows = weights.chunks_exact_mut(count).enumerate();
        for ((query, row), (softmax, _)) in rows.zip(partial.each_mut()) {
            softmax.weigh(self.seen(query, start, row));
        }
        for (at, len, cell) in runs(positions, values.cells, CELLS) {
            let some = some.get_mut(..len * values.width).unwrap_or_default();
            values.read(self.head, cell, some);
            for ((_, out), weights) in partial.each_mut().zip(weights.chunks_exact(count)) {
                add_rows(out, weights.get(at..at + len).unwrap_or_default(), some);
            }
        }
        partial
    }

    /// Of `row`, the scores of a query with the positions from `first` on, those that the query sees, capped and with the
    /// bias of their distance; the others become 0.
    fn seen<'r>(&self, query: usize, first: usize, row: &'r mut [f32]) -> &'r mut [f32] {
        let visible = self.visible.of(self.position + query / self.group);
        let within = |position: usize| position.saturating_sub(first).min(row.len());
        let (start, end) = (within(visible.start), within(visible.end));
        let (seen, later) = row.split_at_mut(end.max(start));
        let (unseen, seen) = seen.split_at_mut(start);
        unseen.fill(0.0);
        later.fill(0.0);
        if let Some(cap) = self.scores.cap {
            softcap(seen, cap);
        }
        if let Some(slope) = self.own(query, self.scores.slopes) {
            for (position, score) in (first + start..).zip(&mut *seen) {
                *score -= slope * (visible.end - 1 - position) as f32;
            }
        }
        seen
    }

    /// What each head has one of, for the head of a query.
    fn own(&self, query: usize, of_heads: Option<&[f32]>) -> Option<f32> {
        let head = self.head * self.group + query % self.group;
        of_heads?.get(head).copied()
    }

    /// Writes the values, given what they get from all of their positions. `out` has the place of each token.
    fn finish<'o>(&self, whole: &Partial, out: impl Iterator<Item = &'o mut [f32]>) {
        let out = out.flat_map(|token| {
            let width = (token.len() / self.group).max(1);
            token.chunks_exact_mut(width)
        });
        for ((query, (softmax, values)), out) in whole.each().enumerate().zip(out) {
            let factor = softmax.factor(self.own(query, self.scores.sinks));
            let pairs = out.iter_mut().zip(values);
            pairs.for_each(|(out, value)| *out = value * factor);
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

    /// Parts of a long cache add up to the softmax over all of it, a few tokens at a time and many, with what changes
    /// scores and beside sinks: here in double precision, straight from the definition.
    #[test]
    fn parts_of_a_long_cache_are_the_softmax_over_all_of_it() {
        let (group, kv_heads, width, before) = (2, 2, 16, 700);
        let heads = group * kv_heads;
        let wave = |count: usize, step: f32| -> Vec<f32> {
            (0..count).map(|i| 2.0 * (i as f32 * step).sin()).collect()
        };
        let (sinks, slopes) = ([3.0, -1.0, 0.5, 8.0], [0.5, 0.01, 0.0625, 0.002]);
        for (tokens, cap, sinks, slopes) in [
            (1, None, None, None),
            (3, Some(2.0), Some(&sinks[..]), None),
            (21, None, Some(&sinks[..]), Some(&slopes[..])),
            (21, Some(2.0), None, None),
        ] {
            let rows = |step: f32| wave((before + tokens) * kv_heads * width, step);
            let (keys, values) = (rows(0.7), rows(0.3));
            let cells = |rows: &[f32]| {
                let mut cells = Cells::new(Dtype::F16, [kv_heads, before + tokens, width]).unwrap();
                cells.write(0, rows).unwrap();
                cells
            };
            let queries = wave(tokens * heads * width, 0.9);
            let scores = ScoreTransform {
                scale: 0.25,
                cap,
                sinks,
                slopes,
            };
            let all = Visible {
                window: None,
                end: None,
            };
            let caches = [&cells(&keys), &cells(&values)];
            let found = attention(&queries, heads, caches, (before, all), scores);
            // What the cache holds of a row.
            let held = |rows: &[f32], position: usize, head: usize| -> Vec<f64> {
                let start = (position * kv_heads + head / group) * width;
                let row = rows[start..start + width].iter();
                row.map(|&x| half::f16::from_f32(x).to_f64()).collect()
            };
            let each = queries.chunks_exact(width).zip(found.chunks_exact(width));
            for (index, (query, found)) in each.enumerate() {
                let (position, head) = (before + index / heads, index % heads);
                let weights: Vec<f64> = (0..=position)
                    .map(|at| {
                        let key = held(&keys, at, head);
                        let pairs = query.iter().zip(&key);
                        let mut score = pairs.map(|(x, y)| f64::from(*x) * y).sum::<f64>() * 0.25;
                        if let Some(cap) = cap.map(f64::from) {
                            score = cap * (score / cap).tanh();
                        }
                        let slope = slopes.map_or(0.0, |slopes| f64::from(slopes[head]));
                        (score - slope * (position - at) as f64).exp()
                    })
                    .collect();
                let sink = sinks.map_or(0.0, |sinks| f64::from(sinks[head]).exp());
                let sum = weights.iter().sum::<f64>() + sink;
                let mut expected = vec![0.0; width];
                for (at, weight) in weights.iter().enumerate() {
                    let value = held(&values, at, head);
                    let pairs = expected.iter_mut().zip(&value);
                    pairs.for_each(|(expected, x)| *expected += weight / sum * x);
                }
                for (found, expected) in found.iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs();
                    assert!(off < 1e-5, "{tokens} tokens, {index}: {found} {expected}");
                }
            }
        }
    }
}
