//! Bytes that llama.cpp's RPC engine moves between the program that coordinates and one board, a pass and a load.
//!
//! Sources: `ggml/src/ggml-rpc/ggml-rpc.cpp` (protocol 7) for the messages, `ggml/src/ggml-backend.cpp` for what crosses
//! from one device to the next. Every tensor passes the coordinating program, also from one board to another.

use std::ops::Range;

use crate::model::{Attention, Layer, ModelSpec, RecurrentKind, TensorRole};
use crate::plan::compute::Gate;
use crate::plan::kv::{KvSettings, kv_cache_of};
use crate::plan::part::ModelPart;
use crate::plan::workload::Workload;
use crate::scheme::Assignment;
use crate::units::Bytes;

/// A command and the length of what follows.
const HEAD: u64 = 1 + 8;
/// A tensor's description (`rpc_tensor`).
const TENSOR: u64 = 296;
/// What sending a tensor takes beside its values: the command, its description, a flag and an offset.
const SET: u64 = HEAD + TENSOR + 1 + 8;
/// A request for a tensor: the command, its description, offset and size.
const GET: u64 = HEAD + TENSOR + 16;
/// The length before an answer.
const ANSWER: u64 = 8;
/// The request to compute the same graph again.
const AGAIN: u64 = HEAD + 4;
/// What a new graph takes beside its nodes and tensors: device and two counts.
const GRAPH: u64 = HEAD + 12;
/// Nodes of a block beside one for each weight and for each norm: rotations, views, the cache, attention, sums.
const BLOCK_NODES: u64 = 20;
/// The same for a scan: the parts of its projection, its states, what is stored of them, steps and gate.
const SCAN_NODES: u64 = 42;
/// Cells that attention sees come in multiples of this (`llama_kv_cache::get_n_kv`): with each further one the graph is
/// new.
const CELLS: u64 = 256;

/// Bytes in both directions, seen from the coordinating program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the board.
    pub to: Bytes,
    /// From it.
    pub from: Bytes,
}

impl Traffic {
    /// Both directions together.
    pub fn total(self) -> Bytes {
        self.to + self.from
    }

    fn add(&mut self, other: Traffic) {
        self.to += other.to;
        self.from += other.from;
    }
}

/// A part of a model on a board that the coordinating program reaches over the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote<'a> {
    /// The model.
    pub(super) model: &'a ModelSpec,
    /// What of it is on the board.
    pub(super) part: &'a ModelPart,
    /// The load.
    pub(super) workload: &'a Workload,
    /// The cache's settings.
    pub(super) settings: KvSettings,
}

impl Remote<'_> {
    /// One decode step of all sequences, at a depth of the workload's prompt. Every 256 tokens it has a new graph for each
    /// of the model's caches that grows, whose bytes are spread over the steps between.
    pub(super) fn step(&self) -> Traffic {
        let sequences = self.settings.sequences();
        let depth = self.workload.prompt_tokens;
        let seen = self.cells(depth);
        let mut step = self.pass(sequences, sequences, seen);
        let mut windows = attentions(&self.model.layers).map(|attention| attention.window);
        let has_full = attentions(&self.model.layers).any(|attention| attention.window.is_none());
        let grows = windows
            .find_map(|window| window)
            .is_some_and(|window| depth < self.settings.window_cells(window));
        let caches = u64::from(has_full) + u64::from(grows);
        step.to += match self.cuts() {
            [false, false] => Bytes(self.graph().saturating_mul(caches) / CELLS),
            // Neither of two graphs that take turns is the one before. The one behind the cut describes again what it is
            // computed from, about half; the one before it is short.
            [_, true] => Bytes(self.graph().saturating_mul(3) / 2),
            [true, false] if self.gates()[0].is_some() => Bytes(self.graph().saturating_mul(3) / 2),
            [true, false] => Bytes(self.graph()),
        };
        step
    }

    /// The whole prompt in passes of a ubatch, each with a new graph.
    pub(super) fn prompt(&self) -> Traffic {
        let prompt = self.workload.prompt_tokens;
        let tokens = prompt.saturating_sub(self.workload.cached_tokens).max(1);
        let ubatch = self.settings.tokens();
        let mut sum = Traffic::default();
        let mut done = 0;
        while done < tokens {
            let now = ubatch.min(tokens - done);
            done += now;
            let seen = self.cells(self.workload.cached_tokens + done);
            let rows = u64::from(done == tokens);
            let mut pass = self.pass(now, rows, seen);
            pass.to += Bytes(self.graph());
            sum.add(pass);
        }
        sum
    }

    /// Loading the weights for the first time: every tensor once.
    pub(super) fn load(&self, assignment: &Assignment) -> Bytes {
        let model = self.model;
        let tied = |is_embedding: bool| is_embedding && model.tied && self.part.output;
        let typed = model.tensors.iter().zip(&assignment.tensors);
        let here = typed.filter(|(tensor, _)| {
            self.part.has(tensor) || tied(tensor.role == TensorRole::TokenEmbedding)
        });
        here.map(|(_, assigned)| assigned.bytes + Bytes(SET)).sum()
    }

    /// One pass over `tokens` with `rows` rows of results, where attention sees `seen` cells.
    fn pass(&self, tokens: u64, rows: u64, seen: u64) -> Traffic {
        let hidden = self.model.dims.hidden.saturating_mul(4);
        let mut to = AGAIN + SET + hidden.saturating_mul(tokens);
        if self.part.layers.start == 0 {
            // Embeddings that may replace some of the tokens' own, those of the others, and which they replace.
            to += 2 * (SET + hidden.saturating_mul(tokens)) + SET + tokens.saturating_mul(8);
        }
        if self.part.reads_positions(self.model) {
            to += SET + tokens.saturating_mul(4);
        }
        // Where states are, for scans also those of the pass alone.
        let mixers = self.part.layers_of(self.model).iter();
        let kinds = mixers.filter_map(|layer| Some(layer.mixer.recurrent.as_ref()?.kind));
        let is_scan = |kind| {
            use RecurrentKind::{ProjectedSpace, Scan, StateSpace};
            matches!(kind, Scan | StateSpace | ProjectedSpace)
        };
        let places = kinds.map(|kind| 1 + u64::from(is_scan(kind))).max();
        to += places.unwrap_or(0) * (SET + self.settings.sequences().saturating_mul(4));
        for window in [None, Some(())] {
            let Some(attention) = self.attention(window.is_some()) else {
                continue;
            };
            let cells = attention
                .window
                .map_or(seen, |window| seen.min(self.settings.window_cells(window)));
            let mask = if self.settings.flash_attention { 2 } else { 4 };
            // The mask, and where keys and values go.
            to += SET + cells.saturating_mul(tokens).saturating_mul(mask);
            to += 2 * (SET + tokens.saturating_mul(8));
        }
        if self.part.has_last() {
            to += SET + rows.saturating_mul(4);
        }
        let answer = if self.part.output {
            self.model.dims.vocab.saturating_mul(rows)
        } else {
            self.model.dims.hidden.saturating_mul(tokens)
        };
        let mut from = ANSWER + answer.saturating_mul(4);
        let [before, own] = self.gates();
        if let Some(gate) = before {
            // It copies the gate of the last block before it, in a graph beside its own.
            to += AGAIN + SET + gate.spread(tokens) + GET;
            from += ANSWER + gate.bytes(tokens);
        }
        if let Some(gate) = own {
            to += AGAIN + SET + gate.bytes(tokens) + GET;
            from += ANSWER + gate.spread(tokens);
        }
        Traffic {
            to: Bytes(to + GET),
            from: Bytes(from),
        }
    }

    /// A new graph in place of the request for the same one: its nodes by their addresses, then a description of these, of
    /// weights, cached keys and values, and inputs.
    fn graph(&self) -> u64 {
        let tensors = self
            .model
            .tensors
            .iter()
            .filter(|tensor| self.part.has(tensor));
        let norms = tensors
            .clone()
            .filter(|tensor| tensor.role.info().stem.contains("norm"));
        let (weights, norms) = (tensors.count() as u64, norms.count() as u64);
        let blocks = self.part.layers.len() as u64;
        let has_scan = |layer: &&Layer| layer.mixer.recurrent.is_some();
        let scans = self
            .part
            .layers_of(self.model)
            .iter()
            .filter(has_scan)
            .count() as u64;
        let nodes = (blocks - scans) * BLOCK_NODES + scans * SCAN_NODES + weights + norms;
        let described = nodes + weights + blocks * 2 + 5;
        GRAPH - AGAIN + nodes.saturating_mul(8) + described.saturating_mul(TENSOR)
    }

    /// Whether its graph is cut in two near its beginning and near its end: the states of a scan or a convolution are read
    /// before the last block of the board before it has ended.
    fn cuts(&self) -> [bool; 2] {
        let Range { start, end } = self.part.layers;
        let reads_first = |index: usize| {
            let mixer = self.model.layers.get(index).map(|layer| &layer.mixer);
            let mixer = mixer.filter(|mixer| mixer.attention.is_none());
            let kind = mixer.and_then(|mixer| Some(mixer.recurrent.as_ref()?.kind));
            kind.is_some_and(|kind| kind != RecurrentKind::DeltaNet)
        };
        [start, end].map(|at| at > 0 && reads_first(at))
    }

    /// The gate of the last block before it and of its own last one, where the device behind copies them.
    fn gates(&self) -> [Option<Gate>; 2] {
        let Range { start, end } = self.part.layers;
        [start, end].map(|end| Gate::copied_behind(self.model, end.checked_sub(1)?))
    }

    fn cells(&self, depth: u64) -> u64 {
        let padded = depth
            .saturating_add(1)
            .div_ceil(CELLS)
            .saturating_mul(CELLS);
        let cells = kv_cache_of(self.model, &[], &self.settings).cells_full;
        padded.min(cells)
    }

    fn attention(&self, windowed: bool) -> Option<&Attention> {
        let mut attentions = attentions(self.part.layers_of(self.model));
        attentions.find(|attention| attention.window.is_some() == windowed)
    }
}

fn attentions(layers: &[Layer]) -> impl Iterator<Item = &Attention> {
    let mixers = layers.iter().map(|layer| &layer.mixer);
    mixers.filter_map(|mixer| mixer.attention.as_ref())
}
