//! Softmax attention of one block: projections, norms and rotary positions around [`Activations::attention`].
//!
//! Whether projections are stored fused or biased and which norms there are follows from the tensors
//! of the file.

use super::DecodeError;
use super::activations::{Activations, AttentionLayout, ScoreTransform};
use super::linear::Linear;
use super::norm::Norm;
use super::rope::Frequencies;
use super::state::{AttentionLayouts, LayerState, Pass};
use super::weights::Weights;
use crate::model::{self, Cache, ForwardSpec, Layer, ModelSpec, TensorRole as R};

/// Softmax attention.
pub(super) struct Attention<X: Activations> {
    query: Projections<X>,
    query_norm: Option<Norm<X>>,
    key_norm: Option<Norm<X>>,
    output: Linear<X>,
    kv_heads: usize,
    key_width: usize,
    value_width: usize,
    scores: ScoreTransform,
    /// Its attention layout, by index.
    layout: usize,
    /// The block whose cache is read.
    cache: usize,
    value_norm: bool,
    gated: bool,
}

/// Queries, keys and values, each from its matrix or all from one.
enum Projections<X: Activations> {
    Fused(Linear<X>),
    Apart {
        query: Linear<X>,
        /// Absent where the block reads another's cache.
        key_value: Option<[Linear<X>; 2]>,
    },
}

impl<X: Activations> Attention<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
        index: usize,
        attention: &model::Attention,
        layouts: &mut AttentionLayouts,
    ) -> Result<Attention<X>, DecodeError> {
        let (layer, hidden) = (Some(index as u32), spec.dims.hidden as usize);
        let [heads, kv_heads, key_width, value_width] = [
            attention.heads,
            attention.kv_heads,
            attention.key_dim,
            attention.value_dim,
        ]
        .map(|n| n as usize);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || key_width == 0 || value_width == 0 {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {index} has {heads} query heads on {kv_heads} key heads, {key_width} and {value_width} wide"
                ),
            });
        }
        let gates = if forward.gated_query { 2 } else { 1 };
        let (queries, keys, values) = (
            gates * heads * key_width,
            kv_heads * key_width,
            kv_heads * value_width,
        );
        let own = attention.cache == Cache::Own;
        let query = if weights.has(R::AttnQkv, layer) {
            Projections::Fused(Linear::load(
                weights,
                R::AttnQkv,
                layer,
                [queries + keys + values, hidden],
            )?)
        } else {
            Projections::Apart {
                query: Linear::load(weights, R::AttnQ, layer, [queries, hidden])?,
                key_value: if own {
                    Some([
                        Linear::load(weights, R::AttnK, layer, [keys, hidden])?,
                        Linear::load(weights, R::AttnV, layer, [values, hidden])?,
                    ])
                } else {
                    None
                },
            }
        };
        if !own {
            // Published files hold these tensors, which nothing uses.
            for role in [R::AttnK, R::AttnV, R::AttnKNorm] {
                weights.drop_spare(role, layer);
            }
        }
        let window = attention.window;
        let skip = forward.rope.skip_every as usize;
        let rotated = skip == 0 || !(index + 1).is_multiple_of(skip);
        let factors = layouts.factors.as_deref();
        let frequencies =
            rotated.then(|| Frequencies::new(&forward.rope, key_width, window.is_some(), factors));
        Ok(Attention {
            query,
            query_norm: Norm::load_if_there(weights, forward, R::AttnQNorm, layer, key_width)?,
            key_norm: Norm::load_if_there(weights, forward, R::AttnKNorm, layer, key_width)?,
            output: Linear::load(weights, R::AttnOutput, layer, [hidden, heads * value_width])?,
            kv_heads,
            key_width,
            value_width,
            scores: ScoreTransform {
                scale: forward
                    .attention_scale
                    .unwrap_or(1.0 / (key_width as f32).sqrt()),
                cap: forward.attention_softcap,
            },
            layout: layouts.index_of(AttentionLayout {
                frequencies,
                window: window.map(|window| window as usize),
                cells: layouts.cells(attention),
            }),
            cache: cache_of(&spec.layers, index),
            value_norm: forward.value_norm,
            gated: forward.gated_query,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let missing = |what: &str| DecodeError::Hyperparameters {
            what: format!("block {} has no {what}", self.cache),
        };
        let view = pass.views.get(self.layout).ok_or_else(|| missing("view"))?;
        let (mut queries, key_value) = self.project(x)?;
        let mut gates = None;
        if self.gated {
            // The gate of a head stands behind its query.
            let [only, gate] = queries.halves(self.key_width)?;
            (queries, gates) = (only, Some(gate));
        }
        let prepare = |rows: X, norm: &Option<Norm<X>>| {
            let rows = match norm {
                Some(norm) => norm.apply(rows)?,
                None => rows,
            };
            rows.rope(view, self.key_width)
        };
        let queries = prepare(queries, &self.query_norm)?;
        let Some(LayerState::KvCache(cells)) = states.get_mut(self.cache) else {
            return Err(missing("cache that another could share"));
        };
        if let Some([keys, mut values]) = key_value {
            let keys = prepare(keys, &self.key_norm)?;
            if self.value_norm {
                values = values.plain_norm(self.value_width, pass.forward.norm_epsilon)?;
            }
            X::append_kv(cells, &keys, &values, view)?;
        }
        let mut mixed = queries.attention(cells, view, self.scores)?;
        if let Some(gates) = gates {
            mixed = mixed.sigmoid_gate(&gates)?;
        }
        self.output.apply(&mixed)
    }

    /// Queries, and keys and values where the block has its own.
    fn project(&self, x: &X) -> Result<(X, Option<[X; 2]>), DecodeError> {
        Ok(match &self.query {
            Projections::Apart {
                query,
                key_value: None,
            } => (query.apply(x)?, None),
            Projections::Apart {
                query,
                key_value: Some([key, value]),
            } => {
                let [query, key, value] = Linear::apply_all([query, key, value], x)?;
                (query, Some([key, value]))
            }
            Projections::Fused(all) => {
                let all = all.apply(x)?;
                let values = all.width() - self.kv_heads * self.value_width;
                let keys = values - self.kv_heads * self.key_width;
                let key_value = [
                    all.columns(keys..values)?,
                    all.columns(values..all.width())?,
                ];
                (all.columns(0..keys)?, Some(key_value))
            }
        })
    }
}

/// The block whose cache block `index` reads: its own, or that of the last block before the shared
/// ones that has the same window.
fn cache_of(layers: &[Layer], index: usize) -> usize {
    let attention = |i: usize| layers.get(i).and_then(|l| l.mixer.attention.as_ref());
    match attention(index) {
        Some(shared) if shared.cache == Cache::Shared => {
            let same = |i: &usize| {
                attention(*i).is_some_and(|a| a.cache == Cache::Own && a.window == shared.window)
            };
            (0..index).rev().find(same).unwrap_or(index)
        }
        _ => index,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FeedForward, Mixer};

    /// llama.cpp's rule for gemma3n (`llama_model::create_memory`): of blocks from the 20th on, those with a window
    /// read the cache of block 20 - 2, the others that of 20 - 1.
    #[test]
    fn shared_caches_are_those_of_the_last_block_with_the_same_window() {
        let layer = |index: usize| Layer {
            mixer: Mixer {
                attention: Some(model::Attention {
                    heads: 8,
                    kv_heads: 2,
                    key_dim: 256,
                    value_dim: 256,
                    window: (index % 5 != 4).then_some(512),
                    cache: if index < 20 {
                        Cache::Own
                    } else {
                        Cache::Shared
                    },
                }),
                recurrent: None,
            },
            feed_forward: FeedForward::None,
        };
        let layers: Vec<Layer> = (0..30).map(layer).collect();
        let found: Vec<usize> = (0..30).map(|index| cache_of(&layers, index)).collect();
        let own: Vec<usize> = (0..20).collect();
        assert_eq!(found[..20], own);
        assert_eq!(found[20..], [18, 18, 18, 18, 19, 18, 18, 18, 18, 19]);
    }
}
