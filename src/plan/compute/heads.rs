//! The tensors of attention in an encoder, which keeps no cache: all of a sequence at once, with fused attention or without.
//!
//! Source: `build_attn` of llama.cpp's `tools/mtmd/clip.cpp`.

use super::tensors::{Graph, Id};

/// What heads read from `value` with the queries of `query`, by scores of so many bytes.
pub(super) fn attended(
    graph: &mut Graph,
    fused: bool,
    scores: u64,
    [query, key, value]: [Id; 3],
    mask: Option<Id>,
) -> Id {
    let row = graph.bytes(query);
    if fused {
        let key = graph.own(graph.bytes(key) / 2, &[key]);
        let value = graph.own(graph.bytes(value) / 2, &[value]);
        let mut sources = vec![query, key, value];
        sources.extend(mask);
        return graph.own(row, &sources);
    }
    let value = graph.own(graph.bytes(value), &[value]);
    let scores = graph.own(scores, &[key, query]);
    let mut sources = vec![scores];
    sources.extend(mask);
    let weights = graph.in_place(&sources);
    let mixed = graph.own(row, &[value, weights]);
    graph.own(row, &[mixed])
}
