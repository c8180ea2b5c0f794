//! A model from GGUF metadata and GGUF tensor names.

use super::arch::{Arch, ShapeParams};
use super::dims::{dims_and_layers, head_dim, shape_params};
use super::gguf_rows::GgufRows;
use super::hparams::{HParams, Key};
use super::loader::LoaderRule;
use super::lookup::UNKNOWN_PASS;
use super::names::unknown_architecture;
use super::projector::Projector;
use super::role::TensorRole;
use super::sorted::add_to_tower;
use super::spec::{FeedForward, Layer, ModelSpec};
use super::tensor::Tensor;
use super::{Dims, ModelError, Quirks, Unknown, forward_spec, left_out};
use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::dtype::elements;
use crate::gguf::{Metadata, Value};

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
    let defaults = arch.map_or(&[][..], |arch| arch.loader.defaults);
    let hparams = HParams::new(&checkpoint.config, name).with_gguf_defaults(defaults);
    let (mut towers, mut tensors) = (Vec::new(), Vec::new());
    for (index, stored) in checkpoint.tensors.iter().enumerate() {
        let kind = left_out::of_gguf(&stored.name);
        match kind.filter(|_| unknown != Unknown::Listed) {
            Some(kind) => {
                let weights = elements(&stored.shape);
                add_to_tower(&mut towers, kind.name, weights, stored.bytes);
            }
            None => tensors.push(tensor(index, stored)),
        }
    }
    let (mut dims, mut layers) = match arch {
        Some(arch) => dims_and_layers(arch, &hparams)?,
        None => (
            Dims {
                streams: 1,
                ..Dims::default()
            },
            Vec::new(),
        ),
    };
    if let Some(arch) = arch {
        dense_without_router(arch, &mut layers, &tensors, &hparams)?;
    }
    if let Some(embedding) = tensors
        .iter()
        .find(|t| t.role == TensorRole::TokenEmbedding)
    {
        dims.vocab = embedding.shape.first().copied().unwrap_or(0);
    }
    // A header without tensors is described by its metadata; `accept` refuses it where a whole file is needed.
    let known = arch.filter(|_| Arch::of_gguf(name).is_some());
    if let Some(arch) = known
        && !tensors.is_empty()
    {
        let params = stored_shape_params(arch, &hparams, &layers, &tensors)?;
        let rows = GgufRows {
            arch,
            dims: &dims,
            params: &params,
            layers: &layers,
            ahead: hparams.or_zero(Key::NextnLayers)? as usize,
            longrope: matches!(
                hparams.metadata("rope.scaling.type"),
                Some(Value::String(kind)) if kind == "longrope"
            ),
        };
        rows.check(&tensors)?;
    }
    let traits = known.and_then(|arch| arch.forward.as_ref());
    let forward = match traits {
        // Planning does not need the forward pass: a missing value is an error only when the model is to run.
        Some(traits) => {
            forward_spec::read(traits, &hparams, dims.blocks).map_err(|error| error.to_string())
        }
        None => Err(UNKNOWN_PASS.to_owned()),
    };
    let published = |t: &&Tensor| !t.role.is_rope_table();
    Ok(ModelSpec {
        stored: Vec::new(),
        name: checkpoint.name.clone(),
        quirks: match (known, arch) {
            (Some(arch), _) => arch.all_quirks(),
            (None, as_if) => as_if.map_or(Quirks::NONE, |arch| arch.quirks.assumed()),
        },
        parameters: tensors
            .iter()
            .filter(published)
            .map(Tensor::elements)
            .fold(0, u64::saturating_add),
        architecture: name.to_owned(),
        dims,
        layers,
        forward,
        ahead: if tensors.iter().any(|t| t.role == TensorRole::NextnProj) {
            hparams.or_zero(Key::NextnLayers)?
        } else {
            0
        },
        tied: !tensors.iter().any(is_head)
            && arch.is_none_or(|arch| arch.rows().any(|row| row.role == TensorRole::Output)),
        tensors,
        projector: projector(checkpoint),
        projector_problem: None,
        towers,
        left_out: Vec::new(),
        assumed: match Arch::of_gguf(name) {
            Some(_) => None,
            None => arch.map(|arch| arch.name),
        },
        source: checkpoint.format,
        prequantized: None,
        config: serde_json::Value::Null,
        retrieval: None,
        served_context: None,
    })
}

/// Makes blocks without a router among `tensors` dense, where metadata does not say which have experts.
pub(super) fn dense_without_router(
    arch: &Arch,
    layers: &mut [Layer],
    tensors: &[Tensor],
    hparams: &HParams<'_>,
) -> Result<(), ModelError> {
    if tensors.is_empty() || !arch.loader.has(LoaderRule::RoutedWhereStored) {
        return Ok(());
    }
    let widths = hparams.per_block(Key::Ffn, layers.len())?;
    let widths = widths.ok_or(hparams.missing(Key::Ffn))?;
    for (index, (layer, inner)) in layers.iter_mut().zip(widths).enumerate() {
        let router = |t: &Tensor| {
            t.role == TensorRole::FfnRouter && t.layer.is_some_and(|n| n as usize == index)
        };
        if !tensors.iter().any(router) {
            layer.feed_forward = FeedForward::Dense { inner };
        }
    }
    Ok(())
}

/// The projector beside the model, if it is of a known kind.
fn projector(checkpoint: &Checkpoint) -> Option<Projector> {
    let metadata = checkpoint.projector.as_ref()?;
    let file = checkpoint.files.len().checked_sub(1)?;
    let tensors = checkpoint.tensors.iter().enumerate();
    Projector::of_gguf(metadata, tensors.filter(|(_, tensor)| tensor.file == file))
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

/// Whether a tensor is the weight of the output head, not its bias.
fn is_head(tensor: &Tensor) -> bool {
    tensor.role == TensorRole::Output && tensor.name.ends_with(".weight")
}

/// Dimensions that the shapes of tensors need. Whether there are biases or a head, which a `config.json` states,
/// follows from the tensors of a GGUF.
fn stored_shape_params(
    arch: &Arch,
    hparams: &HParams<'_>,
    layers: &[Layer],
    tensors: &[Tensor],
) -> Result<ShapeParams, ModelError> {
    let has = |role| tensors.iter().any(|t| t.role == role);
    let tied = !tensors.iter().any(is_head);
    let head_dim = head_dim(layers);
    let mut params = shape_params(hparams, tied, head_dim)?;
    // Older files without absorbed projections state the width of a value head under the usual key.
    if params.mla_value_dim == 0 {
        params.mla_value_dim = hparams.or_zero(Key::ValueDim)?;
    }
    // No metadata key states the rank: the tensor's shape does.
    let laurel = tensors.iter().find(|t| t.role == TensorRole::LaurelL);
    params.laurel_rank = laurel.and_then(|t| t.shape.first().copied()).unwrap_or(0);
    let types = tensors.iter().find(|t| t.role == TensorRole::TokenTypes);
    params.token_types = types.and_then(|t| t.shape.first().copied()).unwrap_or(0);
    params.attention_bias = true;
    params.mlp_bias = true;
    params.ssm_norm = has(TensorRole::SsmNorm);
    params.rope_factors = if arch.loader.has(LoaderRule::RopeTableOfWholeHeads) {
        head_dim / 2
    } else {
        hparams.get(Key::RopeDim)?.unwrap_or(head_dim) / 2
    };
    // Blocks whose keys serve as values need no value projection, and a GGUF may hold one: its shape is still checked.
    params.key_is_value = false;
    // Without labels llama.cpp takes a head for one.
    params.labels = hparams
        .metadata(super::conversion::LABELS)
        .map_or(1, |labels| match labels {
            Value::Array(items) => items.len() as u64,
            Value::Strings(items) => items.len() as u64,
            Value::Located { len, .. } => *len,
            _ => 1,
        });
    Ok(params)
}
