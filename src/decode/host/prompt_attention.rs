//! Attention for many queries, run of cells by run of cells: a cell is read once for all of them, and their scores of a
//! run are gone before the next.
//!
//! In: scaled queries and the cache. Out: what they get from those cells.

use super::cache::Cells;
use super::kernels::{Input, LANES, OutputBlock, Tile, TileFormat, multiply};
use super::ops::{add, scale};
use super::partial::Partial;

/// Cells read at a time: their tiles stay in the second cache.
pub(super) const CELLS: usize = 64;

/// Cells that lie one behind the other: where they start among the visible positions, how many they are, the first.
pub(super) type Run = (usize, usize, usize);

/// What queries get from the cells of `runs`. Of a query's scores with a run that starts at a position, `seen` gives those
/// that count and sets the others to 0.
pub(super) fn partial(
    queries: &[f32],
    [keys, values]: [&Cells; 2],
    head: usize,
    runs: impl Iterator<Item = Run>,
    seen: impl for<'r> Fn(usize, usize, &'r mut [f32]) -> &'r mut [f32],
) -> Partial {
    let (key_width, value_width) = (keys.width.max(1), values.width.max(1));
    let queries = Input::new(queries, key_width);
    let mut out = Partial::new(queries.tokens(), value_width);
    let mut cells = vec![0.0; CELLS * key_width.max(value_width)];
    let mut key_panel = tiles(CELLS.div_ceil(LANES));
    let mut value_panel = tiles(value_width.div_ceil(LANES));
    let mut weights = vec![0.0; queries.tokens() * CELLS];
    let mut products = vec![0.0; queries.tokens() * value_width];
    for (at, len, cell) in runs {
        let some = cells.get_mut(..len * key_width).unwrap_or_default();
        keys.read(head, cell, some);
        let groups = some.chunks(LANES * key_width).zip(&mut key_panel);
        let used = groups
            .map(|(cells, tile)| tile.take_rows(cells, key_width))
            .count();
        let panel = key_panel.get(..used).unwrap_or_default();
        let weights = weights
            .get_mut(..queries.tokens() * len)
            .unwrap_or_default();
        product(panel, &queries, weights, len);

        let rows = weights.chunks_exact_mut(len.max(1)).enumerate();
        for ((query, row), (softmax, earlier)) in rows.zip(out.each_mut()) {
            let factor = softmax.weigh(seen(query, at, row));
            if factor < 1.0 {
                scale(earlier, factor);
            }
        }

        let some = cells.get_mut(..len * value_width).unwrap_or_default();
        values.read(head, cell, some);
        for (index, tile) in value_panel.iter_mut().enumerate() {
            tile.take_columns(some, value_width, index * LANES);
        }
        let weights = Input::new(weights, len);
        product(&value_panel, &weights, &mut products, value_width);
        add(out.values_mut(), &products);
    }
    out
}

/// `out[query][row] = query . row`, of the `rows` rows of a panel.
fn product(panel: &[Tile], queries: &Input<'_>, out: &mut [f32], rows: usize) {
    let mut place = OutputBlock {
        first_token: 0,
        out,
        rows,
        first_row: 0,
    };
    multiply(panel, TileFormat::Floats, queries, &mut place);
}

fn tiles(count: usize) -> Vec<Tile> {
    std::iter::repeat_with(Tile::default).take(count).collect()
}
