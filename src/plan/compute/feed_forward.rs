//! The tensors of one feed-forward: dense, or routed experts with an optional shared one.

use super::fusion::UpProjection;
use super::graph::{Builder, f32_bytes};
use super::tensors::Id;
use crate::model::FeedForward;

impl Builder<'_> {
    /// The feed-forward of layer `index` over `rows` rows of `normed`, projected back to the width of the residual
    /// stream. A layer without one returns `normed`.
    pub(super) fn feed_forward(
        &mut self,
        index: usize,
        feed_forward: &FeedForward,
        normed: Id,
        rows: u64,
    ) -> Id {
        let up = self
            .fusions
            .get(index)
            .map_or(UpProjection::default(), |fusion| fusion.up);
        let hidden = f32_bytes(self.model.dims.hidden, rows);
        match *feed_forward {
            FeedForward::None => normed,
            FeedForward::Dense { inner } => {
                let product = self.widened(up, f32_bytes(inner, rows), &[normed]);
                self.graph.own(hidden, &[product])
            }
            FeedForward::Experts {
                count,
                used,
                inner,
                shared_inner,
            } => {
                let routed = self.experts(up, count, used.max(1), inner, normed, rows);
                if shared_inner == 0 {
                    return routed;
                }
                let product = self.widened(up, f32_bytes(shared_inner, rows), &[normed]);
                let shared = self.graph.own(hidden, &[product]);
                self.graph.in_place(&[routed, shared])
            }
        }
    }

    /// `bytes` of activations at the inner width, from `sources`. The product of gate and up projection has memory of its
    /// own, so that all three are alive together.
    fn widened(&mut self, up: UpProjection, bytes: u64, sources: &[Id]) -> Id {
        match up {
            UpProjection::Gated => {
                let gate = self.graph.own(bytes, sources);
                let up = self.graph.own(bytes, sources);
                self.graph.own(bytes, &[gate, up])
            }
            UpProjection::Merged => {
                let both = self.graph.own(bytes.saturating_mul(2), sources);
                self.graph.own(bytes, &[both])
            }
            UpProjection::Plain => {
                let up = self.graph.own(bytes, sources);
                self.graph.in_place(&[up])
            }
        }
    }

    /// Router, then the selected experts side by side, then their weighted sum.
    fn experts(
        &mut self,
        up: UpProjection,
        count: u64,
        used: u64,
        inner: u64,
        normed: Id,
        rows: u64,
    ) -> Id {
        self.graph.stage = "experts";
        let one = f32_bytes(self.model.dims.hidden, rows);
        let logits = self.graph.own(f32_bytes(count, rows), &[normed]);
        let scores = self.graph.in_place(&[logits]);
        let sorted = self.graph.own(f32_bytes(count, rows), &[scores]);
        let chosen = self.graph.slice(f32_bytes(used, rows), sorted);
        let scores = self.graph.reshape(scores);
        let weights = self.graph.own(f32_bytes(used, rows), &[scores, chosen]);

        let token = self.graph.reshape(normed);
        let product = self.widened(
            up,
            f32_bytes(inner.saturating_mul(used), rows),
            &[token, chosen],
        );
        let out = self.graph.own(one.saturating_mul(used), &[product, chosen]);
        let weighted = self.graph.in_place(&[out, weights]);

        // Views of all experts come before the sums, so the outputs of all experts are alive until the last sum.
        let views: Vec<Id> = (0..used.min(1024))
            .map(|_| self.graph.slice(one, weighted))
            .collect();
        let mut views = views.into_iter();
        let Some(mut sum) = views.next() else {
            return weighted;
        };
        if used == 1 {
            return self.graph.own(one, &[sum]);
        }
        for view in views {
            sum = self.graph.in_place(&[sum, view]);
        }
        sum
    }
}
