//! What the rules of an architecture's entry do to a tensor's weights. In: rules, a tensor,
//! hyperparameters. Out: a [`Change`]. Must not: read weights.

use super::ConvertError;
use super::change::{Change, Cuts, Deal, ValueChange};
use super::hparams::{Hparams, bad, missing};
use crate::model::conversion::{KeyHeadPart, ValueHeads, WeightRule, WeightTransform};
use crate::model::{Key, Tensor, TensorRole as R};

/// The change that `rules` make of `tensor`.
pub(super) fn change(
    rules: &[WeightRule],
    tensor: &Tensor,
    hparams: &Hparams<'_>,
) -> Result<Change, ConvertError> {
    let mut change = Change {
        cuts: gate_or_up(tensor),
        ..Change::default()
    };
    let rules = rules.iter().filter(|r| r.roles.contains(&tensor.role));
    for rule in rules {
        match rule.transform {
            WeightTransform::AddOne => change.value = ValueChange::AddOne,
            WeightTransform::NegatedExp => change.value = ValueChange::NegatedExp,
            WeightTransform::RotaryPairs => change.rows = Some(rotary_pairs(tensor, hparams)),
            WeightTransform::ValueHeadsInTurn(of) => {
                let heads = Heads::read(hparams)?;
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
                change.cuts = Some(Heads::read(hparams)?.part(part));
            }
        }
    }
    Ok(change)
}

/// Gate and up projection of each expert may be stored as one matrix, the gate first
/// (`modify_tensors` of llama.cpp's `conversion/qwen.py`).
fn gate_or_up(tensor: &Tensor) -> Option<Cuts> {
    let inner = match tensor.shape.as_slice() {
        &[_, inner, _] => inner,
        _ => 0,
    };
    let range = match tensor.role {
        R::FfnGateExperts => 0..inner,
        R::FfnUpExperts => inner..inner.saturating_mul(2),
        _ => return None,
    };
    Some(Cuts {
        period: inner.saturating_mul(2),
        ranges: vec![range],
    })
}

fn rotary_pairs(tensor: &Tensor, hparams: &Hparams<'_>) -> Deal {
    let layers = &hparams.model.layers;
    let layer = tensor.layer.and_then(|layer| layers.get(layer as usize));
    let attention = layer.and_then(|layer| layer.mixer.attention.as_ref());
    let head = attention.map_or(0, |a| a.key_dim);
    Deal {
        start: 0,
        stacks: 2,
        // An odd head has no halves: such a deal divides no rows, and is refused with the sizes.
        cards: if head.is_multiple_of(2) { head / 2 } else { 0 },
        unit: 1,
    }
}

/// Heads of a delta net.
struct Heads {
    /// Of keys, each with a group of values.
    keys: u64,
    /// Heads of values to one of keys.
    group: u64,
    key_dim: u64,
    value_dim: u64,
}

impl Heads {
    fn read(hparams: &Hparams<'_>) -> Result<Heads, ConvertError> {
        let keys = u64::from(hparams.need(Key::SsmGroups)?);
        let values = u64::from(hparams.need(Key::SsmHeads)?);
        let group = values
            .checked_div(keys)
            .filter(|group| group * keys == values);
        let uneven = || match hparams.stated(Key::SsmHeads) {
            Some((name, value)) => bad(name, value, "a multiple of the key heads"),
            None => missing(Key::SsmHeads.hugging_face()),
        };
        Ok(Heads {
            keys,
            group: group.ok_or_else(uneven)?,
            key_dim: hparams.need(Key::StateSize)?.into(),
            value_dim: hparams.need(Key::SsmHeadDim)?.into(),
        })
    }

    /// From behind `start`, heads of values of `unit` places, one of each group in turn.
    fn in_turn(&self, start: u64, unit: u64) -> Option<Deal> {
        let deal = Deal {
            start,
            stacks: self.keys,
            cards: self.group,
            unit,
        };
        Some(deal).filter(|_| self.group > 1)
    }

    /// Where a part stands among the projections of each head of keys.
    fn part(&self, part: KeyHeadPart) -> Cuts {
        let (key, value) = (self.key_dim, self.group * self.value_dim);
        let values = 2 * key..2 * key + value;
        let gate = values.end..values.end + value;
        Cuts {
            period: gate.end,
            ranges: match part {
                KeyHeadPart::QueryKeyValue => vec![0..key, key..2 * key, values],
                KeyHeadPart::Gate => vec![gate],
            },
        }
    }
}
