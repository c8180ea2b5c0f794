//! The two products of attention for the many queries of a prompt, in tiles: a cell is read once for all of them.
//!
//! In: queries and the cache. Out: scores, and values weighted with them.

use super::cache::Cells;
use super::kernels::{Input, LANES, OutputBlock, Tile, TileFormat, multiply};

/// Cells read at a time: their tiles stay in the second cache.
pub(super) const CELLS: usize = 64;

/// Cells that lie one behind the other: where they start among the visible positions, how many they are, the first.
pub(super) type Run = (usize, usize, usize);

/// `out[query][position] = query . key`, `count` positions a query, for all queries, as wide as keys and end to end.
pub(super) fn scores(
    queries: &[f32],
    keys: &Cells,
    head: usize,
    runs: impl Iterator<Item = Run>,
    count: usize,
    out: &mut [f32],
) {
    let width = keys.width.max(1);
    let input = Input::new(queries, width);
    let mut cells = vec![0.0; CELLS * width];
    let mut panel = tiles(CELLS.div_ceil(LANES));
    for (at, len, cell) in runs {
        let some = cells.get_mut(..len * width).unwrap_or_default();
        keys.read(head, cell, some);
        let groups = some.chunks(LANES * width).zip(&mut panel);
        let used = groups
            .map(|(cells, tile)| tile.take_rows(cells, width))
            .count();
        let mut place = OutputBlock {
            first_token: 0,
            out: &mut *out,
            rows: count,
            first_row: at,
        };
        let panel = panel.get(..used).unwrap_or_default();
        multiply(panel, TileFormat::Floats, &input, &mut place);
    }
}

/// `out[query] = sum over positions of weights[query][position] x value`, as wide as values.
pub(super) fn values(
    weights: &[f32],
    values: &Cells,
    head: usize,
    runs: impl Iterator<Item = Run>,
    count: usize,
) -> Vec<f32> {
    let width = values.width.max(1);
    let queries = weights.len() / count.max(1);
    let mut cells = vec![0.0; CELLS * width];
    let mut panel = tiles(width.div_ceil(LANES));
    let mut own_weights = Vec::with_capacity(queries * CELLS);
    let mut products = vec![0.0; queries * width];
    let mut out = vec![0.0; queries * width];
    for (at, len, cell) in runs {
        let some = cells.get_mut(..len * width).unwrap_or_default();
        values.read(head, cell, some);
        for (index, tile) in panel.iter_mut().enumerate() {
            tile.take_columns(some, width, index * LANES);
        }
        own_weights.clear();
        for weights in weights.chunks_exact(count.max(1)) {
            own_weights.extend_from_slice(weights.get(at..at + len).unwrap_or_default());
        }
        let mut place = OutputBlock {
            first_token: 0,
            out: &mut products,
            rows: width,
            first_row: 0,
        };
        let input = Input::new(&own_weights, len);
        multiply(&panel, TileFormat::Floats, &input, &mut place);
        super::ops::add(&mut out, &products);
    }
    out
}

fn tiles(count: usize) -> Vec<Tile> {
    std::iter::repeat_with(Tile::default).take(count).collect()
}
