//! The tensors of one feed-forward: dense, or routed experts with an optional shared one.

use super::arena::Id;
use super::graph::{Builder, f32_bytes};
use crate::model::spec::FeedForward;

impl Builder<'_> {
    /// The feed-forward of `rows` rows of `normed`, back at the residual stream's width; `None` if
    /// the layer has none.
    pub(super) fn feed_forward(
        &mut self,
        feed_forward: &FeedForward,
        normed: Id,
        rows: u64,
    ) -> Option<Id> {
        match *feed_forward {
            FeedForward::None => None,
            FeedForward::Dense { inner } => Some(self.dense(inner, normed, rows)),
            FeedForward::Experts {
                count,
                used,
                inner,
                shared_inner,
            } => {
                let routed = self.experts(count, used, inner, normed, rows);
                if shared_inner == 0 {
                    return Some(routed);
                }
                let shared = self.dense(shared_inner, normed, rows);
                Some(self.graph.in_place(&[routed, shared]))
            }
        }
    }

    /// Gate and up projections, their product, the down projection. The product cannot take the
    /// place of either, so three inner widths live at once.
    fn dense(&mut self, inner: u64, normed: Id, rows: u64) -> Id {
        let inner = f32_bytes(inner, rows);
        let gate = self.graph.own(inner, &[normed]);
        let up = self.graph.own(inner, &[normed]);
        let product = self.graph.own(inner, &[gate, up]);
        self.graph
            .own(f32_bytes(self.model.dims.hidden, rows), &[product])
    }

    /// Router, then the chosen experts side by side, then their weighted sum.
    fn experts(&mut self, count: u64, used: u64, inner: u64, normed: Id, rows: u64) -> Id {
        self.graph.stage = "experts";
        let (used, hidden) = (used.max(1), self.model.dims.hidden);
        let logits = self.graph.own(f32_bytes(count, rows), &[normed]);
        let scores = self.graph.in_place(&[logits]);
        let sorted = self.graph.own(f32_bytes(count, rows), &[scores]);
        let chosen = self.graph.slice(f32_bytes(used, rows), sorted);
        let scores = self.graph.reshape(scores);
        let weights = self.graph.own(f32_bytes(used, rows), &[scores, chosen]);

        let wide = f32_bytes(inner.saturating_mul(used), rows);
        let normed = self.graph.reshape(normed);
        let gate = self.graph.own(wide, &[normed, chosen]);
        let up = self.graph.own(wide, &[normed, chosen]);
        let product = self.graph.own(wide, &[gate, up]);
        let out = self.graph.own(
            f32_bytes(hidden.saturating_mul(used), rows),
            &[product, chosen],
        );
        let weighted = self.graph.in_place(&[out, weights]);

        // Views of every expert come before the sums, so the experts' rows live until the last.
        let one = f32_bytes(hidden, rows);
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
