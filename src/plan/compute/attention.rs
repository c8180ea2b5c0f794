//! The tensors of one attention layer: projections, store to the cache, scores, output projection.

use super::Backend;
use super::arena::Id;
use super::graph::{Builder, CacheInputs};
use crate::model::spec::{Attention, Cache};
use crate::plan::kv;

impl Builder<'_> {
    /// Attention over `normed`, back at the residual stream's width.
    pub(super) fn attention(&mut self, attention: &Attention, normed: Id) -> Id {
        let inputs = if attention.window.is_some() {
            self.window
        } else {
            self.full
        };
        let Some(inputs) = inputs else { return normed };
        let latent = attention.value_dim == 0;
        let mut query = if latent {
            self.latent_query(attention, normed)
        } else {
            let heads = self.projected(attention.heads.saturating_mul(attention.key_dim), normed);
            self.graph.in_place(&[heads, self.positions])
        };
        query = self.rotated(query, inputs.key_rotation);
        if attention.cache == Cache::Own {
            self.store(attention, &inputs, normed, latent);
        }
        let attended = if self.settings.flash_attention {
            self.fused_scores(attention, &inputs, query)
        } else {
            self.plain_scores(attention, &inputs, query)
        };
        let attended = self.rotated(attended, inputs.value_rotation);
        let hidden = self.each_token(self.model.dims.hidden);
        self.graph.own(hidden, &[attended])
    }

    /// A projection to `width`, seen as heads. What follows (norm, rope) reads a view and so cannot
    /// work in its place.
    fn projected(&mut self, width: u64, normed: Id) -> Id {
        let bytes = self.each_token(width);
        let product = self.graph.own(bytes, &[normed]);
        self.graph.reshape(product)
    }

    /// Latent attention's query: projected, then carried into the latent space of the keys.
    fn latent_query(&mut self, attention: &Attention, normed: Id) -> Id {
        let bytes = self.each_token(attention.heads.saturating_mul(attention.key_dim));
        let projected = self.graph.own(bytes, &[normed]);
        let absorbed = self.graph.own(bytes, &[projected]);
        self.graph.own(bytes, &[absorbed, projected])
    }

    /// Rotates before (or after) a quantized cache: a product of the same size.
    fn rotated(&mut self, vectors: Id, rotation: Option<Id>) -> Id {
        let Some(rotation) = rotation else {
            return vectors;
        };
        let rows = self.graph.reshape(vectors);
        let bytes = self.graph.bytes(rows);
        let product = self.graph.own(bytes, &[rotation, rows]);
        self.graph.reshape(product)
    }

    /// Projects keys and values and writes them to the cache. Models with windows do keys first.
    fn store(&mut self, attention: &Attention, inputs: &CacheInputs, normed: Id, latent: bool) {
        let keys_first = self.window.is_some();
        let mut keys = keys_first.then(|| self.keys(attention, inputs, normed));
        let values = (!latent).then(|| self.values(attention, inputs, normed));
        let keys = *keys.get_or_insert_with(|| self.keys(attention, inputs, normed));
        let keys = self.graph.reshape(keys);
        self.graph.store(&[keys, inputs.key_rows]);
        if let Some(values) = values {
            let values = self.graph.reshape(values);
            self.graph.store(&[values, inputs.value_rows]);
        }
    }

    fn keys(&mut self, attention: &Attention, inputs: &CacheInputs, normed: Id) -> Id {
        let keys = self.projected(kv::key_width(attention), normed);
        let keys = self.graph.in_place(&[keys, self.positions]);
        self.rotated(keys, inputs.key_rotation)
    }

    fn values(&mut self, attention: &Attention, inputs: &CacheInputs, normed: Id) -> Id {
        let mut values = self.projected(kv::value_width(attention), normed);
        if self.model.dims.per_layer_embedding > 0 {
            // gemma3n and gemma4 norm values too.
            values = self.graph.in_place(&[values]);
        }
        self.rotated(values, inputs.value_rotation)
    }

    /// Elements of a head of what attention returns: a latent's is cut to size only afterwards.
    fn result_dim(&self, attention: &Attention) -> u64 {
        if attention.value_dim == 0 {
            attention.key_dim
        } else {
            attention.value_dim
        }
    }

    /// Flash attention keeps no scores. On CUDA a quantized cache is first expanded to F16, in room
    /// that belongs to the result (`ggml_cuda_flash_attn_ext_get_alloc_size`).
    fn fused_scores(&mut self, attention: &Attention, inputs: &CacheInputs, query: Id) -> Id {
        let result = self.each_token(attention.heads.saturating_mul(self.result_dim(attention)));
        let mut scratch = 0u64;
        if self.backend == Backend::Cuda {
            let cells = inputs.cells.saturating_mul(self.settings.streams());
            let expanded = |quantized: bool, width: u64| {
                if quantized {
                    width.saturating_mul(2).saturating_mul(cells)
                } else {
                    0
                }
            };
            scratch = expanded(
                self.settings.type_k.is_quantized(),
                kv::key_width(attention),
            )
            .saturating_add(expanded(
                self.settings.type_v.is_quantized(),
                kv::value_width(attention),
            ));
        }
        let query = self.graph.reshape(query);
        let fused = self
            .graph
            .own(result.saturating_add(scratch), &[query, inputs.mask]);
        self.graph.reshape(fused)
    }

    /// Scores of every token with every cell, F32, turned into weights in place.
    fn plain_scores(&mut self, attention: &Attention, inputs: &CacheInputs, query: Id) -> Id {
        let query = self.graph.reshape(query);
        let scores = self.each_token(attention.heads.saturating_mul(inputs.cells));
        let scores = self.graph.own(scores, &[query]);
        let weights = self.graph.in_place(&[scores, inputs.mask]);
        let result = self.each_token(attention.heads.saturating_mul(self.result_dim(attention)));
        let mixed = self.graph.own(result, &[weights]);
        let heads = self.graph.slice(result, mixed);
        self.graph.own(result, &[heads])
    }
}
