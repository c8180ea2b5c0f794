//! One board of several: the memory of what it computes, and how long that takes.

use std::ops::Range;

use super::wire::{Remote, Traffic};
use crate::model::{ModelSpec, TensorRole};
use crate::note::Note;
use crate::plan::compute::compute_part;
use crate::plan::fit::{Target, available, ledger_fits};
use crate::plan::kv::kv_cache_of;
use crate::plan::memory::{Ledger, RuntimeBytes, logit_rows, per_entry};
use crate::plan::notes::allocation_note;
use crate::plan::part::ModelPart;
use crate::plan::projector;
use crate::plan::rates::{PartSeconds, part_seconds};
use crate::plan::workload::Workload;
use crate::runtime::RuntimeProfile;
use crate::scheme::Assignment;
use crate::units::Bytes;

/// What one board has of the model.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Its blocks.
    pub layers: Range<usize>,
    /// Whether the server runs on it, with the token embedding and the tokenizer.
    pub is_server: bool,
    /// The memory that it takes.
    pub memory: Ledger,
    /// Memory that is available for it.
    pub available: Bytes,
    /// The buffers as llama.cpp logs them.
    pub buffers: Buffers,
    /// Whether that fits.
    pub fits: bool,
    /// Why it does not although there is enough memory.
    pub refusal: Option<Note>,
    /// How long its part takes, where that is known.
    pub seconds: Option<PartSeconds>,
    /// What moves between it and the server; `None` where the server runs on it.
    pub remote: Option<RemoteTraffic>,
}

impl Stage {
    /// The memory that it lacks.
    pub fn missing(&self) -> Bytes {
        self.memory.total().saturating_sub(self.available)
    }

    /// How far it is from fitting: the memory that it lacks, or else what one allocation is above what the driver grants.
    pub fn excess(&self) -> Bytes {
        match self.refusal {
            Some(Note::Allocation { largest, limit, .. }) => largest.saturating_sub(limit),
            _ => self.missing(),
        }
    }
}

/// The buffers of a device as llama.cpp logs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buffers {
    /// Weights.
    pub model: Bytes,
    /// Keys and values.
    pub cache: Bytes,
    /// What a pass computes in.
    pub compute: Bytes,
}

/// What moves between a board and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTraffic {
    /// In a decode step.
    pub step: Traffic,
    /// While the prompt is read.
    pub prompt: Traffic,
    /// Until the weights are there.
    pub load: Bytes,
}

/// A model in a format, under a load: what every stage is made of.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// The model.
    pub model: &'a ModelSpec,
    /// The type of each tensor.
    pub assignment: &'a Assignment,
    /// The load.
    pub workload: &'a Workload,
}

impl Whole<'_> {
    /// What `target` has with these blocks.
    pub(super) fn stage(&self, target: Target<'_>, layers: Range<usize>, is_server: bool) -> Stage {
        let Whole {
            model,
            assignment,
            workload,
        } = *self;
        let part = ModelPart::apart(model, layers.clone());
        let (memory, buffers) = self.ledger(target.runtime, &part, is_server);
        let available = available(target.device, workload);
        let remote = Remote {
            model,
            part: &part,
            workload,
            settings: workload.kv_settings(target.runtime.memory.context_multiple.value),
        };
        let fits = ledger_fits(&memory, available, target);
        let has_room = memory.total() <= available && !fits;
        let problem = memory.kv_problem.clone().map(Note::Kv);
        Stage {
            refusal: problem
                .or_else(|| allocation_note(&memory, target))
                .filter(|_| has_room),
            fits,
            buffers,
            seconds: part_seconds(model, assignment, target, workload, &part, is_server),
            remote: (!is_server).then(|| RemoteTraffic {
                step: remote.step(),
                prompt: remote.prompt(),
                load: remote.load(assignment),
            }),
            layers,
            is_server,
            memory,
            available,
        }
    }

    /// Memory of a board with `part`, and with the server's own where that runs on it.
    pub(super) fn ledger(
        &self,
        runtime: &RuntimeProfile,
        part: &ModelPart,
        is_server: bool,
    ) -> (Ledger, Buffers) {
        let Whole {
            model, workload, ..
        } = *self;
        let settings = workload.kv_settings(runtime.memory.context_multiple.value);
        let cache = kv_cache_of(model, part.layers_of(model), &settings);
        let rows = logit_rows(model, runtime, workload);
        let buffers = compute_part(model, &settings, rows, runtime.backend, part);
        let own = self.weights(part);
        let server = if is_server {
            self.server(runtime).0
        } else {
            Ledger::default()
        };
        // The head's copy of a tied embedding, which is also where tokens are embedded.
        let duplicated = if model.tied && part.output {
            self.embedding()
        } else {
            Bytes(0)
        };
        let made = Buffers {
            model: own + duplicated,
            cache: cache.full_bytes + cache.window_bytes,
            compute: buffers.device_bytes,
        };
        let ledger = Ledger {
            weights: own + server.weights,
            duplicated_embedding: duplicated,
            kv_cache: cache.full_bytes + cache.window_bytes,
            recurrent_state: cache.recurrent_bytes,
            compute: buffers.device_bytes + buffers.metadata_bytes + server.compute,
            image_encoder: server.image_encoder,
            output: server.output,
            runtime: RuntimeBytes {
                tokenizer: server.runtime.tokenizer,
                ..RuntimeBytes::of(runtime, model, workload)
            },
            loading: server.loading,
            largest_allocation: [
                own + duplicated,
                cache.full_bytes.max(cache.window_bytes),
                buffers.device_bytes,
                server.largest_allocation,
            ]
            .into_iter()
            .max()
            .unwrap_or(Bytes(0)),
            kv_problem: cache.problem,
            stages: buffers.stages,
            draft: Bytes(0),
            adapters: Bytes(0),
        };
        (ledger, made)
    }

    /// What the server takes beside the blocks of its board: the token embedding, inputs of a pass, logits, towers. The
    /// runtime's share is not in it.
    pub(super) fn server(&self, runtime: &RuntimeProfile) -> (Ledger, Buffers) {
        let Whole {
            model, workload, ..
        } = *self;
        let settings = workload.kv_settings(runtime.memory.context_multiple.value);
        let rows = logit_rows(model, runtime, workload);
        let all = ModelPart::apart(model, 0..model.layers.len());
        let inputs = compute_part(model, &settings, rows, runtime.backend, &all);
        let towers = projector::weights(model, runtime, workload);
        let encoder = projector::compute(model, runtime, workload);
        let embedded = self.weights(&ModelPart::embedding(model));
        let made = Buffers {
            model: embedded,
            cache: Bytes(0),
            compute: inputs.host_bytes,
        };
        let ledger = Ledger {
            weights: embedded + towers,
            compute: inputs.host_bytes + inputs.metadata_bytes,
            image_encoder: encoder.total(),
            output: inputs.output_bytes,
            runtime: RuntimeBytes {
                tokenizer: RuntimeBytes::of(runtime, model, workload).tokenizer,
                ..RuntimeBytes::default()
            },
            loading: per_entry(runtime.memory.loading_entry_bytes.as_ref(), model),
            largest_allocation: towers.max(encoder.device_bytes).max(embedded),
            ..Ledger::default()
        };
        (ledger, made)
    }

    /// Bytes of the tensors in `part`.
    pub(super) fn weights(&self, part: &ModelPart) -> Bytes {
        let typed = self.model.tensors.iter().zip(&self.assignment.tensors);
        let here = typed.filter(|(tensor, _)| part.has(tensor));
        here.map(|(_, assigned)| assigned.bytes).sum()
    }

    fn embedding(&self) -> Bytes {
        let typed = self.model.tensors.iter().zip(&self.assignment.tensors);
        let embedding = typed.filter(|(tensor, _)| tensor.role == TensorRole::TokenEmbedding);
        embedding.map(|(_, assigned)| assigned.bytes).sum()
    }
}
