//! Softmax attention over keys and values on candle's device, with its matrix products.
//!
//! Cells are read in the order of the cache, not of the tokens: attention does not depend on it, and a
//! ring that has wrapped is read in one piece. A mask hides the cells that a token does not attend to.

use candle_core::{Device, Tensor};
use candle_nn::ops::softmax_last_dim;

use super::super::DecodeError;
use super::super::activations::{AttentionLayout, ScoreTransform, Window};
use super::cache::Cells;
use super::softcap;
use crate::model::RopeStyle;

/// Scores that are held at a time: 64 MiB of F32.
const SCORES: usize = 1 << 24;

/// Keys and values of one block.
pub(in super::super) struct KeysAndValues(pub(super) [Cells; 2]);

/// Positions, mask and rotations of one pass for one layout.
pub(in super::super) struct View {
    /// Tokens before.
    pub(super) position: usize,
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
        let mask = view.visible(layout.window, layout.ahead);
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

    /// The last position that went into a cell.
    fn in_cell(&self, cell: usize) -> usize {
        let newest = (self.position + self.tokens).saturating_sub(1);
        newest - (newest % self.cells + self.cells - cell) % self.cells
    }

    /// Tokens between each token and each cell; 0 for cells behind it.
    fn distances(&self) -> Vec<f32> {
        let tokens = self.position..self.position + self.tokens;
        let row = |token: usize| {
            let cells = 0..self.filled();
            cells.map(move |cell| token.saturating_sub(self.in_cell(cell)) as f32)
        };
        tokens.flat_map(row).collect()
    }

    fn visible(&self, window: Option<Window>, ahead: bool) -> Vec<f32> {
        let mut mask = Vec::with_capacity(self.tokens * self.filled());
        for token in self.position..self.position + self.tokens {
            mask.extend((0..self.filled()).map(|cell| {
                let position = self.in_cell(cell);
                let is_seen = match window {
                    _ if !ahead && position > token => false,
                    None => true,
                    Some(window) if ahead => position.abs_diff(token) <= window.tokens / 2,
                    Some(window) => position >= window.start(token),
                };
                if is_seen { 0.0 } else { f32::NEG_INFINITY }
            }));
        }
        mask
    }
}

impl KeysAndValues {
    /// Queries `[tokens, heads x key width]` to `[tokens, heads x value width]`.
    pub(super) fn attention(
        &self,
        queries: &Tensor,
        view: &View,
        scores: ScoreTransform<'_>,
    ) -> Result<Tensor, DecodeError> {
        let [keys, values] = &self.0;
        let (kv_heads, width) = (keys.heads(), keys.width());
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
            let read = |cells: &Cells| cells.read(first, heads, filled);
            let queries = queries.narrow(0, first, heads)?;
            let mut weights = queries.matmul(&read(keys)?.t()?)?;
            if let Some(cap) = scores.cap {
                weights = softcap(&weights, cap)?;
            }
            if let Some(slopes) = scores.slopes {
                let some = slopes.get(first * group..(first + heads) * group);
                let some = some.unwrap_or_default().to_vec();
                let slopes = Tensor::from_vec(some, (heads, group, 1, 1), weights.device())?;
                let distances =
                    Tensor::from_vec(view.distances(), (tokens, filled), weights.device())?;
                let lost = slopes.broadcast_mul(&distances)?;
                weights = (weights - lost.reshape((heads, group * tokens, filled))?)?;
            }
            if let Some(mask) = &view.mask {
                let by_token = weights.reshape((heads, group, tokens, filled))?;
                let masked = by_token.broadcast_add(mask)?;
                weights = masked.reshape((heads, group * tokens, filled))?;
            }
            if let Some(sinks) = scores.sinks {
                let some = sinks.get(first * group..(first + heads) * group);
                let some = some.unwrap_or_default().to_vec();
                let sinks = Tensor::from_vec(some, (heads, group, 1, 1), weights.device())?;
                let sinks = sinks
                    .broadcast_as((heads, group, tokens, 1))?
                    .contiguous()?;
                let sinks = sinks.reshape((heads, group * tokens, 1))?;
                let all = Tensor::cat(&[weights, sinks], 2)?;
                weights = softmax_last_dim(&all)?.narrow(2, 0, filled)?.contiguous()?;
            } else {
                weights = softmax_last_dim(&weights)?;
            }
            mixed.push(weights.matmul(&read(values)?)?);
        }
        let mixed = Tensor::cat(&mixed, 0)?;
        let width = mixed.elem_count() / (tokens * kv_heads * group).max(1);
        let mixed = mixed.reshape((kv_heads, group, tokens, width))?;
        let mixed = mixed.permute((2, 0, 1, 3))?.contiguous()?;
        Ok(mixed.reshape((tokens, kv_heads * group * width))?)
    }
}
