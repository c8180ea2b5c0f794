//! The buffers that llama.cpp computes in, from a model and its settings: the device's, the host's
//! inputs, the output rows, the graph's own description. Pure arithmetic; weights and cache are
//! counted elsewhere.
//!
//! llama.cpp reserves for the largest pass it will make: one micro-batch over a full cache. This
//! module lists the tensors of that pass in their order of execution (`graph` and its neighbours, as `tensors` holds
//! them) and replays ggml's allocator on their sizes (`arena`), because what decides is which tensors are alive
//! together and how they pack, not any sum.

mod altup;
mod arena;
mod audio;
mod attention;
mod encoder;
mod feed_forward;
mod fusion;
mod gate;
mod graph;
mod heads;
mod projection;
mod recurrent;
mod tensors;

pub use encoder::{EncoderCompute, encoder};
pub(in crate::plan) use gate::Gate;

use crate::model::ModelSpec;
use crate::plan::kv::KvSettings;
use crate::plan::part::ModelPart;
use crate::units::Bytes;

pub use crate::runtime::profile::ComputeBackend;

/// The buffers of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compute {
    /// The backend's compute buffer.
    pub device_bytes: Bytes,
    /// Inputs and embedded tokens in pinned host memory; 0 where the CPU computes.
    pub host_bytes: Bytes,
    /// One row of logits for each sequence, F32, in host memory. llama.cpp grows it when a batch
    /// asks for more rows.
    pub output_bytes: Bytes,
    /// Descriptions of tensors and of the schedule, in host memory.
    pub metadata_bytes: Bytes,
    /// The most bytes alive at once in the compute buffer at each stage. The buffer holds the
    /// largest of them plus what packing loses.
    pub stages: Vec<(&'static str, Bytes)>,
}

/// The compute buffers of `model` when `rows` rows of logits are reserved in a pass.
///
/// `rows` is what llama.cpp calls `n_outputs_max`, capped here by the pass's tokens: a whole batch for
/// llama-bench and library users, the number of parallel sequences for llama-server.
pub fn compute(
    model: &ModelSpec,
    settings: &KvSettings,
    rows: u64,
    backend: ComputeBackend,
) -> Compute {
    compute_part(model, settings, rows, backend, &ModelPart::whole(model))
}

/// The compute buffers of the device that computes `part` of a model, one of several. Inputs of other parts are not in
/// them; those of the whole model on several devices are the host's part of [`ModelPart::apart`].
pub fn compute_part(
    model: &ModelSpec,
    settings: &KvSettings,
    rows: u64,
    backend: ComputeBackend,
    part: &ModelPart,
) -> Compute {
    let graph = graph::graph(model, settings, rows, backend, part);
    let [host, device] = arena::replay(&graph);
    let output = if model.retrieval.is_some() {
        // Every token of a pass has a row, of logits too, which nobody reads.
        let width = model.dims.vocab.saturating_add(model.dims.hidden);
        Bytes(4) * width * settings.tokens().max(settings.sequences())
    } else {
        Bytes(4) * model.dims.vocab * settings.sequences()
    };
    Compute {
        device_bytes: Bytes(device.bytes),
        host_bytes: Bytes(host.bytes),
        output_bytes: output,
        metadata_bytes: metadata(graph.len() as u64),
        stages: device
            .stages
            .into_iter()
            .map(|(name, bytes)| (name, Bytes(bytes)))
            .collect(),
    }
}

/// Bytes of the graph's description that are written: a tensor header of 336 bytes and its object's
/// 32 (`ggml_tensor_overhead`), for the graph and for the scheduler's copy of it.
fn metadata(tensors: u64) -> Bytes {
    Bytes(2 * (336 + 32)) * tensors
}

#[cfg(test)]
mod tests;
