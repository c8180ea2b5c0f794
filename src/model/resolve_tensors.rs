//! The tensors of a model from the stored ones: each stored weight is assigned to the rows that are made from it, and
//! the tensor of each row is assembled from its parts.
//!
//! In: weights by name pattern. Out: tensors with llama.cpp's names and shapes, checked against the configuration. Must
//! not: know how a weight was packed.

use std::collections::{BTreeMap, HashMap};

use super::ModelError;
use super::arch::{Arch, RowParts, RowSite, ShapeParams, TensorRow};
use super::packed::FoldedWeight;
use super::role::TensorRole;
use super::rows::{instantiate, other, sites};
use super::sorted::{ParsedWeight, Sorted};
use super::spec::{Cache, Dims, Layer};
use super::tensor::Tensor;
use crate::dtype::{Dtype, elements};
use crate::units::Bytes;

/// How strictly a checkpoint must match the rows of its architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strictness {
    /// Only shapes are checked: with an assumed architecture, tensors may be missing or unknown.
    Nothing,
    /// No row may lack its tensor; unknown tensors are listed under their own names.
    Rows,
    /// No row may lack its tensor, and no tensor may be unknown.
    All,
}

/// The tensors of a checkpoint, each checked against the shape of its row, and the number of stored elements that are
/// only padding of packed words.
///
/// Errors if a tensor is missing, unknown (as far as `strict` demands), stored twice, or has another shape.
pub(super) fn from_stored(
    arch: &Arch,
    dims: &Dims,
    params: &ShapeParams,
    layers: &[Layer],
    sorted: Sorted,
    strict: Strictness,
) -> Result<(Vec<Tensor>, u64), ModelError> {
    let mut rows: HashMap<&str, Vec<usize>> = HashMap::new();
    let all: Vec<&TensorRow> = arch.rows().collect();
    for (index, row) in all.iter().enumerate() {
        for name in row.names {
            rows.entry(name).or_default().push(index);
        }
    }
    // Experts are stored one by one and are collected under their row and block.
    let mut parts: BTreeMap<(usize, Option<u32>), Vec<RowPart>> = BTreeMap::new();
    let mut unknown = Vec::new();
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
            let number = block(row).unwrap_or(0);
            Some(RowSite {
                dims,
                params,
                layer: layers.get(number as usize)?,
                block: number.into(),
            })
        };
        let found = rows.get(entry.pattern.as_str());
        let found = found.map_or(&[][..], Vec::as_slice);
        let found: Vec<(usize, RowSite<'_>)> = found
            .iter()
            .filter_map(|&row| Some((row, site(row)?)))
            .collect();
        // If several rows have this name, those that the configuration calls for count.
        let called_for = |(row, site): &(usize, RowSite<'_>)| (all[*row].when)(site);
        let any = found.iter().any(called_for);
        let found = found.into_iter().filter(|f| !any || called_for(f));
        let mut shared = 0u64;
        let mut taken = Vec::new();
        for (row, site) in found {
            let wanted = elements(&(all[row].shape)(&site));
            let names = all[row].names;
            let number = match all[row].parts {
                RowParts::Stacked => {
                    let place = names.iter().position(|name| *name == entry.pattern);
                    place.and_then(|place| u32::try_from(place).ok())
                }
                _ => {
                    let behind = usize::from(block(row).is_some());
                    entry.numbers.get(behind).copied()
                }
            };
            if all[row].parts == RowParts::Copied {
                taken.push((row, number, 0, Some(wanted)));
            } else {
                taken.push((row, number, shared, None));
                shared = shared.saturating_add(wanted);
            }
        }
        if taken.is_empty() {
            unknown.push(position);
        }
        for (row, number, before, whole) in taken {
            parts.entry((row, block(row))).or_default().push(RowPart {
                number,
                position,
                before,
                shared: whole.unwrap_or(shared),
            });
        }
    }
    if strict == Strictness::All && !unknown.is_empty() {
        let unknown = unknown.iter().filter_map(|&i| sorted.text.get(i));
        return Err(unaccounted(arch, layers.len(), unknown));
    }
    let mut tensors = Vec::new();
    for (row_index, row) in all.iter().enumerate() {
        for (layer, site) in sites(row, dims, params, layers) {
            let expected = (row.shape)(&site);
            match parts.get_mut(&(row_index, layer)) {
                Some(found) => {
                    found.sort_unstable();
                    let count = expected.first().copied().unwrap_or(0);
                    match row.parts {
                        RowParts::Stacked => check_stack(row, layer, found, &sorted.text)?,
                        // Whether there are enough of them shows in their elements.
                        RowParts::Scattered => {}
                        RowParts::Usual | RowParts::Copied => {
                            check_numbers(found, &sorted.text, count)?;
                        }
                    }
                    let skipped = match row.role {
                        TensorRole::Positions => {
                            dims.hidden.saturating_mul(params.skipped_positions)
                        }
                        _ => 0,
                    };
                    let (tensor, padded) =
                        gather(row, layer, (expected, skipped), found, &sorted.text)?;
                    tensors.push(tensor);
                    padding = padding.saturating_add(padded);
                }
                None if row.names.is_empty() && (row.when)(&site) => {
                    let bytes = Dtype::F32.bytes(&expected).unwrap_or(Bytes(0));
                    tensors.push(instantiate(
                        row,
                        layer,
                        expected,
                        Dtype::F32,
                        bytes,
                        Vec::new(),
                    ));
                }
                None if strict != Strictness::Nothing
                    && (row.when)(&site)
                    && !is_spare(row, &site) =>
                {
                    return Err(missing(row, layer, &sorted.text));
                }
                None => {}
            }
        }
    }
    let mut keep: Vec<Option<ParsedWeight>> = sorted.text.into_iter().map(Some).collect();
    tensors.extend(
        unknown
            .into_iter()
            .filter_map(|i| keep[i].take())
            .map(|entry| other(entry.logical)),
    );
    Ok((tensors, padding))
}

/// The error for tensors that belong to no row.
fn unaccounted<'a>(
    arch: &Arch,
    blocks: usize,
    unknown: impl Iterator<Item = &'a ParsedWeight>,
) -> ModelError {
    let unknown: Vec<&ParsedWeight> = unknown.collect();
    let name = |entry: &&ParsedWeight| entry.logical.name.clone();
    let beyond = |entry: &&ParsedWeight| entry.block().is_some_and(|n| n as usize >= blocks);
    let further: Vec<&ParsedWeight> = unknown.iter().copied().filter(beyond).collect();
    if let Some(first) = further.first() {
        let numbers = further.iter().filter_map(|e| e.numbers.first().copied());
        return ModelError::BlocksBeyond {
            stated: blocks,
            stored: numbers.max().unwrap_or(0) as usize + 1,
            tensor: name(first),
        };
    }
    ModelError::Unaccounted {
        tensors: unknown.iter().take(NAMED).map(name).collect(),
        count: unknown.len(),
        architecture: arch.name,
    }
}

/// The number of unknown tensors that an error names.
pub(super) const NAMED: usize = 3;

/// The error for a row without its tensor, named with the prefix of the checkpoint's other tensors.
fn missing(row: &TensorRow, layer: Option<u32>, text: &[ParsedWeight]) -> ModelError {
    let number = layer.map_or_else(String::new, |l| l.to_string());
    let name = row.names.first().copied().unwrap_or_default();
    let name = name.replacen("{}", &number, 1).replacen("{}", "0", 1);
    let prefix = |entry: &ParsedWeight| {
        let bare = with_numbers(&entry.pattern, entry.numbers.iter().copied());
        entry.logical.name.strip_suffix(&bare).map(str::to_owned)
    };
    let alike = text
        .iter()
        .find(|entry| entry.block().is_some() == layer.is_some());
    let prefix = alike.and_then(prefix).filter(|_| name != "lm_head.weight");
    ModelError::MissingTensor {
        tensor: prefix.unwrap_or_default() + &name,
    }
}

/// `pattern` with the numbers in place of each `{}`.
fn with_numbers(pattern: &str, numbers: impl Iterator<Item = u32>) -> String {
    numbers.fold(pattern.to_owned(), |name, number| {
        name.replacen("{}", &number.to_string(), 1)
    })
}

/// Checks that numbered parts (experts) are those from 0 to `count - 1`, each once, and that no other tensor is stored
/// twice under two prefixes.
fn check_numbers(found: &[RowPart], text: &[ParsedWeight], count: u64) -> Result<(), ModelError> {
    let entry = |part: &RowPart| &text[part.position];
    let mut patterns: Vec<&str> = found.iter().map(|part| &*entry(part).pattern).collect();
    patterns.sort_unstable();
    patterns.dedup();
    for pattern in patterns {
        let mut next = 0;
        let of_pattern = || found.iter().filter(|part| entry(part).pattern == pattern);
        let named = |part: &RowPart, number: u32| {
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

/// Checks that each of the names of a stacked `row` is stored, and once.
fn check_stack(
    row: &TensorRow,
    layer: Option<u32>,
    found: &[RowPart],
    text: &[ParsedWeight],
) -> Result<(), ModelError> {
    for (place, name) in row.names.iter().enumerate() {
        let named = |part: &&RowPart| part.number.is_some_and(|n| n as usize == place);
        let mut parts = found.iter().filter(named);
        match (parts.next(), parts.next()) {
            (Some(_), None) => {}
            (Some(one), Some(other)) => {
                let name = |part: &RowPart| text[part.position].logical.name.clone();
                return Err(ModelError::StoredTwice {
                    one: name(one),
                    other: name(other),
                });
            }
            (None, _) => {
                let number = layer.unwrap_or(0).to_string();
                return Err(ModelError::MissingTensor {
                    tensor: name.replacen("{}", &number, 1),
                });
            }
        }
    }
    Ok(())
}

/// Whether a tensor may be missing because its block reuses the keys and values of another block.
/// Published checkpoints hold it nevertheless; Transformers does not save it.
pub(super) fn is_spare(row: &TensorRow, site: &RowSite<'_>) -> bool {
    let attention = site.layer.mixer.attention.as_ref();
    let kept = matches!(
        row.role,
        TensorRole::AttnK | TensorRole::AttnV | TensorRole::AttnKNorm
    );
    kept && attention.is_some_and(|a| a.cache == Cache::Shared)
}

/// A stored weight as a part of a row's tensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct RowPart {
    /// The expert's number, where experts are stored one by one.
    number: Option<u32>,
    /// Index of the stored weight.
    position: usize,
    /// Elements of the rows before this one that are made from the same stored weight.
    before: u64,
    /// Elements of all rows that are made from it (for instance a gate and an up projection).
    shared: u64,
}

/// The tensor of a row from its stored weights (one, or one per expert) without the `skipped` elements, and how many of the stored elements are padding
/// (counted with the first of the rows that share them).
fn gather(
    row: &TensorRow,
    layer: Option<u32>,
    (expected, skipped): (Vec<u64>, u64),
    found: &[RowPart],
    text: &[ParsedWeight],
) -> Result<(Tensor, u64), ModelError> {
    let logical = || found.iter().map(|part| &text[part.position].logical);
    if let Some(weight) = logical().find(|weight| is_unscaled(weight)) {
        return Err(ModelError::Unscaled {
            tensor: weight.name.clone(),
            found: weight.dtype,
        });
    }
    let (first, RowPart { before, shared, .. }) = (&text[found[0].position].logical, found[0]);
    let wanted = elements(&expected);
    if wanted == u64::MAX || shared == u64::MAX {
        return Err(ModelError::TooLarge {
            tensor: first.name.clone(),
            shape: expected,
        });
    }
    let sum = |of: fn(&FoldedWeight) -> u64| logical().map(of).fold(0, u64::saturating_add);
    let stored = sum(|l| elements(&l.shape)).saturating_sub(skipped);
    let padding = stored.saturating_sub(shared);
    // A transposed matrix has the right number of elements, and is an error all the same.
    let turned = match (first.shape.as_slice(), expected.as_slice()) {
        (&[rows, _], &[expected, _]) if skipped == 0 => {
            found.len() == 1 && shared == wanted && rows != expected
        }
        _ => false,
    };
    let fits = stored >= shared && padding <= sum(|l| l.slack) && !turned;
    // Conversion pads these to the vocabulary; an output head needs the rows of its embedding.
    let embedding = matches!(
        row.role,
        TensorRole::TokenEmbedding | TensorRole::PerLayerEmbedding
    );
    let resized = embedding && first.shape.last() == expected.last();
    if !(fits || resized) {
        return Err(ModelError::ShapeMismatch {
            tensor: first.name.clone(),
            found: first.shape.clone(),
            expected,
        });
    }
    // Rows that share a stored weight share its bytes in proportion to their elements, without a rounding error in the
    // sum.
    let all_bytes: Bytes = logical().map(|l| l.bytes).sum();
    let up_to = |weights: u64| {
        let part = u128::from(all_bytes.0) * u128::from(weights) / u128::from(shared.max(1));
        part as u64
    };
    let bytes = Bytes(up_to(before + wanted) - up_to(before));
    let sources = logical().flat_map(|l| l.sources.iter().copied()).collect();
    let tensor = instantiate(row, layer, expected, first.dtype, bytes, sources);
    let counted = fits && before == 0;
    Ok((tensor, if counted { padding } else { 0 }))
}

/// Whether a weight is stored as integers without scales.
fn is_unscaled(weight: &FoldedWeight) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    let integers = matches!(
        weight.dtype,
        I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64 | BOOL
    );
    integers && weight.sources.len() == 1
}
