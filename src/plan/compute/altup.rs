//! The tensors of gemma3n's and gemma4's additions: per-layer embeddings, and gemma3n's several
//! residual streams that one layer at a time predicts and corrects (AltUp).
//!
//! Source: `src/models/gemma3n.cpp`, `src/models/gemma4.cpp` of llama.cpp.

use super::graph::{Builder, f32_bytes};
use super::tensors::Id;
use crate::model::{FeedForward, Layer};

impl Builder<'_> {
    /// The per-layer embeddings of all layers: looked up, added to a projection of the tokens, and laid out layer by
    /// layer.
    pub(super) fn per_layer_inputs(&mut self, embedded: Id, table: Id) -> Id {
        self.graph.stage = "per-layer inputs";
        let bytes = self.graph.bytes(table);
        let table = self.graph.in_place(&[table]);
        let projected = self.graph.own(bytes, &[embedded]);
        let heads = self.graph.reshape(projected);
        let normed = self.graph.in_place(&[heads]);
        let sum = self.graph.in_place(&[normed, table]);
        let turned = self.graph.slice(bytes, sum);
        self.graph.own(bytes, &[turned])
    }

    /// gemma4: the layer's slice of the per-layer embedding, gated by the stream and added to it.
    pub(super) fn gated_per_layer(
        &mut self,
        stream: Id,
        inputs: Id,
        select: Option<Id>,
        rows: u64,
    ) -> Id {
        let narrow = f32_bytes(self.model.dims.per_layer_embedding, rows);
        let gate = self.graph.own(narrow, &[stream]);
        let gate = self.graph.in_place(&[gate]);
        let mut slice = self
            .graph
            .slice(self.each_token(self.model.dims.per_layer_embedding), inputs);
        if let Some(select) = select {
            slice = self.graph.own(narrow, &[slice, select]);
        }
        let gated = self.graph.in_place(&[gate, slice]);
        let widened = self
            .graph
            .own(f32_bytes(self.model.dims.hidden, rows), &[gated]);
        self.graph.in_place(&[widened, stream])
    }

    /// gemma3n's layers: every layer predicts all streams, works on one, corrects all.
    pub(super) fn stacked_layers(
        &mut self,
        embedded: Id,
        per_layer: Option<Id>,
        output_rows: Id,
        rows: u64,
    ) -> Id {
        let model = self.model;
        let per_layer = per_layer.map(|table| self.per_layer_inputs(embedded, table));
        let mut streams = self.stack(embedded);
        for (index, layer) in model.layers.iter().enumerate() {
            streams = self.stacked_layer(index, layer, streams, per_layer);
        }
        self.graph.stage = "output head";
        let one = self.each_token(model.dims.hidden);
        let others = one.saturating_mul(model.dims.streams.saturating_sub(1));
        let first = self.graph.slice(one, streams);
        let rest = self.graph.slice(others, streams);
        let unembedded = self.graph.own(others, &[rest]);
        let magnitude = self.graph.own(others, &[unembedded]);
        let scaled = self.graph.in_place(&[unembedded, magnitude]);
        let mut merged = first;
        for _ in 1..model.dims.streams.min(64) {
            let slice = self.graph.slice(one, scaled);
            merged = self.graph.own(one, &[merged, slice]);
        }
        self.graph
            .own(f32_bytes(model.dims.hidden, rows), &[merged, output_rows])
    }

    /// The first stack of streams: the embedding and its projections.
    fn stack(&mut self, embedded: Id) -> Id {
        self.graph.stage = "streams";
        let one = self.each_token(self.model.dims.hidden);
        let others = one.saturating_mul(self.model.dims.streams.saturating_sub(1));
        let repeated = self.graph.own(others, &[embedded]);
        let projected = self.graph.own(others, &[repeated]);
        let magnitude = self.graph.own(others, &[projected]);
        let scaled = self.graph.in_place(&[projected, magnitude]);
        self.graph
            .own(one.saturating_add(others), &[embedded, scaled])
    }

    fn stacked_layer(
        &mut self,
        index: usize,
        layer: &Layer,
        streams: Id,
        per_layer: Option<Id>,
    ) -> Id {
        let dims = &self.model.dims;
        let one = self.each_token(dims.hidden);
        let all = self.graph.bytes(streams);
        let narrow = self.each_token(dims.per_layer_embedding);

        self.graph.stage = "streams";
        let turned = self.graph.slice(all, streams);
        let turned = self.graph.own(all, &[turned]);
        let product = self.graph.own(all, &[turned]);
        let back = self.graph.slice(all, product);
        let back = self.graph.own(all, &[back]);
        let predictions = self.graph.in_place(&[back, streams]);

        let active = self.graph.slice(one, predictions);
        let normed = self.graph.own(one, &[active]);
        let laurel = self.graph.own(one, &[normed]);
        let laurel = self.graph.in_place(&[laurel, normed]);
        self.graph.stage = "attention";
        let attended = match &layer.mixer.attention {
            Some(attention) => self.attention(index, attention, normed),
            None => self.graph.own(one, &[normed]),
        };
        let gated = self.graph.in_place(&[attended, active]);
        let middle = self.graph.in_place(&[gated, laurel]);

        self.graph.stage = "feed-forward";
        let normed = self.graph.in_place(&[middle]);
        let out = match layer.feed_forward {
            FeedForward::Dense { inner } => self.sparse_dense(inner, normed),
            ref other => self.feed_forward(index, other, normed, self.tokens),
        };
        let activated = self.graph.in_place(&[out, middle]);

        self.graph.stage = "streams";
        let active = self.graph.slice(one, predictions);
        let innovation = self.graph.own(one, &[activated, active]);
        let repeated = self.graph.own(all, &[innovation]);
        let scaled = self.graph.in_place(&[repeated]);
        let corrected = self.graph.in_place(&[scaled, predictions]);

        let first = self.graph.slice(one, corrected);
        let scaled = self.graph.own(one, &[first]);
        let gate = self.graph.own(narrow, &[scaled]);
        let gated = match per_layer {
            Some(inputs) => {
                let slice = self.graph.slice(narrow, inputs);
                self.graph.in_place(&[gate, slice])
            }
            None => gate,
        };
        let widened = self.graph.own(one, &[gated]);
        let others = all.saturating_sub(one);
        let rest = self.graph.slice(others, corrected);
        let rest = self.graph.own(others, &[rest, widened]);
        let first = self.graph.slice(one, corrected);
        self.graph.own(all, &[first, rest])
    }

    /// gemma3n's feed-forward. Some layers keep only the largest activations of the gate, which
    /// takes another copy of it, and the product works in place.
    fn sparse_dense(&mut self, inner: u64, normed: Id) -> Id {
        let inner = self.each_token(inner);
        let up = self.graph.own(inner, &[normed]);
        let gate = self.graph.own(inner, &[normed]);
        let centred = self.graph.own(inner, &[gate]);
        let sparse = self.graph.in_place(&[gate, centred]);
        let product = self.graph.in_place(&[up, sparse]);
        self.graph
            .own(self.each_token(self.model.dims.hidden), &[product])
    }
}
