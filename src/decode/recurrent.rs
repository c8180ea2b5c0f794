//! What token mixers share that keep a state of fixed size instead of a KV cache, and the shortest of them, a convolution.
//! Recurrences over tokens run on the processor, wherever the projections around them do.
//!
//! Source: `lfm2.cpp` in `src/models` of llama.cpp.

use super::DecodeError;
use super::activations::Activations;
use super::host::parallel_chunks;
use super::linear::Linear;
use super::state::{Pass, RecurrentState};
use super::weights::Weights;
use crate::model::TensorRole as R;

/// `out[t][c] = sum over i of kernel[c][i] x rows[t - (size - 1) + i][c]` in place, one kernel a
/// channel; `window` holds the rows before the first.
pub(super) fn convolve(rows: &mut [f32], kernel: &[f32], channels: usize, window: &mut [f32]) {
    let channels = channels.max(1);
    let size = kernel.len() / channels;
    for row in rows.chunks_exact_mut(channels) {
        for (channel, (x, kernel)) in row
            .iter_mut()
            .zip(kernel.chunks_exact(size.max(1)))
            .enumerate()
        {
            let before = window.iter().skip(channel).step_by(channels);
            let newest = kernel.last().copied().unwrap_or(0.0);
            let sum = before.zip(kernel).map(|(x, k)| x * k).sum::<f32>() + newest * *x;
            // The window moves on by one: each row takes the place of the one before it.
            let mut next = *x;
            for place in window.iter_mut().skip(channel).step_by(channels).rev() {
                std::mem::swap(place, &mut next);
            }
            *x = sum;
        }
    }
}

/// Takes all tokens through each head, which has an equal part of `states`: `step(head, token, state, out)` writes the `width`
/// elements that a head gives for a token. Gives `[tokens, heads x width]`.
pub(super) fn each_head(
    states: &mut [f32],
    [tokens, heads, width]: [usize; 3],
    step: impl Fn(usize, usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let (run, part) = ((tokens * width).max(1), states.len() / heads.max(1));
    // Each head writes a run of its own: `[heads, tokens, width]`.
    let mut by_head = vec![0.0; tokens * heads * width];
    let mut pairs: Vec<(&mut [f32], &mut [f32])> = states
        .chunks_exact_mut(part.max(1))
        .zip(by_head.chunks_exact_mut(run))
        .collect();
    parallel_chunks(&mut pairs, 1, |head, pairs| {
        for (state, out) in pairs {
            for (token, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
                step(head, token, state, out);
            }
        }
    });
    let mut out = vec![0.0; by_head.len()];
    for (head, rows) in by_head.chunks_exact(run).enumerate() {
        let rows = rows.chunks_exact(width.max(1));
        for (row, out) in rows.zip(out.chunks_exact_mut((heads * width).max(1))) {
            if let Some(place) = out.get_mut(head * width..(head + 1) * width) {
                place.copy_from_slice(row);
            }
        }
    }
    out
}

/// Row `token` of rows of `width` elements; empty if there is none.
pub(super) fn row_of(rows: &[f32], token: usize, width: usize) -> &[f32] {
    rows.get(token * width..(token + 1) * width)
        .unwrap_or_default()
}

/// LFM2's gated convolution: `out(c x conv(b x x))`.
pub(super) struct ShortConvolution<X: Activations> {
    input: Linear<X>,
    kernel: Vec<f32>,
    output: Linear<X>,
    channels: usize,
}

impl<X: Activations> ShortConvolution<X> {
    pub(super) fn load(
        weights: &mut Weights<'_, X>,
        layer: u32,
        hidden: usize,
        conv_elements: u64,
    ) -> Result<ShortConvolution<X>, DecodeError> {
        let at = Some(layer);
        let size = conv_elements as usize / hidden.max(1) + 1;
        Ok(ShortConvolution {
            input: Linear::load(weights, R::ShortconvIn, at, [3 * hidden, hidden])?,
            kernel: weights.floats(R::ShortconvConv, at, &[hidden, size])?,
            output: Linear::load(weights, R::ShortconvOut, at, [hidden, hidden])?,
            channels: hidden,
        })
    }

    pub(super) fn apply(
        &self,
        x: &X,
        pass: &Pass<'_, X>,
        state: &mut RecurrentState,
    ) -> Result<X, DecodeError> {
        let channels = self.channels;
        let all = self.input.apply(x)?;
        let part = |part: usize| all.columns(part * channels..(part + 1) * channels);
        let (b, c, x) = (part(0)?, part(1)?, part(2)?);
        let mut mixed = b.times(&x)?.into_host()?;
        convolve(&mut mixed, &self.kernel, channels, &mut state.window);
        let mixed = X::from_host(pass.backend, mixed, channels)?;
        self.output.apply(&mixed.times(&c)?)
    }
}
