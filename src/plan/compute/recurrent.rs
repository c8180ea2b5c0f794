//! The tensors of one recurrent or convolutional mixer: short convolution, Mamba 1 and 2, gated delta net.
//!
//! Sources: `lfm2.cpp`, `mamba-base.cpp`, `qwen3next.cpp`, `delta-net-base.cpp` in `src/models` of
//! llama.cpp.

use super::gate::SCAN_WINDOW;
use super::graph::Builder;
use super::tensors::Id;
use crate::model::{Recurrent, RecurrentKind, TensorRole};

/// Rows of a delta net's state matrix: 128 in every published one.
const DELTA_STATE: u64 = 128;

impl Builder<'_> {
    /// A recurrent mixer over `normed`, projected back to the width of the residual stream.
    pub(super) fn recurrent(&mut self, recurrent: &Recurrent, normed: Id) -> Id {
        let channels = recurrent.conv_elements / SCAN_WINDOW;
        let mixed = match recurrent.kind {
            RecurrentKind::Convolution => self.short_convolution(recurrent, normed),
            RecurrentKind::StateSpace => self.state_space(recurrent, channels, normed),
            RecurrentKind::ProjectedSpace => self.projected_space(recurrent, channels, normed),
            RecurrentKind::Scan => self.selective_scan(recurrent, channels, normed),
            RecurrentKind::DeltaNet => self.delta_net(recurrent, channels, normed),
            RecurrentKind::TimeMix => self.time_mix(recurrent, normed),
        };
        let hidden = self.each_token(self.model.dims.hidden);
        self.graph.own(hidden, &[mixed])
    }

    /// The gate in `projected`, copied here or by the device of the next layer.
    fn gate(&mut self, bytes: u64, projected: Id) -> Id {
        let gate = self.graph.slice(bytes, projected);
        match self.gate_copied_behind {
            Some(copied) => {
                self.graph.store(&[gate]);
                copied
            }
            None => self.graph.own(bytes, &[gate]),
        }
    }

    /// Bytes of `elements` F32 for each sequence.
    fn each_sequence(&self, elements: u64) -> u64 {
        elements
            .saturating_mul(4)
            .saturating_mul(self.settings.sequences())
    }

    /// Puts the kept columns before `signal`, keeps the last ones, convolves.
    fn convolve(&mut self, recurrent: &Recurrent, width: u64, window: Id, signal: Id) -> Id {
        let columns = self.each_sequence(recurrent.conv_elements);
        let width = self.each_token(width);
        let joined = self
            .graph
            .own(width.saturating_add(columns), &[window, signal]);
        let last = self.graph.slice(columns, joined);
        self.graph.store(&[last]);
        self.graph.own(width, &[joined])
    }

    /// Three parts from one projection: the product of two is convolved, then gated by the third.
    fn short_convolution(&mut self, recurrent: &Recurrent, normed: Id) -> Id {
        let width = recurrent.inner / 3;
        let part = self.each_token(width);
        let window = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let parts = self.graph.own(self.each_token(recurrent.inner), &[normed]);
        let gate = self.graph.slice(part, parts);
        let signal = self.graph.slice(part, parts);
        let signal = self.graph.own(part, &[gate, signal]);
        let signal = self.graph.reshape(signal);
        let convolved = self.convolve(recurrent, width, window, signal);
        let gate = self.graph.slice(part, parts);
        self.graph.in_place(&[convolved, gate])
    }

    /// Mamba 2: one projection holds the gate and the input of the convolution; the output of the scan is followed by the
    /// new state.
    fn state_space(&mut self, recurrent: &Recurrent, channels: u64, normed: Id) -> Id {
        let inner = self.each_token(recurrent.inner.saturating_sub(channels));
        let state = self.each_sequence(recurrent.state_elements);
        let window = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let projected = self.graph.own(self.each_token(recurrent.inner), &[normed]);
        let signal = self.graph.slice(self.each_token(channels), projected);
        let convolved = self.convolve(recurrent, channels, window, signal);
        let convolved = self.graph.in_place(&[convolved]);
        let input = self.graph.slice(inner, convolved);
        let scanned = self.graph.own(inner.saturating_add(state), &[input]);
        let new = self.graph.slice(state, scanned);
        self.graph.store(&[new]);
        let gate = self.gate(inner, projected);
        let result = self.graph.slice(inner, scanned);
        let skipped = self.graph.own(inner, &[input]);
        let result = self.graph.in_place(&[skipped, result]);
        let gated = self.graph.own(inner, &[gate, result]);
        let groups = self.graph.reshape(gated);
        self.graph.own(inner, &[groups])
    }

    /// Mamba 1: what the scan reads (time steps, `B` and `C`) is projected from what the convolution wrote.
    fn selective_scan(&mut self, recurrent: &Recurrent, channels: u64, normed: Id) -> Id {
        let inner = self.each_token(channels);
        let state = self.each_sequence(recurrent.state_elements);
        let window = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let projected = self.graph.own(self.each_token(recurrent.inner), &[normed]);
        let signal = self.graph.slice(inner, projected);
        let convolved = self.convolve(recurrent, channels, window, signal);
        let convolved = self.graph.in_place(&[convolved]);
        let rank = self.each_token(self.step_sizes()[1]);
        let parts = recurrent.state_elements / channels.max(1);
        let parts = self
            .each_token(parts.saturating_mul(2))
            .saturating_add(rank);
        let parts = self.graph.own(parts, &[convolved]);
        let steps = self.graph.slice(rank, parts);
        let steps = self.graph.own(rank, &[steps]);
        let steps = self.graph.own(inner, &[steps]);
        let steps = self.graph.in_place(&[steps]);
        let scanned = self
            .graph
            .own(inner.saturating_add(state), &[convolved, steps, parts]);
        let new = self.graph.slice(state, scanned);
        self.graph.store(&[new]);
        let result = self.graph.slice(inner, scanned);
        let skipped = self.graph.own(inner, &[convolved]);
        let result = self.graph.in_place(&[skipped, result]);
        let gate = self.gate(inner, projected);
        self.graph.own(inner, &[gate, result])
    }

    /// Rows and columns of the projection that time steps come from.
    fn step_sizes(&self) -> [u64; 2] {
        let mut tensors = self.model.tensors.iter();
        let weight = tensors.find(|t| t.role == TensorRole::SsmDt && t.is_weight());
        weight.map_or([0, 0], |t| [t.elements() / t.row().max(1), t.row()])
    }

    /// Mamba 2 whose time steps, `B` and `C` are projected from what the convolution wrote, and normed. Gate and input lie head
    /// by head in one projection.
    fn projected_space(&mut self, recurrent: &Recurrent, channels: u64, normed: Id) -> Id {
        let inner = self.each_token(channels);
        let state = self.each_sequence(recurrent.state_elements);
        let window = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let both = self.each_token(recurrent.inner);
        let product = self.graph.own(both, &[normed]);
        let projected = self.graph.own(both, &[product]);
        let part = self.graph.slice(inner, projected);
        let signal = self.graph.own(inner, &[part]);
        let signal = self.graph.reshape(signal);
        let convolved = self.convolve(recurrent, channels, window, signal);
        let convolved = self.graph.in_place(&[convolved]);
        let [heads, rank] = self.step_sizes();
        let [each, rank] =
            [recurrent.state_elements / channels.max(1), rank].map(|n| self.each_token(n));
        let all = each.saturating_mul(2).saturating_add(rank);
        let parts = self.graph.own(all, &[convolved]);
        let steps = self.normed_part(rank, parts);
        let steps = self.graph.own(self.each_token(heads), &[steps]);
        let steps = self.graph.in_place(&[steps]);
        let [b, c] = [each, each].map(|bytes| self.normed_part(bytes, parts));
        let scanned = self
            .graph
            .own(inner.saturating_add(state), &[convolved, steps, b, c]);
        let new = self.graph.slice(state, scanned);
        self.graph.store(&[new]);
        let gate = self.gate(inner, projected);
        let result = self.graph.slice(inner, scanned);
        let skipped = self.graph.own(inner, &[convolved]);
        let result = self.graph.in_place(&[skipped, result]);
        self.graph.own(inner, &[gate, result])
    }

    /// A norm of some columns of `parts`.
    fn normed_part(&mut self, bytes: u64, parts: Id) -> Id {
        let part = self.graph.slice(bytes, parts);
        self.graph.own(bytes, &[part])
    }

    /// RWKV 7: six mixtures with the token before, projected one by one, and a matrix for each head.
    fn time_mix(&mut self, recurrent: &Recurrent, normed: Id) -> Id {
        let inner = self.each_token(recurrent.inner);
        let state = self.each_sequence(recurrent.state_elements);
        let before = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let before = self.graph.own(inner, &[before, normed]);
        let step = self.graph.own(inner, &[before, normed]);
        let six = inner.saturating_mul(6);
        let mixed = self.graph.own(six, &[step]);
        let mixed = self.graph.own(six, &[mixed]);
        let mixed = self.graph.in_place(&[mixed, normed]);
        let mut vectors = [0; 6];
        for vector in &mut vectors {
            let part = self.graph.slice(inner, mixed);
            *vector = self.graph.own(inner, &[part]);
        }
        let old = self.graph.own(state, &[]);
        let [receptance, decay, key, value, rate, gate] = vectors;
        let inputs = [receptance, decay, key, value, rate, old];
        let scanned = self.graph.own(inner.saturating_add(state), &inputs);
        let new = self.graph.slice(state, scanned);
        self.graph.store(&[new]);
        let result = self.graph.slice(inner, scanned);
        let normed = self.graph.own(inner, &[result]);
        let past = self.graph.own(inner, &[key, receptance, value]);
        let result = self.graph.in_place(&[normed, past]);
        self.graph.in_place(&[result, gate])
    }

    /// Gated delta net: queries, keys and values are convolved together; queries and keys are
    /// normed and repeated to the values' heads.
    fn delta_net(&mut self, recurrent: &Recurrent, channels: u64, normed: Id) -> Id {
        let inner = recurrent.state_elements / DELTA_STATE;
        let key = self.each_token(channels.saturating_sub(inner) / 2);
        let repeated = key < self.each_token(inner);
        let inner = self.each_token(inner);
        let state = self.each_sequence(recurrent.state_elements);
        let projected = self.graph.own(self.each_token(channels), &[normed]);
        let gate = self.graph.own(inner, &[normed]);
        let window = self
            .graph
            .own(self.each_sequence(recurrent.conv_elements), &[]);
        let convolved = self.convolve(recurrent, channels, window, projected);
        let convolved = self.graph.in_place(&[convolved]);
        let old = self.graph.own(state, &[]);
        let mut vectors = [0; 2];
        for vector in &mut vectors {
            let slice = self.graph.slice(key, convolved);
            *vector = self.graph.own(key, &[slice]);
            if repeated {
                *vector = self.graph.own(inner, &[*vector]);
            }
        }
        let [queries, keys] = vectors;
        let values = self.graph.slice(inner, convolved);
        let scanned = self
            .graph
            .own(inner.saturating_add(state), &[queries, keys, values, old]);
        let new = self.graph.slice(state, scanned);
        self.graph.store(&[new]);
        let result = self.graph.slice(inner, scanned);
        let normed = self.graph.own(inner, &[result]);
        let gate = self.graph.reshape(gate);
        let gate = self.graph.own(inner, &[gate]);
        self.graph.in_place(&[normed, gate])
    }
}
