//! Which projections of a layer share one matrix, and where its norms are, by the list of tensors. That changes which
//! tensors are alive together. A model without a list of tensors is taken to have separate matrices and a norm before each.

use crate::model::{FeedForward, Layer, Mixer, ModelSpec, TensorRole as R};

/// How the projections of one layer are fused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fusion {
    /// Query, key and value come from one product.
    pub(super) qkv: bool,
    /// The query projection also gives a gate for the output of attention.
    pub(super) gated_query: bool,
    pub(super) up: UpProjection,
    /// The norms before mixer and feed-forward.
    pub(super) norms: BlockNorms,
    /// Heads of queries and keys are normed.
    pub(super) head_norms: bool,
}

/// The norms before a block's mixer and its feed-forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum BlockNorms {
    /// Each has its own.
    #[default]
    Own,
    /// Mixer and feed-forward are side by side behind one norm.
    One,
    /// Neither has one: norms are behind them.
    Behind,
}

/// The matrices by which a feed-forward goes to its inner width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UpProjection {
    /// A gate and an up projection, in two products.
    #[default]
    Gated,
    /// Both in one product of twice the width.
    Merged,
    /// No gate.
    Plain,
}

/// The projections of one layer in the list of tensors.
#[derive(Clone, Copy, Default)]
struct ListedProjections {
    qkv: bool,
    gate: bool,
    query: u64,
    up: Option<u64>,
    heads: bool,
    before: bool,
    behind: bool,
    between: bool,
}

/// The fusion of every layer of `model`.
pub(super) fn fusions(model: &ModelSpec) -> Vec<Fusion> {
    let mut found = vec![ListedProjections::default(); model.layers.len()];
    for tensor in model.tensors.iter().filter(|t| t.is_weight()) {
        let entry = tensor
            .layer
            .and_then(|layer| found.get_mut(usize::try_from(layer).ok()?));
        let Some(entry) = entry else {
            continue;
        };
        let rows = tensor.shape.iter().rev().nth(1).copied().unwrap_or(1);
        match tensor.role {
            R::AttnQkv => entry.qkv = true,
            R::AttnQNorm | R::AttnKNorm => entry.heads = true,
            R::AttnNorm => entry.before = true,
            R::AttnNorm2 | R::FfnNorm => entry.between = true,
            R::AttnPostNorm | R::FfnPostNorm => entry.behind = true,
            R::AttnQ => entry.query = rows,
            R::FfnGate | R::FfnGateExperts => entry.gate = true,
            R::FfnUp | R::FfnUpExperts | R::FfnGateUpExperts => entry.up = Some(rows),
            _ => {}
        }
    }
    found
        .iter()
        .zip(&model.layers)
        .map(|(rows, layer)| fusion(rows, layer))
        .collect()
}

fn fusion(rows: &ListedProjections, layer: &Layer) -> Fusion {
    let inner = match layer.feed_forward {
        FeedForward::Dense { inner } | FeedForward::Experts { inner, .. } => inner,
        FeedForward::None => 0,
    };
    let up = match rows.up {
        Some(up) if !rows.gate && up == inner => UpProjection::Plain,
        Some(_) if !rows.gate => UpProjection::Merged,
        _ => UpProjection::Gated,
    };
    let attention = layer.mixer.attention.as_ref();
    let gated_query = attention.is_some_and(|a| {
        let query = a.heads.saturating_mul(a.key_dim);
        a.value_dim > 0 && query > 0 && rows.query == query.saturating_mul(2)
    });
    let has_both = layer.mixer != Mixer::default() && layer.feed_forward != FeedForward::None;
    let norms = match (rows.before, rows.between, rows.behind) {
        (true, false, false) if has_both => BlockNorms::One,
        (false, false, true) => BlockNorms::Behind,
        _ => BlockNorms::Own,
    };
    Fusion {
        qkv: rows.qkv,
        gated_query,
        up,
        norms,
        head_norms: rows.heads,
    }
}
