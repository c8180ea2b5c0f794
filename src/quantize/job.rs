//! A file before it is made: its metadata, and each tensor with its type and where its values come
//! from. In: a checkpoint, its model, a scheme. Out: a [`Job`]. Must not: read weights.

use super::error::QuantizeError;
use super::importance::{Importance, ImportanceError};
use super::metadata::metadata;
use super::note::Note;
use super::packed::Files;
use super::source::{self, Rows, Sources};
use super::{Tally, blocks};
use crate::checkpoint::{Checkpoint, Origin, RawConfig, SourceFormat, StoredTensor};
use crate::convert;
use crate::dtype::Dtype;
use crate::gguf::{self, Metadata, TensorEntry, Value};
use crate::model::{self, ModelSpec, Tensor, TensorRole, Unknown, accept};
use crate::scheme::{self, Assigned, Container, Mix, Overrides, Reason, Rules, SCHEMES, Scheme};
use crate::units::Bytes;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The scheme.
    pub scheme: &'static Scheme,
    /// The version of llama.cpp's rules.
    pub rules: Rules,
    /// Types other than the scheme's own.
    pub overrides: Overrides,
    /// What errors cost, by column.
    pub importance: Option<&'a Importance>,
    /// Whether tensors that are quantized may be quantized to another type.
    pub allow_requantize: bool,
}

/// A file that is to be made.
#[derive(Debug)]
pub struct Job<'a> {
    /// Key-value pairs. Long arrays of a GGUF still lie in it.
    pub metadata: Vec<(String, Value)>,
    /// The tensors in the order of the file.
    pub tensors: Vec<Planned<'a>>,
    /// What is known before a weight is read.
    pub notes: Vec<Note>,
}

/// A tensor of the file.
#[derive(Debug)]
pub struct Planned<'a> {
    /// What it is.
    pub tensor: &'a Tensor,
    /// What it is to be.
    pub assigned: Assigned,
    /// The cost of errors by column, for one matrix after the other.
    pub importance: Option<&'a [f32]>,
    pub(super) values: Values<'a>,
}

/// Where a tensor's values come from.
#[derive(Debug)]
pub(super) enum Values<'a> {
    /// Stored bytes that the file takes over.
    Copied(Rows<'a>),
    /// Stored weights.
    Stored(Rows<'a>),
    /// A table that the configuration gives.
    Table(Vec<f32>),
}

impl<'a> Job<'a> {
    /// The file that `options` ask for, of `model` read from `checkpoint`, whose open files are `files`.
    ///
    /// # Errors
    /// [`QuantizeError`]: a checkpoint without weights, a conversion, type or size that is not
    /// possible, weights that are quantized already, or an importance matrix of another model.
    pub fn new(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        options: &Options<'a>,
    ) -> Result<Job<'a>, QuantizeError> {
        let file_type = gguf_type(options.scheme)?;
        if checkpoint.tensors.is_empty() {
            return Err(QuantizeError::NoWeights {
                name: checkpoint.name.clone(),
            });
        }
        let metadata = metadata(checkpoint, model, file_type)?;
        Job::with_metadata(checkpoint, files, model, options, metadata)
    }

    /// [`Job::new`] of a checkpoint with weights, whose [`metadata`] is there already.
    pub(super) fn with_metadata(
        checkpoint: &'a Checkpoint,
        files: &'a Files,
        model: &'a ModelSpec,
        options: &Options<'a>,
        mut metadata: Vec<(String, Value)>,
    ) -> Result<Job<'a>, QuantizeError> {
        let mut overrides = options.overrides.clone();
        overrides.importance = options.importance.is_some();
        metadata.extend(options.importance.iter().flat_map(|i| i.metadata()));
        let assignment = scheme::assign_with(model, options.scheme, options.rules, &overrides);
        let sources = Sources::new(checkpoint, files, model);
        let mut tensors = Vec::with_capacity(model.tensors.len());
        for index in order(model, options.scheme) {
            if let (Some(tensor), Some(&assigned)) =
                (model.tensors.get(index), assignment.tensors.get(index))
            {
                tensors.push(plan(
                    checkpoint, model, &sources, tensor, assigned, options,
                )?);
            }
        }
        let notes = notes(checkpoint, model, options, &metadata, &tensors);
        let job = Job {
            metadata,
            tensors,
            notes,
        };
        job.accepted(checkpoint, model)?;
        Ok(job)
    }

    /// That the file is one that we would read again and that llama.cpp loads.
    fn accepted(&self, checkpoint: &Checkpoint, model: &ModelSpec) -> Result<(), QuantizeError> {
        let stored = self.tensors.iter().map(|planned| StoredTensor {
            name: planned.tensor.name.clone(),
            dtype: planned.assigned.dtype,
            shape: planned.tensor.shape.clone(),
            file: 0,
            offset: 0,
            bytes: planned.assigned.bytes,
        });
        // The model is described without its tokenizer, which may be long.
        let keys = self.metadata.iter();
        let keys = keys.filter(|(key, _)| !key.starts_with("tokenizer."));
        let file = Checkpoint {
            name: model.name.clone(),
            origin: Origin::default(),
            format: SourceFormat::Gguf,
            config: RawConfig::Gguf(Metadata(keys.cloned().collect())),
            files: Vec::new(),
            tensors: stored.collect(),
            directory: None,
        };
        let model = model::read(&file, Unknown::WeightsOnly)?;
        let source = checkpoint.files.first().map(|file| file.path.as_path());
        Ok(accept::check(&self.metadata, source, &model)?)
    }

    /// The header's tensors.
    pub(super) fn entries(&self) -> Vec<TensorEntry<'_>> {
        let tensors = self.tensors.iter().map(|planned| TensorEntry {
            name: &planned.tensor.name,
            dtype: planned.assigned.dtype,
            shape: &planned.tensor.shape,
        });
        tensors.collect()
    }

    /// The sum of the tensors' bytes.
    pub fn tensor_bytes(&self) -> Bytes {
        self.tensors.iter().map(|t| t.assigned.bytes).sum()
    }

    /// The exact size of the file.
    pub fn file_bytes(&self) -> Bytes {
        let names = self.tensors.iter().map(|t| t.tensor);
        let header = gguf::header_bytes(
            &self.metadata,
            names.map(|t| (t.name.as_str(), t.shape.len())),
        );
        gguf::file_bytes(header, self.tensors.iter().map(|t| t.assigned.bytes))
    }

    /// Weights of all tensors.
    pub fn weights(&self) -> u64 {
        let weights = self.tensors.iter().map(|t| t.tensor.elements());
        weights.fold(0, u64::saturating_add)
    }

    /// What is known before and what was met on the way.
    pub fn notes_with(&self, tallies: &[Tally]) -> Vec<Note> {
        let names = self.tensors.iter().map(|t| t.tensor.name.as_str());
        let mut notes = self.notes.clone();
        notes.extend(Note::met(names.zip(tallies.iter().copied())));
        notes
    }
}

fn gguf_type(scheme: &Scheme) -> Result<u32, QuantizeError> {
    let file_type = scheme
        .file_type
        .filter(|_| scheme.container == Container::Gguf);
    file_type.ok_or_else(|| {
        let gguf = SCHEMES.iter().filter(|s| s.container == Container::Gguf);
        QuantizeError::NotGguf {
            scheme: scheme.id.to_owned(),
            known: gguf.map(|s| s.id).collect::<Vec<_>>().join(", "),
        }
    })
}

/// The order of the file: a conversion keeps that of the checkpoint, with the computed tables first
/// and a stack where its last part stands; quantizing sorts by block and name.
fn order(model: &ModelSpec, scheme: &Scheme) -> Vec<usize> {
    let mut order = scheme::quantizer_order(model);
    if scheme.mix == Mix::None && model.source != SourceFormat::Gguf {
        order.sort_unstable();
        order.sort_by_key(|&index| {
            let tensor = model.tensors.get(index);
            tensor.and_then(|tensor| tensor.sources.iter().max().copied())
        });
    }
    order
}

fn plan<'a>(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    sources: &Sources<'a>,
    tensor: &'a Tensor,
    assigned: Assigned,
    options: &Options<'a>,
) -> Result<Planned<'a>, QuantizeError> {
    let name = || tensor.name.clone();
    let from_gguf = checkpoint.format == SourceFormat::Gguf;
    let values = if tensor.sources.is_empty() && tensor.role.is_rope_table() {
        Values::Table(table(checkpoint, model, tensor)?)
    } else {
        let rows = sources.rows(tensor)?;
        match from_gguf && tensor.dtype == assigned.dtype {
            true => Values::Copied(rows),
            false => Values::Stored(rows),
        }
    };
    if let Values::Stored(_) = values {
        if tensor.dtype.is_quantized() && from_gguf && !options.allow_requantize {
            return Err(QuantizeError::Requantize {
                tensor: name(),
                found: tensor.dtype.name(),
                wanted: assigned.dtype.name(),
            });
        }
        if from_gguf && !source::decodable(tensor.dtype) {
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
    }
    let importance = match assigned.dtype.is_quantized() {
        true => importance(tensor, options)?,
        false => None,
    };
    Ok(Planned {
        tensor,
        assigned,
        importance,
        values,
    })
}

fn table(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    tensor: &Tensor,
) -> Result<Vec<f32>, QuantizeError> {
    let table = convert::rope_table(checkpoint, model, tensor.role)?;
    match table.len() as u64 == tensor.elements() {
        true => Ok(table),
        false => Err(QuantizeError::Sizes {
            tensor: tensor.name.clone(),
            found: table.len() as u64,
            expected: tensor.elements(),
            shape: tensor.shape.clone(),
        }),
    }
}

/// The importance of a tensor's columns. Matrices for the embedding are made by one token at a time
/// and have no use; where an importance matrix has one of another size, it is left aside.
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
    match values.len() as u64 == expected {
        true => Ok(Some(values)),
        false if tensor.role == TensorRole::TokenEmbedding => Ok(None),
        false => Err(ImportanceError::Size {
            tensor: tensor.name.clone(),
            found: values.len(),
            expected,
        }
        .into()),
    }
}

fn notes(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    options: &Options<'_>,
    metadata: &[(String, Value)],
    tensors: &[Planned<'_>],
) -> Vec<Note> {
    let mut notes = Vec::new();
    let quantized = |t: &&Planned<'_>| t.assigned.dtype.is_quantized();
    let again = tensors.iter().any(|t| {
        matches!(t.values, Values::Stored(_)) && t.tensor.dtype.is_quantized() && quantized(&t)
    });
    if let Some(now) = model.prequantized.clone() {
        notes.push(Note::DoubleQuantization { now });
    } else if again {
        let now = "quantized".to_owned();
        notes.push(Note::DoubleQuantization { now });
    }
    let names = |keep: &dyn Fn(&Planned<'_>) -> bool| -> Vec<String> {
        let kept = tensors.iter().filter(|t| keep(t));
        kept.map(|t| t.tensor.name.clone()).collect()
    };
    let fallen = names(&|t| matches!(t.assigned.reason, Reason::ShapeFallback { .. }));
    if !fallen.is_empty() {
        notes.push(Note::ShapeFallback { tensors: fallen });
    }
    if options.importance.is_some() {
        // Embeddings and heads are left out of importance matrices as they are commonly made.
        let missing = names(&|t| {
            quantized(&t)
                && t.importance.is_none()
                && t.tensor.layer.is_some()
                && t.assigned.dtype != Dtype::Q8_0
        });
        if !missing.is_empty() {
            notes.push(Note::MissingImportance { tensors: missing });
        }
    }
    for wish in &options.overrides.tensors {
        let meets = |t: &Planned<'_>| {
            t.assigned.reason != Reason::Kept && wish.pattern.is_match(&t.tensor.name)
        };
        if !tensors.iter().any(meets) {
            notes.push(Note::UnusedPattern {
                pattern: wish.pattern.as_str().to_owned(),
            });
        }
    }
    if convert::has_unknown_pre_tokenizer(metadata) && checkpoint.format != SourceFormat::Gguf {
        notes.push(Note::UnknownPreTokenizer);
    }
    let converted = checkpoint.format != SourceFormat::Gguf;
    let lost = converted.then(|| convert::lost_scaling(model)).flatten();
    notes.extend(lost.map(Note::LostScaling));
    if !model.towers.is_empty() {
        let towers = model.towers.iter().map(|tower| tower.name.clone());
        notes.push(Note::LeftOut {
            towers: towers.collect(),
        });
    }
    notes.extend(model.left_out.iter().copied().map(Note::Unused));
    notes
}
