//! One pass of llama.cpp's image encoder as a list of tensor sizes: patches, blocks, what maps them to the text model.
//!
//! Sources: `tools/mtmd/clip.cpp` (`build_inp`, `build_vit`, `build_attn`, `build_ffn`) and `tools/mtmd/models/*.cpp` of
//! llama.cpp. As in `graph`, operations that work in place on their only reader's input are left out.

use super::ComputeBackend;
use super::arena;
use super::audio;
use super::graph::{f32_bytes, graph_of};
use super::heads::attended;
use super::tensors::{Graph, Id, Pool};
use crate::dtype::Dtype;
use crate::model::Projector;
use crate::model::projector::{Head, ImageSize, Patches, Positions, Vision};
use crate::units::Bytes;

/// Tokens that llama.cpp encodes at once, if the encoder takes several pictures.
const BATCH_TOKENS: u64 = 1024;

/// The buffers of one pass of an encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncoderCompute {
    /// The backend's compute buffer.
    pub device_bytes: Bytes,
    /// Pixels and positions in host memory; 0 where the CPU computes.
    pub host_bytes: Bytes,
}

impl EncoderCompute {
    /// Both.
    pub fn total(self) -> Bytes {
        self.device_bytes + self.host_bytes
    }

    /// Both, one beside the other.
    fn and(self, other: EncoderCompute) -> EncoderCompute {
        EncoderCompute {
            device_bytes: self.device_bytes + other.device_bytes,
            host_bytes: self.host_bytes + other.host_bytes,
        }
    }

    /// What is enough for either.
    fn or(self, other: EncoderCompute) -> EncoderCompute {
        EncoderCompute {
            device_bytes: self.device_bytes.max(other.device_bytes),
            host_bytes: self.host_bytes.max(other.host_bytes),
        }
    }
}

/// The buffers of `projector`: those reserved at the start or, if they are larger, those of an `image`; and those of the
/// audio encoder in the same file, which are reserved in any case.
pub fn encoder(
    projector: &Projector,
    image: Option<ImageSize>,
    flash_attention: bool,
    backend: ComputeBackend,
) -> EncoderCompute {
    let images = of_images(projector, image, flash_attention, backend);
    match (&projector.audio, projector.family.audio) {
        (Some(audio), Some(kind)) => {
            let graph = audio::graph(audio, kind.pass, flash_attention, backend);
            let [host, device] = arena::replay(&graph);
            images.and(EncoderCompute {
                device_bytes: Bytes(device.bytes),
                host_bytes: Bytes(host.bytes),
            })
        }
        _ => images,
    }
}

fn of_images(
    projector: &Projector,
    image: Option<ImageSize>,
    flash_attention: bool,
    backend: ComputeBackend,
) -> EncoderCompute {
    let pass = |picture: ImageSize, batch: u64| {
        let pass = Pass {
            projector,
            picture,
            batch,
            flash_attention,
            backend,
        };
        let [host, device] = arena::replay(&pass.graph());
        EncoderCompute {
            device_bytes: Bytes(device.bytes),
            host_bytes: Bytes(host.bytes),
        }
    };
    let reserved = pass(projector.reserved(), 1);
    let Some(image) = image else {
        return reserved;
    };
    let encoded = projector.image(image);
    let pictures: u64 = encoded.pictures.iter().map(|(_, count)| count).sum();
    let each = encoded.tokens.checked_div(pictures).unwrap_or(0).max(1);
    encoded
        .pictures
        .iter()
        .fold(reserved, |known, &(picture, count)| {
            let batch = if projector.family.encoder.batches {
                count.min(BATCH_TOKENS / each).max(1)
            } else {
                1
            };
            known.or(pass(picture, batch))
        })
}

/// A pass over `batch` pictures.
pub(super) struct Pass<'p> {
    pub(super) projector: &'p Projector,
    picture: ImageSize,
    pub(super) batch: u64,
    pub(super) flash_attention: bool,
    backend: ComputeBackend,
}

/// The masks of windows: for a block that sees one.
#[derive(Clone, Copy)]
struct Window {
    /// In F32, or F16 with fused attention.
    mask: Id,
    every: u64,
}

impl Pass<'_> {
    pub(super) fn vision(&self) -> &Vision {
        &self.projector.vision
    }

    /// Patches of a picture.
    pub(super) fn patches(&self) -> u64 {
        let patch = match self.projector.family.encoder.patches {
            Patches::Normed => self.vision().token_side(),
            Patches::One | Patches::TwoFrames | Patches::Unfolded => self.vision().patch,
        };
        (self.picture.width / patch) * (self.picture.height / patch)
    }

    /// Rows of all pictures in the blocks.
    pub(super) fn rows(&self) -> u64 {
        let class = u64::from(self.has_class_token());
        (self.patches() + class) * self.batch
    }

    /// Tokens of all pictures.
    pub(super) fn tokens(&self) -> u64 {
        let merge = match self.projector.family.encoder.patches {
            Patches::Normed => 1,
            Patches::One | Patches::TwoFrames | Patches::Unfolded => self.vision().merge,
        };
        (self.patches() / (merge * merge)).max(1) * self.batch
    }

    /// Rows of tokens of a picture.
    pub(super) fn lines(&self) -> u64 {
        (self.picture.height / self.vision().token_side()).max(1)
    }

    /// A mask over so many rows.
    pub(super) fn mask_bytes(&self, rows: u64) -> u64 {
        let size = if self.flash_attention { 2 } else { 4 };
        rows.saturating_mul(rows).saturating_mul(size)
    }

    pub(super) fn has_class_token(&self) -> bool {
        self.projector.family.encoder.class_token && self.has("v.class_embd")
    }

    /// Whether a tensor is in the file.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut tensors = self.projector.tensors.iter();
        tensors.any(|t| t.tensor.name == name)
    }

    fn graph(&self) -> Graph {
        let encoder = &self.projector.family.encoder;
        let vision = self.vision();
        let mut graph = graph_of(self.backend);
        let pixels = self.picture.width * self.picture.height;
        let mut raw = graph.input(f32_bytes(3 * pixels, self.batch));
        let mut positions = match encoder.positions {
            Positions::Table | Positions::Interpolated => None,
            Positions::LookedUp(tables) => Some(graph.input(4 * tables * self.rows())),
            // A row and a column.
            Positions::Axes { .. } => Some(graph.input(8 * self.rows())),
            // A time, a height, a width, and one more.
            Positions::Resized | Positions::Rotated => Some(graph.input(16 * self.rows())),
        };
        let mask_of = |graph: &mut Graph| graph.input(self.mask_bytes(self.patches()));
        let mut mask = (vision.window_every > 0).then(|| mask_of(&mut graph));
        let fours = vision.merger_block.is_some() && self.has("v.vit_merger.ln1.weight");
        let mut mask_of_fours = fours.then(|| graph.input(self.mask_bytes(self.rows())));
        if self.backend == ComputeBackend::Cuda {
            graph.pool = Pool::Device;
            let mut upload = |id: &mut Id| *id = graph.own(graph.bytes(*id), &[*id]);
            upload(&mut raw);
            positions.iter_mut().for_each(&mut upload);
            mask.iter_mut().for_each(&mut upload);
            mask_of_fours.iter_mut().for_each(&mut upload);
        }
        let ready = self.ready(&mut graph);
        graph.stage = "patches";
        let mut stream = self.embedded(&mut graph, raw, positions);
        let window = mask.map(|mask| {
            stream = graph.own(graph.bytes(stream), &[stream]);
            Window {
                mask,
                every: vision.window_every,
            }
        });
        if encoder.pre_norm && self.has("v.pre_ln.weight") {
            stream = graph.own(graph.bytes(stream), &[stream]);
        }
        let mut rows = self.rows();
        // Outputs that the text model gets beside the last.
        let mut deep = Vec::new();
        let run = match vision.feature_blocks.iter().max() {
            Some(&block) => block.min(vision.blocks),
            None => vision.blocks - u64::from(encoder.drops_last && vision.blocks > 0),
        };
        let mut looked_at = Vec::new();
        for block in 0..run {
            let last = block + 1 == run;
            if vision.feature_blocks.contains(&block) {
                looked_at.push(stream);
            }
            stream = self.block(&mut graph, stream, positions, (window, rows), (block, last));
            if let (Some(at), Some(mask)) = (vision.merger_block, mask_of_fours)
                && at == block
            {
                stream = self.fours(&mut graph, stream, mask);
                rows /= 4;
            }
            if vision.deepstack.contains(&block) {
                deep.push(stream);
            }
        }
        graph.stage = "projection";
        if encoder.post_norm && self.has_post_norm() {
            stream = graph.own(graph.bytes(stream), &[stream]);
        }
        looked_at.push(stream);
        let beside = looked_at.into_iter().reduce(|known, next| {
            let bytes = graph.bytes(known).saturating_add(graph.bytes(next));
            graph.own(bytes, &[known, next])
        });
        let out = self.head(&mut graph, beside.unwrap_or(stream), ready);
        let deep: Vec<Id> = deep
            .into_iter()
            .map(|stream| {
                let normed = graph.own(graph.bytes(stream), &[stream]);
                self.mlp(&mut graph, normed, self.merged())
            })
            .collect();
        let joined = deep.into_iter().reduce(|known, next| {
            let bytes = graph.bytes(known).saturating_add(graph.bytes(next));
            graph.own(bytes, &[known, next])
        });
        if let Some(joined) = joined {
            let bytes = graph.bytes(out).saturating_add(graph.bytes(joined));
            graph.own(bytes, &[out, joined]);
        } else if window.is_some() {
            graph.own(graph.bytes(out), &[out]);
        }
        graph
    }

    fn has_post_norm(&self) -> bool {
        self.has("v.post_ln.weight")
    }

    /// Width of the patches of a token beside each other.
    pub(super) fn merged(&self) -> u64 {
        let vision = self.vision();
        vision.width * vision.merge * vision.merge
    }

    /// A convolution as a product: its windows beside each other in F16 (F32 if its weights are BF16), the product, and its
    /// planes put in order.
    fn convolved(&self, graph: &mut Graph, raw: Id) -> Id {
        let vision = self.vision();
        let rows = self.patches() * self.batch;
        let inputs = 3 * vision.patch * vision.patch;
        let windows = self.windows(
            graph,
            raw,
            inputs.saturating_mul(rows),
            "v.patch_embd.weight",
        );
        let product = graph.own(f32_bytes(vision.width, rows), &[windows]);
        graph.own(graph.bytes(product), &[product])
    }

    /// So many values that a convolution with this matrix sees, one window beside the other.
    pub(super) fn windows(&self, graph: &mut Graph, of: Id, values: u64, matrix: &str) -> Id {
        let stored = self.projector.tensors.iter();
        let mut stored =
            stored.filter(|t| self.projector.is_stored && t.tensor.dtype == Dtype::BF16);
        let wide = stored.any(|t| t.tensor.name == matrix);
        let size = if wide { 4 } else { 2 };
        graph.own(values.saturating_mul(size), &[of])
    }

    /// Pixels to patches with their positions.
    fn embedded(&self, graph: &mut Graph, raw: Id, positions: Option<Id>) -> Id {
        let encoder = &self.projector.family.encoder;
        let width = self.vision().width;
        let mut stream = match encoder.patches {
            Patches::One => {
                let planes = self.convolved(graph, raw);
                graph.own(graph.bytes(planes), &[planes])
            }
            Patches::TwoFrames => {
                let frames = [self.convolved(graph, raw), self.convolved(graph, raw)];
                let sum = graph.in_place(&frames);
                let rows = graph.own(graph.bytes(sum), &[sum]);
                graph.own(graph.bytes(rows), &[rows])
            }
            Patches::Unfolded => {
                let patch = self.vision().patch;
                let pixels = f32_bytes(3 * patch * patch, self.patches() * self.batch);
                let pixels = graph.own(pixels, &[raw]);
                let rows = self.patches() * self.batch;
                graph.own(f32_bytes(width, rows), &[pixels])
            }
            Patches::Normed => {
                let side = self.vision().token_side();
                let windows = f32_bytes(3 * side * side, self.rows());
                let windows = graph.own(windows, &[raw]);
                let normed = graph.own(graph.bytes(windows), &[windows]);
                graph.own(f32_bytes(width, self.rows()), &[normed])
            }
        };
        let all = f32_bytes(width, self.rows());
        if encoder.patches == Patches::Normed || self.has("v.norm_embd.weight") {
            stream = graph.own(all, &[stream]);
        }
        if self.has_class_token() {
            stream = graph.own(all, &[stream]);
        }
        match (encoder.positions, positions) {
            (Positions::LookedUp(tables), Some(positions)) => {
                for _ in 0..tables {
                    let rows = graph.own(all, &[positions]);
                    stream = graph.in_place(&[stream, rows]);
                }
            }
            (
                Positions::Resized
                | Positions::Interpolated
                | Positions::Axes { beside_table: true },
                _,
            ) => {
                let side = self.vision().image / self.vision().patch;
                let patch = self.vision().patch;
                let own = self.picture.width / patch == side && self.picture.height / patch == side;
                let mut table = graph.store(&[]);
                // Brought to the size, which is two steps; put in the order of tokens, which is two more.
                let ordered = if encoder.positions == Positions::Resized {
                    2
                } else {
                    0
                };
                for _ in 0..ordered + if own { 0 } else { 2 } {
                    table = graph.own(all, &[table]);
                }
                stream = graph.in_place(&[stream, table]);
            }
            _ => {}
        }
        stream
    }

    /// A block; the last one is followed by what the projection prepares.
    fn block(
        &self,
        graph: &mut Graph,
        stream: Id,
        positions: Option<Id>,
        (window, rows): (Option<Window>, u64),
        (block, last): (u64, bool),
    ) -> Id {
        let encoder = &self.projector.family.encoder;
        let vision = self.vision();
        let row = f32_bytes(vision.width, rows);
        graph.stage = "attention";
        let normed = graph.own(row, &[stream]);
        let has_norms = self.has("v.blk.0.attn_q_norm.weight");
        // Heads are a view of rows, over which the first operation on them does not write.
        let turned = |graph: &mut Graph, of: Id| match (encoder.positions, positions) {
            (
                Positions::Resized
                | Positions::Rotated
                | Positions::Axes { .. }
                | Positions::LookedUp(2),
                Some(at),
            ) => graph.own(row, &[of, at]),
            _ if has_norms => graph.own(row, &[of]),
            _ => of,
        };
        let (query, key, value) = if encoder.fused_qkv {
            let all = graph.own(row.saturating_mul(3), &[normed]);
            let parts = [0; 3].map(|_| graph.slice(row, all));
            let [query, key, value] = parts;
            // Rows that are part of longer ones are not written over.
            let at = positions.unwrap_or(query);
            let query = graph.own(row, &[query, at]);
            let key = graph.own(row, &[key, at]);
            (query, key, value)
        } else {
            let query = graph.own(row, &[normed]);
            let query = turned(graph, query);
            let key = graph.own(row, &[normed]);
            let key = turned(graph, key);
            let mut value = graph.own(row, &[normed]);
            if encoder.value_norm {
                value = graph.own(row, &[value]);
            }
            (query, key, value)
        };
        if let (true, Head::Pool { transposed: true }) = (last, encoder.head) {
            // The matrix of the projection is turned before what it is multiplied with is computed.
            let matrix = vision.width.saturating_mul(vision.text).saturating_mul(2);
            graph.own(matrix, &[]);
        }
        let mask = window.filter(|window| !(block + 1).is_multiple_of(window.every));
        let each = rows / self.batch;
        let scores = f32_bytes(each.saturating_mul(each), vision.heads * self.batch);
        let fused = self.flash_attention;
        let mask = mask.map(|window| window.mask);
        let attended = attended(graph, fused, scores, [query, key, value], mask);
        let out = graph.own(row, &[attended]);
        let stream = graph.in_place(&[out, stream]);

        graph.stage = "feed-forward";
        let normed = graph.own(row, &[stream]);
        let inner = f32_bytes(vision.inner, rows);
        let up = graph.own(inner, &[normed]);
        let activated = if encoder.gated {
            let gate = graph.own(inner, &[normed]);
            graph.own(inner, &[gate, up])
        } else {
            graph.in_place(&[up])
        };
        let down = graph.own(row, &[activated]);
        graph.in_place(&[stream, down])
    }
}
