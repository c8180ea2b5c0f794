//! Splits rows and their importance into the blocks of a format, each with its place in the output.

use super::lanes::LANES;
use super::legacy::BLOCK;

/// The blocks of rows, each with the importance of its columns.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn blocks<'a, const N: usize, const B: usize>(
    values: &'a [f32],
    row: usize,
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32; N], Option<&'a [f32]>, &'a mut [u8; B])> {
    let blocks = values
        .as_chunks::<N>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<B>().0);
    blocks.enumerate().map(move |(i, (x, out))| {
        let column = i * N % row.max(1);
        (x, importance.and_then(|i| i.get(column..column + N)), out)
    })
}

/// Groups of up to eight blocks of 32 in a row: values, importance, and the place of the encoded blocks of `B` bytes.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn groups<'a, const B: usize>(
    row: &'a [f32],
    importance: Option<&'a [f32]>,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32], Option<&'a [f32]>, &'a mut [[u8; B]])> {
    const GROUP: usize = BLOCK * LANES;
    let groups = row
        .chunks(GROUP)
        .zip(out.as_chunks_mut::<B>().0.chunks_mut(LANES));
    groups.enumerate().map(move |(g, (x, out))| {
        let columns = g * GROUP..g * GROUP + x.len();
        (x, importance.and_then(|i| i.get(columns)), out)
    })
}

/// Rows of values, each with its place in the output.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) fn rows<'a>(
    values: &'a [f32],
    row: usize,
    out: &'a mut [u8],
) -> impl Iterator<Item = (&'a [f32], &'a mut [u8])> {
    let bytes = (out.len() * row).checked_div(values.len()).unwrap_or(0);
    values.chunks(row.max(1)).zip(out.chunks_mut(bytes.max(1)))
}
