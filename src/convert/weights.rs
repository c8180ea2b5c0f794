//! What conversion does to weights: the change of a tensor's values or of the order of its rows, and
//! the rotary tables that no checkpoint stores. In: a tensor, a configuration. Out: a [`Change`], or
//! a table. Must not: read weights.

use std::ops::Range;

use serde_json::Value as Json;

use super::ConvertError;
use super::hparams::{Hparams, bad, missing};
use super::keys::conversion;
use super::weight_transforms;
use crate::checkpoint::{Checkpoint, RawConfig};
use crate::model::{ModelSpec, Number, Tensor, TensorRole};

/// How a GGUF's tensor differs from the checkpoint's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What becomes of each value.
    pub value: ValueChange,
    /// In which order its rows are taken; as stored without.
    pub rows: Option<Deal>,
    /// In which order the values of a row are taken; as stored without.
    pub columns: Option<Deal>,
    /// Which rows are its own, where it shares a stored matrix with others.
    pub cuts: Option<Cuts>,
}

/// What becomes of each value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueChange {
    /// Nothing.
    #[default]
    None,
    /// One is added: the runtime multiplies by the weight where the model multiplies by one more.
    AddOne,
    /// `-exp(x)`: the model stores the logarithm of a decay.
    NegatedExp,
}

/// An order: behind the first `start` places, each run of `stacks * cards * unit` is stored as
/// `stacks` stacks of `cards` cards of `unit`, and written by taking one card from each stack in
/// turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deal {
    /// Places before the first stack, which stay.
    pub start: u64,
    /// Stacks in a run.
    pub stacks: u64,
    /// Cards in a stack.
    pub cards: u64,
    /// Neighbouring places that stay together.
    pub unit: u64,
}

/// The rows of one tensor in a stored matrix that it shares: in every `period` rows, these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// Rows after which the division repeats.
    pub period: u64,
    /// Its rows in the first period. Those of all periods come before those of the next range.
    pub ranges: Vec<Range<u64>>,
}

impl Deal {
    /// Where place `place` is stored.
    pub fn source(self, place: u64) -> u64 {
        let run = self.run();
        let Some(behind) = place.checked_sub(self.start).filter(|_| run > 0) else {
            return place;
        };
        let inside = behind % run;
        let (taken, within) = (inside / self.unit, inside % self.unit);
        let (card, stack) = (taken / self.stacks, taken % self.stacks);
        self.start + (behind - inside) + (stack * self.cards + card) * self.unit + within
    }

    /// Whether `places` places are whole runs.
    pub fn divides(self, places: u64) -> bool {
        let behind = places.checked_sub(self.start);
        self.run() > 0 && behind.is_some_and(|behind| behind.is_multiple_of(self.run()))
    }

    fn run(self) -> u64 {
        self.stacks
            .saturating_mul(self.cards)
            .saturating_mul(self.unit)
    }
}

/// What conversion does to `tensor` of `model`.
///
/// # Errors
/// [`ConvertError`]: an architecture without a conversion, or a hyperparameter that the change
/// follows from and that is missing or no number.
pub fn change(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    tensor: &Tensor,
) -> Result<Change, ConvertError> {
    let RawConfig::HuggingFace(_) = &checkpoint.config else {
        return Ok(Change::default());
    };
    let conversion = conversion(&model.architecture)?;
    let hparams = Hparams::new(model)?;
    weight_transforms::change(conversion.weights, tensor, &hparams)
}

/// The factors of a rotary table, one per pair of a head: for `rope_freqs` by how much Llama 3
/// stretches each frequency, for `rope_factors_*` the configuration's own lists.
///
/// # Errors
/// [`ConvertError::MissingKey`] or [`ConvertError::BadValue`] where the configuration does not say.
pub fn rope_table(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    role: TensorRole,
) -> Result<Vec<f32>, ConvertError> {
    let RawConfig::HuggingFace(_) = &checkpoint.config else {
        return Err(ConvertError::NotHuggingFace);
    };
    let hparams = Hparams::new(model)?;
    match role {
        TensorRole::RopeFactorsLong => listed(&hparams, "long_factor"),
        TensorRole::RopeFactorsShort => listed(&hparams, "short_factor"),
        _ => stretched(&hparams),
    }
}

fn listed(hparams: &Hparams<'_>, key: &'static str) -> Result<Vec<f32>, ConvertError> {
    let list = hparams.rope.list(key).ok_or_else(|| missing(&[key]))?;
    let number = |value: &Json| value.as_f64().ok_or_else(|| bad(key, value, "a number"));
    list.iter()
        .map(|value| number(value).map(|n| n as f32))
        .collect()
}

/// Long waves are stretched by the factor, short ones not at all, those between in part
/// (`_compute_llama3_parameters` of Transformers' `modeling_rope_utils.py`).
fn stretched(hparams: &Hparams<'_>) -> Result<Vec<f32>, ConvertError> {
    let of = |key: &'static str, or: f64| {
        let stated = hparams.rope.float(&[key])?;
        Ok::<f32, ConvertError>(stated.unwrap_or(or) as f32)
    };
    let base = hparams.rope.base.or(Number::RopeBase.default());
    let base = base.unwrap_or_default();
    let factor = of("factor", 8.0)?;
    let low = of("low_freq_factor", 1.0)?;
    let high = of("high_freq_factor", 4.0)?;
    let context = of("original_max_position_embeddings", 8192.0)?;
    let attention = || {
        let mut layers = hparams.model.layers.iter();
        layers.find_map(|layer| layer.mixer.attention.as_ref())
    };
    let dim = attention().map_or(0, |a| a.key_dim);
    let pair = |first: u64| {
        // The power in double precision: the nearest single one does not hang on the machine.
        let exponent = first as f32 / dim as f32;
        let frequency = 1.0 / base.powf(f64::from(exponent)) as f32;
        let wave = (2.0 * std::f64::consts::PI) as f32 / frequency;
        if wave < context / high {
            1.0
        } else if wave > context / low {
            factor
        } else {
            let smooth = (context / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    Ok((0..dim).step_by(2).map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(deal: Deal, places: u64) -> Vec<u64> {
        (0..places).map(|place| deal.source(place)).collect()
    }

    #[test]
    fn a_heads_halves_become_pairs() {
        let deal = Deal {
            start: 0,
            stacks: 2,
            cards: 3,
            unit: 1,
        };
        assert_eq!(order(deal, 12), [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn heads_of_each_group_are_dealt_round_the_groups() {
        // Two groups of three heads of two rows, behind one row that stays.
        let deal = Deal {
            start: 1,
            stacks: 2,
            cards: 3,
            unit: 2,
        };
        let expect = [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12];
        assert_eq!(order(deal, 13), expect);
        assert!(deal.divides(13) && !deal.divides(12));
    }
}
