//! What drafts tokens for a model, and how it is described: a head counts as a model of one block.

use std::sync::Arc;

use crate::dtype::Dtype;
use crate::evidence::speculation::{DrafterKind, Method, method};
use crate::model::{Cache, ModelSpec, Tensor, TensorRole};
use crate::runtime::RuntimeProfile;
use crate::runtime::profile::ComputeRule;
use crate::scheme::{Assigned, Assignment, Reason};
use crate::units::Bytes;

/// Tokens of the vocabulary that a head of EAGLE3 drafts: `draft_vocab_size` of the published ones.
const EAGLE3_VOCABULARY: u64 = 32_000;

/// What drafts, and how much of it the model accepts.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What drafts.
    pub by: Drafter,
    /// How much is accepted. Without: what published runs of a similar model had.
    pub acceptance: Option<Acceptance>,
}

/// What drafts tokens.
#[derive(Clone, Debug)]
pub enum Drafter {
    /// A smaller model with the same vocabulary.
    Model(Arc<DraftModel>),
    /// A block of the model itself.
    Mtp,
    /// A head that was trained for the model.
    Eagle3,
    /// The text so far.
    Lookup,
}

/// A model that drafts, in the types that its file has.
#[derive(Debug)]
pub struct DraftModel {
    /// Its file or directory, for commands.
    pub path: String,
    /// The model that a GGUF of that name has to be made from first; `None` where it is there.
    pub made_from: Option<String>,
    /// Whether it was given by its id on the hub.
    pub is_hub_id: bool,
    /// The model.
    pub model: ModelSpec,
    /// The type of each tensor.
    pub assignment: Assignment,
}

/// How much of a draft is accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Acceptance {
    /// The share of drafted tokens.
    Share(f64),
    /// Tokens that a verification yields, the model's own with them.
    Tokens(f64),
}

impl Draft {
    /// The kind of what drafts.
    pub fn kind(&self) -> DrafterKind {
        match self.by {
            Drafter::Model(_) => DrafterKind::Model,
            Drafter::Mtp => DrafterKind::Mtp,
            Drafter::Eagle3 => DrafterKind::Eagle3,
            Drafter::Lookup => DrafterKind::Lookup,
        }
    }

    /// How `runtime` speculates with it, if it does.
    pub fn method(&self, runtime: &RuntimeProfile) -> Option<&'static Method> {
        method(&runtime.id, self.kind())
    }
}

/// Tokens of each sequence that a pass evaluates: more than one where drafts are verified.
pub fn positions(runtime: &RuntimeProfile, draft: Option<&Draft>) -> u64 {
    let method = draft.and_then(|draft| draft.method(runtime));
    method.map_or(1, |method| method.positions)
}

/// Copies of recurrent state that each sequence keeps: llama.cpp has one for each drafted token, to return to where the
/// draft is refused (`need_n_rs_seq` in common.h).
pub fn state_copies(runtime: &RuntimeProfile, draft: Option<&Draft>) -> u64 {
    let is_ggml = matches!(runtime.memory.compute, ComputeRule::Ggml { .. });
    match draft.map(Draft::kind) {
        Some(DrafterKind::Mtp | DrafterKind::Eagle3) if is_ggml => positions(runtime, draft),
        _ => 1,
    }
}

/// A head that drafts with one block, described as a model.
pub(super) struct Head {
    pub(super) model: ModelSpec,
    pub(super) assignment: Assignment,
    /// Bytes of it that are the model's own.
    pub(super) shared: Bytes,
}

impl Head {
    /// The head of `kind` for `model`: a block like the model's last one with attention, a projection that joins its
    /// inputs (MTP: the hidden state and the next token's embedding; EAGLE3: three hidden states), and an output head,
    /// which is the model's own for MTP.
    pub(super) fn of(model: &ModelSpec, assignment: &Assignment, kind: DrafterKind) -> Head {
        let has_cache = |at: &usize| {
            let attention = model
                .layers
                .get(*at)
                .and_then(|l| l.mixer.attention.as_ref());
            attention.is_some_and(|attention| attention.cache == Cache::Own)
        };
        let last = (0..model.layers.len()).rev().find(has_cache).unwrap_or(0);
        let is_mtp = kind == DrafterKind::Mtp;
        let in_file = model
            .tensors
            .iter()
            .any(|tensor| tensor.role == TensorRole::NextnProj);
        let mut shared = Bytes(0);
        let (mut tensors, mut types): (Vec<Tensor>, Vec<Assigned>) = (Vec::new(), Vec::new());
        for (tensor, assigned) in model.tensors.iter().zip(&assignment.tensors) {
            let in_block = tensor.layer == Some(last as u32);
            let outside = is_mtp && tensor.layer.is_none();
            if in_block || outside {
                if outside || in_file {
                    shared += assigned.bytes;
                }
                tensors.push(Tensor {
                    layer: tensor.layer.map(|_| 0),
                    ..tensor.clone()
                });
                types.push(*assigned);
            }
        }
        let (hidden, vocab) = (model.dims.hidden, model.dims.vocab);
        let matrices = || {
            tensors
                .iter()
                .zip(&types)
                .filter(|(t, _)| t.shape.len() > 1)
        };
        let largest = matrices()
            .filter(|(tensor, _)| tensor.layer.is_some())
            .max_by_key(|(tensor, _)| tensor.elements());
        let block_type = largest.map_or(Dtype::F16, |(_, assigned)| assigned.dtype);
        let mut add = |role, name: &str, rows: u64, columns: u64, dtype: Dtype| {
            let bytes = dtype.row_bytes(columns) * rows;
            let (shape, layer) = (
                vec![rows, columns],
                (role != TensorRole::Output).then_some(0),
            );
            tensors.push(Tensor {
                name: name.to_owned(),
                role,
                layer,
                shape,
                dtype,
                stored_bytes: bytes,
                sources: Vec::new(),
            });
            types.push(Assigned {
                dtype,
                bytes,
                reason: Reason::Default,
            });
            bytes
        };
        let inputs = if is_mtp { 2 } else { 3 };
        let joined = add(
            TensorRole::AttnOutput,
            "draft.proj.weight",
            hidden,
            hidden.saturating_mul(inputs),
            block_type,
        );
        if is_mtp && in_file {
            shared += joined;
        }
        let drafted = EAGLE3_VOCABULARY.min(vocab);
        if !is_mtp {
            add(
                TensorRole::Output,
                "draft.output.weight",
                drafted,
                hidden,
                Dtype::F16,
            );
        }
        let mut dims = model.dims.clone();
        dims.vocab = if is_mtp { vocab } else { drafted };
        Head {
            model: ModelSpec {
                dims,
                layers: model.layers.get(last).cloned().into_iter().collect(),
                tensors,
                tied: model.tied && is_mtp,
                projector: None,
                projector_problem: None,
                towers: Vec::new(),
                ..model.clone()
            },
            assignment: Assignment {
                tensors: types,
                ..assignment.clone()
            },
            shared,
        }
    }
}
