//! The tensors of one recurrent or convolutional mixer (Mamba, gated delta net, short convolution).

use super::arena::Id;
use super::graph::Builder;
use crate::model::spec::Recurrent;

impl Builder<'_> {
    /// A recurrent mixer over `normed`, back at the residual stream's width.
    ///
    /// The shape that the three kinds share: one wide projection, the convolution's window put
    /// before it, the convolution, the scan (whose result carries the new state), a gate, the output
    /// projection.
    pub(super) fn recurrent(&mut self, recurrent: &Recurrent, normed: Id) -> Id {
        let sequences = self.settings.sequences();
        let window = recurrent
            .conv_elements
            .saturating_mul(4)
            .saturating_mul(sequences);
        let state = recurrent
            .state_elements
            .saturating_mul(4)
            .saturating_mul(sequences);
        let wide = self.each_token(recurrent.inner);

        let projected = self.graph.own(wide, &[normed]);
        let before = self.graph.own(window, &[]);
        let joined = self
            .graph
            .own(wide.saturating_add(window), &[before, projected]);
        let tail = self.graph.slice(window, joined);
        self.graph.store(&[tail]);
        let convolved = self.graph.own(wide, &[joined]);
        let mut mixed = self.graph.in_place(&[convolved]);
        if state > 0 {
            let old = self.graph.own(state, &[]);
            let scanned = self.graph.own(wide.saturating_add(state), &[mixed, old]);
            let new = self.graph.slice(state, scanned);
            self.graph.store(&[new]);
            mixed = self.graph.slice(wide, scanned);
        }
        let gated = self.graph.own(wide, &[mixed, projected]);
        let hidden = self.each_token(self.model.dims.hidden);
        self.graph.own(hidden, &[gated])
    }
}
