//! Softmax attention of one block: projections, norms and rotary positions around [`Activations::attention`].
//!
//! A quantized cache holds Walsh-Hadamard transforms, as llama.cpp's does (`llama_kv_cache`, build 11434): outliers of a
//! head are spread over its elements, whose blocks then lose less. Queries are transformed like keys, so that their
//! products stay the same, and what is mixed from values is transformed back.
//!
//! Whether projections are stored fused or biased and which norms there are follows from the tensors
//! of the file.

use super::DecodeError;
use super::activations::{Activations, AttentionLayout, ScoreTransform, Window};
use super::linear::{Linear, NormedLinear};
use super::norm::Norm;
use super::rope::Frequencies;
use super::state::{AttentionLayouts, LayerState, Pass};
use super::weights::Weights;
use crate::dtype::Dtype;
use crate::model::{self, Cache, ForwardSpec, Layer, ModelSpec, Temperature, TensorRole as R};

/// Softmax attention.
pub(super) struct Attention<X: Activations> {
    query: Projections<X>,
    query_norm: Option<Norm<X>>,
    key_norm: Option<Norm<X>>,
    output: NormedLinear<X>,
    /// For each head a score without a value.
    sinks: Option<Vec<f32>>,
    /// For each head what scores lose with distance.
    slopes: Option<Vec<f32>>,
    kv_heads: usize,
    key_width: usize,
    value_width: usize,
    scores: ScoreTransform<'static>,
    /// Its attention layout, by index.
    layout: usize,
    /// The block whose cache is read.
    cache: usize,
    value_norm: bool,
    /// Whether heads of queries and keys are normed without weights after they are rotated.
    plain_head_norms: bool,
    /// How queries grow with their position.
    temperature: Option<Temperature>,
    clamp: Option<f32>,
    norm_after_rope: bool,
    gated: bool,
    /// The runs of keys and of values that the cache holds transformed.
    hadamard: [Option<usize>; 2],
}

/// The shortest run that is transformed; values never are in longer ones.
const RUN: usize = 64;

/// Queries, keys and values, each from its matrix or all from one.
enum Projections<X: Activations> {
    Fused(Linear<X>),
    Apart {
        query: Linear<X>,
        /// Absent where the block reads another's cache.
        key_value: Option<KeyValue<X>>,
    },
}

/// Keys, and values where keys are not the values too.
type KeyValue<X> = (Linear<X>, Option<Linear<X>>);

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
        let own = attention.cache != Cache::Shared;
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
                    let key = Linear::load(weights, R::AttnK, layer, [keys, hidden])?;
                    let value = if keys != values || weights.has(R::AttnV, layer) {
                        Some(Linear::load(weights, R::AttnV, layer, [values, hidden])?)
                    } else {
                        None
                    };
                    Some((key, value))
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
        let rotated = spec.rotates(index);
        // Some norms are as wide as all heads together, and some have weights for each head.
        let norm = |weights: &mut Weights<'_, X>, role: R, heads: usize| {
            let whole = heads * key_width;
            let width = match weights.shape(role, layer, "weight") {
                Some(&[_, _]) => {
                    let sizes = [heads, key_width];
                    return Norm::load_of_heads(weights, forward, role, layer, sizes).map(Some);
                }
                Some(&[width]) if width == whole as u64 => whole,
                _ => key_width,
            };
            Norm::load_if_there(weights, forward, role, layer, width)
        };
        let (output, mixed) = ([R::AttnSubNorm, R::AttnOutput], heads * value_width);
        let factors = layouts.factors.as_deref();
        let frequencies =
            rotated.then(|| Frequencies::new(&forward.rope, key_width, window.is_some(), factors));
        Ok(Attention {
            query,
            query_norm: norm(weights, R::AttnQNorm, heads)?,
            key_norm: norm(weights, R::AttnKNorm, kv_heads)?,
            output: NormedLinear::load(weights, forward, output, layer, [hidden, mixed])?,
            sinks: if weights.has(R::AttnSinks, layer) {
                Some(weights.floats(R::AttnSinks, layer, &[heads])?)
            } else {
                None
            },
            kv_heads,
            key_width,
            value_width,
            scores: ScoreTransform {
                scale: forward
                    .attention_scale
                    .unwrap_or(1.0 / (key_width as f32).sqrt()),
                cap: forward.attention_softcap,
                sinks: None,
                slopes: None,
            },
            slopes: forward.slope.map(|slope| slopes(slope, heads)),
            layout: layouts.index_of(AttentionLayout {
                frequencies,
                window: window.map(|tokens| Window {
                    tokens: tokens as usize,
                    is_chunk: forward.chunked,
                }),
                ahead: attention.cache == Cache::None,
                cells: layouts.cells(attention),
            }),
            cache: cache_of(&spec.layers, index),
            value_norm: forward.value_norm,
            plain_head_norms: forward.plain_head_norms && rotated,
            temperature: forward.temperature.filter(|t| !(t.unrotated && rotated)),
            clamp: forward.clamp,
            norm_after_rope: forward.norm_after_rope,
            gated: forward.gated_query,
            hadamard: hadamard_runs(layouts.kv_types(), [key_width, value_width]),
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
        let [key_run, value_run] = self.hadamard;
        let turned = |rows: X, run: Option<usize>| match run {
            Some(run) => rows.hadamard(run),
            None => Ok(rows),
        };
        let prepare = |rows: X, norm: &Option<Norm<X>>| {
            let rows = match norm {
                Some(norm) if self.norm_after_rope => {
                    norm.apply(rows.rope(view, self.key_width)?)?
                }
                Some(norm) => norm.apply(rows)?.rope(view, self.key_width)?,
                None => rows.rope(view, self.key_width)?,
            };
            let rows = match self.plain_head_norms {
                true => rows.plain_norm(self.key_width, pass.forward.norm_epsilon)?,
                false => rows,
            };
            turned(rows, key_run)
        };
        let queries = prepare(queries, &self.query_norm)?;
        let queries = match self.temperature {
            Some(temperature) => warmed(queries, temperature, pass)?,
            None => queries,
        };
        let Some(cells) = states.get_mut(self.cache).and_then(LayerState::cells) else {
            return Err(missing("cache that another could share"));
        };
        if let Some([keys, mut values]) = key_value {
            let keys = prepare(keys, &self.key_norm)?;
            if self.value_norm {
                values = values.plain_norm(self.value_width, pass.forward.norm_epsilon)?;
            }
            let values = turned(values, value_run)?;
            X::append_kv(cells, &keys, &values, view)?;
        }
        let scores = ScoreTransform {
            sinks: self.sinks.as_deref(),
            slopes: self.slopes.as_deref(),
            ..self.scores
        };
        let mut mixed = turned(queries.attention(cells, view, scores)?, value_run)?;
        if let Some(gates) = gates {
            mixed = mixed.sigmoid_gate(&gates)?;
        }
        self.output.apply(mixed)
    }

    /// Queries, and keys and values where the block has its own.
    fn project(&self, x: &X) -> Result<(X, Option<[X; 2]>), DecodeError> {
        let (query, key_value) = self.products(x)?;
        let Some(limit) = self.clamp else {
            return Ok((query, key_value));
        };
        let key_value = match key_value {
            Some([key, value]) => Some([key.clamp(limit)?, value.clamp(limit)?]),
            None => None,
        };
        Ok((query.clamp(limit)?, key_value))
    }

    fn products(&self, x: &X) -> Result<(X, Option<[X; 2]>), DecodeError> {
        Ok(match &self.query {
            Projections::Apart {
                query,
                key_value: None,
            } => (query.apply(x)?, None),
            Projections::Apart {
                query,
                key_value: Some((key, None)),
            } => {
                let [query, key] = Linear::apply_all([query, key], x)?;
                let value = key.clone();
                (query, Some([key, value]))
            }
            Projections::Apart {
                query,
                key_value: Some((key, Some(value))),
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

/// Queries times the factors of their positions.
fn warmed<X: Activations>(
    queries: X,
    temperature: Temperature,
    pass: &Pass<'_, X>,
) -> Result<X, DecodeError> {
    let tokens = queries.tokens();
    let factors = (pass.position..pass.position + tokens).map(|position| {
        let steps = (position as u64 + temperature.ahead) / temperature.step.max(1);
        1.0 + temperature.scale * ((1 + steps) as f32).ln()
    });
    let (ids, width) = ((0..tokens as u32).collect::<Vec<u32>>(), queries.width());
    let zeros = X::from_host(pass.backend, vec![0.0; tokens * width], width)?;
    zeros.add_at(&ids, factors.collect(), queries)
}

/// The runs of keys and values of these widths that caches of these types hold transformed. For keys it is the largest
/// power of two that divides the width.
fn hadamard_runs([type_k, type_v]: [Dtype; 2], [keys, values]: [usize; 2]) -> [Option<usize>; 2] {
    let is_transformed =
        |dtype: Dtype, width: usize| dtype.is_quantized() && width > 0 && width.is_multiple_of(RUN);
    [
        is_transformed(type_k, keys).then(|| 1 << keys.trailing_zeros()),
        is_transformed(type_v, values).then_some(RUN),
    ]
}

/// What scores of each head lose with each token of distance (ALiBi). Source: `ggml_compute_forward_soft_max` of ggml.
fn slopes(slope: f32, heads: usize) -> Vec<f32> {
    let even = 1 << heads.max(1).ilog2();
    let base = (-slope / even as f32).exp2();
    let between = (-slope / 2.0 / even as f32).exp2();
    let of_head = |head: usize| match head.checked_sub(even) {
        None => base.powi(head as i32 + 1),
        Some(odd) => between.powi(2 * odd as i32 + 1),
    };
    (0..heads).map(of_head).collect()
}

/// The block whose cache block `index` reads: its own, or that of the last block before the shared
/// ones that has the same window. Of blocks that keep nothing all use the cells of the first with such heads.
pub(super) fn cache_of(layers: &[Layer], index: usize) -> usize {
    let attention = |i: usize| layers.get(i).and_then(|l| l.mixer.attention.as_ref());
    match attention(index) {
        Some(shared) if shared.cache == Cache::Shared => {
            let same = |i: &usize| {
                attention(*i).is_some_and(|a| a.cache == Cache::Own && a.window == shared.window)
            };
            (0..index).rev().find(same).unwrap_or(index)
        }
        Some(passing) if passing.cache == Cache::None => {
            let heads = |a: &model::Attention| (a.cache, a.kv_heads, a.key_dim, a.value_dim);
            let same = |i: &usize| attention(*i).is_some_and(|a| heads(a) == heads(passing));
            (0..index).find(same).unwrap_or(index)
        }
        _ => index,
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::host::HostActivations;
    use super::super::state::KV_FORMATS;
    use super::super::tensors::TensorActivations;
    use super::*;
    use crate::model::{FeedForward, Mixer};
    use crate::quantize::blocks;

    const KV_HEADS: usize = 2;
    const GROUP: usize = 2;
    const WIDTHS: [usize; 2] = [64, 32];
    const SCALE: f32 = 0.3;
    const SINKS: [f32; 4] = [0.5, -1.0, 3.0, 0.0];
    const SLOPES: [f32; 4] = [0.5, 0.03, 0.2, 0.0];
    const SLIDING: Window = Window {
        tokens: 9,
        is_chunk: false,
    };
    const CHUNK: Window = Window {
        is_chunk: true,
        ..SLIDING
    };
    const CELLS: usize = 16;

    /// Numbers without a pattern, larger in some blocks than in others.
    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        (0..count)
            .map(|index| next() * (1 + index / 32 % 5) as f32)
            .collect()
    }

    /// `rows` as a cache gives them back.
    fn through(dtype: Dtype, rows: &[f32], width: usize) -> Vec<f32> {
        let bytes = dtype.row_bytes(width as u64).0 as usize * (rows.len() / width);
        let (mut encoded, mut out) = (vec![0; bytes], vec![0.0; rows.len()]);
        blocks::encode_rows(dtype, rows, width, None, &mut encoded).unwrap();
        blocks::decode_rows(dtype, &encoded, width, &mut out).unwrap();
        out
    }

    /// Attention in double precision over rows that went through the formats: `[tokens, heads, value width]`.
    fn defined(queries: &[f32], rows: [&[f32]; 2], dtypes: [Dtype; 2], window: Window) -> Vec<f64> {
        let [keys, values] = [0, 1].map(|i| through(dtypes[i], rows[i], WIDTHS[i]));
        let tokens = keys.len() / (KV_HEADS * WIDTHS[0]);
        let first = tokens - queries.len() / (KV_HEADS * GROUP * WIDTHS[0]);
        let mut out = Vec::new();
        for (index, query) in queries.chunks(WIDTHS[0]).enumerate() {
            let (token, head) = (
                first + index / (KV_HEADS * GROUP),
                index % (KV_HEADS * GROUP) / GROUP,
            );
            let row = |rows: &[f32], token: usize, width: usize| {
                let start = (token * KV_HEADS + head) * width;
                rows[start..start + width].to_vec()
            };
            let start = if window.is_chunk {
                token / window.tokens * window.tokens
            } else {
                (token + 1).saturating_sub(window.tokens)
            };
            let visible = start..token + 1;
            let weights = visible.clone().map(|at| {
                let key = row(&keys, at, WIDTHS[0]);
                let pairs = query.iter().zip(key);
                let product: f64 = pairs.map(|(q, k)| f64::from(*q) * f64::from(k)).sum();
                let slope = SLOPES[index % (KV_HEADS * GROUP)];
                let lost = f64::from(slope) * (token - at) as f64;
                (product * f64::from(SCALE) - lost).exp()
            });
            let weights: Vec<f64> = weights.collect();
            let sink = f64::from(SINKS[index % (KV_HEADS * GROUP)]).exp();
            let sum: f64 = weights.iter().sum::<f64>() + sink;
            for column in 0..WIDTHS[1] {
                let each = visible.clone().zip(&weights);
                let mixed: f64 = each
                    .map(|(at, weight)| weight * f64::from(row(&values, at, WIDTHS[1])[column]))
                    .sum();
                out.push(mixed / sum);
            }
        }
        out
    }

    /// The same by an engine, in passes of different lengths, around a ring of cells.
    fn computed<X: Activations>(
        backend: &X::Backend,
        queries: &[f32],
        [keys, values]: [&[f32]; 2],
        dtypes: [Dtype; 2],
        window: Window,
    ) -> (Vec<f32>, u64) {
        let layout = AttentionLayout {
            frequencies: None,
            window: Some(window),
            ahead: false,
            cells: CELLS,
        };
        let mut cells = X::cells(backend, dtypes, [KV_HEADS, CELLS], WIDTHS).unwrap();
        let scores = ScoreTransform {
            scale: SCALE,
            cap: None,
            sinks: Some(&SINKS),
            slopes: Some(&SLOPES),
        };
        let (mut out, mut position) = (Vec::new(), 0);
        for tokens in [7, 1, 5, 6, 1] {
            let rows = |all: &[f32], width: usize| {
                let some = all[position * width..(position + tokens) * width].to_vec();
                X::from_host(backend, some, width).unwrap()
            };
            let view = X::view(backend, &layout, position, tokens).unwrap();
            let keys = rows(keys, KV_HEADS * WIDTHS[0]);
            let values = rows(values, KV_HEADS * WIDTHS[1]);
            X::append_kv(&mut cells, &keys, &values, &view).unwrap();
            let queries = rows(queries, KV_HEADS * GROUP * WIDTHS[0]);
            let mixed = queries.attention(&cells, &view, scores).unwrap();
            out.extend(mixed.into_host().unwrap());
            position += tokens;
        }
        (out, X::cell_bytes(&cells).0)
    }

    /// On both backends, in every format and with one format for keys and another for values: what
    /// is quantized and read back is what attention sees.
    #[test]
    fn attention_over_a_quantized_cache_is_that_over_its_numbers() {
        let tokens = 20;
        let queries = numbers(tokens * KV_HEADS * GROUP * WIDTHS[0], 1);
        let queries: Vec<f32> = queries.iter().map(|q| q / 8.0).collect();
        let keys = numbers(tokens * KV_HEADS * WIDTHS[0], 2);
        let values = numbers(tokens * KV_HEADS * WIDTHS[1], 3);
        let all = KV_FORMATS.iter().map(|dtype| [*dtype, *dtype]);
        let mixed = [[Dtype::Q8_0, Dtype::Q4_0], [Dtype::F16, Dtype::Q5_1]];
        let all = all.chain(mixed);
        for (dtypes, window) in all.flat_map(|dtypes| [(dtypes, SLIDING), (dtypes, CHUNK)]) {
            let rows = [keys.as_slice(), values.as_slice()];
            let expected = defined(&queries, rows, dtypes, window);
            let size =
                |i: usize| dtypes[i].row_bytes(WIDTHS[i] as u64).0 * (KV_HEADS * CELLS) as u64;
            let engines = [
                computed::<HostActivations>(&(), &queries, rows, dtypes, window),
                computed::<TensorActivations>(&Device::Cpu, &queries, rows, dtypes, window),
            ];
            for (engine, (found, bytes)) in engines.into_iter().enumerate() {
                assert_eq!(bytes, size(0) + size(1), "{dtypes:?}, engine {engine}");
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    let off = (f64::from(*found) - expected).abs();
                    assert!(
                        off < 2e-4,
                        "{dtypes:?}, engine {engine}: {found} for {expected}"
                    );
                }
            }
        }
    }

    /// llama.cpp's rule (`llama_kv_cache::llama_kv_cache`).
    #[test]
    fn heads_of_multiples_of_64_are_transformed_in_quantized_caches() {
        let quantized = [Dtype::Q8_0, Dtype::Q4_0];
        assert_eq!(hadamard_runs(quantized, [128, 128]), [Some(128), Some(64)]);
        assert_eq!(hadamard_runs(quantized, [192, 256]), [Some(64), Some(64)]);
        assert_eq!(hadamard_runs(quantized, [96, 32]), [None, None]);
        assert_eq!(
            hadamard_runs([Dtype::F16, Dtype::Q5_1], [256, 64]),
            [None, Some(64)]
        );
    }

    fn transformed<X: Activations>(backend: &X::Backend, rows: &[f32], run: usize) -> Vec<f32> {
        let rows = X::from_host(backend, rows.to_vec(), 2 * run).unwrap();
        rows.hadamard(run).unwrap().into_host().unwrap()
    }

    #[test]
    fn the_transform_is_that_of_its_definition() {
        for run in [2, 64, 256] {
            let rows = numbers(3 * 2 * run, 5);
            let defined = rows.chunks(run).flat_map(|row| {
                (0..run).map(|i| {
                    let signed = row.iter().enumerate().map(|(j, x)| {
                        let sign = 1.0 - 2.0 * f64::from((i & j).count_ones() % 2);
                        sign * f64::from(*x)
                    });
                    signed.sum::<f64>() / (run as f64).sqrt()
                })
            });
            let defined: Vec<f64> = defined.collect();
            let host = transformed::<HostActivations>(&(), &rows, run);
            let tensors = transformed::<TensorActivations>(&Device::Cpu, &rows, run);
            for found in [host, tensors] {
                assert_eq!(found.len(), defined.len());
                for (found, defined) in found.iter().zip(&defined) {
                    assert!(
                        (f64::from(*found) - defined).abs() < 1e-4,
                        "{found} for {defined}"
                    );
                }
            }
        }
    }

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
