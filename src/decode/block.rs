//! One block: norms, what mixes tokens, what mixes channels, added to the residual stream.
//!
//! Which norms there are, whether projections are stored fused or biased, and what kind of mixer a
//! block has follow from the tensors of the file.

use super::DecodeError;
use super::attention::{Scores, attend};
use super::feed_forward::Mix;
use super::forward::Memory;
use super::kernels::Input;
use super::matrix::Matrix;
use super::ops;
use super::recurrent::{DeltaNet, ShortConvolution};
use super::rope::{Angles, Frequencies};
use super::weights::Weights;
use crate::model::{self, Cache, Layer, ModelSpec, Pass, TensorRole as R};

/// A projection with its bias, if it has one.
pub(super) struct Linear {
    pub(super) weight: Matrix,
    bias: Option<Vec<f32>>,
}

/// A block's weights.
pub(super) struct Block {
    index: usize,
    attention_norm: Vec<f32>,
    mixer: Mixer,
    attention_post_norm: Option<Vec<f32>>,
    mix_norm: Vec<f32>,
    mix: Mix,
    mix_post_norm: Option<Vec<f32>>,
    sparse: Option<model::Sparse>,
}

/// What mixes tokens.
enum Mixer {
    Attention(Attention),
    Convolution(ShortConvolution),
    DeltaNet(DeltaNet),
}

/// Softmax attention.
struct Attention {
    query: Projections,
    query_norm: Option<Vec<f32>>,
    key_norm: Option<Vec<f32>>,
    output: Linear,
    heads: usize,
    kv_heads: usize,
    key_width: usize,
    value_width: usize,
    scores: Scores,
    frequencies: Option<Frequencies>,
    /// The block whose cache is read.
    cache: usize,
    value_norm: bool,
    gated: bool,
}

/// Queries, keys and values, each from its matrix or all from one.
enum Projections {
    Fused(Linear),
    Apart {
        query: Linear,
        /// Absent where the block reads another's cache.
        key_value: Option<(Linear, Linear)>,
    },
}

/// What a pass hands to each block.
pub(super) struct Step<'a> {
    pub(super) pass: &'a Pass,
    /// Tokens evaluated before.
    pub(super) position: usize,
    pub(super) tokens: usize,
}

impl Linear {
    pub(super) fn load(
        weights: &mut Weights<'_>,
        role: R,
        layer: Option<u32>,
        shape: [usize; 2],
    ) -> Result<Linear, DecodeError> {
        Ok(Linear {
            weight: weights.matrix(role, layer, shape)?,
            bias: weights.optional(role, layer, "bias", &[shape[0]])?,
        })
    }

    pub(super) fn plain(weight: Matrix) -> Linear {
        Linear { weight, bias: None }
    }

    /// [`Linear::read`] of rows that nothing else reads.
    pub(super) fn apply(&self, x: &[f32]) -> Result<Vec<f32>, DecodeError> {
        self.read(&Input::new(x, self.weight.columns))
    }

    /// `[tokens, columns]` to `[tokens, rows]`.
    pub(super) fn read(&self, x: &Input<'_>) -> Result<Vec<f32>, DecodeError> {
        let mut out = self.weight.multiply(x)?;
        if let Some(bias) = &self.bias {
            for row in out.chunks_exact_mut(bias.len().max(1)) {
                ops::add(row, bias);
            }
        }
        Ok(out)
    }
}

impl Attention {
    fn load(
        weights: &mut Weights<'_>,
        spec: &ModelSpec,
        pass: &Pass,
        index: usize,
        attention: &model::Attention,
        factors: Option<&[f32]>,
    ) -> Result<Attention, DecodeError> {
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
        let gates = if pass.gated_query { 2 } else { 1 };
        let (queries, keys, values) = (
            gates * heads * key_width,
            kv_heads * key_width,
            kv_heads * value_width,
        );
        let own = attention.cache == Cache::Own;
        let query = match weights.has(R::AttnQkv, layer) {
            true => Projections::Fused(Linear::load(
                weights,
                R::AttnQkv,
                layer,
                [queries + keys + values, hidden],
            )?),
            false => Projections::Apart {
                query: Linear::load(weights, R::AttnQ, layer, [queries, hidden])?,
                key_value: match own {
                    true => Some((
                        Linear::load(weights, R::AttnK, layer, [keys, hidden])?,
                        Linear::load(weights, R::AttnV, layer, [values, hidden])?,
                    )),
                    false => None,
                },
            },
        };
        if !own {
            // Published files hold them all the same.
            for role in [R::AttnK, R::AttnV, R::AttnKNorm] {
                weights.drop_spare(role, layer);
            }
        }
        let window = attention.window.map(|window| window as usize);
        let skip = pass.rope.skip_every as usize;
        let turned = skip == 0 || !(index + 1).is_multiple_of(skip);
        let frequencies =
            turned.then(|| Frequencies::new(&pass.rope, key_width, window.is_some(), factors));
        Ok(Attention {
            query,
            query_norm: weights.optional(R::AttnQNorm, layer, "weight", &[key_width])?,
            key_norm: weights.optional(R::AttnKNorm, layer, "weight", &[key_width])?,
            output: Linear::load(weights, R::AttnOutput, layer, [hidden, heads * value_width])?,
            heads,
            kv_heads,
            key_width,
            value_width,
            scores: Scores {
                scale: pass
                    .attention_scale
                    .unwrap_or(1.0 / (key_width as f32).sqrt()),
                cap: pass.attention_softcap,
                window,
            },
            frequencies,
            cache: cache_of(&spec.layers, index),
            value_norm: pass.value_norm,
            gated: pass.gated_query,
        })
    }

    fn apply(
        &self,
        x: &[f32],
        step: &Step<'_>,
        memory: &mut [Memory],
    ) -> Result<Vec<f32>, DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let (mut queries, key_value) = self.project(x)?;
        let gates = self.gated.then(|| self.split_gates(&mut queries));
        let angles = self
            .frequencies
            .as_ref()
            .map(|f| f.angles(step.position, step.tokens));
        let prepare = |rows: &mut [f32], norm: &Option<Vec<f32>>, heads: usize| {
            if let Some(norm) = norm {
                ops::rms_norm(rows, norm, epsilon);
            }
            if let Some(angles) = &angles {
                Angles::turn(angles, rows, heads, self.key_width);
            }
        };
        prepare(&mut queries, &self.query_norm, self.heads);
        let Some(Memory::Tokens([keys, values])) = memory.get_mut(self.cache) else {
            return Err(DecodeError::Hyperparameters {
                what: format!("block {} has no cache that another could share", self.cache),
            });
        };
        if let Some((mut k, mut v)) = key_value {
            prepare(&mut k, &self.key_norm, self.kv_heads);
            if self.value_norm {
                ops::plain_norm(&mut v, self.value_width, epsilon);
            }
            keys.write(step.position, &k);
            values.write(step.position, &v);
        }
        let mut mixed = attend(
            &queries,
            self.heads,
            keys,
            values,
            step.position,
            self.scores,
        );
        if let Some(gates) = gates {
            for (x, gate) in mixed.iter_mut().zip(gates) {
                *x *= ops::sigmoid(gate);
            }
        }
        self.output.apply(&mixed)
    }

    /// Queries, and keys and values where the block has its own.
    #[allow(clippy::type_complexity)]
    fn project(&self, x: &[f32]) -> Result<(Vec<f32>, Option<(Vec<f32>, Vec<f32>)>), DecodeError> {
        match &self.query {
            Projections::Apart { query, key_value } => {
                let x = Input::new(x, query.weight.columns);
                let queries = query.read(&x)?;
                let key_value = match key_value {
                    Some((key, value)) => Some((key.read(&x)?, value.read(&x)?)),
                    None => None,
                };
                Ok((queries, key_value))
            }
            Projections::Fused(all) => {
                let all_rows = all.apply(x)?;
                let (keys, values) = (
                    self.kv_heads * self.key_width,
                    self.kv_heads * self.value_width,
                );
                let width = all.weight.rows.max(1);
                let queries = width - keys - values;
                let part = |from: usize, len: usize| -> Vec<f32> {
                    let rows = all_rows.chunks_exact(width);
                    rows.flat_map(|row| row.get(from..from + len).unwrap_or_default())
                        .copied()
                        .collect()
                };
                Ok((
                    part(0, queries),
                    Some((part(queries, keys), part(queries + keys, values))),
                ))
            }
        }
    }

    /// Takes the gate that stands behind each query head out of `queries`.
    fn split_gates(&self, queries: &mut Vec<f32>) -> Vec<f32> {
        let width = self.key_width;
        let pairs = || {
            queries
                .chunks_exact(2 * width)
                .map(|pair| pair.split_at(width))
        };
        let gates = pairs().flat_map(|(_, gate)| gate).copied().collect();
        let only = pairs().flat_map(|(query, _)| query).copied().collect();
        *queries = only;
        gates
    }
}

/// The block whose cache block `index` reads: its own, or that of the last block before the shared
/// ones that sees as far as it does.
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

impl Block {
    pub(super) fn load(
        weights: &mut Weights<'_>,
        spec: &ModelSpec,
        pass: &Pass,
        index: usize,
        layer: &Layer,
        factors: Option<&[f32]>,
    ) -> Result<Block, DecodeError> {
        let (number, hidden) = (index as u32, spec.dims.hidden as usize);
        let at = Some(number);
        let attention_norm = weights.floats(R::AttnNorm, at, &[hidden])?;
        let mixer = match (&layer.mixer.attention, &layer.mixer.recurrent) {
            (Some(attention), None) => Mixer::Attention(Attention::load(
                weights, spec, pass, index, attention, factors,
            )?),
            (None, Some(state)) if weights.has(R::ShortconvIn, at) => {
                let elements = state.conv_elements;
                Mixer::Convolution(ShortConvolution::load(weights, number, hidden, elements)?)
            }
            (None, Some(state)) => {
                let elements = state.state_elements;
                Mixer::DeltaNet(DeltaNet::load(weights, number, hidden, elements)?)
            }
            _ => {
                return Err(DecodeError::NoPass {
                    architecture: spec.architecture.clone(),
                });
            }
        };
        // Where there is one norm between the two halves, it is the second half's.
        let post = weights.optional(R::AttnPostNorm, at, "weight", &[hidden])?;
        let own = weights.optional(R::FfnNorm, at, "weight", &[hidden])?;
        let (attention_post_norm, mix_norm) = match (post, own) {
            (post, Some(own)) => (post, own),
            (Some(post), None) => (None, post),
            (None, None) => {
                let tensor = R::FfnNorm.gguf_name(at, "weight");
                return Err(DecodeError::MissingTensor { tensor });
            }
        };
        Ok(Block {
            index,
            attention_norm,
            mixer,
            attention_post_norm,
            mix_norm,
            mix: Mix::load(weights, number, hidden, &layer.feed_forward)?,
            mix_post_norm: weights.optional(R::FfnPostNorm, at, "weight", &[hidden])?,
            sparse: Some(pass.sparse).filter(|sparse| (index as u64) < sparse.blocks),
        })
    }

    /// Adds what the block computes to the residual stream `x`.
    pub(super) fn apply(
        &self,
        x: &mut [f32],
        step: &Step<'_>,
        memory: &mut [Memory],
    ) -> Result<(), DecodeError> {
        let normed = self.normed(x, step.pass.norm_epsilon);
        let mixed = self.tokens(&normed, step, memory)?;
        ops::add(x, &mixed);
        let mixed = self.channels(x, step)?;
        ops::add(x, &mixed);
        Ok(())
    }

    /// The residual stream as the mixing of tokens reads it.
    pub(super) fn normed(&self, x: &[f32], epsilon: f32) -> Vec<f32> {
        ops::normed(x, &self.attention_norm, epsilon)
    }

    /// What mixing tokens adds.
    pub(super) fn tokens(
        &self,
        normed: &[f32],
        step: &Step<'_>,
        memory: &mut [Memory],
    ) -> Result<Vec<f32>, DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let mut mixed = match (&self.mixer, memory.get_mut(self.index)) {
            (Mixer::Attention(attention), _) => attention.apply(normed, step, memory)?,
            (Mixer::Convolution(mixer), Some(Memory::State(state))) => {
                mixer.apply(normed, state)?
            }
            (Mixer::DeltaNet(mixer), Some(Memory::State(state))) => {
                mixer.apply(normed, epsilon, state)?
            }
            _ => {
                return Err(DecodeError::Hyperparameters {
                    what: format!("block {} has no state", self.index),
                });
            }
        };
        if let Some(norm) = &self.attention_post_norm {
            ops::rms_norm(&mut mixed, norm, epsilon);
        }
        Ok(mixed)
    }

    /// What mixing channels adds.
    pub(super) fn channels(&self, x: &[f32], step: &Step<'_>) -> Result<Vec<f32>, DecodeError> {
        let epsilon = step.pass.norm_epsilon;
        let normed = ops::normed(x, &self.mix_norm, epsilon);
        let activation = step.pass.activation;
        let mut mixed = self.mix.apply(&normed, activation, self.sparse.as_ref())?;
        if let Some(norm) = &self.mix_post_norm {
            ops::rms_norm(&mut mixed, norm, epsilon);
        }
        Ok(mixed)
    }
}
