//! From a model and a text to the mix of types that is expected to diverge least for a number of bytes.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::QualityError;
use super::choose::{Option as TypeOption, choose};
use super::probe::{ProbeTokens, ProbedTensor, Probes, probe};
use super::sensitivity::{Probed, sensitivities};
use crate::decode::{self, Model};
use crate::dtype::Dtype;
use crate::model::{ModelSpec, TensorRole};
use crate::parallel;
use crate::quantize::{PlannedTensor, sampled_errors};
use crate::scheme::Reason;

/// The types that a tensor may get, those that divide its rows; the codebooks too where a file is to be small.
pub const CANDIDATES: [Dtype; 13] = [
    Dtype::Q2_K,
    Dtype::Q3_K,
    Dtype::IQ4_XS,
    Dtype::IQ4_NL,
    Dtype::Q4_0,
    Dtype::Q4_K,
    Dtype::Q4_1,
    Dtype::Q5_0,
    Dtype::Q5_K,
    Dtype::Q5_1,
    Dtype::Q6_K,
    Dtype::Q8_0,
    Dtype::F16,
];

/// Types with codebooks: less error than others of their size, for kernels that look every few weights up in a table.
pub(super) const CODEBOOKS: [Dtype; 5] = [
    Dtype::IQ2_XXS,
    Dtype::IQ2_XS,
    Dtype::IQ2_S,
    Dtype::IQ3_XXS,
    Dtype::IQ3_S,
];

/// The type of tensors in probes: the error of 4 bits, where divergence is still in proportion to error.
pub const PROBE: Dtype = Dtype::Q4_0;

/// Weights of each tensor whose errors are measured.
const SAMPLE: u64 = 1 << 17;

/// What each type of each tensor costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sensitivities {
    /// The tensors whose types are chosen.
    pub tensors: Vec<TensorSensitivity>,
}

/// What each type of a tensor costs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSensitivity {
    /// Its name.
    pub name: String,
    /// Its block.
    pub block: Option<u32>,
    /// Its kind.
    pub role: TensorRole,
    /// The divergence that an error as large as the weights would add if divergence stayed in proportion, in nats.
    pub factor: f64,
    /// Types with their bytes in a file and the divergence that each is expected to add, in nats.
    pub options: Vec<TypeOption>,
}

/// A stage of the search, for progress.
#[derive(Clone, Copy, Debug)]
pub enum SearchStage<'a> {
    /// Errors of so many of so many tensors were sampled.
    Errors(usize, usize),
    /// These of so many probes were made.
    Probes(&'a Probes, usize),
}

/// What the search works on.
pub struct Search<'a> {
    /// The model's description.
    pub model: &'a ModelSpec,
    /// Its tensors, planned with [`PROBE`] as the type of all that may be quantized.
    pub tensors: &'a [PlannedTensor<'a>],
    /// The text of the probes.
    pub text: &'a ProbeTokens,
    /// Ends the search when it becomes true.
    pub cancel: &'a AtomicBool,
}

/// A choice of types.
#[derive(Clone, Debug, PartialEq)]
pub struct Mix {
    /// By name.
    pub types: BTreeMap<String, Dtype>,
    /// The divergence that is expected, in nats.
    pub divergence: f64,
}

/// Measures what each type of each tensor costs.
///
/// # Errors
/// [`QualityError`]: the model cannot be evaluated, weights cannot be read, or `cancel` became true.
pub fn measure(
    search: &Search<'_>,
    model: &mut Model,
    probes: Probes,
    progress: &mut (dyn FnMut(SearchStage<'_>) + Send),
) -> Result<Sensitivities, QualityError> {
    let described: BTreeMap<&str, (Option<u32>, TensorRole)> = search
        .model
        .tensors
        .iter()
        .map(|tensor| (tensor.name.as_str(), (tensor.layer, tensor.role)))
        .collect();
    let chosen = search
        .tensors
        .iter()
        .filter(|planned| planned.assigned.reason != Reason::Kept);
    let chosen: Vec<ProbedTensor<'_>> = chosen
        .filter_map(|planned| {
            let &(block, role) = described.get(planned.name)?;
            Some(ProbedTensor {
                planned,
                block,
                role,
            })
        })
        .collect();
    let planned: Vec<&PlannedTensor<'_>> = chosen.iter().map(|tensor| tensor.planned).collect();
    let errors = errors(&planned, &CANDIDATES, search.cancel, progress)?;
    let tell = &mut |probes: &Probes, of| progress(SearchStage::Probes(probes, of));
    let Probes { blocks, kinds } = probe(model, &chosen, search.text, probes, search.cancel, tell)?;
    let probed: Vec<Probed> = chosen
        .iter()
        .zip(&errors)
        .map(|(tensor, errors)| Probed {
            block: tensor.block,
            role: tensor.role,
            error: errors
                .iter()
                .find(|(dtype, _)| *dtype == PROBE)
                .map_or(0.0, |(_, error)| *error),
        })
        .collect();
    let costs = sensitivities(&probed, &blocks, &kinds);
    let tensors = chosen.iter().zip(errors).zip(costs);
    let tensors = tensors.map(|((tensor, errors), factor)| TensorSensitivity {
        name: tensor.planned.name.to_owned(),
        block: tensor.block,
        role: tensor.role,
        factor,
        options: options(tensor.planned, errors, factor),
    });
    Ok(Sensitivities {
        tensors: tensors.collect(),
    })
}

/// Measures what types with codebooks cost too. `tensors` are those of the search that measured.
///
/// # Errors
/// [`QualityError`]: weights cannot be read, or `cancel` became true.
pub fn measure_codebooks(
    tensors: &[PlannedTensor<'_>],
    sensitivities: &mut Sensitivities,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(SearchStage<'_>) + Send),
) -> Result<(), QualityError> {
    let planned: BTreeMap<&str, &PlannedTensor<'_>> = tensors
        .iter()
        .map(|planned| (planned.name, planned))
        .collect();
    let measured = sensitivities.tensors.iter_mut();
    let (of, planned): (Vec<_>, Vec<_>) = measured
        .filter_map(|tensor| Some((planned.get(tensor.name.as_str()).copied()?, tensor)))
        .map(|(planned, tensor)| (tensor, planned))
        .unzip();
    let errors = errors(&planned, &CODEBOOKS, cancel, progress)?;
    for ((tensor, planned), errors) in of.into_iter().zip(planned).zip(errors) {
        tensor
            .options
            .extend(options(planned, errors, tensor.factor));
    }
    Ok(())
}

/// The options of a tensor with these errors.
fn options(tensor: &PlannedTensor<'_>, errors: Vec<(Dtype, f64)>, factor: f64) -> Vec<TypeOption> {
    let option = |(dtype, error): (Dtype, f64)| {
        let bytes = dtype.bytes(&tensor.shape)?.0;
        Some(TypeOption {
            dtype,
            bytes: bytes.next_multiple_of(crate::gguf::ALIGNMENT),
            cost: factor * error,
        })
    };
    errors.into_iter().filter_map(option).collect()
}

/// Those of `types` that `tensor` may get: llama.cpp encodes some only with an importance matrix.
pub(super) fn possible(
    tensor: &PlannedTensor<'_>,
    types: &[Dtype],
    has_importance: bool,
) -> impl Iterator<Item = Dtype> {
    let row = tensor.shape.last().copied().unwrap_or(1);
    let types = types.iter().copied();
    types.filter(move |dtype| dtype.divides(row) && (has_importance || !dtype.needs_importance()))
}

/// The errors of those of `types` that each tensor may get.
fn errors(
    tensors: &[&PlannedTensor<'_>],
    types: &[Dtype],
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(SearchStage<'_>) + Send),
) -> Result<Vec<Vec<(Dtype, f64)>>, QualityError> {
    let told = Mutex::new((0, progress));
    parallel::try_map(decode::threads(), tensors.iter(), |tensor| {
        if cancel.load(Ordering::Relaxed) {
            return Err(QualityError::Interrupted);
        }
        let types: Vec<Dtype> = possible(tensor, types, tensor.importance.is_some()).collect();
        let errors = sampled_errors(tensor, &types, SAMPLE)?;
        if let Ok(mut told) = told.lock() {
            let (done, progress) = &mut *told;
            *done += 1;
            progress(SearchStage::Errors(*done, tensors.len()));
        }
        Ok(types.into_iter().zip(errors).collect())
    })
}

/// The mix of types that are `allowed` that is expected to diverge least whose tensors have at most `bytes`, padding
/// included; `None` if the smallest types have more.
pub fn mix(
    sensitivities: &Sensitivities,
    bytes: u64,
    allowed: impl Fn(Dtype) -> bool,
) -> std::option::Option<Mix> {
    let of = |tensor: &TensorSensitivity| {
        let options = tensor.options.iter();
        options.filter(|o| allowed(o.dtype)).copied().collect()
    };
    let options: Vec<Vec<TypeOption>> = sensitivities.tensors.iter().map(of).collect();
    let chosen = choose(&options, bytes)?;
    let mut mix = Mix {
        types: BTreeMap::new(),
        divergence: 0.0,
    };
    let tensors = sensitivities.tensors.iter().zip(&options);
    for ((tensor, options), index) in tensors.zip(chosen) {
        let option = options.get(index)?;
        mix.types.insert(tensor.name.clone(), option.dtype);
        mix.divergence += option.cost;
    }
    Some(mix)
}
