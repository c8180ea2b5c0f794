//! bitsandbytes in four bits: codes for a map of sixteen values, two to a byte with the high nibble first, and the
//! largest magnitude (`absmax`) of each block, which may be quantized itself.

use std::ops::Range;

use serde_json::Value as Json;

use super::error::PackedError;
use super::files::TensorReader;
use super::parts::PackedParts;
use super::{Layout, Weight};
use crate::input;
use crate::model::packing::Companion;

/// A weight in nf4 or fp4.
#[derive(Debug)]
pub(super) struct BitsAndBytesLayout<'a> {
    codes: TensorReader<'a>,
    map: [f32; 16],
    /// Weights in a block.
    block: u64,
    maxima: BlockMaxima<'a>,
}

/// The largest magnitude of each block.
#[derive(Debug)]
enum BlockMaxima<'a> {
    /// Stored as floats.
    Plain(TensorReader<'a>),
    /// Quantized to bytes: `map[byte] x maxima[block / width] + offset`.
    Nested {
        codes: TensorReader<'a>,
        map: Vec<f32>,
        maxima: TensorReader<'a>,
        width: u64,
        offset: f32,
    },
}

/// Opens a weight of bitsandbytes in four bits: reads its description and its maps, and checks the sizes of its parts.
pub(super) fn open<'a>(parts: &PackedParts<'a>) -> Result<Weight<'a>, PackedError> {
    let state = parts.need(Companion::State)?;
    let text = state.bytes(0, state.tensor.bytes.0.min(1 << 16))?;
    let wrong = |what: String| PackedError::Content {
        tensor: state.tensor.name.clone(),
        what,
        expected: "the JSON of a bitsandbytes state".to_owned(),
    };
    let json: Json = serde_json::from_slice(&text)
        .map_err(|error| wrong(input::in_words(&error.to_string())))?;
    let number = |key: &str| json.get(key).and_then(Json::as_u64).filter(|&n| n > 0);
    let shape = json.get("shape").and_then(Json::as_array);
    let shape: Option<Vec<u64>> = shape.and_then(|s| s.iter().map(Json::as_u64).collect());
    let shape = shape.ok_or_else(|| wrong("no `shape`".to_owned()))?;
    let block = number("blocksize").ok_or_else(|| wrong("no `blocksize`".to_owned()))?;
    let map = parts.need(Companion::Map)?;
    let map: [f32; 16] = map
        .floats(0, map.elements())?
        .try_into()
        .map_err(|_| map.wrong_shape(&shape))?;
    let absmax = parts.need(Companion::BlockMaxima)?;
    let maxima = match parts.find(Companion::NestedMaxima) {
        None => BlockMaxima::Plain(absmax),
        Some(maxima) => {
            let map = parts.need(Companion::NestedMap)?;
            BlockMaxima::Nested {
                codes: absmax,
                map: map.floats(0, map.elements().min(256))?,
                maxima,
                width: number("nested_blocksize").unwrap_or(256),
                offset: json
                    .get("nested_offset")
                    .and_then(Json::as_f64)
                    .unwrap_or(0.0) as f32,
            }
        }
    };
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
    let fits = elements.is_some_and(|n| {
        n.div_ceil(2) == parts.weight.tensor.bytes.0 && n.div_ceil(block) <= maxima.count()
    });
    if !fits {
        return Err(parts.weight.wrong_shape(&shape));
    }
    let codes = parts.weight;
    let layout = Layout::BitsAndBytes(BitsAndBytesLayout {
        codes,
        map,
        block,
        maxima,
    });
    Ok(Weight { shape, layout })
}

impl BitsAndBytesLayout<'_> {
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

impl BlockMaxima<'_> {
    /// How many blocks there are maxima for.
    pub(super) fn count(&self) -> u64 {
        match self {
            BlockMaxima::Plain(part) => part.elements(),
            BlockMaxima::Nested {
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
            BlockMaxima::Plain(part) => part.floats(blocks.start, blocks.end - blocks.start),
            BlockMaxima::Nested {
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
