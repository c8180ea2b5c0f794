//! Tensor groups and block rules that architectures share.

use crate::model::ModelError;
use crate::model::arch::{Arch, Row, RowSite};
use crate::model::conversion::{WeightRule, WeightTransform};
use crate::model::hparams::{HParams, Key};
use crate::model::loader::Loader;
use crate::model::quirks::Quirks;
use crate::model::role::TensorRole as R;
use crate::model::spec::{Attention, Cache, FeedForward, Layer, Mixer};

// --- entries --------------------------------------------------------------------------------------

/// What most entries have in common, to be completed with names, blocks and tensors.
pub(super) const USUAL: Arch = Arch {
    name: "",
    classes: &[],
    model_types: &[],
    forward: None,
    layers: uniform,
    tensors: &[],
    conversion: None,
    quirks: Quirks::NONE,
    loader: Loader::USUAL,
};

// --- shapes ---------------------------------------------------------------------------------------

fn attention<'a>(p: &RowSite<'a>) -> Option<&'a Attention> {
    p.layer.mixer.attention.as_ref()
}

pub(super) fn hidden(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.hidden]
}

pub(super) fn vocab_rows(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.vocab, p.dims.hidden]
}

pub(super) fn heads(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.heads)
}

pub(super) fn query_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.heads.saturating_mul(a.key_dim))
}

pub(super) fn key_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.kv_heads.saturating_mul(a.key_dim))
}

pub(super) fn value_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.kv_heads.saturating_mul(a.value_dim))
}

pub(super) fn key_head(p: &RowSite<'_>) -> Vec<u64> {
    vec![attention(p).map_or(0, |a| a.key_dim)]
}

/// Width of the dense feed-forward of this block, or of one expert.
pub(super) fn inner(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Dense { inner } | FeedForward::Experts { inner, .. } => inner,
        FeedForward::None => 0,
    }
}

pub(super) fn shared_inner(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Experts { shared_inner, .. } => shared_inner,
        _ => 0,
    }
}

pub(super) fn experts(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Experts { count, .. } => count,
        _ => 0,
    }
}

// --- conditions -----------------------------------------------------------------------------------

pub(super) fn untied(p: &RowSite<'_>) -> bool {
    !p.params.tied
}

pub(super) fn has_attention(p: &RowSite<'_>) -> bool {
    attention(p).is_some()
}

pub(super) fn has_attention_bias(p: &RowSite<'_>) -> bool {
    has_attention(p) && p.params.attention_bias
}

pub(super) fn is_dense(p: &RowSite<'_>) -> bool {
    matches!(p.layer.feed_forward, FeedForward::Dense { .. })
}

pub(super) fn has_mlp_bias(p: &RowSite<'_>) -> bool {
    p.params.mlp_bias
}

fn is_dense_with_bias(p: &RowSite<'_>) -> bool {
    is_dense(p) && p.params.mlp_bias
}

pub(super) fn has_experts(p: &RowSite<'_>) -> bool {
    experts(p) > 0
}

pub(super) fn has_shared_expert(p: &RowSite<'_>) -> bool {
    shared_inner(p) > 0
}

// --- groups of tensors ----------------------------------------------------------------------------

/// Embedding, final norm and head.
pub(super) const EMBEDDING_AND_HEAD: &[Row] = &[
    Row::weight(R::TokenEmbedding, &["embed_tokens.weight"], vocab_rows),
    Row::weight(R::OutputNorm, &["norm.weight"], hidden),
    Row::weight(R::Output, &["lm_head.weight"], vocab_rows).when(untied),
];

/// The two norms of a pre-norm block.
pub(super) const PRE_NORMS: &[Row] = &[
    Row::weight(R::AttnNorm, &["layers.{}.input_layernorm.weight"], hidden),
    Row::weight(
        R::FfnNorm,
        &["layers.{}.post_attention_layernorm.weight"],
        hidden,
    ),
];

/// Separate query, key, value and output projections.
pub(super) const ATTENTION: &[Row] = &[
    Row::weight(R::AttnQ, &["layers.{}.self_attn.q_proj.weight"], |p| {
        vec![query_width(p), p.dims.hidden]
    })
    .when(has_attention),
    Row::weight(R::AttnK, &["layers.{}.self_attn.k_proj.weight"], |p| {
        vec![key_width(p), p.dims.hidden]
    })
    .when(has_attention),
    Row::weight(R::AttnV, &["layers.{}.self_attn.v_proj.weight"], |p| {
        vec![value_width(p), p.dims.hidden]
    })
    .when(has_attention),
    Row::weight(
        R::AttnOutput,
        &[
            "layers.{}.self_attn.o_proj.weight",
            "layers.{}.self_attn.out_proj.weight",
        ],
        |p| vec![p.dims.hidden, query_width(p)],
    )
    .when(has_attention),
];

/// Biases on query, key and value.
pub(super) const QKV_BIAS: &[Row] = &[
    Row::bias(R::AttnQ, &["layers.{}.self_attn.q_proj.bias"], |p| {
        vec![query_width(p)]
    })
    .when(has_attention_bias),
    Row::bias(R::AttnK, &["layers.{}.self_attn.k_proj.bias"], |p| {
        vec![key_width(p)]
    })
    .when(has_attention_bias),
    Row::bias(R::AttnV, &["layers.{}.self_attn.v_proj.bias"], |p| {
        vec![value_width(p)]
    })
    .when(has_attention_bias),
];

/// Biases on query, key and value that are always there; the configuration has no key for them.
pub(super) const ALWAYS_QKV_BIAS: &[Row] = &[
    Row::bias(R::AttnQ, &["layers.{}.self_attn.q_proj.bias"], |p| {
        vec![query_width(p)]
    }),
    Row::bias(R::AttnK, &["layers.{}.self_attn.k_proj.bias"], |p| {
        vec![key_width(p)]
    }),
    Row::bias(R::AttnV, &["layers.{}.self_attn.v_proj.bias"], |p| {
        vec![value_width(p)]
    }),
];

/// A bias on the attention output.
pub(super) const OUTPUT_BIAS: &[Row] =
    &[
        Row::bias(R::AttnOutput, &["layers.{}.self_attn.o_proj.bias"], hidden)
            .when(has_attention_bias),
    ];

/// Norms on each query and key head.
pub(super) const QK_NORM: &[Row] = &[
    Row::weight(
        R::AttnQNorm,
        &["layers.{}.self_attn.q_norm.weight"],
        key_head,
    )
    .when(has_attention),
    Row::weight(
        R::AttnKNorm,
        &["layers.{}.self_attn.k_norm.weight"],
        key_head,
    )
    .when(has_attention),
];

/// A gated feed-forward.
pub(super) const GATED_FFN: &[Row] = &[
    Row::weight(R::FfnGate, &["layers.{}.mlp.gate_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    Row::weight(R::FfnUp, &["layers.{}.mlp.up_proj.weight"], |p| {
        vec![inner(p), p.dims.hidden]
    })
    .when(is_dense),
    Row::weight(R::FfnDown, &["layers.{}.mlp.down_proj.weight"], |p| {
        vec![p.dims.hidden, inner(p)]
    })
    .when(is_dense),
];

/// Biases of a gated feed-forward.
pub(super) const GATED_FFN_BIAS: &[Row] = &[
    Row::bias(R::FfnGate, &["layers.{}.mlp.gate_proj.bias"], |p| {
        vec![inner(p)]
    })
    .when(is_dense_with_bias),
    Row::bias(R::FfnUp, &["layers.{}.mlp.up_proj.bias"], |p| {
        vec![inner(p)]
    })
    .when(is_dense_with_bias),
    Row::bias(R::FfnDown, &["layers.{}.mlp.down_proj.bias"], hidden).when(is_dense_with_bias),
];

/// Routed experts, stacked in GGUF. Checkpoints hold one matrix each, or stacks with gate and up fused.
pub(super) const EXPERTS: &[Row] = &[
    Row::weight(R::FfnRouter, &["layers.{}.mlp.gate.weight"], |p| {
        vec![experts(p), p.dims.hidden]
    })
    .when(has_experts),
    Row::weight(
        R::FfnGateExperts,
        &[
            "layers.{}.mlp.experts.{}.gate_proj.weight",
            "layers.{}.mlp.switch_mlp.gate_proj.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(
        R::FfnUpExperts,
        &[
            "layers.{}.mlp.experts.{}.up_proj.weight",
            "layers.{}.mlp.switch_mlp.up_proj.weight",
            "layers.{}.mlp.experts.gate_up_proj",
        ],
        |p| vec![experts(p), inner(p), p.dims.hidden],
    )
    .when(has_experts),
    Row::weight(
        R::FfnDownExperts,
        &[
            "layers.{}.mlp.experts.{}.down_proj.weight",
            "layers.{}.mlp.switch_mlp.down_proj.weight",
            "layers.{}.mlp.experts.down_proj",
        ],
        |p| vec![experts(p), p.dims.hidden, inner(p)],
    )
    .when(has_experts),
];

/// The expert that every token uses, beside the routed ones.
pub(super) const SHARED_EXPERT: &[Row] = &[
    Row::weight(
        R::FfnGateShared,
        &[
            "layers.{}.mlp.shared_expert.gate_proj.weight",
            "layers.{}.mlp.shared_experts.gate_proj.weight",
        ],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    Row::weight(
        R::FfnUpShared,
        &[
            "layers.{}.mlp.shared_expert.up_proj.weight",
            "layers.{}.mlp.shared_experts.up_proj.weight",
        ],
        |p| vec![shared_inner(p), p.dims.hidden],
    )
    .when(has_shared_expert),
    Row::weight(
        R::FfnDownShared,
        &[
            "layers.{}.mlp.shared_expert.down_proj.weight",
            "layers.{}.mlp.shared_experts.down_proj.weight",
        ],
        |p| vec![p.dims.hidden, shared_inner(p)],
    )
    .when(has_shared_expert),
];

/// One frequency factor per rotary pair, which conversion computes from `rope_scaling`.
pub(super) const ROPE_FREQS: &[Row] =
    &[
        Row::weight(R::RopeFreqs, &[], |p| vec![p.params.rope_factors])
            .when(|p| p.params.rope_factors > 0),
    ];

// --- weights --------------------------------------------------------------------------------------

/// Queries and keys of llama.cpp's architectures that turn neighbours (`LlamaModel.permute` of
/// `conversion/llama.py`).
pub(super) const ROTARY_PAIRS: &[WeightRule] = &[WeightRule {
    roles: &[R::AttnQ, R::AttnK],
    transform: WeightTransform::RotaryPairs,
}];

/// Norms that multiply by one more than their weight (`norm_shift` of `conversion/gemma.py`).
pub(super) const SHIFTED_NORMS: WeightRule = WeightRule {
    roles: &[
        R::OutputNorm,
        R::AttnNorm,
        R::AttnPostNorm,
        R::AttnQNorm,
        R::AttnKNorm,
        R::FfnNorm,
        R::FfnPostNorm,
    ],
    transform: WeightTransform::AddOne,
};

// --- blocks ---------------------------------------------------------------------------------------

/// Blocks that all attend to the whole context.
pub(super) fn uniform(hparams: &HParams<'_>) -> Result<Vec<Layer>, ModelError> {
    blocks(hparams, |_| Ok(None))
}

/// Blocks with attention, windowed where `windows` gives a window for a block.
pub(super) fn blocks(
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
    // Some blocks of a hybrid have none; a model whose queries meet no keys is a damaged file.
    if kv_heads.iter().all(|&heads| heads == 0) {
        return Err(hparams.missing(Key::KvHeads));
    }
    if hparams.is_hugging_face() {
        heads_share(&heads, &kv_heads)?;
    }
    let key_dim = head_dim(hparams, first_heads)?;
    // In GGUF each of the two lengths has a default of its own.
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

/// Each head of keys serves as many heads of queries as the others.
fn heads_share(heads: &[u64], kv_heads: &[u64]) -> Result<(), ModelError> {
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

/// The number of blocks, multi-token-prediction blocks of a GGUF left out.
///
/// Errors if it is missing, zero or above 2048 (the deepest published models have some hundreds;
/// llama.cpp's own limit is 512).
pub(super) fn block_count(hparams: &HParams<'_>) -> Result<usize, ModelError> {
    let all = hparams.need(Key::Blocks)?;
    let nextn = if hparams.is_hugging_face() {
        0
    } else {
        hparams.or_zero(Key::NextnLayers)?
    };
    check_block_count(all.saturating_sub(nextn))
}

/// `count` if a model can have so many blocks; see [`block_count`].
pub(super) fn check_block_count(count: u64) -> Result<usize, ModelError> {
    match count {
        1..=2048 => Ok(count as usize),
        _ => Err(ModelError::BadValue {
            key: "num_hidden_layers".to_owned(),
        }),
    }
}

/// Elements of a head: stated, or the residual width shared among the heads.
pub(super) fn head_dim(hparams: &HParams<'_>, heads: u64) -> Result<u64, ModelError> {
    match hparams.get(Key::HeadDim)? {
        Some(dim) if dim > 0 => Ok(dim),
        _ => Ok(hparams.need(Key::Hidden)? / heads),
    }
}

/// The feed-forward of block `index`: experts where the model routes, else dense.
pub(super) fn feed_forward(
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
    let step = hparams
        .json("decoder_sparse_step")
        .and_then(|v| v.as_u64())
        .unwrap_or(1)
        .max(1);
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

/// Which blocks see a sliding window: `layer_types` or the per-block list of a GGUF where given,
/// else every block but each `period`-th.
///
/// A window of zero means that there is none. Source: llama.cpp `set_swa_pattern`; a pattern of
/// zero or one in a file overrides the default.
pub(super) fn sliding(
    hparams: &HParams<'_>,
    default_window: u64,
    default_period: u64,
) -> Result<impl Fn(usize) -> Result<Option<u64>, ModelError> + use<>, ModelError> {
    let window = hparams.get(Key::Window)?.unwrap_or(default_window);
    let types = hparams
        .words("layer_types")
        .map(|types| types.iter().map(|t| *t == "sliding_attention").collect());
    let stated = hparams.numbers(Key::WindowPattern)?;
    let (listed, period): (Option<Vec<bool>>, u64) = match (types, stated) {
        (Some(types), _) => (Some(types), 0),
        (None, Some(list)) if list.len() > 1 => (Some(list.iter().map(|&n| n != 0).collect()), 0),
        (None, Some(list)) => (None, list.first().copied().unwrap_or(default_period)),
        (None, None) => (None, default_period),
    };
    Ok(move |index: usize| {
        let windowed = match (&listed, period) {
            (Some(list), _) => list.get(index).copied().unwrap_or(false),
            (None, 0) => true,
            (None, period) => index as u64 % period < period - 1,
        };
        Ok((windowed && window > 0).then_some(window))
    })
}
