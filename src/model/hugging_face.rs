//! Describes a model by its `config.json` and Hugging Face tensor names.
//!
//! With weights, each stored tensor is matched to a row of the architecture by its name without numbers
//! (`resolve_tensors`); without weights, the tensors follow from the rows.

use serde_json::Value as Json;

use super::arch::{Arch, RowSite, ShapeParams, TensorRow};
use super::defaults::{self, StoredShapes};
use super::dims::{dims_and_layers, head_dim, shape_params};
use super::hparams::{HParams, Key};
use super::left_out::Auxiliary;
use super::lookup::StatedNames;
use super::names::unknown_architecture;
use super::packed::{self, FoldedWeight};
use super::projector::{Projector, ProjectorError};
use super::resolve_tensors::Strictness;
use super::role::TensorRole;
use super::rows::{from_rows, other};
use super::sorted::{Sorted, Tie, tie_flag};
use super::spec::{Dims, Layer, ModelSpec};
use super::tensor::Tensor;
use super::{ModelError, Quirks, Unknown, arithmetic, members, resolve_tensors, stated};
use crate::checkpoint::{Checkpoint, Pooling, RawConfig};
use crate::units::Bytes;

pub(super) fn read(
    checkpoint: &Checkpoint,
    config: &Json,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let config = &*defaults::with_parts(config);
    let names = StatedNames::of(config);
    let variant = Arch::of_hugging_face(&names).map(|arch| arch.variant(config));
    let known = variant.and_then(Result::ok);
    let stated = names.first();
    let arch = match (known, unknown) {
        (_, Unknown::Listed) => return weights_only(checkpoint, config, &names, unknown),
        (Some(arch), _) => arch,
        (None, Unknown::Assume(name)) => Arch::of_gguf(name).ok_or(ModelError::NoArchitecture)?,
        (None, Unknown::WeightsOnly) => {
            return weights_only(checkpoint, config, &names, unknown);
        }
        (None, Unknown::Refuse) => {
            let name = stated.ok_or(ModelError::NoArchitecture)?;
            if let Some(Err(known)) = variant {
                let name = name.to_owned();
                return Err(ModelError::UnknownVariant { name, known });
            }
            return Err(unknown_architecture(checkpoint, name));
        }
    };
    let assumed = known.is_none().then_some(arch.name);
    let logical = packed::logical(&checkpoint.tensors, config)?;
    if unknown != Unknown::WeightsOnly {
        packed::check_scales(&logical, config)?;
        packed::check_declared(&logical, config)?;
    }
    let prequantized = packed::label(config, &logical);
    let mut stored = logical.clone();
    let (projector, projector_problem) = match projector(checkpoint, config, &stored) {
        Some(Ok(projector)) => (Some(projector), None),
        None | Some(Err(ProjectorError::NoVision)) => (None, None),
        Some(Err(problem)) => (None, Some(problem)),
    };
    let all = Sorted::new(logical.clone(), 0..0, Auxiliary::ANY);
    stated::check(arch, &names, &HParams::of_config(config))?;
    // Read before defaults are filled in: what the file states about a tied head overrides its class's default.
    let stated_tie = Tie::stated(&HParams::new(&checkpoint.config, arch.name), config);
    let stated_config = config;
    let config = defaults::filled(
        config,
        arch,
        assumed.is_none().then_some(&names),
        &StoredShapes(&all),
    )?;
    let raw = RawConfig::HuggingFace(config.clone());
    let hparams = HParams::new(&raw, arch.name);
    let (mut dims, layers) = dims_and_layers(arch, &hparams)?;
    if assumed.is_none() {
        stated::check_blocks(arch, &hparams, &layers)?;
    }
    arithmetic::check(arch, &hparams, &layers)?;
    let ahead = hparams.or_zero(Key::NextnLayers)?;
    let behind = layers.len()..layers.len().saturating_add(ahead as usize);
    let mut sorted = Sorted::new(logical, behind, Auxiliary::stated(&config, &arch.loader));
    if assumed.is_none() {
        sorted.leave_out_known(arch, layers.len())?;
        sorted.leave_out_zero_biases(checkpoint, arch);
    }
    let by_default = tie_flag(&hparams).unwrap_or(false);
    let tied = if checkpoint.tensors.is_empty() {
        stated_tie.or(by_default)
    } else {
        sorted.tie(checkpoint, stated_tie, by_default)
    };
    // Without a place for a head there is nothing to tie.
    let tied = tied && arch.rows().any(|row| row.role == TensorRole::Output);
    let params = ShapeParams {
        skipped_positions: (arch.skipped_positions)(&hparams)?,
        labels: labels(checkpoint, arch),
        ..shape_params(&hparams, tied, head_dim(&layers))?
    };
    if let Some(rows) = sorted.embedding_rows()
        && Some(rows) != embedding_rows(arch, &dims, &params, &layers)
    {
        dims.vocab = rows;
    }
    if assumed.is_none() {
        sorted.leave_out_denied_biases(
            checkpoint,
            arch,
            stated_config,
            &params,
            (&dims, &layers),
        )?;
    }
    let (towers, left_out) = (sorted.towers.clone(), sorted.left_out.clone());
    let (tensors, parameters) = if checkpoint.tensors.is_empty() {
        from_rows(arch, &dims, &params, &layers, packed::experts(&config))
    } else {
        let parameters = sorted.parameters();
        let strict = match (assumed, unknown) {
            (Some(_), _) => Strictness::Nothing,
            (None, Unknown::WeightsOnly) => Strictness::Rows,
            (None, _) => Strictness::All,
        };
        let (tensors, padding) =
            resolve_tensors::from_stored(arch, &dims, &params, &layers, sorted, strict)?;
        (tensors, parameters.saturating_sub(padding))
    };
    let (mut tensors, mut tied) = (tensors, tied);
    let prequantized = prequantized.or_else(|| packed::described(&tensors));
    let is_made = |row: &TensorRow| row.role == TensorRole::ClassHead && row.names.is_empty();
    if params.labels > 0 && arch.rows().any(is_made) {
        fill_class_head(&mut tensors);
        tied = true;
    }
    members::fill(arch, &tensors, &mut stored);
    Ok(ModelSpec {
        forward: Err("it is no GGUF".to_owned()),
        ahead,
        name: checkpoint.name.clone(),
        architecture: match (assumed, stated) {
            (Some(_), Some(stated)) => stated.to_owned(),
            _ => arch.name.to_owned(),
        },
        quirks: match assumed {
            Some(_) => arch.quirks.assumed(),
            None => arch.all_quirks(),
        },
        parameters,
        dims,
        layers,
        tensors,
        stored,
        towers,
        projector,
        projector_problem,
        left_out,
        tied,
        assumed,
        source: checkpoint.format,
        prequantized,
        config,
        retrieval: None,
        served_context: None,
    })
}

/// Rows of the embedding by the configuration, which may be more than the vocabulary has tokens.
fn embedding_rows(arch: &Arch, dims: &Dims, params: &ShapeParams, layers: &[Layer]) -> Option<u64> {
    let mut rows = arch.rows();
    let embedding = rows.find(|row| row.role == TensorRole::TokenEmbedding)?;
    let site = RowSite {
        dims,
        params,
        layer: layers.first()?,
        block: 0,
    };
    (embedding.shape)(&site).first().copied()
}

/// The number of scores of a reranker.
fn labels(checkpoint: &Checkpoint, arch: &Arch) -> u64 {
    let pooling = checkpoint
        .retrieval
        .as_ref()
        .and_then(|found| found.pooling);
    match (pooling, &arch.conversion) {
        (Some(Pooling::Rank), Some(conversion)) => conversion.labels(),
        _ => 0,
    }
}

/// Makes the head that ranks of the one that writes, which a file then lacks.
fn fill_class_head(tensors: &mut Vec<Tensor>) {
    let find = |role| {
        tensors
            .iter()
            .position(|tensor: &Tensor| tensor.role == role)
    };
    let head = find(TensorRole::Output).or_else(|| find(TensorRole::TokenEmbedding));
    let (Some(made), Some(head)) = (find(TensorRole::ClassHead), head) else {
        return;
    };
    let head = tensors[head].clone();
    let made = &mut tensors[made];
    let rows = head.shape.first().copied().unwrap_or(1).max(1);
    let of_rows = made.shape.first().copied().unwrap_or(0);
    made.dtype = head.dtype;
    made.stored_bytes = Bytes(head.stored_bytes.0 / rows * of_rows);
    made.sources = head.sources;
    tensors.retain(|tensor| tensor.role != TensorRole::Output);
}

/// The projector, or why there is none; `None` where the processor's files cannot be read.
fn projector(
    checkpoint: &Checkpoint,
    config: &Json,
    stored: &[FoldedWeight],
) -> Option<Result<Projector, ProjectorError>> {
    let processor = checkpoint.processor().ok()?;
    Some(Projector::of_hugging_face(config, processor, stored))
}

/// The description of a model whose architecture is not looked at: every stored tensor under its own name, no blocks.
fn weights_only(
    checkpoint: &Checkpoint,
    config: &Json,
    names: &StatedNames<'_>,
    unknown: Unknown,
) -> Result<ModelSpec, ModelError> {
    let logical = packed::logical(&checkpoint.tensors, config)?;
    let prequantized = packed::label(config, &logical);
    let name = names.text_type.or(names.model_type).or(names.first());
    let name = match (name, checkpoint.tensors.is_empty()) {
        (Some(name), _) => name,
        (None, true) if unknown != Unknown::Listed => return Err(ModelError::NoArchitecture),
        (None, _) => "architecture not stated",
    };
    let stored = logical.clone();
    let sorted = Sorted::new(logical, 0..0, Auxiliary::ANY);
    Ok(ModelSpec {
        forward: Err("it is no GGUF".to_owned()),
        ahead: 0,
        name: checkpoint.name.clone(),
        architecture: name.to_owned(),
        quirks: Quirks::NONE,
        parameters: sorted.parameters(),
        dims: Dims {
            streams: 1,
            ..Dims::default()
        },
        layers: Vec::new(),
        stored,
        towers: sorted.towers,
        projector: None,
        projector_problem: None,
        left_out: sorted.left_out,
        tensors: sorted
            .text
            .into_iter()
            .map(|entry| other(entry.logical))
            .collect(),
        tied: false,
        assumed: None,
        source: checkpoint.format,
        prequantized,
        config: config.clone(),
        retrieval: None,
        served_context: None,
    })
}
