//! Softmax attention of some tokens over a cache: grouped queries read each key and value once.
//!
//! In: queries `[tokens, heads, key width]`, turned, whose keys and values are cached already.
//! Out: `[tokens, heads, value width]`.

use super::cache::Rows;
use super::kernels::{add_scaled, dot};
use super::ops::{softcap, softmax};
use super::parallel::pieces;

/// What is the same for all tokens of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scores {
    /// What `query . key` is multiplied with.
    pub(super) scale: f32,
    /// Scores become `cap x tanh(score / cap)`.
    pub(super) cap: Option<f32>,
    /// How many tokens, itself included, a token sees.
    pub(super) window: Option<usize>,
}

/// Cells read at a time: what they take in F32 stays in the first cache.
const CELLS: usize = 32;

/// Attention of the tokens from `position` on.
pub(super) fn attend(
    queries: &[f32],
    heads: usize,
    keys: &Rows,
    values: &Rows,
    position: usize,
    scores: Scores,
) -> Vec<f32> {
    let (kv_heads, width) = (keys.heads.max(1), keys.width);
    let group = (heads / kv_heads).max(1);
    let tokens = queries.len() / (heads * width).max(1);
    let mut out = vec![0.0; tokens * heads * values.width];
    pieces(&mut out, group * values.width, |piece, out| {
        let (token, head) = (piece / kv_heads, piece % kv_heads);
        let start = (token * heads + head * group) * width;
        let queries = queries
            .get(start..start + group * width)
            .unwrap_or_default();
        let last = position + token;
        let first = scores
            .window
            .map_or(0, |window| (last + 1).saturating_sub(window));
        group_of_heads(queries, [keys, values], head, first..last + 1, scores, out);
    });
    out
}

/// The queries of one token that share a key-value head.
fn group_of_heads(
    queries: &[f32],
    [keys, values]: [&Rows; 2],
    head: usize,
    seen: std::ops::Range<usize>,
    scores: Scores,
    out: &mut [f32],
) {
    let count = seen.len();
    let group = queries.len() / keys.width.max(1);
    let mut weights = vec![0.0; group * count];
    let mut cells = vec![0.0; CELLS * keys.width.max(values.width)];
    for (start, len, cell) in runs(seen.clone(), keys.cells) {
        let some = cells.get_mut(..len * keys.width).unwrap_or_default();
        keys.read(head, cell, some);
        let heads = queries
            .chunks_exact(keys.width)
            .zip(weights.chunks_exact_mut(count));
        for (query, weights) in heads {
            let weights = weights.get_mut(start..).unwrap_or_default();
            for (key, weight) in some.chunks_exact(keys.width).zip(weights) {
                *weight = dot(query, key) * scores.scale;
            }
        }
    }
    for weights in weights.chunks_exact_mut(count) {
        if let Some(cap) = scores.cap {
            softcap(weights, cap);
        }
        softmax(weights);
    }
    for (start, len, cell) in runs(seen, values.cells) {
        let some = cells.get_mut(..len * values.width).unwrap_or_default();
        values.read(head, cell, some);
        let heads = out
            .chunks_exact_mut(values.width)
            .zip(weights.chunks_exact(count));
        for (out, weights) in heads {
            let weights = weights.get(start..).unwrap_or_default();
            for (value, weight) in some.chunks_exact(values.width).zip(weights) {
                add_scaled(out, *weight, value);
            }
        }
    }
}

/// Positions as runs of cells that lie one behind the other: where each starts among the
/// positions, its length, its first cell.
fn runs(seen: std::ops::Range<usize>, cells: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let cells = cells.max(1);
    let first = seen.start;
    let mut next = first;
    std::iter::from_fn(move || {
        if next >= seen.end {
            return None;
        }
        let cell = next % cells;
        let len = CELLS.min(seen.end - next).min(cells - cell);
        let run = (next - first, len, cell);
        next += len;
        Some(run)
    })
}
