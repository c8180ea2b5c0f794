//! What follows the blocks of an image encoder, and what merges patches between them: the tensors of the projection.
//!
//! Sources: `tools/mtmd/models/*.cpp` of llama.cpp.

use super::encoder::Pass;
use super::graph::f32_bytes;
use super::heads::attended;
use super::tensors::{Graph, Id};
use crate::model::projector::Head;

/// Width of a head of the attention that resamples patches.
const RESAMPLER_HEAD: u64 = 128;

impl Pass<'_> {
    /// Attention within each four patches, then one row of the four: their mean, and two matrices over all of them.
    pub(super) fn fours(&self, graph: &mut Graph, stream: Id, mask: Id) -> Id {
        let vision = self.vision();
        let rows = self.rows();
        let row = f32_bytes(vision.width, rows);
        graph.stage = "merger";
        let index = graph.store(&[]);
        let normed = graph.own(row, &[stream]);
        let ordered = graph.own(row, &[normed, index]);
        let [query, key, value] = [0; 3].map(|_| graph.own(row, &[ordered]));
        let scores = f32_bytes(rows.saturating_mul(rows), vision.heads);
        let fused = self.flash_attention;
        let attended = attended(graph, fused, scores, [query, key, value], Some(mask));
        let out = graph.own(row, &[attended]);
        let out = graph.own(row, &[out, index]);
        let stream = graph.in_place(&[out, stream]);
        let (mean, all) = self.beside(graph, stream, rows / 4);
        let normed = graph.own(graph.bytes(all), &[all]);
        let up = graph.own(f32_bytes(4 * vision.inner, rows / 4), &[normed]);
        let up = graph.in_place(&[up]);
        let down = graph.own(row / 4, &[up]);
        graph.in_place(&[down, mean])
    }

    /// So many rows of four patches each: the first of the four, which their mean takes the place of, and all beside each
    /// other.
    fn beside(&self, graph: &mut Graph, stream: Id, rows: u64) -> (Id, Id) {
        let each = f32_bytes(self.vision().width, rows);
        let parts = [0; 4].map(|_| graph.own(each, &[stream]));
        let [first, rest @ ..] = parts;
        let mut mean = graph.own(each, &[first]);
        let mut all = first;
        for part in rest {
            mean = graph.in_place(&[mean, part]);
            all = graph.own(graph.bytes(all).saturating_add(each), &[all, part]);
        }
        (mean, all)
    }

    /// Attention of a fixed number of queries over all patches, and one matrix.
    fn resampled(&self, graph: &mut Graph, stream: Id) -> Id {
        let vision = self.vision();
        let rows = self.patches() * self.batch;
        let every = f32_bytes(vision.text, rows);
        let asked = f32_bytes(vision.text, vision.queries);
        let query = graph.own(asked, &[]);
        let query = graph.own(asked, &[query]);
        let value = graph.own(every, &[stream]);
        let value = graph.own(every, &[value]);
        // Sines and cosines of both axes, joined two by two.
        let quarter = every / 4;
        let angles = graph.own(quarter, &[]);
        let half = |graph: &mut Graph, turned: Id| {
            let parts = [0; 2].map(|_| graph.own(quarter, &[turned]));
            graph.own(every / 2, &parts)
        };
        let columns = graph.own(quarter, &[angles]);
        let columns = half(graph, columns);
        let rows_turned = graph.in_place(&[angles]);
        let lines = half(graph, rows_turned);
        let places = graph.own(every, &[columns, lines]);
        let key = graph.in_place(&[places, value]);
        let key = graph.own(every, &[key]);
        let value = graph.own(every, &[value]);
        let heads = vision.text / RESAMPLER_HEAD;
        let scores = f32_bytes(rows.saturating_mul(vision.queries), heads);
        let fused = self.flash_attention;
        let attended = attended(graph, fused, scores, [query, key, value], None);
        let out = graph.own(asked, &[attended]);
        let normed = graph.own(asked, &[out]);
        graph.own(asked, &[normed])
    }

    /// Two matrices over the tokens, the first of them `inner` wide.
    pub(super) fn mlp(&self, graph: &mut Graph, stream: Id, inner: u64) -> Id {
        let up = graph.own(f32_bytes(inner, self.tokens()), &[stream]);
        let activated = graph.in_place(&[up]);
        self.mapped(graph, activated)
    }

    /// One matrix to the width of the text model.
    fn mapped(&self, graph: &mut Graph, stream: Id) -> Id {
        graph.own(f32_bytes(self.vision().text, self.tokens()), &[stream])
    }

    /// What is there from the start of a pass, since it is made of nothing: the embedding of a token for each row.
    pub(super) fn ready(&self, graph: &mut Graph) -> Option<Id> {
        let vision = self.vision();
        match self.projector.family.encoder.head {
            Head::Unfolded if self.has("v.token_embd.img_break") => {
                Some(graph.own(f32_bytes(vision.text, self.lines()), &[]))
            }
            _ => None,
        }
    }

    pub(super) fn head(&self, graph: &mut Graph, stream: Id, ready: Option<Id>) -> Id {
        let vision = self.vision();
        let patches = f32_bytes(vision.width, self.patches() * self.batch);
        match self.projector.family.encoder.head {
            Head::Shuffle => {
                let columns = graph.own(patches, &[stream]);
                let rows = graph.own(patches, &[columns]);
                self.mapped(graph, rows)
            }
            Head::ShuffleMlp => {
                let mut rows = stream;
                // Without the class token; then as columns, and as rows.
                for _ in 0..if self.has_class_token() { 3 } else { 2 } {
                    rows = graph.own(patches, &[rows]);
                }
                let mut norms = ["mm.model.mlp.0.weight", "mm.input_norm.weight"].iter();
                if norms.any(|norm| self.has(norm)) {
                    rows = graph.own(patches, &[rows]);
                }
                self.mlp(graph, rows, vision.projection)
            }
            Head::Pool { .. } => {
                let planes = graph.own(patches, &[stream]);
                let pooled = graph.own(f32_bytes(vision.width, self.tokens()), &[planes]);
                let rows = graph.own(graph.bytes(pooled), &[pooled]);
                self.mapped(graph, rows)
            }
            Head::Normed => {
                let normed = graph.own(patches, &[stream]);
                self.mapped(graph, normed)
            }
            Head::Mlp => self.mlp(graph, stream, self.merged()),
            Head::Resampler => self.resampled(graph, stream),
            Head::Merged => {
                let (_, all) = self.beside(graph, stream, self.tokens());
                let normed = graph.own(graph.bytes(all), &[all]);
                self.mlp(graph, normed, 4 * vision.width)
            }
            Head::Unfolded => {
                let normed = graph.own(patches, &[stream]);
                let planes = graph.own(patches, &[normed]);
                let beside = graph.own(patches, &[planes]);
                let merged = graph.own(f32_bytes(vision.width, self.tokens()), &[beside]);
                let rows = self.mlp(graph, merged, vision.projection);
                let Some(token) = ready else {
                    return rows;
                };
                let all = graph.bytes(rows).saturating_add(graph.bytes(token));
                graph.own(all, &[rows, token])
            }
            Head::Downsampled => {
                let planes = graph.own(patches, &[stream]);
                let values = self.merged().saturating_mul(self.tokens());
                let windows = self.windows(graph, planes, values, "mm.patch_merger.weight");
                let row = f32_bytes(vision.text, self.tokens());
                let product = graph.own(row, &[windows]);
                let ordered = graph.own(row, &[product]);
                let ordered = graph.in_place(&[ordered]);
                let mapped = graph.own(row, &[ordered]);
                let normed = graph.own(row, &[mapped]);
                let normed = graph.in_place(&[normed]);
                let inner = f32_bytes(vision.projection, self.tokens());
                let up = graph.own(inner, &[normed]);
                let gate = graph.own(inner, &[normed]);
                let activated = graph.own(inner, &[gate, up]);
                graph.own(row, &[activated])
            }
            Head::Adapter => {
                let columns = graph.own(patches, &[stream]);
                let rows = graph.own(patches, &[columns]);
                let inner = f32_bytes(vision.projection, self.tokens());
                let up = graph.own(inner, &[rows]);
                let up = graph.in_place(&[up]);
                let out = graph.own(inner, &[up]);
                let out = graph.in_place(&[out]);
                self.mapped(graph, out)
            }
            Head::Rows => {
                let at = graph.input(4 * self.patches());
                let outputs = (vision.feature_blocks.len() as u64).max(1);
                let rows = graph.own(patches.saturating_mul(outputs), &[stream, at]);
                self.mlp(graph, rows, vision.projection)
            }
        }
    }
}
