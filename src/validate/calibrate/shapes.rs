//! Which models are timed: two or more shapes for each format, and which of them are in memory together.

use super::prior::FORMATS;
use super::synthetic::ModelShape;
use crate::dtype::Dtype;
use crate::units::Bytes;

/// Many narrow layers: costs by layer and row are a large part of its time.
const NARROW: ModelShape = ModelShape {
    layers: 16,
    hidden: 768,
    inner: 2048,
    heads: 12,
    kv_heads: 4,
    head_dim: 64,
    vocab: 24_576,
};

/// A few wide layers: costs by byte are nearly all of its time.
const WIDE: ModelShape = ModelShape {
    layers: 2,
    hidden: 2048,
    inner: 5632,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    vocab: 12_288,
};

/// Many tiny layers: nearly all of its time is the cost by layer.
const LAYERS: ModelShape = ModelShape {
    layers: 32,
    hidden: 256,
    inner: 512,
    heads: 4,
    kv_heads: 2,
    head_dim: 64,
    vocab: 4096,
};

/// One tiny layer and a large head: nearly all of its time is the cost by row.
const ROWS: ModelShape = ModelShape {
    layers: 1,
    vocab: 131_072,
    ..LAYERS
};

/// The format with further models that separate the costs shared by all formats: cache, layer and row.
const SHARED: Dtype = Dtype::Q4_0;

/// Formats that are rarely used: smaller models, to save time.
const RARE: [Dtype; 7] = [
    Dtype::F32,
    Dtype::Q2_K,
    Dtype::Q3_K,
    Dtype::Q4_1,
    Dtype::Q5_1,
    Dtype::IQ4_NL,
    Dtype::IQ4_XS,
];

/// Tokens of a short prompt, and of one after which much of the time goes into the cache.
const SHORT: u64 = 64;
const LONG: u64 = 768;

/// The shapes for a format, each with the length of its prompt in tokens.
pub(super) fn shapes(format: Dtype) -> Vec<(ModelShape, u64)> {
    let (narrow, wide) = if !RARE.contains(&format) {
        (NARROW, WIDE)
    } else {
        (
            ModelShape {
                layers: 4,
                vocab: 8192,
                ..NARROW
            },
            ModelShape {
                layers: 1,
                vocab: 4096,
                ..WIDE
            },
        )
    };
    let mut shapes = vec![(narrow, SHORT), (wide, SHORT)];
    if format == SHARED {
        shapes.extend([(NARROW, LONG), (LAYERS, SHORT), (ROWS, SHORT)]);
    }
    shapes
}

/// The formats, as indices of [`FORMATS`], in groups whose models fit into `room` bytes together; one that does not fit
/// is a group of its own.
pub(super) fn groups(room: Bytes) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut free = Bytes(0);
    for (format, (dtype, ..)) in FORMATS.iter().enumerate() {
        let bytes = bytes(*dtype);
        match groups.last_mut() {
            Some(group) if bytes <= free => group.push(format),
            _ => {
                groups.push(vec![format]);
                free = room;
            }
        }
        free = free.saturating_sub(bytes);
    }
    groups
}

/// The bytes of all models of a format.
fn bytes(format: Dtype) -> Bytes {
    let shapes = shapes(format).into_iter();
    shapes.map(|(shape, _)| shape.bytes(format)).sum()
}

#[cfg(test)]
mod tests {
    use super::super::scratch::ScratchFile;
    use super::*;

    #[test]
    fn no_group_is_larger_than_the_room_and_no_format_is_left_out() {
        assert_eq!(groups(Bytes::GIB * 16).len(), 1);
        assert_eq!(groups(Bytes(0)).len(), FORMATS.len());
        let room = Bytes::MIB * 1400;
        let some = groups(room);
        assert!((2..FORMATS.len()).contains(&some.len()), "{some:?}");
        for group in &some {
            let bytes = |format: &usize| bytes(FORMATS[*format].0);
            assert!(group.iter().map(bytes).sum::<Bytes>() <= room, "{group:?}");
        }
        assert!(some.into_iter().flatten().eq(0..FORMATS.len()));
    }

    #[test]
    fn a_shape_takes_the_bytes_that_its_file_has() {
        let scratch = ScratchFile::new().unwrap();
        let shape = ModelShape {
            layers: 1,
            ..NARROW
        };
        let (checkpoint, _) = shape.make(Dtype::Q4_0, &scratch).unwrap();
        let stored: u64 = checkpoint.tensors.iter().map(|tensor| tensor.bytes.0).sum();
        // Norms are in F32 there: next to nothing.
        let error = shape.bytes(Dtype::Q4_0).0 as f64 / stored as f64 - 1.0;
        assert!(error.abs() < 0.002, "{error}");
    }
}
