//! Activations as candle's tensors: each operation is one or a few of candle's, on a GPU or, to check
//! them against the kernels of `host`, on the processor.
//!
//! Weights stay in their stored format and cells in that of the cache; all else is F32, as on the processor.
//! Custom operations of candle want contiguous tensors, so rows always are.

mod attention;
mod cache;
mod matrix;

use std::ops::Range;

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops;
use candle_nn::rotary_emb::{rope_i, rope_thd};

use super::DecodeError;
use super::activations::{Activations, AttentionLayout, ScoreTransform};
use super::buffer::Buffer;
use super::host::{CLAMP, SLOPE};
use crate::dtype::Dtype;
use crate::model::{Activation, RopeStyle, Sparse, Xielu};
use crate::units::Bytes;
use attention::{KeysAndValues, View};
use cache::Cells;
use matrix::Matrix;

/// `[tokens, width]` in F32, contiguous.
#[derive(Clone, Debug)]
pub(super) struct TensorActivations(Tensor);

type Result<T> = std::result::Result<T, DecodeError>;

impl TensorActivations {
    /// Any tensor with as many elements as rows of `width` have.
    fn of(tensor: &Tensor, width: usize) -> Result<TensorActivations> {
        let tensor = tensor.contiguous()?.reshape(((), width.max(1)))?;
        Ok(TensorActivations(tensor))
    }

    /// The same elements in runs of `len`.
    fn runs(&self, len: usize) -> Result<Tensor> {
        Ok(self.0.reshape(((), len.max(1)))?)
    }

    fn ids(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(Tensor::new(ids, self.0.device())?)
    }
}

impl Activations for TensorActivations {
    type Backend = Device;
    type Matrix = Matrix;
    type Vector = Tensor;
    type Cells = KeysAndValues;
    type View = View;

    fn matrix(
        backend: &Device,
        name: &str,
        dtype: Dtype,
        shape: [usize; 2],
        bytes: Buffer,
    ) -> Result<Matrix> {
        Matrix::new(backend, name, dtype, shape, bytes)
    }

    fn vector(backend: &Device, values: Vec<f32>) -> Result<Tensor> {
        let len = values.len();
        Ok(Tensor::from_vec(values, len, backend)?)
    }

    fn cells(
        backend: &Device,
        [type_k, type_v]: [Dtype; 2],
        [heads, cells]: [usize; 2],
        [keys, values]: [usize; 2],
    ) -> Result<KeysAndValues> {
        let cells = |dtype, width| Cells::new(backend, dtype, [heads, cells, width]);
        Ok(KeysAndValues([
            cells(type_k, keys)?,
            cells(type_v, values)?,
        ]))
    }

    fn cell_bytes(KeysAndValues([keys, values]): &KeysAndValues) -> Bytes {
        keys.bytes() + values.bytes()
    }

    fn view(
        backend: &Device,
        layout: &AttentionLayout,
        position: usize,
        tokens: usize,
    ) -> Result<View> {
        View::new(backend, layout, position, tokens)
    }

    fn from_host(backend: &Device, rows: Vec<f32>, width: usize) -> Result<TensorActivations> {
        let width = width.max(1);
        let shape = (rows.len() / width, width);
        Ok(TensorActivations(Tensor::from_vec(rows, shape, backend)?))
    }

    fn into_host(self) -> Result<Vec<f32>> {
        let rows: Vec<f32> = self.0.flatten_all()?.to_vec1()?;
        if rows.iter().all(|x| x.is_finite()) {
            Ok(rows)
        } else {
            Err(DecodeError::NotFinite)
        }
    }

    fn lookup(matrix: &Matrix, ids: &[u32]) -> Result<TensorActivations> {
        Ok(TensorActivations(matrix.rows(ids)?))
    }

    fn tokens(&self) -> usize {
        self.0.elem_count() / self.width()
    }

    fn width(&self) -> usize {
        self.0.dims().last().copied().unwrap_or(1).max(1)
    }

    fn tail(self, rows: usize) -> Result<TensorActivations> {
        let before = self.tokens().saturating_sub(rows);
        let rows = self.tokens() - before;
        Ok(TensorActivations(
            self.0.narrow(0, before, rows)?.contiguous()?,
        ))
    }

    fn columns(&self, columns: Range<usize>) -> Result<TensorActivations> {
        let some = self.0.narrow(1, columns.start, columns.len())?;
        Ok(TensorActivations(some.contiguous()?))
    }

    fn halves(&self, width: usize) -> Result<[TensorActivations; 2]> {
        let pairs = self.runs(2 * width)?;
        let half = |start| TensorActivations::of(&pairs.narrow(1, start, width)?, self.width() / 2);
        Ok([half(0)?, half(width)?])
    }

    fn pick(&self, tokens: &[u32]) -> Result<TensorActivations> {
        Ok(TensorActivations(
            self.0.index_select(&self.ids(tokens)?, 0)?,
        ))
    }

    fn products<const N: usize>(&self, matrices: [&Matrix; N]) -> Result<[TensorActivations; N]> {
        let mut out = std::array::from_fn(|_| self.clone());
        for (out, matrix) in out.iter_mut().zip(matrices) {
            *out = TensorActivations(matrix.multiply(&self.0)?);
        }
        Ok(out)
    }

    fn add(self, other: &TensorActivations) -> Result<TensorActivations> {
        Ok(TensorActivations((self.0 + &other.0)?))
    }

    fn times(self, other: &TensorActivations) -> Result<TensorActivations> {
        Ok(TensorActivations((self.0 * &other.0)?))
    }

    fn add_at(
        self,
        tokens: &[u32],
        factors: Vec<f32>,
        rows: TensorActivations,
    ) -> Result<TensorActivations> {
        let ids = self.ids(tokens)?;
        let factors = Tensor::from_vec(factors, (tokens.len(), 1), self.0.device())?;
        let scaled = rows.0.broadcast_mul(&factors)?;
        Ok(TensorActivations(self.0.index_add(&ids, &scaled, 0)?))
    }

    fn add_scaled(
        self,
        factors: &TensorActivations,
        rows: &TensorActivations,
    ) -> Result<TensorActivations> {
        Ok(TensorActivations(
            (self.0 + rows.0.broadcast_mul(&factors.0)?)?,
        ))
    }

    fn add_vector(&mut self, vector: &Tensor) -> Result<()> {
        let runs = self.runs(vector.elem_count())?.broadcast_add(vector)?;
        *self = TensorActivations::of(&runs, self.width())?;
        Ok(())
    }

    fn times_vector(self, vector: &Tensor) -> Result<TensorActivations> {
        Ok(TensorActivations(self.0.broadcast_mul(vector)?))
    }

    fn scale(self, factor: f32) -> Result<TensorActivations> {
        Ok(if factor == 1.0 {
            self
        } else {
            TensorActivations((self.0 * f64::from(factor))?)
        })
    }

    fn rms_norm(self, weight: &Tensor, epsilon: f32) -> Result<TensorActivations> {
        let runs = self.runs(weight.elem_count())?;
        TensorActivations::of(&ops::rms_norm(&runs, weight, epsilon)?, self.width())
    }

    fn centre(self, width: usize) -> Result<TensorActivations> {
        let runs = self.runs(width)?;
        let centred = runs.broadcast_sub(&runs.mean_keepdim(1)?)?;
        TensorActivations::of(&centred, self.width())
    }

    fn plain_norm(self, width: usize, epsilon: f32) -> Result<TensorActivations> {
        let ones = Tensor::ones(width, DType::F32, self.0.device())?;
        self.rms_norm(&ones, epsilon)
    }

    fn match_norm(self, like: &TensorActivations) -> Result<TensorActivations> {
        let length = |rows: &Tensor| rows.sqr()?.sum_keepdim(1)?.sqrt();
        let factor = (length(&like.0)? / length(&self.0)?)?;
        Ok(TensorActivations(self.0.broadcast_mul(&factor)?))
    }

    fn activate(self, activation: Activation) -> Result<TensorActivations> {
        Ok(TensorActivations(match activation {
            Activation::Silu => self.0.silu()?,
            // candle's is the approximation with `tanh`; the exact one is `gelu_erf`.
            Activation::GeluTanh => self.0.gelu()?,
            Activation::ReluSquared => self.0.relu()?.sqr()?,
            Activation::ClampedSwiglu => {
                let gate = self.0.minimum(CLAMP)?;
                let share = ops::sigmoid(&(&gate * f64::from(SLOPE))?)?;
                (gate * share)?
            }
            Activation::Xielu(Xielu {
                positive,
                negative,
                slope,
                start,
            }) => {
                let x = &self.0;
                let above = (x.sqr()? * f64::from(positive))?;
                let below = (x.minimum(start)?.exp()? - 1.0)?.sub(x)?;
                let below = (below * f64::from(negative))?;
                let curve = x.gt(0.0f32)?.where_cond(&above, &below)?;
                ((x * f64::from(slope))? + curve)?
            }
        }))
    }

    fn gate(self, up: &TensorActivations, activation: Activation) -> Result<TensorActivations> {
        let gate = self.activate(activation)?;
        match activation {
            Activation::ClampedSwiglu => {
                let up = (up.0.clamp(-CLAMP, CLAMP)? + 1.0)?;
                Ok(TensorActivations((gate.0 * up)?))
            }
            _ => gate.times(up),
        }
    }

    fn sigmoid_gate(self, gates: &TensorActivations) -> Result<TensorActivations> {
        Ok(TensorActivations((self.0 * ops::sigmoid(&gates.0)?)?))
    }

    fn clamp(self, limit: f32) -> Result<TensorActivations> {
        Ok(TensorActivations(self.0.clamp(-limit, limit)?))
    }

    fn softcap(self, cap: f32) -> Result<TensorActivations> {
        Ok(TensorActivations(softcap(&self.0, cap)?))
    }

    fn sparsify(self, sparse: &Sparse) -> Result<TensorActivations> {
        let mean = self.0.mean_keepdim(1)?;
        let squares = self.0.broadcast_sub(&mean)?.sqr()?.sum_keepdim(1)?;
        let others = (self.width() as f64 - 1.0).max(1.0);
        let deviation = (squares / others)?.sqrt()?;
        let threshold = (mean + (deviation * f64::from(sparse.factor))?)?;
        Ok(TensorActivations(self.0.broadcast_sub(&threshold)?.relu()?))
    }

    fn rope(self, view: &View, head: usize) -> Result<TensorActivations> {
        let Some(angles) = &view.angles else {
            return Ok(self);
        };
        let (tokens, width, rotated) = (self.tokens(), self.width(), 2 * angles.pairs);
        let all = self.0.reshape((1, tokens, width / head.max(1), head))?;
        let part = if rotated < head {
            all.narrow(D::Minus1, 0, rotated)?.contiguous()?
        } else {
            all.clone()
        };
        let part = match angles.style {
            RopeStyle::Neox => rope_thd(&part, &angles.cosines, &angles.sines)?,
            RopeStyle::Norm => {
                let by_head = part.transpose(1, 2)?.contiguous()?;
                rope_i(&by_head, &angles.cosines, &angles.sines)?.transpose(1, 2)?
            }
        };
        let all = if rotated < head {
            let rest = all.narrow(D::Minus1, rotated, head - rotated)?;
            Tensor::cat(&[part.contiguous()?, rest.contiguous()?], D::Minus1)?
        } else {
            part
        };
        TensorActivations::of(&all, width)
    }

    fn hadamard(self, run: usize) -> Result<TensorActivations> {
        let width = self.width();
        let mut x = self.0;
        let mut half = 1;
        while half < run {
            let pairs = x.reshape(((), 2, half))?;
            let (a, b) = (pairs.narrow(1, 0, 1)?, pairs.narrow(1, 1, 1)?);
            x = Tensor::cat(&[(&a + &b)?, (&a - &b)?], 1)?;
            half *= 2;
        }
        let factor = 1.0 / (run.max(1) as f64).sqrt();
        TensorActivations::of(&(x * factor)?, width)
    }

    fn append_kv(
        KeysAndValues([own_keys, own_values]): &mut KeysAndValues,
        keys: &TensorActivations,
        values: &TensorActivations,
        view: &View,
    ) -> Result<()> {
        own_keys.write(&keys.0, view.position)?;
        own_values.write(&values.0, view.position)
    }

    fn attention(
        &self,
        cells: &KeysAndValues,
        view: &View,
        scores: ScoreTransform<'_>,
    ) -> Result<TensorActivations> {
        Ok(TensorActivations(cells.attention(&self.0, view, scores)?))
    }
}

/// `cap x tanh(x / cap)`.
fn softcap(x: &Tensor, cap: f32) -> Result<Tensor> {
    let cap = f64::from(cap);
    Ok(((x / cap)?.tanh()? * cap)?)
}
