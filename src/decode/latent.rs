//! Latent attention (MLA): keys and values are projections of one short row, the latent, which a token shares among all
//! heads, beside a part with rotary positions.
//!
//! A file stores the projections either in two halves, by which queries and outputs are multiplied so that the latent
//! itself is cached, or as one, by which keys and values are computed before they are cached.
//!
//! Sources: `deepseek2.cpp` and `minicpm3.cpp` in `src/models` of llama.cpp.

use super::DecodeError;
use super::activations::{Activations, AttentionLayout, ScoreTransform};
use super::linear::Linear;
use super::norm::Norm;
use super::observe::Matrix;
use super::rope::Frequencies;
use super::state::{AttentionLayouts, LayerState, Pass};
use super::weights::Weights;
use crate::model::{self, ForwardSpec, ModelSpec, TensorRole as R};

/// Latent attention of one block.
pub(super) struct LatentAttention<X: Activations> {
    query: Query<X>,
    /// The latent, and the rotary part of keys.
    down: Linear<X>,
    latent_norm: Norm<X>,
    up: Up<X>,
    output: Linear<X>,
    index: usize,
    heads: usize,
    latent: usize,
    /// Elements of a head without positions.
    plain: usize,
    /// Elements of a head with them, where the block has any, which all heads of keys share.
    rotary: usize,
    scores: ScoreTransform<'static>,
    /// Its attention layout, by index.
    layout: usize,
}

/// Queries, directly or through a latent of their own.
enum Query<X: Activations> {
    Direct(Linear<X>),
    Latent(Linear<X>, Norm<X>, Linear<X>),
}

/// From the latent to keys and values of heads.
enum Up<X: Activations> {
    /// One matrix a head: to queries that meet the latent, and from mixed latents to values.
    Absorbed(Vec<Matrix<X>>, Vec<Matrix<X>>),
    /// Keys without positions and values of so many elements, head by head.
    Whole(Linear<X>, usize),
}

impl<X: Activations> LatentAttention<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        spec: &ModelSpec,
        forward: &ForwardSpec,
        index: usize,
        attention: &model::Attention,
        layouts: &mut AttentionLayouts,
    ) -> Result<LatentAttention<X>, DecodeError> {
        let (at, hidden) = (Some(index as u32), spec.dims.hidden as usize);
        let rotates = spec.rotates(index);
        let heads = attention.heads as usize;
        let dims = |role| {
            let shape = weights.shape(role, at, "weight").unwrap_or(&[]);
            shape.iter().map(|&n| n as usize).collect::<Vec<usize>>()
        };
        let of = |dims: &[usize], place: usize| dims.get(place).copied().unwrap_or(0);
        let (down, halves) = (dims(R::AttnKvAMqa), dims(R::AttnKB));
        let (latent, queries) = (of(&dims(R::AttnKvANorm), 0), dims(R::AttnQB));
        let queries = match queries.first() {
            Some(&rows) => rows,
            None => of(&dims(R::AttnQ), 0),
        };
        let (query_latent, value_halves) = (of(&dims(R::AttnQA), 0), dims(R::AttnVB));
        let whole = of(&dims(R::AttnKvB), 0);
        let rotary = of(&down, 0).saturating_sub(latent);
        let width = queries / heads.max(1);
        let plain = width.saturating_sub(rotary);
        if heads == 0 || latent == 0 || rotary == 0 || plain == 0 || width * heads != queries {
            return Err(DecodeError::Hyperparameters {
                what: format!(
                    "block {index} has queries of {queries} in {heads} heads, a latent of {latent} and {rotary} rotary elements"
                ),
            });
        }
        let query = if query_latent > 0 {
            Query::Latent(
                Linear::load(weights, R::AttnQA, at, [query_latent, hidden])?,
                Norm::load(weights, forward, R::AttnQANorm, at, query_latent)?,
                Linear::load(weights, R::AttnQB, at, [queries, query_latent])?,
            )
        } else {
            Query::Direct(Linear::load(weights, R::AttnQ, at, [queries, hidden])?)
        };
        let (up, values) = if halves.is_empty() {
            let values = (whole / heads).saturating_sub(plain);
            let rows = heads * (plain + values);
            let up = Linear::load(weights, R::AttnKvB, at, [rows, latent])?;
            (Up::Whole(up, values), values)
        } else {
            let values = of(&value_halves, 1);
            let keys = weights.stack(R::AttnKB, at, [heads, latent, plain])?;
            let up = weights.stack(R::AttnVB, at, [heads, values, latent])?;
            (Up::Absorbed(keys, up), values)
        };
        let factors = layouts.factors.as_deref();
        let frequencies = rotates.then(|| Frequencies::new(&forward.rope, rotary, false, factors));
        let scale = forward.attention_scale;
        Ok(LatentAttention {
            query,
            down: Linear::load(weights, R::AttnKvAMqa, at, [latent + rotary, hidden])?,
            latent_norm: Norm::load(weights, forward, R::AttnKvANorm, at, latent)?,
            up,
            output: Linear::load(weights, R::AttnOutput, at, [hidden, heads * values])?,
            index,
            heads,
            latent,
            plain,
            rotary,
            scores: ScoreTransform {
                scale: scale.unwrap_or(1.0 / (width as f32).sqrt()),
                cap: None,
                sinks: None,
                slopes: None,
            },
            layout: layouts.index_of(AttentionLayout {
                frequencies,
                window: None,
                ahead: false,
                cells: layouts.cells(attention),
            }),
        })
    }

    /// Elements of a cached value where the description of the model has none, since they are those of the key.
    pub(super) fn cached_values(&self) -> Option<usize> {
        match self.up {
            Up::Absorbed(..) => Some(self.latent),
            Up::Whole(..) => None,
        }
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        states: &mut [LayerState<X>],
    ) -> Result<X, DecodeError> {
        let missing = |what: &str| DecodeError::Hyperparameters {
            what: format!("block {} has no {what}", self.index),
        };
        let view = pass.views.get(self.layout).ok_or_else(|| missing("view"))?;
        let cells = states.get_mut(self.index).and_then(LayerState::cells);
        let cells = cells.ok_or_else(|| missing("cache"))?;
        let (heads, tokens) = (self.heads, x.tokens());
        let query = match &self.query {
            Query::Direct(query) => query.apply(x)?,
            Query::Latent(down, norm, up) => up.apply(&norm.apply(down.apply(x)?)?)?,
        };
        let query = query.into_host()?;
        let width = self.plain + self.rotary;
        let [plain, turned] = [(0, self.plain), (self.plain, self.rotary)]
            .map(|(from, len)| part_of_heads(&query, width, from, len));
        let turned = X::from_host(pass.backend, turned, heads * self.rotary)?;
        let turned = turned.rope(view, self.rotary)?.into_host()?;
        let down = self.down.apply(x)?;
        let latent = self.latent_norm.apply(down.columns(0..self.latent)?)?;
        let shared = down.columns(self.latent..self.latent + self.rotary)?;
        let shared = shared.rope(view, self.rotary)?.into_host()?;
        let join = |first: &[f32], one: usize, second: &[f32], heads: usize| {
            let rows = joined([first, second], [one, self.rotary]);
            X::from_host(pass.backend, rows, heads * (one + self.rotary))
        };
        let mixed = match &self.up {
            Up::Absorbed(keys, values) => {
                let plain = X::from_host(pass.backend, plain, heads * self.plain)?;
                let queries = each_head(keys, &plain, self.plain, pass)?.into_host()?;
                let queries = join(&queries, self.latent, &turned, heads)?;
                let key = join(&latent.clone().into_host()?, self.latent, &shared, 1)?;
                X::append_kv(cells, &key, &latent, view)?;
                let mixed = queries.attention(cells, view, self.scores)?;
                each_head(values, &mixed, self.latent, pass)?
            }
            Up::Whole(up, values) => {
                let both = up.apply(&latent)?.into_host()?;
                let each = self.plain + values;
                let [keys, values] = [(0, self.plain), (self.plain, *values)]
                    .map(|(from, len)| (part_of_heads(&both, each, from, len), len));
                let mut repeated = Vec::with_capacity(tokens * heads * self.rotary);
                for row in shared.chunks_exact(self.rotary) {
                    (0..heads).for_each(|_| repeated.extend_from_slice(row));
                }
                let keys = join(&keys.0, self.plain, &repeated, heads)?;
                let values = X::from_host(pass.backend, values.0, heads * values.1)?;
                X::append_kv(cells, &keys, &values, view)?;
                let queries = join(&plain, self.plain, &turned, heads)?;
                queries.attention(cells, view, self.scores)?
            }
        };
        self.output.apply(&mixed)
    }
}

/// Of every `width` elements the `len` ones behind the first `from`.
fn part_of_heads(rows: &[f32], width: usize, from: usize, len: usize) -> Vec<f32> {
    let heads = rows.chunks_exact(width.max(1));
    let parts = heads.flat_map(|head| head.get(from..from + len).unwrap_or_default());
    parts.copied().collect()
}

/// Head by head the elements of both, `widths` of them.
fn joined(both: [&[f32]; 2], widths: [usize; 2]) -> Vec<f32> {
    let [first, second] = both;
    let pairs = first
        .chunks_exact(widths[0].max(1))
        .zip(second.chunks_exact(widths[1].max(1)));
    let mut out = Vec::with_capacity(first.len() + second.len());
    for (one, other) in pairs {
        out.extend_from_slice(one);
        out.extend_from_slice(other);
    }
    out
}

/// Every head of `width` elements times the matrix of its number.
fn each_head<X: Activations>(
    matrices: &[Matrix<X>],
    x: &X,
    width: usize,
    pass: &Pass<'_, X>,
) -> Result<X, DecodeError> {
    let products = matrices.iter().enumerate().map(|(head, matrix)| {
        let part = x.columns(head * width..(head + 1) * width)?;
        let product = matrix.product(&part)?;
        let wide = product.width();
        Ok((product.into_host()?, wide))
    });
    let products = products.collect::<Result<Vec<(Vec<f32>, usize)>, DecodeError>>()?;
    let wide = products.first().map_or(1, |(_, wide)| *wide).max(1);
    let mut out = Vec::with_capacity(x.tokens() * products.len() * wide);
    for token in 0..x.tokens() {
        for (rows, _) in &products {
            out.extend_from_slice(
                rows.get(token * wide..(token + 1) * wide)
                    .unwrap_or_default(),
            );
        }
    }
    X::from_host(pass.backend, out, products.len() * wide)
}
