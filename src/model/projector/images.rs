//! How images become pictures of the encoder and tokens of the text model, by the rules of llama.cpp's `mtmd-image.cpp` and
//! `mtmd.cpp`.

use super::vision::Vision;

/// Pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// Of a row.
    pub width: u64,
    /// Of a column.
    pub height: u64,
}

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedImage {
    /// The sizes of the pictures that the encoder sees, each with their number.
    pub pictures: Vec<(ImageSize, u64)>,
    /// Tokens of all pictures.
    pub tokens: u64,
    /// Tokens of text that mark where the pictures begin and end.
    pub markers: u64,
}

impl EncodedImage {
    /// Places in the cache.
    pub fn context(&self) -> u64 {
        self.tokens.saturating_add(self.markers)
    }
}

/// An image that is brought to the encoder's own size.
pub(super) fn fixed(vision: &Vision, markers: u64) -> EncodedImage {
    tiled(vision, 1, markers)
}

/// `tiles` pictures of the encoder's own size.
fn tiled(vision: &Vision, tiles: u64, markers: u64) -> EncodedImage {
    let side = vision.image;
    EncodedImage {
        pictures: vec![(
            ImageSize {
                width: side,
                height: side,
            },
            tiles,
        )],
        tokens: tile_tokens(vision).saturating_mul(tiles),
        markers,
    }
}

/// Tokens of a picture of the encoder's own size.
fn tile_tokens(vision: &Vision) -> u64 {
    let patches = vision.image / vision.patch;
    patches * patches / (vision.merge * vision.merge)
}

/// An image of any size, whose sides are rounded to whole tokens and whose area is brought between `least` and `most` of
/// them (`calc_size_preserved_ratio`).
pub(super) fn whole(
    vision: &Vision,
    size: ImageSize,
    (least, most): (u64, u64),
    markers: u64,
) -> EncodedImage {
    let side = vision.token_side();
    let (width, height) = (size.width as f32, size.height as f32);
    // In single precision, as there.
    let unit = side as f32;
    let round = |x: f32| ((x / unit).round() as u64).max(1);
    let (mut columns, mut rows) = (round(width), round(height));
    let area = width * height;
    let pixels = |tokens: u64| (tokens * side * side) as f32;
    if columns * rows > most {
        let beta = (area / pixels(most)).sqrt();
        let floor = |x: f32| ((x / beta / unit).floor() as u64).max(1);
        (columns, rows) = (floor(width), floor(height));
    } else if columns * rows < least {
        let beta = (pixels(least) / area).sqrt();
        let ceil = |x: f32| (x * beta / unit).ceil() as u64;
        (columns, rows) = (ceil(width), ceil(height));
    }
    let picture = ImageSize {
        width: columns * side,
        height: rows * side,
    };
    EncodedImage {
        pictures: vec![(picture, 1)],
        tokens: columns.saturating_mul(rows),
        markers,
    }
}

/// The same with the embedding of a token between rows of tokens, and one marker behind all of them.
pub(super) fn whole_in_rows(vision: &Vision, size: ImageSize, limits: (u64, u64)) -> EncodedImage {
    let mut image = whole(vision, size, limits, 1);
    let rows = |(picture, _): &(ImageSize, u64)| picture.height / vision.token_side();
    let breaks: u64 = image.pictures.iter().map(rows).sum();
    image.tokens = image.tokens.saturating_add(breaks.saturating_sub(1));
    image
}

/// An image whose longer side is brought to `longest_edge` and that is then cut into tiles of the encoder's own size, with
/// a view of the whole before them (Idefics 3, SmolVLM). Each tile has two markers before it and each row one behind it;
/// the whole has three and one.
pub(super) fn longest_edge(vision: &Vision, size: ImageSize) -> EncodedImage {
    let tile = vision.image;
    let tiles = |pixels: u64| pixels.div_ceil(tile).max(1);
    let (columns, rows) = match vision.longest_edge {
        // Files without the number are cut as the image is.
        0 => {
            let nearest = |pixels: u64| ((pixels as f32 / tile as f32).round() as u64).max(1);
            (nearest(size.width), nearest(size.height))
        }
        longest => {
            let ratio = size.width as f64 / size.height as f64;
            let even = |pixels: f64| (pixels as u64).next_multiple_of(2);
            let longest = longest as f64;
            let (width, height) = if size.width >= size.height {
                (longest as u64, even(longest / ratio))
            } else {
                (even(longest * ratio), longest as u64)
            };
            (tiles(width), tiles(height))
        }
    };
    let cut = columns.saturating_mul(rows);
    let whole = 4;
    let markers = cut
        .saturating_mul(2)
        .saturating_add(rows)
        .saturating_add(whole);
    tiled(vision, cut.saturating_add(1), markers)
}

/// An image that is cut into tiles of the encoder's own size after it was brought to the best of the sizes that the model
/// has, with a view of the whole; an image that is no larger than a tile is not cut.
pub(super) fn best_size(
    vision: &Vision,
    size: ImageSize,
    sizes: impl Iterator<Item = (u64, u64)>,
    markers: u64,
) -> EncodedImage {
    if size.width <= vision.image && size.height <= vision.image {
        return tiled(vision, 1, markers);
    }
    let mut best: Option<(u64, u64, (u64, u64))> = None;
    for (width, height) in sizes {
        let across = width as f32 / size.width as f32;
        let scale = across.min(height as f32 / size.height as f32);
        let scaled = |pixels: u64| (pixels as f32 * scale) as u64;
        let seen = scaled(size.width) * scaled(size.height);
        let seen = seen.min(size.width * size.height);
        let wasted = (width * height).saturating_sub(seen);
        let better =
            best.is_none_or(|(most, least, _)| seen > most || seen == most && wasted < least);
        if better {
            best = Some((seen, wasted, (width, height)));
        }
    }
    let tiles = best.map_or(0, |(_, _, (width, height))| {
        width.div_ceil(vision.image) * height.div_ceil(vision.image)
    });
    tiled(vision, tiles + 1, markers)
}

/// Pixels of a tile's side, and the least and most tiles of an image.
const TILE: u64 = 512;
const TILES: std::ops::RangeInclusive<u64> = 2..=10;

/// Tokens of an image that is not cut.
const UNCUT: (u64, u64) = (64, 256);

/// An image of any shape between 64 and 256 tokens; one that is more than twice as large is cut into tiles, with a view of
/// the whole behind them. Two markers stand around all of it, and one before each picture of an image that is cut.
pub(super) fn whole_or_tiles(vision: &Vision, size: ImageSize) -> EncodedImage {
    let whole = whole(vision, size, UNCUT, 2);
    let side = vision.token_side();
    let rounded = |pixels: u64| {
        let times = (pixels as f64 / side as f64).round_ties_even() as u64;
        times.saturating_mul(side).max(vision.patch)
    };
    if rounded(size.width).saturating_mul(rounded(size.height)) <= 2 * UNCUT.1 * side * side {
        return whole;
    }
    let (columns, rows) = nearest_grid(size);
    let tiles = columns * rows;
    let tile = ImageSize {
        width: TILE,
        height: TILE,
    };
    let each = (TILE / side) * (TILE / side);
    EncodedImage {
        tokens: tiles.saturating_mul(each).saturating_add(whole.tokens),
        markers: 2 + tiles + 1,
        pictures: [vec![(tile, tiles)], whole.pictures].concat(),
    }
}

/// The grid whose shape is nearest to that of the image; of two that are as near, the larger one if the image has more than
/// half of its pixels.
fn nearest_grid(size: ImageSize) -> (u64, u64) {
    let most = *TILES.end();
    let all = (1..=most).flat_map(|columns| (1..=most).map(move |rows| (columns, rows)));
    let mut grids: Vec<(u64, u64)> = all
        .filter(|(columns, rows)| TILES.contains(&(columns * rows)))
        .collect();
    grids.sort_by_key(|(columns, rows)| columns * rows);
    let ratio = size.width as f32 / size.height as f32;
    let area = size.width.saturating_mul(size.height) as f32;
    let mut best = ((1, 1), f32::MAX);
    for (columns, rows) in grids {
        let off = (ratio - columns as f32 / rows as f32).abs();
        let half = 0.5 * (TILE * TILE * columns * rows) as f32;
        if off < best.1 || off == best.1 && area > half {
            best = ((columns, rows), off);
        }
    }
    best.0
}

/// The sizes of `least` to `most` tiles in any shape.
pub(super) fn tile_grids(vision: &Vision) -> impl Iterator<Item = (u64, u64)> {
    let (least, most) = vision.tiles;
    let (least, most, side) = (least.max(1), most.min(64), vision.image);
    (least..=most).flat_map(move |columns| {
        let rows = (least.div_ceil(columns)).max(least)..=(most / columns).min(most);
        rows.map(move |rows| (columns * side, rows * side))
    })
}

/// The most slices of an image.
const SLICES: u64 = 9;

/// An image that is larger than a slice is cut into a grid of slices of any shape, with a view of the whole; sides are
/// rounded to whole tokens (`mtmd_image_preprocessor_llava_uhd`). Two markers stand around each picture, and one behind
/// each row of slices but the last.
pub(super) fn sliced(vision: &Vision, size: ImageSize) -> EncodedImage {
    let (slice, side) = (vision.image, vision.token_side());
    let (width, height) = (size.width.clamp(1, 1 << 20), size.height.clamp(1, 1 << 20));
    let ratio = (width as f32 * height as f32) / (slice * slice) as f32;
    let square = ImageSize {
        width: slice,
        height: slice,
    };
    // With four patches to a token, small images keep their shape.
    let is_small = width <= slice && height <= slice;
    let (pictures, rows) = if vision.merge == 2 && ratio <= 1.0 {
        (vec![(resized((width, height), slice, side, true), 1)], 1)
    } else if is_small {
        (vec![(square, 1)], 1)
    } else {
        let whole = resized((width, height), slice, side, false);
        let most = (ratio.ceil() as u64).min(SLICES);
        let logarithm = f64::from((width as f32 / height as f32).ln());
        let (columns, rows) = grid(most, logarithm);
        let each = |length: u64, parts: u64| rounded(length as f32, parts) / parts;
        let each = (each(width, columns), each(height, rows));
        let part = resized(each, slice, side, true);
        (vec![(whole, 1), (part, columns * rows)], rows)
    };
    let tokens = |(picture, count): &(ImageSize, u64)| match vision.queries {
        0 => (picture.width / side) * (picture.height / side) * count,
        queries => queries.saturating_mul(*count),
    };
    let all: u64 = pictures.iter().map(|(_, count)| count).sum();
    EncodedImage {
        tokens: pictures.iter().map(tokens).fold(0, u64::saturating_add),
        markers: 2 * all + (rows - 1),
        pictures,
    }
}

/// The nearest multiple of `part`, at least one of it.
fn rounded(length: f32, part: u64) -> u64 {
    let times = (length / part as f32).round() as u64;
    times.max(1) * part
}

/// A picture of the same shape whose area is that of a square of `slice`, if it is larger (or in any case if it `grows`), in
/// whole tokens.
fn resized((width, height): (u64, u64), slice: u64, side: u64, grows: bool) -> ImageSize {
    let (mut width, mut height) = (width, height);
    if width * height > slice * slice || grows {
        let ratio = width as f32 / height as f32;
        height = (slice as f32 / ratio.sqrt()) as u64;
        width = (height as f32 * ratio) as u64;
    }
    ImageSize {
        width: rounded(width as f32, side),
        height: rounded(height as f32, side),
    }
}

/// Columns and rows of about `most` slices whose shape is nearest to that of the image.
fn grid(most: u64, logarithm: f64) -> (u64, u64) {
    let mut best = ((1, 1), f32::INFINITY);
    let counts = [most.saturating_sub(1), most, most + 1];
    for slices in counts.into_iter().filter(|n| *n != 1 && *n <= SLICES) {
        for columns in (1..=slices).filter(|columns| slices.is_multiple_of(*columns)) {
            let rows = slices / columns;
            let error = (logarithm - (columns as f64 / rows as f64).ln()).abs() as f32;
            if error < best.1 {
                best = ((columns, rows), error);
            }
        }
    }
    best.0
}
