//! The tensors of one attention layer: projections, store to the cache, scores, output projection.

use super::ComputeBackend;
use super::graph::{Builder, CacheInputs};
use super::tensors::Id;
use crate::model::{Attention, Cache};
use crate::plan::kv;

/// Projected queries, keys and values, before the cache.
struct Qkv {
    query: Id,
    keys: Option<Id>,
    values: Option<Id>,
    /// The tensor with the gate of the output, where the query projection gives one.
    gate: Option<Id>,
}

/// What comes between the projection of heads and the cache.
#[derive(Clone, Copy)]
struct Turned {
    /// Whether they are rotated by position.
    positions: bool,
    /// Whether they are normed.
    norms: bool,
}

/// Queries, and what else scores and their sum are computed from.
pub(super) struct Projected {
    query: Id,
    gate: Option<Id>,
    /// Keys and values of the pass, where there is no cache.
    passed: Vec<Id>,
    inputs: CacheInputs,
}

impl Builder<'_> {
    /// Attention of layer `index` over `normed`, projected back to the width of the residual stream.
    pub(super) fn attention(&mut self, index: usize, attention: &Attention, normed: Id) -> Id {
        match self.projected(index, attention, normed) {
            Some(projected) => self.attended(attention, projected),
            None => normed,
        }
    }

    /// Queries, keys and values of layer `index`, the latter two stored in the cache.
    pub(super) fn projected(
        &mut self,
        index: usize,
        attention: &Attention,
        normed: Id,
    ) -> Option<Projected> {
        let inputs = if attention.window.is_some() {
            self.window
        } else {
            self.full
        };
        let inputs = inputs?;
        let fusion = self.fusions.get(index).copied().unwrap_or_default();
        let projected = if attention.value_dim == 0 {
            self.latent(attention, &inputs, normed)
        } else if fusion.qkv {
            self.fused_qkv(attention, &inputs, normed)
        } else {
            let turned = Turned {
                positions: self.rotated.has(index, &self.model.layers),
                norms: fusion.head_norms,
            };
            self.separate_qkv(attention, &inputs, normed, fusion.gated_query, turned)
        };
        let passed = [projected.keys, projected.values];
        let passed = match inputs.rows {
            Some(rows) => {
                for (made, rows) in passed.into_iter().zip(rows) {
                    if let Some(made) = made {
                        let made = self.graph.reshape(made);
                        self.graph.store(&[made, rows]);
                    }
                }
                Vec::new()
            }
            None => passed.into_iter().flatten().collect(),
        };
        Some(Projected {
            query: projected.query,
            gate: projected.gate,
            passed,
            inputs,
        })
    }

    /// Scores and the weighted sum of values, projected back to the width of the residual stream.
    pub(super) fn attended(&mut self, attention: &Attention, projected: Projected) -> Id {
        let Projected {
            query,
            gate,
            passed,
            inputs,
        } = projected;
        let attended = if self.settings.flash_attention {
            self.fused_scores(attention, &inputs, query, &passed)
        } else {
            self.plain_scores(attention, &inputs, query, &passed)
        };
        let attended = self.rotated(attended, inputs.value_rotation);
        let attended = match gate {
            Some(gate) => {
                let bytes = self.graph.bytes(attended);
                let gate = self.graph.own(bytes, &[gate]);
                self.graph.in_place(&[gate, attended])
            }
            None => attended,
        };
        let hidden = self.each_token(self.model.dims.hidden);
        self.graph.own(hidden, &[attended])
    }

    /// Query, values, keys; models with windows compute keys before values. What follows a projection (norm, rope) reads a
    /// view of it (heads), and so cannot work in place.
    fn separate_qkv(
        &mut self,
        attention: &Attention,
        inputs: &CacheInputs,
        normed: Id,
        gated: bool,
        turned: Turned,
    ) -> Qkv {
        let width = attention.heads.saturating_mul(attention.key_dim);
        let product = self.heads(width.saturating_mul(if gated { 2 } else { 1 }), normed);
        let gate = gated.then_some(product);
        let query = self.graph.slice(self.each_token(width), product);
        let query = self.turned(query, turned);
        let query = self.rotated(query, inputs.key_rotation);
        if attention.cache == Cache::Shared {
            return Qkv {
                query,
                keys: None,
                values: None,
                gate,
            };
        }
        let keys_first = self.model.has_windows();
        let early = keys_first.then(|| self.keys(attention, inputs, normed, turned));
        let mut values = self.heads(kv::value_width(attention), normed);
        if self.model.dims.per_layer_embedding > 0 {
            // gemma3n and gemma4 norm values too.
            values = self.graph.in_place(&[values]);
        }
        let values = self.rotated(values, inputs.value_rotation);
        let keys = early.unwrap_or_else(|| self.keys(attention, inputs, normed, turned));
        Qkv {
            query,
            keys: Some(keys),
            values: Some(values),
            gate,
        }
    }

    fn keys(
        &mut self,
        attention: &Attention,
        inputs: &CacheInputs,
        normed: Id,
        turned: Turned,
    ) -> Id {
        let keys = self.heads(kv::key_width(attention), normed);
        let keys = self.turned(keys, turned);
        self.rotated(keys, inputs.key_rotation)
    }

    /// Heads after their norm and their rotation by position, of which a layer may have neither.
    fn turned(&mut self, heads: Id, turned: Turned) -> Id {
        match (turned.positions, turned.norms) {
            (true, _) => self.graph.in_place(&[heads, self.positions]),
            (false, true) => self.graph.in_place(&[heads]),
            (false, false) => heads,
        }
    }

    /// A projection to `width`, viewed as heads.
    fn heads(&mut self, width: u64, normed: Id) -> Id {
        let product = self.graph.own(self.each_token(width), &[normed]);
        self.graph.reshape(product)
    }

    /// One product, sliced in three; the strides of the slices make some copies necessary.
    fn fused_qkv(&mut self, attention: &Attention, inputs: &CacheInputs, normed: Id) -> Qkv {
        let widths = [
            attention.heads.saturating_mul(attention.key_dim),
            kv::key_width(attention),
            kv::value_width(attention),
        ];
        let [query, keys, values] = widths.map(|width| self.each_token(width));
        let all = query.saturating_add(keys).saturating_add(values);
        let product = self.graph.own(all, &[normed]);
        let part = self.graph.slice(query, product);
        let query = self.graph.own(query, &[part, self.positions]);
        let query = self.rotated(query, inputs.key_rotation);
        let value_bytes = values;
        let mut values = self.graph.slice(values, product);
        if inputs.value_rotation.is_some() || !self.settings.flash_attention {
            values = self.graph.own(value_bytes, &[values]);
        }
        let values = self.rotated(values, inputs.value_rotation);
        let part = self.graph.slice(keys, product);
        let keys = self.graph.own(keys, &[part, self.positions]);
        let keys = self.rotated(keys, inputs.key_rotation);
        Qkv {
            query,
            keys: Some(keys),
            values: Some(values),
            gate: None,
        }
    }

    /// Latent attention (MLA): the query is projected into the latent space of the keys, and the cached latent is the
    /// values too.
    fn latent(&mut self, attention: &Attention, inputs: &CacheInputs, normed: Id) -> Qkv {
        let latent = Latent::of(attention);
        let wide = self.each_token(attention.heads.saturating_mul(attention.key_dim));
        let bytes = self.each_token(attention.heads.saturating_mul(latent.query));
        let query = self.graph.own(bytes, &[normed]);
        let part = self.graph.slice(bytes, query);
        let bytes = self.each_token(attention.heads.saturating_mul(latent.content));
        let absorbed = self.graph.own(bytes, &[part]);
        let bytes = self.each_token(
            attention
                .heads
                .saturating_mul(attention.key_dim - latent.content),
        );
        let roped = self.graph.own(bytes, &[part, self.positions]);
        let query = self.graph.own(wide, &[absorbed, roped]);
        let width = self.each_token(kv::key_width(attention));
        let product = self.graph.own(width, &[normed]);
        let part = self.graph.slice(width, product);
        let normed = self.graph.own(width, &[part]);
        let keys = self.graph.own(width, &[normed, part]);
        let query = self.rotated(query, inputs.key_rotation);
        let keys = self.rotated(keys, inputs.key_rotation);
        Qkv {
            query,
            keys: Some(keys),
            values: None,
            gate: None,
        }
    }

    /// The rotation before (or after) a quantized cache: a product of the same size.
    fn rotated(&mut self, vectors: Id, rotation: Option<Id>) -> Id {
        let Some(rotation) = rotation else {
            return vectors;
        };
        let rows = self.graph.reshape(vectors);
        let bytes = self.graph.bytes(rows);
        let product = self.graph.own(bytes, &[rotation, rows]);
        self.graph.reshape(product)
    }

    /// Bytes of the output of attention, before a latent is projected back to value heads.
    fn result(&self, attention: &Attention) -> u64 {
        let dim = match attention.value_dim {
            0 => Latent::of(attention).content,
            dim => dim,
        };
        self.each_token(attention.heads.saturating_mul(dim))
    }

    /// A latent output, projected back to the width of value heads.
    fn unlatent(&mut self, attention: &Attention, result: Id) -> Id {
        if attention.value_dim > 0 {
            return result;
        }
        let bytes = self.each_token(attention.heads.saturating_mul(Latent::of(attention).value));
        self.graph.own(bytes, &[result])
    }

    /// Flash attention keeps no scores. On CUDA a quantized cache is first expanded to F16, in memory that is allocated
    /// with the output (`ggml_cuda_flash_attn_ext_get_alloc_size`). Keys and values of the pass alone (`passed`) become F16.
    fn fused_scores(
        &mut self,
        attention: &Attention,
        inputs: &CacheInputs,
        query: Id,
        passed: &[Id],
    ) -> Id {
        let mut bytes = self.result(attention);
        if self.backend == ComputeBackend::Cuda {
            let cells = inputs.cells.saturating_mul(self.settings.streams());
            let formats = [
                (self.settings.type_k, kv::key_width(attention)),
                (self.settings.type_v, kv::value_width(attention)),
            ];
            for (_, width) in formats.iter().filter(|(dtype, _)| dtype.is_quantized()) {
                bytes = bytes.saturating_add(width.saturating_mul(2).saturating_mul(cells));
            }
        }
        let mut sources = vec![self.graph.reshape(query), inputs.mask];
        for &id in passed {
            let half = self.graph.bytes(id) / 2;
            sources.push(self.graph.own(half, &[id]));
        }
        let fused = self.graph.own(bytes, &sources);
        if attention.value_dim > 0 {
            return self.graph.slice(self.result(attention), fused);
        }
        let heads = self.unlatent(attention, fused);
        let bytes = self.graph.bytes(heads);
        let turned = self.graph.reshape(heads);
        self.graph.own(bytes, &[turned])
    }

    /// Scores of every token with every cell, or with every token where keys and values are those of the pass alone
    /// (`passed`): F32, of which the softmax is computed in place.
    fn plain_scores(
        &mut self,
        attention: &Attention,
        inputs: &CacheInputs,
        query: Id,
        passed: &[Id],
    ) -> Id {
        let query = self.graph.reshape(query);
        let scores = self.each_token(attention.heads.saturating_mul(inputs.cells));
        let mut factors = vec![query];
        factors.extend(passed.first());
        let scores = self.graph.own(scores, &factors);
        let weights = self.graph.in_place(&[scores, inputs.mask]);
        let mut sources = vec![weights];
        if let Some(&values) = passed.get(1) {
            let bytes = self.graph.bytes(values);
            sources.push(self.graph.own(bytes, &[values]));
        }
        if attention.value_dim == 0 {
            // A latent cache is not stored transposed, so a transposed copy is made here.
            let elements = Latent::of(attention).content.saturating_mul(inputs.cells);
            let copy = elements
                .saturating_mul(2)
                .saturating_mul(self.settings.streams());
            sources.insert(0, self.graph.own(copy, &[]));
        }
        let mixed = self.graph.own(self.result(attention), &sources);
        let mixed = self.unlatent(attention, mixed);
        let bytes = self.graph.bytes(mixed);
        let heads = self.graph.reshape(mixed);
        self.graph.own(bytes, &[heads])
    }
}

/// Widths of a latent head that do not follow from the cache. In DeepSeek 2 and 3, Kimi K2 and MiniCPM 3 the cached width
/// is 9 parts, 8 of content and 1 of rope; a query head has 3 parts, a value head 2.
struct Latent {
    content: u64,
    query: u64,
    value: u64,
}

impl Latent {
    fn of(attention: &Attention) -> Latent {
        let part = attention.key_dim / 9;
        Latent {
            content: attention.key_dim - part,
            query: 3 * part,
            value: 2 * part,
        }
    }
}
