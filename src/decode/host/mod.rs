//! Rows as slices of `f32`, computed by the processor with kernels of our own, shared out among the threads of
//! candle's pool.

mod attention;
mod cache;
mod kernels;
mod matrix;
pub(super) mod ops;
mod parallel;
mod partial;
mod prompt_attention;

use std::ops::Range;

pub(super) use kernels::{CLAMP, SLOPE, add_scaled, dot, largest};
pub(super) use parallel::parallel_chunks;
pub use parallel::threads;

use super::DecodeError;
use super::activations::{Activations, AttentionLayout, ScoreTransform};
use super::buffer::Buffer;
use super::rope::Angles;
use crate::dtype::Dtype;
use crate::model::{Activation, Sparse};
use crate::units::Bytes;
use kernels::Input;
use matrix::Matrix;

/// The instructions that products on this processor use.
pub fn kernels() -> &'static str {
    kernels::instructions()
}

/// Whether weights of `dtype` can be multiplied on the processor.
pub fn multiplies(dtype: Dtype) -> bool {
    kernels::activation_format(dtype).is_some()
}

/// Rows end to end.
#[derive(Clone, Debug)]
pub(super) struct HostActivations {
    data: Vec<f32>,
    width: usize,
}

/// Position, window and rotations of one pass for one layout.
pub(super) struct View {
    /// Tokens before.
    position: usize,
    visible: attention::Visible,
    angles: Option<Angles>,
}

impl HostActivations {
    fn new(data: Vec<f32>, width: usize) -> HostActivations {
        let width = width.max(1);
        HostActivations { data, width }
    }

    fn each(&self) -> std::slice::ChunksExact<'_, f32> {
        self.data.chunks_exact(self.width)
    }

    fn each_mut(&mut self) -> std::slice::ChunksExactMut<'_, f32> {
        self.data.chunks_exact_mut(self.width)
    }

    fn row(&self, token: u32) -> &[f32] {
        let start = token as usize * self.width;
        self.data.get(start..start + self.width).unwrap_or_default()
    }

    fn row_mut(&mut self, token: u32) -> &mut [f32] {
        let start = token as usize * self.width;
        self.data
            .get_mut(start..start + self.width)
            .unwrap_or_default()
    }

    /// The rows after `step` has changed them in place.
    fn changed(mut self, step: impl FnOnce(&mut [f32])) -> Result<HostActivations, DecodeError> {
        step(&mut self.data);
        Ok(self)
    }
}

impl Activations for HostActivations {
    type Backend = ();
    type Matrix = Matrix;
    type Vector = Vec<f32>;
    type Cells = [cache::Cells; 2];
    type View = View;

    fn matrix(
        (): &(),
        name: &str,
        dtype: Dtype,
        shape: [usize; 2],
        bytes: Buffer,
    ) -> Result<Matrix, DecodeError> {
        Matrix::new(name, dtype, shape, bytes)
    }

    fn vector((): &(), values: Vec<f32>) -> Result<Vec<f32>, DecodeError> {
        Ok(values)
    }

    fn cells(
        (): &(),
        [type_k, type_v]: [Dtype; 2],
        [heads, cells]: [usize; 2],
        [keys, values]: [usize; 2],
    ) -> Result<[cache::Cells; 2], DecodeError> {
        let cells = |dtype, width| cache::Cells::new(dtype, [heads, cells, width]);
        Ok([cells(type_k, keys)?, cells(type_v, values)?])
    }

    fn cell_bytes([keys, values]: &[cache::Cells; 2]) -> Bytes {
        keys.bytes() + values.bytes()
    }

    fn view(
        (): &(),
        layout: &AttentionLayout,
        position: usize,
        tokens: usize,
    ) -> Result<View, DecodeError> {
        let frequencies = layout.frequencies.as_ref();
        Ok(View {
            position,
            visible: attention::Visible {
                window: layout.window,
                end: layout.ahead.then_some(position + tokens),
            },
            angles: frequencies.map(|frequencies| frequencies.angles(position, tokens)),
        })
    }

    fn from_host((): &(), rows: Vec<f32>, width: usize) -> Result<HostActivations, DecodeError> {
        Ok(HostActivations::new(rows, width))
    }

    fn into_host(self) -> Result<Vec<f32>, DecodeError> {
        Ok(self.data)
    }

    fn lookup(matrix: &Matrix, ids: &[u32]) -> Result<HostActivations, DecodeError> {
        let mut out = HostActivations::new(vec![0.0; ids.len() * matrix.columns], matrix.columns);
        for (id, row) in ids.iter().zip(out.each_mut()) {
            matrix.row(*id as usize, row)?;
        }
        Ok(out)
    }

    fn tokens(&self) -> usize {
        self.data.len() / self.width
    }

    fn width(&self) -> usize {
        self.width
    }

    fn tail(mut self, rows: usize) -> Result<HostActivations, DecodeError> {
        let before = self.tokens().saturating_sub(rows) * self.width;
        self.data.drain(..before);
        Ok(self)
    }

    fn columns(&self, columns: Range<usize>) -> Result<HostActivations, DecodeError> {
        let width = columns.len();
        let rows = self.each();
        let some = rows.flat_map(|row| row.get(columns.clone()).unwrap_or_default());
        Ok(HostActivations::new(some.copied().collect(), width))
    }

    fn halves(&self, width: usize) -> Result<[HostActivations; 2], DecodeError> {
        let pairs = || {
            let pairs = self.data.chunks_exact((2 * width).max(1));
            pairs.map(|pair| pair.split_at(width))
        };
        let first = pairs().flat_map(|(first, _)| first).copied().collect();
        let second = pairs().flat_map(|(_, second)| second).copied().collect();
        Ok([first, second].map(|half| HostActivations::new(half, self.width / 2)))
    }

    fn pick(&self, tokens: &[u32]) -> Result<HostActivations, DecodeError> {
        let rows = tokens.iter().flat_map(|&token| self.row(token));
        Ok(HostActivations::new(rows.copied().collect(), self.width))
    }

    fn products<const N: usize>(
        &self,
        matrices: [&Matrix; N],
    ) -> Result<[HostActivations; N], DecodeError> {
        let input = Input::new(&self.data, self.width);
        let mut out = matrices.map(|matrix| HostActivations::new(Vec::new(), matrix.rows));
        for (out, matrix) in out.iter_mut().zip(matrices) {
            out.data = matrix.multiply(&input);
        }
        Ok(out)
    }

    fn add(self, other: &HostActivations) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::add(x, &other.data))
    }

    fn times(self, other: &HostActivations) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::times(x, &other.data))
    }

    fn add_at(
        mut self,
        tokens: &[u32],
        factors: Vec<f32>,
        rows: HostActivations,
    ) -> Result<HostActivations, DecodeError> {
        for ((&token, factor), row) in tokens.iter().zip(factors).zip(rows.each()) {
            add_scaled(self.row_mut(token), factor, row);
        }
        Ok(self)
    }

    fn add_scaled(
        mut self,
        factors: &HostActivations,
        rows: &HostActivations,
    ) -> Result<HostActivations, DecodeError> {
        let rows = rows.each().zip(&factors.data);
        for (out, (row, factor)) in self.each_mut().zip(rows) {
            add_scaled(out, *factor, row);
        }
        Ok(self)
    }

    fn add_vector(&mut self, vector: &Vec<f32>) -> Result<(), DecodeError> {
        let runs = self.data.chunks_exact_mut(vector.len().max(1));
        runs.for_each(|run| ops::add(run, vector));
        Ok(())
    }

    fn times_vector(mut self, vector: &Vec<f32>) -> Result<HostActivations, DecodeError> {
        self.each_mut().for_each(|row| ops::times(row, vector));
        Ok(self)
    }

    fn scale(self, factor: f32) -> Result<HostActivations, DecodeError> {
        if factor == 1.0 {
            return Ok(self);
        }
        self.changed(|x| ops::scale(x, factor))
    }

    fn rms_norm(self, weight: &Vec<f32>, epsilon: f32) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::rms_norm(x, weight, epsilon))
    }

    fn centre(self, width: usize) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::centre(x, width))
    }

    fn plain_norm(self, width: usize, epsilon: f32) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::plain_norm(x, width, epsilon))
    }

    fn match_norm(mut self, like: &HostActivations) -> Result<HostActivations, DecodeError> {
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (row, like) in self.each_mut().zip(like.each()) {
            ops::scale(row, length(like) / length(row));
        }
        Ok(self)
    }

    fn activate(self, activation: Activation) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::activate(x, activation))
    }

    fn gate(
        self,
        up: &HostActivations,
        activation: Activation,
    ) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::gate(x, &up.data, activation))
    }

    fn sigmoid_gate(self, gates: &HostActivations) -> Result<HostActivations, DecodeError> {
        self.changed(|x| {
            let pairs = x.iter_mut().zip(&gates.data);
            pairs.for_each(|(x, gate)| *x *= ops::sigmoid(*gate));
        })
    }

    fn clamp(self, limit: f32) -> Result<HostActivations, DecodeError> {
        self.changed(|x| x.iter_mut().for_each(|x| *x = x.clamp(-limit, limit)))
    }

    fn softcap(self, cap: f32) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::softcap(x, cap))
    }

    fn sparsify(self, sparse: &Sparse) -> Result<HostActivations, DecodeError> {
        let width = self.width;
        self.changed(|x| ops::sparsify(x, width, sparse))
    }

    fn rope(self, view: &View, head: usize) -> Result<HostActivations, DecodeError> {
        let width = self.width;
        self.changed(|x| {
            if let Some(angles) = &view.angles {
                ops::rope(x, width, head, angles);
            }
        })
    }

    fn hadamard(self, run: usize) -> Result<HostActivations, DecodeError> {
        self.changed(|x| ops::hadamard(x, run))
    }

    fn append_kv(
        [own_keys, own_values]: &mut [cache::Cells; 2],
        keys: &HostActivations,
        values: &HostActivations,
        view: &View,
    ) -> Result<(), DecodeError> {
        own_keys.write(view.position, &keys.data)?;
        own_values.write(view.position, &values.data)
    }

    fn attention(
        &self,
        [keys, values]: &[cache::Cells; 2],
        view: &View,
        scores: ScoreTransform<'_>,
    ) -> Result<HostActivations, DecodeError> {
        let heads = self.width / keys.width.max(1);
        let place = (view.position, view.visible);
        let out = attention::attention(&self.data, heads, [keys, values], place, scores);
        Ok(HostActivations::new(out, heads * values.width))
    }
}
