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

/// The types that a tensor may get, those that divide its rows.
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

/// The types that a tensor with rows of this length may get.
pub(super) fn candidates(row: u64) -> impl Iterator<Item = Dtype> {
    CANDIDATES
        .into_iter()
        .filter(move |dtype| dtype.divides(row))
}

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
    let errors = errors(search, &chosen, progress)?;
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
    let tensors = chosen
        .iter()
        .zip(errors)
        .zip(costs)
        .map(|((tensor, errors), cost)| {
            let option = |(dtype, error): (Dtype, f64)| {
                let bytes = dtype.bytes(&tensor.planned.shape)?.0;
                Some(TypeOption {
                    dtype,
                    bytes: bytes.next_multiple_of(crate::gguf::ALIGNMENT),
                    cost: cost * error,
                })
            };
            TensorSensitivity {
                name: tensor.planned.name.to_owned(),
                block: tensor.block,
                role: tensor.role,
                options: errors.into_iter().filter_map(option).collect(),
            }
        });
    Ok(Sensitivities {
        tensors: tensors.collect(),
    })
}

/// The errors of the candidate types of each tensor.
fn errors(
    search: &Search<'_>,
    tensors: &[ProbedTensor<'_>],
    progress: &mut (dyn FnMut(SearchStage<'_>) + Send),
) -> Result<Vec<Vec<(Dtype, f64)>>, QualityError> {
    let told = Mutex::new((0, progress));
    parallel::try_map(decode::threads(), tensors.iter(), |tensor| {
        if search.cancel.load(Ordering::Relaxed) {
            return Err(QualityError::Interrupted);
        }
        let row = tensor.planned.shape.last().copied().unwrap_or(1);
        let types: Vec<Dtype> = candidates(row).collect();
        let errors = sampled_errors(tensor.planned, &types, SAMPLE)?;
        if let Ok(mut told) = told.lock() {
            let (done, progress) = &mut *told;
            *done += 1;
            progress(SearchStage::Errors(*done, tensors.len()));
        }
        Ok(types.into_iter().zip(errors).collect())
    })
}

/// The mix that is expected to diverge least whose tensors have at most `bytes`, padding included; `None` if the smallest
/// types have more.
pub fn mix(sensitivities: &Sensitivities, bytes: u64) -> std::option::Option<Mix> {
    let options: Vec<Vec<TypeOption>> = sensitivities
        .tensors
        .iter()
        .map(|tensor| tensor.options.clone())
        .collect();
    let chosen = choose(&options, bytes)?;
    let mut mix = Mix {
        types: BTreeMap::new(),
        divergence: 0.0,
    };
    for (tensor, index) in sensitivities.tensors.iter().zip(chosen) {
        let option = tensor.options.get(index)?;
        mix.types.insert(tensor.name.clone(), option.dtype);
        mix.divergence += option.cost;
    }
    Some(mix)
}
