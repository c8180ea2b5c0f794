//! The candidates of a plan: the schemes that are possible, with the types of their tensors and the sizes of their files.

use super::error::CandidateError;
use super::gguf_header::GgufHeader;
use super::quality::{FromOriginal, KnownQuality};
use super::request::Schemes;
use crate::checkpoint::{Checkpoint, RawConfig, SourceFormat, is_quantized_as_it_runs};
use crate::convert;
use crate::dtype::Dtype;
use crate::gguf;
use crate::input;
use crate::model::{self, ModelSpec, ServedAlone, Tensor, encoder_part, tokenizers};
use crate::note::Note;
use crate::plan::fit::Candidate;
use crate::plan::projector;
use crate::quantize;
use crate::runtime::RuntimeProfile;
use crate::scheme::{
    self, Assigned, Assignment, Container, Overrides, Reason, Rules, SCHEMES, Scheme, TypeList,
};
use crate::units::Bytes;

/// The candidates of `model` for `runtime`: what the checkpoint is now, then the others, best quality first.
pub(super) fn candidates(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    schemes: &Schemes,
    rules: Rules,
    header: &GgufHeader,
    known: KnownQuality<'_>,
) -> Result<Vec<Candidate>, CandidateError> {
    let not_run_here = |why: String, way_out| CandidateError::NotRun {
        runtime: runtime.name.clone(),
        model: model.name.clone(),
        why,
        way_out,
    };
    let not_run = |why| not_run_here(why, "; try another --runtime");
    if runtime.loads.known_passes_only {
        not_decoded(model).map_or(Ok(()), |why| Err(not_run(why)))?;
    }
    let last_version = match model::served_alone(model) {
        Some(ServedAlone::By(only)) if only.id != runtime.id => {
            let until = match only.until {
                Some(until) => format!("had its architecture, up to {until}"),
                None => "has its architecture".to_owned(),
            };
            return Err(not_run(format!(
                "of the runtimes here, `{}` alone {until}",
                only.id
            )));
        }
        Some(ServedAlone::AsGguf) if !runtime.loads.reads(Container::Gguf) => {
            let why = "its checkpoint is none that runtimes here read, only a GGUF of it";
            return Err(not_run(why.to_owned()));
        }
        Some(ServedAlone::Elsewhere(why)) if !runtime.loads.reads(Container::Gguf) => {
            return Err(not_run_here(why.to_owned(), ""));
        }
        Some(ServedAlone::By(only)) => only.until.map(|until| Note::LastVersion {
            runtime: runtime.name.clone(),
            until,
            image_tokens: only.image_tokens,
        }),
        _ => None,
    };
    let stored_id = stored_format(checkpoint, model);
    let is_gguf = checkpoint.format == SourceFormat::Gguf;
    let stored_container = if is_gguf {
        Container::Gguf
    } else {
        Container::Safetensors
    };
    // A config.json without weights counts as the 16-bit checkpoint that it describes.
    let has_weights = !model.tensors.is_empty();
    // Whether the runtime loads a quantized checkpoint as it is.
    let packing_loads = match &model.prequantized {
        Some(packing) if !is_gguf => {
            loads(runtime, packing) || runtime.loads.prequantized.contains(packing)
        }
        _ => true,
    };
    let stored_loads = has_weights && runtime.loads.reads(stored_container) && packing_loads;
    let quantized_gguf = is_gguf
        && model
            .tensors
            .iter()
            .any(|tensor| tensor.dtype.is_quantized());
    let is_quantized = model.prequantized.is_some() || quantized_gguf;
    let quality = FromOriginal::new(model, is_quantized.then_some(stored_id.as_str()), known);
    let possible = |scheme: &&Scheme| {
        loads(runtime, scheme.id)
            && runtime.loads.reads(scheme.container)
            && !(is_gguf && scheme.container == Container::Safetensors)
            && scheme::symmetric_only(model, scheme).is_none()
            && !(stored_loads && scheme.id == stored_id)
    };
    let as_it_is = stored_loads.then_some(stored_id.as_str());
    let made: Vec<&Scheme> = match schemes {
        Schemes::Named(ids) => {
            let mut named = Vec::new();
            for id in ids
                .iter()
                .filter(|id| !(stored_loads && id.eq_ignore_ascii_case(&stored_id)))
            {
                named.push(named_scheme(id, model, runtime, is_gguf, as_it_is)?);
            }
            named
        }
        Schemes::Common if quantized_gguf => Vec::new(),
        Schemes::Common => SCHEMES
            .iter()
            .filter(|s| s.common)
            .filter(possible)
            .collect(),
        Schemes::All => SCHEMES.iter().filter(possible).collect(),
        Schemes::Types(_) => Vec::new(),
    };
    let wants_stored = match schemes {
        Schemes::Types(_) => false,
        Schemes::Named(ids) => ids.iter().any(|id| id.eq_ignore_ascii_case(&stored_id)),
        _ => true,
    };
    let mut all = Vec::new();
    if stored_loads && wants_stored {
        let mut assignment = scheme::stored(model, &stored_id, stored_container);
        if runtime.loads.casts_f32 {
            assignment.cast_f32();
        }
        let file_bytes = if checkpoint.files.is_empty() {
            model.tensors.iter().map(|tensor| tensor.stored_bytes).sum()
        } else {
            checkpoint.files.iter().map(|file| file.bytes).sum()
        };
        all.push(Candidate {
            quality: quality.of(&assignment, file_bytes),
            assignment,
            file_bytes,
            notes: not_stored(checkpoint, model, runtime, header, stored_container),
        });
    }
    let made = made.into_iter().map(|scheme| {
        // A 16-bit copy of a quantized checkpoint loses nothing more.
        let is_16_bit = matches!(scheme.base, Dtype::BF16 | Dtype::F16);
        (assigned(model, scheme, runtime, rules), is_16_bit)
    });
    let listed = match schemes {
        Schemes::Types(list) => {
            let assignment = of_list(list, model, runtime, rules)?;
            let is_16_bit = !assignment.is_quantized();
            Some((assignment, is_16_bit))
        }
        _ => None,
    };
    all.extend(made.chain(listed).map(|(assignment, is_16_bit)| {
        let container = assignment.container;
        let mut notes = not_stored(checkpoint, model, runtime, header, container);
        let stored_id = quantized_gguf.then_some(&stored_id);
        let now = model.prequantized.as_ref().or(stored_id).cloned();
        notes.extend(
            now.filter(|_| !is_16_bit)
                .map(|now| Note::DoubleQuantization { now }),
        );
        if !is_gguf && container == Container::Gguf {
            notes.extend(
                header
                    .incomplete
                    .clone()
                    .map(|why| Note::PartialHeader { why }),
            );
            notes.extend(convert::lost_scaling(model).map(Note::LostScaling));
        }
        let file_bytes = file_bytes(model, &assignment, header, runtime);
        // A runtime's own packing is none of the measured formats.
        let is_measurable = !runtime.loads.packs_every_matrix || is_16_bit;
        Candidate {
            quality: is_measurable
                .then(|| quality.of(&assignment, file_bytes))
                .flatten(),
            file_bytes,
            assignment,
            notes,
        }
    }));
    for candidate in &mut all {
        candidate.notes.extend(last_version.clone());
    }
    let tensors = all.iter().flat_map(|candidate| {
        let types = candidate.assignment.tensors.iter().map(|t| t.dtype);
        types.zip(&model.tensors)
    });
    let mut types = tensors.filter(|(_, t)| t.shape.len() > 1).map(|(t, _)| t);
    match types.find(|dtype| !runtime.loads.has_kernels(*dtype)) {
        Some(dtype) => Err(no_kernels(runtime, dtype)),
        None => Ok(all),
    }
}

fn no_kernels(runtime: &RuntimeProfile, dtype: Dtype) -> CandidateError {
    CandidateError::NoKernels {
        runtime: runtime.name.clone(),
        dtype,
    }
}

/// Why this program's decoder does not run `model`, or the GGUF that it becomes.
fn not_decoded(model: &ModelSpec) -> Option<String> {
    match &model.forward {
        Err(why) if model.source == SourceFormat::Gguf => Some(why.clone()),
        Ok(_) => None,
        Err(_) => model::unknown_pass(model).map(str::to_owned),
    }
}

/// The scheme whose types the stored tensors have, under any version of the rules.
pub(super) fn exact_scheme(checkpoint: &Checkpoint, model: &ModelSpec) -> Option<&'static Scheme> {
    let scheme = Scheme::get(&stored_scheme(checkpoint, model))?;
    let mut all = assignments(scheme, model);
    all.any(|assigned| {
        let mut tensors = made(model, &assigned);
        tensors.all(|(tensor, assigned)| tensor.dtype == assigned.dtype)
    })
    .then_some(scheme)
}

/// What `scheme` gives to `model` under each version of the rules, with an importance matrix and without.
fn assignments(scheme: &Scheme, model: &ModelSpec) -> impl Iterator<Item = Assignment> {
    let rules = Rules::ALL.iter().map(|(_, rules)| *rules);
    let all = rules.flat_map(|rules| [false, true].map(|importance| (rules, importance)));
    all.map(move |(rules, importance)| {
        let overrides = Overrides {
            importance,
            ..Overrides::default()
        };
        scheme::assign_with(model, scheme, rules, &overrides)
    })
}

/// The tensors of `model` that an assignment quantizes.
fn made<'a>(
    model: &'a ModelSpec,
    assigned: &'a Assignment,
) -> impl Iterator<Item = (&'a Tensor, &'a Assigned)> {
    let tensors = model.tensors.iter().zip(&assigned.tensors);
    tensors.filter(|(_, assigned)| assigned.reason != Reason::Kept)
}

/// The share of the weights of blocks with the types of a scheme, from which a file goes by its name: publishers change
/// the embedding and the head, and older rules a few blocks.
const NAMED_BY_SCHEME: f64 = 0.9;

/// The id of what the checkpoint is now. A quantized GGUF whose blocks have other types than the scheme that it states
/// is a mix: what was measured of the scheme says nothing of it.
fn stored_format(checkpoint: &Checkpoint, model: &ModelSpec) -> String {
    let id = stored_scheme(checkpoint, model);
    let is_quantized = |tensor: &Tensor| tensor.dtype.is_quantized();
    let is_gguf = checkpoint.format == SourceFormat::Gguf;
    let scheme = Scheme::get(&id).filter(|_| is_gguf && model.tensors.iter().any(is_quantized));
    let Some(scheme) = scheme else { return id };
    let share = |assigned: Assignment| {
        let of_blocks = made(model, &assigned).filter(|(tensor, _)| tensor.layer.is_some());
        let (same, all) = of_blocks.fold((0, 0), |(same, all), (tensor, assigned)| {
            let weights = tensor.elements();
            let is_same = tensor.dtype == assigned.dtype;
            (same + if is_same { weights } else { 0 }, all + weights)
        });
        if all > 0 {
            same as f64 / all as f64
        } else {
            1.0
        }
    };
    let nearest = assignments(scheme, model).map(share).fold(0.0, f64::max);
    if nearest < NAMED_BY_SCHEME {
        scheme::MIX.to_owned()
    } else {
        id
    }
}

/// The type of each tensor with `scheme`, as `runtime` makes it.
pub fn assigned(
    model: &ModelSpec,
    scheme: &Scheme,
    runtime: &RuntimeProfile,
    rules: Rules,
) -> Assignment {
    let assignment = scheme::assign(model, scheme, rules);
    if runtime.loads.packs_every_matrix && scheme.base == Dtype::INT4 {
        scheme::every_matrix_packed(model, assignment)
    } else {
        assignment
    }
}

/// The GGUF whose tensors have the types of a list.
fn of_list(
    list: &TypeList,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    rules: Rules,
) -> Result<Assignment, CandidateError> {
    let file = || list.file.clone();
    if !runtime.loads.reads(Container::Gguf) {
        return Err(CandidateError::TypesNotLoadable {
            file: file(),
            runtime: runtime.name.clone(),
        });
    }
    scheme::check_types(&list.listed.types, model).map_err(|source| CandidateError::Types {
        file: file(),
        source,
    })?;
    Ok(scheme::assign_types(model, &list.listed.types, rules))
}

/// Caveats about what the checkpoint lacks: of a `config.json` alone, and of weights that are served as a directory.
fn not_stored(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    header: &GgufHeader,
    container: Container,
) -> Vec<Note> {
    let mut notes = unseen(checkpoint, model, runtime);
    notes.extend(Note::of_unread(&checkpoint.unread));
    let is_whole = !checkpoint
        .files
        .iter()
        .any(|file| input::is_header_only(&file.path));
    if is_whole && lacks_vocabulary(checkpoint) {
        notes.push(Note::NoVocabulary);
    }
    if header.lacks_tokenizer && container == Container::Safetensors {
        notes.push(Note::NoTokenizer);
    }
    notes
}

/// Whether a GGUF says that it has no tokenizer. (llama.cpp's server ends with an assertion: a vocabulary is needed.)
fn lacks_vocabulary(checkpoint: &Checkpoint) -> bool {
    let RawConfig::Gguf(metadata) = &checkpoint.config else {
        return false;
    };
    let model = metadata.str("tokenizer.ggml.model").ok().flatten();
    model.is_some_and(tokenizers::is_absent)
}

/// Caveats about what a `config.json` without weights does not say.
fn unseen(checkpoint: &Checkpoint, model: &ModelSpec, runtime: &RuntimeProfile) -> Vec<Note> {
    let RawConfig::HuggingFace(config) = &checkpoint.config else {
        return Vec::new();
    };
    if checkpoint.format != SourceFormat::Config {
        return Vec::new();
    }
    let mut notes = Vec::new();
    if model.retrieval.is_none() && checkpoint.name.to_lowercase().contains("embed") {
        notes.push(Note::ModulesUnseen);
    }
    let is_quantized = ["quantization_config", "quantization"].iter().any(|key| {
        let stated = config.get(key).filter(|stated| stated.is_object());
        stated.is_some_and(|stated| !is_quantized_as_it_runs(stated))
    });
    if is_quantized && model.prequantized.is_none() {
        notes.push(Note::QuantizationUnseen);
    }
    let unseen = match &model.projector {
        Some(projector) if projector.audio.is_some() => &[][..],
        Some(_) => &["audio_config", "audio_processor"],
        None => &["vision_config", "audio_config", "audio_processor"],
    };
    // A class that is conditioned on more than text has an encoder, whether or not the configuration tells of it.
    let class = config
        .get("architectures")
        .and_then(|classes| classes.get(0)?.as_str());
    let is_conditioned = class.is_some_and(|class| class.ends_with("ForConditionalGeneration"));
    let is_described = unseen
        .iter()
        .any(|key| encoder_part(&model.config, key).is_some_and(|v| v.is_object()));
    // Of an encoder that is not loaded nothing is missing.
    let is_loaded = !projector::text_alone(model, runtime);
    if is_loaded && (is_described || is_conditioned && model.projector.is_none()) {
        notes.push(Note::TowersUnseen {
            audio_alone: model.projector.is_some(),
            why: model.unread_projector(),
        });
    }
    notes
}

/// Whether `runtime` loads the scheme.
fn loads(runtime: &RuntimeProfile, id: &str) -> bool {
    runtime.loads.schemes.iter().any(|loaded| loaded == id)
}

/// The ids of the schemes that `runtime` loads in the kind of file that holds them.
fn loadable(runtime: &RuntimeProfile) -> Vec<&'static str> {
    SCHEMES
        .iter()
        .filter(|scheme| loads(runtime, scheme.id) && runtime.loads.reads(scheme.container))
        .map(|scheme| scheme.id)
        .collect()
}

/// What to plan in place of `scheme`, which `runtime` does not load: the checkpoint as it is, in the format `stored`. Runtimes
/// that list the other 16 bits hold them in as much memory.
fn way_out(scheme: &Scheme, stored: &str, runtime: &RuntimeProfile) -> String {
    let is_16_bit = |dtype| matches!(dtype, Dtype::BF16 | Dtype::F16);
    let is_stored = Scheme::get(stored).is_some_and(|stored| is_16_bit(stored.base));
    let as_large = if is_16_bit(scheme.base) && is_stored && loads(runtime, scheme.id) {
        format!(
            ", which it holds in {} as well, as large and as fast",
            scheme.id
        )
    } else {
        String::new()
    };
    format!("; --scheme {stored} is the checkpoint as it is{as_large}")
}

/// The scheme with this id, if the runtime loads it and it can be made of the checkpoint.
fn named_scheme(
    id: &str,
    model: &ModelSpec,
    runtime: &RuntimeProfile,
    is_gguf: bool,
    as_it_is: Option<&str>,
) -> Result<&'static Scheme, CandidateError> {
    let Some(scheme) = Scheme::get(id) else {
        let nearest = crate::nearest::hint(id, SCHEMES.iter().map(|scheme| scheme.id));
        return Err(CandidateError::Unknown {
            id: id.to_owned(),
            nearest,
        });
    };
    if !runtime.loads.has_kernels(scheme.base) {
        return Err(no_kernels(runtime, scheme.base));
    }
    if !loads(runtime, scheme.id) || !runtime.loads.reads(scheme.container) {
        return Err(CandidateError::NotLoadable {
            runtime: runtime.name.clone(),
            id: scheme.id.to_owned(),
            loads: loadable(runtime).join(", "),
            way_out: as_it_is.map_or_else(String::new, |stored| way_out(scheme, stored, runtime)),
        });
    }
    if is_gguf && scheme.container == Container::Safetensors {
        return Err(CandidateError::NeedsHuggingFace {
            id: scheme.id.to_owned(),
            name: model.name.clone(),
        });
    }
    if let Some(only) = scheme::symmetric_only(model, scheme) {
        return Err(CandidateError::SymmetricOnly {
            name: model.name.clone(),
            what: only.what,
            id: scheme.id.to_owned(),
            instead: only.instead.id.to_owned(),
        });
    }
    Ok(scheme)
}

/// The id of what the checkpoint is now: its stated file type, else how it was quantized, else the
/// type that most of its bytes have.
fn stored_scheme(checkpoint: &Checkpoint, model: &ModelSpec) -> String {
    let stated = match &checkpoint.config {
        RawConfig::Gguf(metadata) => metadata.u64("general.file_type").ok().flatten(),
        RawConfig::HuggingFace(_) => None,
    };
    // A file may state a type that none of its matrices has, although it divides the rows of some.
    let is_stored = |scheme: &&Scheme| {
        let matrices = || model.tensors.iter().filter(|t| t.shape.len() > 1);
        matches!(scheme.base, Dtype::F32 | Dtype::F16 | Dtype::BF16)
            || matrices().any(|tensor| tensor.dtype == scheme.base)
            || !matrices().any(|tensor| scheme.base.divides(tensor.row()))
    };
    let by_type = stated
        .and_then(Scheme::of_file_type)
        .filter(is_stored)
        .map(|scheme| scheme.id.to_owned());
    by_type
        .or_else(|| model.prequantized.clone())
        .unwrap_or_else(|| {
            let mut bytes: Vec<(Dtype, Bytes)> = Vec::new();
            for tensor in &checkpoint.tensors {
                match bytes.iter_mut().find(|(dtype, _)| *dtype == tensor.dtype) {
                    Some((_, sum)) => *sum += tensor.bytes,
                    None => bytes.push((tensor.dtype, tensor.bytes)),
                }
            }
            let most = bytes.into_iter().max_by_key(|(_, sum)| *sum);
            most.map_or("bf16".to_owned(), |(dtype, _)| dtype.name().to_lowercase())
        })
}

/// The whole file: header, then each tensor padded to GGUF's default alignment.
pub(super) fn file_bytes(
    model: &ModelSpec,
    assignment: &Assignment,
    header: &GgufHeader,
    runtime: &RuntimeProfile,
) -> Bytes {
    let own_packing = runtime.loads.packs_every_matrix;
    match assignment.container {
        Container::Gguf => {
            let names = model.tensors.iter();
            let names = names.map(|t| (t.name.as_str(), t.shape.len()));
            let head = gguf::header_bytes(&[], names) + Bytes(header.metadata_bytes);
            gguf::file_bytes(head, assignment.tensors.iter().map(|t| t.bytes))
        }
        Container::Safetensors => match Scheme::get(&assignment.scheme) {
            // A runtime's own packing is a directory that the quantizer does not write.
            Some(scheme) if !model.stored.is_empty() && !own_packing => {
                quantize::safetensors::predict(model, scheme).file_bytes()
            }
            // Without weights the names are not known: an entry of the header takes about 80 bytes.
            _ => {
                let entries: u64 = model.tensors.iter().map(|t| t.name.len() as u64 + 80).sum();
                assignment.tensor_bytes() + Bytes(8 + entries.div_ceil(8) * 8)
            }
        },
    }
}
