//! Shapes of an architecture's tensors and the conditions under which it has them, by the block that they stand in:
//! functions that the rows of the tables name.

use crate::model::arch::RowSite;
use crate::model::spec::{Attention, FeedForward};

// --- shapes ---------------------------------------------------------------------------------------

fn attention<'a>(p: &RowSite<'a>) -> Option<&'a Attention> {
    p.layer.mixer.attention.as_ref()
}

pub(in super::super) fn hidden(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.hidden]
}

pub(in super::super) fn vocab_rows(p: &RowSite<'_>) -> Vec<u64> {
    vec![p.dims.vocab, p.dims.hidden]
}

pub(in super::super) fn heads(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.heads)
}

pub(in super::super) fn query_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.heads.saturating_mul(a.key_dim))
}

pub(in super::super) fn key_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.kv_heads.saturating_mul(a.key_dim))
}

pub(in super::super) fn value_width(p: &RowSite<'_>) -> u64 {
    attention(p).map_or(0, |a| a.kv_heads.saturating_mul(a.value_dim))
}

pub(in super::super) fn key_head(p: &RowSite<'_>) -> Vec<u64> {
    vec![attention(p).map_or(0, |a| a.key_dim)]
}

/// Width of the dense feed-forward of this block, or of one expert.
pub(in super::super) fn inner(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Dense { inner } | FeedForward::Experts { inner, .. } => inner,
        FeedForward::None => 0,
    }
}

pub(in super::super) fn shared_inner(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Experts { shared_inner, .. } => shared_inner,
        _ => 0,
    }
}

pub(in super::super) fn experts(p: &RowSite<'_>) -> u64 {
    match p.layer.feed_forward {
        FeedForward::Experts { count, .. } => count,
        _ => 0,
    }
}

// --- conditions -----------------------------------------------------------------------------------

pub(in super::super) fn untied(p: &RowSite<'_>) -> bool {
    !p.params.tied
}

pub(in super::super) fn has_attention(p: &RowSite<'_>) -> bool {
    attention(p).is_some()
}

pub(in super::super) fn has_attention_bias(p: &RowSite<'_>) -> bool {
    has_attention(p) && p.params.attention_bias
}

pub(in super::super) fn is_dense(p: &RowSite<'_>) -> bool {
    matches!(p.layer.feed_forward, FeedForward::Dense { .. })
}

pub(in super::super) fn has_mlp_bias(p: &RowSite<'_>) -> bool {
    p.params.mlp_bias
}

pub(super) fn is_dense_with_bias(p: &RowSite<'_>) -> bool {
    is_dense(p) && p.params.mlp_bias
}

pub(in super::super) fn has_experts(p: &RowSite<'_>) -> bool {
    experts(p) > 0
}

pub(in super::super) fn has_shared_expert(p: &RowSite<'_>) -> bool {
    shared_inner(p) > 0
}
