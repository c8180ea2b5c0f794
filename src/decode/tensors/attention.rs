//! Keys and values on candle's device, and softmax attention over them with its matrix products.
//!
//! Cells are read in the order of the cache, not of the tokens: attention does not depend on it, and a
//! ring that has wrapped is read in one piece. A mask hides the cells that a token does not attend to.

use candle_core::{DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use half::f16;

use super::super::DecodeError;
use super::super::activations::{AttentionLayout, ScoreTransform};
use super::softcap;
use crate::dtype::Dtype;
use crate::model::RopeStyle;
use crate::units::Bytes;

/// Scores that are held at a time: 64 MiB of F32.
const SCORES: usize = 1 << 24;

/// Keys and values of one block, `[heads, cells, width]` each, in F16.
pub(in super::super) struct Cells([Tensor; 2]);

/// Positions, mask and rotations of one pass for one layout.
pub(in super::super) struct View {
    /// Tokens before.
    position: usize,
    tokens: usize,
    /// Cells of the cache.
    cells: usize,
    /// `[tokens, cells that hold something]`: 0 where a token attends, else minus infinity. Absent
    /// where all tokens attend to all cells.
    mask: Option<Tensor>,
    pub(super) angles: Option<Rotations>,
}

/// Cosines and sines, `[tokens, pairs]` each.
pub(super) struct Rotations {
    pub(super) cosines: Tensor,
    pub(super) sines: Tensor,
    pub(super) pairs: usize,
    pub(super) style: RopeStyle,
}

impl View {
    pub(super) fn new(
        backend: &Device,
        layout: &AttentionLayout,
        position: usize,
        tokens: usize,
    ) -> Result<View, DecodeError> {
        let mut view = View {
            position,
            tokens,
            cells: layout.cells.max(1),
            mask: None,
            angles: None,
        };
        let mask = view.visible(layout.window);
        if mask.contains(&f32::NEG_INFINITY) {
            let shape = (tokens, view.filled());
            view.mask = Some(Tensor::from_vec(mask, shape, backend)?);
        }
        if let Some(frequencies) = &layout.frequencies {
            let angles = frequencies.angles(position, tokens);
            let shape = (tokens, angles.pairs);
            view.angles = Some(Rotations {
                cosines: Tensor::from_vec(angles.cosines, shape, backend)?,
                sines: Tensor::from_vec(angles.sines, shape, backend)?,
                pairs: angles.pairs,
                style: angles.style,
            });
        }
        Ok(view)
    }

    /// Cells that hold something once the pass's tokens are written.
    fn filled(&self) -> usize {
        self.cells.min(self.position + self.tokens)
    }

    fn visible(&self, window: Option<usize>) -> Vec<f32> {
        let newest = (self.position + self.tokens).saturating_sub(1);
        // The last position that went into a cell.
        let in_cell = |cell| newest - (newest % self.cells + self.cells - cell) % self.cells;
        let mut mask = Vec::with_capacity(self.tokens * self.filled());
        for token in self.position..self.position + self.tokens {
            mask.extend((0..self.filled()).map(|cell| {
                let position = in_cell(cell);
                let near = window.is_none_or(|window| position + window > token);
                if position <= token && near {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            }));
        }
        mask
    }
}

/// Cells in F16, zeroed. Memory that cannot be allocated is an error; candle would abort.
fn zeroed(backend: &Device, shape: [usize; 3]) -> Result<Tensor, DecodeError> {
    let [heads, cells, width] = shape;
    let count = heads.checked_mul(cells).and_then(|n| n.checked_mul(width));
    let refused = DecodeError::Memory {
        what: "the cache",
        bytes: Bytes(count.unwrap_or(usize::MAX).saturating_mul(2) as u64),
    };
    let mut zeros: Vec<f16> = Vec::new();
    match (count, backend) {
        (Some(count), Device::Cpu) if zeros.try_reserve_exact(count).is_ok() => {
            zeros.resize(count, f16::ZERO);
            Ok(Tensor::from_vec(zeros, &shape, backend)?)
        }
        (None, _) | (_, Device::Cpu) => Err(refused),
        (Some(_), _) => Tensor::zeros(&shape, DType::F16, backend).map_err(|_| refused),
    }
}

impl Cells {
    /// Errors if the type is not F16, or the device has not so much memory.
    pub(super) fn new(
        backend: &Device,
        dtype: Dtype,
        [heads, cells]: [usize; 2],
        [keys, values]: [usize; 2],
    ) -> Result<Cells, DecodeError> {
        if dtype != Dtype::F16 {
            return Err(DecodeError::KvType { dtype });
        }
        let zeroed = |width| zeroed(backend, [heads, cells, width]);
        Ok(Cells([zeroed(keys)?, zeroed(values)?]))
    }

    pub(super) fn bytes(&self) -> Bytes {
        let each = self.0.iter().map(|cells| cells.elem_count() as u64 * 2);
        Bytes(each.sum())
    }

    /// Writes `[tokens, heads x width]` of each behind those before.
    pub(super) fn write(&mut self, rows: [&Tensor; 2], view: &View) -> Result<(), DecodeError> {
        for (cells, rows) in self.0.iter().zip(rows) {
            let (heads, count, width) = cells.dims3()?;
            let rows = rows.reshape((view.tokens, heads, width))?;
            let rows = rows.transpose(0, 1)?.to_dtype(DType::F16)?.contiguous()?;
            let first = view.position % count.max(1);
            let until_end = view.tokens.min(count - first);
            cells.slice_set(&rows.narrow(1, 0, until_end)?.contiguous()?, 1, first)?;
            if until_end < view.tokens {
                let rest = rows.narrow(1, until_end, view.tokens - until_end)?;
                cells.slice_set(&rest.contiguous()?, 1, 0)?;
            }
        }
        Ok(())
    }

    /// Queries `[tokens, heads x key width]` to `[tokens, heads x value width]`.
    pub(super) fn attention(
        &self,
        queries: &Tensor,
        view: &View,
        scores: ScoreTransform,
    ) -> Result<Tensor, DecodeError> {
        let [keys, values] = &self.0;
        let (kv_heads, _, width) = keys.dims3()?;
        let (tokens, filled) = (view.tokens, view.filled());
        let group = queries.elem_count() / (tokens * kv_heads * width).max(1);
        let queries = (queries * f64::from(scores.scale))?;
        let queries = queries.reshape((tokens, kv_heads, group, width))?;
        let queries = queries.permute((1, 2, 0, 3))?.contiguous()?;
        let queries = queries.reshape((kv_heads, group * tokens, width))?;
        let together = (SCORES / (group * tokens * filled).max(1)).clamp(1, kv_heads);
        let mut mixed = Vec::new();
        for first in (0..kv_heads).step_by(together) {
            let heads = together.min(kv_heads - first);
            let read = |cells: &Tensor| {
                let some = cells.narrow(0, first, heads)?.narrow(1, 0, filled)?;
                some.to_dtype(DType::F32)?.contiguous()
            };
            let queries = queries.narrow(0, first, heads)?;
            let mut weights = queries.matmul(&read(keys)?.t()?)?;
            if let Some(cap) = scores.cap {
                weights = softcap(&weights, cap)?;
            }
            if let Some(mask) = &view.mask {
                let by_token = weights.reshape((heads, group, tokens, filled))?;
                let masked = by_token.broadcast_add(mask)?;
                weights = masked.reshape((heads, group * tokens, filled))?;
            }
            mixed.push(softmax_last_dim(&weights)?.matmul(&read(values)?)?);
        }
        let mixed = Tensor::cat(&mixed, 0)?;
        let width = mixed.elem_count() / (tokens * kv_heads * group).max(1);
        let mixed = mixed.reshape((kv_heads, group, tokens, width))?;
        let mixed = mixed.permute((2, 0, 1, 3))?.contiguous()?;
        Ok(mixed.reshape((tokens, kv_heads * group * width))?)
    }
}
