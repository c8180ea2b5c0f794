//! What one of several devices computes for the device before it: the copy of a scan's gate. Knows no graph.

use crate::model::{ModelSpec, Recurrent, RecurrentKind};

/// Columns that a convolution before a scan keeps from earlier tokens: every published Mamba and delta net has a kernel of
/// four.
pub(super) const SCAN_WINDOW: u64 = 3;

/// The gate of a scan, which llama.cpp copies out of the projection that holds it.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct Gate {
    /// Its elements for each token.
    width: u64,
    /// Those of the projection.
    row: u64,
}

impl Gate {
    /// That of a scan over what is projected; other mixers compute theirs from weights.
    fn of(recurrent: &Recurrent) -> Option<Gate> {
        let channels = recurrent.conv_elements / SCAN_WINDOW;
        let width = match recurrent.kind {
            RecurrentKind::Scan | RecurrentKind::ProjectedSpace => channels,
            RecurrentKind::StateSpace => recurrent.inner.saturating_sub(channels),
            _ => return None,
        };
        Some(Gate {
            width,
            row: recurrent.inner,
        })
    }

    /// The gate of layer `index` if the device of the next layer copies it: the states of a recurrent layer are read
    /// before the layer before it has ended, and what has no weights is computed where the last thing was.
    pub(in crate::plan) fn copied_behind(model: &ModelSpec, index: usize) -> Option<Gate> {
        let next = &model.layers.get(index + 1)?.mixer;
        let own = &model.layers.get(index)?.mixer;
        let reads_first = next.recurrent.is_some() && next.attention.is_none();
        Gate::of(own.recurrent.as_ref().filter(|_| reads_first)?)
    }

    /// Bytes of the copy for so many tokens.
    pub(in crate::plan) fn bytes(self, tokens: u64) -> u64 {
        tokens.saturating_mul(self.width).saturating_mul(4)
    }

    /// Bytes from the first to the last element of it in the projection.
    pub(in crate::plan) fn spread(self, tokens: u64) -> u64 {
        let rows = tokens.saturating_sub(1).saturating_mul(self.row);
        rows.saturating_add(self.width).saturating_mul(4)
    }
}
