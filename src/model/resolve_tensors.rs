//! The tensors of a model from the stored ones: each stored tensor is given to the rows that are made
//! from it, and each row's tensor is gathered from its parts.
//!
//! In: logical tensors by name pattern. Out: tensors in llama.cpp's names and shapes, checked against
//! what the configuration implies. Must not: know how a weight was packed.

use std::collections::{BTreeMap, HashMap};

use super::ModelError;
use super::arch::{Arch, Row, RowSite, ShapeParams};
use super::packed::FoldedWeight;
use super::role::TensorRole;
use super::rows::{made, other, sites};
use super::sorted::{Entry, Sorted};
use super::spec::{Cache, Dims, Layer, Tensor};
use crate::dtype::{Dtype, elements};
use crate::units::Bytes;

/// What a checkpoint is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strict {
    /// Shapes alone: an assumed architecture may lack rows and hold strangers.
    Nothing,
    /// No row may lack its tensor; strangers stand under their own names, to be looked at.
    Rows,
    /// Every tensor must be a row's, too.
    All,
}

/// The tensors of a checkpoint, each found by its row, checked against the row's shape; and how
/// many of the stored weights are none of the model's: padding of packed words.
pub(super) fn from_stored(
    arch: &Arch,
    dims: &Dims,
    params: &ShapeParams,
    layers: &[Layer],
    sorted: Sorted,
    strict: Strict,
) -> Result<(Vec<Tensor>, u64), ModelError> {
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    let all: Vec<&Row> = arch.rows().collect();
    for (index, row) in all.iter().enumerate() {
        for name in row.names {
            rows.entry(name).or_default().push(index);
        }
    }
    // Experts come one by one and are gathered under their row and block.
    let mut parts: BTreeMap<(usize, Option<u32>), Vec<StoredPart>> = BTreeMap::new();
    let mut strangers = Vec::new();
    let mut padding = 0u64;
    for (position, entry) in sorted.text.iter().enumerate() {
        let block = |row: usize| {
            if all[row].role.info().block {
                entry.numbers.first().copied()
            } else {
                None
            }
        };
        let site = |row: usize| {
            let layer = layers.get(block(row).unwrap_or(0) as usize)?;
            Some(RowSite {
                dims,
                params,
                layer,
            })
        };
        let found = rows.get(entry.pattern.as_str());
        let found = found.map_or(&[][..], Vec::as_slice);
        let found: Vec<(usize, RowSite<'_>)> = found
            .iter()
            .filter_map(|&row| Some((row, site(row)?)))
            .collect();
        // Where one name can stand for several rows, those that the configuration calls for count.
        let called_for = |(row, site): &(usize, RowSite<'_>)| (all[*row].when)(site);
        let any = found.iter().any(called_for);
        let found = found.into_iter().filter(|f| !any || called_for(f));
        let mut shared = 0u64;
        let mut taken = Vec::new();
        for (row, site) in found {
            let wanted = elements(&(all[row].shape)(&site));
            let number = usize::from(block(row).is_some());
            taken.push((row, entry.numbers.get(number).copied(), shared));
            shared = shared.saturating_add(wanted);
        }
        if taken.is_empty() {
            strangers.push(position);
        }
        for (row, number, before) in taken {
            parts
                .entry((row, block(row)))
                .or_default()
                .push(StoredPart {
                    number,
                    position,
                    before,
                    shared,
                });
        }
    }
    if strict == Strict::All && !strangers.is_empty() {
        let strangers = strangers.iter().filter_map(|&i| sorted.text.get(i));
        return Err(unaccounted(arch, layers.len(), strangers));
    }
    let mut tensors = Vec::new();
    for (row_index, row) in all.iter().enumerate() {
        for (layer, site) in sites(row, dims, params, layers) {
            let expected = (row.shape)(&site);
            match parts.get_mut(&(row_index, layer)) {
                Some(found) => {
                    found.sort_unstable();
                    numbered(found, &sorted.text, expected.first().copied().unwrap_or(0))?;
                    let (tensor, padded) = gather(row, layer, expected, found, &sorted.text)?;
                    tensors.push(tensor);
                    padding = padding.saturating_add(padded);
                }
                None if row.names.is_empty() && (row.when)(&site) => {
                    let bytes = Dtype::F32.bytes(&expected).unwrap_or(Bytes(0));
                    tensors.push(made(row, layer, expected, Dtype::F32, bytes, Vec::new()));
                }
                None if strict != Strict::Nothing && (row.when)(&site) && !is_spare(row, &site) => {
                    return Err(missing(row, layer, &sorted.text));
                }
                None => {}
            }
        }
    }
    let mut keep: Vec<Option<Entry>> = sorted.text.into_iter().map(Some).collect();
    tensors.extend(
        strangers
            .into_iter()
            .filter_map(|i| keep[i].take())
            .map(|entry| other(entry.logical)),
    );
    Ok((tensors, padding))
}

/// The error for tensors that no row has a place for.
fn unaccounted<'a>(
    arch: &Arch,
    blocks: usize,
    strangers: impl Iterator<Item = &'a Entry>,
) -> ModelError {
    let strangers: Vec<&Entry> = strangers.collect();
    let name = |entry: &&Entry| entry.logical.name.clone();
    let beyond = |entry: &&Entry| {
        let number = entry.numbers.first().map(|&n| n as usize);
        entry.pattern.starts_with("layers.{}.") && number.is_some_and(|n| n >= blocks)
    };
    let further: Vec<&Entry> = strangers.iter().copied().filter(beyond).collect();
    if let Some(first) = further.first() {
        let numbers = further.iter().filter_map(|e| e.numbers.first().copied());
        return ModelError::BlocksBeyond {
            stated: blocks,
            stored: numbers.max().unwrap_or(0) as usize + 1,
            tensor: name(first),
        };
    }
    ModelError::Unaccounted {
        tensors: strangers.iter().take(NAMED).map(name).collect(),
        count: strangers.len(),
        architecture: arch.name,
    }
}

/// How many strangers an error names.
pub(super) const NAMED: usize = 3;

/// The error for a row without its tensor: under the prefix that the checkpoint's other names have.
fn missing(row: &Row, layer: Option<u32>, text: &[Entry]) -> ModelError {
    let number = layer.map_or_else(String::new, |l| l.to_string());
    let name = row.names.first().copied().unwrap_or_default();
    let name = name.replacen("{}", &number, 1).replacen("{}", "0", 1);
    let prefix = |entry: &Entry| {
        let bare = with_numbers(&entry.pattern, entry.numbers.iter().copied());
        entry.logical.name.strip_suffix(&bare).map(str::to_owned)
    };
    let alike = text
        .iter()
        .find(|e| e.pattern.starts_with("layers.{}.") == layer.is_some());
    let prefix = alike.and_then(prefix).filter(|_| name != "lm_head.weight");
    ModelError::MissingTensor {
        tensor: prefix.unwrap_or_default() + &name,
    }
}

/// `pattern` with each `{}` as its number.
fn with_numbers(pattern: &str, numbers: impl Iterator<Item = u32>) -> String {
    numbers.fold(pattern.to_owned(), |name, number| {
        name.replacen("{}", &number.to_string(), 1)
    })
}

/// That parts with numbers, experts in most cases, are those from 0 to `count`, each once, and that
/// no other tensor is stored twice under two prefixes.
fn numbered(found: &[StoredPart], text: &[Entry], count: u64) -> Result<(), ModelError> {
    let entry = |part: &StoredPart| &text[part.position];
    let mut patterns: Vec<&str> = found.iter().map(|part| &*entry(part).pattern).collect();
    patterns.sort_unstable();
    patterns.dedup();
    for pattern in patterns {
        let mut next = 0;
        let of_pattern = || found.iter().filter(|part| entry(part).pattern == pattern);
        let named = |part: &StoredPart, number: u32| {
            let entry = entry(part);
            let before = entry
                .numbers
                .split_last()
                .map_or(&[][..], |(_, before)| before);
            let bare = with_numbers(pattern, entry.numbers.iter().copied());
            let prefix = entry.logical.name.strip_suffix(&bare).unwrap_or_default();
            let numbers = before.iter().copied().chain([number]);
            format!("{prefix}{}", with_numbers(pattern, numbers))
        };
        let mut last = None;
        for part in of_pattern() {
            if let Some(one) = last
                && entry(one).numbers == entry(part).numbers
            {
                return Err(ModelError::StoredTwice {
                    one: entry(one).logical.name.clone(),
                    other: entry(part).logical.name.clone(),
                });
            }
            last = Some(part);
            let Some(number) = part.number else { continue };
            if number != next {
                return Err(ModelError::MissingTensor {
                    tensor: named(part, next),
                });
            }
            if u64::from(number) >= count {
                return Err(ModelError::NumberBeyond {
                    tensor: entry(part).logical.name.clone(),
                    count,
                });
            }
            next = number + 1;
        }
        if let Some(part) = last
            && part.number.is_some()
            && u64::from(next) < count
        {
            return Err(ModelError::MissingTensor {
                tensor: named(part, next),
            });
        }
    }
    Ok(())
}

/// Whether a block can do without the tensor because it reuses the keys and values of another.
/// Published checkpoints hold them all the same; Transformers does not save them.
pub(super) fn is_spare(row: &Row, site: &RowSite<'_>) -> bool {
    let attention = site.layer.mixer.attention.as_ref();
    let kept = matches!(
        row.role,
        TensorRole::AttnK | TensorRole::AttnV | TensorRole::AttnKNorm
    );
    kept && attention.is_some_and(|a| a.cache == Cache::Shared)
}

/// A stored tensor as a part of a row's tensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StoredPart {
    /// The expert's number, where experts are stored one by one.
    number: Option<u32>,
    /// Which of the stored tensors.
    position: usize,
    /// Weights of the rows before this one that are made from the same stored tensor.
    before: u64,
    /// Weights of all the rows that are made from it (a gate and an up projection, say).
    shared: u64,
}

/// One GGUF tensor from the stored tensors of its row: one, or one per expert; and how many of the
/// stored weights are padding (counted with the first of the rows that share them).
fn gather(
    row: &Row,
    layer: Option<u32>,
    expected: Vec<u64>,
    found: &[StoredPart],
    text: &[Entry],
) -> Result<(Tensor, u64), ModelError> {
    let logical = || found.iter().map(|part| &text[part.position].logical);
    if let Some(weight) = logical().find(|weight| is_unscaled(weight)) {
        return Err(ModelError::Unscaled {
            tensor: weight.name.clone(),
            found: weight.dtype,
        });
    }
    let (first, StoredPart { before, shared, .. }) = (&text[found[0].position].logical, found[0]);
    let wanted = elements(&expected);
    if wanted == u64::MAX || shared == u64::MAX {
        return Err(ModelError::TooLarge {
            tensor: first.name.clone(),
            shape: expected,
        });
    }
    let sum = |of: fn(&FoldedWeight) -> u64| logical().map(of).fold(0, u64::saturating_add);
    let stored = sum(|l| elements(&l.shape));
    let padding = stored.saturating_sub(shared);
    // A matrix of its own must not be the transposed one either.
    let turned = match (first.shape.as_slice(), expected.as_slice()) {
        (&[rows, _], &[expected, _]) => found.len() == 1 && shared == wanted && rows != expected,
        _ => false,
    };
    let fits = stored >= shared && padding <= sum(|l| l.slack) && !turned;
    let embedding = matches!(
        row.role,
        TensorRole::TokenEmbedding | TensorRole::Output | TensorRole::PerLayerEmbedding
    );
    let resized = embedding && first.shape.last() == expected.last();
    if !(fits || resized) {
        return Err(ModelError::ShapeMismatch {
            tensor: first.name.clone(),
            found: first.shape.clone(),
            expected,
        });
    }
    // Rows that share a stored tensor share its bytes by weight, to the last one.
    let all_bytes: Bytes = logical().map(|l| l.bytes).sum();
    let up_to = |weights: u64| {
        let part = u128::from(all_bytes.0) * u128::from(weights) / u128::from(shared.max(1));
        part as u64
    };
    let bytes = Bytes(up_to(before + wanted) - up_to(before));
    let sources = logical().flat_map(|l| l.sources.iter().copied()).collect();
    let tensor = made(row, layer, expected, first.dtype, bytes, sources);
    let counted = fits && before == 0;
    Ok((tensor, if counted { padding } else { 0 }))
}

/// Whether a weight is of integers, with nothing stored beside it.
fn is_unscaled(weight: &FoldedWeight) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    let integers = matches!(
        weight.dtype,
        I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | BOOL
    );
    integers && weight.sources.len() == 1
}
