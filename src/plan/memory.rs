//! The memory ledger: everything that takes memory while a model runs, in bytes.
//!
//! On a Jetson, CPU and GPU share their memory: what one runtime calls host and device memory is one
//! sum here.

use crate::dtype::Dtype;
use crate::model::{FeedForward, Layer, ModelSpec, TensorRole};
use crate::note::KvProblem;
use crate::plan::compute::{Compute, EncoderCompute, compute};
use crate::plan::draft::{Drafter, Head, positions, state_copies};
use crate::plan::kv::{KvCache, KvSettings, kv_cache};
use crate::plan::projector;
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::runtime::profile::{ComputeRule, KvAllocation, Outputs};
use crate::scheme::Assignment;
use crate::sourced::Sourced;
use crate::units::Bytes;

/// What takes memory while a model runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// The text model's tensors, and its towers unless left out.
    pub weights: Bytes,
    /// The second copy of a tied embedding, where a runtime keeps one for the input and one for the
    /// output.
    pub duplicated_embedding: Bytes,
    /// Cached keys and values.
    pub kv_cache: Bytes,
    /// Recurrent and convolutional state.
    pub recurrent_state: Bytes,
    /// Activations, inputs and the graph's description.
    pub compute: Bytes,
    /// What an image encoder computes in.
    pub image_encoder: Bytes,
    /// What drafts: its weights, its cache and what it computes in.
    pub draft: Bytes,
    /// Adapters over the weights.
    pub adapters: Bytes,
    /// Rows of logits handed to the sampler.
    pub output: Bytes,
    /// What the runtime itself takes.
    pub runtime: RuntimeBytes,
    /// What the runtime takes for a moment while it loads, before it allocates caches and compute buffers.
    pub loading: Bytes,
    /// The largest single allocation.
    pub largest_allocation: Bytes,
    /// The stages that compete for the compute buffer, largest first.
    pub stages: Vec<(&'static str, Bytes)>,
    /// Why the cache cannot have the type asked for.
    pub kv_problem: Option<KvProblem>,
}

/// What a runtime takes beside tensors, caches and buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RuntimeBytes {
    /// Its process before it opens a model, the CUDA context included.
    pub process: Bytes,
    /// Its tokenizer.
    pub tokenizer: Bytes,
    /// The rest.
    pub rest: Bytes,
}

impl RuntimeBytes {
    /// The sum.
    pub fn total(&self) -> Bytes {
        self.process + self.tokenizer + self.rest
    }

    pub(super) fn of(
        runtime: &RuntimeProfile,
        model: &ModelSpec,
        workload: &Workload,
    ) -> RuntimeBytes {
        let memory = &runtime.memory;
        let process = memory.process_bytes.as_ref();
        RuntimeBytes {
            process: Bytes(process.map_or(0.0, |bytes| bytes.expected) as u64),
            tokenizer: match (&memory.tokenizer_bytes, workload.merges) {
                (Some(bytes), Some(merges)) => {
                    let entries = bytes.entry * model.dims.vocab as f64;
                    Bytes((entries + bytes.merge * merges as f64) as u64)
                }
                _ => per_entry(memory.vocabulary_entry_bytes.as_ref(), model),
            },
            rest: Bytes(memory.runtime_bytes.expected as u64),
        }
    }
}

/// The bytes of all entries of the vocabulary, at so many an entry.
pub(super) fn per_entry(bytes: Option<&Sourced<f64>>, model: &ModelSpec) -> Bytes {
    Bytes(bytes.map_or(0.0, |bytes| bytes.value * model.dims.vocab as f64) as u64)
}

impl Ledger {
    /// The sum.
    pub fn total(&self) -> Bytes {
        self.weights
            + self.duplicated_embedding
            + self.kv_cache
            + self.recurrent_state
            + self.compute
            + self.image_encoder
            + self.draft
            + self.adapters
            + self.output
            + self.runtime.total()
    }
}

/// What a model takes whatever the types of its weights are: the same in all formats.
#[derive(Clone, Debug)]
pub(super) struct PassMemory {
    settings: KvSettings,
    cache: KvCache,
    /// The replay of a pass, where the runtime's buffers follow from it.
    graph: Option<Compute>,
    towers: Bytes,
    encoder: EncoderCompute,
}

impl PassMemory {
    pub(super) fn of(
        model: &ModelSpec,
        runtime: &RuntimeProfile,
        workload: &Workload,
    ) -> PassMemory {
        let settings = workload.kv_settings(runtime.memory.context_multiple.value);
        let is_replayed = matches!(runtime.memory.compute, ComputeRule::Ggml { .. });
        let replayed = || {
            let rows = logit_rows(model, runtime, workload);
            compute(model, &settings, rows, runtime.backend)
        };
        PassMemory {
            cache: kv_cache(model, &settings),
            graph: is_replayed.then(replayed),
            towers: projector::weights(model, runtime, workload),
            encoder: projector::compute(model, runtime, workload),
            settings,
        }
    }
}

/// The ledger of `model` with the types of `assignment` under `runtime`.
pub fn ledger(
    model: &ModelSpec,
    assignment: &Assignment,
    runtime: &RuntimeProfile,
    workload: &Workload,
) -> Ledger {
    let pass = PassMemory::of(model, runtime, workload);
    ledger_with(model, assignment, runtime, workload, &pass)
}

/// The same with what a pass takes, which formats share.
pub(super) fn ledger_with(
    model: &ModelSpec,
    assignment: &Assignment,
    runtime: &RuntimeProfile,
    workload: &Workload,
    pass: &PassMemory,
) -> Ledger {
    let memory = &runtime.memory;
    let PassMemory {
        settings,
        cache,
        graph,
        towers,
        encoder,
    } = pass;
    let towers = *towers;
    let text = assignment.tensor_bytes();
    let embedding = embedding_bytes(model, assignment);
    let duplicated = if memory.duplicates_tied_embedding.value && model.tied {
        embedding
    } else {
        Bytes(0)
    };
    let buffers = match &memory.compute {
        ComputeRule::Ggml { .. } => graph
            .as_ref()
            .map_or(Buffers::default(), |compute| Buffers {
                device: compute.device_bytes,
                all: compute.device_bytes + compute.host_bytes + compute.metadata_bytes,
                output: compute.output_bytes,
                stages: compute.stages.clone(),
            }),
        ComputeRule::Activations { .. } => {
            let bytes = activations(model, settings.tokens());
            Buffers {
                device: bytes,
                all: bytes,
                output: Bytes(model.dims.vocab.saturating_mul(4)),
                stages: Vec::new(),
            }
        }
        ComputeRule::Fraction {
            of_weights,
            at_least_bytes,
            ..
        } => {
            let share = Bytes((text.as_f64() * of_weights) as u64);
            let bytes = share.max(Bytes(*at_least_bytes));
            Buffers {
                device: bytes,
                all: bytes,
                output: Bytes(0),
                stages: Vec::new(),
            }
        }
    };
    let at_once = memory.weights_at_once.as_ref();
    let weights_at_once = if at_once.is_some_and(|at_once| at_once.value) {
        let untied = if model.tied { Bytes(0) } else { embedding };
        text.saturating_sub(untied).max(towers)
    } else {
        // Those of encoders are smaller than the token embedding.
        let tensors = assignment.tensors.iter().map(|tensor| tensor.bytes);
        tensors.max().unwrap_or(Bytes(0))
    };
    let cached = match memory.kv_allocation.value {
        KvAllocation::Cache => cache.full_bytes.max(cache.window_bytes),
        KvAllocation::Block => cache.largest_layer_bytes,
        KvAllocation::Tensor => cache.largest_tensor_bytes,
    };
    let largest = [
        weights_at_once,
        cached,
        buffers.device,
        encoder.device_bytes,
    ];
    Ledger {
        weights: text + towers,
        duplicated_embedding: duplicated,
        kv_cache: cache.full_bytes + cache.window_bytes,
        recurrent_state: cache.recurrent_bytes * state_copies(runtime, workload.draft.as_ref()),
        compute: buffers.all,
        image_encoder: encoder.total(),
        draft: draft_bytes(model, assignment, runtime, workload),
        adapters: workload.adapters,
        output: buffers.output,
        runtime: RuntimeBytes::of(runtime, model, workload),
        loading: per_entry(memory.loading_entry_bytes.as_ref(), model),
        largest_allocation: largest.into_iter().max().unwrap_or(Bytes(0)),
        stages: buffers.stages,
        kv_problem: cache.problem.clone(),
    }
}

/// Rows of logits that a runtime reserves in a pass.
pub(super) fn logit_rows(model: &ModelSpec, runtime: &RuntimeProfile, workload: &Workload) -> u64 {
    let memory = &runtime.memory;
    let settings = workload.kv_settings(memory.context_multiple.value);
    workload.outputs.unwrap_or(match memory.outputs.value {
        _ if model.retrieval.is_some() => settings.tokens(),
        Outputs::Parallel => settings
            .sequences()
            .saturating_mul(positions(runtime, workload.draft.as_ref())),
        Outputs::Ubatch => settings.tokens(),
    })
}

/// What drafts, in the process of the model: a cache of its own in its default type, which flags for the type of the
/// model's cache do not reach, and buffers of its own.
fn draft_bytes(
    model: &ModelSpec,
    assignment: &Assignment,
    runtime: &RuntimeProfile,
    workload: &Workload,
) -> Bytes {
    let Some(draft) = &workload.draft else {
        return Bytes(0);
    };
    let own = Workload {
        draft: None,
        adapters: Bytes(0),
        text_only: true,
        type_k: Dtype::F16,
        type_v: Dtype::F16,
        ..workload.clone()
    };
    let of = |model: &ModelSpec, assignment: &Assignment| {
        let memory = ledger(model, assignment, runtime, &own);
        memory.total().saturating_sub(memory.runtime.total())
    };
    match &draft.by {
        Drafter::Lookup => Bytes(0),
        Drafter::Model(draft) => of(&draft.model, &draft.assignment),
        Drafter::Mtp | Drafter::Eagle3 => {
            let head = Head::of(model, assignment, draft.kind());
            of(&head.model, &head.assignment).saturating_sub(head.shared)
        }
    }
}

/// The bytes of F32 rows that are alive together while `tokens` pass the widest block: the residual stream and its norm,
/// and three rows of the feed-forward's inner width (gate, up projection, their product), or of the width of the queries
/// (queries, rotated queries, attention output).
fn activations(model: &ModelSpec, tokens: u64) -> Bytes {
    let inner = |layer: &Layer| match &layer.feed_forward {
        FeedForward::Dense { inner } => *inner,
        FeedForward::Experts { inner, used, .. } => inner.saturating_mul(*used),
        FeedForward::None => 0,
    };
    let queries = |layer: &Layer| {
        let attention = layer.mixer.attention.as_ref();
        attention.map_or(0, |attention| {
            attention.heads.saturating_mul(attention.key_dim)
        })
    };
    let wide = |layer: &Layer| inner(layer).max(queries(layer)).saturating_mul(3);
    let widest = model.layers.iter().map(wide).max().unwrap_or(0);
    let floats = model.dims.hidden.saturating_mul(2).saturating_add(widest);
    Bytes(floats.saturating_mul(tokens).saturating_mul(4))
}

/// The compute buffers by the runtime's rule.
#[derive(Default)]
struct Buffers {
    /// The largest one.
    device: Bytes,
    /// All together, without the output rows.
    all: Bytes,
    /// Rows of logits.
    output: Bytes,
    stages: Vec<(&'static str, Bytes)>,
}

/// Bytes of the token embedding.
fn embedding_bytes(model: &ModelSpec, assignment: &Assignment) -> Bytes {
    let typed = model.tensors.iter().zip(&assignment.tensors);
    typed
        .filter(|(tensor, _)| tensor.role == TensorRole::TokenEmbedding)
        .map(|(_, assigned)| assigned.bytes)
        .sum()
}
