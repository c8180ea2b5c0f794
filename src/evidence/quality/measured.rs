//! A file that measured a model's quality: what `orinplan compare` prints as JSON, or the sensitivities of a model's
//! tensors.
//!
//! In: the text of the file. Out: the divergence of a format. Must not: read files, or apply to another model.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Basis, EIGHT_OF_TEN, Experiment, Quality};
use crate::dtype::Dtype;
use crate::foreign::Foreign;
use crate::input::in_words;
use crate::model::ModelSpec;
use crate::units::Bytes;

const COMPARE: &str = "orinplan.compare/1";
const SENSITIVITY: &str = "orinplan.sensitivity/1";

/// The way out of every error.
const WAY_OUT: &str = "give what `orinplan compare MODEL CANDIDATE.. --format json` printed for this model, or `orinplan quantize MODEL --save-sensitivity` wrote";

/// Why a file of quality cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QualityFileError {
    /// It is not JSON, or lacks what such a document has.
    #[error("{file}: {why}; {WAY_OUT}")]
    Malformed {
        /// The file's name.
        file: String,
        /// What is wrong, and where.
        why: String,
    },
    /// It is another document.
    #[error("{file}: its schema is {found}, not {COMPARE} or {SENSITIVITY}; {WAY_OUT}")]
    Schema {
        /// The file's name.
        file: String,
        /// The schema, or `missing`.
        found: String,
    },
    /// It is of another model.
    #[error("{file} measured {measured}, but the plan is for {planned}; {WAY_OUT}")]
    OtherModel {
        /// The file's name.
        file: String,
        /// The model in the file.
        measured: String,
        /// The model that is planned.
        planned: String,
    },
}

/// What a file says about a model's quality.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredQuality {
    model: Subject,
    experiment: Experiment,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Compared(Vec<Compared>),
    Sensitivity {
        tensors: BTreeMap<String, BTreeMap<String, f64>>,
        relative_uncertainty: f64,
    },
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Subject {
    name: String,
    architecture: String,
    parameters: u64,
}

#[derive(Deserialize)]
struct Text {
    name: String,
    scored_tokens: u64,
}

/// The cache that a format is judged with where none of the planned types was measured; what another costs is added.
pub const PLAIN_CACHE: [Dtype; 2] = [Dtype::F16; 2];

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Compared {
    format: String,
    bytes: u64,
    /// Of keys and values, in documents of the form before they were named apart.
    kv_type: Option<String>,
    kv_type_k: Option<String>,
    kv_type_v: Option<String>,
    kld: Divergence,
}

impl Compared {
    /// The types of cached keys and values, where they are stated.
    fn kv_types(&self) -> [Option<&String>; 2] {
        [&self.kv_type_k, &self.kv_type_v].map(|own| own.as_ref().or(self.kv_type.as_ref()))
    }

    /// The types of cached keys and values.
    fn dtypes(&self) -> Option<[Dtype; 2]> {
        let [k, v] = self.kv_types();
        Some([Dtype::from_name(k?)?, Dtype::from_name(v?)?])
    }

    /// Whether its weights have 16 bits or more: then all that it lost is the cache's.
    fn is_wide(&self) -> bool {
        Dtype::from_name(&self.format).is_some_and(is_wide)
    }

    /// The format with its cache: `Q4_K_M with a cache of q8_0`.
    fn words(&self) -> String {
        let cache = match self.kv_types() {
            [Some(k), Some(v)] if k == v => format!("{} cache", Foreign(k)),
            [Some(k), Some(v)] => format!("{} and {} cache", Foreign(k), Foreign(v)),
            _ => "cache of unknown type".to_owned(),
        };
        format!("{} with a {cache}", Foreign(&self.format))
    }

    /// Whether it cached keys and values of these types.
    fn cached(&self, kv_types: [Dtype; 2]) -> bool {
        let is = |(own, dtype): (Option<&String>, Dtype)| {
            own.is_some_and(|own| own.eq_ignore_ascii_case(dtype.name()))
        };
        self.kv_types().into_iter().zip(kv_types).all(is)
    }
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Divergence {
    mean: f64,
    standard_error: f64,
}

#[derive(Deserialize)]
struct CompareDocument {
    model: Subject,
    text: Text,
    candidates: Vec<Compared>,
}

#[derive(Deserialize)]
struct SensitivityDocument {
    model: Subject,
    text: Text,
    tensors: Vec<TensorCost>,
    relative_uncertainty: f64,
}

#[derive(Deserialize)]
struct TensorCost {
    name: String,
    kld: BTreeMap<String, f64>,
}

/// The file of a plan, as far as a measurement may be of it.
#[derive(Clone, Copy, Debug)]
pub struct PlannedFile<'a> {
    /// The scheme's name.
    pub format: &'a str,
    /// The size of the file.
    pub bytes: Bytes,
    /// The types of cached keys and of cached values.
    pub kv_types: [Dtype; 2],
    /// The type of each of the model's tensors.
    pub types: &'a [Dtype],
}

impl MeasuredQuality {
    /// Reads the text of the file called `file`.
    ///
    /// # Errors
    /// [`QualityFileError`] where it is no such document, or has a number that no measurement gives.
    pub fn parse(file: &str, text: &str) -> Result<MeasuredQuality, QualityFileError> {
        let named = || Foreign(file).to_string();
        let malformed = |why: String| QualityFileError::Malformed { file: named(), why };
        let not_json = |error: serde_json::Error| {
            malformed(Foreign(&in_words(&error.to_string())).to_string())
        };
        let document: serde_json::Value = serde_json::from_str(text).map_err(not_json)?;
        let schema = document.get("schema").and_then(|schema| schema.as_str());
        let (model, text, content) = match schema {
            Some(COMPARE) => {
                let read: CompareDocument = serde_json::from_value(document).map_err(not_json)?;
                (read.model, read.text, Content::Compared(read.candidates))
            }
            Some(SENSITIVITY) => {
                let read: SensitivityDocument =
                    serde_json::from_value(document).map_err(not_json)?;
                let tensors = read.tensors.into_iter();
                let content = Content::Sensitivity {
                    tensors: tensors.map(|tensor| (tensor.name, tensor.kld)).collect(),
                    relative_uncertainty: read.relative_uncertainty,
                };
                (read.model, read.text, content)
            }
            other => {
                let found = other.map_or("missing".to_owned(), |found| Foreign(found).to_string());
                return Err(QualityFileError::Schema {
                    file: named(),
                    found,
                });
            }
        };
        if let Some((place, number)) = content.impossible() {
            return Err(malformed(format!(
                "{place} is {number}, which is not a valid measurement"
            )));
        }
        Ok(MeasuredQuality {
            model,
            experiment: Experiment {
                file: named(),
                text: Foreign(&text.name).to_string(),
                tokens: text.scored_tokens,
            },
            content,
        })
    }

    /// Checks that it is of `model`.
    ///
    /// # Errors
    /// [`QualityFileError::OtherModel`] where architecture or number of weights differ.
    pub fn check(&self, model: &ModelSpec) -> Result<(), QualityFileError> {
        let own = &self.model;
        if (own.architecture.as_str(), own.parameters)
            == (model.architecture.as_str(), model.parameters)
        {
            return Ok(());
        }
        let words = |name: &str, architecture: &str, parameters: u64| {
            format!(
                "{} ({}, {parameters} weights)",
                Foreign(name),
                Foreign(architecture)
            )
        };
        Err(QualityFileError::OtherModel {
            file: self.experiment.file.clone(),
            measured: words(&own.name, &own.architecture, own.parameters),
            planned: words(&model.name, &model.architecture, model.parameters),
        })
    }

    /// What a cache of other types cost, where the same format was measured without it, or it is the original's own.
    pub(super) fn caches(&self) -> Vec<([Dtype; 2], Quality)> {
        let Content::Compared(candidates) = &self.content else {
            return Vec::new();
        };
        let of = |candidate: &Compared| {
            let kv_types = candidate.dtypes().filter(|types| *types != PLAIN_CACHE)?;
            let is_plain = |c: &&Compared| {
                c.format.eq_ignore_ascii_case(&candidate.format)
                    && c.bytes == candidate.bytes
                    && c.cached(PLAIN_CACHE)
            };
            let plain = candidates.iter().find(is_plain);
            let (before, error) = match plain {
                Some(plain) => (plain.kld.mean, plain.kld.standard_error),
                None if candidate.is_wide() => (0.0, 0.0),
                None => return None,
            };
            let kld = (candidate.kld.mean - before).max(0.0);
            let error = EIGHT_OF_TEN * candidate.kld.standard_error.hypot(error);
            let cost = Quality {
                kld,
                low: (kld - error).max(0.0),
                high: kld + error,
                basis: Basis::Measured(self.experiment.clone()),
            };
            Some((kv_types, cost))
        };
        candidates.iter().filter_map(of).collect()
    }

    /// The divergence of a planned file of `model` with a cache of the planned types, if it was measured or follows from
    /// what was.
    pub fn of(&self, model: &ModelSpec, planned: PlannedFile<'_>) -> Option<Quality> {
        match &self.content {
            Content::Compared(candidates) => {
                // A file that is no scheme's is known by its size.
                let is_same = |c: &&Compared| {
                    c.format.eq_ignore_ascii_case(planned.format) || c.bytes == planned.bytes.0
                };
                let mut same = candidates.iter().filter(is_same);
                let found = same.find(|c| c.cached(planned.kv_types))?;
                let kld = found.kld.mean;
                let error = EIGHT_OF_TEN * found.kld.standard_error;
                Some(Quality {
                    kld,
                    low: (kld - error).max(0.0),
                    high: kld + error,
                    basis: Basis::Measured(self.experiment.clone()),
                })
            }
            Content::Sensitivity {
                tensors,
                relative_uncertainty,
            } => {
                if planned.kv_types != PLAIN_CACHE {
                    return None;
                }
                let of_tensor = |(name, dtype): (&str, &Dtype)| {
                    if dtype.is_quantized() {
                        tensors.get(name)?.get(dtype.name()).copied()
                    } else {
                        Some(0.0)
                    }
                };
                let names = model.tensors.iter().map(|tensor| tensor.name.as_str());
                let each = names.zip(planned.types).map(of_tensor);
                let kld = each.sum::<Option<f64>>()?;
                Some(Quality {
                    kld,
                    low: kld * (1.0 - relative_uncertainty).max(0.0),
                    high: kld * (1.0 + relative_uncertainty),
                    basis: Basis::Sensitivity(self.experiment.clone()),
                })
            }
        }
    }

    /// What it says where it says nothing of `planned`, the qualities of all plans: the file, and what it measured.
    pub fn unused<'q>(
        &self,
        mut planned: impl Iterator<Item = &'q Quality>,
    ) -> Option<(String, Vec<String>)> {
        let is_of_it =
            |quality: &Quality| matches!(quality.basis, Basis::Measured(_) | Basis::Sensitivity(_));
        if planned.any(is_of_it) {
            return None;
        }
        let measured = match &self.content {
            Content::Compared(candidates) => candidates.iter().map(Compared::words).collect(),
            Content::Sensitivity { .. } => vec!["the types of single tensors".to_owned()],
        };
        Some((self.experiment.file.clone(), measured))
    }

    /// What was measured of whole schemes: their ids with the divergence.
    pub fn schemes(&self) -> Vec<(String, f64)> {
        match &self.content {
            Content::Compared(candidates) => candidates
                .iter()
                .filter(|candidate| candidate.cached(PLAIN_CACHE))
                .map(|candidate| (candidate.format.to_lowercase(), candidate.kld.mean))
                .collect(),
            Content::Sensitivity { .. } => Vec::new(),
        }
    }
}

impl Content {
    /// The first number that is negative or not finite, with its place.
    fn impossible(&self) -> Option<(String, f64)> {
        let numbers: Vec<(String, f64)> = match self {
            Content::Compared(candidates) => candidates
                .iter()
                .flat_map(|candidate| {
                    let of = format!("kld of {}", Foreign(&candidate.format));
                    let error = candidate.kld.standard_error;
                    [
                        (of.clone(), candidate.kld.mean),
                        (format!("standard error of the {of}"), error),
                    ]
                })
                .collect(),
            Content::Sensitivity {
                tensors,
                relative_uncertainty,
            } => {
                let each = tensors.iter().flat_map(|(tensor, costs)| {
                    let place = move |dtype: &str| {
                        format!("kld of {} in {}", Foreign(tensor), Foreign(dtype))
                    };
                    costs.iter().map(move |(dtype, kld)| (place(dtype), *kld))
                });
                let own = ("relative_uncertainty".to_owned(), *relative_uncertainty);
                each.chain([own]).collect()
            }
        };
        let is_possible = |number: f64| number.is_finite() && number >= 0.0;
        numbers
            .into_iter()
            .find(|(_, number)| !is_possible(*number))
    }
}

/// Whether a type holds what is computed as well as one of 16 bits. FP8 does not.
pub(super) fn is_wide(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}
