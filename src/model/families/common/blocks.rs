//! How the blocks of most architectures follow from their hyperparameters: attention, windows, feed-forward.

use crate::model::ModelError;
use crate::model::hparams::{HParams, Key};
use crate::model::spec::{Attention, Cache, FeedForward, Layer, Mixer};

/// Blocks that all have full attention.
pub(in super::super) fn uniform(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    blocks(hparams, |_| Ok(None))
}

/// Attention blocks, with a sliding window where `windows` returns one for the index of a block.
pub(in super::super) fn blocks(
    hparams: &HParams<'_>,
    windows: impl Fn(usize) -> Result<Option<u64>, ModelError>,
) -> Result<Vec<Layer>, ModelError> {
    let count = block_count(hparams)?;
    let heads = hparams
        .per_block(Key::Heads, count)?
        .ok_or(hparams.missing(Key::Heads))?;
    let kv_heads = hparams
        .per_block(Key::KvHeads, count)?
        .unwrap_or_else(|| heads.clone());
    let first_heads = heads
        .iter()
        .copied()
        .find(|&h| h > 0)
        .ok_or(hparams.missing(Key::Heads))?;
    // Some blocks of a hybrid have no key-value heads; a model without any is a damaged file.
    if kv_heads.iter().all(|&heads| heads == 0) {
        return Err(hparams.missing(Key::KvHeads));
    }
    if hparams.is_hugging_face() {
        check_grouping(&heads, &kv_heads)?;
    }
    let key_dim = head_dim(hparams, first_heads)?;
    // In GGUF the lengths of keys and values have separate defaults.
    let value_dim = if hparams.is_hugging_face() {
        key_dim
    } else {
        match hparams.get(Key::ValueDim)? {
            Some(dim) => dim,
            None => hparams.need(Key::Hidden)? / first_heads,
        }
    };
    let window_key_dim = hparams.get(Key::WindowHeadDim)?.unwrap_or(key_dim);
    let window_value_dim = match hparams.get(Key::WindowValueDim)? {
        Some(dim) => dim,
        None if hparams.is_hugging_face() => window_key_dim,
        None => value_dim,
    };
    (0..count)
        .map(|index| {
            let window = windows(index)?;
            let windowed = window.is_some();
            let attention = Attention {
                heads: heads[index],
                kv_heads: kv_heads[index],
                key_dim: if windowed { window_key_dim } else { key_dim },
                value_dim: if windowed {
                    window_value_dim
                } else {
                    value_dim
                },
                window,
                cache: Cache::Own,
            };
            Ok(Layer {
                mixer: Mixer {
                    attention: Some(attention),
                    recurrent: None,
                },
                feed_forward: feed_forward(hparams, index, count)?,
            })
        })
        .collect()
}

/// The same blocks where a token attends to all of its text, of which nothing is cached.
pub(in super::super) fn uncached(mut layers: Vec<Layer>) -> Vec<Layer> {
    for attention in layers.iter_mut().filter_map(|l| l.mixer.attention.as_mut()) {
        attention.cache = Cache::None;
    }
    layers
}

/// Checks that query heads are a multiple of key-value heads in every block.
fn check_grouping(heads: &[u64], kv_heads: &[u64]) -> Result<(), ModelError> {
    let uneven = |&(heads, kv): &(&u64, &u64)| *kv > 0 && !heads.is_multiple_of(*kv);
    match heads.iter().zip(kv_heads).find(uneven) {
        Some((heads, kv)) => Err(ModelError::Contradiction {
            what: format!(
                "`num_attention_heads` ({heads}) is no multiple of `num_key_value_heads` ({kv})"
            ),
        }),
        None => Ok(()),
    }
}

/// The number of blocks without those for multi-token prediction.
///
/// Errors if it is missing, zero or above 2048 (the deepest published models have some hundreds;
/// llama.cpp's own limit is 512).
pub(in super::super) fn block_count(hparams: &HParams<'_>) -> Result<usize, ModelError> {
    let all = hparams.need(Key::Blocks)?;
    let nextn = if hparams.is_hugging_face() {
        0
    } else {
        hparams.or_zero(Key::NextnLayers)?
    };
    check_block_count(all.saturating_sub(nextn))
}

/// `count`, if a model can have that many blocks; see [`block_count`].
pub(in super::super) fn check_block_count(count: u64) -> Result<usize, ModelError> {
    match count {
        1..=2048 => Ok(count as usize),
        _ => Err(ModelError::BadValue {
            key: "num_hidden_layers".to_owned(),
        }),
    }
}

/// Elements of a head: as stated, else hidden size / heads.
pub(in super::super) fn head_dim(hparams: &HParams<'_>, heads: u64) -> Result<u64, ModelError> {
    match hparams.get(Key::HeadDim)? {
        Some(dim) if dim > 0 => Ok(dim),
        _ => Ok(hparams.need(Key::Hidden)? / heads),
    }
}

/// The feed-forward of block `index`: routed experts or dense.
pub(in super::super) fn feed_forward(
    hparams: &HParams<'_>,
    index: usize,
    blocks: usize,
) -> Result<FeedForward, ModelError> {
    let count = hparams.or_zero(Key::Experts)?;
    let leading_dense = hparams.or_zero(Key::LeadingDense)?;
    let only_dense = hparams
        .json("mlp_only_layers")
        .and_then(|v| v.as_array())
        .is_some_and(|list| list.iter().any(|v| v.as_u64() == Some(index as u64)));
    let step = hparams.get(Key::RoutedInterval)?.unwrap_or(1).max(1);
    let routed = count > 1
        && index as u64 >= leading_dense
        && !only_dense
        && (index as u64 + 1).is_multiple_of(step);
    if routed {
        let dense_width = || hparams.get(Key::Ffn);
        let inner = match hparams.get(Key::ExpertFfn)? {
            Some(inner) => inner,
            None => dense_width()?.ok_or(hparams.missing(Key::ExpertFfn))?,
        };
        let shared_inner = match hparams.get(Key::SharedExpertFfn)? {
            Some(width) => width,
            None => hparams.or_zero(Key::SharedExperts)?.saturating_mul(inner),
        };
        let used = hparams
            .get(Key::ExpertsUsed)?
            .unwrap_or(count)
            .clamp(1, count);
        return Ok(FeedForward::Experts {
            count,
            used,
            inner,
            shared_inner,
        });
    }
    let widths = hparams
        .per_block(Key::Ffn, blocks)?
        .ok_or(hparams.missing(Key::Ffn))?;
    Ok(match widths[index] {
        0 => FeedForward::None,
        inner => FeedForward::Dense { inner },
    })
}

/// How blocks with a sliding window lie among the others.
enum Windowed {
    /// One by one; a block behind the list has none.
    Listed(Vec<bool>),
    /// Again and again.
    Cycle(Vec<bool>),
    /// All but the last of so many; 0 leaves none out.
    AllBut(u64),
}

impl Windowed {
    /// As stated: by `layer_types`, which decides whatever else is there, or by the pattern, which is a text of L (local)
    /// and G (global), a list of a GGUF for each block, or a period.
    fn stated(hparams: &HParams<'_>, default_period: u64) -> Result<Windowed, ModelError> {
        if let Some(types) = hparams.words("layer_types") {
            let windowed = types.iter().map(|t| *t == "sliding_attention");
            return Ok(Windowed::Listed(windowed.collect()));
        }
        let pattern = hparams.stated(Key::WindowPattern.hugging_face());
        if let Some((name, letters)) = pattern.and_then(|(name, v)| Some((name, v.as_str()?))) {
            let windowed = letters.chars().map(|letter| match letter {
                'L' => Some(true),
                'G' => Some(false),
                _ => None,
            });
            let windowed: Option<Vec<bool>> = windowed.collect();
            let windowed = windowed.filter(|cycle| !cycle.is_empty());
            return windowed
                .map(Windowed::Cycle)
                .ok_or_else(|| ModelError::BadValue {
                    key: name.to_owned(),
                });
        }
        let numbers = hparams.numbers(Key::WindowPattern)?.unwrap_or_default();
        Ok(match numbers.as_slice() {
            [] => Windowed::AllBut(default_period),
            [period] => Windowed::AllBut(*period),
            list => Windowed::Listed(list.iter().map(|&n| n != 0).collect()),
        })
    }

    /// Whether block `index` has a window.
    fn has(&self, index: usize) -> bool {
        match self {
            Windowed::Listed(blocks) => blocks.get(index).copied().unwrap_or(false),
            Windowed::Cycle(blocks) => blocks[index % blocks.len()],
            Windowed::AllBut(0) => true,
            Windowed::AllBut(period) => index as u64 % period < period - 1,
        }
    }
}

/// The sliding window of a block, as a function of its index: in the blocks that the configuration states, else in all
/// but each `default_period`-th.
///
/// A window of 0 means full attention. Source: `set_swa_pattern` of llama.cpp (a period of 0 or 1 in a file overrides the
/// default) and `conversion/exaone.py` for the text.
pub(in super::super) fn sliding(
    hparams: &HParams<'_>,
    default_window: u64,
    default_period: u64,
) -> Result<impl Fn(usize) -> Result<Option<u64>, ModelError> + use<>, ModelError> {
    let window = hparams.get(Key::Window)?.unwrap_or(default_window);
    let windowed = Windowed::stated(hparams, default_period)?;
    Ok(move |index: usize| Ok((windowed.has(index) && window > 0).then_some(window)))
}
