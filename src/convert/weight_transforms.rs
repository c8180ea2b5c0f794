//! Applies the weight rules of an architecture's entry to a tensor. In: rules, a tensor, hyperparameters. Out: a
//! [`Change`]. Must not: read weights.

use serde_json::Value as Json;

use super::ConvertError;
use super::change::{Change, Permutation, RowSlices, Turn, ValueChange};
use super::source_config::{SourceConfig, bad, missing};
use super::tokenizer;
use crate::model::conversion::{GroupPart, KeyHeadPart, ValueHeads, WeightRule, WeightTransform};
use crate::model::{Attention, Key, Tensor, TensorRole as R};

/// The change of `tensor` by `rules`.
pub(super) fn change(
    rules: &[WeightRule],
    tensor: &Tensor,
    source: &SourceConfig<'_>,
) -> Result<Change, ConvertError> {
    let mut change = Change {
        slices: gate_or_up(tensor),
        ..Change::default()
    };
    let rules = rules.iter().filter(|r| r.roles.contains(&tensor.role));
    for rule in rules {
        match rule.transform {
            // Biases of the same norms are stored as they are.
            WeightTransform::Add(_) if tensor.name.ends_with(".bias") => {}
            WeightTransform::Add(more) => change.value = ValueChange::Add(more),
            WeightTransform::NegatedExp => change.value = ValueChange::NegatedExp,
            WeightTransform::RotaryPairs => change.rows = Some(rotary_pairs(tensor, source, 1)),
            WeightTransform::RotaryPairsOfHalf => {
                change.rows = Some(rotary_pairs(tensor, source, 2));
            }
            WeightTransform::RotaryHalves => change.rows = Some(rotary_halves(tensor, source, 1)),
            WeightTransform::RotaryHalvesOfHalf => {
                change.rows = Some(rotary_halves(tensor, source, 2));
            }
            WeightTransform::Times(name) => {
                let factor = source.float(&[name])?.ok_or_else(|| missing(&[name]))?;
                change.factors.push(factor);
            }
            WeightTransform::TimesListed(name, index) => {
                let factors = listed(name, source)?;
                let factor = factors.get(index).ok_or_else(|| missing(&[name]))?;
                change.factors.push(*factor);
            }
            WeightTransform::TimesParts(name) => {
                let (factors, mut first) = (listed(name, source)?, 0);
                let parts = state_space_parts(source)?;
                for (rows, factor) in parts.into_iter().zip(factors) {
                    change.row_factors.push((first..first + rows, factor));
                    first += rows;
                }
            }
            WeightTransform::TransposedKeysOfHeads => {
                let heads = LatentHeads::read(source)?;
                change.slices = Some(heads.slice(0..heads.keys));
                change.transposed = Some(heads.keys);
            }
            WeightTransform::ValuesOfHeads => {
                let heads = LatentHeads::read(source)?;
                change.slices = Some(heads.slice(heads.keys..heads.keys + heads.values));
            }
            WeightTransform::TransposedFloats => {
                let floats = !tensor.dtype.is_quantized();
                if let (true, &[_, _, columns]) = (floats, tensor.shape.as_slice())
                    && !is_stored_as_weight(tensor, source)
                {
                    change.transposed = Some(columns);
                }
            }
            WeightTransform::PartOfThree(part) => {
                let rows = tensor.shape.first().copied().unwrap_or(0);
                let first = part.saturating_mul(rows);
                let range = first..first.saturating_add(rows);
                change.slices = Some(RowSlices {
                    period: rows.saturating_mul(3),
                    ranges: std::iter::once(range).collect(),
                });
            }
            WeightTransform::PartOfGroups(part) => {
                change.slices = Some(group_part(tensor, source, part));
            }
            WeightTransform::RowsOfTokens(tokens) => {
                let ids = tokenizer::ids(source.directory(), tokens)?;
                change.slices = Some(RowSlices {
                    period: source.model.dims.vocab,
                    ranges: ids.into_iter().map(|id| id..id + 1).collect(),
                });
            }
            WeightTransform::UnitRows { vocab } => {
                if u64::from(source.need(Key::Vocab)?) == vocab {
                    change.value = ValueChange::UnitRows;
                }
            }
            WeightTransform::Ternary => change.value = ValueChange::Ternary,
            WeightTransform::OneOfTwo(first) => {
                change.slices = None;
                change.turn = Some(Turn { first, every: 2 });
            }
            WeightTransform::HalfOfRows(first) => {
                if change.transposed.is_some() {
                    change.slices = None;
                    change.part = Some(Turn { first, every: 2 });
                }
            }
            WeightTransform::WithoutSkippedPositions => {
                let used = tensor.shape.first().copied().unwrap_or(0);
                let all = u64::from(source.need(Key::Context)?);
                let kept = all.saturating_sub(used)..all;
                change.slices = Some(RowSlices {
                    period: all,
                    ranges: vec![kept],
                });
            }
            WeightTransform::QueryKeyValueByHead => {
                change.rows = Some(query_key_value(tensor, source))
            }
            WeightTransform::ValueHeadsInTurn(of) => {
                let heads = DeltaNetHeads::read(source)?;
                match of {
                    ValueHeads::RowsBehindKeys => {
                        let keys = 2 * heads.keys * heads.key_dim;
                        change.rows = heads.in_turn(keys, heads.value_dim);
                    }
                    ValueHeads::Rows => change.rows = heads.in_turn(0, heads.value_dim),
                    ValueHeads::SingleRows => change.rows = heads.in_turn(0, 1),
                    ValueHeads::Columns => change.columns = heads.in_turn(0, heads.value_dim),
                }
            }
            WeightTransform::PartOfKeyHeads(part) => {
                change.slices = Some(DeltaNetHeads::read(source)?.part(part));
            }
        }
    }
    Ok(change)
}

/// The rows of a gate or up projection in a stored matrix that holds both, the gate first (`modify_tensors` of llama.cpp's
/// `conversion/qwen.py` and `granite.py`).
fn gate_or_up(tensor: &Tensor) -> Option<RowSlices> {
    let inner = match tensor.shape.as_slice() {
        &[_, inner, _] | &[inner, _] => inner,
        _ => 0,
    };
    let range = match tensor.role {
        R::FfnGateExperts | R::FfnGate | R::FfnGateShared => 0..inner,
        R::FfnUpExperts | R::FfnUp | R::FfnUpShared => inner..inner.saturating_mul(2),
        _ => return None,
    };
    Some(RowSlices {
        period: inner.saturating_mul(2),
        ranges: vec![range],
    })
}

/// Whether the name under which `tensor` is stored ends in `.weight`.
fn is_stored_as_weight(tensor: &Tensor, source: &SourceConfig<'_>) -> bool {
    let mut stored = source.model.stored.iter();
    let own = stored.find(|weight| weight.sources.first() == tensor.sources.first());
    own.is_some_and(|weight| weight.name.ends_with(".weight"))
}

/// The attention of the block that `tensor` stands in.
fn attention<'a>(tensor: &Tensor, source: &SourceConfig<'a>) -> Option<&'a Attention> {
    let layers = &source.model.layers;
    let layer = tensor.layer.and_then(|layer| layers.get(layer as usize));
    layer.and_then(|layer| layer.mixer.attention.as_ref())
}

/// The rows of a part in those of each head of keys and values.
fn group_part(tensor: &Tensor, source: &SourceConfig<'_>, part: GroupPart) -> RowSlices {
    let attention = attention(tensor, source);
    let head = attention.map_or(0, |a| a.key_dim);
    let shared = attention.and_then(|a| a.heads.checked_div(a.kv_heads));
    let queries = shared.unwrap_or(0).saturating_mul(head);
    let key = queries.saturating_add(head);
    let all = key.saturating_add(head);
    let range = match part {
        GroupPart::Queries => 0..queries,
        GroupPart::Key => queries..key,
        GroupPart::Value => key..all,
    };
    RowSlices {
        period: all,
        ranges: std::iter::once(range).collect(),
    }
}

/// The pairs of the elements that turn: one of `of` equal parts of each head, the first.
fn rotary_pairs(tensor: &Tensor, source: &SourceConfig<'_>, of: u64) -> Permutation {
    let head = attention(tensor, source).map_or(0, |a| a.key_dim);
    Permutation {
        start: 0,
        groups: 2,
        // A head with an odd number of elements has no halves: 0 members make `Permutation::divides` false, which is
        // reported as an error.
        members: if head.is_multiple_of(2 * of) {
            head / of / 2
        } else {
            0
        },
        unit: 1,
        rest: head - head / of,
    }
}

/// The same, from pairs to two halves.
fn rotary_halves(tensor: &Tensor, source: &SourceConfig<'_>, of: u64) -> Permutation {
    let pairs = rotary_pairs(tensor, source, of);
    Permutation {
        groups: pairs.members,
        members: pairs.groups,
        ..pairs
    }
}

/// From query, key and value of each head to all queries, all keys, all values.
fn query_key_value(tensor: &Tensor, source: &SourceConfig<'_>) -> Permutation {
    let attention = attention(tensor, source);
    Permutation {
        start: 0,
        groups: attention.map_or(0, |a| a.heads),
        members: 3,
        unit: attention.map_or(0, |a| a.key_dim),
        rest: 0,
    }
}

/// The numbers of the list `name` of `config.json`.
fn listed(name: &'static str, source: &SourceConfig<'_>) -> Result<Vec<f64>, ConvertError> {
    let list = source.get(name).ok_or_else(|| missing(&[name]))?;
    let items = list.as_array().ok_or_else(|| bad(name, list, "a list"))?;
    let number = |item: &Json| item.as_f64().ok_or_else(|| bad(name, item, "a number"));
    items.iter().map(number).collect()
}

/// The rows of gate, `x`, `B`, `C` and time steps in the input projection of a Mamba 2 mixer.
fn state_space_parts(source: &SourceConfig<'_>) -> Result<[u64; 5], ConvertError> {
    let inner = u64::from(source.need(Key::SsmInner)?);
    let shared = u64::from(source.need(Key::SsmGroups)?) * u64::from(source.need(Key::StateSize)?);
    let heads = u64::from(source.need(Key::SsmHeads)?);
    Ok([inner, inner, shared, shared, heads])
}

/// Heads of latent attention in the matrix of their keys and values.
struct LatentHeads {
    /// Rows of keys without positions.
    keys: u64,
    /// Rows of values.
    values: u64,
}

impl LatentHeads {
    fn read(source: &SourceConfig<'_>) -> Result<LatentHeads, ConvertError> {
        Ok(LatentHeads {
            keys: source.need(Key::NopeDim)?.into(),
            values: source.need(Key::MlaValueDim)?.into(),
        })
    }

    fn slice(&self, range: std::ops::Range<u64>) -> RowSlices {
        RowSlices {
            period: self.keys + self.values,
            ranges: vec![range],
        }
    }
}

/// Heads of a delta net.
struct DeltaNetHeads {
    /// Key heads, each with a group of value heads.
    keys: u64,
    /// Value heads for each key head.
    group: u64,
    key_dim: u64,
    value_dim: u64,
}

impl DeltaNetHeads {
    fn read(source: &SourceConfig<'_>) -> Result<DeltaNetHeads, ConvertError> {
        let keys = u64::from(source.need(Key::SsmGroups)?);
        let values = u64::from(source.need(Key::SsmHeads)?);
        let group = values
            .checked_div(keys)
            .filter(|group| group * keys == values);
        let uneven = || match source.stated(Key::SsmHeads) {
            Some((name, value)) => bad(name, value, "a multiple of the key heads"),
            None => missing(Key::SsmHeads.hugging_face()),
        };
        Ok(DeltaNetHeads {
            keys,
            group: group.ok_or_else(uneven)?,
            key_dim: source.need(Key::StateSize)?.into(),
            value_dim: source.need(Key::SsmHeadDim)?.into(),
        })
    }

    /// After the first `start` rows or columns, value heads of `unit` each, one of each group in turn.
    fn in_turn(&self, start: u64, unit: u64) -> Option<Permutation> {
        let permutation = Permutation {
            start,
            groups: self.keys,
            members: self.group,
            unit,
            rest: 0,
        };
        Some(permutation).filter(|_| self.group > 1)
    }

    /// The rows of a part in the projections of each key head.
    fn part(&self, part: KeyHeadPart) -> RowSlices {
        let (key, value) = (self.key_dim, self.group * self.value_dim);
        let values = 2 * key..2 * key + value;
        let gate = values.end..values.end + value;
        RowSlices {
            period: gate.end,
            ranges: match part {
                KeyHeadPart::QueryKeyValue => vec![0..key, key..2 * key, values],
                KeyHeadPart::Gate => vec![gate],
            },
        }
    }
}
