//! Plans a GGUF: its metadata, and each tensor with its type and the source of its values. In: a checkpoint, its model,
//! and options. Out: metadata, tensors, notes. Must not: read weights.

use super::metadata::metadata;
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat, StoredTensor};
use crate::convert;
use crate::dtype::Dtype;
use crate::gguf::{Metadata, Value};
use crate::model::{
    self, Category, DecodeAccess, ModelSpec, PREDICTION_HEAD, Tensor, TensorRole, Unknown, accept,
};
use crate::note::Note;
use crate::quantize::blocks;
use crate::quantize::error::QuantizeError;
use crate::quantize::importance::{Importance, ImportanceError};
use crate::quantize::packed::Files;
use crate::quantize::planned::{Options, PlannedTensor, Values};
use crate::quantize::source::Sources;
use crate::quantize::tensor_rows;
use crate::scheme::{self, Assigned, QuantMix, Reason, Scheme};
use crate::units::counted;

/// `general.file_type` of types that llama.cpp has no number for: its `LLAMA_FTYPE_GUESSED`.
const NO_FILE_TYPE: u32 = 1024;

/// Metadata, tensors in the order of the file, and notes.
pub(crate) type Contents<'a> = (Vec<(String, Value)>, Vec<PlannedTensor<'a>>, Vec<Note>);

/// Metadata, tensors and notes of the file of `options`.
pub(crate) fn contents<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    options: &Options<'a>,
) -> Result<Contents<'a>, QuantizeError> {
    if checkpoint.tensors.is_empty() {
        return Err(QuantizeError::NoWeights {
            name: checkpoint.name.clone(),
        });
    }
    let file_type = match options.scheme.mix {
        // As llama.cpp's converter: the file is of the type of its experts.
        QuantMix::None if keeps_blocks(model) => Scheme::of_base(Dtype::MXFP4),
        _ => Some(options.scheme),
    };
    let file_type = file_type.and_then(|scheme| scheme.file_type);
    let file_type = file_type.unwrap_or(NO_FILE_TYPE);
    let mut metadata = metadata(checkpoint, model, file_type)?;
    metadata.extend(options.importance.iter().flat_map(|i| i.metadata()));
    let (tensors, notes) = tensors(checkpoint, files, model, options, &metadata)?;
    Ok((metadata, tensors, notes))
}

/// Tensors and notes of a file with this metadata, for a checkpoint with weights.
pub(crate) fn tensors<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    options: &Options<'a>,
    metadata: &[(String, Value)],
) -> Result<(Vec<PlannedTensor<'a>>, Vec<Note>), QuantizeError> {
    let mut overrides = options.overrides.clone();
    overrides.importance = options.importance.is_some();
    if let Some(importance) = options.importance {
        check_importance(importance, model)?;
    }
    let assignment = scheme::assign_with(model, options.scheme, options.rules, &overrides);
    let sources = Sources::new(checkpoint, files, model);
    let mut planned = Vec::with_capacity(model.tensors.len());
    for index in order(model, options.scheme) {
        if let (Some(tensor), Some(&assigned)) =
            (model.tensors.get(index), assignment.tensors.get(index))
        {
            let values = values(checkpoint, model, &sources, tensor, assigned, options)?;
            planned.push((tensor, plan_tensor(tensor, assigned, values, options)?));
        }
    }
    let notes = notes(checkpoint, model, options, metadata, &planned);
    let tensors: Vec<PlannedTensor<'_>> = planned.into_iter().map(|(_, planned)| planned).collect();
    accept(checkpoint, model, metadata, &tensors)?;
    Ok((tensors, notes))
}

/// Whether tensors stay in the blocks that they are stored in.
fn keeps_blocks(model: &ModelSpec) -> bool {
    let kept = |tensor: &Tensor| tensor.dtype == Dtype::MXFP4;
    model.quirks.types.keeps_four_bit_floats && model.tensors.iter().any(kept)
}

/// Checks that llama.cpp loads and runs the file, and that this program can read it.
fn accept(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    metadata: &[(String, Value)],
    tensors: &[PlannedTensor<'_>],
) -> Result<(), QuantizeError> {
    let file = description(&model.name, metadata, tensors);
    let model = model::read(&file, Unknown::WeightsOnly)?;
    let source = checkpoint.files.first().map(|file| file.path.as_path());
    accept::check(metadata, source, &model)?;
    Ok(accept::runs(metadata, &model.architecture)?)
}

/// The file with this metadata and these tensors, as if it was there and opened, without its tokenizer.
pub(crate) fn description(
    name: &str,
    metadata: &[(String, Value)],
    tensors: &[PlannedTensor<'_>],
) -> Checkpoint {
    let stored = tensors.iter().map(|planned| StoredTensor {
        name: planned.name.to_owned(),
        dtype: planned.assigned.dtype,
        shape: planned.shape.clone(),
        file: 0,
        offset: 0,
        bytes: planned.assigned.bytes,
    });
    // Describing the model does not need the tokenizer, which may be long.
    let keys = metadata.iter();
    let keys = keys.filter(|(key, _)| !key.starts_with("tokenizer."));
    Checkpoint {
        tensors: stored.collect(),
        ..Checkpoint::of(
            name,
            SourceFormat::Gguf,
            RawConfig::Gguf(Metadata(keys.cloned().collect())),
        )
    }
}

/// The order of tensors in the file. A 16-bit conversion keeps that of the checkpoint, with computed tables and stacks that
/// stay as they are first, and another stack at the position of its last part; quantizing sorts by block and name.
fn order(model: &ModelSpec, scheme: &Scheme) -> Vec<usize> {
    let mut order = scheme::quantizer_order(model);
    if scheme.mix == QuantMix::None && model.source != SourceFormat::Gguf {
        order.sort_unstable();
        let conversion = model::conversion_of(model);
        let together = conversion.is_some_and(|conversion| conversion.stacks_together);
        let last = |tensor: &Tensor| tensor.sources.iter().max().copied();
        let is_stack = |tensor: &Tensor| tensor.role.info().access == DecodeAccess::Experts;
        let keeps = keeps_blocks(model);
        let place = |index: usize| {
            let tensor = model.tensors.get(index)?;
            if !(together && is_stack(tensor)) {
                return last(tensor);
            }
            let block = model.tensors.iter().filter(|t| t.layer == tensor.layer);
            block.filter(|t| is_stack(t)).filter_map(last).max()
        };
        order.sort_by_cached_key(|&index| {
            let tensor = model.tensors.get(index);
            let stays = keeps && tensor.is_some_and(|t| t.dtype == Dtype::MXFP4);
            (!stays, place(index))
        });
    }
    order
}

fn plan_tensor<'a>(
    tensor: &'a Tensor,
    assigned: Assigned,
    values: Values<'a>,
    options: &Options<'a>,
) -> Result<PlannedTensor<'a>, QuantizeError> {
    let importance = if assigned.dtype.is_quantized() {
        importance(tensor, options)?
    } else {
        None
    };
    // As llama-quantize: what is looked up or multiplied last may do without.
    let category = tensor.role.info().category;
    let exempt = matches!(category, Category::TokenEmbedding | Category::Output);
    let encoded = matches!(values, Values::Rows(_)) && !options.importance_follows;
    if assigned.dtype.needs_importance() && encoded && importance.is_none() && !exempt {
        return Err(QuantizeError::NeedsImportance {
            tensor: tensor.name.clone(),
            dtype: assigned.dtype.name(),
        });
    }
    Ok(PlannedTensor {
        name: &tensor.name,
        shape: tensor.shape.clone(),
        assigned,
        importance,
        groups: None,
        values,
    })
}

/// The source of the values of `tensor`, if they can be encoded as `assigned`.
fn values<'a>(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    sources: &Sources<'a>,
    tensor: &Tensor,
    assigned: Assigned,
    options: &Options<'_>,
) -> Result<Values<'a>, QuantizeError> {
    if tensor.sources.is_empty() && tensor.role.may_be_computed() {
        return Ok(Values::Table(table(checkpoint, model, tensor)?));
    }
    let name = || tensor.name.clone();
    let from_gguf = checkpoint.format == SourceFormat::Gguf;
    let rows = sources.rows(tensor)?;
    if from_gguf
        && tensor.dtype == assigned.dtype
        && let Some((files, stored)) = rows.as_stored()
    {
        return Ok(Values::Copied(files, stored));
    }
    if tensor.dtype.is_quantized() && from_gguf && !options.allow_requantize {
        return Err(QuantizeError::Requantize {
            tensor: name(),
            found: tensor.dtype.name(),
            wanted: assigned.dtype.name(),
        });
    }
    if from_gguf && !tensor_rows::decodable(tensor.dtype) {
        return Err(QuantizeError::StoredAs {
            tensor: name(),
            found: tensor.dtype.name(),
        });
    }
    if !blocks::FORMATS.contains(&assigned.dtype) {
        let known: Vec<&str> = blocks::FORMATS.iter().map(|d| d.name()).collect();
        return Err(QuantizeError::NoEncoder {
            tensor: name(),
            dtype: assigned.dtype.name(),
            known: known.join(", "),
        });
    }
    Ok(Values::Rows(Box::new(rows)))
}

fn table(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    tensor: &Tensor,
) -> Result<Vec<f32>, QuantizeError> {
    let table = convert::computed(checkpoint, model, tensor)?;
    if table.len() as u64 == tensor.elements() {
        return Ok(table);
    }
    Err(QuantizeError::Sizes {
        tensor: tensor.name.clone(),
        found: table.len() as u64,
        expected: tensor.elements(),
        shape: tensor.shape.clone(),
    })
}

/// Checks that an importance matrix is of this model: with values for some of its tensors, and for none of a block beyond
/// its last, unless that predicts further tokens.
fn check_importance(importance: &Importance, model: &ModelSpec) -> Result<(), ImportanceError> {
    let blocks = model.layers.len();
    let block = |name: &str| name.strip_prefix("blk.")?.split('.').next()?.parse().ok();
    let last: Option<usize> = importance.names().filter_map(block).max();
    let towers = model.towers.iter().map(|tower| tower.name.as_str());
    let mut left_out = towers.chain(model.left_out.iter().map(|left| left.name));
    let predicts = left_out.any(|name| name == PREDICTION_HEAD);
    let known = |tensor: &Tensor| importance.of(&tensor.name).is_some();
    if !model.tensors.iter().any(known) {
        return Err(ImportanceError::OtherModel {
            found: counted(importance.len(), "tensor", "tensors"),
            expected: "none of that name".to_owned(),
        });
    }
    match last.filter(|&last| last >= blocks && blocks > 0 && !predicts) {
        Some(last) => Err(ImportanceError::OtherModel {
            found: format!("block {last}"),
            expected: counted(blocks, "block", "blocks"),
        }),
        None => Ok(()),
    }
}

/// The importance of a tensor's columns. That of the token embedding is ignored if it has another size, since its
/// columns are not multiplied with activations.
fn importance<'a>(
    tensor: &Tensor,
    options: &Options<'a>,
) -> Result<Option<&'a [f32]>, QuantizeError> {
    let Some(values) = options.importance.and_then(|i| i.of(&tensor.name)) else {
        return Ok(None);
    };
    let matrices = match tensor.shape.as_slice() {
        &[matrices, _, _] => matrices,
        _ => 1,
    };
    let expected = tensor.row().saturating_mul(matrices);
    if values.len() as u64 == expected {
        return Ok(Some(values));
    }
    if tensor.role == TensorRole::TokenEmbedding {
        return Ok(None);
    }
    let size = ImportanceError::Size {
        tensor: tensor.name.clone(),
        found: values.len(),
        expected,
    };
    Err(size.into())
}

fn notes(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    options: &Options<'_>,
    metadata: &[(String, Value)],
    planned: &[(&Tensor, PlannedTensor<'_>)],
) -> Vec<Note> {
    let mut notes = Vec::new();
    let is_quantized = |planned: &PlannedTensor<'_>| planned.assigned.dtype.is_quantized();
    let again = planned.iter().any(|(tensor, planned)| {
        let is_encoded = matches!(planned.values, Values::Rows(_));
        is_encoded && tensor.dtype.is_quantized() && is_quantized(planned)
    });
    let stays = |(tensor, planned): &(&Tensor, PlannedTensor<'_>)| {
        !tensor.dtype.is_quantized() || planned.assigned.dtype == tensor.dtype
    };
    let all_stay = keeps_blocks(model) && planned.iter().all(stays);
    if let Some(now) = model.prequantized.clone().filter(|_| !all_stay) {
        notes.push(Note::DoubleQuantization { now });
    } else if again {
        let now = "quantized".to_owned();
        notes.push(Note::DoubleQuantization { now });
    }
    let names = |keep: &dyn Fn(&Tensor, &PlannedTensor<'_>) -> bool| -> Vec<String> {
        let kept = planned.iter().filter(|(t, planned)| keep(t, planned));
        kept.map(|(t, _)| t.name.clone()).collect()
    };
    let names_of_fallen =
        names(&|_, planned| matches!(planned.assigned.reason, Reason::ShapeFallback { .. }));
    if !names_of_fallen.is_empty() {
        notes.push(Note::ShapeFallback {
            tensors: names_of_fallen.len(),
            names: names_of_fallen,
        });
    }
    if options.importance.is_some() {
        // Importance matrices usually do not include embeddings and heads.
        let missing = names(&|tensor, planned| {
            is_quantized(planned)
                && planned.importance.is_none()
                && tensor.layer.is_some()
                && planned.assigned.dtype != Dtype::Q8_0
        });
        if !missing.is_empty() {
            notes.push(Note::MissingImportance { tensors: missing });
        }
    }
    for wish in &options.overrides.tensors {
        let meets = |(tensor, planned): &(&Tensor, PlannedTensor<'_>)| {
            planned.assigned.reason != Reason::Kept && wish.pattern.is_match(&tensor.name)
        };
        if !planned.iter().any(meets) {
            notes.push(Note::UnusedPattern {
                pattern: wish.pattern.as_str().to_owned(),
            });
        }
    }
    if convert::has_unknown_pre_tokenizer(metadata) && checkpoint.format != SourceFormat::Gguf {
        notes.push(Note::UnknownPreTokenizer);
    }
    let converted = checkpoint.format != SourceFormat::Gguf;
    if converted {
        notes.extend(convert::lost_scaling(model).map(Note::LostScaling));
        notes.extend(convert::lost_window(model).map(Note::LostWindow));
    }
    if !model.towers.is_empty() {
        let towers = model.towers.iter().map(|tower| tower.name.clone());
        notes.push(Note::TowersLeftOut {
            towers: towers.collect(),
            has_projector: model.projector.is_some(),
        });
    }
    notes.extend(model.left_out.iter().copied().map(Note::Unused));
    notes.extend(Note::of_unread(&checkpoint.unread));
    notes
}
