//! Lays out the weight files: their names, their sizes, and the position of each tensor.
//!
//! In: a model and a scheme. Out: a [`Prediction`]. Must not: do IO, since plans use it too.

use std::collections::{BTreeMap, HashSet};

use serde_json::json;

use crate::model::{ModelSpec, ServedAlone, served_alone};
use crate::quantize::encoder::{EncodedPart, Encoder};
use crate::quantize::error::QuantizeError;
use crate::quantize::planned::SHARD_BYTES;
use crate::quantize::sink::TensorPlace;
use crate::safetensors::{NewTensor, header};
use crate::scheme::{Groups, Reason, Scheme, StoredWeight, stored_types, symmetric_only};
use crate::units::Bytes;

/// The weight files that will be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Those of [`ModelSpec::stored`], the experts of most stacks one by one.
    pub weights: Vec<StoredWeight>,
    /// The files in order.
    pub shards: Vec<Shard>,
    /// The position of each weight.
    pub(super) places: Vec<TensorPlace>,
}

/// A weight file.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// `model.safetensors`, or `model-00001-of-0000N.safetensors`.
    pub name: String,
    /// Its exact size.
    pub bytes: Bytes,
    /// The bytes before the tensors.
    pub(super) header: Vec<u8>,
    /// The names of its tensors.
    names: Vec<String>,
}

/// [`predict_shards`] with files of at most [`SHARD_BYTES`].
pub fn predict(model: &ModelSpec, scheme: &Scheme) -> Prediction {
    predict_shards(model, scheme, SHARD_BYTES)
}

/// The weight files of `model` in `scheme`. The tensors of a weight stay in one file; a new
/// file starts when the next weight would bring the tensors of a file above `shard_bytes`.
pub fn predict_shards(model: &ModelSpec, scheme: &Scheme, shard_bytes: u64) -> Prediction {
    let weights = stored_types(model, scheme);
    let mut shards: Vec<(Vec<NewTensor>, u64)> = vec![(Vec::new(), 0)];
    // The shard of each weight, and the range of its tensors in the shard.
    let mut spans = Vec::with_capacity(weights.len());
    for weight in &weights {
        let parts = parts(weight.name(model), weight, scheme.groups);
        let bytes = parts
            .iter()
            .fold(0, |n: u64, p| n.saturating_add(p.bytes()));
        let is_full = |(tensors, size): &(Vec<NewTensor>, u64)| {
            !tensors.is_empty() && size.saturating_add(bytes) > shard_bytes
        };
        if shards.last().is_some_and(is_full) {
            shards.push((Vec::new(), 0));
        }
        let number = shards.len() - 1;
        if let Some((tensors, size)) = shards.last_mut() {
            spans.push((number, tensors.len()..tensors.len() + parts.len()));
            tensors.extend(parts);
            *size = size.saturating_add(bytes);
        }
    }
    let count = shards.len();
    let headers: Vec<_> = shards.iter().map(|(tensors, _)| header(tensors)).collect();
    let places = spans.into_iter().map(|(shard, span)| TensorPlace {
        file: shard,
        offsets: headers
            .get(shard)
            .and_then(|header| header.offsets.get(span))
            .map(<[u64]>::to_vec)
            .unwrap_or_default(),
    });
    let places = places.collect();
    let shards = headers.into_iter().zip(shards).enumerate();
    let shards = shards.map(|(number, (header, (tensors, _)))| Shard {
        name: match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        },
        bytes: Bytes(header.file_bytes),
        header: header.bytes,
        names: tensors.into_iter().map(|tensor| tensor.name).collect(),
    });
    Prediction {
        shards: shards.collect(),
        places,
        weights,
    }
}

/// The tensors of one weight, in the order of [`TensorPlace::offsets`].
fn parts(name: &str, weight: &StoredWeight, groups: Option<Groups>) -> Vec<NewTensor> {
    let base = name.strip_suffix(".weight").unwrap_or(name);
    let encoder = match weight.assigned.reason {
        Reason::Default => Encoder::of(weight.assigned.dtype, groups),
        _ => Encoder::Ggml(weight.assigned.dtype),
    };
    let tensor = |part: EncodedPart| NewTensor {
        name: match part.suffix {
            None => name.to_owned(),
            Some(suffix) => format!("{base}.{suffix}"),
        },
        dtype: part.dtype,
        shape: part.shape,
    };
    let parts = encoder.parts(&weight.shape);
    parts.into_iter().map(tensor).collect()
}

impl Prediction {
    /// The sum of the weight files.
    pub fn file_bytes(&self) -> Bytes {
        self.shards.iter().map(|shard| shard.bytes).sum()
    }

    /// The sum of the tensors.
    pub fn tensor_bytes(&self) -> Bytes {
        self.weights
            .iter()
            .map(|weight| weight.assigned.bytes)
            .sum()
    }

    /// `model.safetensors.index.json`, where there are several files.
    pub(super) fn index(&self) -> Option<String> {
        if self.shards.len() < 2 {
            return None;
        }
        let files = self.shards.iter();
        let map: BTreeMap<&str, &str> = files
            .flat_map(|shard| {
                shard
                    .names
                    .iter()
                    .map(|name| (name.as_str(), shard.name.as_str()))
            })
            .collect();
        let index = json!({
            "metadata": {"total_size": self.tensor_bytes().0}, "weight_map": map
        });
        Some(format!("{index:#}\n"))
    }

    /// Checks that the layout can be written.
    pub(super) fn check(&self, model: &ModelSpec, scheme: &Scheme) -> Result<(), QuantizeError> {
        let unread = match served_alone(model) {
            Some(ServedAlone::AsGguf) => Some("only a GGUF of it is loaded: `--scheme q4_k_m`"),
            Some(ServedAlone::Elsewhere(why)) => Some(why),
            Some(ServedAlone::By(_)) | None => None,
        };
        if let Some(why) = unread {
            return Err(QuantizeError::NotServed {
                name: model.name.clone(),
                scheme: scheme.id,
                why,
            });
        }
        let mut names = HashSet::new();
        let all = self.shards.iter().flat_map(|shard| &shard.names);
        if let Some(name) = all.into_iter().find(|name| !names.insert(name.as_str())) {
            return Err(QuantizeError::Twice { name: name.clone() });
        }
        let is_quantized = |w: &StoredWeight| w.assigned.reason == Reason::Default;
        if !self.weights.iter().any(is_quantized) {
            return Err(QuantizeError::NothingToQuantize {
                name: model.name.clone(),
                scheme: scheme.id,
            });
        }
        if let Some(only) = symmetric_only(model, scheme) {
            return Err(QuantizeError::SymmetricOnly {
                name: model.name.clone(),
                what: only.what,
                scheme: scheme.id,
                instead: only.instead.id,
            });
        }
        // Other packed formats stack matrices in different orders and under different names.
        let stacked = |weight: &&StoredWeight| {
            let stored = model.stored.get(weight.source);
            stored.is_some_and(|stored| stored.sources.len() > 1) && weight.shape.len() > 2
        };
        match self.weights.iter().find(stacked) {
            Some(weight) => Err(QuantizeError::PackedStack {
                tensor: weight.name(model).to_owned(),
                scheme: scheme.id,
            }),
            None => Ok(()),
        }
    }
}
