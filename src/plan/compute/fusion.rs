//! Which projections a layer's weights do in one piece, read off the list of tensors. It changes
//! what is alive together, not what is computed. A model without a list has the usual pieces.

use crate::model::spec::{FeedForward, ModelSpec};

/// How one layer's projections are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fusion {
    /// Query, key and value come from one product.
    pub(super) qkv: bool,
    pub(super) up: Up,
}

/// How a feed-forward widens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Up {
    /// A gate and an up projection.
    #[default]
    GateAndUp,
    /// Both in one product of twice the width.
    Merged,
    /// No gate.
    Plain,
}

/// The fusion of every layer of `model`.
pub(super) fn fusions(model: &ModelSpec) -> Vec<Fusion> {
    let mut found = vec![(false, false, None); model.layers.len()];
    for tensor in &model.tensors {
        let Some(entry) = tensor.layer.and_then(|layer| found.get_mut(layer as usize)) else { continue };
        // `blk.0.ffn_up.weight` -> `ffn_up`
        match tensor.name.splitn(3, '.').nth(2).and_then(|rest| rest.strip_suffix(".weight")) {
            Some("attn_qkv") => entry.0 = true,
            Some("ffn_gate" | "ffn_gate_exps") => entry.1 = true,
            Some("ffn_up" | "ffn_up_exps" | "ffn_gate_up_exps") => {
                entry.2 = tensor.shape.iter().rev().nth(1).copied();
            }
            _ => {}
        }
    }
    let cut = |((qkv, gate, up), feed_forward): ((bool, bool, Option<u64>), &FeedForward)| {
        let inner = match *feed_forward {
            FeedForward::Dense { inner } | FeedForward::Experts { inner, .. } => inner,
            FeedForward::None => 0,
        };
        let up = match up {
            Some(rows) if !gate && rows == inner => Up::Plain,
            Some(_) if !gate => Up::Merged,
            _ => Up::GateAndUp,
        };
        Fusion { qkv, up }
    };
    found.into_iter().zip(model.layers.iter().map(|layer| &layer.feed_forward)).map(cut).collect()
}
