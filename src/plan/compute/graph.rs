//! One pass of llama.cpp as a list of tensor sizes: inputs, layers, output head. Reads the model's
//! description; knows the order and size of operations, not their arithmetic.
//!
//! Sources: `llama-graph.cpp` and `src/models/*.cpp` of llama.cpp. Operations that work in place on
//! their only reader's input (norm weights, biases, rope, soft caps) take no memory and are left out.

use super::ComputeBackend;
use super::fusion::{BlockNorms, Fusion, fusions};
use super::gate::Gate;
use super::tensors::{Graph, Id, Pool};
use crate::model::{Attention, Cache, FeedForward, Layer, Mixer, ModelSpec};
use crate::plan::kv::{self, KvSettings};
use crate::plan::part::ModelPart;

/// Bytes that ggml aligns tensors to in a CPU buffer.
const CPU_ALIGNMENT: u64 = 32;
/// Bytes that ggml aligns tensors to in a CUDA buffer.
const CUDA_ALIGNMENT: u64 = 128;

/// The inputs of one kind of attention layer (full or windowed).
#[derive(Clone, Copy, Debug)]
pub(super) struct CacheInputs {
    /// Cells of each stream.
    pub(super) cells: u64,
    pub(super) mask: Id,
    /// The places of keys and of values in the cache, if there is one.
    pub(super) rows: Option<[Id; 2]>,
    /// Rotations applied before keys and values are quantized.
    pub(super) key_rotation: Option<Id>,
    pub(super) value_rotation: Option<Id>,
}

/// A graph under construction and what its layers share.
pub(super) struct Builder<'m> {
    pub(super) graph: Graph,
    pub(super) model: &'m ModelSpec,
    /// The part of the model that the pass computes.
    pub(super) part: &'m ModelPart,
    pub(super) settings: &'m KvSettings,
    pub(super) backend: ComputeBackend,
    /// How the projections of each layer are fused.
    pub(super) fusions: Vec<Fusion>,
    /// Tokens of the pass.
    pub(super) tokens: u64,
    pub(super) positions: Id,
    /// Inputs of layers that see the whole context.
    pub(super) full: Option<CacheInputs>,
    /// Inputs of windowed layers.
    pub(super) window: Option<CacheInputs>,
    /// The gate of the layer that is computed now, if the next device copies it.
    pub(super) gate_copied_behind: Option<Id>,
}

/// Passes that llama.cpp's scheduler prepares while earlier ones run, where a model is on several devices
/// (`GGML_SCHED_MAX_COPIES`, ggml-backend.cpp): so often every input is there.
const COPIES: u64 = 4;

/// The graph of the largest pass with `rows` rows of logits, or of a `part` of it that one of several devices computes.
pub(super) fn graph(
    model: &ModelSpec,
    settings: &KvSettings,
    rows: u64,
    backend: ComputeBackend,
    part: &ModelPart,
) -> Graph {
    let tokens = settings.tokens();
    let rows = rows.clamp(1, tokens);
    let is_split = !part.is_whole();
    let mut graph = if is_split {
        graph_apart(backend, COPIES)
    } else {
        graph_of(backend)
    };

    // Token ids, and the embeddings that a caller may give instead: both are reserved, one is used.
    let ids = graph.input(tokens.saturating_mul(4));
    graph.input(f32_bytes(model.dims.hidden, tokens));
    let mut embedded = graph.own(f32_bytes(model.dims.hidden, tokens), &[ids]);
    let mut mixed = is_split.then(|| mixed_inputs(&mut graph, model, tokens));
    let per_layer = model
        .dims
        .per_layer_embedding
        .saturating_mul(model.layers.len() as u64);
    let mut per_layer = (per_layer > 0).then(|| {
        let ids = graph.input(tokens.saturating_mul(4));
        graph.own(f32_bytes(per_layer, tokens), &[ids])
    });
    // An encoder adds a table of positions before its first layer.
    let has_positions = model.is_encoder() || ModelPart::whole(model).reads_positions(model);
    let mut positions = if has_positions {
        graph.input(tokens.saturating_mul(4))
    } else {
        ids
    };
    // Inputs are placed in the order in which the layers first ask for them.
    let layers = part.layers_of(model);
    let windowed_first = layers
        .first()
        .and_then(|l| l.mixer.attention.as_ref())
        .is_some_and(|a| a.window.is_some());
    let first = cache_inputs(&mut graph, model, layers, settings, windowed_first);
    let second = cache_inputs(&mut graph, model, layers, settings, !windowed_first);
    let (mut window, mut full) = if windowed_first {
        (first, second)
    } else {
        (second, first)
    };
    let mut output_rows = graph.input(rows.saturating_mul(4));

    if backend == ComputeBackend::Cuda || is_split {
        // Inputs and the embedding lookup are on the CPU, or what the part before computed on another device: the device
        // gets copies.
        graph.pool = Pool::Device;
        let mut upload = |id: &mut Id| *id = graph.copy(*id);
        upload(&mut embedded);
        let mixed = mixed
            .iter_mut()
            .flatten()
            .filter(|_| part.layers.start == 0);
        mixed.for_each(&mut upload);
        if part.reads_positions(model) {
            upload(&mut positions);
        }
        for inputs in [&mut full, &mut window].into_iter().flatten() {
            upload(&mut inputs.mask);
            inputs.rows.iter_mut().flatten().for_each(&mut upload);
            inputs.key_rotation.iter_mut().for_each(&mut upload);
            inputs.value_rotation.iter_mut().for_each(&mut upload);
        }
        per_layer.iter_mut().for_each(&mut upload);
        if part.has_last() {
            upload(&mut output_rows);
        }
    }

    let before = part.layers.start.checked_sub(1).filter(|_| is_split);
    if let Some(gate) = before.and_then(|index| Gate::copied_behind(model, index)) {
        // What the layer before needs, and this device copies.
        let spread = graph.input(gate.spread(tokens));
        let copied = graph.own(gate.bytes(tokens), &[spread]);
        graph.store(&[copied]);
    }
    if let Some([rows, ..]) = mixed.filter(|_| part.layers.start == 0) {
        let joined = graph.own(f32_bytes(model.dims.hidden, tokens), &[rows]);
        graph.keep(joined);
    }

    let mut builder = Builder {
        graph,
        model,
        part,
        settings,
        backend,
        fusions: fusions(model),
        tokens,
        positions,
        full,
        window,
        gate_copied_behind: None,
    };
    let last = if model.dims.streams > 1 {
        builder.stacked_layers(embedded, per_layer, output_rows, rows)
    } else {
        builder.plain_layers(embedded, per_layer, output_rows, rows)
    };
    if part.output {
        builder.head(last, rows);
    }
    builder.graph
}

/// What llama-server may give in place of some tokens' embeddings (`inp_mixed_embd` of b11434, the embeddings of the
/// others, and the rows that it replaces): where a model is on several devices, the first has them.
fn mixed_inputs(graph: &mut Graph, model: &ModelSpec, tokens: u64) -> [Id; 3] {
    let rows = f32_bytes(model.dims.hidden, tokens);
    let ids = graph.input(tokens.saturating_mul(4));
    let given = graph.input(rows);
    let slots = graph.input(tokens.saturating_mul(8));
    let others = graph.own(rows, &[ids]);
    [given, others, slots]
}

/// An empty graph of a device that is one of several: inputs are with the CPU that coordinates, `copies` times.
fn graph_apart(backend: ComputeBackend, copies: u64) -> Graph {
    let alignment = match backend {
        ComputeBackend::Cpu => CPU_ALIGNMENT,
        ComputeBackend::Cuda => CUDA_ALIGNMENT,
    };
    let mut graph = Graph::new([CUDA_ALIGNMENT, alignment], Pool::Host);
    graph.copies = copies;
    graph
}

/// An empty graph, whose inputs are at home where the CPU can write them.
pub(super) fn graph_of(backend: ComputeBackend) -> Graph {
    let (home, alignment) = match backend {
        ComputeBackend::Cpu => (Pool::Device, CPU_ALIGNMENT),
        ComputeBackend::Cuda => (Pool::Host, CUDA_ALIGNMENT),
    };
    Graph::new([CUDA_ALIGNMENT, alignment], home)
}

/// Bytes of `rows` rows of `width` F32 values.
pub(super) fn f32_bytes(width: u64, rows: u64) -> u64 {
    width.saturating_mul(rows).saturating_mul(4)
}

/// The inputs of the layers that are (or are not) windowed; `None` if there are none.
fn cache_inputs(
    graph: &mut Graph,
    model: &ModelSpec,
    layers: &[Layer],
    settings: &KvSettings,
    windowed: bool,
) -> Option<CacheInputs> {
    fn attentions(layers: &[Layer]) -> impl Iterator<Item = &Attention> {
        let mixers = layers.iter().map(|layer| &layer.mixer);
        mixers.filter_map(|mixer| mixer.attention.as_ref())
    }
    let of_kind = || attentions(layers).filter(|a| a.window.is_some() == windowed);
    let first = of_kind().next()?;
    let tokens = settings.tokens();
    let cells = match (first.cache, first.window) {
        (Cache::None, _) => tokens,
        (_, None) => settings.cells(),
        (_, Some(window)) => settings.window_cells(window),
    };
    let widest = attentions(&model.layers)
        .map(kv::value_width)
        .max()
        .unwrap_or(0);
    // Transposed values are scattered one element at a time, each with its own 8-byte index.
    let value_indices = if settings.flash_attention {
        1
    } else {
        widest.max(1)
    };
    let mask_bytes = if settings.flash_attention { 2 } else { 4 };

    let uniform =
        |dim: fn(&Attention) -> u64| of_kind().all(|a| dim(a) == dim(first)).then(|| dim(first));
    let rotation = |quantized: bool, width: Option<u64>, largest: bool| {
        let width = width.filter(|w| quantized && *w > 0 && w % 64 == 0)?;
        // The largest power of two that divides a key head; 64 for values.
        let side = if largest {
            1 << width.trailing_zeros()
        } else {
            64
        };
        Some(f32_bytes(side, side))
    };
    let key_rotation = rotation(settings.type_k.is_quantized(), uniform(|a| a.key_dim), true);
    let value_rotation = rotation(
        settings.type_v.is_quantized(),
        uniform(|a| a.value_dim),
        false,
    );
    let streams = match first.cache {
        Cache::None => 1,
        Cache::Own | Cache::Shared | Cache::Images => settings.streams(),
    };
    let mask = cells
        .saturating_mul(tokens / streams)
        .saturating_mul(streams)
        .saturating_mul(mask_bytes);
    Some(CacheInputs {
        cells,
        key_rotation: key_rotation.map(|bytes| graph.input(bytes)),
        value_rotation: value_rotation.map(|bytes| graph.input(bytes)),
        rows: (first.cache != Cache::None).then(|| {
            [1, value_indices]
                .map(|indices| graph.input(tokens.saturating_mul(8).saturating_mul(indices)))
        }),
        mask: graph.input(mask),
    })
}

impl Builder<'_> {
    /// Bytes of one F32 row of `width` for every token of the pass.
    pub(super) fn each_token(&self, width: u64) -> u64 {
        f32_bytes(width, self.tokens)
    }

    /// Pre-norm layers with one residual stream. After its mixer the last layer computes only the output rows.
    fn plain_layers(
        &mut self,
        embedded: Id,
        per_layer: Option<Id>,
        output_rows: Id,
        rows: u64,
    ) -> Id {
        let model = self.model;
        let hidden = model.dims.hidden;
        let per_layer = per_layer.map(|table| self.per_layer_inputs(embedded, table));
        let order = model.quirks.graph;
        let late = order.late_rows;
        let mut stream = embedded;
        for (index, layer) in self.part.numbered(model) {
            if index + 1 == self.part.layers.end && !self.part.is_whole() {
                let gate = Gate::copied_behind(model, index);
                self.gate_copied_behind =
                    gate.map(|gate| self.graph.input(gate.bytes(self.tokens)));
            }
            let norms = self.fusions.get(index).map_or(BlockNorms::Own, |f| f.norms);
            if norms == BlockNorms::One
                && let Some(attention) = &layer.mixer.attention
                && layer.mixer.recurrent.is_none()
            {
                stream = self.side_by_side(index, layer, attention, stream, output_rows, rows);
                continue;
            }
            let mut residual = stream;
            let mut live = self.tokens;
            let mut mixed = self.mixer(index, layer, stream, norms);
            if index + 1 == model.layers.len() && !late {
                live = rows;
                let bytes = f32_bytes(hidden, rows);
                mixed = mixed.map(|mixed| self.graph.own(bytes, &[mixed, output_rows]));
                residual = self.graph.own(bytes, &[residual, output_rows]);
            }
            stream = match mixed {
                Some(mixed) => self.sum(mixed, residual, order.residual_first_mixer),
                None => residual,
            };
            if layer.feed_forward != FeedForward::None {
                self.graph.stage = "feed-forward";
                let normed = self.normed(stream, norms);
                let out = self.feed_forward(index, &layer.feed_forward, normed, live);
                stream = self.sum(out, stream, order.residual_first_feed_forward);
            }
            if let Some(inputs) = per_layer {
                stream = self.gated_per_layer(
                    stream,
                    inputs,
                    (live < self.tokens).then_some(output_rows),
                    live,
                );
            }
        }
        if late && self.part.output {
            self.graph.stage = "output head";
            let normed = self.graph.in_place(&[stream]);
            self.graph.keep(normed);
            stream = self
                .graph
                .own(f32_bytes(hidden, rows), &[normed, output_rows]);
        }
        stream
    }

    /// Attention and feed-forward over the same normed stream. The feed-forward comes first, behind queries, keys and
    /// values, because the sums of all three begin with it.
    fn side_by_side(
        &mut self,
        index: usize,
        layer: &Layer,
        attention: &Attention,
        stream: Id,
        output_rows: Id,
        rows: u64,
    ) -> Id {
        self.graph.stage = "attention";
        let normed = self.graph.in_place(&[stream]);
        let Some(projected) = self.projected(index, attention, normed) else {
            return stream;
        };
        let is_last = index + 1 == self.model.layers.len();
        let live = if is_last { rows } else { self.tokens };
        let bytes = f32_bytes(self.model.dims.hidden, live);
        let chosen = |graph: &mut Graph, id: Id| match is_last {
            true => graph.own(bytes, &[id, output_rows]),
            false => id,
        };
        self.graph.stage = "feed-forward";
        let own = chosen(&mut self.graph, normed);
        let out = self.feed_forward(index, &layer.feed_forward, own, live);
        let residual = chosen(&mut self.graph, stream);
        let sum = self.graph.in_place(&[out, residual]);
        self.graph.stage = "attention";
        let attended = self.attended(attention, projected);
        let attended = chosen(&mut self.graph, attended);
        self.graph.in_place(&[sum, attended])
    }

    /// What a mixer or a feed-forward reads: the stream behind its norm, if it has one.
    fn normed(&mut self, stream: Id, norms: BlockNorms) -> Id {
        match norms {
            BlockNorms::Behind => stream,
            BlockNorms::Own | BlockNorms::One => self.graph.in_place(&[stream]),
        }
    }

    /// The sum of a layer's output and the residual, in the memory of the first of the two.
    fn sum(&mut self, made: Id, residual: Id, residual_first: bool) -> Id {
        if residual_first {
            self.graph.in_place(&[residual, made])
        } else {
            self.graph.in_place(&[made, residual])
        }
    }

    /// The token mixers of a layer, side by side where it has two; `None` where it has none.
    fn mixer(&mut self, index: usize, layer: &Layer, stream: Id, norms: BlockNorms) -> Option<Id> {
        let Mixer {
            attention,
            recurrent,
        } = &layer.mixer;
        if attention.is_none() && recurrent.is_none() {
            return None;
        }
        self.graph.stage = "attention";
        let normed = self.normed(stream, norms);
        let attended = attention
            .as_ref()
            .map(|attention| self.attention(index, attention, normed));
        let recurred = recurrent.as_ref().map(|recurrent| {
            self.graph.stage = "recurrent mixer";
            self.recurrent(recurrent, normed)
        });
        match (attended, recurred) {
            (Some(attended), Some(recurred)) => Some(self.graph.in_place(&[attended, recurred])),
            (one, other) => one.or(other),
        }
    }

    /// Final norm and logits.
    fn head(&mut self, stream: Id, rows: u64) {
        self.graph.stage = "output head";
        let normed = self.graph.in_place(&[stream]);
        self.graph.keep(normed);
        if self.model.is_encoder() {
            return;
        }
        let logits = self
            .graph
            .own(f32_bytes(self.model.dims.vocab, rows), &[normed]);
        self.graph.keep(logits);
    }
}
