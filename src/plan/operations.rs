//! The operations of a decoded token, with the bytes and multiply-accumulates that the speed models use, summed by group
//! and format.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::dtype::Dtype;
use crate::model::{
    Attention, Cache, Category, DecodeAccess, FeedForward, Layer, ModelSpec, Tensor, TensorRole,
};
use crate::plan::kv::{key_width, value_width};
use crate::plan::part::ModelPart;
use crate::plan::speed::{
    Operation, OperationGroup, PromptWork, attention_cells, attention_macs, attention_pairs,
};
use crate::plan::workload::Workload;
use crate::scheme::{Assigned, Assignment};

/// The operations of one decoded token at a depth of `workload.prompt_tokens`.
///
/// Only what a token uses counts: one row of an embedding, the head once, the experts that the router picks, keys and
/// values up to the depth or the window.
pub fn decode_operations(
    model: &ModelSpec,
    assignment: &Assignment,
    workload: &Workload,
) -> Vec<Operation> {
    operations_of(model, assignment, workload, &ModelPart::whole(model))
}

/// The same of a part of the model.
pub fn operations_of(
    model: &ModelSpec,
    assignment: &Assignment,
    workload: &Workload,
    part: &ModelPart,
) -> Vec<Operation> {
    let mut gathered = Gathered::default();
    for (tensor, assigned) in model.tensors.iter().zip(&assignment.tensors) {
        if let Some(operation) = of_tensor(model, tensor, assigned).filter(|_| part.has(tensor)) {
            gathered.add(row_of(tensor, &operation), operation);
        }
        let is_head = model.tied && !model.is_encoder() && part.output;
        if is_head && tensor.role == TensorRole::TokenEmbedding {
            gathered.add(
                tensor.row(),
                matrix(model, OperationGroup::Head, tensor, assigned),
            );
        }
    }
    let layers = part.layers_of(model);
    gathered.add_caches(layers, workload);
    for recurrent in layers
        .iter()
        .filter_map(|layer| layer.mixer.recurrent.as_ref())
    {
        // Read and written once a token, F32.
        let elements = recurrent
            .conv_elements
            .saturating_add(recurrent.state_elements);
        gathered.add(
            0,
            Operation::state(
                "recurrent state",
                OperationGroup::Recurrent,
                Dtype::F32,
                elements.saturating_mul(4 * 2),
                elements,
            ),
        );
    }
    gathered.0.into_values().collect()
}

/// Those of [`decode_operations`] that differ by depth, which no type of a weight changes.
pub fn cache_operations(model: &ModelSpec, workload: &Workload) -> Vec<Operation> {
    let mut gathered = Gathered::default();
    gathered.add_caches(&model.layers, workload);
    gathered.0.into_values().collect()
}

/// Operations summed by group and format. Experts are kept separate, because a batch reads more of them than one token does.
/// Only rows of the same length are summed, because the cost of a row depends on its length.
#[derive(Default)]
struct Gathered(BTreeMap<(OperationGroup, bool, Dtype, u64), Operation>);

impl Gathered {
    fn add(&mut self, row: u64, operation: Operation) {
        let is_routed = operation.stored > operation.bytes;
        match self
            .0
            .entry((operation.group, is_routed, operation.dtype, row))
        {
            Entry::Vacant(free) => {
                free.insert(operation);
            }
            Entry::Occupied(mut sum) => {
                let sum = sum.get_mut();
                // Blocks with attention and blocks with a recurrence may have matrices of one format and row length.
                if sum.group == OperationGroup::Attention && sum.name != operation.name {
                    MIXER.clone_into(&mut sum.name);
                }
                sum.add(&operation);
            }
        }
    }

    /// What attention over the cache of `layers` takes at a depth of the workload's prompt.
    fn add_caches(&mut self, layers: &[Layer], workload: &Workload) {
        let depth = workload.prompt_tokens;
        for attention in layers
            .iter()
            .filter_map(|layer| layer.mixer.attention.as_ref())
        {
            let seen = attention.window.map_or(depth, |window| window.min(depth));
            let bytes = workload.type_k.row_bytes(key_width(attention))
                + workload.type_v.row_bytes(value_width(attention));
            let head = attention.key_dim.saturating_add(value_dim(attention));
            let macs = attention.heads.saturating_mul(head).saturating_mul(seen);
            let bytes = (bytes * seen).0;
            let times = if reads_together(workload) {
                1
            } else {
                (attention.heads / attention.kv_heads.max(1)).max(1)
            };
            self.add(
                seen,
                Operation::state(
                    "attention over the cache",
                    OperationGroup::KvCache,
                    workload.type_k,
                    bytes,
                    macs,
                )
                .over_cache(seen, bytes.saturating_mul(times)),
            );
        }
    }
}

/// Whether query heads that share keys and values read them together. llama.cpp's fused kernel for tensor cores does
/// (`ggml_cuda_get_best_fattn_kernel`: below compute capability 8.9 it is taken for floats, with one token a sequence
/// too); its vector kernel, which quantized caches get, and the products of attention that is not fused do not.
fn reads_together(workload: &Workload) -> bool {
    workload.flash_attention && !workload.type_k.is_quantized()
}

/// The length of an operation's rows; 0 where it has none.
fn row_of(tensor: &Tensor, operation: &Operation) -> u64 {
    match operation.rows {
        0 => 0,
        _ => tensor.row(),
    }
}

/// Multiply-accumulates of attention over a whole prompt of `tokens`.
pub fn prompt_attention(model: &ModelSpec, tokens: u64) -> u64 {
    attention_of(&model.layers, tokens)
}

fn attention_of(layers: &[Layer], tokens: u64) -> u64 {
    let of = |a: &Attention| match a.cache {
        Cache::None => {
            let seen = a.window.map_or(tokens, |window| window.min(tokens));
            let each = a
                .heads
                .saturating_mul(a.key_dim.saturating_add(a.value_dim));
            tokens.saturating_mul(seen).saturating_mul(each)
        }
        Cache::Own | Cache::Shared | Cache::Images => {
            attention_macs(tokens, a.heads, a.key_dim, value_dim(a), a.window)
        }
    };
    let attentions = layers
        .iter()
        .filter_map(|layer| layer.mixer.attention.as_ref());
    attentions.map(of).fold(0, u64::saturating_add)
}

/// The work of reading the workload's prompt, of which the cache holds `cached_tokens` already.
pub fn prompt_work(model: &ModelSpec, workload: &Workload) -> PromptWork {
    prompt_work_of(&model.layers, workload)
}

/// The same of some layers of a model.
pub fn prompt_work_of(layers: &[Layer], workload: &Workload) -> PromptWork {
    let cached = workload.cached_tokens.min(workload.prompt_tokens);
    let tokens = workload.prompt_tokens - cached;
    let attentions = layers
        .iter()
        .filter_map(|layer| layer.mixer.attention.as_ref());
    let recurrent = layers
        .iter()
        .filter_map(|layer| layer.mixer.recurrent.as_ref());
    let scanned = recurrent.filter(|recurrent| recurrent.state_elements > 0);
    let pairs = |a: &Attention| {
        attention_pairs(tokens, cached, workload.ubatch, a.window).saturating_mul(a.heads)
    };
    let widened = |a: &Attention| {
        let cells = attention_cells(tokens, cached, workload.ubatch, a.window);
        cells.saturating_mul(widened_row(a, workload))
    };
    PromptWork {
        tokens,
        ubatch: workload.ubatch,
        attention_macs: attention_of(layers, workload.prompt_tokens)
            .saturating_sub(attention_of(layers, cached)),
        attention_pairs: attentions.clone().map(pairs).fold(0, u64::saturating_add),
        fused: workload.flash_attention,
        widened_bytes: attentions.map(widened).fold(0, u64::saturating_add),
        recurrent_layers: scanned.count() as u64,
    }
}

/// Bytes that move while the keys and values of a cell become F16. The fused kernel for several tokens takes no other type,
/// so each ubatch first copies all cells that it sees of each layer (`launch_fattn`, ggml-cuda/fattn-common.cuh): the cell
/// is read, and its copy written. The kernel reads a copy as it reads a cache in F16.
fn widened_row(attention: &Attention, workload: &Workload) -> u64 {
    if !workload.flash_attention || attention.cache == Cache::None {
        return 0;
    }
    let halves = [
        (workload.type_k, key_width(attention)),
        (workload.type_v, value_width(attention)),
    ];
    let others = halves.into_iter().filter(|(dtype, _)| *dtype != Dtype::F16);
    others
        .map(|(dtype, width)| (dtype.row_bytes(width) + Dtype::F16.row_bytes(width)).0)
        .fold(0, u64::saturating_add)
}

/// MLA caches one latent that serves as key and as value.
fn value_dim(attention: &Attention) -> u64 {
    if attention.value_dim == 0 {
        attention.key_dim
    } else {
        attention.value_dim
    }
}

fn of_tensor(model: &ModelSpec, tensor: &Tensor, assigned: &Assigned) -> Option<Operation> {
    let info = tensor.role.info();
    let group = group_of(tensor);
    match info.access {
        DecodeAccess::Never => None,
        DecodeAccess::Row => {
            let rows = tensor.elements() / tensor.row().max(1);
            let bytes = assigned.bytes.0 / rows.max(1);
            Some(Operation::dense(
                "embedding rows and norms",
                OperationGroup::Other,
                assigned.dtype,
                bytes,
                0,
                0,
            ))
        }
        DecodeAccess::Experts => {
            let (count, used) = routed(model, tensor);
            let share =
                |n: u64| (u128::from(n) * u128::from(used) / u128::from(count.max(1))) as u64;
            let rows = tensor.elements() / tensor.row().max(1);
            Some(Operation::experts(
                "experts",
                assigned.dtype,
                share(assigned.bytes.0),
                assigned.bytes.0,
                share(tensor.elements()),
                [share(rows), tensor.row().saturating_mul(used)],
            ))
        }
        DecodeAccess::Whole | DecodeAccess::Shared if tensor.shape.len() < 2 => {
            let bytes = assigned.bytes.0;
            Some(Operation::dense(
                "embedding rows and norms",
                OperationGroup::Other,
                assigned.dtype,
                bytes,
                0,
                0,
            ))
        }
        DecodeAccess::Whole => Some(matrix(model, group, tensor, assigned)),
        DecodeAccess::Shared => {
            let one = matrix(model, group, tensor, assigned);
            let mut all = one.clone();
            // Nothing of it stays near the processor until the next block that uses it.
            (1..uses(model, tensor)).for_each(|_| all.add(&one));
            Some(all)
        }
    }
}

/// The blocks with attention that use a tensor which several of them share: those in turn from the one that stores it.
fn uses(model: &ModelSpec, tensor: &Tensor) -> usize {
    let layers = model.layers.iter().enumerate();
    let attending = layers.filter(|(_, layer)| layer.mixer.attention.is_some());
    let mut attending = attending.map(|(block, _)| Some(block as u32));
    let stored = model.tensors.iter().filter(|t| t.role == tensor.role);
    let step = stored.count().max(1);
    let from = attending
        .by_ref()
        .skip_while(|block| *block != tensor.layer);
    from.step_by(step).count().max(1)
}

fn matrix(
    model: &ModelSpec,
    group: OperationGroup,
    tensor: &Tensor,
    assigned: &Assigned,
) -> Operation {
    let elements = tensor.elements();
    let rows = elements / tensor.row().max(1);
    Operation::dense(
        group_name(model, group, tensor),
        group,
        assigned.dtype,
        assigned.bytes.0,
        elements,
        rows,
    )
}

/// Experts stored and used in the block of `tensor`.
fn routed(model: &ModelSpec, tensor: &Tensor) -> (u64, u64) {
    let layer = tensor
        .layer
        .and_then(|layer| model.layers.get(layer as usize));
    match layer.map(|layer| &layer.feed_forward) {
        Some(FeedForward::Experts { count, used, .. }) => (*count, *used),
        _ => (1, 1),
    }
}

fn group_of(tensor: &Tensor) -> OperationGroup {
    match tensor.role.info().category {
        Category::Output => OperationGroup::Head,
        Category::FfnUp | Category::FfnGate | Category::FfnDown => OperationGroup::FeedForward,
        _ if tensor.role.info().block => OperationGroup::Attention,
        _ => OperationGroup::Other,
    }
}

fn group_name(model: &ModelSpec, group: OperationGroup, tensor: &Tensor) -> &'static str {
    match group {
        OperationGroup::Attention => projections(model, tensor),
        OperationGroup::FeedForward => "feed-forward",
        OperationGroup::Head => "output head",
        OperationGroup::KvCache => "attention over the cache",
        OperationGroup::Recurrent => "recurrent state",
        OperationGroup::Other => "embedding rows and norms",
    }
}

/// The projections where attention and a recurrence mix tokens.
const MIXER: &str = "mixer projections";

/// The projections around what mixes tokens in the block of `tensor`.
fn projections(model: &ModelSpec, tensor: &Tensor) -> &'static str {
    let layer = tensor
        .layer
        .and_then(|layer| model.layers.get(layer as usize));
    let mixer = layer.map(|layer| &layer.mixer);
    let attends = mixer.is_none_or(|mixer| mixer.attention.is_some());
    match (
        attends,
        mixer.is_some_and(|mixer| mixer.recurrent.is_some()),
    ) {
        (true, false) => "attention projections",
        (false, _) => "recurrent projections",
        // Both stand side by side in one block.
        (true, true) => MIXER,
    }
}
