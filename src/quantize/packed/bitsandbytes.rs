//! bitsandbytes in four bits: codes of a map of sixteen values, the high nibble first, with the
//! largest magnitude of each block, which may be quantized itself.

use std::ops::Range;

use super::error::PackedError;
use super::files::Part;

/// A weight in nf4 or fp4.
#[derive(Debug)]
pub(super) struct FourBit<'a> {
    pub(super) codes: Part<'a>,
    pub(super) map: [f32; 16],
    /// Weights to a block.
    pub(super) block: u64,
    pub(super) maxima: Maxima<'a>,
}

/// The largest magnitude of each block.
#[derive(Debug)]
pub(super) enum Maxima<'a> {
    /// As floats.
    Plain(Part<'a>),
    /// As bytes: `map[byte] x maxima[block / width] + offset`.
    Nested {
        codes: Part<'a>,
        map: Vec<f32>,
        maxima: Part<'a>,
        width: u64,
        offset: f32,
    },
}

impl FourBit<'_> {
    pub(super) fn read(
        &self,
        rows: Range<u64>,
        columns: u64,
        out: &mut Vec<f32>,
    ) -> Result<(), PackedError> {
        let (start, end) = (rows.start * columns, rows.end * columns);
        let first = start / 2;
        let bytes = self.codes.bytes(first, end.div_ceil(2) - first)?;
        let blocks = start / self.block..end.div_ceil(self.block);
        let maxima = self.maxima.read(blocks.clone())?;
        out.extend((start..end).map(|index| {
            let byte = bytes
                .get((index / 2 - first) as usize)
                .copied()
                .unwrap_or(0);
            let code = if index % 2 == 0 { byte >> 4 } else { byte & 15 };
            let block = (index / self.block - blocks.start) as usize;
            self.map[usize::from(code)] * maxima.get(block).copied().unwrap_or(f32::NAN)
        }));
        Ok(())
    }
}

impl Maxima<'_> {
    /// How many blocks there are maxima for.
    pub(super) fn count(&self) -> u64 {
        match self {
            Maxima::Plain(part) => part.elements(),
            Maxima::Nested {
                codes,
                maxima,
                width,
                ..
            } => codes
                .elements()
                .min(maxima.elements().saturating_mul(*width)),
        }
    }

    fn read(&self, blocks: Range<u64>) -> Result<Vec<f32>, PackedError> {
        match self {
            Maxima::Plain(part) => part.floats(blocks.start, blocks.end - blocks.start),
            Maxima::Nested {
                codes,
                map,
                maxima,
                width,
                offset,
            } => {
                let codes = codes.bytes(blocks.start, blocks.end - blocks.start)?;
                let first = blocks.start / width;
                let outer = maxima.floats(first, blocks.end.div_ceil(*width) - first)?;
                let value = |(block, code): (u64, u8)| {
                    let outer = outer.get((block / width - first) as usize);
                    let inner = map.get(usize::from(code));
                    match (inner, outer) {
                        (Some(inner), Some(outer)) => inner * outer + offset,
                        _ => f32::NAN,
                    }
                };
                Ok(blocks.zip(codes).map(value).collect())
            }
        }
    }
}
