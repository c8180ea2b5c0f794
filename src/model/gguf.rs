//! A model from GGUF metadata and GGUF tensor names.

use super::arch::Arch;
use super::facts::Facts;
use super::role::TensorRole;
use super::spec::{ModelSpec, Tensor, Tower};
use super::{Dims, ModelError, Unknown, pass, shape, unknown_architecture};
use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::gguf::Metadata;

/// Tensor names that belong to a vision or audio tower or its projector (`clip` files).
const TOWERS: &[(&str, &str)] = &[
    ("v.", "vision tower"),
    ("a.", "audio tower"),
    ("mm.", "projector"),
    ("resampler.", "projector"),
];

pub(super) fn read(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let name = metadata
        .str("general.architecture")
        .ok()
        .flatten()
        .ok_or(ModelError::NoArchitecture)?;
    let arch = match (Arch::of_gguf(name), unknown) {
        (_, Unknown::Listed) => None,
        (Some(arch), _) => Some(arch),
        (None, Unknown::Assume(as_if)) => Arch::of_gguf(as_if),
        (None, Unknown::WeightsOnly) => None,
        (None, Unknown::Refuse) => {
            return Err(unknown_architecture(checkpoint, name));
        }
    };
    let facts = Facts::new(&checkpoint.config, name);
    let (towers, text): (Vec<_>, Vec<_>) = checkpoint
        .tensors
        .iter()
        .enumerate()
        .partition(|(_, t)| unknown != Unknown::Listed && tower_of(&t.name).is_some());
    let tensors: Vec<Tensor> = text
        .into_iter()
        .map(|(index, stored)| tensor(index, stored))
        .collect();
    let (mut dims, layers) = match arch {
        Some(arch) => shape(arch, &facts)?,
        None => (
            Dims {
                streams: 1,
                ..Dims::default()
            },
            Vec::new(),
        ),
    };
    if let Some(embedding) = tensors
        .iter()
        .find(|t| t.role == TensorRole::TokenEmbedding)
    {
        dims.vocab = embedding.shape.first().copied().unwrap_or(0);
    }
    let recipe = arch.and_then(|arch| arch.pass.as_ref());
    let known = Arch::of_gguf(name).is_some();
    let pass = match recipe.filter(|_| known) {
        // A plan needs none of it, so what is missing is told when the model is to run.
        Some(recipe) => pass::read(recipe, &facts, dims.blocks).map_err(|error| error.to_string()),
        None => Err("its forward pass is not known".to_owned()),
    };
    let published = |t: &&Tensor| !t.role.is_rope_table();
    Ok(ModelSpec {
        stored: Vec::new(),
        name: checkpoint.name.clone(),
        parameters: tensors
            .iter()
            .filter(published)
            .map(Tensor::elements)
            .fold(0, u64::saturating_add),
        architecture: name.to_owned(),
        dims,
        layers,
        pass,
        tied: !tensors.iter().any(|t| t.role == TensorRole::Output),
        tensors,
        towers: sum_towers(towers.into_iter().map(|(_, t)| t)),
        assumed: match Arch::of_gguf(name) {
            Some(_) => None,
            None => arch.map(|arch| arch.name),
        },
        source: checkpoint.format,
        prequantized: None,
        config: serde_json::Value::Null,
    })
}

fn tensor(index: usize, stored: &StoredTensor) -> Tensor {
    let (role, layer) = TensorRole::of_gguf_name(&stored.name);
    Tensor {
        name: stored.name.clone(),
        role,
        layer,
        shape: stored.shape.clone(),
        dtype: stored.dtype,
        stored_bytes: stored.bytes,
        sources: vec![index as u32],
    }
}

fn tower_of(name: &str) -> Option<&'static str> {
    TOWERS
        .iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .map(|(_, tower)| *tower)
}

fn sum_towers<'a>(tensors: impl Iterator<Item = &'a StoredTensor>) -> Vec<Tower> {
    let mut towers: Vec<Tower> = Vec::new();
    for stored in tensors {
        let Some(name) = tower_of(&stored.name) else {
            continue;
        };
        super::hugging_face::add_to_tower(
            &mut towers,
            name,
            stored.shape.iter().product(),
            stored.bytes,
        );
    }
    towers
}
