//! The changes to weights, one function per kind of model: what the rules of an architecture name.
//! In: a tensor, hyperparameters. Out: a [`Change`]. Must not: read weights.

use super::ConvertError;
use super::hparams::{Hparams, bad};
use super::weights::{Change, Cuts, Deal, ValueChange};
use crate::model::{Tensor, TensorRole as R};

/// Nothing but what holds for all: gate and up projection of each expert may be stored as one
/// matrix, the gate first (`modify_tensors` of llama.cpp's `conversion/qwen.py`).
pub(super) fn plain(tensor: &Tensor, _: &Hparams<'_>) -> Result<Change, ConvertError> {
    let inner = match tensor.shape.as_slice() {
        &[_, inner, _] => inner,
        _ => 0,
    };
    let range = match tensor.role {
        R::FfnGateExperts => 0..inner,
        R::FfnUpExperts => inner..inner.saturating_mul(2),
        _ => return Ok(Change::default()),
    };
    let cuts = Cuts {
        period: inner.saturating_mul(2),
        ranges: vec![range],
    };
    Ok(Change {
        cuts: Some(cuts),
        ..Change::default()
    })
}

/// Llama's queries and keys: the rows of each head are dealt from two halves into pairs, as llama.cpp
/// turns neighbours where Transformers turns an element with the one half a head further
/// (`LlamaModel.permute` of `conversion/llama.py`).
pub(super) fn rotary_pairs(tensor: &Tensor, hparams: &Hparams<'_>) -> Result<Change, ConvertError> {
    let layers = &hparams.model.layers;
    let layer = tensor.layer.and_then(|layer| layers.get(layer as usize));
    let attention = layer.and_then(|layer| layer.mixer.attention.as_ref());
    let head = attention.map_or(0, |a| a.key_dim);
    let deal = Deal {
        start: 0,
        stacks: 2,
        // An odd head has no halves: such a deal divides no rows, and is refused with the sizes.
        cards: if head.is_multiple_of(2) { head / 2 } else { 0 },
        unit: 1,
    };
    Ok(match tensor.role {
        R::AttnQ | R::AttnK => Change {
            rows: Some(deal),
            ..Change::default()
        },
        _ => plain(tensor, hparams)?,
    })
}

/// Gemma's norms (`norm_shift` of `conversion/gemma.py`).
pub(super) fn shifted_norms(
    tensor: &Tensor,
    hparams: &Hparams<'_>,
) -> Result<Change, ConvertError> {
    let norm = tensor.role.info().stem.ends_with("norm");
    Ok(Change {
        value: if norm {
            ValueChange::AddOne
        } else {
            ValueChange::None
        },
        ..plain(tensor, hparams)?
    })
}

/// What the delta nets share: norms as one less, decays as logarithms (`Qwen3NextModel` of
/// `conversion/qwen.py`).
fn decays_and_norms(tensor: &Tensor, hparams: &Hparams<'_>) -> Result<Change, ConvertError> {
    let change = shifted_norms(tensor, hparams)?;
    let value = match tensor.role {
        R::SsmA => ValueChange::NegatedExp,
        R::SsmNorm => ValueChange::None,
        _ => change.value,
    };
    Ok(Change { value, ..change })
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
        const VALUES: &str = "linear_num_value_heads";
        let keys = u64::from(hparams.need(&["linear_num_key_heads"])?);
        let values = hparams.need(&[VALUES])?;
        let group = u64::from(values).checked_div(keys);
        let group = group.filter(|group| group * keys == u64::from(values));
        Ok(Heads {
            keys,
            group: group
                .ok_or_else(|| bad(VALUES, &values.into(), "a multiple of the key heads"))?,
            key_dim: hparams.need(&["linear_key_head_dim"])?.into(),
            value_dim: hparams.need(&["linear_value_head_dim"])?.into(),
        })
    }
}

/// Qwen3.5: Transformers keeps the heads of values that share a head of keys together, ggml repeats
/// the heads of keys as a whole (`_LinearAttentionVReorderBase` of `conversion/qwen.py`).
pub(super) fn tiled_values(tensor: &Tensor, hparams: &Hparams<'_>) -> Result<Change, ConvertError> {
    let change = decays_and_norms(tensor, hparams)?;
    let heads = Heads::read(hparams)?;
    let deal = |start, unit| {
        let deal = Deal {
            start,
            stacks: heads.keys,
            cards: heads.group,
            unit,
        };
        Some(deal).filter(|_| heads.group > 1)
    };
    Ok(match tensor.role {
        R::AttnQkv | R::SsmConv1d => Change {
            rows: deal(2 * heads.keys * heads.key_dim, heads.value_dim),
            ..change
        },
        R::AttnGate => Change {
            rows: deal(0, heads.value_dim),
            ..change
        },
        R::SsmAlpha | R::SsmBeta | R::SsmA | R::SsmDt => Change {
            rows: deal(0, 1),
            ..change
        },
        R::SsmOut => Change {
            columns: deal(0, heads.value_dim),
            ..change
        },
        _ => change,
    })
}

/// Qwen3-Next: one matrix holds query, key, value and gate of each head of keys.
pub(super) fn interleaved_heads(
    tensor: &Tensor,
    hparams: &Hparams<'_>,
) -> Result<Change, ConvertError> {
    let change = decays_and_norms(tensor, hparams)?;
    let heads = Heads::read(hparams)?;
    let (key, value) = (heads.key_dim, heads.group * heads.value_dim);
    let values = 2 * key..2 * key + value;
    let gate = values.end..values.end + value;
    let cuts = |ranges| {
        let period = gate.end;
        Some(Cuts { period, ranges })
    };
    Ok(match tensor.role {
        R::AttnQkv => Change {
            cuts: cuts(vec![0..key, key..2 * key, values]),
            ..change
        },
        R::AttnGate => Change {
            cuts: cuts(vec![gate.clone()]),
            ..change
        },
        _ => change,
    })
}
