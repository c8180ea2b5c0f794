//! What shows in a file beside its metadata: where its tensors lie, towers among them, and the projector beside it.

use std::collections::HashSet;

use super::super::{ModelSpec, TensorRole, left_out};
use super::AcceptError;
use super::number;
use crate::checkpoint::{Checkpoint, Origin, StoredTensor};
use crate::gguf::{Metadata, Value};

/// Checks the files of a GGUF `checkpoint`.
///
/// # Errors
/// [`AcceptError::Tower`], `Number` for an alignment that ggml does not have, `Place` and `Projector`.
pub(super) fn check(
    checkpoint: &Checkpoint,
    metadata: &Metadata,
    model: &ModelSpec,
) -> Result<(), AcceptError> {
    check_towers(checkpoint)?;
    check_offsets(checkpoint, metadata)?;
    check_projector(checkpoint, model)
}

/// Checks that each tensor follows the one before it in the list, at the next multiple of an alignment that ggml has.
fn check_offsets(checkpoint: &Checkpoint, metadata: &Metadata) -> Result<(), AcceptError> {
    const KEY: &str = "general.alignment";
    let alignment = metadata
        .get(KEY)
        .and_then(Value::as_u64)
        .unwrap_or(LEAST_ALIGNMENT);
    if alignment < LEAST_ALIGNMENT {
        return Err(number(
            KEY.to_owned(),
            alignment,
            "at least 32, as its buffers have it",
        ));
    }
    if checkpoint.files.is_empty() {
        // A description alone has no offsets.
        return Ok(());
    }
    let tensors = &checkpoint.tensors;
    for (before, tensor) in tensors.iter().zip(tensors.iter().skip(1)) {
        let end = before.offset.saturating_add(before.bytes.0);
        let expected = end.next_multiple_of(alignment);
        if before.file == tensor.file && tensor.offset != expected {
            return Err(AcceptError::Place {
                tensor: tensor.name.clone(),
                found: tensor.offset,
                expected,
            });
        }
    }
    Ok(())
}

/// What offsets in ggml's buffers are multiples of (`TENSOR_ALIGNMENT`), and GGUF's default alignment, in bytes.
const LEAST_ALIGNMENT: u64 = 32;

/// Checks that towers are in a file of their own. Ollama keeps them in one file, which its own engine reads.
fn check_towers(checkpoint: &Checkpoint) -> Result<(), AcceptError> {
    if matches!(checkpoint.origin, Origin::Ollama(_)) {
        return Ok(());
    }
    let tower = |tensor: &StoredTensor| left_out::of_gguf(&tensor.name);
    let tensors = || checkpoint.tensors.iter();
    let of_text: HashSet<usize> = tensors()
        .filter(|tensor| tower(tensor).is_none())
        .map(|tensor| tensor.file)
        .collect();
    let mut beside = tensors().filter(|tensor| of_text.contains(&tensor.file));
    match beside.find_map(|tensor| Some((tensor, tower(tensor)?))) {
        Some((tensor, kind)) => Err(AcceptError::Tower {
            tensor: tensor.name.clone(),
            tower: kind.name,
        }),
        None => Ok(()),
    }
}

/// Checks that some matrix of the projector beside the model is as wide as its embedding, as the last one is whose rows
/// become embeddings. (llama.cpp compares the two when it loads the pair: "mismatch between text model and mmproj".)
fn check_projector(checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), AcceptError> {
    let embedding = TensorRole::TokenEmbedding;
    let mut embeddings = model.tensors.iter().filter(|t| t.role == embedding);
    let (Some(_), Some(embedding), Some(file)) = (
        &checkpoint.projector,
        embeddings.next(),
        checkpoint.files.last(),
    ) else {
        return Ok(());
    };
    let number = checkpoint.files.len() - 1;
    let expected = embedding.row();
    let matrices = checkpoint.tensors.iter().filter(|tensor| {
        tensor.file == number && tensor.name.starts_with("mm.") && tensor.shape.len() == 2
    });
    let found = matrices
        .clone()
        .next_back()
        .and_then(|last| last.shape.first());
    match found {
        Some(&found) if !matrices.clone().any(|m| m.shape.contains(&expected)) => {
            Err(AcceptError::Projector {
                path: file.path.clone(),
                found,
                expected,
            })
        }
        _ => Ok(()),
    }
}
